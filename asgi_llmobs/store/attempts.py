"""The attempts of a request as rows, and what is kept of one after another came in its place."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from sqlalchemy import Row

from asgi_llmobs.records import Attempt, Body, Outcome, Request, Usage
from asgi_llmobs.store.values import bounded, dollars, integer, json_bytes, picodollars, unpack
from asgi_llmobs.store.values import pack as packed

__all__ = ["attempt_of", "attempt_row", "attempts_of", "sums", "superseded", "worth_keeping"]

WORD = 200  # characters of a word of an attempt, and of a header's value
MESSAGE = 2_000  # characters of an error message, and of the answer of an attempt that another one followed
HEADERS = 24
NO_USAGE = Usage()
TOLD = ("ratelimit", "rate-limit", "retry", "request-id", "requestid")  # in names of headers that say why, or when next


def attempts_of(request: Request) -> tuple[Attempt, ...]:
    """The attempts that *request* knows of; its own is made from it where it lists none."""
    if any(attempt.number == request.attempt for attempt in request.attempts):
        return request.attempts
    own = Attempt(
        request_id=request.id,
        number=request.attempt,
        start_ns=request.start_ns,
        duration_ns=request.duration_ns,
        outcome=request.outcome,
        status=request.status,
        error_type=request.error_type,
        error_message=request.error_message,
        retry_after=request.retry_after,
        provider_request_id=request.provider_request_id,
        cost_usd=request.cost.amount,
        input_tokens=request.counted.input_tokens if request.counted else None,
        output_tokens=request.counted.output_tokens if request.counted else None,
        stages=request.stages,
    )
    return tuple(sorted((*request.attempts, own), key=lambda attempt: attempt.number))


def superseded(
    attempts: Sequence[Attempt], number: int, headers: Sequence[Sequence[str]], bodies: Mapping[str, Body]
) -> tuple[Attempt, ...]:
    """*attempts*, of which attempt *number* is about to lose its place as the one that the request is shown by.

    Args:
        attempts: All that are known.
        number: Whose answer is taken down in short: what says why it failed, and when to try again.
        headers: Of its answer.
        bodies: By their names, as they are stored. An answer may quote the request, and goes with it.
    """
    told = [(str(name), str(value)) for name, value in headers if any(word in name.lower() for word in TOLD)]
    answer = bodies["response"].content if "request" in bodies and "response" in bodies else b""
    text = bounded(answer[: 4 * MESSAGE].decode("utf-8", "replace"), MESSAGE) if answer else None
    return tuple(
        replace(attempt, response_headers=tuple(told[:HEADERS]), response_preview=text)
        if attempt.number == number and attempt.outcome != Outcome.RUNNING
        else attempt
        for attempt in attempts
    )


def worth_keeping(attempts: Sequence[Attempt]) -> bool:
    """Whether attempts say more than the request's own row does."""
    if len(attempts) > 1 or attempts[0].number > 1:
        return True
    return attempts[0].outcome not in (Outcome.OK, Outcome.RUNNING)


def attempt_row(key: int, attempt: Attempt) -> tuple[Any, ...]:
    """The row of *attempt* of the request with this row key."""
    return (
        key,
        integer(attempt.number) or 1,
        integer(attempt.start_ns) or 0,
        integer(attempt.duration_ns),
        str(attempt.outcome),
        integer(attempt.status),
        bounded(attempt.error_type, WORD),
        bounded(attempt.error_message, MESSAGE),
        bounded(attempt.retry_after, WORD),
        bounded(attempt.provider_request_id, WORD),
        picodollars(attempt.cost_usd),
        integer(attempt.input_tokens),
        integer(attempt.output_tokens),
        detail_of(attempt),
    )


def detail_of(attempt: Attempt) -> bytes | None:
    detail: dict[str, Any] = {}
    if attempt.stages:
        detail["stages"] = attempt.stages
    if attempt.response_headers:
        detail["headers"] = [(name, bounded(value, WORD)) for name, value in attempt.response_headers]
    if attempt.response_preview:
        detail["preview"] = attempt.response_preview
    return packed(json_bytes(detail)) if detail else None


def attempt_of(row: Row[Any], request_id: str) -> Attempt:
    """The attempt of a row of ``llmobs_attempts``."""
    # out of a damaged file of an older schema, SQLite reads the name of a column that is not there as a text
    detail = orjson.loads(unpack(row.detail)) if isinstance(row.detail, bytes) else {}
    return Attempt(
        request_id=request_id,
        number=row.number,
        start_ns=row.start_ns,
        duration_ns=row.duration_ns,
        outcome=row.outcome,
        status=row.status,
        error_type=row.error_type,
        error_message=row.error_message,
        retry_after=row.retry_after,
        provider_request_id=row.provider_request_id,
        cost_usd=dollars(row.cost),
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        stages=detail.get("stages") or {},
        response_headers=tuple((name, value) for name, value in detail.get("headers") or ()),
        response_preview=detail.get("preview"),
    )


def sums(request: Request, attempts: Sequence[Attempt]) -> tuple[int | None, int | None, int | None]:
    """Cost, in picodollars, and tokens over the attempts that returned usage."""
    counted = request.counted or NO_USAGE
    if len(attempts) == 1 and attempts[0].number == request.attempt:
        return picodollars(request.cost.amount), integer(counted.input_tokens), integer(counted.output_tokens)
    costs = [picodollars(request.cost.amount)]
    sent, got = [counted.input_tokens], [counted.output_tokens]
    for attempt in attempts:
        if attempt.number != request.attempt:
            costs.append(picodollars(attempt.cost_usd))
            sent.append(attempt.input_tokens)
            got.append(attempt.output_tokens)
    return added(costs), added(sent), added(got)


def added(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return integer(sum(known)) if known else None
