"""The sessions: the list, and one with its totals, its requests in order and its tree of paths."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, select

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.paging import Listing
from asgi_llmobs.queries.requests import COLUMNS, RequestRow, row_of
from asgi_llmobs.queries.select import REQUESTS, sessions_page
from asgi_llmobs.queries.traces import TraceRow, trace_row
from asgi_llmobs.store.database import Database, in_chunks
from asgi_llmobs.store.tables import SessionRow as StoredSession
from asgi_llmobs.store.tables import SpanRow
from asgi_llmobs.store.tables import TraceRow as StoredTrace
from asgi_llmobs.store.trees import total
from asgi_llmobs.store.values import dollars, name

__all__ = [
    "PathNode",
    "SessionDetail",
    "SessionRow",
    "get_session",
    "list_sessions",
    "parts_of",
    "session_paths",
    "session_traces",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """One line of the list of sessions."""

    session_id: str
    name: str | None
    user_id: str | None
    start_ns: int  # of its first request
    end_ns: int  # of its last end
    request_count: int
    trace_count: int
    error_count: int
    total_cost_usd: Decimal | None
    unpriced_count: int
    input_tokens: int | None
    output_tokens: int | None

    @property
    def duration_ns(self) -> int:
        """Last end less first start."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class PathNode:
    """A folder of the session's paths, in pre-order. Virtual: no request names it itself."""

    path: str  # normalised, ``/a/b``
    name: str  # last segment; ``/`` for the root
    depth: int  # of ``/``: 0
    virtual: bool
    request_ids: Sequence[str]  # requests with exactly this path, in order, the first hundred of them
    own_count: int  # all of them
    request_count: int  # with all below, like the rest
    total_cost_usd: Decimal | None
    unpriced_count: int
    input_tokens: int | None
    output_tokens: int | None
    error_count: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDetail:
    """One session, and of its requests, oldest first, those that were asked for."""

    session: SessionRow
    requests: Sequence[RequestRow]
    before: Sequence[RequestRow]  # some that come before them
    traces: Sequence[TraceRow]  # those of these requests, by their start
    start: int  # the place of the first of them
    count: int  # how many there are in all


MOST_REQUESTS = 20_000  # that a tree of paths is made of
MOST_IDS = 100

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
traces: Any = StoredTrace.__table__  # type: ignore[attr-defined]
stored: Any = StoredSession.__table__  # type: ignore[attr-defined]

SUMMARY = tuple(column for column in stored.c if column.name not in ("project", "end_ns", "session_id"))


def list_sessions(
    db: Database,
    flt: Filter,
    *,
    cursor: str | None = None,
    limit: int = 50,
    sort: str = "time",
    lowest: bool = False,
) -> Listing[SessionRow]:
    """The sessions that were last active, with a request that *flt* means.

    Args:
        db: The store.
        flt: What is meant; its times are met by a session that was active between them.
        cursor: ``next_cursor`` or ``previous_cursor`` of an earlier page in the same order.
        limit: Rows of a page, 1 to 500.
        sort: ``time``, or one of ``GROUP_RANKS["sessions"]`` of :mod:`asgi_llmobs.queries.select`, highest first: then
            the list may hold only the newest 10,000, and says so by ``sorted_within``.
        lowest: Lowest first; not of ``time``.

    Raises:
        FilterError: The cursor is none of ours.
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        return sessions_page(connection, flt, SUMMARY, cursor=cursor, limit=limit, sort=sort, lowest=lowest).listing(
            session_row
        )


def session_row(row: Row[Any]) -> SessionRow:
    return SessionRow(
        session_id=row.session_id,
        name=row.name,
        user_id=row.user_id,
        start_ns=row.start_ns,
        end_ns=row.end_ns,
        request_count=row.requests,
        trace_count=row.traces,
        error_count=row.errors,
        total_cost_usd=dollars(row.cost if row.priced else None),
        unpriced_count=row.unpriced,
        input_tokens=row.input_tokens if row.inputs else None,
        output_tokens=row.output_tokens if row.outputs else None,
    )


def get_session(
    db: Database, session_id: str, *, project: str, path: str = "", start: int = 0, limit: int = 50, before: int = 0
) -> SessionDetail | None:
    """The session and a page of its requests; ``None`` where the project has none.

    Args:
        db: The store.
        session_id: As the app names it.
        project: Whose session it is.
        path: Only requests in this folder and below; the totals are still those of the session.
        start: The place of the first request.
        limit: How many of them.
        before: How many to read that come before these.

    Raises:
        StoreError: The database cannot be read.
    """
    chosen = own_requests(session_id, project)
    order = (spans.c.start_ns, spans.c.key)
    with db.read() as connection:
        found = connection.execute(select(stored).where(*own_session(session_id, project))).first()
        if found is None:
            return None
        wanted = select(spans.c.start_ns, *COLUMNS).order_by(*order)
        if path:
            held = select(spans.c.key, spans.c.session_path).where(*chosen).order_by(*order).limit(MOST_REQUESTS)
            every = connection.execute(held).all()
            inside = [
                at for at, row in enumerate(every) if parts_of(row.session_path)[: depth_of(path)] == parts_of(path)
            ]
            page = inside[start : start + limit]
            earlier = range(max(0, page[0] - before), page[0]) if page else ()
            count, wanted = len(inside), wanted.where(spans.c.key.in_([every[at].key for at in (*earlier, *page)]))
        else:
            count, earlier = found.requests, range(max(0, start - before), start)
            wanted = wanted.where(*chosen).limit(len(earlier) + limit).offset(start - len(earlier))
        rows = [row_of(row) for row in connection.execute(wanted)]
        shown = rows[len(earlier) :]
        members = read_traces(connection, project, (row.trace_id for row in shown))
    return SessionDetail(
        session=session_row(found),
        requests=shown,
        before=rows[: len(earlier)],
        traces=members,
        start=start,
        count=count,
    )


def session_traces(
    db: Database, session_id: str, *, project: str, start: int = 0, limit: int = 100
) -> Sequence[TraceRow]:
    """A page of the traces of a session, by their start.

    Raises:
        StoreError: The database cannot be read.
    """
    members = select(spans.c.trace_id).where(*own_requests(session_id, project))
    columns = traces.c
    with db.read() as connection:
        begun: list[tuple[int, str]] = []
        for chunk in in_chunks(dict.fromkeys(connection.execute(members.limit(MOST_REQUESTS)).scalars())):
            held = select(columns.start_ns, columns.trace_id).where(
                columns.project == name(project), columns.trace_id.in_(chunk)
            )
            begun += [(row.start_ns, row.trace_id) for row in connection.execute(held)]
        return read_traces(connection, project, (id for _, id in sorted(begun)[start : start + limit]))


def session_paths(db: Database, session_id: str, *, project: str) -> Sequence[PathNode]:
    """The tree of a session's paths, made of its first 20,000 requests; none where all are in the root.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = spans.c
    query = (
        select(
            columns.id, columns.session_path, columns.start_ns, columns.duration_ns, columns.outcome, columns.cost,
            columns.input_tokens, columns.output_tokens,
        )
        .where(*own_requests(session_id, project)).order_by(columns.start_ns, columns.key).limit(MOST_REQUESTS)
    )  # fmt: skip
    with db.read() as connection:
        rows: Sequence[Any] = connection.execute(query).all()
    return paths_of(rows)


