"""Taking spans out again, with everything that hangs on them, and giving the space back."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, and_, func, or_, select, true

from asgi_llmobs.errors import StoreError, Trouble
from asgi_llmobs.store import pins, scores, search
from asgi_llmobs.store.contents import packed_content, unpacked_content
from asgi_llmobs.store.database import Database, in_chunks, insert
from asgi_llmobs.store.partitions import drop_empty
from asgi_llmobs.store.rows import property_rows
from asgi_llmobs.store.sums import Counted, mark_of
from asgi_llmobs.store.tables import (
    AliasRow,
    AttemptRow,
    ContentRow,
    MetaRow,
    PinRow,
    PropertyRow,
    SpanRow,
    TraceRow,
)
from asgi_llmobs.store.totals import Totals
from asgi_llmobs.store.values import BIGGEST

__all__ = [
    "COLUMNS",
    "OldTrace",
    "live_bytes",
    "oldest_traces",
    "projects",
    "remove",
    "remove_one",
    "shrink",
    "span_count",
    "strip",
    "take_out",
    "traces_of",
    "unpin",
    "weighed",
]

PAGE = 100  # traces looked at in one go
ROW_BYTES = 600  # of a span outside its contents, roughly: its columns, and what indexes hold of them
STRETCH = 20_000  # row keys weighed in one go
VACUUM_PAGES = 100
FREE_SHARE = 0.1  # of the file may lie free for the rows to come
STALE_SHARE = 0.1  # as many spans as this of those that are there may have gone before their words are purged

_spans = SpanRow.__table__  # type: ignore[attr-defined]
_contents = ContentRow.__table__  # type: ignore[attr-defined]
_aliases = AliasRow.__table__  # type: ignore[attr-defined]
_attempts = AttemptRow.__table__  # type: ignore[attr-defined]
_properties = PropertyRow.__table__  # type: ignore[attr-defined]
_traces = TraceRow.__table__  # type: ignore[attr-defined]
_meta = MetaRow.__table__  # type: ignore[attr-defined]
_pins = PinRow.__table__  # type: ignore[attr-defined]

COLUMNS = [_spans.c[name] for name in (*Counted._fields, "is_request", "properties", "id", "request_id")]
REMOVED = "removed"
MAY_HAVE_BODY = "(s.input_preview IS NULL OR s.input_preview <> '')"  # an empty one is the mark of those without
CONTENT = ("messages", "tools", "output", "text", "reasoning_text", "tool_calls")  # of a detail
WEIGHT = f"""
SELECT {{what}}, count(*), sum({ROW_BYTES} + coalesce(length(s.properties), 0)
  + coalesce((SELECT length(c.content) FROM llmobs_contents c WHERE c.key = s.key), 0))
