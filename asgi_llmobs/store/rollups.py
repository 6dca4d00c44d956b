"""Rollups: what requests add up to by the hour and by the day, for each series of those that are alike and each user.

A series is found by a hash of what its requests have in common, so that no writer has to ask for it or agree on it with
others. There are never more rows than requests, and far fewer where models and routes are few. Users have a table of
their own: there may be as many of them as there are requests, and no dashboard has to read past them.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table

from asgi_llmobs.pace import paced
from asgi_llmobs.store.database import in_chunks
from asgi_llmobs.store.sketches import bin_of, changed, packed, summed, unpacked
from asgi_llmobs.store.sums import MOST_COST, MOST_TOKENS, Counted, add_to, known, mark_of, sums
from asgi_llmobs.store.tables import RollupRow, SeriesRow, UserRollupRow

__all__ = [
    "DAY_HOURS",
    "HOUR_NS",
    "Rolled",
    "RollupRows",
    "Series",
    "roll",
    "rolled",
    "rollup_rows",
    "series_of",
    "summed_day",
    "summed_columns",
    "user_rollup_rows",
]

HOUR_NS = 3_600_000_000_000
DAY_HOURS = 24
MOST_NS = 10**15  # of a duration in the sum: eleven days
WIDTH = 4  # columns of a place

_rollups = RollupRow.__table__  # type: ignore[attr-defined]
_users = UserRollupRow.__table__  # type: ignore[attr-defined]
_series = SeriesRow.__table__  # type: ignore[attr-defined]


def sketch_columns(table: Table) -> tuple[str, ...]:
    """The columns of a table of rollups that hold sketches: its last ones."""
    return tuple(column.name for column in table.columns if column.type.python_type is bytes)


def summed_columns(table: Table) -> tuple[str, ...]:
    """The columns of a table of rollups that hold sums."""
    return tuple(column.name for column in table.columns)[WIDTH : -len(sketch_columns(table))]


SKETCHES = {table: sketch_columns(table) for table in (_rollups, _users)}
SUMMED = {table: summed_columns(table) for table in (_rollups, _users)}


class Series(NamedTuple):
    """What the requests of one series have in common; empty or 0 is what they do not say."""

    project: str
    provider: str
    model: str  # as it was asked for, else as it answered
    operation: str
    outcome: str
    status: int
    route: str


class Rolled(NamedTuple):
    """What requests add up to, or by how much that changes: the columns of a table that are sums, and its sketches."""

    sums: tuple[int, ...]
    sketches: tuple[Mapping[int, int], ...]


class RollupRows(NamedTuple):
    """Rows of the table, and the series that they are of."""

    rows: list[tuple[Any, ...]]
    series: Mapping[int, Series]


Place = tuple[str, int, int, Any]  # project, hours, start, series or user: the primary key


KIND = itemgetter(
    *map(
        Counted._fields.index,
        ("project", "provider", "request_model", "response_model", "operation", "outcome", "status", "route"),
    )
)


@lru_cache(maxsize=4096)
def series_of(kind: tuple[Any, ...]) -> Series:
    """The series of requests with these columns, which ``KIND`` names."""
    project, provider, asked, answered, operation, outcome, status, route = kind
    return Series(
        project, provider or "", asked or answered or "", operation or "", outcome, status or 0, route or ""
    )  # fmt: skip


@lru_cache(maxsize=4096)
def series_key(series: Series) -> int:
    """The key of a series in the database: the same wherever it is made."""
    text = "\0".join(map(str, series))  # no stored text holds a NUL
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def rolled(rows: Sequence[Counted]) -> Rolled:
    """What *rows*, all of one series, add up to."""
    found: Any = Counted(*zip(*rows, strict=True))  # type: ignore[arg-type]
    priced, cost = known(found.cost, MOST_COST)
    inputs = known(found.input_tokens, MOST_TOKENS)
    outputs = known(found.output_tokens, MOST_TOKENS)
    details = [known(found[place], MOST_TOKENS)[1] for place in DETAILS]
    count, running = len(found.outcome), found.outcome[0] == "running"
    timed = duration = 0
    latency: Mapping[int, int] = {}
    if not running:
        timed, duration = known(found.duration_ns, MOST_NS)
        latency = bins_of(found.duration_ns)
    first = bins_of(found.first_token_ns)
    unpriced = 0 if running else count - priced
    return Rolled((count, priced, unpriced, cost, *inputs, *outputs, *details, timed, duration), (latency, first))


def bins_of(durations: Iterable[int | None]) -> Mapping[int, int]:
    return Counter([bin_of(value) for value in durations if value is not None])


DETAILS = tuple(
    map(
        Counted._fields.index,
        ("cache_read", "cache_write", "reasoning", "audio_input", "audio_output", "image_input", "image_output",
         "estimated", "truncated", "calls_tools"),
    )
)  # fmt: skip


def of_user(rows: Sequence[Counted]) -> Rolled:
    """What *rows*, all of one user, add up to."""
    return Rolled(sums(rows), (bins_of(row.duration_ns for row in rows if row.outcome != "running"),))


def roll(connection: Connection, rows: Sequence[Counted], less: Sequence[Counted] = ()) -> None:
    """Add requests to the rollups, and take *less* away from them."""
    series: dict[int, Series] = {}
    hours = by_series(rows, less, series)
    if not hours:
        return
    if apply(connection, _rollups, with_days(hours)):
        mark = mark_of(connection)
        connection.exec_driver_sql(
            f"INSERT INTO {_series.name} VALUES ({', '.join([mark] * 8)}) ON CONFLICT DO NOTHING",  # noqa: S608
            [(key, *found) for key, found in series.items()],
        )
    of_users = by_user(rows, less)
    if of_users:
        apply(connection, _users, with_days(of_users))


def by_series(rows: Iterable[Counted], less: Iterable[Counted], series: dict[int, Series]) -> dict[Place, Rolled]:
    """By how much each hour of a series changes; what the series are is put into *series*."""
    hours: dict[Place, Rolled] = {}
    for sign, part in ((1, rows), (-1, less)):
        groups: dict[tuple[tuple[Any, ...], int], list[Counted]] = defaultdict(list)
        for row in paced(part):
            groups[KIND(row), row.start_ns // HOUR_NS].append(row)
        for (kind, hour), members in paced(groups.items()):
            found = series_of(kind)
            key = series_key(found)
            series[key] = found
            merge(hours, (found.project, 1, hour, key), rolled(members), sign)
    return hours


def by_user(rows: Iterable[Counted], less: Iterable[Counted]) -> dict[Place, Rolled]:
    """By how much each hour of a user changes."""
    hours: dict[Place, Rolled] = {}
    for sign, part in ((1, rows), (-1, less)):
        groups: dict[Place, list[Counted]] = defaultdict(list)
        for row in paced(part):
            if row.user_id is not None:
                groups[row.project, 1, row.start_ns // HOUR_NS, row.user_id].append(row)
        for place, members in paced(groups.items()):
            merge(hours, place, of_user(members), sign)
    return hours


def with_days(hours: Mapping[Place, Rolled]) -> dict[Place, Rolled]:
    """*hours*, and the days that they are in."""
    changes = dict(hours)
    for (project, _, hour, key), change in hours.items():
        merge(changes, (project, DAY_HOURS, hour // DAY_HOURS, key), change, 1)
    return changes


def merge(into: dict[Place, Rolled], place: Place, change: Rolled, sign: int) -> None:
    before = into.get(place)
    if before is None and sign == 1:
        into[place] = change
        return
    if before is None:
        before = Rolled((0,) * len(change.sums), ({},) * len(change.sketches))
    into[place] = Rolled(
        tuple([one + sign * other for one, other in zip(before.sums, change.sums, strict=True)]),
        tuple([together(one, other, sign) for one, other in zip(before.sketches, change.sketches, strict=True)]),
    )


def together(one: Mapping[int, int], other: Mapping[int, int], sign: int) -> dict[int, int]:
    found = dict(one)
    for place, count in other.items():
        found[place] = found.get(place, 0) + sign * count
    return found


def apply(connection: Connection, table: Table, changes: Mapping[Place, Rolled]) -> bool:
    """Change the rows of *table*; whether one of them was not there before."""
    names, stored = SKETCHES[table], sketches_of(connection, table, changes)
    nothing = (b"",) * len(names)
    rows = []
    for place, change in paced(changes.items()):
        before = stored.get(place, nothing)
        sketches = [changed(one, bins) for one, bins in zip(before, change.sketches, strict=True)]
        rows.append((*place, *change.sums, *sketches))
    add_to(connection, table, rows, {name: f"excluded.{name}" for name in names}, added=SUMMED[table])
    lessened = [place for place, change in changes.items() if change.sums[0] < 0]
    if lessened:
        mark = mark_of(connection)
        keys = " AND ".join(f"{column.name} = {mark}" for column in table.primary_key.columns)
        connection.exec_driver_sql(f"DELETE FROM {table.name} WHERE {keys} AND requests <= 0", lessened)  # noqa: S608
    return len(stored) < len(changes)


def rollup_rows(rows: Iterable[Counted]) -> RollupRows:
    """The rows of the table for *rows*, by the hour only, and what their series are."""
    series: dict[int, Series] = {}
    return RollupRows(made(by_series(rows, (), series)), series)


def user_rollup_rows(rows: Iterable[Counted]) -> list[tuple[Any, ...]]:
    """The rows of the users' table for *rows*, by the hour and by the day."""
    return made(with_days(by_user(rows, ())))


