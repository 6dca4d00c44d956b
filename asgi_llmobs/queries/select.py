"""The only place where a filter becomes SQL.

A page of a list is found in one of two ways. Where one of the filter's conditions has an index and few rows meet it
(a trace, a session, a rare property or word), these rows are all looked at. Otherwise the newest rows are looked at
in a slice of bounded size, and where the page is not full by then, the next one searches further back.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    false,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.sql import literal
from sqlalchemy.sql.visitors import replacement_traverse

from asgi_llmobs.filters import Filter
from asgi_llmobs.filters.expression import terms_of
from asgi_llmobs.queries.columns import by_column, listed
from asgi_llmobs.queries.paging import (
    Listing,
    Members,
    Narrowed,
    Ordered,
    Page,
    among,
    cut,
    is_true,
    key_range,
    page_of,
    ranked_page,
    slice_edge,
)
from asgi_llmobs.queries.terms import TOKENS, any_of, as_sql, has_property, holds, status_of
from asgi_llmobs.store.database import first_key
from asgi_llmobs.store.rows import fold_name
from asgi_llmobs.store.search import FIRST_KEY, found_keys, plan_for_words
from asgi_llmobs.store.tables import PARTITIONED, PropertyRow, SessionRow, SpanRow, TraceRow
from asgi_llmobs.store.values import BIGGEST, name, picodollars

__all__ = [
    "GROUP_RANKS",
    "RANKS",
    "REQUESTS",
    "Listing",
    "arrived_after",
    "in_time",
    "meant",
    "narrowed",
    "newest_by_column",
    "newest_of",
    "ranked_requests_page",
    "requests_page",
    "sessions_page",
    "traces_page",
]

NEWEST = 500  # of few rows that are scattered over the store, as many as are read for what only wants the newest
FEW = 5_000  # rows that meet a condition, up to which it leads the search
spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
properties: Any = PropertyRow.__table__  # type: ignore[attr-defined]
traces: Any = TraceRow.__table__  # type: ignore[attr-defined]
sessions: Any = SessionRow.__table__  # type: ignore[attr-defined]


def in_time(connection: Connection, column: Any, flt: Filter) -> ColumnElement[bool]:
    """That *column* lies in the filter's time range."""
    conditions: list[ColumnElement[bool]] = []
    if flt.since_ns is not None:
        conditions.append(column >= flt.since_ns)
        lowest = first_key(connection, flt.since_ns)
        if lowest and column.table in PARTITIONED:  # spares the partitions of earlier days
            conditions.append(column.table.c.key >= literal(lowest, literal_execute=True))
    if flt.until_ns is not None:
        conditions.append(column < flt.until_ns)
    return and_(true(), *conditions)


def plain_conditions(flt: Filter) -> list[ColumnElement[bool]]:
    """What is decided by a span's own row."""
    columns = spans.c
    found: list[ColumnElement[bool]] = []
    for values, column in (
        (flt.provider, columns.provider),
        (flt.operation, columns.operation),
        (flt.kind, columns.kind),
        (flt.user, columns.user_id),
        (flt.session, columns.session_id),
        (flt.trace, columns.trace_id),
    ):
        if values:
            found.append(any_of(column, values))
    if flt.route:
        found.append(any_of(columns.route, flt.route, wildcards=True))
    if flt.model:
        found.append(
            or_(
                any_of(columns.request_model, flt.model, wildcards=True),
                any_of(columns.response_model, flt.model, wildcards=True),
            )
        )
    if flt.status:
        found.append(status_of(flt.status))
    for amount, test in ((flt.min_cost, columns.cost.__ge__), (flt.max_cost, columns.cost.__le__)):
        if amount is not None:
            found.append(test(picodollars(Decimal(repr(amount)))))
    for seconds, test in ((flt.min_latency, columns.duration_ns.__ge__), (flt.max_latency, columns.duration_ns.__le__)):
        if seconds is not None:
            found.append(test(min(BIGGEST, int(seconds * 1e9))))
    return found


def property_groups(flt: Filter) -> Mapping[str, list[str]]:
    """The values asked for by folded name."""
    groups: dict[str, list[str]] = {}
    for label, value in flt.properties:
        groups.setdefault(fold_name(label), []).append(name(value) or "")
    return groups


def entries(flt: Filter, label: str, values: Sequence[str]) -> ColumnElement[bool]:
    columns = properties.c
    return and_(columns.project == name(flt.project), columns.name == label, columns.value.in_(values))


