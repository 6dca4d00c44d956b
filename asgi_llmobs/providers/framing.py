"""How a body is cut into events: server-sent events, JSON lines, a JSON array, Amazon's binary event stream.

Every reader takes the decoded bytes of a body that may be cut anywhere, gives what is whole, and never raises. Each
:class:`Event` says where in the body it ends, so that the moment it arrived can be looked up.
"""

import json
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from asgi_llmobs.patterns import compiled

__all__ = [
    "Event",
    "aws_events",
    "framing_of",
    "heartbeats",
    "json_array_items",
    "json_lines",
    "parse_json",
    "sse_events",
]

MAX_DEPTH = 256
BOM = b"\xef\xbb\xbf"
STRINGS = rb'(?s)"(?:[^"\\]++|\\.)*+"?'
HEARTBEATS = rb"(?:(?::[^\r\n]*+)?[\r\n]+)++"
NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
SSE_STARTS = (b"data:", b"event:", b":", b"id:", b"retry:")
BINARY_TYPES = ("audio/", "image/", "video/", "application/zip", "application/pdf")


class Event(NamedTuple):
    """One event of a stream: its type (``""`` where none is named), its payload, and the offset just after it."""

    type: str
    data: bytes
    end: int


def framing_of(body: bytes, content_type: str) -> str:
    """How *body* is framed, by what it is; its content type decides only where the bytes do not.

    One of ``json``, ``sse``, ``ndjson``, ``aws-eventstream``, ``binary``, ``empty``, ``other``.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not body:
        return "sse" if kind == "text/event-stream" else "empty"
    if kind == "application/vnd.amazon.eventstream":
        return "aws-eventstream"
    if kind.startswith(BINARY_TYPES):
        return "binary"
    if kind == "application/json" and body[:2] == b'{"' and b"\n" not in body:
        return "json"  # as nearly all are, without a further look
    start = body[:4096].removeprefix(BOM).lstrip()
    if not start:
        return "sse" if kind == "text/event-stream" else "other"
    if start.startswith(SSE_STARTS):
        return "sse"
    if start[:1] in (b"{", b"["):
        return "ndjson" if start[:1] == b"{" and is_lines(body, kind) else "json"
    if kind == "text/event-stream":
        return "sse"
    if kind == "application/octet-stream" or b"\0" in body[:4096]:
        return "binary"
    return "json" if parse_json(body) is not None else "other"


def heartbeats(body: bytes) -> int:
    """How many bytes of blank and comment lines a server sent to keep the connection open before a JSON body."""
    if not body.startswith(b":"):
        return 0
    end = compiled(HEARTBEATS).match(body)
    return end.end() if end and body[end.end() : end.end() + 1] in (b"{", b"[") else 0


def is_lines(body: bytes, kind: str) -> bool:
    """Whether a body that starts with an object is one object a line."""
    if "ndjson" in kind or "jsonl" in kind or "json-seq" in kind:
        return True
    line, _, rest = body.strip().partition(b"\n")
    return rest.lstrip()[:1] == b"{" and line.rstrip().endswith(b"}") and parse_json(line) is not None


def too_deep(data: bytes, limit: int = MAX_DEPTH) -> bool:
    """Whether JSON text nests deeper than *limit* (brackets inside strings are not counted)."""
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    depth = 0
    for char in compiled(STRINGS).sub(b"", data).translate(None, NOT_BRACKETS):
        depth += 1 if char in b"[{" else -1
        if depth > limit:
            return True
    return False


def parse_json(data: bytes | str) -> Any:
    """The JSON value of *data*, ``None`` where it is none: garbage, too deep, numbers of thousands of digits."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    raw = raw.removeprefix(BOM)
    if not raw or too_deep(raw):
        return None
    try:
        return orjson.loads(raw)
    except ValueError:
        pass  # NaN, lone surrogates and bytes that are no UTF-8 are worth a second look
    try:
        return json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def sse_events(body: bytes) -> Iterator[Event]:
    """Server-sent events after the WHATWG rules: CR, LF or CRLF, comments, BOM, several ``data`` lines.

    An event that the end of the body cuts off before its blank line is given too: many servers leave it out.
    """
    position = len(BOM) if body.startswith(BOM) else 0
    size = len(body)
    event_type = ""
    data: list[bytes] = []
    carriage = b"\r" in body
    while position < size:
        end = body.find(b"\n", position)
        if end < 0:
            end = size
        after = min(end + 1, size)
        if carriage:
            ret = body.find(b"\r", position, end)
            if ret >= 0:
                end = ret
                after = ret + 2 if body[ret + 1 : ret + 2] == b"\n" else ret + 1
        line = body[position:end]
        position = after
        if not line:
            if data:
                yield Event(event_type, b"\n".join(data), after)
            event_type, data = "", []
            continue
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event_type = value.decode("utf-8", "replace")
        elif name == b"error" and not data:  # no field of the standard, but llama.cpp's way to say that it failed
            event_type, data = "error", [b'{"error":%s}' % value if value.startswith(b"{") else value]
    if data:
        yield Event(event_type, b"\n".join(data), size)


