"""Calls and spans as bytes and back: a JSON head and raw parts, without what must never be kept."""

import json
import struct
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, chain, compress
from operator import attrgetter
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson

from asgi_llmobs.providers import ANY_HOST, GENERIC, PROVIDERS, Match, match
from asgi_llmobs.records import Annotations, Exchange, Outcome, Span, columns
from asgi_llmobs.redaction import (
    ADDRESSES,
    KEPT_REQUEST_HEADERS,
    MARK_BYTES,
    NEVER_RESPONSE_HEADERS,
    SECRET_HEADERS,
    safe_text,
    safe_url,
    secrets_of,
)
from asgi_llmobs.spool.frames import Kind

__all__ = ["end", "exchange_of", "part", "resolver", "root_of", "secrets_in", "span", "span_of", "start"]

Resolve = Callable[[str, str, str, str, str], Match]
Headers = Iterable[tuple[bytes, bytes]]

PLAIN = (
    "id", "trace_id", "parent_id", "method", "start_ns", "clock_ns", "attempt", "first_start_ns", "first_clock_ns",
    "request_size", "request_truncated", "status", "chunks", "response_size", "response_truncated", "response_sha256",
    "decoded", "headers_clock_ns", "end_clock_ns", "eof", "error_type", "project", "session_id", "session_name",
    "session_path", "user_id", "route", "caller", "omit_request", "omit_response", "properties", "name",
)  # fmt: skip
SAID = ("request_id", "node_id", "prompt_id", "model_override")
plain_values = attrgetter(*PLAIN)
said_values = attrgetter(*SAID)
SPAN = columns(Span)
span_values = attrgetter(*SPAN)
TEXTS = ("input", "output", "error_message")

COUNTS = struct.Struct("<7I")  # lengths of the sections, in their order
ONE_CLOCK, ONE_LENGTH = struct.Struct("=q"), struct.Struct("=I")
META, SENT_HEADERS, SENT, GOT_HEADERS, CLOCKS, LENGTHS, GOT = range(7)
MAX_KNOWN = 1_024

clean_url = lru_cache(maxsize=1_024)(safe_url)


@lru_cache(maxsize=1_024)
def secrets_of_url(url: str) -> tuple[bytes, ...]:
    return secrets_of((), url)


@lru_cache(maxsize=1_024)
def secrets_of_header(value: bytes) -> tuple[bytes, ...]:
    found = secrets_of(((b"authorization", value),), "")
    # who finds the token finds it with its scheme before it, too
    return tuple(one for one in found if not any(other in one for other in found if other != one))


class Plan(NamedTuple):
    """What is done with the headers of a list of names: calls of one client have the same list again and again."""

    kept: tuple[bool, ...]  # for each name and each value
    texts: int
    addresses: tuple[int, ...]  # places of those whose values are addresses
    secrets: tuple[int, ...]  # places of those whose values are credentials


_sent_plans: dict[tuple[bytes, ...], Plan] = {}
_got_plans: dict[tuple[bytes, ...], Plan] = {}


def sent_plan(names: tuple[bytes, ...]) -> Plan:
    """For the headers of a request: the known harmless ones are kept."""
    return planned(_sent_plans, names, [name in KEPT_REQUEST_HEADERS for name in map(bytes.lower, names)])


def got_plan(names: tuple[bytes, ...]) -> Plan:
    """For the headers of a response: all are kept but the secret ones."""
    return planned(_got_plans, names, [name not in NEVER_RESPONSE_HEADERS for name in map(bytes.lower, names)])


def planned(plans: dict[tuple[bytes, ...], Plan], names: tuple[bytes, ...], keep: list[bool]) -> Plan:
    lower = [name.lower() for name in names]
    plan = Plan(
        tuple(kept for kept in keep for _ in range(2)),
        2 * sum(keep),
        tuple(index for index, name in enumerate(lower) if keep[index] and name in ADDRESSES),
        tuple(index for index, name in enumerate(lower) if name in SECRET_HEADERS),
    )
    if len(plans) >= MAX_KNOWN:
        plans.clear()
    plans[names] = plan
    return plan


def secrets_in(exchange: Exchange) -> tuple[bytes, ...]:
    """The credentials that a call carries: they are taken out of whatever quotes them."""
    headers = exchange.request_headers
    found: tuple[bytes, ...] = ()
    names = tuple([name for name, _ in headers])
    for index in (_sent_plans.get(names) or sent_plan(names)).secrets:
        found += secrets_of_header(headers[index][1])
    url = exchange.url
    if "?" in url or "@" in url:
        found += secrets_of_url(url)
    return found


def header_block(headers: Headers, plan: Plan, secrets: Sequence[bytes]) -> bytes:
    if plan.addresses:
        headers = [
            (name, clean_url(value.decode("latin-1")).encode("latin-1", "replace") if at in plan.addresses else value)
            for at, (name, value) in enumerate(headers)
        ]
    block = b"\n".join(compress(chain.from_iterable(headers), plan.kept))
    if block.count(b"\n") >= plan.texts > 0:  # no server sends that; a mock may
        texts = compress(chain.from_iterable(headers), plan.kept)
        block = b"\n".join([text.replace(b"\n", b" ") for text in texts])
    return without(block, secrets)


def sent_headers(exchange: Exchange, secrets: Sequence[bytes]) -> bytes:
    names = tuple([name for name, _ in exchange.request_headers])
    return header_block(exchange.request_headers, _sent_plans.get(names) or sent_plan(names), secrets)


def got_headers(exchange: Exchange, secrets: Sequence[bytes]) -> bytes:
    names = tuple([name for name, _ in exchange.response_headers])
    return header_block(exchange.response_headers, _got_plans.get(names) or got_plan(names), secrets)