def leading(connection: Connection, flt: Filter) -> Sequence[int] | None:
    """The keys of all rows that meet one of the filter's conditions, where an index has few of them."""
    columns = spans.c
    base = and_(
        columns.project == name(flt.project),
        columns.is_request == literal(1, literal_execute=True),
        in_time(connection, columns.start_ns, flt),
    )
    # one value at a time: where there are several, a planner may think of another index
    tries: list[list[Select[Any]]] = [
        [select(columns.key).where(base, column.is_not(None), column == name(value)) for value in values]
        for values, column in (  # fmt: skip
            (flt.trace, columns.trace_id),
            (flt.session, columns.session_id),
            (flt.user, columns.user_id),
        )
        if values
    ]
    for label, wanted in property_groups(flt).items():
        time = in_time(connection, properties.c.start_ns, flt)
        tries.append([select(properties.c.key).where(entries(flt, label, [value]), time) for value in wanted])
    if flt.status and not any(value == "ok" or value[0].isdigit() for value in flt.status):
        place = 0 if flt.status == ("running",) else len(tries)  # next to nothing runs
        tries.insert(place, [select(columns.key).where(base, status_of([value])) for value in flt.status])
    if flt.model and not any("*" in model for model in flt.model):
        tries.append(
            [
                select(columns.key).where(base, column == name(model))
                for model in flt.model
                for column in (columns.request_model, columns.response_model)
            ]
        )
    for queries in tries:
        keys: set[int] = set()
        for query in queries:
            # where there are too many, that is known before any of them is read
            if len(keys) > FEW or connection.execute(query.offset(FEW).limit(1)).first() is not None:
                break
            keys.update(listed(connection, query))
        else:
            if len(keys) <= FEW:
                return sorted(keys)
    return None


def narrowed(connection: Connection, flt: Filter, *, newest: int | None = None) -> Narrowed:
    """The filter, without project and time, over ``llmobs_spans``.

    Args:
        connection: For reading.
        flt: The filter.
        newest: Where an index leads to few rows, only so many of them that arrived last need be meant.
    """
    if has_words(flt):
        plan_for_words(connection)
    found = found_keys(connection.dialect.name, flt.searched) if flt.text else None
    known = found is None or more_expected(connection, found, 10 * FEW)
    matches = None if known or found is None else listed(connection, found.limit(FEW + 1))
    rare = matches is not None and len(matches) <= FEW
    few = sorted(matches) if rare and matches is not None else leading(connection, flt)
    if few is not None and newest is not None:
        few = few[-newest:]
    where = conditions(connection, flt, text=not rare)
    worded = bool(flt.text and not rare) or any(term.key == "text" for term in terms_of(flt.where))
    if few is None:
        return Narrowed(where, False, worded)
    # ids first: the index is asked once, and nothing else is left to the planner
    return Narrowed(
        and_(among(connection, spans.c.key, few), where), True, worded, (few[0], few[-1]) if few else (0, 0)
    )


def has_words(flt: Filter) -> bool:
    return bool(flt.text) or any(term.key == "text" for term in terms_of(flt.where))


def more_expected(connection: Connection, query: Select[Any], rows: int) -> bool:
    """Whether PostgreSQL, which keeps statistics of words, expects *query* to find more than *rows* by far."""
    if connection.dialect.name == "sqlite":
        return False  # finding the first of them is quick there
    asked = query.compile(dialect=connection.dialect)
    plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {asked}", asked.params).scalar_one()
    return bool(plan[0]["Plan"]["Plan Rows"] > rows)


def meant(connection: Connection, flt: Filter, narrow: Narrowed) -> ColumnElement[bool]:
    """The whole filter over ``llmobs_spans``, of which *narrow* is what :func:`narrowed` found."""
    time = in_time(connection, spans.c.start_ns, flt)
    return and_(REQUESTS.owned(flt.project, narrow.few), REQUESTS.base, time, narrow.where)


def conditions(connection: Connection, flt: Filter, *, text: bool = True) -> ColumnElement[bool]:
    """What the filter says of a span, without project, time and, unless *text*, words."""
    where = plain_conditions(flt)
    where += [has_property(flt.project, label, wanted) for label, wanted in property_groups(flt).items()]
    if flt.where is not None:
        where.append(as_sql(connection, flt.project, flt.where))
    if flt.text and text:
        found = found_keys(connection.dialect.name, flt.searched)
        where.append(false() if found is None else holds(connection, found))
    return and_(true(), *where)


REQUESTS = Ordered(
    spans, spans.c.project, spans.c.start_ns, spans.c.key, spans.c.is_request == literal(1, literal_execute=True)
)


