"""The only place where a filter becomes SQL.

A page of a list is found in one of two ways. Where one of the filter's conditions has an index and few rows meet it
(a trace, a session, a rare property or word), these rows are all looked at. Otherwise the newest rows are looked at
in a slice of bounded size, and where the page is not full by then, the next one searches further back.
"""

import base64
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    and_,
    bindparam,
    exists,
    false,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.sql import literal

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.store.rows import fold_name
from asgi_llmobs.store.search import found_keys
from asgi_llmobs.store.tables import PropertyRow, SessionRow, SpanRow, TraceRow
from asgi_llmobs.store.values import BIGGEST, name, picodollars

__all__ = [
    "COUNT_LIMIT", "REQUESTS", "Cursor", "Listing", "Page", "before", "requests_page", "sessions_page", "traces_page"
]

COUNT_LIMIT = 10_001
SLICE = 5_000  # rows that one page looks at where no index helps
FEW = 5_000  # rows that meet a condition, up to which it leads the search
MAX_LIMIT = 500

T = TypeVar("T")

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
properties: Any = PropertyRow.__table__  # type: ignore[attr-defined]
traces: Any = TraceRow.__table__  # type: ignore[attr-defined]
sessions: Any = SessionRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[T]):
    """One page of a list, newest first.

    ``partial`` is true where the search stopped before the page was full although older rows exist;
    ``next_cursor`` then searches further back. ``count`` counts at most 10,001 rows; ``count_capped`` says that
    there are, or may be, more.
    """

    rows: Sequence[T]
    next_cursor: str | None = None
    previous_cursor: str | None = None
    count: int = 0
    count_capped: bool = False
    partial: bool = False


class Cursor(NamedTuple):
    """A place in a list that is ordered by time and then key: what follows is older, or with ``newer`` newer."""

    time_ns: int
    key: int | str
    newer: bool = False

    def __str__(self) -> str:
        tail = str(self.key).encode()
        text = struct.pack(">?q?", self.newer, self.time_ns, isinstance(self.key, str)) + tail
        return base64.urlsafe_b64encode(text).decode().rstrip("=")

    @classmethod
    def read(cls, text: str | None, kind: type) -> "Cursor | None":
        """The cursor behind *text*.

        Raises:
            FilterError: It is none of ours.
        """
        if not text:
            return None
        try:
            data = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
            newer, time_ns, is_text = struct.unpack_from(">?q?", data)
            tail = data[10:].decode()
            if is_text is not (kind is str):
                raise ValueError
            key: int | str = tail if is_text else int(tail)
            if isinstance(key, int) and not 0 <= key <= BIGGEST:
                raise ValueError
        except (ValueError, struct.error):
            raise FilterError("cursor", "this is no cursor of this list; leave it out to begin at the newest") from None
        return cls(time_ns, key, newer)


class Ordered(NamedTuple):
    """What a list pages over: a table, and its columns of project, time and key, which have an index together."""

    table: FromClause
    project: Any
    time: Any
    key: Any
    base: ColumnElement[bool]


class Page(NamedTuple):
    """What :func:`page_of` found: rows newest first, and where to go on."""

    rows: Sequence[Row[Any]]
    next_cursor: str | None
    previous_cursor: str | None
    total: int
    capped: bool
    partial: bool

    def listing(self, make: Callable[[Row[Any]], T]) -> Listing[T]:
        """The page with a value made of each row."""
        return Listing(
            rows=[make(row) for row in self.rows],
            next_cursor=self.next_cursor,
            previous_cursor=self.previous_cursor,
            count=self.total,
            count_capped=self.capped,
            partial=self.partial,
        )


class Narrowed(NamedTuple):
    """A filter as SQL: *where* holds for its rows; *few* is true where an index leads to few enough of them."""

    where: ColumnElement[bool]
    few: bool


def any_of(column: Any, values: Sequence[str], *, wildcards: bool = False) -> ColumnElement[bool]:
    exact = [name(value) for value in values if not (wildcards and "*" in value)]
    conditions: list[ColumnElement[bool]] = [column.in_(exact)] if exact else []
    for value in values:
        if wildcards and "*" in value:
            pattern = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
            conditions.append(column.like(pattern, escape="\\"))
    return or_(false(), *conditions)


def status_of(values: Sequence[str]) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = []
    for value in values:
        if value.endswith("xx"):
            low = int(value[0]) * 100
            conditions.append(spans.c.status.between(low, low + 99))
        elif value.isdigit():
            conditions.append(spans.c.status == int(value))
        else:
            conditions.append(spans.c.outcome == value)
            if value != "ok":
                # the words of the partial index
                conditions[-1] = and_(conditions[-1], spans.c.outcome != literal("ok", literal_execute=True))
    return or_(false(), *conditions)