FROM llmobs_spans s WHERE {{where}} GROUP BY {{what}}
"""  # noqa: S608


BODIES = f"""
SELECT {{what}}, count(*), sum(coalesce((SELECT length(c.content) FROM llmobs_contents c WHERE c.key = s.key), 0))
FROM llmobs_spans s WHERE {{where}} AND {MAY_HAVE_BODY} GROUP BY {{what}}
"""  # noqa: S608


class OldTrace(NamedTuple):
    """A stored trace, for the decision whether it goes. ``weight`` is bytes of its rows, about."""

    project: str
    trace_id: str
    start_ns: int
    end_ns: int
    spans: int
    weight: int


def projects(connection: Connection) -> list[str]:
    """All that have anything stored, found by one look into an index each."""
    found: list[str] = []
    while True:
        later = _traces.c.project > found[-1] if found else true()
        next_one = connection.execute(select(func.min(_traces.c.project)).where(later)).scalar()
        if next_one is None:
            return found
        found.append(next_one)


def span_count(connection: Connection, names: Iterable[str]) -> int:
    """How many spans the projects *names* have."""
    query = select(func.count()).select_from(_spans)
    return sum(connection.execute(query.where(_spans.c.project == name)).scalar() or 0 for name in names)


def oldest_traces(
    database: Database, project: str, *, bodies: bool = False, since_ns: int | None = None
) -> Iterator[OldTrace]:
    """The traces of *project* that may go, oldest first, in pages: no transaction stays open between two of them.

    Args:
        database: The store.
        project: Its stored name.
        bodies: Count and weigh the spans with bodies only, and only these bodies.
        since_ns: Pass over what began earlier.
    """
    columns = _traces.c
    after: Any = true() if since_ns is None else columns.start_ns >= since_ns
    while True:
        query = select(columns.trace_id, columns.start_ns, columns.duration_ns).where(columns.project == project, after)
        with database.read(fresh=True) as connection:
            rows = connection.execute(query.order_by(columns.start_ns, columns.trace_id).limit(PAGE)).all()
            ids = [row.trace_id for row in rows]
            weights = trace_weights(connection, project, ids, BODIES if bodies else WEIGHT)
            stay = pins.kept(connection, project, ids)
        for row in rows:
            spans, weight = weights.get(row.trace_id, (0, 0))
            if row.trace_id not in stay:
                end = row.start_ns + (row.duration_ns or 0)
                yield OldTrace(project, row.trace_id, row.start_ns, end, spans, weight)
        if len(rows) < PAGE:
            return
        start, last = rows[-1].start_ns, rows[-1].trace_id
        after = and_(columns.start_ns >= start, or_(columns.start_ns > start, columns.trace_id > last))


def trace_weights(
    connection: Connection, project: str, traces: Sequence[str], statement: str
) -> dict[str, tuple[int, int]]:
    """Spans and bytes of each of *traces*."""
    if not traces:
        return {}
    mark = mark_of(connection)
    where = f"s.project = {mark} AND s.trace_id IN ({', '.join([mark] * len(traces))})"
    rows = connection.exec_driver_sql(statement.format(what="s.trace_id", where=where), (project, *traces))
    return {trace: (int(count), int(weight or 0)) for trace, count, weight in rows}


def weighed(database: Database, *, bodies: bool = False) -> Iterator[dict[str, tuple[int, int]]]:
    """Spans and bytes of each project, about, in stretches of the whole store; they are to be added up.

    Args:
        database: The store.
        bodies: Count and weigh the spans with bodies only, and only these bodies.
    """
    low: int | None = -1
    while low is not None:
        with database.read(fresh=True) as connection:
            # not so many further: keys on PostgreSQL leap from day to day
            edge = select(_spans.c.key).where(_spans.c.key > low).order_by(_spans.c.key).offset(STRETCH).limit(1)
            high = connection.execute(edge).scalar()
            mark = mark_of(connection)
            statement = BODIES if bodies else WEIGHT
            statement = statement.format(what="s.project", where=f"s.key > {mark} AND s.key <= {mark}")
            rows = connection.exec_driver_sql(statement, (low, BIGGEST if high is None else high)).all()
        yield {project: (int(count), int(weight or 0)) for project, count, weight in rows}
        low = high


def live_bytes(connection: Connection) -> int | None:
    """Bytes that the whole database takes without what lies free in it; ``None`` where it cannot say."""
    if connection.dialect.name != "sqlite":
        return None
    size, pages, free = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0
        for name in ("page_size", "page_count", "freelist_count")
    )
    return int(size * (pages - free))


def remove(connection: Connection, project: str, traces: Sequence[str], *, limit: int) -> int:
    """Delete spans of *traces*, at most *limit*; once none is left, the traces themselves.

    Returns:
        How many spans went. Where it is *limit* there may be more: call again.
    """
    chosen = (_spans.c.project == project) & _spans.c.trace_id.in_(traces)
    wanted = select(*COLUMNS).where(chosen).order_by(_spans.c.key).limit(limit)
    rows = connection.execute(wanted).all()
    totals = Totals(connection)
    take_out(connection, project, rows)
    scores.forget_spans(connection, project, named(rows))
    for row in rows:
        totals.removed(row)
    left: Counter[tuple[str, str, str]] = Counter()
    if len(rows) < limit:
        for table in (_traces, _aliases):
            connection.execute(table.delete().where(table.c.project == project, table.c.trace_id.in_(traces)))
        scores.forget(connection, project, traces=traces)
    else:
        own = (_spans.c.session_id.is_not(None), _spans.c.is_request == 1)
        pairs = select(_spans.c.session_id, _spans.c.trace_id, func.count()).where(chosen, *own)
        for session, trace, count in connection.execute(pairs.group_by(_spans.c.session_id, _spans.c.trace_id)):
            left[project, session, trace] = count
    totals.settle(left)
    scores.forget_sessions(connection, project, (row.session_id for row in rows if row.session_id is not None))
    return len(rows)


def strip(connection: Connection, project: str, traces: Sequence[str], *, limit: int) -> int:
    """Delete bodies, texts and previews of spans of *traces*, of at most *limit*; the spans stay.

    Returns:
        Of how many spans. Where it is *limit* there may be more: call again.
    """
    mark = mark_of(connection)
    where = f"s.project = {mark} AND s.trace_id IN ({', '.join([mark] * len(traces))})"
    statement = f"SELECT s.key FROM llmobs_spans s WHERE {where} AND {MAY_HAVE_BODY} ORDER BY s.key LIMIT {int(limit)}"  # noqa: S608
    keys = list(connection.exec_driver_sql(statement, (project, *traces)).scalars())
    for chunk in in_chunks(keys):
        search.forget(connection, chunk)
        chosen = _spans.c.key.in_(chunk)
        connection.execute(_spans.update().where(chosen).values(input_preview="", output_preview=None))
        rows = connection.execute(_contents.select().where(_contents.c.key.in_(chunk))).all()
        insert(connection, _contents, [(key, bare(content)) for key, content in rows], replace=True)
    note_removed(connection, len(keys))
    return len(keys)


def bare(content: bytes) -> bytes:
    """A span's content without bodies, words and what was read from bodies."""
    detail = unpacked_content(content).detail
    return packed_content({name: value for name, value in detail.items() if name not in CONTENT}, {}, None)