def requests_page(
    connection: Connection, flt: Filter, columns: Sequence[Any], *, cursor: str | None, limit: int
) -> Page:
    """A page of the requests that *flt* means, with *columns* of ``llmobs_spans``."""
    return page_of(
        connection,
        REQUESTS,
        select(spans.c.start_ns, spans.c.key, *columns),
        narrowed(connection, flt),
        project=flt.project,
        time=in_time(connection, spans.c.start_ns, flt),
        cursor=cursor,
        limit=limit,
    )


RANKS: Mapping[str, Any] = {
    "cost": spans.c.cost,
    "latency": spans.c.duration_ns,
    "ttft": spans.c.first_token_ns,
    "tokens": TOKENS,
    "input": spans.c.input_tokens,
    "output": spans.c.output_tokens,
}


def ranked_requests_page(
    connection: Connection,
    flt: Filter,
    columns: Sequence[Any],
    *,
    sort: str,
    lowest: bool,
    cursor: str | None,
    limit: int,
) -> Page:
    """A page of the requests that *flt* means in the order of one of :data:`RANKS`; without a value comes last."""
    rank = ranked(RANKS[sort], lowest)
    return ranked_page(
        connection,
        REQUESTS,
        select(rank, spans.c.key, *columns),
        narrowed(connection, flt),
        rank,
        project=flt.project,
        time=in_time(connection, spans.c.start_ns, flt),
        cursor=cursor,
        limit=limit,
    )


def newest_of(connection: Connection, flt: Filter, columns: Sequence[Any], *, limit: int) -> Sequence[Row[Any]]:
    """*columns* of the newest requests that *flt* means, at most *limit* of them, within one slice."""
    return connection.execute(*newest_query(connection, flt, columns, limit)).all()


def newest_by_column(
    connection: Connection, flt: Filter, columns: Sequence[Any], *, limit: int
) -> Sequence[Sequence[Any]]:
    """What :func:`newest_of` finds, as a list for each of *columns*."""
    return by_column(connection, *newest_query(connection, flt, columns, limit))


def newest_query(
    connection: Connection, flt: Filter, columns: Sequence[Any], limit: int
) -> tuple[Select[Any], Mapping[str, int]]:
    narrow, time = narrowed(connection, flt, newest=NEWEST), spans.c.start_ns
    base = and_(REQUESTS.owned(flt.project, narrow.few), REQUESTS.base, in_time(connection, time, flt))
    if narrow.few:
        time = time + 0  # no index by time is walked for them
    else:
        base = cut(REQUESTS, base, slice_edge(connection, REQUESTS, base, False))
    query = select(*columns).where(base, narrow.where).order_by(time.desc(), spans.c.key.desc()).limit(limit)
    return query, key_range(connection, REQUESTS, base, narrow)


def arrived_after(
    connection: Connection, flt: Filter, columns: Sequence[Any], key: int, *, limit: int
) -> Sequence[Row[Any]]:
    """*columns* of the requests that *flt* means and that arrived after the row with *key*, in this order."""
    if has_words(flt):
        plan_for_words(connection)
    base = and_(spans.c.project == name(flt.project), REQUESTS.base, in_time(connection, spans.c.start_ns, flt))
    query = select(*columns).where(base, spans.c.key > key, conditions(connection, flt))
    return connection.execute(query.order_by(spans.c.key).limit(limit)).all()


LEADING = ("outcome", "user_id", "session_id", "trace_id", "request_model", "response_model")  # indexes begin with them
# what stands behind each is what its index of the spans covers
TRACES = Ordered(
    traces, traces.c.project, traces.c.start_ns, traces.c.trace_id, true(),
    Members(
        spans.c.key,
        and_(spans.c.project == traces.c.project, spans.c.trace_id == traces.c.trace_id),
        traces.c.start_ns,
    ),
)  # fmt: skip
SESSIONS = Ordered(
    sessions, sessions.c.project, sessions.c.end_ns, sessions.c.session_id, true(),
    Members(
        spans.c.key,
        and_(spans.c.project == sessions.c.project, spans.c.session_id == sessions.c.session_id, REQUESTS.base),
        sessions.c.start_ns,
    ),
)  # fmt: skip


GROUP_RANKS: Mapping[str, Mapping[str, Any]] = {
    "traces": {
        "duration": traces.c.duration_ns,
        "cost": traces.c.cost,
        "tokens": traces.c.input_tokens + func.coalesce(traces.c.output_tokens, 0),
        "requests": traces.c.requests,
        "errors": traces.c.errors,
    },
    "sessions": {
        "duration": sessions.c.end_ns - sessions.c.start_ns,
        "cost": sessions.c.cost,
        "tokens": sessions.c.input_tokens + sessions.c.output_tokens,
        "requests": sessions.c.requests,
        "turns": sessions.c.traces,
        "errors": sessions.c.errors,
    },
}