def json_lines(body: bytes) -> Iterator[Event]:
    """JSON lines; blank ones are passed over, the last needs no line end."""
    position = len(BOM) if body.startswith(BOM) else 0
    size = len(body)
    while position < size:
        end = body.find(b"\n", position)
        after = size if end < 0 else end + 1
        line = body[position:after].strip()
        position = after
        if line:
            yield Event("", line, after)


def json_array_items(body: bytes) -> Iterator[Event]:
    """The items of a JSON array that may still be growing (Gemini's stream without ``alt=sse``)."""
    position = body.find(b"[") + 1
    if not position:
        return
    depth = 0
    start = -1
    in_string = skip = False
    for index in range(position, len(body)):
        char = body[index]
        if skip:
            skip = False
        elif in_string:
            if char == 92:
                skip = True
            elif char == 34:
                in_string = False
        elif char == 34:
            in_string = True
        elif char in b"{[":
            if depth == 0:
                start = index
            depth += 1
        elif char in b"}]":
            depth -= 1
            if depth == 0 and start >= 0:
                yield Event("", body[start : index + 1], index + 1)
                start = -1
            elif depth < 0:
                return


def aws_headers(data: bytes) -> dict[str, str]:
    """The string headers of one event-stream message."""
    out: dict[str, str] = {}
    sizes = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
    position = 0
    while position < len(data):
        length = data[position]
        name = data[position + 1 : position + 1 + length].decode("utf-8", "replace")
        position += 1 + length
        if position >= len(data):
            break
        kind = data[position]
        position += 1
        if kind in (6, 7):
            if position + 2 > len(data):
                break
            (size,) = struct.unpack_from(">H", data, position)
            value = data[position + 2 : position + 2 + size]
            position += 2 + size
            if kind == 7:
                out[name] = value.decode("utf-8", "replace")
        elif kind in sizes:
            position += sizes[kind]
        else:
            break
    return out


def aws_events(body: bytes) -> Iterator[Event]:
    """Messages of ``application/vnd.amazon.eventstream``; the type is ``:event-type`` or ``:exception-type``.

    Format: https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html (prelude of total length, headers
    length and CRC; headers; payload; CRC). The checksums are not checked: what can be read is shown.
    """
    position = 0
    while position + 16 <= len(body):
        total, headers_size = struct.unpack_from(">II", body, position)
        if total < 16 or headers_size > total - 16 or position + total > len(body):
            return
        headers = aws_headers(body[position + 12 : position + 12 + headers_size])
        payload = body[position + 12 + headers_size : position + total - 4]
        position += total
        yield Event(headers.get(":event-type") or headers.get(":exception-type") or "", payload, position)
