"""Bodies as they are stored: slimmed, summed up, bounded."""

import json

import pytest

from asgi_llmobs import bodies


def test_images_are_replaced_by_size_and_hash():
    """A long run of base64 goes, everything else stays, and it is still JSON."""
    image = "QUJD" * 50_000
    content = json.dumps({"url": f"data:image/png;base64,{image}==", "text": "a" * 100}).encode()
    slim, slimmed = bodies.slim(content)

    assert slimmed and len(slim) < 400
    assert json.loads(slim)["text"] == "a" * 100 and "base64 of 200002 characters" in json.loads(slim)["url"]


def test_small_bodies_are_not_looked_at():
    """Up to 64 KB nothing is replaced."""
    content = b'"' + b"A" * 60_000 + b'"'

    assert bodies.slim(content) == (content, False)


def test_vectors_are_replaced():
    """Numbers and base64, however they are laid out; what is short stays."""
    content = json.dumps(
        {
            "data": [{"embedding": [0.1, -2e-05] * 10, "index": 0}, {"embedding": "AAAA" * 40}],
            "usage": {"prompt_tokens": 5},
            "few": [1, 2, 3],
        },
        indent=2,
    ).encode()
    slim, slimmed = bodies.without_vectors(content)
    said = json.loads(slim)

    assert slimmed
    assert [item["embedding"] for item in said["data"]] == ["[20 numbers]", "[base64 vector]"]
    assert (said["usage"], said["few"]) == ({"prompt_tokens": 5}, [1, 2, 3])


def test_vectors_never_backtrack():
    """A list that is almost one of numbers is passed over in linear time."""
    content = b"[" + b"1," * 500_000 + b'"x"]'

    assert bodies.without_vectors(content) == (content, False)


@pytest.mark.parametrize(
    ("media_type", "content", "text"),
    [
        ("application/json; charset=utf-8", b'{"a": "\0"}', True),
        ("text/event-stream", b"data: \0\n\n", True),
        ("application/problem+json", b"\0", True),
        ("", b"plain", True),
        ("", b"\0\1\2", False),
        ("Audio/MPEG", b"abc", False),
        ("image/png", b"abc", False),
        ("application/octet-stream", b"abc", False),
    ],
)
def test_what_is_text(media_type, content, text):
    """The type decides; only without one the bytes do."""
    assert bodies.is_text(media_type, content) is text


def test_head_and_tail():
    """Of what is too long, three quarters of the head and one of the tail."""
    body = bodies.keep(
        b"h" * 900 + b"t" * 900, limit=400, media_type=None, size=1800, sha256="x", truncated=False, slimmed=False
    )

    assert (body.content, body.truncated, body.size) == (b"h" * 300 + b"t" * 100, True, 1800)


def event(text: str, **more: object) -> bytes:
    return b"data: " + json.dumps({"id": "chatcmpl-1", "choices": [{"delta": {"content": text}}], **more}).encode()


def test_what_lines_repeat_is_left_out():
    """Of events that differ in one string that string is left, in its quotation marks; what they share stands once."""
    lines = [event(f" word{number}") for number in range(50)]
    odd = event("other", usage={"total": 5})
    found = bodies.distinct(b"\n\n".join([*lines, odd, *lines]))

    assert len(found) < 3_000
    assert b'" word49"' in found and b'"usage": {"total": 5}' in found
    assert b'"other"' in found and b'{"content": "' in found and b"chatcmpl-1" in found


@pytest.mark.parametrize(
    ("name", "ending"),
    [(b"", b"\n"), (b"", b"\r\n"), (b"", b"\n\n"), (b"event: delta\n", b"\n\n"), (b"event: delta\r\n", b"\r\n\r\n")],
)
def test_whatever_ends_an_event(name, ending):
    """Names of events and any line ending are left out alike; what only the repeated part says is found."""
    events = [name + event(f" word{number}", api_key="k") for number in range(50)]
    found = bodies.distinct(event("first") + ending + ending.join(events) + ending)

    assert len(found) < 2_000 and b'"api_key"' in found
    assert all(b'" word%d"' % number in found for number in range(50))


@pytest.mark.parametrize("place", [0, 1, 2, 30, 59])
@pytest.mark.parametrize("piece", ["sk-canary", '"', "\\", "", "x" * 5_000])
def test_no_string_of_a_line_is_cut(piece, place):
    """Whatever differs between lines is found whole."""
    texts = [f" {number % 3}" for number in range(60)]
    texts[place] = f"sk-{piece}"
    found = bodies.distinct(b"\n\n".join(event(text) for text in texts))

    assert json.dumps(texts[place]).encode() in found


def test_few_lines_stay():
    """A body that is no stream is looked at as it is."""
    content = b"a\n" * 5

    assert bodies.distinct(content) is content


def test_pieces_of_a_stream():
    """Pieces that are events give their strings; what stands across pieces that are none is found in whole."""
    lines = [event(f" word{number}") + b"\n\n" for number in range(50)]
    cut = event("sk-canary") + b"\n\n"
    found = bodies.without_repeats([*lines[:20], cut[:70], cut[70:], *lines[20:]])

    assert len(found) < 3_000
    assert b'" word49"' in found and b'"sk-canary"' in found


@pytest.mark.parametrize("size", [1, 7, 64, 1_000])
def test_pieces_that_are_no_events(size):
    """A stream that came in pieces of any size holds what it held."""
    whole = b"".join(event(f" word{number}") + b"\n\n" for number in range(30))
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]

    assert all(b'" word%d"' % number in bodies.without_repeats(pieces) for number in range(30))