def made(changes: Mapping[Place, Rolled]) -> list[tuple[Any, ...]]:
    return [
        (*place, *change.sums, *[packed(summed(0, bins)) for bins in change.sketches])
        for place, change in changes.items()
    ]


def summed_day(hours: Iterable[tuple[Any, ...]], day: int, sketches: int) -> list[tuple[Any, ...]]:
    """The rows of a day, from those of its hours; the last so many columns are *sketches*."""
    found: dict[tuple[str, Any], tuple[Any, ...]] = {}
    for project, _, _, key, *values in hours:
        told = (*values[:-sketches], *map(unpacked, values[-sketches:]))
        before = found.get((project, key))
        if before is not None:
            told = tuple(one + other for one, other in zip(before, told, strict=True))
        found[project, key] = told
    return [
        (project, DAY_HOURS, day, key, *told[:-sketches], *map(packed, told[-sketches:]))
        for (project, key), told in found.items()
    ]


def sketches_of(connection: Connection, table: Table, places: Iterable[Place]) -> dict[Place, tuple[bytes, ...]]:
    """The stored sketches of the rows that are there."""
    mark, keys = mark_of(connection), ", ".join(column.name for column in table.primary_key.columns)
    found: dict[Place, tuple[bytes, ...]] = {}
    for chunk in in_chunks(places, 200):
        marks = ", ".join([f"({', '.join([mark] * WIDTH)})"] * len(chunk))
        statement = f"SELECT {keys}, {', '.join(SKETCHES[table])} FROM {table.name} WHERE ({keys}) IN (VALUES {marks})"  # noqa: S608
        values = tuple(value for place in chunk for value in place)
        for row in connection.exec_driver_sql(statement, values):
            found[row[:WIDTH]] = row[WIDTH:]
    return found
