"""Scores as rows: given by the app or on a page, each stored once, the latest of an author current."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, exists, not_, or_, select

from asgi_llmobs.errors import ScoreError
from asgi_llmobs.records import Request, Score, ScoreKind, Span
from asgi_llmobs.scores import MAX_COMMENT, MAX_LABEL, taken_back
from asgi_llmobs.store.database import Database, in_chunks, insert
from asgi_llmobs.store.sums import mark_of
from asgi_llmobs.store.tables import AliasRow, ScoreRow, SessionRow, SpanRow, TraceRow
from asgi_llmobs.store.values import bounded, integer, name

__all__ = [
    "attach",
    "forget",
    "forget_lost",
    "forget_sessions",
    "forget_spans",
    "give",
    "keeping",
    "move",
    "record_of",
    "take_back",
    "write",
]

_aliases = AliasRow.__table__  # type: ignore[attr-defined]
_scores = ScoreRow.__table__  # type: ignore[attr-defined]
_spans = SpanRow.__table__  # type: ignore[attr-defined]
_traces = TraceRow.__table__  # type: ignore[attr-defined]
_sessions = SessionRow.__table__  # type: ignore[attr-defined]


class Group(NamedTuple):
    """What the latest of counts."""

    project: str
    target: str
    target_id: str
    name: str
    author: str


def give(database: Database, *scores: Score) -> None:
    """Store *scores*, as a page does: at once. What is stored already, by its id, stays as it is.

    Raises:
        StoreError: The database cannot be written.
    """
    with database.write() as connection:
        write(connection, scores)


def take_back(database: Database, project: str, id: str) -> bool:
    """Let a score count no more; it stays in the history.

    Returns:
        Whether it was there and counted.

    Raises:
        StoreError: The database cannot be written.
    """
    with database.write() as connection:
        wanted = and_(_scores.c.project == (name(project) or ""), _scores.c.id == (name(id) or ""))
        row = connection.execute(_scores.select().where(wanted, _scores.c.current == 1)).one_or_none()
        if row is None:
            return False
        if row.kind == ScoreKind.NOTE:  # notes stand side by side: nothing later can take its place
            connection.execute(_scores.update().where(wanted).values(current=0))
        else:
            write(connection, [taken_back(record_of(row))])
        return True


def record_of(row: Any) -> Score:
    """The score of a row of ``llmobs_scores``."""
    return Score(
        id=row.id, project=row.project, target=row.target, target_id=row.target_id, trace_id=row.trace_id or None,
        name=row.name, kind=row.kind, value=row.value, label=row.label, comment=row.comment,
        author=row.author or None, time_ns=row.time_ns, keep=bool(row.keep),
    )  # fmt: skip


def write(connection: Connection, scores: Sequence[Score]) -> None:
    """Store *scores* in the caller's transaction, and say which of each group is current now.

    Raises:
        ScoreError: One is of no kind or target that there is.
    """
    by_project: dict[str, dict[str, Score]] = defaultdict(dict)
    for score in scores:
        by_project[name(score.project) or ""].setdefault(name(score.id) or "", score)
    for project, given in by_project.items():
        for chunk in in_chunks(given):
            known = select(_scores.c.id).where(_scores.c.project == project, _scores.c.id.in_(chunk))
            for id in connection.execute(known).scalars():
                del given[id]
        places = found_spans(connection, project, [score.target_id for score in given.values() if is_of_span(score)])
        rows = [row_of(project, id, score, places) for id, score in given.items()]
        insert(connection, _scores, rows)
        for group in {Group(project, row[2], row[3], row[5], row[10]) for row in rows}:
            settle(connection, group)


def is_of_span(score: Score) -> bool:
    return score.target == "span"


def found_spans(connection: Connection, project: str, ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Span id and trace id by the id of a span, or by the one that the app gave its request: the newest of several."""
    found: dict[str, tuple[str, str]] = {}
    columns = _spans.c
    for chunk in in_chunks({name(id) or "" for id in ids}):
        for column in (columns.request_id, columns.id):  # the span's own id last: it wins
            rows = select(column, columns.id, columns.trace_id).where(columns.project == project, column.in_(chunk))
            for given, id, trace in connection.execute(rows.order_by(columns.key)):
                found[given] = id, trace
        aliases = _aliases.c
        lost = [id for id in chunk if id not in found]
        merged = select(aliases.id, aliases.request_id, aliases.trace_id)
        for given, id, trace in connection.execute(merged.where(aliases.project == project, aliases.id.in_(lost))):
            found[given] = id, trace
    return found


def row_of(project: str, id: str, score: Score, places: dict[str, tuple[str, str]]) -> tuple[Any, ...]:
    if score.kind not in set(ScoreKind):
        raise ScoreError("kind", f"{score.kind!r} is none of {', '.join(ScoreKind)}")
    target_id, trace_id = name(score.target_id) or "", name(score.trace_id)
    if is_of_span(score):
        target_id, trace_id = places.get(target_id, (target_id, trace_id or ""))
    return (
        project,
        id,
        name(score.target) or "",
        target_id,
        trace_id,
        name(score.name) or "",
        str(score.kind),
        None if score.value is None else float(score.value),
        bounded(score.label, MAX_LABEL),
        bounded(score.comment, MAX_COMMENT),
        name(score.author) or "",
        integer(score.time_ns) or 0,
        int(score.keep),
        int(score.kind == ScoreKind.NOTE),
    )


