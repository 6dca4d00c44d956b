"""The bodies of an exchange as parsed JSON: the request, a whole answer, the objects of a streamed one."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import orjson

from asgi_llmobs.providers.base import Wire
from asgi_llmobs.providers.framing import (
    MAX_DEPTH,
    Event,
    aws_events,
    json_array_items,
    json_lines,
    parse_json,
    sse_events,
)
from asgi_llmobs.providers.values import named, obj, warn
from asgi_llmobs.records import Reading

__all__ = ["Chunk", "answer_of", "chunks", "is_stream", "request_of"]

STREAMS = {
    "sse": sse_events,
    "ndjson": json_lines,
    "json-array-stream": json_array_items,
    "aws-eventstream": aws_events,
}


def request_of(wire: Wire, reading: Reading) -> dict[str, Any]:
    """The request's JSON object; notes its model and whether it asks for a stream."""
    value = parse_json(wire.request_body)
    body = obj(value)
    if wire.request_body and not isinstance(value, dict):
        warn(reading, "the request body is no JSON object")
    reading.request_model = named(body.get("model"))
    reading.stream_requested = body.get("stream") is True
    return body


def answer_of(wire: Wire, reading: Reading) -> dict[str, Any]:
    """The JSON object of a whole answer, an empty one where it is none."""
    value = parse_json(wire.response_body)
    reading.ended = value is not None
    return obj(value)


def is_stream(reading: Reading) -> bool:
    """Whether the answer is cut into events."""
    return reading.framing in STREAMS


class Chunk(NamedTuple):
    """One object of a stream: the event's name (``""`` where it has none), the object, the offset just after it."""

    type: str
    data: dict[str, Any]
    end: int


def chunks(wire: Wire, reading: Reading) -> Iterator[Chunk]:
    """The objects of a streamed answer in the framing that the reading names; ``[DONE]`` ends it."""
    known = at_once(wire.response_body) if reading.framing == "sse" else None
    if known is not None:
        yield from known
        return
    for event in STREAMS[reading.framing](wire.response_body):
        if event.data.strip() == b"[DONE]":
            yield Chunk("[DONE]", {}, event.end)
            return
        data = parse_json(event.data)
        if isinstance(data, dict):
            yield Chunk(event.type, data, event.end)
        elif event.data.strip():
            broken(event, wire, reading)


def at_once(body: bytes) -> list[Chunk] | None:
    """All chunks of a stream of the plainest form, parsed in one go; ``None`` where it is of any other.

    That form is ``data: {…}`` and a blank line, again and again, and at the end perhaps ``data: [DONE]``.
    """
    events = body.removesuffix(b"\n\n").split(b"\n\n")
    plain = events[:-1] if events[-1] == b"data: [DONE]" else events
    if body.count(b"\n") != 2 * len(events) or b"\r" in body or not body.endswith(b"\n\n"):
        return None
    for event in plain:
        if event[:7] != b"data: {" or event[-1:] != b"}" or event.count(b"{") + event.count(b"[") > MAX_DEPTH:
            return None
    try:
        values = orjson.loads(b"[" + b",".join([event[6:] for event in plain]) + b"]")
    except ValueError:
        return None
    if len(values) != len(plain):
        return None
    ends = accumulate(len(event) + 2 for event in events)
    found = [Chunk("", value, end) for value, end in zip(values, ends, strict=False)]
    if len(plain) < len(events):
        found.append(Chunk("[DONE]", {}, len(body)))
    return found


def broken(event: Event, wire: Wire, reading: Reading) -> None:
    """Note an event that is no JSON object; the last one of a body that broke off is no surprise."""
    if wire.complete or event.end < len(wire.response_body):
        warn(reading, "an event of the stream is no JSON object")
