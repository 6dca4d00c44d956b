"""The scores of one name: over time, and by what was judged, its model or a property for instance."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, literal, select
from sqlalchemy.sql import func

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.figures import Window, columns_by, key_of, window_of
from asgi_llmobs.queries.scores import current_in
from asgi_llmobs.records import ScoreKind
from asgi_llmobs.store.database import Database, in_chunks
from asgi_llmobs.store.tables import ScoreRow, SpanRow
from asgi_llmobs.store.values import name

__all__ = ["BY", "ScoreSum", "days_of", "score_groups", "score_steps"]

scores: Any = ScoreRow.__table__  # type: ignore[attr-defined]
spans: Any = SpanRow.__table__  # type: ignore[attr-defined]

BY = ("model", "provider", "operation", "route", "user")  # and property.<Name>
MOST = 5_000  # scores that are told apart by what they are about
DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSum:
    """What scores come to: of one step of time, or about one thing."""

    key: str = ""  # empty: what was judged does not say
    start_ns: int = 0
    count: int = 0
    mean: float | None = None  # of thumbs the share of those up
    least: float | None = None
    most: float | None = None
    values: Mapping[str, int]  # labels, or up and down


def days_of(since_ns: int, until_ns: int) -> Window:
    """The range in whole days, or in hours where it is short."""
    window = window_of(since_ns, until_ns, fine=False)
    if window.step_ns >= DAY_NS or until_ns - since_ns <= 2 * DAY_NS:
        return window
    since, until = since_ns // DAY_NS * DAY_NS, -(-until_ns // DAY_NS) * DAY_NS
    return Window(since_ns=since, until_ns=until, step_ns=DAY_NS)


def score_steps(db: Database, flt: Filter, label: str, kind: str, window: Window) -> list[ScoreSum]:
    """What the current scores of a name and kind come to in each step of *window*, by when they were given.

    Raises:
        StoreError: The database cannot be read.
    """
    columns, step = scores.c, window.step_ns
    start = (columns.time_ns - columns.time_ns % literal(step)).label("start")
    query = select(start, columns.label, columns.value, func.count().label("given")).where(
        *current_in(flt), columns.name == (name(label) or ""), columns.kind == kind,
        columns.time_ns >= window.since_ns, columns.time_ns < window.until_ns,
    ).group_by(start, columns.label, columns.value)  # fmt: skip
    found: dict[int, list[tuple[Any, Any, int]]] = defaultdict(list)
    with db.read() as connection:
        for row in connection.execute(query):
            found[int(row.start)].append((row.label, row.value, row.given))
    return [summed(kind, found.get(at, ()), start_ns=at) for at in window.starts()]


def score_groups(db: Database, flt: Filter, label: str, kind: str, by: str) -> tuple[list[ScoreSum], int | None]:
    """What the current scores of a name and kind come to by what was judged, most scores first.

    A score of a trace or a session counts once for each model (or whatever is asked for) of the calls in it.

    Args:
        db: The store.
        flt: Its project and its time, which is that of the scores.
        label: Name of the scores.
        kind: Theirs.
        by: One of ``BY``, or ``property.<Name>``.

    Returns:
        The groups; and where there are more than 5,000 scores since when they are told, in nanoseconds since 1970.

    Raises:
        FilterError: *by* is nothing that a call says.
        StoreError: The database cannot be read.
    """
    if by not in BY and not (by.startswith("property.") and by[9:].strip()):
        raise FilterError("by", f"{by!r} is none of {', '.join(BY)} or property.<Name>")
    columns = scores.c
    query = select(columns.target, columns.target_id, columns.label, columns.value, columns.time_ns).where(
        *current_in(flt), columns.name == (name(label) or ""), columns.kind == kind
    )
    with db.read() as connection:
        rows = connection.execute(query.order_by(columns.time_ns.desc()).limit(MOST + 1)).all()
        since, rows = (rows[-2].time_ns, rows[:-1]) if len(rows) > MOST else (None, rows)
        ids: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            ids[row.target].add(row.target_id)
        keys = {target: keys_of(connection, flt.project, target, some, by) for target, some in ids.items()}
    found: dict[str, list[tuple[Any, Any, int]]] = defaultdict(list)
    for row in rows:
        for key in keys[row.target].get(row.target_id, {""}):
            found[key].append((row.label, row.value, 1))
    groups = [summed(kind, given, key=key) for key, given in found.items()]
    return sorted(groups, key=lambda one: (-one.count, one.key)), since


def keys_of(connection: Connection, project: str, target: str, ids: Iterable[str], by: str) -> dict[str, set[str]]:
    """What the calls of each span, trace or session say of *by*."""
    own = {"span": spans.c.id, "trace": spans.c.trace_id, "session": spans.c.session_id}[target]
    labels = columns_by(by)
    out: dict[str, set[str]] = defaultdict(set)
    for chunk in in_chunks(ids):
        query = select(own.label("own"), *(spans.c[each] for each in labels)).distinct()
        query = query.where(spans.c.project == (name(project) or ""), own.in_(chunk))
        if target != "span":
            query = query.where(spans.c.is_request == 1)
        rows = connection.execute(query).all()
        table: dict[str, Sequence[Any]] = {each: [getattr(row, each) for row in rows] for each in labels}
        for row, key in zip(rows, key_of(by, table), strict=True):
            out[row.own].add(str(key or ""))
    return out


def summed(kind: str, given: Iterable[tuple[Any, Any, int]], *, key: str = "", start_ns: int = 0) -> ScoreSum:
    values: Counter[str] = Counter()
    total, many, count = 0.0, 0, 0
    numbers: list[float] = []
    for label, value, times in given:
        count += times
        if kind == ScoreKind.THUMBS and value is not None:
            values["up" if value else "down"] += times
        elif label is not None:
            values[label] += times
        if value is not None and kind != ScoreKind.TAG:
            numbers.append(float(value))
            total, many = total + float(value) * times, many + times
    return ScoreSum(
        key=key, start_ns=start_ns, count=count, mean=total / many if many else None,
        least=min(numbers, default=None), most=max(numbers, default=None), values=dict(values.most_common()),
    )  # fmt: skip
