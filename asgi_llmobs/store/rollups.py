"""Rollups: what requests add up to by the hour and by the day, for each series of those that are alike.

A series is found by a hash of what its requests have in common, so that no writer has to ask for it or agree on it with
others. There are never more rows than requests, and far fewer where models and routes are few.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection

from asgi_llmobs.pace import paced
from asgi_llmobs.store.database import in_chunks
from asgi_llmobs.store.sketches import bin_of, changed, packed, summed, unpacked
from asgi_llmobs.store.sums import MOST_COST, MOST_TOKENS, Counted, add_to, known, mark_of
from asgi_llmobs.store.tables import RollupRow, SeriesRow

__all__ = [
    "DAY_HOURS",
    "HOUR_NS",
    "Rolled",
    "RollupRows",
    "Series",
    "added_up",
    "roll",
    "rolled",
    "rollup_rows",
    "series_of",
    "summed_day",
]

HOUR_NS = 3_600_000_000_000
DAY_HOURS = 24
MOST_NS = 10**15  # of a duration in the sum: eleven days
NOTHING = (b"", b"")

_rollups = RollupRow.__table__  # type: ignore[attr-defined]
_series = SeriesRow.__table__  # type: ignore[attr-defined]

SUMMED = tuple(column.name for column in _rollups.columns)[4:-2]
SKETCHES = {name: f"excluded.{name}" for name in ("latency", "first_token")}


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
    """What the rows of a series add up to, or by how much that changes; its first columns are those of the table."""

    sums: tuple[int, ...]
    latency: Mapping[int, int]
    first_token: Mapping[int, int]


class RollupRows(NamedTuple):
    """Rows of the table, and the series that they are of."""

    rows: list[tuple[Any, ...]]
    series: Mapping[int, Series]


Place = tuple[str, int, int, int]  # project, hours, start, series


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
    return added_up(Counted(*zip(*rows, strict=True)))  # type: ignore[arg-type]


def added_up(found: Any, *, sketched: bool = True) -> Rolled:
    """What requests, all with one outcome, add up to; *found* is a ``Counted`` with the values of all in each place."""
    priced, cost = known(found.cost, MOST_COST)
    inputs = known(found.input_tokens, MOST_TOKENS)
    outputs = known(found.output_tokens, MOST_TOKENS)
    details = [known(found[place], MOST_TOKENS)[1] for place in DETAILS]
    count, running = len(found.outcome), found.outcome[0] == "running"
    timed = duration = 0
    latency: Mapping[int, int] = {}
    if not running:
        timed, duration = known(found.duration_ns, MOST_NS)
        latency = bins_of(found.duration_ns) if sketched else {}
    first = bins_of(found.first_token_ns) if sketched else {}
    unpriced = 0 if running else count - priced
    return Rolled((count, priced, unpriced, cost, *inputs, *outputs, *details, timed, duration), latency, first)


def bins_of(durations: Iterable[int | None]) -> Mapping[int, int]:
    return Counter([bin_of(value) for value in durations if value is not None])


DETAILS = tuple(
    map(
        Counted._fields.index,
        ("cache_read", "cache_write", "reasoning", "audio_input", "audio_output", "image_input", "image_output",
         "estimated", "truncated", "calls_tools"),
    )
)  # fmt: skip


def roll(connection: Connection, rows: Iterable[Counted], less: Iterable[Counted] = ()) -> None:
    """Add requests to the rollups, and take *less* away from them."""
    changes, series = changes_of(rows, less)
    if changes:
        apply(connection, changes, series)


def changes_of(rows: Iterable[Counted], less: Iterable[Counted]) -> tuple[dict[Place, Rolled], dict[int, Series]]:
    """By how much each row of the table changes, and what the series are."""
    series: dict[int, Series] = {}
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
    changes = dict(hours)
    for (project, _, hour, key), change in hours.items():
        merge(changes, (project, DAY_HOURS, hour // DAY_HOURS, key), change, 1)
    return changes, series


def merge(into: dict[Place, Rolled], place: Place, change: Rolled, sign: int) -> None:
    before = into.get(place)
    if before is None and sign == 1:
        into[place] = change
        return
    if before is None:
        before = Rolled((0,) * len(SUMMED), {}, {})
    into[place] = Rolled(
        tuple(one + sign * other for one, other in zip(before.sums, change.sums, strict=True)),
        together(before.latency, change.latency, sign),
        together(before.first_token, change.first_token, sign),
    )


def together(one: Mapping[int, int], other: Mapping[int, int], sign: int) -> dict[int, int]:
    found = dict(one)
    for place, count in other.items():
        found[place] = found.get(place, 0) + sign * count
    return found


def apply(connection: Connection, changes: Mapping[Place, Rolled], series: Mapping[int, Series]) -> None:
    stored = sketches_of(connection, changes)
    rows = []
    for place, change in paced(changes.items()):
        latency, first = stored.get(place, NOTHING)
        rows.append((*place, *change.sums, changed(latency, change.latency), changed(first, change.first_token)))
    add_to(connection, _rollups, rows, SKETCHES, added=SUMMED)
    mark = mark_of(connection)
    if len(stored) < len(changes):
        new = {place[3] for place in changes if place not in stored}
        connection.exec_driver_sql(
            f"INSERT INTO {_series.name} VALUES ({', '.join([mark] * 8)}) ON CONFLICT DO NOTHING",  # noqa: S608
            [(key, *series[key]) for key in new],
        )
    lessened = [place for place, change in changes.items() if change.sums[0] < 0]
    if lessened:
        keys = " AND ".join(f"{column.name} = {mark}" for column in _rollups.primary_key.columns)
        connection.exec_driver_sql(f"DELETE FROM {_rollups.name} WHERE {keys} AND requests <= 0", lessened)  # noqa: S608


def rollup_rows(rows: Iterable[Counted]) -> RollupRows:
    """The rows of the table for *rows*, by the hour only, and what their series are."""
    changes, series = changes_of(rows, ())
    found = []
    for place, change in changes.items():
        if place[1] == 1:
            sketches = (packed(summed(0, change.latency)), packed(summed(0, change.first_token)))
            found.append((*place, *change.sums, *sketches))
    return RollupRows(found, series)


def summed_day(hours: Iterable[tuple[Any, ...]], day: int) -> list[tuple[Any, ...]]:
    """The rows of a day, from those of its hours."""
    found: dict[tuple[str, int], tuple[Any, ...]] = {}
    for project, _, _, series, *values in hours:
        sums = (*values[:-2], unpacked(values[-2]), unpacked(values[-1]))
        before = found.get((project, series))
        if before is not None:
            sums = tuple(one + other for one, other in zip(before, sums, strict=True))
        found[project, series] = sums
    return [
        (project, DAY_HOURS, day, series, *sums[:-2], packed(sums[-2]), packed(sums[-1]))
        for (project, series), sums in found.items()
    ]


def sketches_of(connection: Connection, places: Iterable[Place]) -> dict[Place, tuple[bytes, bytes]]:
    """The stored sketches of the rows that are there."""
    mark, keys = mark_of(connection), "project, hours, start, series"
    found: dict[Place, tuple[bytes, bytes]] = {}
    for chunk in in_chunks(places, 200):
        marks = ", ".join([f"({', '.join([mark] * 4)})"] * len(chunk))
        statement = f"SELECT {keys}, latency, first_token FROM {_rollups.name} WHERE ({keys}) IN (VALUES {marks})"  # noqa: S608
        values = tuple(value for place in chunk for value in place)
        for project, hours, start, key, latency, first in connection.exec_driver_sql(statement, values):
            found[project, hours, start, key] = latency, first
    return found