def own_requests(session_id: str, project: str) -> tuple[Any, ...]:
    return spans.c.project == name(project), spans.c.session_id == name(session_id), REQUESTS.base


def own_session(session_id: str, project: str) -> tuple[Any, ...]:
    return stored.c.project == name(project), stored.c.session_id == name(session_id)


def read_traces(connection: Connection, project: str, ids: Iterable[str]) -> list[TraceRow]:
    members: list[TraceRow] = []
    for chunk in in_chunks(dict.fromkeys(ids)):
        held = select(traces).where(traces.c.project == name(project), traces.c.trace_id.in_(chunk))
        members += [trace_row(row) for row in connection.execute(held)]
    return sorted(members, key=lambda trace: (trace.start_ns, trace.trace_id))


def parts_of(path: str | None) -> tuple[str, ...]:
    """The folders of a path: a first, a doubled and a last slash count for nothing."""
    return tuple(part.strip() for part in (path or "").split("/") if part.strip())


def depth_of(path: str) -> int:
    return len(parts_of(path))


@dataclass(slots=True)
class Folder:
    """A path of the session while its tree is made."""

    parts: tuple[str, ...]
    own: list[Row[Any]] = field(default_factory=list)
    every: list[Row[Any]] = field(default_factory=list)


def paths_of(rows: Sequence[Any]) -> list[PathNode]:
    """The folders of the requests in pre-order, siblings by their first request."""
    if not rows:
        return []
    folders: dict[tuple[str, ...], Folder] = {(): Folder(())}
    for row in rows:
        parts = parts_of(row.session_path)
        for depth in range(len(parts) + 1):
            folder = folders.setdefault(parts[:depth], Folder(parts[:depth]))
            folder.every.append(row)
        folders[parts].own.append(row)
    children: dict[tuple[str, ...], list[Folder]] = {}
    for folder in folders.values():
        if folder.parts:
            children.setdefault(folder.parts[:-1], []).append(folder)
    out: list[PathNode] = []
    stack = [folders[()]]
    while stack:
        folder = stack.pop()
        out.append(path_node(folder))
        stack.extend(reversed(children.get(folder.parts, [])))
    return out


def path_node(folder: Folder) -> PathNode:
    every = folder.every
    return PathNode(
        path="/" + "/".join(folder.parts),
        name=folder.parts[-1] if folder.parts else "/",
        depth=len(folder.parts),
        virtual=not folder.own,
        request_ids=[row.id for row in folder.own[:MOST_IDS]],
        own_count=len(folder.own),
        request_count=len(every),
        total_cost_usd=dollars(total(row.cost for row in every)),
        unpriced_count=sum(row.cost is None and row.outcome != "running" for row in every),
        input_tokens=total(row.input_tokens for row in every),
        output_tokens=total(row.output_tokens for row in every),
        error_count=sum(row.outcome == "error" for row in every),
        start_ns=min(row.start_ns for row in every),
        end_ns=max(row.start_ns + (row.duration_ns or 0) for row in every),
    )
