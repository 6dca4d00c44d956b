"""The requests: the list, one of them in full, and finding one by any of its ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import Connection, Row, and_, or_, select

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.content import stored_request
from asgi_llmobs.queries.paging import SLICE, Cursor, Listing, before
from asgi_llmobs.queries.select import REQUESTS, newest_of, ranked_requests_page, requests_page
from asgi_llmobs.records import Request
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import SpanRow, TraceRow
from asgi_llmobs.store.values import dollars, name

__all__ = [
    "RequestDetail",
    "RequestRow",
    "TraceSummary",
    "find_request",
    "get_request",
    "list_requests",
    "newest_requests",
    "request_with",
    "rows_by_id",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One line of the list. Times in nanoseconds, as in :mod:`asgi_llmobs.records`."""

    id: str
    trace_id: str
    parent_id: str | None
    request_id: str | None
    session_id: str | None
    session_name: str | None
    user_id: str | None
    name: str
    kind: str
    start_ns: int
    duration_ns: int | None
    first_token_ns: int | None
    outcome: str
    status: int | None
    provider: str
    api: str
    operation: str
    request_model: str | None
    response_model: str | None
    stream: bool
    input_tokens: int | None
    output_tokens: int | None
    cache_read: int | None
    reasoning: int | None
    estimated: bool
    cost_usd: Decimal | None
    cost_reason: str | None
    attempts: int
    error_type: str | None
    error_message: str | None
    input_preview: str | None
    output_preview: str | None
    route: str | None
    properties: Mapping[str, str]
    caller: str | None
    finish: str | None = None  # reasons, with commas between
    release: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """The trace that a request belongs to, in one line."""

    trace_id: str
    name: str
    node_count: int  # LLM requests
    span_count: int  # spans of any kind
    error_count: int
    total_cost_usd: Decimal | None
    duration_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDetail:
    """One request with all that is known of it."""

    request: Request  # messages, tools and texts read again from the bodies
    newer_id: str | None  # neighbours in the project's list
    older_id: str | None
    trace: TraceSummary | None
    input_omitted: bool  # the request body is not stored
    output_omitted: bool


spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
traces: Any = TraceRow.__table__  # type: ignore[attr-defined]

PLAIN = (
    "id", "trace_id", "parent_id", "request_id", "session_id", "session_name", "user_id", "name", "kind", "start_ns",
    "duration_ns", "first_token_ns", "outcome", "status", "request_model", "response_model", "input_tokens",
    "output_tokens", "cache_read", "reasoning", "cost_reason", "attempts", "error_type", "error_message",
    "input_preview", "output_preview", "route", "caller", "finish", "release",
)  # fmt: skip
OTHER = ("provider", "api", "operation", "stream", "estimated", "cost", "properties")
COLUMNS = tuple(spans.c[label] for label in (*PLAIN, *OTHER) if label != "start_ns")


def row_of(row: Row[Any]) -> RequestRow:
    """A line of the list from a row with :data:`COLUMNS`."""
    found = row._mapping
    return RequestRow(
        **{label: found[label] for label in PLAIN},
        provider=found["provider"] or "unknown",
        api=found["api"] or "other",
        operation=found["operation"] or "other",
        stream=bool(found["stream"]),
        estimated=bool(found["estimated"]),
        cost_usd=dollars(found["cost"]),
        properties=orjson.loads(found["properties"]) if found["properties"] else {},
    )


def list_requests(
    db: Database,
    flt: Filter,
    *,
    cursor: str | None = None,
    limit: int = 50,
    sort: str = "time",
    lowest: bool = False,
) -> Listing[RequestRow]:
    """The newest requests that *flt* means, a page at a time.

    Args:
        db: The store.
        flt: What is meant.
        cursor: ``next_cursor`` or ``previous_cursor`` of an earlier page in the same order.
        limit: Rows of a page, 1 to 500.
        sort: ``time``, newest first, or one of :data:`asgi_llmobs.queries.select.RANKS`, highest first: then the list
            may hold only the newest 10,000 rows, and says so by ``sorted_within``.
        lowest: Lowest first; not of ``time``.

    Raises:
        FilterError: The cursor is none of ours.
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        if sort == "time":
            return requests_page(connection, flt, COLUMNS, cursor=cursor, limit=limit).listing(row_of)
        columns = (spans.c.start_ns, *COLUMNS)
        page = ranked_requests_page(
            connection, flt, columns, sort=sort, lowest=lowest, cursor=cursor, limit=limit
        )  # fmt: skip
        return page.listing(row_of)


def newest_requests(db: Database, flt: Filter, *, limit: int) -> list[RequestRow]:
    """The newest requests that *flt* means, where nobody asks how many there are or for further ones.

    Args:
        db: The store.
        flt: What is meant.
        limit: How many at most.

    Raises:
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        return [row_of(row) for row in newest_of(connection, flt, (spans.c.start_ns, *COLUMNS), limit=limit)]


