"""Calls and spans as bytes: a JSON head and raw parts, without what must never be kept."""

import json
import struct
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, compress
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import orjson

from asgi_llmobs.bodies import without_repeats
from asgi_llmobs.credentials import holds_credentials, without_credentials
from asgi_llmobs.records import Exchange, Outcome, Span, columns
from asgi_llmobs.redaction import (
    ADDRESSES,
    is_kept_header,
    is_secret_header,
    safe_text,
    safe_url,
    secrets_of,
)

__all__ = ["begun", "border", "end", "has_texts", "part", "plan_of", "secrets_in", "span", "start"]

Headers = Iterable[tuple[bytes, bytes]]
Secrets = Sequence[bytes] | None  # None: what is there is known to hold none

PLAIN = (
    "id", "trace_id", "parent_id", "method", "start_ns", "clock_ns", "attempt", "first_start_ns", "first_clock_ns",
    "request_size", "request_truncated", "status", "chunks", "response_size", "response_truncated", "response_sha256",
    "decoded", "headers_clock_ns", "first_token_clock_ns", "end_clock_ns", "eof", "error_type", "project", "session_id",
    "session_name", "session_path", "user_id", "route", "caller", "omit_request", "omit_response", "properties", "name",
    "stages",
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
LOOK_BACK = 64  # chunks
OVERLAP = 64  # bytes
SHORT = 4096
SEVERAL = 12  # chunks: of less it is not looked what they repeat
PIECE = 64 * 1024
WORD = frozenset(bytes((code,)) for code in range(128) if chr(code).isalnum() or chr(code) in "-_.~+/=") | {b""}

name_of, value_of = itemgetter(0), itemgetter(1)  # of a header
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
    values: tuple[bool, ...]  # for each value
    texts: int
    addresses: tuple[int, ...]  # places of those whose values are addresses
    secrets: tuple[int, ...]  # places of those whose values are credentials


_sent_plans: dict[tuple[bytes, ...], Plan] = {}
_got_plans: dict[tuple[bytes, ...], Plan] = {}


def sent_plan(names: tuple[bytes, ...]) -> Plan:
    """For the headers of a request: the known harmless ones are kept."""
    return planned(_sent_plans, names, [is_kept_header(name, response=False) for name in map(bytes.lower, names)])


def got_plan(names: tuple[bytes, ...]) -> Plan:
    """For the headers of a response: all are kept but the secret ones."""
    return planned(_got_plans, names, [is_kept_header(name, response=True) for name in map(bytes.lower, names)])


def planned(plans: dict[tuple[bytes, ...], Plan], names: tuple[bytes, ...], keep: list[bool]) -> Plan:
    lower = [name.lower() for name in names]
    plan = Plan(
        tuple(kept for kept in keep for _ in range(2)),
        tuple(keep),
        2 * sum(keep),
        tuple(index for index, name in enumerate(lower) if keep[index] and name in ADDRESSES),
        tuple(index for index, name in enumerate(lower) if is_secret_header(name)),
    )
    if len(plans) >= MAX_KNOWN:
        plans.clear()
    plans[names] = plan
    return plan


def plan_of(exchange: Exchange) -> Plan:
    """What is done with the headers that a call sends."""
    names = tuple(map(name_of, exchange.request_headers))
    return _sent_plans.get(names) or sent_plan(names)


def secrets_in(exchange: Exchange, plan: Plan | None = None) -> tuple[bytes, ...]:
    """The credentials that a call carries: they are taken out of whatever quotes them."""
    headers = exchange.request_headers
    found: tuple[bytes, ...] = ()
    for index in (plan or plan_of(exchange)).secrets:
        found += secrets_of_header(headers[index][1])
    url = exchange.url
    if "?" in url or "@" in url:
        found += secrets_of_url(url)
    return found


def header_block(headers: Headers, plan: Plan, secrets: Secrets) -> bytes:
    if plan.addresses:
        headers = [
            (name, clean_url(value.decode("latin-1")).encode("latin-1", "replace") if at in plan.addresses else value)
            for at, (name, value) in enumerate(headers)
        ]
    block = b"\n".join(compress(chain.from_iterable(headers), plan.kept))
    if block.count(b"\n") >= plan.texts > 0:  # no server sends that; a mock may
        texts = compress(chain.from_iterable(headers), plan.kept)
        block = b"\n".join([text.replace(b"\n", b" ") for text in texts])
    return block if secrets is None else without_credentials(block, secrets)


def values_of(headers: Headers, plan: Plan) -> bytes:
    """What of a list of headers is kept and may hold a credential: their names hold none."""
    return b"\n".join(compress(map(value_of, headers), plan.values))


def sent_headers(exchange: Exchange, secrets: Secrets, plan: Plan) -> bytes:
    return header_block(exchange.request_headers, plan, secrets)


def got_headers(exchange: Exchange, secrets: Secrets, plan: Plan) -> bytes:
    return header_block(exchange.response_headers, plan, secrets)


def plan_of_answer(exchange: Exchange) -> Plan:
    """What is done with the headers that a call gets back."""
    names = tuple(map(name_of, exchange.response_headers))
    return _got_plans.get(names) or got_plan(names)


def dumped(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except (TypeError, ValueError, RecursionError):  # lone surrogates, large numbers, things of the app
        return json.dumps(value, default=str, skipkeys=True).encode()


def packed(*sections: bytes) -> bytes:
    return b"".join((COUNTS.pack(*map(len, sections)), *sections))


def meta(exchange: Exchange, secrets: Sequence[bytes], index: int, *, message: bool = True) -> bytes:
    found, text, outcome = exchange.match, exchange.error_message, exchange.outcome
    if text is not None:
        text = safe_text(text, secrets) if message and not exchange.omit_response else None
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
            text,
            index,
        )
    )


