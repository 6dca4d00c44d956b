"""What was judged: the scores of a span, a trace or a session, and what all of one name come to."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, exists, false, func, literal, or_, select

from asgi_llmobs.filters import Filter
from asgi_llmobs.records import Score, ScoreKind
from asgi_llmobs.store.database import Database, in_chunks
from asgi_llmobs.store.scores import record_of
from asgi_llmobs.store.tables import ScoreRow, SpanRow
from asgi_llmobs.store.values import name

__all__ = [
    "GivenScore",
    "ScoreDay",
    "ScoreName",
    "get_score",
    "latest_scores",
    "list_days",
    "list_names",
    "scored",
    "scores_of",
    "scores_of_holders",
    "scores_of_session",
    "scores_of_span",
    "scores_of_trace",
]

MOST = 1_000  # scores of one thing that are read
MOST_LABELS = 20
BINS = 10
DAY_NS = 86_400_000_000_000
COMPARE: Mapping[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
}
_scores: Any = ScoreRow.__table__  # type: ignore[attr-defined]
_spans: Any = SpanRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class GivenScore:
    """A score, and whether it counts: it does not where its author said something else later, or took it back."""

    score: Score
    current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreName:
    """What the current scores of one name and kind come to."""

    name: str
    kind: str
    count: int
    authors: int
    mean: float | None = None  # of thumbs the share of those up
    least: float | None = None
    most: float | None = None
    values: Sequence[tuple[str, int]] = field(default=())  # labels, or up and down, most frequent first
    bins: Sequence[tuple[float, float, int]] = field(default=())  # of numbers: from, to, how many
    first_ns: int = 0
    last_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreDay:
    """What the current scores of one name and kind come to on one day."""

    start_ns: int
    count: int
    mean: float | None


def get_score(database: Database, project: str, id: str) -> GivenScore | None:
    """One score; ``None`` where the project has none with this id.

    Raises:
        StoreError: The database cannot be read.
    """
    with database.read() as connection:
        return next(iter(found(connection, project, _scores.c.id == (name(id) or ""), most=1)), None)


def latest_scores(database: Database, flt: Filter, *, label: str = "", limit: int = 50) -> list[GivenScore]:
    """The current scores, the latest first.

    Args:
        database: The store.
        flt: Its project and its time, which is that of the scores.
        label: Only those of this name.
        limit: How many at most.

    Raises:
        StoreError: The database cannot be read.
    """
    where = current_in(flt)
    if label:
        where.append(_scores.c.name == (name(label) or ""))
    with database.read() as connection:
        return found(connection, flt.project, and_(*where), most=limit)


def list_days(database: Database, flt: Filter) -> dict[tuple[str, str], list[ScoreDay]]:
    """What the current scores come to day by day, UTC, by name and kind; days without any are left out.

    Args:
        database: The store.
        flt: Its project and its time, which is that of the scores.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = _scores.c
    day = (columns.time_ns - columns.time_ns % literal(DAY_NS)).label("day")
    query = select(columns.name, columns.kind, day, func.count().label("given"), func.avg(columns.value).label("mean"))
    query = query.where(*current_in(flt)).group_by(columns.name, columns.kind, day).order_by(day)
    out: dict[tuple[str, str], list[ScoreDay]] = defaultdict(list)
    with database.read() as connection:
        for row in connection.execute(query):
            mean = None if row.mean is None or row.kind == ScoreKind.TAG else float(row.mean)
            out[row.name, row.kind].append(ScoreDay(start_ns=int(row.day), count=row.given, mean=mean))
    return out


def current_in(flt: Filter) -> list[ColumnElement[bool]]:
    """The current scores of the filter's project and time."""
    where = [_scores.c.project == (name(flt.project) or ""), _scores.c.current == 1]
    if flt.since_ns is not None:
        where.append(_scores.c.time_ns >= flt.since_ns)
    if flt.until_ns is not None:
        where.append(_scores.c.time_ns < flt.until_ns)
    return where


