"""A stored request put together again: columns, details and bodies, its texts read anew by the provider's dialect."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from sqlalchemy import Connection, Row, select

from asgi_llmobs.providers import ANY_HOST, PROVIDERS, match, read
from asgi_llmobs.providers.base import Dialect, Match, Wire
from asgi_llmobs.records import Attempt, Cost, CostLine, Message, Outcome, Part, Reading, Request, Usage
from asgi_llmobs.store.attempts import attempt_of, attempts_of
from asgi_llmobs.store.contents import NOTHING, Content, unpacked_content
from asgi_llmobs.store.database import in_chunks
from asgi_llmobs.store.tables import AttemptRow, ContentRow
from asgi_llmobs.store.values import dollars

__all__ = ["stored_content", "stored_request", "stored_requests"]

attempts: Any = AttemptRow.__table__  # type: ignore[attr-defined]
contents: Any = ContentRow.__table__  # type: ignore[attr-defined]

SAME = (
    "id", "trace_id", "parent_id", "project", "kind", "name", "start_ns", "duration_ns", "outcome", "status",
    "error_type", "error_message", "session_id", "session_name", "session_path", "user_id", "node_id", "route",
    "caller", "provider", "api", "operation", "request_model", "response_model", "request_id", "response_id",
    "provider_request_id", "first_token_ns", "attempt",
)  # fmt: skip
FROM_DETAIL = (
    "method", "url", "service", "release", "host", "pid", "attributes", "prompt_id", "stream_requested", "framing",
    "error", "usage_raw", "service_tier", "parameters", "details", "stages", "headers_ns", "first_chunk_ns",
    "last_chunk_ns", "chunks", "retry_after",
)  # fmt: skip
TUPLES = ("finish_reasons", "server_tools", "warnings", "notes")
PAIRS = ("request_headers", "response_headers")
PART_FIELDS = tuple(item.name for item in fields(Part))


def stored_content(connection: Connection, key: int) -> Content:
    """What is stored of a span beside its columns."""
    content = connection.execute(select(contents.c.content).where(contents.c.key == key)).scalar()
    return unpacked_content(content) if content is not None else NOTHING


def stored_request(connection: Connection, row: Row[Any]) -> Request:
    """The record of a row of ``llmobs_spans``."""
    return next(stored_requests(connection, [row]))


def stored_requests(connection: Connection, rows: Sequence[Row[Any]]) -> Iterator[Request]:
    """The records of rows of ``llmobs_spans``, in their order, with two queries for all of them."""
    keys = [row.key for row in rows]
    packed: dict[int, bytes] = {}
    exchanges: dict[int, list[Row[Any]]] = {}
    for chunk in in_chunks(keys):
        wanted = select(contents.c.key, contents.c.content).where(contents.c.key.in_(chunk))
        packed.update((row.key, row.content) for row in connection.execute(wanted))
        made = select(attempts).where(attempts.c.key.in_(chunk)).order_by(attempts.c.key, attempts.c.number)
        for row in connection.execute(made):
            exchanges.setdefault(row.key, []).append(row)
    for row in rows:
        content = unpacked_content(packed.pop(row.key)) if row.key in packed else NOTHING
        yield put_together(row, content, exchanges.get(row.key, ()))


def put_together(row: Row[Any], content: Content, exchanges: Sequence[Row[Any]]) -> Request:
    """The record of a span, its *content* and its attempts."""
    detail, found, _ = content
    plain: dict[str, Any] = {label: getattr(row, label) for label in SAME}
    plain.update({label: detail[label] for label in FROM_DETAIL if label in detail})
    plain.update({label: tuple(detail[label]) for label in TUPLES if label in detail})
    plain.update({label: tuple(map(tuple, detail[label])) for label in PAIRS if label in detail})
    request = Request(
        **plain,
        properties=orjson.loads(row.properties) if row.properties else {},
        stream=bool(row.stream),
        usage=usage_of(detail.get("usage"), False),
        estimate=usage_of(detail.get("estimate"), True),
        cost=cost_of(detail.get("cost") or {}),
        chunk_times=tuple(points(detail.get("chunk_times") or ())),
        request_body=found.get("request"),
        response_body=found.get("response"),
    )
    return with_content(with_attempts(exchanges, row, request), detail)


def usage_of(detail: Mapping[str, Any] | None, estimated: bool) -> Usage | None:
    return None if detail is None else Usage(**detail, estimated=estimated)


def cost_of(detail: Mapping[str, Any]) -> Cost:
    amount = detail.get("amount")
    return Cost(
        amount=None if amount is None else Decimal(amount),
        lines=tuple(
            CostLine(bucket=bucket, tokens=tokens, per_million=Decimal(price), amount=Decimal(part))
            for bucket, tokens, price, part in detail.get("lines") or ()
        ),
        source=detail.get("source"),
        price_date=detail.get("price_date"),
        reason=detail.get("reason"),
    )


def points(steps: Sequence[int]) -> Iterator[tuple[int, int]]:
    time = size = 0
    for step in range(0, len(steps) - 1, 2):
        time, size = time + steps[step], size + steps[step + 1]
        yield time, size


def with_attempts(rows: Sequence[Row[Any]], row: Row[Any], request: Request) -> Request:
    """The request with all its attempts, and their cost and tokens in its totals."""
    if not rows:
        return replace(request, attempts=attempts_of(request))
    known = tuple(attempt_of(item, request.id) for item in rows)
    request = replace(request, attempts=known)
    others = [item for item in known if item.number != request.attempt and item.cost_usd is not None]
    if others:
        lines = (*(line_of(item) for item in others), *request.cost.lines)
        request = replace(request, cost=replace(request.cost, amount=dollars(row.cost), lines=lines))
    counted = request.counted
    if (row.input_tokens, row.output_tokens) != (request.input_tokens, request.output_tokens) and (
        counted is None or not counted.estimated
    ):
        usage = replace(counted or Usage(), input_tokens=row.input_tokens, output_tokens=row.output_tokens)
        request = replace(request, usage=usage)
    return request


def line_of(attempt: Attempt) -> CostLine:
    """What another attempt cost, as one term."""
    tokens = (attempt.input_tokens or 0) + (attempt.output_tokens or 0)
    amount = attempt.cost_usd or Decimal(0)
    price = amount / tokens * 1_000_000 if tokens else Decimal(0)
    return CostLine(bucket=f"attempt {attempt.number}", tokens=tokens, per_million=price, amount=amount)


def with_content(request: Request, detail: Mapping[str, Any]) -> Request:
    """The request with what its bodies say."""
    sent, got = request.request_body, request.response_body
    if sent is None and got is None:
        return request
    found = dialect_of(request)
    reading = read(wire_of(request), found) if found is not None else Reading()
    changes: dict[str, Any] = {}
    if sent is not None:
        whole = "messages" not in detail
        changes["messages"] = tuple(reading.input) if whole else messages_of(detail["messages"])
        changes["tools"] = tuple(reading.tools) if whole else tuple(detail.get("tools") or ())
    if got is not None and "output" not in detail:
        changes.update(
            text=reading.text,
            reasoning_text=reading.reasoning_text,
            tool_calls=tuple(reading.tool_calls),
            refusal=reading.refusal,
            output_messages=tuple(reading.output),
        )
    elif got is not None:
        changes.update(
            text=detail.get("text") or "",
            reasoning_text=detail.get("reasoning_text") or "",
            tool_calls=tuple(detail.get("tool_calls") or ()),
            output_messages=messages_of(detail["output"]),
        )
    return replace(request, **changes)


def messages_of(found: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    return tuple(
        Message(
            role=message.get("role") or "",
            name=message.get("name"),
            finish_reason=message.get("finish_reason"),
            parts=tuple(
                Part(**{label: value for label, value in part.items() if label in PART_FIELDS})
                for part in message.get("parts") or ()
            ),
        )
        for message in found
    )


def dialect_of(request: Request) -> Match | None:
    """Who reads the request: the dialect that it was stored with, wherever it is found."""
    parts = urlsplit(request.url or "")
    try:
        port = parts.port
    except ValueError:
        port = None
    found = match(request.method or "POST", parts.hostname or "", port, parts.path)
    if found is not None and found.dialect.api == request.api:
        return found
    dialect = next((dialect for dialect in dialects() if dialect.api == request.api), None)
    return None if dialect is None else Match(request.provider, dialect)


def dialects() -> Iterator[Dialect]:
    for routes in (ANY_HOST, *(provider.routes for provider in PROVIDERS)):
        for route in routes:
            if route.dialect is not None:
                yield route.dialect


def wire_of(request: Request) -> Wire:
    """The exchange as the dialect was first given it, as far as it is stored."""
    parts = urlsplit(request.url or "")
    sent, got = request.request_body, request.response_body
    return Wire(
        method=request.method or "POST",
        url=request.url or "",
        host=parts.hostname or "",
        path=unquote(parts.path),
        query=parts.query,
        request_headers=lower(request.request_headers),
        request_body=sent.content if sent is not None else b"",
        status=request.status,
        response_headers=lower(request.response_headers),
        response_body=got.content if got is not None else b"",
        complete=request.outcome in (Outcome.OK, Outcome.ERROR) and not (got is not None and got.truncated),
    )


def lower(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}