def in_time(column: Any, flt: Filter) -> ColumnElement[bool]:
    """That *column* lies in the filter's time range."""
    conditions: list[ColumnElement[bool]] = []
    if flt.since_ns is not None:
        conditions.append(column >= flt.since_ns)
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


def integers(values: Sequence[int]) -> Any:
    """Integers as they stand in the statement: as parameters there could be too many of them."""
    return bindparam(None, values, expanding=True, literal_execute=True, type_=BigInteger)


def is_few(connection: Connection, keys: Select[Any]) -> bool:
    """Whether *keys* gives at most :data:`FEW` rows."""
    limited = keys.order_by(None).limit(FEW + 1).subquery()
    return (connection.execute(select(func.count()).select_from(limited)).scalar() or 0) <= FEW


def narrowed(connection: Connection, flt: Filter) -> Narrowed:
    """The filter, without project and time, over ``llmobs_spans``."""
    columns = spans.c
    where = plain_conditions(flt)
    few = False
    base = and_(columns.project == name(flt.project), columns.is_request == literal(1, literal_execute=True))
    places = ((flt.trace, columns.trace_id), (flt.session, columns.session_id), (flt.user, columns.user_id))
    for values, column in places:
        if values and not few:
            known = and_(base, column.is_not(None), any_of(column, values), in_time(columns.start_ns, flt))
            few = is_few(connection, select(columns.key).where(known))
    if flt.status and not few and not any(value == "ok" or value[0].isdigit() for value in flt.status):
        known = and_(base, status_of(flt.status), in_time(columns.start_ns, flt))
        few = is_few(connection, select(columns.key).where(known))
    for label, wanted in property_groups(flt).items():
        holds = and_(entries(flt, label, wanted), in_time(properties.c.start_ns, flt))
        if not few and is_few(connection, select(properties.c.key).where(holds)):
            few = True
            where.append(columns.key.in_(select(properties.c.key).where(holds)))
        else:
            own = and_(holds, properties.c.start_ns == columns.start_ns, properties.c.key == columns.key)
            where.append(exists().where(own).correlate(spans))
    if flt.text:
        keys = found_keys(connection.dialect.name, flt.text)
        if keys is None:
            where.append(false())
        else:
            found = connection.execute(keys.limit(FEW + 1)).scalars().all()
            few = few or len(found) <= FEW
            # ids first: the index is asked once, not for every row
            where.append(columns.key.in_(integers(found) if len(found) <= FEW else keys))
    if flt.model and not few and not any("*" in model for model in flt.model):
        models = [name(model) for model in flt.model]
        named = [
            and_(base, column.in_(models), in_time(columns.start_ns, flt))
            for column in (columns.request_model, columns.response_model)
        ]
        few = all(is_few(connection, select(columns.key).where(one)) for one in named)
    return Narrowed(and_(true(), *where), few)


def before(ordered: Ordered, cursor: Cursor | None) -> ColumnElement[bool]:
    """That a row lies beyond the cursor, in its direction."""
    if cursor is None:
        return true()
    time, key = ordered.time, ordered.key
    if cursor.newer:
        return and_(time >= cursor.time_ns, or_(time > cursor.time_ns, key > cursor.key))
    return and_(time <= cursor.time_ns, or_(time < cursor.time_ns, key < cursor.key))


def page_of(
    connection: Connection,
    ordered: Ordered,
    query: Select[Any],
    narrow: Narrowed,
    *,
    project: str,
    time: ColumnElement[bool],
    cursor: str | None,
    limit: int,
) -> Page:
    """A page of *query*, whose first two columns are the time and the key of *ordered*."""
    at = Cursor.read(cursor, str if ordered.key.type.python_type is str else int)
    limit = max(1, min(limit, MAX_LIMIT))
    newer = at is not None and at.newer
    base = and_(ordered.project == name(project), ordered.base, time)
    span = and_(base, before(ordered, at))
    direction = (ordered.time.asc(), ordered.key.asc()) if newer else (ordered.time.desc(), ordered.key.desc())
    edge = None if narrow.few else slice_edge(connection, ordered, span, newer)
    if edge is not None:
        span = and_(span, inside(ordered, edge, newer))
    found = connection.execute(query.where(span, narrow.where).order_by(*direction).limit(limit + 1)).all()
    more, rows = len(found) > limit, list(found[:limit])
    partial = not more and edge is not None
    if newer:
        rows.reverse()
    count, capped = counted(connection, ordered, base, narrow)
    last = Cursor(rows[-1][0], rows[-1][1]) if rows else None
    first = Cursor(rows[0][0], rows[0][1], True) if rows else None
    onwards = Cursor(edge[0], edge[1], newer) if edge is not None else None
    if newer:
        # whoever came from an older page can always go back there
        next_cursor = last or (at._replace(newer=False) if at else None)
        previous_cursor = first if more else onwards if partial else None
    else:
        next_cursor = last if more else onwards if partial else None
        previous_cursor = first if at is not None and rows else at._replace(newer=True) if at is not None else None
    return Page(
        rows, str(next_cursor) if next_cursor else None, str(previous_cursor) if previous_cursor else None, count,
        capped, partial,
    )  # fmt: skip


