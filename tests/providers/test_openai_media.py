"""Embeddings, images, speech, transcription, translation and moderations."""

import base64
from collections.abc import Callable

from asgi_llmobs.records import Reading, Usage

Ask = Callable[..., Reading]
Sse = Callable[..., bytes]

API = "https://api.openai.com/v1"
PNG = base64.b64encode(b"\x89PNG not really").decode()
FORM = "multipart/form-data; boundary=XX"


def form(**fields: str) -> bytes:
    """A form with a file and *fields*."""
    begin = "--XX\r\nContent-Disposition: form-data; name="
    parts = [f'{begin}"{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()]
    head = '--XX\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    return "".join(parts).encode() + head.encode() + b"RIFF\r\n\x00\xff\r\n--XX--\r\n"


def test_embeddings(ask: Ask) -> None:
    """How many texts, how many numbers; never the numbers."""
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    floats = ask(
        API + "/embeddings",
        {"model": "m", "input": ["a", "b"], "dimensions": 3},
        {"model": "m-1", "data": [{"embedding": [0.125, 0.5, 0.25]}] * 2, "usage": usage},
    )
    packed = ask(
        API + "/embeddings",
        {"model": "m", "input": [1, 2, 3], "encoding_format": "base64"},
        {"data": [{"embedding": base64.b64encode(bytes(4 * 1536)).decode()}], "usage": usage},
    )

    assert floats.details == {"input_count": 2, "vectors": 2, "dimensions": 3}
    assert floats.usage == Usage(input_tokens=8, input_raw=8, total_reported=8)
    assert floats.parameters == {"dimensions": 3}
    assert "0.125" not in repr(floats)
    total = ask("https://api.voyageai.com/v1/embeddings", {"input": "a"}, {"data": [], "usage": {"total_tokens": 4}})
    assert total.usage == Usage(input_tokens=4, total_reported=4)
    assert (packed.details["dimensions"], packed.details["input_count"]) == (1536, 1)
    assert packed.input == []


def test_images(ask: Ask, sse: Sse) -> None:
    """Images are kept by address, or by size and hash; tokens by kind."""
    usage = {
        "input_tokens": 50,
        "output_tokens": 1056,
        "total_tokens": 1106,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    }
    address = ask(
        API + "/images/generations",
        {"prompt": "a cat", "size": "256x256"},
        {"data": [{"url": "https://x.example/i.png", "revised_prompt": "a white cat"}]},
    )
    data = ask(
        API + "/images/generations",
        {"prompt": "a cat", "output_format": "webp"},
        {"data": [{"b64_json": PNG}], "usage": usage},
    )
    stream = ask(
        API + "/images/generations",
        {"stream": True},
        sse(
            {"type": "image_generation.partial_image", "b64_json": PNG, "partial_image_index": 0},
            {"type": "image_generation.completed", "b64_json": PNG, "usage": usage},
        ),
    )

    assert address.output[0].parts[0].uri == "https://x.example/i.png"
    assert address.details == {"images": 1, "revised_prompts": ["a white cat"]}
    assert address.parameters == {"size": "256x256"}
    part = data.output[0].parts[0]
    assert (part.type, part.mime_type, part.size) == ("blob", "image/webp", 15)
    assert PNG not in repr(data)
    for reading in (data, stream):
        assert reading.usage is not None
        assert (reading.usage.input_tokens, reading.usage.image_input, reading.usage.image_output) == (50, 40, 1056)
    assert (stream.ended, stream.details["images"]) == (True, 1)


def test_image_edit_upload(ask: Ask) -> None:
    """Of an upload name, type and size are kept."""
    reading = ask(
        API + "/images/edits",
        form(model="gpt-image-1", prompt="a hat", n="2"),
        {"data": []},
        request_headers={"content-type": FORM},
    )

    assert (reading.request_model, reading.parameters) == ("gpt-image-1", {"n": "2"})
    prompt, upload = reading.input
    assert prompt.parts[0].content == "a hat"
    file = upload.parts[0]
    assert (file.type, file.name, file.mime_type, file.modality) == ("blob", "a.wav", "audio/wav", "audio")
    assert file.size == 8


def test_speech(ask: Ask, sse: Sse) -> None:
    """Speech is kept by size and hash, whole or as events."""
    sound = b"\xff\xf3\xc4 sound"
    whole = ask(
        API + "/audio/speech",
        {"model": "tts-1", "input": "Hello", "voice": "alloy"},
        sound,
        headers={"content-type": "audio/mpeg"},
    )
    stream = ask(
        API + "/audio/speech",
        {"input": "Hello"},
        sse(
            {"type": "speech.audio.delta", "audio": "AAAA"},
            {"type": "speech.audio.done", "usage": {"input_tokens": 3, "output_tokens": 9, "total_tokens": 12}},
        ),
    )
    failed = ask(API + "/audio/speech", {}, {"error": {"message": "no voice", "type": "t", "code": None}}, status=400)

    assert (whole.framing, whole.details) == ("binary", {"characters": 5, "media_size": 9, "media_type": "audio/mpeg"})
    assert (whole.input[0].parts[0].content, whole.parameters) == ("Hello", {"voice": "alloy"})
    assert whole.output[0].parts[0].sha256
    assert stream.usage is not None
    assert (stream.usage.output_tokens, stream.ended) == (9, True)
    assert (failed.error, failed.output) == ({"type": "t", "code": None, "message": "no voice"}, [])


def test_transcription(ask: Ask, sse: Sse) -> None:
    """Transcripts as JSON, text, subtitles and events; usage as tokens or as seconds."""
    url, headers = API + "/audio/transcriptions", {"content-type": FORM}
    usage = {
        "type": "tokens",
        "input_tokens": 14,
        "output_tokens": 4,
        "total_tokens": 18,
        "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
    }
    tokens = ask(url, form(model="gpt-4o-transcribe"), {"text": "hi", "usage": usage}, request_headers=headers)
    seconds = ask(
        url,
        form(model="whisper-1"),
        {"text": "hi", "usage": {"type": "duration", "seconds": 9}},
        request_headers=headers,
    )
    verbose = ask(
        url, form(), {"text": "hi", "language": "english", "duration": 8.5, "segments": []}, request_headers=headers
    )
    plain = ask(url, form(response_format="text"), "hi\n", request_headers=headers)
    first = {"type": "transcript.text.delta", "delta": "h"}
    stream = ask(
        url,
        form(stream="true"),
        sse(
            first,
            {"type": "transcript.text.delta", "delta": "i"},
            {"type": "transcript.text.done", "text": "hi", "usage": {"type": "tokens", "output_tokens": 4}},
        ),
        request_headers=headers,
    )

    assert [reading.text.strip() for reading in (tokens, seconds, verbose, plain, stream)] == ["hi"] * 5
    assert tokens.usage is not None
    assert (tokens.usage.input_tokens, tokens.usage.audio_input, tokens.request_model) == (14, 10, "gpt-4o-transcribe")
    assert seconds.usage == Usage(seconds=9.0)
    assert verbose.usage == Usage(seconds=8.5)
    assert verbose.details == {"language": "english", "duration": 8.5}
    assert (stream.stream_requested, stream.ended, stream.content_offset) == (True, True, len(sse(first)))


def test_translation(ask: Ask) -> None:
    """Translation is transcription under a name of its own."""
    reading = ask(API + "/audio/translations", form(), {"text": "hi"}, request_headers={"content-type": FORM})

    assert (reading.api, reading.operation, reading.text) == ("openai.translation", "translation", "hi")


def test_moderations(ask: Ask) -> None:
    """Which categories were flagged, over all inputs."""
    results = [{"flagged": False, "categories": {"hate": False}}, {"flagged": True, "categories": {"violence": True}}]
    reading = ask(
        API + "/moderations", {"model": "m", "input": ["a", "b"]}, {"id": "modr-1", "model": "m-1", "results": results}
    )

    assert reading.details == {"input_count": 2, "flagged": True, "categories": ["violence"]}
    assert (reading.response_id, reading.usage) == ("modr-1", None)
