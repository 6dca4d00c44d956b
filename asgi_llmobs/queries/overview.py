"""What requests add up to, over a range of time, by the hour or the day and by what they have in common.

Read from the rollups wherever these tell what is asked for. What is unknown is in no sum and is counted beside it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, true

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.select import meant, narrowed
from asgi_llmobs.queries.terms import any_of
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.rollups import DAY_HOURS, HOUR_NS, summed_columns
from asgi_llmobs.store.sketches import percentiles, unpacked
from asgi_llmobs.store.tables import RollupRow, SeriesRow, SpanRow
from asgi_llmobs.store.values import dollars, name

__all__ = [
    "Cell",
    "DIMENSIONS",
    "Found",
    "SHARES",
    "Totals",
    "cell_of",
    "found_in",
    "merged",
    "overview",
    "totals",
]

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
rollups: Any = RollupRow.__table__  # type: ignore[attr-defined]
series: Any = SeriesRow.__table__  # type: ignore[attr-defined]

DIMENSIONS = ("provider", "model", "operation", "outcome", "status", "route")
SHARES = (0.5, 0.9, 0.95, 0.99)
SUMMED = summed_columns(rollups)
LAST_HOUR = 2**63 // HOUR_NS
GONE = ("cancelled", "abandoned")  # nobody waited for the answer any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over requests. What is unknown is not in the sums and is counted beside them."""

    requests: int
    errors: int  # outcome error
    total_cost_usd: Decimal | None  # None where no request has a price
    unpriced_count: int
    input_tokens: int | None
    output_tokens: int | None
    cache_read: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What the requests of one group add up to in one hour, one day, or the whole range.

    ``key`` has a value for each of the dimensions that were asked for; empty or 0 is what a request does not say.
    Percentiles are in nanoseconds and within 2 %, one for each of the shares that were asked for, of those that ended.
    """

    start_ns: int
    key: tuple[str | int, ...]
    requests: int
    errors: int
    total_cost_usd: Decimal | None
    unpriced_count: int
    input_tokens: int | None
    output_tokens: int | None
    cache_read: int
    cache_write: int
    reasoning: int
    audio_input: int
    audio_output: int
    image_input: int
    image_output: int
    estimated_count: int
    truncated_count: int  # answers that a limit of tokens cut off
    tool_count: int  # answers that call tools
    succeeded: int  # outcome ok
    gone: int  # cancelled or abandoned
    gone_cost_usd: Decimal | None
    running: int
    answered_tokens: int  # output tokens of those with outcome ok, and the time that these took
    answered_ns: int
    mean_ns: int | None
    latency: Sequence[int | None]
    first_token: Sequence[int | None]


def overview(
    db: Database,
    flt: Filter,
    *,
    bucket: Literal["hour", "day", "range"] = "hour",
    by: Sequence[str] = (),
    shares: Sequence[float] = SHARES,
    sketches: Sequence[Literal["latency", "first_token"]] = ("latency", "first_token"),
) -> list[Cell]:
    """Sums and percentiles by the hour or the day, by what requests have in common, or both; oldest first.

    Args:
        db: The store.
        flt: Which requests: project, times, provider, model (as it was asked for), operation, status and route count.
            Times are widened to whole hours, or to whole days where ``bucket`` is ``day``.
        bucket: How long a cell is: an hour, a day (UTC), or all of the range.
        by: Any of ``DIMENSIONS``.
        shares: Of which percentiles, 0.0 to 1.0.
        sketches: Of what; whatever is not asked for costs nothing, and is empty.

    Raises:
        FilterError: The filter has a field that rollups cannot tell, or *by* names none of the dimensions.
        StoreError: The database cannot be read.
    """
    for field in flt.beyond_rollups:
        raise FilterError(field, "hourly sums do not tell it apart; narrow down by model, provider, status or route")
    unknown = [one for one in by if one not in DIMENSIONS]
    if unknown:
        raise FilterError("by", f"{unknown[0]!r} is none of {', '.join(DIMENSIONS)}")
    with db.read() as connection:
        found = found_in(connection, flt, bucket, by, sketches if shares else ())
    return [cell_of(one, shares) for one in merged(found)]


def found_in(
    connection: Connection, flt: Filter, bucket: str, by: Sequence[str], sketches: Sequence[str]
) -> list["Found"]:
    """What the rollups say of each time and group, in parts that :func:`merged` puts together."""
    where = and_(series_of(flt), any_of(series.c.model, flt.model, wildcards=True) if flt.model else true())
    found, parts = [], stretches(flt, bucket)
    for hours, low, high in parts:
        found += cells(connection, name(flt.project) or "", where, hours, low, high, bucket, by, sketches)
    if bucket == "range":
        begin = parts[0][0] * parts[0][1] * HOUR_NS
        found = [one._replace(start_ns=begin) for one in found]
    return found


def series_of(flt: Filter) -> ColumnElement[bool]:
    """The series that a filter means."""
    columns = series.c
    conditions: list[ColumnElement[bool]] = [true()]
    for field in ("provider", "operation", "route"):
        if getattr(flt, field):
            conditions.append(any_of(columns[field], getattr(flt, field), wildcards=field == "route"))
    if flt.status:
        conditions.append(or_(*(status_is(value) for value in flt.status)))
    return and_(*conditions)


def status_is(value: str) -> ColumnElement[bool]:
    low, high = (int(value[0]) * 100, int(value[0]) * 100 + 99) if value.endswith("xx") else (value, value)
    columns: Any = series.c
    found: ColumnElement[bool] = columns.outcome == value
    if value[0].isdigit():
        found = columns.status.between(int(low), int(high))
    return found


Stretch = tuple[int, int, int]  # hours of a row, and the first and the last but one row


class Found(NamedTuple):
    """What one group adds up to in one stretch of time: the columns of ``SUMMED``, then ``EXTRA``, then sketches."""

    start_ns: int
    key: tuple[Any, ...]
    sums: tuple[int, ...]
    latency: int
    first_token: int


# what of the columns counts by outcome
EXTRA: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "errors": ("requests", ("error",)),
    "succeeded": ("requests", ("ok",)),
    "gone": ("requests", GONE),
    "gone_cost": ("cost", GONE),
    "gone_priced": ("priced", GONE),
    "running": ("requests", ("running",)),
    "answered_tokens": ("output_tokens", ("ok",)),
    "answered_ns": ("duration_ns", ("ok",)),
}


def stretches(flt: Filter, bucket: str) -> list[Stretch]:
    """Which rows make up the filter's time: days where they will do, hours at the ends."""
    low = 0 if flt.since_ns is None else max(0, flt.since_ns // HOUR_NS)
    high = LAST_HOUR + 1 if flt.until_ns is None else -(-flt.until_ns // HOUR_NS)
    if bucket == "hour":
        return [(1, low, high)]
    if bucket == "day":
        return [(DAY_HOURS, low // DAY_HOURS, -(-high // DAY_HOURS))]
    return whole_days(low, high)


def whole_days(low: int, high: int) -> list[Stretch]:
    """The hours from *low* to below *high*, as days as far as these are whole."""
    first, last = -(-low // DAY_HOURS), high // DAY_HOURS
    if first >= last:
        return [(1, low, high)]
    parts = [(1, low, first * DAY_HOURS), (DAY_HOURS, first, last), (1, last * DAY_HOURS, high)]
    return [part for part in parts if part[1] < part[2]]


def cells(
    connection: Connection, project: str, where: Any, hours: int, low: int, high: int, bucket: str, by: Sequence[str],
    sketches: Sequence[str],
) -> list[Found]:  # fmt: skip
    columns = rollups.c
    rows = rollups.join(series, series.c.key == columns.series)
    chosen = and_(columns.project == project, columns.hours == hours, columns.start >= low, columns.start < high, where)
    start = columns.start if bucket != "range" else None
    groups = [*([start] if start is not None else []), *(series.c[one] for one in by)]
    sums = [func.sum(columns[one]) for one in SUMMED]
    for column, outcomes in EXTRA.values():
        sums.append(func.sum(case((series.c.outcome.in_(outcomes), columns[column]), else_=0)))
    summed = connection.execute(select(*groups, *sums).select_from(rows).where(chosen).group_by(*groups)).all()
    width = len(groups)
    read = sketches_of(connection, project, where, (hours, low, high), bucket, by, sketches)
    found: list[Found] = []
    for row in summed:
        if row[width] is not None:
            place = tuple(row[:width])
            began, key = (place[0] * hours * HOUR_NS, place[1:]) if start is not None else (0, place)
            numbers = tuple(int(value) for value in row[width:])
            found.append(Found(began, key, numbers, read["latency"][place], read["first_token"][place]))
    return found


def sketches_of(
    connection: Connection, project: str, where: Any, stretch: Stretch, bucket: str, by: Sequence[str],
    sketches: Sequence[str],
) -> dict[str, dict[tuple[Any, ...], int]]:  # fmt: skip
    """The sketches that were asked for, of each group: series are told apart here, which is quicker than in SQL."""
    found: dict[str, dict[tuple[Any, ...], int]] = {one: defaultdict(int) for one in ("latency", "first_token")}
    columns, (hours, low, high) = rollups.c, stretch
    if not sketches:
        return found
    kinds = select(series.c.key, *(series.c[one] for one in by)).where(series.c.project == project, where)
    keys = {row[0]: tuple(row[1:]) for row in connection.execute(kinds)}
    chosen = and_(columns.project == project, columns.hours == hours, columns.start >= low, columns.start < high)
    for which in sketches:
        sums = found[which]
        query = select(columns.start, columns.series, columns[which]).where(chosen)
        for start, kind, stored in connection.execute(query):
            key = keys.get(kind)
            if key is not None and stored:
                sums[key if bucket == "range" else (start, *key)] += unpacked(stored)
    return found


def merged(found: Iterable[Found]) -> list[Found]:
    """One of each group and time, oldest first."""
    whole: dict[tuple[Any, ...], Found] = {}
    for one in found:
        place = (one.start_ns, one.key)
        before = whole.get(place)
        if before is not None:
            sums = tuple(map(sum, zip(before.sums, one.sums, strict=True)))
            one = Found(*place, sums, before.latency + one.latency, before.first_token + one.first_token)
        whole[place] = one
    return sorted(whole.values(), key=lambda one: (one.start_ns, tuple(map(str, one.key))))


def cell_of(found: Found, shares: Sequence[float]) -> Cell:
    """The figures behind sums and sketches."""
    value = dict(zip((*SUMMED, *EXTRA), found.sums, strict=True))
    return Cell(
        start_ns=found.start_ns,
        key=found.key,
        requests=value["requests"],
        errors=value["errors"],
        total_cost_usd=dollars(value["cost"] if value["priced"] else None),
        unpriced_count=value["unpriced"],
        input_tokens=value["input_tokens"] if value["inputs"] else None,
        output_tokens=value["output_tokens"] if value["outputs"] else None,
        cache_read=value["cache_read"],
        cache_write=value["cache_write"],
        reasoning=value["reasoning"],
        audio_input=value["audio_input"],
        audio_output=value["audio_output"],
        image_input=value["image_input"],
        image_output=value["image_output"],
        estimated_count=value["estimated"],
        truncated_count=value["truncated"],
        tool_count=value["calls_tools"],
        succeeded=value["succeeded"],
        gone=value["gone"],
        gone_cost_usd=dollars(value["gone_cost"] if value["gone_priced"] else None),
        running=value["running"],
        answered_tokens=value["answered_tokens"],
        answered_ns=value["answered_ns"],
        mean_ns=value["duration_ns"] // value["timed"] if value["timed"] else None,
        latency=percentiles(found.latency, shares),
        first_token=percentiles(found.first_token, shares),
    )


def totals(db: Database, flt: Filter) -> Totals:
    """The totals of the requests that *flt* means, exact to the nanosecond of its times.

    Raises:
        StoreError: The database cannot be read.
    """
    since, until = flt.since_ns, flt.until_ns
    low = 0 if since is None else -(-since // HOUR_NS)
    high = LAST_HOUR + 1 if until is None else until // HOUR_NS
    with db.read() as connection:
        if flt.model or flt.beyond_rollups or low >= high:
            return totals_of([counted(connection, flt)])
        parts = [rolled(connection, flt, stretch) for stretch in whole_days(low, high)]
        if since is not None and since < low * HOUR_NS:  # the rest of the first hour
            parts.append(counted(connection, replace(flt, until_ns=low * HOUR_NS)))
        if until is not None and high * HOUR_NS < until:
            parts.append(counted(connection, replace(flt, since_ns=high * HOUR_NS)))
        return totals_of(parts)


Sums = tuple[
    int, ...
]  # requests, errors, priced, cost, unpriced, inputs, tokens, outputs, tokens, cached known, cached


def rolled(connection: Connection, flt: Filter, stretch: Stretch) -> Sums:
    """Sums over whole hours and days."""
    columns, (hours, low, high) = rollups.c, stretch
    failed = case((series.c.outcome == "error", columns.requests), else_=0)
    names = ("priced", "cost", "unpriced", "inputs", "input_tokens", "outputs", "output_tokens", "inputs", "cache_read")
    query = select(func.sum(columns.requests), func.sum(failed), *(func.sum(columns[one]) for one in names))
    chosen = (columns.project == name(flt.project), columns.hours == hours, columns.start >= low, columns.start < high)
    rows = rollups.join(series, series.c.key == columns.series)
    found = connection.execute(query.select_from(rows).where(*chosen, series_of(flt))).one()
    return tuple(int(value or 0) for value in found)


def counted(connection: Connection, flt: Filter) -> Sums:
    """The same over rows."""
    columns = spans.c
    unpriced = case((and_(columns.cost.is_(None), columns.outcome != "running"), 1), else_=0)
    query = select(func.count(), func.sum(case((columns.outcome == "error", 1), else_=0)), func.count(columns.cost),
                   func.sum(columns.cost), func.sum(unpriced), func.count(columns.input_tokens),
                   func.sum(columns.input_tokens), func.count(columns.output_tokens), func.sum(columns.output_tokens),
                   func.count(columns.cache_read), func.sum(columns.cache_read))  # fmt: skip
    where = meant(connection, flt, narrowed(connection, flt))
    return tuple(int(value or 0) for value in connection.execute(query.where(where)).one())


def totals_of(parts: Sequence[Sums]) -> Totals:
    requests, errors, priced, cost, unpriced, inputs, sent, outputs, got, caches, cached = (
        sum(column) for column in zip(*parts, strict=True)
    )
    return Totals(
        requests=requests,
        errors=errors,
        total_cost_usd=dollars(cost if priced else None),
        unpriced_count=unpriced,
        input_tokens=sent if inputs else None,
        output_tokens=got if outputs else None,
        cache_read=cached if caches else None,
    )
