"""Bodies are cut into events by what they are, wherever they are cut off."""

import pytest

from asgi_llmobs.providers.framing import (
    MAX_DEPTH,
    framing_of,
    heartbeats,
    json_array_items,
    json_lines,
    parse_json,
    sse_events,
)


@pytest.mark.parametrize(
    "body, content_type, framing",
    [
        (b'{"a":1}', "application/json", "json"),
        (b'{"error":{}}', "text/event-stream", "json"),
        (b'{"error":{}}', "application/octet-stream", "json"),
        (b'[{"a":1}]', "application/json", "json"),
        (b'{"a":1', "application/json", "json"),
        (b'{\n  "a": 1\n}', "application/json", "json"),
        (b'data: {"a":1}\n\n', "text/event-stream", "sse"),
        (b'\xef\xbb\xbfdata: {"a":1}\n\n', "application/json", "sse"),
        (b": ping\n\ndata: 1\n\n", "", "sse"),
        (b"event: x\r\ndata: 1\r\n\r\n", "text/plain", "sse"),
        (b"", "text/event-stream", "sse"),
        (b'{"a":1}\n{"a":2}\n', "application/json", "ndjson"),
        (b'{"a":1}\n', "application/x-ndjson", "ndjson"),
        (b"\x00\x00\x00", "application/vnd.amazon.eventstream", "aws-eventstream"),
        (b"\xff\xf3", "audio/mpeg", "binary"),
        (b"a\x00b", "", "binary"),
        (b"<html>", "text/html", "other"),
        (b"12", "application/json", "json"),
        (b"", "application/json", "empty"),
        (b"  \n", "application/json", "other"),
    ],
)
def test_framing(body: bytes, content_type: str, framing: str) -> None:
    """The bytes decide; the content type only where they do not."""
    assert framing_of(body, content_type) == framing


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_sse_line_ends(end: bytes) -> None:
    """Every line end, comments, several data lines, no space after the colon, no blank line at the end."""
    lines = [b": ping", b"", b"event:a", b"data: 1", b"data:2", b"", b"id: 3", b"data: last"]
    body = end.join(lines)

    assert [(event.type, event.data) for event in sse_events(body)] == [("a", b"1\n2"), ("", b"last")]
    assert [event.end for event in sse_events(body)][-1] == len(body)


def test_lines_and_array_items() -> None:
    """Objects of JSON lines and of an array that is still growing, with where they end."""
    lines = list(json_lines(b'{"a":1}\n\n{"a":2}'))
    items = list(json_array_items(b'[{"a":"]}"},\n{"a":[2]},{"a"'))

    assert [(event.data, event.end) for event in lines] == [(b'{"a":1}', 8), (b'{"a":2}', 16)]
    assert [event.data for event in items] == [b'{"a":"]}"}', b'{"a":[2]}']


@pytest.mark.parametrize(
    "text, value",
    [
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        ('{"a":"\\ud800"}', {"a": "\ud800"}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b'{"a":1', None),
        (b"", None),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), None),
        (b'"' + b"[" * 1000 + b'"', "[" * 1000),
        (b'["' + b'\\"[' * 1000 + b'"]', ['"[' * 1000]),
        (b'{"a":' + b"9" * 10_000 + b"}", None),
    ],
)
def test_json(text: bytes | str, value: object) -> None:
    """What can be read is read; what cannot, or is too deep, is None."""
    assert parse_json(text) == value


def test_json_of_hostile_strings() -> None:
    """An open string full of escapes and brackets is scanned once: with a second look at each it would take minutes."""
    assert parse_json(b'{"a":"' + b'\\"[' * 500_000) is None


@pytest.mark.parametrize(
    "body, size",
    [
        (b': ping\n\n: ping\n\n{"a":1}', 16),
        (b": ping\r\n\r\n[1]", 10),
        (b': ping\n\ndata: {"a":1}\n\n', 0),
        (b'{"a":1}', 0),
        (b": ping", 0),
        (b": " + b"\n" * 100_000, 0),
    ],
)
def test_heartbeats(body: bytes, size: int) -> None:
    """Comments before a JSON body are no part of it; before events they are."""
    assert heartbeats(body) == size