def scores_of_span(database: Database, project: str, span_id: str) -> list[GivenScore]:
    """All that was said of a span, the latest first.

    Args:
        database: The store.
        project: Whose.
        span_id: Its id, or the one that the app gave the request.

    Raises:
        StoreError: The database cannot be read.
    """
    with database.read() as connection:
        return scores_of(connection, project, "span", [span_id]).get(span_id, [])


def scores_of_trace(database: Database, project: str, trace_id: str) -> list[GivenScore]:
    """All that was said of a trace and of any span in it, the latest first.

    Raises:
        StoreError: The database cannot be read.
    """
    with database.read() as connection:
        return found(connection, project, _scores.c.trace_id == (name(trace_id) or ""))


def scores_of_holders(database: Database, project: str, holders: Iterable[tuple[str, str]]) -> list[GivenScore]:
    """What counts of what was said of a trace or session as such, and not of what is in it, the latest first.

    Args:
        database: The store.
        project: Whose.
        holders: ``trace`` or ``session``, and its id.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = _scores.c
    chosen = [and_(columns.target == target, columns.target_id == (name(id) or "")) for target, id in holders]
    if not chosen:
        return []
    with database.read() as connection:
        return found(connection, project, and_(columns.current == 1, or_(*chosen)))


def scores_of_session(database: Database, project: str, session_id: str) -> list[GivenScore]:
    """All that was said of a session, of its traces and of any span in it, the latest first.

    Raises:
        StoreError: The database cannot be read.
    """
    session = name(session_id) or ""
    inside = select(_spans.c.trace_id).where(
        _spans.c.project == (name(project) or ""), _spans.c.session_id == session, _spans.c.is_request == 1
    )
    own = and_(_scores.c.target == "session", _scores.c.target_id == session)
    with database.read() as connection:
        return found(connection, project, or_(own, _scores.c.trace_id.in_(inside)))


def scores_of(
    connection: Connection, project: str, target: str, ids: Iterable[str], *, history: bool = True
) -> dict[str, list[GivenScore]]:
    """What was said of several things of one kind, by their id, the latest first: for lists.

    Args:
        connection: For reading.
        project: Whose.
        target: ``span``, ``trace`` or ``session``.
        ids: Of the things; for a span also the id that the app gave the request.
        history: Also what does not count any more.
    """
    out: dict[str, list[GivenScore]] = {}
    for chunk in in_chunks(ids):
        given_as = {id: name(id) or "" for id in chunk}
        if target == "span":  # a call is known under its own id, and under that of the app
            place = _spans.c.project == (name(project) or "")
            named = select(_spans.c.request_id, _spans.c.id).where(place, _spans.c.request_id.in_(given_as.values()))
            real = {row.request_id: row.id for row in connection.execute(named)}
            given_as = {id: real.get(stored, stored) for id, stored in given_as.items()}
        chosen = and_(_scores.c.target == target, _scores.c.target_id.in_(given_as.values()))
        if not history:
            chosen = and_(chosen, _scores.c.current == 1)
        by_id: dict[str, list[GivenScore]] = defaultdict(list)
        for one in found(connection, project, chosen, most=MOST * len(chunk)):
            by_id[one.score.target_id].append(one)
        out |= {id: by_id[stored] for id, stored in given_as.items() if stored in by_id}
    return out


def found(connection: Connection, project: str, which: ColumnElement[bool], *, most: int = MOST) -> list[GivenScore]:
    query = _scores.select().where(_scores.c.project == (name(project) or ""), which)
    rows = connection.execute(query.order_by(_scores.c.time_ns.desc(), _scores.c.id).limit(most))
    return [GivenScore(record_of(row), bool(row.current)) for row in rows]


def list_names(database: Database, flt: Filter) -> list[ScoreName]:
    """Every name that scores have, with what the current ones come to, the most frequent first.

    Args:
        database: The store.
        flt: Its project, and its time, which is that of the scores; nothing else of it.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = _scores.c
    where = current_in(flt)
    totals = select(
        columns.name, columns.kind, func.count().label("given"), func.count(columns.author.distinct()).label("authors"),
        func.avg(columns.value).label("mean"), func.min(columns.value).label("least"),
        func.max(columns.value).label("most"), func.min(columns.time_ns).label("first_ns"),
        func.max(columns.time_ns).label("last_ns"),
    ).where(*where).group_by(columns.name, columns.kind)  # fmt: skip
    with database.read() as connection:
        rows = connection.execute(totals).all()
        labels = counted_labels(connection, where)
        bins = counted_bins(connection, where, {row.name: (row.least, row.most) for row in rows if numbers(row)})
    return sorted(
        (
            ScoreName(
                name=row.name, kind=row.kind, count=row.given, authors=row.authors,
                mean=None if row.mean is None or row.kind == ScoreKind.TAG else float(row.mean),
                least=row.least if numbers(row) else None, most=row.most if numbers(row) else None,
                values=thumbs(row) if row.kind == ScoreKind.THUMBS else labels.get((row.name, row.kind), ()),
                bins=bins.get(row.name, ()) if numbers(row) else (),
                first_ns=row.first_ns, last_ns=row.last_ns,
            )
            for row in rows
        ),
        key=lambda one: (-one.count, one.name, one.kind),
    )  # fmt: skip


