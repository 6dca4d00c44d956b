"""Records of a spool file back into calls and spans."""

import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any
from urllib.parse import urlsplit

import orjson

from asgi_llmobs.providers import ANY_HOST, GENERIC, PROVIDERS, Match, match
from asgi_llmobs.records import Annotations, Exchange, Outcome, Span
from asgi_llmobs.spool.frames import Kind
from asgi_llmobs.spool.serial import (
    CLOCKS,
    COUNTS,
    GOT,
    GOT_HEADERS,
    LENGTHS,
    META,
    PLAIN,
    SAID,
    SENT,
    SENT_HEADERS,
    SPAN,
)

__all__ = ["Resolve", "exchange_of", "resolver", "root_of", "span_of"]

Resolve = Callable[[str, str, str, str, str], Match]


def loaded(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def span_of(payload: bytes, origin: Mapping[str, Any] | None) -> Span:
    """The span of a record; *origin* says which process it is from, where that is not this one."""
    values = loaded(payload)
    if len(values) != len(SPAN):
        raise ValueError("a span of another version")
    return Span(**{**dict(zip(SPAN, values, strict=True)), **(origin or {})})


def root_of(payload: bytes, origin: Mapping[str, Any] | None) -> Span:
    """The span of a record whose process died before the span was complete."""
    values = dict(zip(SPAN, loaded(payload), strict=True))
    return Span(**{**values, **(origin or {}), "outcome": Outcome.INTERRUPTED})


def sections_of(payload: bytes) -> list[bytes]:
    lengths = COUNTS.unpack_from(payload)
    ends = list(accumulate(lengths, initial=COUNTS.size))
    if ends[-1] != len(payload):
        raise ValueError("sections and length differ")
    return [payload[ends[index] : ends[index + 1]] for index in range(len(lengths))]


def headers_of(block: bytes) -> list[tuple[bytes, bytes]]:
    if not block:
        return []
    texts = block.split(b"\n")
    return list(zip(texts[::2], texts[1::2], strict=False))


def add_answer(exchange: Exchange, sections: Sequence[bytes]) -> None:
    lengths, times = array("I", sections[LENGTHS]), array("q", sections[CLOCKS])
    ends = list(accumulate(lengths, initial=0))
    body = sections[GOT]
    exchange.response_chunks += [body[ends[index] : ends[index + 1]] for index in range(len(lengths))]
    exchange.chunk_clocks += [exchange.clock_ns + time for time in times]


def made(sections: Sequence[bytes], resolve: Resolve) -> tuple[Exchange, int]:
    values, said, (provider, api, operation), url, outcome, message, index = loaded(sections[META])
    plain = dict(zip(PLAIN, values, strict=False))  # an earlier version knew fewer, in the same order
    exchange = Exchange(
        **plain,
        url=url,
        match=resolve(provider, api, operation, plain["method"], url),
        annotations=Annotations(**dict(zip(SAID, said, strict=True))),
        outcome=outcome,
        error_message=message,
        request_headers=headers_of(sections[SENT_HEADERS]),
        request_chunks=[sections[SENT]] if sections[SENT] else [],
        response_headers=headers_of(sections[GOT_HEADERS]),
    )
    return exchange, index


def exchange_of(
    records: Sequence[tuple[int, bytes]], resolve: Resolve, origin: Mapping[str, Any] | None = None
) -> Exchange:
    """A call from its records, in their order; without the one of its end it comes back as interrupted.

    Args:
        records: Kind and payload of each.
        resolve: Finds the match of provider, api, operation, method and address.
        origin: Which process it is from, where that is not this one.

    Raises:
        ValueError: They are not what :func:`start`, :func:`part` and :func:`end` write.
    """
    first: Exchange | None = None
    finish: list[bytes] = []
    parts: dict[int, list[bytes]] = {}
    for kind, payload in records:
        sections = sections_of(payload)
        if kind == Kind.START:  # a later one says more
            first = made(sections, resolve)[0]
        elif kind == Kind.PART:
            parts[loaded(sections[META])[-1]] = sections
        elif kind == Kind.END:
            finish = sections
    pieces = [parts[index] for index in sorted(parts)]
    if finish:
        exchange, index = made(finish, resolve)
        if first is not None and not (exchange.request_headers or exchange.request_chunks):
            exchange.request_headers, exchange.request_chunks = first.request_headers, first.request_chunks
        add_parts(exchange, pieces if index else [], index)
        add_answer(exchange, finish)
    elif first is None:
        raise ValueError("neither start nor end")
    else:
        exchange = first
        add_parts(exchange, pieces, None)
        interrupt(exchange)
    lost = exchange.request_size and not exchange.request_chunks and not exchange.omit_request
    exchange.request_truncated = bool(exchange.request_truncated or lost)
    exchange.origin = origin
    return exchange


def add_parts(exchange: Exchange, parts: Sequence[Sequence[bytes]], expected: int | None) -> None:
    """What had streamed. A part that is missing leaves a gap, and the answer is marked as cut."""
    reached = 0
    for sections in parts:
        status, headers_clock, chunks, size, stop, index = loaded(sections[META])
        if sections[GOT_HEADERS] and not exchange.response_headers:
            exchange.response_headers = headers_of(sections[GOT_HEADERS])
        if expected is None:
            exchange.status, exchange.headers_clock_ns = status, headers_clock
            exchange.chunks, exchange.response_size = chunks, size
        if index > reached and not exchange.omit_response:
            exchange.response_truncated = True
        add_answer(exchange, sections)
        reached = max(reached, stop)
    if expected is not None and expected > reached and not exchange.omit_response:
        exchange.response_truncated = True


def interrupt(exchange: Exchange) -> None:
    """Its process died: it lasted at least until the last that is known of it."""
    last = exchange.chunk_clocks[-1] if exchange.chunk_clocks else exchange.headers_clock_ns
    exchange.outcome, exchange.eof = Outcome.INTERRUPTED, False
    exchange.end_clock_ns = last or exchange.clock_ns


@lru_cache(maxsize=8)
def resolver(extra: tuple[Any, ...]) -> Resolve:
    """Finds again who answered a call, from what a record says of it."""
    routes = [item for provider in (*extra, *PROVIDERS) for item in provider.routes]
    dialects = {
        (item.dialect.api, item.dialect.operation): item.dialect
        for item in reversed((*routes, *ANY_HOST))
        if item.dialect is not None
    }

    def resolve(provider: str, api: str, operation: str, method: str, url: str) -> Match:
        parts = urlsplit(url)
        found = match(method, parts.hostname or "", parts.port, parts.path, extra)
        if found is not None and (found.dialect.api, found.dialect.operation) == (api, operation):
            return Match(provider, found.dialect)
        return Match(provider, dialects.get((api, operation), GENERIC.dialect))

    return resolve