def settle(connection: Connection, group: Group) -> None:
    """The latest of *group* is current, if it says something. Notes are not asked: each stands for itself."""
    columns = _scores.c
    own = and_(
        columns.project == group.project, columns.target == group.target, columns.target_id == group.target_id,
        columns.name == group.name, columns.author == group.author, columns.kind != ScoreKind.NOTE,
    )  # fmt: skip
    every = select(columns.id, columns.value, columns.label).where(own)
    latest = connection.execute(every.order_by(columns.time_ns.desc(), columns.id.desc()).limit(1)).one_or_none()
    if latest is None:
        return
    connection.execute(_scores.update().where(own, columns.current == 1, columns.id != latest.id).values(current=0))
    if latest.value is not None or latest.label is not None:
        connection.execute(_scores.update().where(own, columns.id == latest.id).values(current=1))


def attach(connection: Connection, records: Iterable[Span]) -> None:
    """Find the calls that were judged before they were stored: *records* were written just now."""
    by_project: dict[str, list[Span]] = defaultdict(list)
    for record in records:
        by_project[name(record.project) or ""].append(record)
    # in every batch, and hardly ever is there one
    any_waiting = f"SELECT 1 FROM {_scores.name} WHERE project = {mark_of(connection)} AND trace_id = '' LIMIT 1"  # noqa: S608
    for project, judgeable in by_project.items():
        if connection.exec_driver_sql(any_waiting, (project,)).first() is None:
            continue
        columns = _scores.c
        waiting = and_(columns.project == project, columns.trace_id == "")
        ids = ids_of(judgeable)
        early: set[str] = set()
        for chunk in in_chunks(ids):
            judged = and_(waiting, columns.target == "span", columns.target_id.in_(chunk))
            early.update(connection.execute(select(columns.target_id).where(judged)).scalars())
        for given, (id, trace) in found_spans(connection, project, early).items():
            own = and_(waiting, columns.target_id == given)
            connection.execute(_scores.update().where(own).values(trace_id=trace))
            if id != given:
                move(connection, project, given, id)


def ids_of(records: Iterable[Span]) -> set[str]:
    """What scores may call *records*: their own ids, and those that the app gave to requests."""
    both = [(record.id, record.request_id if isinstance(record, Request) else None) for record in records]
    return {name(id) or "" for pair in both for id in pair if id}


def move(connection: Connection, project: str, old: str, new: str) -> None:
    """What was said of the span *old* is said of *new*: both turned out to be one call."""
    own = and_(_scores.c.project == project, _scores.c.target == "span", _scores.c.target_id == old)
    groups = connection.execute(select(_scores.c.name, _scores.c.author).where(own).distinct()).all()
    if groups:
        connection.execute(_scores.update().where(own).values(target_id=new))
    for row in groups:
        settle(connection, Group(project, "span", new, row.name, row.author))


def keeping(connection: Connection, project: str, traces: Sequence[str]) -> set[str]:
    """Those of *traces* that a score keeps from retention: their own, one of a span of theirs, or of their session."""
    columns = _scores.c
    counts = and_(columns.project == project, columns.current == 1, columns.keep == 1)
    own = select(columns.trace_id).where(counts, columns.trace_id.in_(traces))
    found = set(connection.execute(own).scalars())
    sessions = select(columns.target_id).where(counts, columns.target == "session")
    if connection.execute(sessions.limit(1)).first() is not None:
        inside = and_(_spans.c.project == project, _spans.c.trace_id.in_(traces), _spans.c.session_id.in_(sessions))
        found.update(connection.execute(select(_spans.c.trace_id).where(inside).distinct()).scalars())
    return found


def forget_spans(connection: Connection, project: str, ids: Sequence[str]) -> None:
    """Delete the scores of spans that go, by all ids that they have."""
    drop(connection, project, _scores.c.target == "span", _scores.c.target_id, ids)


def forget(
    connection: Connection,
    project: str,
    *,
    traces: Sequence[str] = (),
    session: str | None = None,
    author: str | None = None,
) -> None:
    """Delete the scores of *traces* and all in them, of a *session*, and those that an *author* gave."""
    drop(connection, project, _scores.c.trace_id.is_not(None), _scores.c.trace_id, traces)
    if session is not None:
        drop(connection, project, _scores.c.target == "session", _scores.c.target_id, [session])
    if author is not None:
        drop(connection, project, _scores.c.author != "", _scores.c.author, [author])


def forget_sessions(connection: Connection, project: str, sessions: Iterable[str]) -> None:
    """Delete the scores of those of *sessions* that are not there any more."""
    there = exists().where(_sessions.c.project == project, _sessions.c.session_id == _scores.c.target_id)
    gone = and_(_scores.c.target == "session", not_(there.correlate(_scores)))
    drop(connection, project, gone, _scores.c.target_id, sorted(set(sessions)))


def forget_lost(database: Database, project: str, before_ns: int, *, limit: int) -> int:
    """Delete scores from before that moment whose target is not there, or not any more; how many, *limit* at most.

    Raises:
        StoreError: The database cannot be read or written.
    """
    columns = _scores.c
    trace = exists().where(_traces.c.project == project, _traces.c.trace_id == columns.trace_id).correlate(_scores)
    session = exists().where(_sessions.c.project == project, _sessions.c.session_id == columns.target_id)
    there = or_(and_(columns.target == "session", session.correlate(_scores)), and_(columns.target != "session", trace))
    old = and_(columns.project == project, columns.time_ns < before_ns, not_(there))
    with database.read(fresh=True) as connection:  # looking takes a while where there are many: writers go on
        ids = connection.execute(select(columns.id).where(old).limit(limit)).scalars().all()
    if ids:
        with database.write() as connection:
            drop(connection, project, old, columns.id, ids)
    return len(ids)


def drop(connection: Connection, project: str, which: Any, column: Any, values: Sequence[str]) -> None:
    for chunk in in_chunks(values):
        connection.execute(_scores.delete().where(_scores.c.project == project, which, column.in_(chunk)))