def note_removed(connection: Connection, count: int) -> None:
    """Count what was taken out of the full-text index since it was last merged."""
    if count:
        insert(connection, _meta, [(REMOVED, str(removed(connection) + count))], replace=True)


def remove_one(connection: Connection, project: str, id: str) -> int:
    """Delete the span *id* alone; how many there were, 0 or 1."""
    chosen = (_spans.c.project == project) & (_spans.c.id == id)
    rows = connection.execute(select(*COLUMNS).where(chosen)).all()
    totals = Totals(connection)
    take_out(connection, project, rows)
    scores.forget_spans(connection, project, named(rows))
    for row in rows:
        totals.removed(row, trace_too=True)
    totals.refresh()
    return len(rows)


def traces_of(connection: Connection, project: str, *, user: str | None, session: str | None) -> list[str]:
    """Every trace that has a span of *user*, or of *session*."""
    columns = _spans.c
    found: list[str] = []
    for column, wanted in ((columns.user_id, user), (columns.session_id, session)):
        if wanted is not None:
            query = select(columns.trace_id).where(columns.project == project, column == wanted).distinct()
            found += connection.execute(query).scalars().all()
    return list(dict.fromkeys(found))


def unpin(connection: Connection, project: str, traces: Sequence[str]) -> None:
    """Forget that *traces* were pinned."""
    for chunk in in_chunks(traces):
        connection.execute(_pins.delete().where(_pins.c.project == project, _pins.c.trace_id.in_(chunk)))


def take_out(connection: Connection, project: str, rows: Sequence[Any]) -> None:
    """Delete *rows* of spans, given with ``COLUMNS``, and what hangs on them, but for totals."""
    remove_properties(connection, project, rows)
    for keys in in_chunks(row.key for row in rows):
        search.forget(connection, keys)
        for table in (_contents, _attempts, _spans):
            connection.execute(table.delete().where(table.c.key.in_(keys)))
    note_removed(connection, len(rows))


def named(rows: Sequence[Any]) -> list[str]:
    """All ids under which *rows* of spans may have been judged."""
    return [id for row in rows for id in (row.id, row.request_id) if id is not None]


def remove_properties(connection: Connection, project: str, rows: Sequence[Any]) -> None:
    """Delete the entries of the property index that *rows* of spans have."""
    entries = [
        entry
        for row in rows
        if row.properties
        for entry in property_rows(project, orjson.loads(row.properties), row.start_ns, row.key)
    ]
    if entries:
        keys = " AND ".join(f"{column.name} = {mark_of(connection)}" for column in _properties.primary_key.columns)
        connection.exec_driver_sql(f"DELETE FROM {_properties.name} WHERE {keys}", entries)  # noqa: S608


def shrink(database: Database, *, whole: bool = False) -> Iterator[None]:
    """Give the space of what was removed back to the system, in small steps; PostgreSQL does that by itself.

    Args:
        database: The store.
        whole: Leave nothing of what was removed: no word in the full-text index, no free page, on PostgreSQL no dead
            row.
    """
    if not database.sqlite:
        drop_empty_days(database)
        if whole:
            database.vacuum_rows()
        return
    with database.read() as connection:
        low, high = connection.execute(select(func.min(_spans.c.key), func.max(_spans.c.key))).one()
        stale = whole or removed(connection) > STALE_SHARE * ((high or 0) - (low or 0))
    if database.tight():
        stale = whole  # it needs room before it gives any
    begin = stale
    while stale:
        with database.write() as connection:
            stale = search.merge(connection, begin=begin)
            if not stale:
                connection.execute(_meta.delete().where(_meta.c.name == REMOVED))
        begin = False
        yield
    while database.vacuum(VACUUM_PAGES, 0.0 if whole else FREE_SHARE):
        yield
    database.checkpoint()


def drop_empty_days(database: Database) -> None:
    """Drop the partitions that have become empty; where somebody reads them for long, the next time."""
    try:
        with database.write() as connection:
            drop_empty(connection)
    except StoreError as error:
        if error.trouble != Trouble.TRANSIENT:
            raise


def removed(connection: Connection) -> int:
    """How many spans were removed since the full-text index was last merged."""
    return int(connection.execute(select(_meta.c.value).where(_meta.c.name == REMOVED)).scalar() or 0)