def traces_page(
    connection: Connection, flt: Filter, columns: Sequence[Any], *, cursor: str | None, limit: int,
    sort: str = "time", lowest: bool = False,
) -> Page:  # fmt: skip
    """A page of the traces with a request that *flt* means, with *columns* of ``llmobs_traces``.

    It is in the order of their start, or of one of :data:`GROUP_RANKS` as :func:`ranked_page` is.
    """
    rank = ranked(GROUP_RANKS["traces"][sort], lowest) if sort != "time" else None
    time = in_time(connection, traces.c.start_ns, flt)
    return groups_page(
        connection, flt, TRACES, spans.c.trace_id, time, columns, rank, cursor=cursor, limit=limit
    )  # fmt: skip


def sessions_page(
    connection: Connection, flt: Filter, columns: Sequence[Any], *, cursor: str | None, limit: int,
    sort: str = "time", lowest: bool = False,
) -> Page:  # fmt: skip
    """The same of sessions, with *columns* of ``llmobs_sessions``; their time is that of their last end."""
    rank = ranked(GROUP_RANKS["sessions"][sort], lowest) if sort != "time" else None
    low = and_(true(), *([sessions.c.end_ns >= flt.since_ns] if flt.since_ns is not None else []))
    high = and_(true(), *([sessions.c.start_ns < flt.until_ns] if flt.until_ns is not None else []))
    return groups_page(
        connection, flt, SESSIONS, spans.c.session_id, and_(low, high), columns, rank, cursor=cursor, limit=limit
    )


def ranked(value: Any, lowest: bool) -> ColumnElement[int]:
    """Highest first, or lowest; what has no value comes last."""
    return func.coalesce(-value, -BIGGEST) if lowest else func.coalesce(value, -1)


def groups_page(
    connection: Connection,
    flt: Filter,
    ordered: Ordered,
    member: Any,
    time: ColumnElement[bool],
    columns: Sequence[Any],
    rank: ColumnElement[int] | None,
    *,
    cursor: str | None,
    limit: int,
) -> Page:
    """A page of traces or sessions; *member* is the column of ``llmobs_spans`` that holds their key."""
    narrow = groups_narrowed(connection, flt, ordered, member)
    where: dict[str, Any] = {"project": flt.project, "time": time, "cursor": cursor, "limit": limit}
    if rank is None:
        return page_of(connection, ordered, select(ordered.time, ordered.key, *columns), narrow, **where)
    query = select(rank, ordered.key, ordered.time, *columns)
    return ranked_page(connection, ordered, query, narrow, rank, **where)


def groups_narrowed(connection: Connection, flt: Filter, ordered: Ordered, member: Any) -> Narrowed:
    """The filter, without project and time, over the table of *ordered*: what has a request that it means."""
    narrow = narrowed(connection, flt)
    if is_true(narrow.where):
        return narrow
    frequent = narrow.worded and bool(flt.text) and connection.dialect.name == "sqlite"
    wanted = and_(meant(connection, flt, narrow._replace(few=narrow.few or frequent)), member.is_not(None))
    if narrow.few:
        own = select(member).where(wanted).distinct()
        groups = listed(connection, own, key_range(connection, REQUESTS, wanted, narrow))
        return Narrowed(among(connection, ordered.key, groups), True)
    if frequent:
        # asked once for all: below an EXISTS the full-text index would be asked for every row
        return Narrowed(ordered.key.in_(select(member).where(wanted)), False, True)
    # one look for each trace or session: any other index would be gone through from its beginning each time
    others = [spans.c[label] for label in LEADING if label != member.name]
    own = select(literal(1)).where(aside(wanted, others), member == ordered.key).correlate(ordered.table)
    if connection.dialect.name != "sqlite":
        # with an offset it is asked of each row; else the planner looks for all that is meant, wherever it is stored
        own = own.where(spans.c.key >= bindparam(FIRST_KEY, 0, type_=BigInteger)).offset(0)
    return Narrowed(own.exists(), False, narrow.worded)


def aside(condition: ColumnElement[bool], columns: Sequence[Any]) -> ColumnElement[bool]:
    """The same condition, in a form for which no index of *columns* is used."""

    def replaced(element: Any, **_: Any) -> Any:
        return element.concat("") if any(element is column for column in columns) else None

    return replacement_traverse(condition, {}, replaced)
