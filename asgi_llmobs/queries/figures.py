"""What requests add up to over a range of time, in steps and by groups, with the period before it to compare with.

From the rollups where these tell what is asked for, which is exact however many requests there are. Else from the rows
themselves: of those that an index leads to, or of the newest in the range, and then it is said that it is a part.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Select, and_, func, select

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.columns import by_column
from asgi_llmobs.queries.overview import (
    DIMENSIONS,
    EXTRA,
    SHARES,
    SUMMED,
    Cell,
    Found,
    cell_of,
    found_in,
    merged,
)
from asgi_llmobs.queries.paging import key_range
from asgi_llmobs.queries.select import REQUESTS, in_time, meant, narrowed
from asgi_llmobs.queries.tally import NEEDED, Lazy, Tally, grouped
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.rollups import DAY_HOURS, HOUR_NS
from asgi_llmobs.store.rows import fold_name
from asgi_llmobs.store.tables import PropertyRow, SpanRow
from asgi_llmobs.store.values import name

__all__ = ["Figures", "GROUPS", "MOST_ROWS", "Window", "edges", "figures", "property_names", "rows_of", "window_of"]

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
properties: Any = PropertyRow.__table__  # type: ignore[attr-defined]

PRICED = ("provider", "model")  # what a price depends on
MOST_ROWS = 10_000  # rows that one page adds up
MOST_TIMED = 200  # groups that have percentiles
GROUPS = (*DIMENSIONS, "user", "session", "error")  # and property.<Name>
MINUTE_NS = 60_000_000_000
DAY_NS = DAY_HOURS * HOUR_NS
FINE = (MINUTE_NS, 2 * MINUTE_NS, 5 * MINUTE_NS, 10 * MINUTE_NS, 15 * MINUTE_NS)
COARSE = (HOUR_NS, 3 * HOUR_NS, 6 * HOUR_NS, 12 * HOUR_NS, DAY_NS, 7 * DAY_NS, 28 * DAY_NS)
STEPS = 64  # of a chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A range of time in equal steps. Its bounds lie on whole steps, counted from 1970 in UTC."""

    since_ns: int
    until_ns: int
    step_ns: int

    @property
    def before(self) -> "Window":
        """As long a range that ends where this one begins."""
        length = self.until_ns - self.since_ns
        return Window(since_ns=self.since_ns - length, until_ns=self.since_ns, step_ns=self.step_ns)

    def starts(self) -> range:
        """The beginning of each step."""
        return range(self.since_ns, self.until_ns, self.step_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Sums and percentiles of a window: in all, by step, by group, and by both for the groups with most requests."""

    window: Window
    by: tuple[str, ...]
    total: Cell
    previous: Cell | None  # of the window before; None where it was not asked for
    steps: Sequence[Cell]  # one for each step, also where nothing was
    groups: Sequence[Cell] = ()  # percentiles only of the 200 with most requests
    grouped: Sequence[Cell] = ()  # each with the start of its step and the key of its group
    rows_only: bool = False  # added up from rows, since the rollups do not tell what was asked for
    partial_since_ns: int | None = None  # older rows of the window were not looked at
    models: Sequence[Cell] = ()  # by provider and model, without percentiles; where it was asked for


def window_of(since_ns: int, until_ns: int, *, fine: bool = True) -> Window:
    """The range widened to whole steps, which are such that there are at most 64.

    Args:
        since_ns: Inclusive, nanoseconds since 1970.
        until_ns: Exclusive.
        fine: Whether steps may be shorter than an hour, which only rows can tell.
    """
    for step in (*FINE, *COARSE) if fine else COARSE:
        since, until = since_ns // step * step, -(-until_ns // step) * step
        if until - since <= STEPS * step:
            return Window(since_ns=since, until_ns=max(until, since + step), step_ns=step)
    step = -(-(until_ns - since_ns) // (STEPS * DAY_NS)) * DAY_NS
    return Window(since_ns=since_ns // step * step, until_ns=-(-until_ns // step) * step, step_ns=step)


def figures(
    db: Database,
    flt: Filter,
    *,
    since_ns: int,
    until_ns: int,
    by: Sequence[str] = (),
    compared: bool = True,
    top: int = 6,
    shares: Sequence[float] = SHARES,
    models: bool = False,
) -> Figures:
    """What the requests that *flt* means add up to from *since_ns* to *until_ns*, which are widened to whole steps.

    Args:
        db: The store.
        flt: Which requests; its own times do not count.
        since_ns: Inclusive, nanoseconds since 1970.
        until_ns: Exclusive.
        by: What groups have in common: of ``GROUPS``, or ``property.<Name>``; any number of them.
        compared: Whether the window before is added up too.
        top: For how many groups, those with most requests, ``grouped`` tells the steps.
        shares: Of which percentiles, 0.0 to 1.0.
        models: Whether to add up by provider and model too, for what depends on prices.

    Raises:
        FilterError: *by* names nothing that there is.
        StoreError: The database cannot be read.
    """
    for one in by:
        if one not in GROUPS and not (one.startswith("property.") and one[9:].strip()):
            raise FilterError("by", f"{one!r} is none of {', '.join(GROUPS)} or property.<Name>")
    told = not flt.beyond_rollups and all(one in DIMENSIONS for one in by)
    with db.read() as connection:
        window = window_of(since_ns, until_ns)
        rows_only = not told or window.step_ns < HOUR_NS
        if told and rows_only and more_than(connection, within(flt, window), MOST_ROWS):
            window, rows_only = window_of(since_ns, until_ns, fine=False), False
        read = from_rows if rows_only else from_rollups
        parts = read(connection, within(flt, window), window, by, top, PRICED if models else ())
        # a part cannot be compared
        past = past_of(connection, flt, window.before, rows_only) if compared and not parts.since_ns else None
    whole = in_all(parts.steps, window)
    steps = {one.start_ns: cell_of(one, shares) for one in parts.steps}
    return Figures(
        window=window,
        by=tuple(by),
        total=cell_of(whole, shares),
        previous=None if past is None or past.since_ns else cell_of(in_all(past.steps, window.before), shares),
        steps=[steps.get(start) or cell_of(empty(start), shares) for start in window.starts()],
        groups=Lazy(
            len(parts.groups), lambda place: cell_of(parts.groups[place], shares if place < MOST_TIMED else ())
        ),
        grouped=[cell_of(one, ()) for one in parts.grouped],
        rows_only=rows_only,
        partial_since_ns=parts.since_ns,
        models=[cell_of(one, ()) for one in parts.models],
    )


def past_of(connection: Connection, flt: Filter, window: Window, rows_only: bool) -> "Parts":
    """What a window adds up to as a whole: rollups of days tell that, with those of hours at its ends."""
    if rows_only:
        return from_rows(connection, within(flt, window), window, (), 0)
    return Parts(found_in(connection, within(flt, window), "range", (), ("latency", "first_token")), [], [])


class Parts(NamedTuple):
    """Sums by step, by group with most requests first, and by both for the first of these; and since when."""

    steps: list[Found]
    groups: Sequence[Found]
    grouped: Sequence[Found]
    since_ns: int | None = None
    models: Sequence[Found] = ()


def in_all(steps: Iterable[Found], window: Window) -> Found:
    whole = merged(one._replace(start_ns=window.since_ns, key=()) for one in steps)
    return whole[0] if whole else empty(window.since_ns)


def empty(start_ns: int) -> Found:
    return Found(start_ns, (), (0,) * (len(SUMMED) + len(EXTRA)), 0, 0)


def within(flt: Filter, window: Window) -> Filter:
    return replace(flt, since_ns=window.since_ns, until_ns=window.until_ns, since="", until="")


def from_rollups(
    connection: Connection, flt: Filter, window: Window, by: Sequence[str], top: int, also: Sequence[str] = ()
) -> Parts:
    bucket = "day" if window.step_ns % DAY_NS == 0 else "hour"
    step = window.step_ns
    found = merged(
        one._replace(start_ns=one.start_ns // step * step)
        for one in found_in(connection, flt, bucket, by, ("latency", "first_token"))
    )
    models = merged(found_in(connection, flt, "range", also, ())) if also else []
    if not by:
        return Parts(found, [], [], models=models)
    groups = ranked(merged(one._replace(start_ns=window.since_ns) for one in found))
    largest = {one.key for one in groups[:top]}
    steps = merged(one._replace(key=()) for one in found)
    return Parts(steps, groups, [one for one in found if one.key in largest], models=models)


def ranked(groups: Iterable[Found]) -> list[Found]:
    return sorted(groups, key=lambda one: (-one.sums[0], tuple(map(str, one.key))))


def base_of(connection: Connection, flt: Filter) -> Any:
    return and_(spans.c.project == name(flt.project), REQUESTS.base, in_time(connection, spans.c.start_ns, flt))


def more_than(connection: Connection, flt: Filter, most: int) -> bool:
    """Whether the range has more requests than *most*, of whatever kind."""
    base = base_of(connection, replace(Filter(project=flt.project), since_ns=flt.since_ns, until_ns=flt.until_ns))
    query = select(spans.c.start_ns).where(base).order_by(spans.c.start_ns.desc(), spans.c.key.desc())
    return connection.execute(query.offset(most).limit(1)).first() is not None


def rows_of(connection: Connection, flt: Filter, columns: Sequence[Any]) -> tuple[Sequence[Sequence[Any]], int | None]:
    """The requests that are meant, by *columns*; and since when, where older ones were not looked at."""
    narrow, since = narrowed(connection, flt), None
    query: Select[Any] = select(*columns)
    if not narrow.few:
        order = (spans.c.start_ns.desc(), spans.c.key.desc())
        last = select(spans.c.start_ns).where(base_of(connection, flt)).order_by(*order).offset(MOST_ROWS).limit(1)
        edge = connection.execute(last).scalar()
        query = query.order_by(*order)
        if edge is not None:
            # those that start with the first that is left out are left out too: what is said holds from then on
            since = edge + 1
            flt = replace(flt, since_ns=since)
    keys = key_range(connection, REQUESTS, base_of(connection, flt), narrow)
    return by_column(connection, query.where(meant(connection, flt, narrow)), keys), since


def from_rows(
    connection: Connection, flt: Filter, window: Window, by: Sequence[str], top: int, also: Sequence[str] = ()
) -> Parts:
    labels = list(dict.fromkeys((*NEEDED, *(label for one in (*by, *also) for label in columns_by(one)))))
    found, since = rows_of(connection, flt, [spans.c[label] for label in labels])
    table = dict(zip(labels, found, strict=True))
    tally, step, begin = Tally(table), window.step_ns, window.since_ns
    times = grouped([start // step for start in table["start_ns"]])
    steps = list(tally.sums(times, lambda time: (time * step, ())))
    models: Sequence[Found] = ()
    if also:
        kinds = grouped(zip(*(key_of(one, table) for one in also), strict=True))
        models = tally.sums(kinds, lambda kind: (begin, kind), ())
    if not by:
        return Parts(steps, [], [], since, models)
    groups = grouped(zip(*(key_of(one, table) for one in by), strict=True))
    order = tally.ranked(groups)
    sums = tally.sums(groups, lambda key: (begin, key), set(order[:MOST_TIMED]))
    largest = {place: place for place in order[:top]}
    # by both: of all others together nothing is told
    both = grouped(zip(times.members, map(largest.get, groups.members), strict=True))
    told = tally.sums(both, lambda key: (times.keys[key[0]] * step, groups.keys[key[1]]), ())
    parts = [told[place] for place, key in enumerate(both.keys) if key[1] is not None]
    return Parts(steps, Lazy(len(order), lambda place: sums[order[place]]), parts, since, models)


def columns_by(by: str) -> tuple[str, ...]:
    """The columns that tell what a row is grouped by."""
    if by.startswith("property."):
        return ("properties",)
    if by == "model":
        return ("request_model", "response_model")
    return ({"user": "user_id", "session": "session_id", "error": "error_type"}.get(by, by),)


def key_of(by: str, table: Mapping[str, Sequence[Any]]) -> Sequence[str | int]:
    """What each row of *table* is grouped by; empty or 0 where it does not say."""
    first, *others = (table[label] for label in columns_by(by))
    if by.startswith("property."):
        label = fold_name(by.removeprefix("property."))
        return [property_of(text, label) for text in first]
    nothing: str | int = 0 if by == "status" else ""
    for other in others:
        first = [one or two for one, two in zip(first, other, strict=True)]
    return [value or nothing for value in first]


@lru_cache(maxsize=4096)
def property_of(text: str | None, label: str) -> str:
    if not text:
        return ""
    return next((value for key, value in reversed(orjson.loads(text).items()) if fold_name(key) == label), "")


def edges(db: Database, project: str) -> tuple[int | None, int | None]:
    """The starts of the first and the last request, in nanoseconds since 1970.

    Raises:
        StoreError: The database cannot be read.
    """
    base = and_(spans.c.project == name(project), REQUESTS.base)
    with db.read() as connection:
        low, high = (
            connection.execute(select(spans.c.start_ns).where(base).order_by(order).limit(1)).scalar()
            for order in (spans.c.start_ns.asc(), spans.c.start_ns.desc())
        )
    return low, high


def property_names(db: Database, project: str, *, limit: int = 50) -> list[str]:
    """The names of properties, folded, in order.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = properties.c
    found: list[str] = []
    query = select(func.min(columns.name)).where(columns.project == name(project))
    with db.read() as connection:
        last = connection.execute(query).scalar()
        while last is not None and len(found) < limit:
            found.append(last)
            last = connection.execute(query.where(columns.name > last)).scalar()  # one step of the index a name
    return found