def dumped(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except (TypeError, ValueError, RecursionError):  # lone surrogates, large numbers, things of the app
        return json.dumps(value, default=str, skipkeys=True).encode()


def loaded(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def packed(*sections: bytes) -> bytes:
    return b"".join((COUNTS.pack(*map(len, sections)), *sections))


def meta(exchange: Exchange, secrets: Sequence[bytes], index: int) -> bytes:
    found, message, outcome = exchange.match, exchange.error_message, exchange.outcome
    if message is not None:
        message = None if exchange.omit_response else safe_text(message, secrets)
    if outcome == Outcome.ABANDONED and exchange.trace is not None and exchange.trace.client_gone:
        outcome = Outcome.CANCELLED  # known here, and only here
    dialect = found.dialect
    return dumped(
        (
            plain_values(exchange),
            said_values(exchange.annotations),
            (found.provider, dialect.api, dialect.operation),
            clean_url(exchange.url),
            str(outcome),
            message,
            index,
        )
    )


def without(body: bytes, secrets: Sequence[bytes]) -> bytes:
    for secret in secrets:
        if secret in body:
            body = body.replace(secret, MARK_BYTES)
    return body


def answer(exchange: Exchange, index: int, stop: int, secrets: Sequence[bytes]) -> tuple[bytes, bytes, bytes]:
    """Clocks, lengths and bytes of the chunks from *index* to *stop*."""
    if exchange.omit_response or index >= stop:
        return b"", b"", b""
    chunks, clocks, base = exchange.response_chunks[index:stop], exchange.chunk_clocks[index:stop], exchange.clock_ns
    body = b"".join(chunks)
    safe = without(body, secrets)
    if safe is not body:
        chunks, clocks = [safe], clocks[-1:]
    if len(chunks) == 1:
        return ONE_CLOCK.pack(clocks[0] - base), ONE_LENGTH.pack(len(safe)), safe
    times = array("q", [clock - base for clock in clocks])
    return times.tobytes(), array("I", map(len, chunks)).tobytes(), safe


def start(exchange: Exchange, secrets: Sequence[bytes]) -> bytes:
    """The record of a call that begins."""
    sent = b"" if exchange.omit_request else without(b"".join(exchange.request_chunks), secrets)
    headers = sent_headers(exchange, secrets)
    return packed(meta(exchange, secrets, 0), headers, sent, b"", b"", b"", b"")


def part(exchange: Exchange, secrets: Sequence[bytes], index: int, stop: int) -> bytes:
    """The record of the chunks from *index* to *stop* of an answer that goes on."""
    said = dumped((exchange.status, exchange.headers_clock_ns, exchange.chunks, exchange.response_size, index))
    headers = b"" if index else got_headers(exchange, secrets)
    return packed(said, b"", b"", headers, *answer(exchange, index, stop, secrets))


def end(exchange: Exchange, secrets: Sequence[bytes], index: int, *, started: bool) -> bytes:
    """The record of a call that is over.

    Args:
        exchange: It.
        secrets: See :func:`secrets_in`.
        index: How many chunks of the answer stand in earlier records.
        started: Whether the record of its start holds the request as it was sent.
    """
    stop = min(len(exchange.response_chunks), len(exchange.chunk_clocks))
    headers = sent = b""
    if not started:
        headers = sent_headers(exchange, secrets)
        sent = b"" if exchange.omit_request else without(b"".join(exchange.request_chunks), secrets)
    got = got_headers(exchange, secrets)
    return packed(meta(exchange, secrets, index), headers, sent, got, *answer(exchange, index, stop, secrets))


def span(record: Span, *, full: bool) -> bytes:
    """The record of a span; not *full*: without its texts."""
    values = span_values(record)
    if not full and any(getattr(record, name) for name in TEXTS):
        values = tuple(None if name in TEXTS else value for name, value in zip(SPAN, values, strict=True))
    return dumped(values)


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
    plain = dict(zip(PLAIN, values, strict=True))
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
    begun: Exchange | None = None
    finish: list[bytes] = []
    parts: list[list[bytes]] = []
    for kind, payload in records:
        sections = sections_of(payload)
        if kind == Kind.START:  # a later one stands for everything before it
            begun, parts = made(sections, resolve)[0], []
        elif kind == Kind.PART:
            parts.append(sections)
        elif kind == Kind.END:
            finish = sections
    if finish:
        exchange, index = made(finish, resolve)
        if begun is not None and not (exchange.request_headers or exchange.request_chunks):
            exchange.request_headers, exchange.request_chunks = begun.request_headers, begun.request_chunks
        add_parts(exchange, parts if index else [], index)
        add_answer(exchange, finish)
    elif begun is None:
        raise ValueError("neither start nor end")
    else:
        exchange = begun
        add_parts(exchange, parts, None)
        interrupt(exchange)
    lost = exchange.request_size and not exchange.request_chunks and not exchange.omit_request
    exchange.request_truncated = bool(exchange.request_truncated or lost)
    exchange.origin = origin
    return exchange


def add_parts(exchange: Exchange, parts: Sequence[Sequence[bytes]], expected: int | None) -> None:
    """What had streamed. A part that is missing leaves a gap, and the answer is marked as cut."""
    for sections in parts:
        status, headers_clock, chunks, size, index = loaded(sections[META])
        if sections[GOT_HEADERS] and not exchange.response_headers:
            exchange.response_headers = headers_of(sections[GOT_HEADERS])
        if expected is None:
            exchange.status, exchange.headers_clock_ns = status, headers_clock
            exchange.chunks, exchange.response_size = chunks, size
        if index > len(exchange.response_chunks) and not exchange.omit_response:
            exchange.response_truncated = True
        add_answer(exchange, sections)
    if expected is not None and expected > len(exchange.response_chunks) and not exchange.omit_response:
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