def harmless(secrets: Sequence[bytes], *contents: bytes, repeats: bool = True) -> bool:
    """Whether none of *contents* holds what must never be kept; *repeats*: one may be a stream in whole."""
    if sum(map(len, contents)) < SHORT:
        contents = (b"\n".join(contents),)  # one look at all of them instead of one at each
    for content in contents:
        for secret in secrets:
            if secret in content:
                return False
        if len(content) <= PIECE:
            if content and holds_credentials(content, repeats=repeats):
                return False
        # in pieces: other threads run in between
        elif any(holds_credentials(content[at : at + PIECE + OVERLAP]) for at in range(0, len(content), PIECE)):
            return False
    return True


def answer(exchange: Exchange, index: int, stop: int, secrets: Secrets) -> tuple[bytes, bytes, bytes]:
    """Clocks, lengths and bytes of the chunks from *index* to *stop*."""
    if exchange.omit_response or index >= stop:
        return b"", b"", b""
    chunks, clocks, base = exchange.response_chunks[index:stop], exchange.chunk_clocks[index:stop], exchange.clock_ns
    body = b"".join(chunks)
    if secrets is not None:
        before = tail(exchange, index)
        kept = without_credentials(before + body, secrets)
        if kept != before + body:
            body = kept[len(before) :] if kept.startswith(before) else kept
            chunks, clocks = [body], clocks[-1:]
    if len(chunks) == 1:
        return ONE_CLOCK.pack(clocks[0] - base), ONE_LENGTH.pack(len(body)), body
    times = array("q", [clock - base for clock in clocks])
    return times.tobytes(), array("I", map(len, chunks)).tobytes(), body


def tail(exchange: Exchange, index: int) -> bytes:
    """What stands before a piece of the answer: what says that something is a credential may be in it."""
    return bytes(exchange.response_chunks[index - 1][-OVERLAP:]) if index else b""


def harmless_answer(
    exchange: Exchange, index: int, stop: int, secrets: Sequence[bytes], body: bytes, *others: bytes
) -> bool:
    """Whether *body*, the chunks from *index* to *stop*, and *others* hold nothing that must never be kept."""
    before = tail(exchange, index)
    if stop - index < SEVERAL or not body or any(b'"' in secret for secret in secrets):
        return harmless(secrets, *others, before + body)
    # mostly each of them is an event: without what they repeat a tenth is left
    seen = without_repeats([before, *exchange.response_chunks[index:stop]])
    return harmless(secrets, *others) and harmless(secrets, seen, repeats=len(seen) > len(body))


def request(exchange: Exchange, secrets: Secrets) -> bytes:
    """The body that was sent, as it may stand in a file."""
    if exchange.omit_request:
        return b""
    chunks = exchange.request_chunks
    body = bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)
    return body if secrets is None else without_credentials(body, secrets)


