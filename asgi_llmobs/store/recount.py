"""Every total counted anew from the rows, piece by piece, to prove the stored one or to take its place."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, func, select, text

from asgi_llmobs.store.database import in_chunks, insert
from asgi_llmobs.store.rollups import DAY_HOURS, HOUR_NS, SKETCHES, Series, rollup_rows, summed_day, user_rollup_rows
from asgi_llmobs.store.sessions import session_row
from asgi_llmobs.store.sketches import unpacked
from asgi_llmobs.store.sums import Counted, mark_of
from asgi_llmobs.store.tables import (
    RollupRow,
    SeriesRow,
    SessionRow,
    SpanRow,
    TraceRow,
    UserRollupRow,
    UserRow,
)
from asgi_llmobs.store.totals import members_of, trace_row
from asgi_llmobs.store.users import user_row

__all__ = ["Difference", "Piece", "pieces", "recounted", "recounted_day"]

DAY_NS = DAY_HOURS * HOUR_NS
PAGE = 100  # traces, sessions or users of a piece

_spans = SpanRow.__table__  # type: ignore[attr-defined]
_traces = TraceRow.__table__  # type: ignore[attr-defined]
_sessions = SessionRow.__table__  # type: ignore[attr-defined]
_users = UserRow.__table__  # type: ignore[attr-defined]
_user_rollups = UserRollupRow.__table__  # type: ignore[attr-defined]
_rollups = RollupRow.__table__  # type: ignore[attr-defined]
_series = SeriesRow.__table__  # type: ignore[attr-defined]

COLUMNS = [_spans.c[name] for name in Counted._fields]
REQUEST = _spans.c.is_request == 1
IDS = """
SELECT id FROM (SELECT DISTINCT {column} AS id FROM llmobs_spans WHERE project = {mark} AND {column} > {mark}
  AND {which} ORDER BY id LIMIT {limit}) counted
UNION SELECT id FROM (SELECT DISTINCT {column} AS id FROM {table} WHERE project = {mark} AND {column} > {mark} {where}
  ORDER BY id LIMIT {limit}) stored
ORDER BY id LIMIT {limit}
"""

# the rows of a day of a table of rollups: its own, and those of its hours
ON_DAY = (
    f"((hours = {DAY_HOURS} AND start = {{day}}) OR (hours = 1 AND start >= {{day}} * {DAY_HOURS} "
    f"AND start < ({{day}} + 1) * {DAY_HOURS}))"
)

Row = tuple[Any, ...]


class Difference(NamedTuple):
    """A row of a total that is not what its requests add up to; ``None`` where there is none, or should be none."""

    table: str
    key: Row
    stored: Mapping[str, Any] | None
    counted: Mapping[str, Any] | None

    def words(self) -> str:
        """What differs, for people."""
        if self.stored is None or self.counted is None:
            return "is missing" if self.stored is None else "has no rows"
        changes = [
            f"{column} {value} instead of {self.counted[column]}"
            for column, value in self.stored.items()
            if value != self.counted[column] and not isinstance(value, bytes)
        ]
        return ", ".join(changes) or "a sketch differs"


class Piece(NamedTuple):
    """A part of one table: how its rows are found, and how they are counted."""

    table: Table
    stored: Any  # a condition on the table
    rows: Callable[[Connection], list[Row]]
    series: dict[int, Series]  # of the rows, once they are counted


def recounted(connection: Connection, piece: Piece, *, write: bool) -> list[Difference]:
    """What of *piece* is not as counted; put right where *write*, in the caller's write transaction."""
    table = piece.table
    width = len(table.primary_key.columns)
    counted = {row[:width]: row for row in piece.rows(connection)}
    stored = {tuple(row)[:width]: tuple(row) for row in connection.execute(select(table).where(piece.stored))}
    found = [
        Difference(table.name, key, named(table, stored.get(key)), named(table, counted.get(key)))
        for key in sorted({*counted, *stored})
        if comparable(table, stored.get(key)) != comparable(table, counted.get(key))
    ]
    unnamed = series_without_row(connection, piece.series)
    found += [Difference(_series.name, (key,), None, piece.series[key]._asdict()) for key in unnamed]
    if write and found:
        insert(connection, _series, [(key, *piece.series[key]) for key in unnamed])
        connection.execute(table.delete().where(piece.stored))
        insert(connection, table, list(counted.values()))
    return found


