"""OpenAI's other APIs: embeddings, images, speech, transcription, translation, moderations.

Reference: https://platform.openai.com/docs/api-reference. Vectors, images and sound never enter a reading; their
number, size and hash do.
"""

import hashlib
from dataclasses import replace
from typing import Any

from asgi_llmobs.providers.base import Dialect, Wire
from asgi_llmobs.providers.bodies import BARE, answer_of, chunks, is_stream, request_of
from asgi_llmobs.providers.failures import error_of
from asgi_llmobs.providers.framing import parse_json
from asgi_llmobs.providers.multipart import form_of
from asgi_llmobs.providers.openai_messages import input_part, input_parts, path_model
from asgi_llmobs.providers.openai_usage import openai_usage
from asgi_llmobs.providers.values import array, blob, link, modality_of, named, number, obj, rest, string
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["EMBEDDINGS", "IMAGES", "MODERATIONS", "SPEECH", "TRANSCRIPTION", "TRANSLATION", "VIDEOS"]

NOT_PARAMETERS = frozenset(
    "model model_id input inputs text prompt user stream messages image images mask file".split()
)
SOUNDS = ("audio", "audio_data", "audio_base64")  # of OpenAI, Mistral, ElevenLabs


def request_fields(wire: Wire, reading: Reading) -> dict[str, Any]:
    """The request's fields, of a JSON or a form body; files of a form are noted as input."""
    kind = wire.request_headers.get("content-type", "")
    form = form_of(wire.request_body, kind)
    if form is None and kind.startswith(BARE):
        body = {}
        part = Part(type="blob", mime_type=kind, modality=modality_of(kind), size=len(wire.request_body))
        reading.input.append(Message(role="user", parts=(part,)))
    elif form is None:
        body = request_of(wire, reading)
    else:
        body = dict(form.fields)
        reading.request_model = named(body.get("model"))
        reading.stream_requested = string(body.get("stream")).strip().lower() == "true"
        if form.files:
            reading.input.append(Message(role="user", parts=tuple(form.files)))
    reading.request_model = reading.request_model or named(body.get("model_id")) or path_model(wire.path)
    reading.user = named(body.get("user"))
    reading.parameters = rest(body, NOT_PARAMETERS)
    return body


def take_common(answer: dict[str, Any], reading: Reading) -> None:
    """Id, model and usage, where the answer has them."""
    reading.response_id = named(answer.get("id")) or reading.response_id
    reading.response_model = named(answer.get("model")) or reading.response_model
    usage = obj(answer.get("usage"))
    if usage:
        reading.usage = openai_usage(usage, reading)


def text_input(value: Any, reading: Reading) -> int:
    """Note texts given as one string or a list as input; how many there are."""
    if value is None:
        return 0
    items = value if isinstance(value, list) else [value]
    if items and all(isinstance(item, int) for item in items):  # one text as token ids
        reading.details["input_token_ids"] = len(items)
        return 1
    parts = tuple(part for item in items if isinstance(item, str | dict) for part in input_part(item))
    if parts:
        reading.input.append(Message(role="user", parts=parts))
    return len(items)