def numbers(row: Any) -> bool:
    return row.kind == ScoreKind.NUMBER and row.least is not None


def thumbs(row: Any) -> Sequence[tuple[str, int]]:
    up = round(float(row.mean or 0) * row.given)
    return (("up", up), ("down", row.given - up))


def counted_labels(connection: Connection, where: Sequence[Any]) -> dict[tuple[str, str], list[tuple[str, int]]]:
    columns = _scores.c
    query = select(columns.name, columns.kind, columns.label, func.count().label("given"))
    query = query.where(*where, columns.label.is_not(None)).group_by(columns.name, columns.kind, columns.label)
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in connection.execute(query):
        counts[row.name, row.kind][row.label] = row.given
    return {key: counter.most_common(MOST_LABELS) for key, counter in counts.items()}


def counted_bins(
    connection: Connection, where: Sequence[Any], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, list[tuple[float, float, int]]]:
    """How many numbers of each name lie in each tenth of their range."""
    columns, out = _scores.c, {}
    for label, (least, most) in ranges.items():
        width = (most - least) / BINS
        if not math.isfinite(width) or width <= 0:
            edges = [least]
        else:
            edges = [least + width * place for place in range(BINS)]
        place = case(*((columns.value >= edge, at) for at, edge in reversed(list(enumerate(edges)))), else_=0)
        query = select(place.label("place"), func.count().label("given"))
        query = query.where(*where, columns.name == label, columns.kind == ScoreKind.NUMBER).group_by(place)
        counts = {row.place: row.given for row in connection.execute(query)}
        ends = [*edges[1:], most]
        out[label] = [(low, high, counts.get(at, 0)) for at, (low, high) in enumerate(zip(edges, ends, strict=True))]
    return out


def scored(project: str, label: str, test: str, value: str) -> ColumnElement[bool]:
    """The condition, over ``llmobs_spans``, that a span, its trace or its session is scored so.

    Args:
        project: Whose.
        label: Name of the score; empty: whatever it is called.
        test: ``= != > >= < <=``; of what is not scored under this name none is true.
        value: A number, ``up`` or ``down``, or a label; empty: any value, also that of a note or a tag.
    """
    columns = _scores.c
    own = [columns.project == (name(project) or ""), columns.current == 1]
    if label:
        own.append(columns.name == (name(label) or ""))
    if value:
        own.append(is_value(test, value))
    of_span = and_(columns.target == "span", columns.target_id == _spans.c.id)
    of_trace = and_(columns.target == "trace", columns.trace_id == _spans.c.trace_id)
    of_session = and_(columns.target == "session", columns.target_id == _spans.c.session_id)
    return or_(*(exists().where(*own, place).correlate(_spans) for place in (of_span, of_trace, of_session)))


def is_value(test: str, value: str) -> ColumnElement[bool]:
    compare = COMPARE[test]
    word = {"up": 1.0, "true": 1.0, "down": 0.0, "false": 0.0}.get(value.lower())
    number = word if word is not None else number_in(value)
    by_number = compare(_scores.c.value, number) if number is not None else false()
    return or_(by_number, compare(_scores.c.label, value)) if test in ("=", "!=") else by_number


def number_in(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