def comparable(table: Table, row: Row | None) -> Row | None:
    sketches = len(SKETCHES.get(table, ()))
    return row if row is None or not sketches else (*row[:-sketches], *map(unpacked, row[-sketches:]))


def named(table: Table, row: Row | None) -> dict[str, Any] | None:
    return None if row is None else dict(zip((column.name for column in table.columns), row, strict=True))


def pieces(ask: Callable[[Callable[[Connection], Any]], Any], project: str) -> Iterator[Piece]:
    """All that is counted of *project*, in pieces that take a moment each.

    Args:
        ask: Runs a question in a transaction of its own.
        project: Its stored name.
    """
    for ids in pages(ask, project, "trace_id", _traces):
        yield Piece(_traces, both(_traces, project, _traces.c.trace_id, ids), trace_counter(project, ids), {})
    for ids in pages(ask, project, "session_id", _sessions, "is_request = 1"):
        yield Piece(
            _sessions, both(_sessions, project, _sessions.c.session_id, ids),
            by_column(project, "session_id", ids, session_row), {},
        )  # fmt: skip
    for ids in pages(ask, project, "user_id", _users, "is_request = 1"):
        yield Piece(
            _users, both(_users, project, _users.c.user_id, ids), by_column(project, "user_id", ids, user_row), {}
        )  # fmt: skip
    yield from daily(ask, project)


def daily(ask: Callable[[Callable[[Connection], Any]], Any], project: str) -> Iterator[Piece]:
    """Rollups of every hour, then of its day; then the users of that day."""
    day = -1
    while (found := ask(partial(next_day, project=project, first=day + 1))) is not None:
        day = found
        for hour in range(day * DAY_HOURS, (day + 1) * DAY_HOURS):
            series: dict[int, Series] = {}
            yield Piece(_rollups, rollup_at(project, 1, hour), hour_counter(project, hour, series), series)
        yield of_whole_day(project, day)
        which = f"is_request = 1 AND start_ns >= {day * DAY_NS} AND start_ns < {(day + 1) * DAY_NS}"
        for ids in pages(ask, project, "user_id", _user_rollups, which, f"AND {ON_DAY.format(day=day)}"):
            stored = both(_user_rollups, project, _user_rollups.c.user_id, ids) & text(ON_DAY.format(day=day))
            yield Piece(_user_rollups, stored, user_counter(project, ids, day), {})


def of_whole_day(project: str, day: int) -> Piece:
    return Piece(_rollups, rollup_at(project, DAY_HOURS, day), day_counter(_rollups, project, day), {})


def recounted_day(connection: Connection, project: str, day: int) -> None:
    """Add up the rollups of a *day*, counted from 1970, anew from those of its hours.

    Args:
        connection: In a write transaction.
        project: Its stored name.
        day: In UTC.
    """
    recounted(connection, of_whole_day(project, day), write=True)
    columns = _user_rollups.c
    stored = (columns.project == project) & (columns.hours == DAY_HOURS) & (columns.start == day)
    recounted(connection, Piece(_user_rollups, stored, day_counter(_user_rollups, project, day), {}), write=True)


def both(table: Table, project: str, column: Any, ids: Sequence[str]) -> Any:
    return (table.c.project == project) & column.in_(ids)


def rollup_at(project: str, hours: int, start: int) -> Any:
    columns = _rollups.c
    return (columns.project == project) & (columns.hours == hours) & (columns.start == start)


def pages(
    ask: Callable[[Callable[[Connection], Any]], Any], project: str, column: str, table: Table, which: str = "1 = 1",
    where: str = "",
) -> Iterator[list[str]]:  # fmt: skip
    """The ids that rows name, and those that the table has, a page at a time."""
    after = ""

    def page(connection: Connection) -> list[str]:
        statement = IDS.format(
            column=column, table=table.name, which=which, where=where, limit=PAGE, mark=mark_of(connection)
        )
        return list(connection.exec_driver_sql(statement, (project, after, project, after)).scalars())

    if ask(lambda connection: named_nothing(connection, project, column, table)):
        yield [""]  # an empty name is a name
    while ids := ask(page):
        yield ids
        after = ids[-1]