def slice_edge(connection: Connection, ordered: Ordered, span: ColumnElement[bool], newer: bool) -> Any:
    """Time and key of the last row of the slice; ``None`` where fewer rows are left than it takes."""
    direction = (ordered.time.asc(), ordered.key.asc()) if newer else (ordered.time.desc(), ordered.key.desc())
    query = select(ordered.time, ordered.key).where(span).order_by(*direction).limit(1).offset(SLICE - 1)
    return connection.execute(query).first()


def inside(ordered: Ordered, edge: Any, newer: bool) -> ColumnElement[bool]:
    time, key = ordered.time, ordered.key
    if newer:
        return and_(time <= edge[0], or_(time < edge[0], key <= edge[1]))
    return and_(time >= edge[0], or_(time > edge[0], key >= edge[1]))


def counted(
    connection: Connection, ordered: Ordered, base: ColumnElement[bool], narrow: Narrowed
) -> tuple[int, bool]:
    """How many rows the whole list has, counted up to the limit and over a bounded number of rows."""
    where = and_(base, narrow.where)
    edge = None
    if not narrow.few and not is_true(narrow.where):
        reach = select(ordered.time, ordered.key).where(base)
        edge = connection.execute(
            reach.order_by(ordered.time.desc(), ordered.key.desc()).limit(1).offset(COUNT_LIMIT - 1)
        ).first()
        if edge is not None:
            where = and_(where, inside(ordered, edge, False))
    limited = select(ordered.key).where(where).limit(COUNT_LIMIT).subquery()
    count = connection.execute(select(func.count()).select_from(limited)).scalar() or 0
    return count, count >= COUNT_LIMIT or edge is not None


def is_true(condition: ColumnElement[bool]) -> bool:
    return str(condition) in ("true", "1 = 1", "")


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
        time=in_time(spans.c.start_ns, flt),
        cursor=cursor,
        limit=limit,
    )


TRACES = Ordered(traces, traces.c.project, traces.c.start_ns, traces.c.trace_id, true())
SESSIONS = Ordered(sessions, sessions.c.project, sessions.c.end_ns, sessions.c.session_id, true())


def traces_page(
    connection: Connection, flt: Filter, columns: Sequence[Any], *, cursor: str | None, limit: int
) -> Page:
    """A page of the traces with a request that *flt* means, with *columns* of ``llmobs_traces``."""
    return groups_page(
        connection, flt, TRACES, spans.c.trace_id, in_time(traces.c.start_ns, flt), columns, cursor=cursor, limit=limit
    )


def sessions_page(
    connection: Connection, flt: Filter, columns: Sequence[Any], *, cursor: str | None, limit: int
) -> Page:
    """A page of the sessions with a request that *flt* means, with *columns* of ``llmobs_sessions``."""
    low = and_(true(), *([sessions.c.end_ns >= flt.since_ns] if flt.since_ns is not None else []))
    high = and_(true(), *([sessions.c.start_ns < flt.until_ns] if flt.until_ns is not None else []))
    return groups_page(
        connection, flt, SESSIONS, spans.c.session_id, and_(low, high), columns, cursor=cursor, limit=limit
    )


def groups_page(
    connection: Connection,
    flt: Filter,
    ordered: Ordered,
    member: Any,
    time: ColumnElement[bool],
    columns: Sequence[Any],
    *,
    cursor: str | None,
    limit: int,
) -> Page:
    """A page of traces or sessions; *member* is the column of ``llmobs_spans`` that holds their key."""
    narrow = narrowed(connection, flt)
    if not is_true(narrow.where):
        wanted = and_(
            spans.c.project == name(flt.project), REQUESTS.base, member.is_not(None), in_time(spans.c.start_ns, flt),
            narrow.where,
        )  # fmt: skip
        if narrow.few:
            narrow = Narrowed(ordered.key.in_(select(member).where(wanted)), True)
        else:
            own = exists().where(wanted, member == ordered.key).correlate(ordered.table)
            narrow = Narrowed(own, False)
    return page_of(
        connection,
        ordered,
        select(ordered.time, ordered.key, *columns),
        narrow,
        project=flt.project,
        time=time,
        cursor=cursor,
        limit=limit,
    )
