"""The bodies of an exchange as parsed JSON: the request, a whole answer, the objects of a streamed one."""

from collections.abc import Iterator
from typing import Any

from asgi_llmobs.providers.base import Wire
from asgi_llmobs.providers.framing import (
    Event,
    aws_events,
    json_array_items,
    json_lines,
    parse_json,
    sse_events,
)
from asgi_llmobs.providers.runs import Chunk, Pieces, chunks_at_once
from asgi_llmobs.providers.values import named, obj, warn
from asgi_llmobs.records import Reading

__all__ = ["BARE", "Chunk", "Pieces", "answer_of", "chunks", "is_stream", "request_of"]

BARE = ("audio/", "image/", "video/", "application/octet-stream")  # a file that is the whole request
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
    bare = wire.request_headers.get("content-type", "").startswith(BARE)
    if wire.request_body and not isinstance(value, dict) and not bare:
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


def chunks(wire: Wire, reading: Reading, pieces: Pieces | None = None) -> Iterator[Chunk]:
    """The objects of a streamed answer in the framing that the reading names; ``[DONE]`` ends it.

    Args:
        wire: The exchange.
        reading: Names the framing, and is told what could not be read.
        pieces: What strings may be put together where events differ in nothing else.
    """
    known = chunks_at_once(wire.response_body, pieces) if reading.framing == "sse" else None
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
        elif event.type == "error" and event.data.strip():  # of a proxy, in plain words
            yield Chunk(event.type, {"error": event.data.decode("utf-8", "replace")}, event.end)
        elif event.data.strip():
            broken(event, wire, reading)


def broken(event: Event, wire: Wire, reading: Reading) -> None:
    """Note an event that is no JSON object; the last one of a body that broke off is no surprise."""
    if wire.complete or event.end < len(wire.response_body):
        warn(reading, "an event of the stream is no JSON object")