def named_nothing(connection: Connection, project: str, column: str, table: Table) -> bool:
    return any(
        connection.execute(
            select(where.c[column]).where(where.c.project == project, where.c[column] == "").limit(1)
        ).first()
        for where in (_spans, table)
    )


def trace_counter(project: str, ids: Sequence[str]) -> Callable[[Connection], list[Row]]:
    def count(connection: Connection) -> list[Row]:
        members = members_of(connection, project, ids)
        return [trace_row(project, trace, found) for trace, found in members.items() if found]

    return count


def by_column(
    project: str, column: str, ids: Sequence[str], row_of: Callable[[str, str, Sequence[Counted]], Row]
) -> Callable[[Connection], list[Row]]:  # fmt: skip
    def count(connection: Connection) -> list[Row]:
        groups: dict[str, list[Counted]] = defaultdict(list)
        for row in rows_of(connection, requests_of(project, column, ids)):
            groups[getattr(row, column)].append(row)
        return [row_of(project, id, rows) for id, rows in groups.items()]

    return count


def user_counter(project: str, ids: Sequence[str], day: int) -> Callable[[Connection], list[Row]]:
    def count(connection: Connection) -> list[Row]:
        began = (_spans.c.start_ns >= day * DAY_NS) & (_spans.c.start_ns < (day + 1) * DAY_NS)
        return user_rollup_rows(rows_of(connection, requests_of(project, "user_id", ids) & began))

    return count


def requests_of(project: str, column: str, ids: Sequence[str]) -> Any:
    named = _spans.c[column]
    return (_spans.c.project == project) & REQUEST & named.in_(ids) & named.is_not(None)


def rows_of(connection: Connection, chosen: Any) -> Iterator[Counted]:
    for row in connection.execute(select(*COLUMNS).where(chosen)):
        yield Counted._make(row)


def hour_counter(project: str, hour: int, series: dict[int, Series]) -> Callable[[Connection], list[Row]]:
    def count(connection: Connection) -> list[Row]:
        low = hour * HOUR_NS
        began = (_spans.c.start_ns >= low) & (_spans.c.start_ns < low + HOUR_NS)
        found = rollup_rows(rows_of(connection, (_spans.c.project == project) & REQUEST & began))
        series.update(found.series)
        return found.rows

    return count


def series_without_row(connection: Connection, series: Iterable[int]) -> list[int]:
    known: set[int] = set()
    for chunk in in_chunks(series):
        known.update(connection.execute(select(_series.c.key).where(_series.c.key.in_(chunk))).scalars())
    return [key for key in series if key not in known]


def day_counter(table: Table, project: str, day: int) -> Callable[[Connection], list[Row]]:
    def count(connection: Connection) -> list[Row]:
        low = day * DAY_HOURS
        columns = table.c
        hours = (columns.hours == 1) & (columns.start >= low) & (columns.start < low + DAY_HOURS)
        rows = connection.execute(select(table).where((columns.project == project) & hours))
        return summed_day([tuple(row) for row in rows], day, len(SKETCHES[table]))

    return count


def next_day(connection: Connection, project: str, first: int) -> int | None:
    """The first day from *first* on that has requests, or totals."""
    spans = select(func.min(_spans.c.start_ns)).where(_spans.c.project == project, REQUEST)
    start = connection.execute(spans.where(_spans.c.start_ns >= first * DAY_NS)).scalar()
    found = [None if start is None else start // DAY_NS]
    for table in (_rollups, _user_rollups):
        columns = table.c
        own = select(func.min(columns.start)).where(columns.project == project)
        found.append(connection.execute(own.where(columns.hours == DAY_HOURS, columns.start >= first)).scalar())
        hour = connection.execute(own.where(columns.hours == 1, columns.start >= first * DAY_HOURS)).scalar()
        found.append(None if hour is None else hour // DAY_HOURS)
    return min((one for one in found if one is not None), default=None)


def projects_of(connection: Connection) -> list[str]:
    """Every project that has a span or a total."""
    found: set[str] = set()
    for table in (_spans, _traces, _sessions, _users, _user_rollups, _rollups):
        found.update(distinct(connection, table))
    return sorted(found)


def distinct(connection: Connection, table: Table) -> Iterable[str]:
    last = None
    while True:
        query = select(func.min(table.c.project))
        last = connection.execute(query if last is None else query.where(table.c.project > last)).scalar()
        if last is None:
            return
        yield last