def dimensions_of(vector: Any) -> int | None:
    """The length of a vector given as numbers, or as base64 of 32-bit floats."""
    if isinstance(vector, str):
        return (len(vector) * 3 // 4 - vector[-2:].count("=")) // 4 or None
    if isinstance(vector, dict):
        vector = next((item for item in vector.values() if isinstance(item, list)), [])
    vector = array(vector)
    if vector and isinstance(vector[0], list):
        vector = vector[0]
    return len(vector) or None


def read_embeddings(wire: Wire, reading: Reading) -> None:
    """Embeddings: what was embedded, how many vectors came back and how long they are."""
    body = request_fields(wire, reading)
    reading.details["input_count"] = text_input(body.get("input", body.get("inputs", body.get("text"))), reading)
    answer = answer_of(wire, reading)
    answer = obj(answer.get("result")) or answer
    take_common(answer, reading)
    usage = reading.usage
    if usage is not None and usage.input_tokens is None and usage.total_reported is not None:
        reading.usage = replace(usage, input_tokens=usage.total_reported)  # Voyage, Jina: there is no output to count
    vectors = array(answer.get("data")) or array(parse_json(wire.response_body))  # Hugging Face's have no envelope
    if vectors:
        first = vectors[0]
        reading.details["vectors"] = len(vectors)
        reading.details["dimensions"] = dimensions_of(first.get("embedding") if isinstance(first, dict) else first)
        reading.content_offset = len(wire.response_body)


def image_parts(item: dict[str, Any], mime_type: str) -> list[Part]:
    """One generated image: its address, or its size and hash."""
    if named(item.get("b64_json")):
        return [blob(item["b64_json"], mime_type, "image")]
    return [link(item["url"], "image")] if named(item.get("url")) else []


def read_images(wire: Wire, reading: Reading) -> None:
    """Images: generations, edits and variations, whole or with partial images as a stream."""
    body = request_fields(wire, reading)
    prompt = named(body.get("prompt"))
    if prompt:
        reading.input.insert(0, Message(role="user", parts=(Part(type="text", content=prompt),)))
    given = array(body.get("images")) or ([body["image"]] if isinstance(body.get("image"), dict | str) else [])
    if form_of(wire.request_body, wire.request_headers.get("content-type", "")) is None and given:
        reading.input.append(Message(role="user", parts=tuple(input_parts(given_images(given)))))
    mime_type = f"image/{named(body.get('output_format')) or 'png'}"
    parts: list[Part] = []
    if is_stream(reading):
        read_image_stream(wire, reading, parts, mime_type)
    else:
        answer = answer_of(wire, reading)
        answer = obj(answer.get("result")) or answer
        take_common(answer, reading)
        items = [obj(item) for item in array(answer.get("data"))] or [{"b64_json": answer.get("image")}]
        parts = [part for item in items for part in image_parts(item, mime_type)]
        revised = [item["revised_prompt"] for item in items if named(item.get("revised_prompt"))]
        if revised:
            reading.details["revised_prompts"] = revised
        if parts:
            reading.content_offset = len(wire.response_body)
    usage = reading.usage
    if usage is not None and usage.image_output is None:
        reading.usage = replace(usage, image_output=usage.output_tokens)  # the reference: output tokens are the image's
    if parts:
        reading.details["images"] = len(parts)
        reading.output.append(Message(role="assistant", parts=tuple(parts)))


def given_images(given: list[Any]) -> list[dict[str, Any]]:
    """Images of a JSON edit request as content parts."""
    return [item if isinstance(item, dict) else {"type": "image_url", "image_url": item} for item in given]


def read_image_stream(wire: Wire, reading: Reading, parts: list[Part], mime_type: str) -> None:
    reading.ended = False
    for chunk in chunks(wire, reading):
        kind = string(chunk.data.get("type"))
        take_failure(chunk.type, chunk.data, reading)
        if named(chunk.data.get("b64_json")) and reading.content_offset is None:
            reading.content_offset = chunk.end
        if kind.endswith(".completed"):
            take_common(chunk.data, reading)
            parts.extend(image_parts(chunk.data, mime_type))
            reading.ended = True
        reading.ended = reading.ended or chunk.type == "[DONE]"


def take_failure(kind: str, data: dict[str, Any], reading: Reading) -> None:
    """Note an error event of a stream."""
    if kind == "error" or data.get("error") or data.get("type") == "error":
        reading.error = error_of(data if data.get("error") else {**data, "type": None})
        reading.ended = True


def read_speech(wire: Wire, reading: Reading) -> None:
    """Speech: text in, sound out, as plain bytes or as events."""
    body = request_fields(wire, reading)
    spoken = body.get("input", body.get("text"))  # the latter is ElevenLabs'
    text_input(spoken, reading)
    reading.details["characters"] = len(string(spoken))
    if is_stream(reading):
        reading.ended = False
        for chunk in chunks(wire, reading):
            take_failure(chunk.type, chunk.data, reading)
            if any(named(chunk.data.get(name)) for name in SOUNDS) and reading.content_offset is None:
                reading.content_offset = chunk.end
            if chunk.data.get("type") == "speech.audio.done" or chunk.type == "[DONE]":
                take_common(chunk.data, reading)
                reading.ended = True
        return
    size = len(wire.response_body)
    if reading.framing == "json" and reading.error is None:
        sound = next((sound for sound in map(answer_of(wire, reading).get, SOUNDS) if named(sound)), None)
        if sound is not None:
            reading.content_offset = size
            reading.output.append(Message(role="assistant", parts=(blob(sound, None, "audio"),)))
    if reading.error is None and size and reading.framing in ("binary", "other"):
        kind = wire.response_headers.get("content-type", "").partition(";")[0] or None
        reading.details.update(media_size=size, media_type=kind)
        reading.content_offset = size
        digest = hashlib.sha256(wire.response_body).hexdigest()
        modality = "audio" if modality_of(kind) in (None, "file") else modality_of(kind)
        part = Part(type="blob", mime_type=kind, modality=modality, size=size, sha256=digest)
        reading.output.append(Message(role="assistant", parts=(part,)))


def read_transcription(wire: Wire, reading: Reading) -> None:
    """Transcription and translation: sound in, text out, as JSON, plain text, subtitles or events."""
    body = request_fields(wire, reading)
    prompt = named(body.get("prompt"))
    if prompt:
        reading.input.insert(0, Message(role="user", parts=(Part(type="text", content=prompt),)))
    if is_stream(reading):
        reading.text = transcript_of(wire, reading)
    elif reading.framing == "other" and wire.status is not None and wire.status < 300:
        reading.text = wire.response_body.decode("utf-8", "replace")
    else:
        answer = answer_of(wire, reading)
        answer = obj(answer.get("result")) or answer
        take_common(answer, reading)
        reading.text = string(answer.get("text"))
        take_duration(answer, reading)
    if reading.text:
        if reading.content_offset is None:
            reading.content_offset = len(wire.response_body)
        reading.output.append(Message(role="assistant", parts=(Part(type="text", content=reading.text),)))


def take_duration(answer: dict[str, Any], reading: Reading) -> None:
    """Language and length of the sound; the length is what some models are billed by."""
    if named(answer.get("language")):
        reading.details["language"] = answer["language"]
    seconds = number(answer.get("duration"), reading, "duration")
    if seconds is not None:
        reading.details["duration"] = seconds
        if reading.usage is None:
            reading.usage = Usage(seconds=seconds)


def transcript_of(wire: Wire, reading: Reading) -> str:
    """The text of a stream of ``transcript.text`` events."""
    pieces: list[str] = []
    whole = ""
    reading.ended = False
    for chunk in chunks(wire, reading):
        kind = string(chunk.data.get("type"))
        take_failure(chunk.type, chunk.data, reading)
        piece = named(chunk.data.get("delta")) or named(chunk.data.get("text"))  # the latter is Mistral's
        if kind.endswith(".delta") and piece:
            pieces.append(piece)
            reading.content_offset = reading.content_offset or chunk.end
        if kind in ("transcript.text.done", "transcription.done"):
            whole = string(chunk.data.get("text"))
            take_common(chunk.data, reading)
            reading.ended = True
        reading.ended = reading.ended or chunk.type == "[DONE]"
    return whole or "".join(pieces)


def read_moderations(wire: Wire, reading: Reading) -> None:
    """Moderations: what was judged, and which categories were flagged."""
    body = request_fields(wire, reading)
    reading.details["input_count"] = text_input(body.get("input"), reading)
    answer = answer_of(wire, reading)
    take_common(answer, reading)
    results = [obj(item) for item in array(answer.get("results"))]
    if results:
        categories = {name for item in results for name, hit in obj(item.get("categories")).items() if hit is True}
        reading.details["flagged"] = any(item.get("flagged") is True for item in results) or bool(categories)
        reading.details["categories"] = sorted(categories)
        reading.content_offset = len(wire.response_body)


def read_videos(wire: Wire, reading: Reading) -> None:
    """Videos: the order of one; what becomes of it is asked for later, and that is no call of its own."""
    body = request_fields(wire, reading)
    if named(body.get("prompt")):
        reading.input.insert(0, Message(role="user", parts=(Part(type="text", content=body["prompt"]),)))
    answer = answer_of(wire, reading)
    if reading.error is None:
        take_common(answer, reading)
        reading.details.update(rest(answer, (*NOT_PARAMETERS, "id", "object", "created_at", "usage")))


EMBEDDINGS = Dialect("openai.embeddings", "embeddings", read_embeddings)
IMAGES = Dialect("openai.images", "image", read_images)
SPEECH = Dialect("openai.speech", "speech", read_speech)
TRANSCRIPTION = Dialect("openai.transcription", "transcription", read_transcription)
TRANSLATION = Dialect("openai.translation", "translation", read_transcription)
MODERATIONS = Dialect("openai.moderations", "moderation", read_moderations)
VIDEOS = Dialect("openai.videos", "video", read_videos)