def start(exchange: Exchange) -> bytes:
    """The record of a call that begins, without anything of what it sends: that follows if it lasts."""
    return packed(meta(exchange, (), 0), b"", b"", b"", b"", b"", b"")


def begun(exchange: Exchange, secrets: Sequence[bytes], *, bodies: bool = True) -> bytes:
    """The record of a call that has been under way for a while, with what it sent; not *bodies*: without that body."""
    plan = plan_of(exchange)
    headers, sent = sent_headers(exchange, None, plan), request(exchange, None) if bodies else b""
    if not harmless(secrets, values_of(exchange.request_headers, plan), sent):
        exchange.suspect = True
        headers, sent = sent_headers(exchange, secrets, plan), request(exchange, secrets) if bodies else b""
    return packed(meta(exchange, secrets, 0), headers, sent, b"", b"", b"", b"")


def part(exchange: Exchange, secrets: Sequence[bytes], index: int, stop: int) -> bytes:
    """The record of the chunks from *index* to *stop* of an answer that goes on."""
    said = dumped((exchange.status, exchange.headers_clock_ns, exchange.chunks, exchange.response_size, stop, index))
    plan = plan_of_answer(exchange)
    headers, values = b"", b""
    if not index:
        headers, values = got_headers(exchange, None, plan), values_of(exchange.response_headers, plan)
    clocks, lengths, body = answer(exchange, index, stop, None)
    if not harmless_answer(exchange, index, stop, secrets, body, values):
        exchange.suspect = True
        headers = got_headers(exchange, secrets, plan) if headers else b""
        clocks, lengths, body = answer(exchange, index, stop, secrets)
    return packed(said, b"", b"", headers, clocks, lengths, body)


def border(exchange: Exchange, index: int, stop: int) -> int:
    """The last place before *stop* where the answer may be cut without cutting a credential.

    Behind the end of a line; where the newest chunks hold none, behind or before what is no word.
    """
    chunks = exchange.response_chunks
    nearest = index
    for at in range(stop, max(index, stop - LOOK_BACK), -1):
        last = chunks[at - 1][-1:]
        if last == b"\n":
            return at
        if nearest == index and (last not in WORD or at < stop and chunks[at][:1] not in WORD):
            nearest = at
    return nearest


def end(
    exchange: Exchange,
    secrets: Sequence[bytes],
    index: int,
    *,
    started: bool,
    bodies: bool = True,
    message: bool = True,
) -> bytes:
    """The record of a call that is over.

    Args:
        exchange: It.
        secrets: See :func:`secrets_in`.
        index: How many chunks of the answer stand in earlier records.
        started: Whether an earlier record holds the request as it was sent.
        bodies: Whether the bodies are written; without them the call comes back as one whose bodies were given up.
        message: Whether the text of an exception is.
    """
    stop = min(len(exchange.response_chunks), len(exchange.chunk_clocks))
    index = index if bodies else stop
    plan, got = None if started else plan_of(exchange), plan_of_answer(exchange)

    def sections(known: Secrets) -> tuple[bytes, ...]:
        headers = sent_headers(exchange, known, plan) if plan is not None else b""
        sent = request(exchange, known) if plan is not None and bodies else b""
        return headers, sent, got_headers(exchange, known, got), *answer(exchange, index, stop, known)

    found = sections(None)
    sent_values = values_of(exchange.request_headers, plan) if plan is not None else b""
    got_values = values_of(exchange.response_headers, got)
    if not harmless_answer(exchange, index, stop, secrets, found[5], sent_values, found[1], got_values):
        exchange.suspect = True
        found = sections(secrets)
    elif bodies and exchange.suspect is None and stop == len(exchange.response_chunks):
        exchange.suspect = exchange.omit_request or exchange.omit_response  # what is omitted was not looked at
    return packed(meta(exchange, secrets, index, message=message), *found)


def has_texts(record: Span) -> bool:
    """Whether a span holds a text of the app."""
    return bool(record.input or record.output or record.error_message)


def span(record: Span, *, full: bool) -> bytes:
    """The record of a span; not *full*: without its texts."""
    values = span_values(record)
    if not full and has_texts(record):
        values = tuple(None if name in TEXTS else value for name, value in zip(SPAN, values, strict=True))
    return without_credentials(dumped(values))
