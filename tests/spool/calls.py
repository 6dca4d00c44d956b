"""Calls and spans for the tests of the spool: as capture would hand them over."""

import time
from itertools import count
from typing import Any

from asgi_llmobs.providers import match
from asgi_llmobs.records import Exchange, Outcome, Span

URL = "https://api.openai.com/v1/chat/completions"
TOKEN = "tok-4f9a8b7c6d5e4f3a2b1c"
_ids = count(1)


def call(request: bytes = b'{"model":"gpt-4o"}', **given: Any) -> Exchange:
    """A call that has begun."""
    clock, now = time.monotonic_ns(), time.time_ns()
    found = match("POST", "api.openai.com", None, "/v1/chat/completions")
    id = f"{next(_ids):016x}"
    values: dict[str, Any] = {
        "id": id,
        "trace_id": id * 2,
        "parent_id": None,
        "match": found,
        "method": "POST",
        "url": URL,
        "start_ns": now,
        "clock_ns": clock,
        "first_start_ns": now,
        "first_clock_ns": clock,
        "request_headers": [(b"authorization", b"Bearer " + TOKEN.encode()), (b"content-type", b"application/json")],
        "request_chunks": [request] if request else [],
        "request_size": len(request),
        **given,
    }
    return Exchange(**values)


def stream(exchange: Exchange, *chunks: bytes) -> Exchange:
    """Pieces of its answer come in."""
    if exchange.status is None:
        exchange.status, exchange.headers_clock_ns = 200, time.monotonic_ns()
        exchange.response_headers = [(b"content-type", b"application/json"), (b"set-cookie", b"secret=1")]
    for chunk in chunks:
        exchange.chunks += 1
        exchange.response_size += len(chunk)
        exchange.response_chunks.append(chunk)
        exchange.chunk_clocks.append(time.monotonic_ns())
    return exchange


def finish(exchange: Exchange, *chunks: bytes) -> Exchange:
    """It is answered."""
    stream(exchange, *chunks)
    exchange.end_clock_ns, exchange.eof, exchange.outcome = time.monotonic_ns(), True, Outcome.OK
    return exchange


def span(**given: Any) -> Span:
    """A finished span of its own trace."""
    id = f"{next(_ids):016x}"
    return Span(**{"id": id, "trace_id": id * 2, "start_ns": 1, "duration_ns": 2, "name": "work", **given})