def rows_by_id(db: Database, project: str, ids: Sequence[str]) -> list[RequestRow]:
    """Those of the requests with *ids* that the project has, newest first.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = spans.c
    chosen = (columns.project == name(project), columns.id.in_([name(id) for id in ids]), REQUESTS.base)
    query = select(columns.start_ns, *COLUMNS).where(*chosen)
    with db.read() as connection:
        rows = connection.execute(query.order_by(columns.start_ns.desc(), columns.key.desc()))
        return [row_of(row) for row in rows]


def get_request(db: Database, id: str, *, project: str) -> RequestDetail | None:
    """The request with the span id *id*; ``None`` where the project has none.

    Raises:
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        row = row_with(connection, id, project)
        if row is None:
            return None
        request = stored_request(connection, row)
        sent = (request.method or "POST").upper() not in ("GET", "HEAD", "DELETE")
        return RequestDetail(
            request=request,
            newer_id=neighbour(connection, row, newer=True),
            older_id=neighbour(connection, row, newer=False),
            trace=trace_summary(connection, row.project, row.trace_id),
            input_omitted=request.request_body is None and sent,
            output_omitted=request.response_body is None and request.status is not None,
        )


def request_with(db: Database, id: str, *, project: str) -> Request | None:
    """The request with the span id *id* and nothing around it.

    Raises:
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        row = row_with(connection, id, project)
        return None if row is None else stored_request(connection, row)


def row_with(connection: Connection, id: str, project: str) -> Row[Any] | None:
    columns = spans.c
    where = (columns.project == name(project), columns.id == name(id), columns.is_request == 1)
    return connection.execute(select(spans).where(*where)).first()


def neighbour(connection: Connection, row: Row[Any], *, newer: bool) -> str | None:
    """The id of the request next to *row* in the project's list."""
    at = Cursor(row.start_ns, row.key, newer)
    time, key = spans.c.start_ns, spans.c.key
    direction = (time.asc(), key.asc()) if newer else (time.desc(), key.desc())
    found = select(spans.c.id).where(spans.c.project == row.project, REQUESTS.base, before(REQUESTS, at))
    answer: str | None = connection.execute(found.order_by(*direction).limit(1)).scalar()
    return answer


def trace_summary(connection: Connection, project: str, trace_id: str) -> TraceSummary | None:
    columns = traces.c
    row = connection.execute(select(traces).where(columns.project == project, columns.trace_id == trace_id)).first()
    if row is None:
        return None
    return TraceSummary(
        trace_id=row.trace_id,
        name=row.name,
        node_count=row.requests,
        span_count=row.spans,
        error_count=row.errors,
        total_cost_usd=dollars(row.cost),
        duration_ns=row.duration_ns,
    )


def find_request(db: Database, text: str, project: str) -> str | None:
    """The span id of the newest request known as *text*: its span id, its LLMObs-Request-Id, and among the newest
    5,000 also the provider's response id or request id."""
    columns = spans.c
    wanted = name(text.strip())
    base = and_(columns.project == name(project), columns.is_request == 1)
    newest = (
        select(columns.id, columns.response_id, columns.provider_request_id, columns.start_ns)
        .where(base).order_by(columns.start_ns.desc()).limit(SLICE).subquery()
    )  # fmt: skip
    asked = [
        select(columns.id).where(base, columns.id == wanted),
        select(columns.id).where(base, columns.request_id == wanted).order_by(columns.key.desc()).limit(1),
        select(newest.c.id)
        .where(or_(newest.c.response_id == wanted, newest.c.provider_request_id == wanted))
        .order_by(newest.c.start_ns.desc()).limit(1),
    ]  # fmt: skip
    with db.read() as connection:
        for query in asked:
            found: str | None = connection.execute(query).scalar()
            if found is not None:
                return found
    return None
