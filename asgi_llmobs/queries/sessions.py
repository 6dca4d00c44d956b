"""The sessions: the list, and one with its totals, its requests in order and its tree of paths."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, select

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.paging import Listing
from asgi_llmobs.queries.requests import COLUMNS, RequestRow, row_of
from asgi_llmobs.queries.select import sessions_page
from asgi_llmobs.queries.traces import TraceRow, trace_row
from asgi_llmobs.store.database import Database, in_chunks
from asgi_llmobs.store.tables import SessionRow as StoredSession
from asgi_llmobs.store.tables import SpanRow
from asgi_llmobs.store.tables import TraceRow as StoredTrace
from asgi_llmobs.store.trees import total
from asgi_llmobs.store.values import dollars, name

__all__ = ["PathNode", "SessionDetail", "SessionRow", "get_session", "list_sessions"]


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
    request_ids: Sequence[str]  # requests with exactly this path, in order
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
    """One session. ``requests`` are oldest first; ``truncated`` where there are more than are shown."""

    session: SessionRow
    requests: Sequence[RequestRow]
    traces: Sequence[TraceRow]
    paths: Sequence[PathNode]
    truncated: bool


MAX_REQUESTS = 2_000

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
traces: Any = StoredTrace.__table__  # type: ignore[attr-defined]
stored: Any = StoredSession.__table__  # type: ignore[attr-defined]

SUMMARY = tuple(column for column in stored.c if column.name not in ("project", "end_ns", "session_id"))


def list_sessions(db: Database, flt: Filter, *, cursor: str | None = None, limit: int = 50) -> Listing[SessionRow]:
    """The sessions that were last active, with a request that *flt* means.

    Args:
        db: The store.
        flt: What is meant; its times are met by a session that was active between them.
        cursor: ``next_cursor`` or ``previous_cursor`` of an earlier page.
        limit: Rows of a page, 1 to 500.

    Raises:
        FilterError: The cursor is none of ours.
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        return sessions_page(connection, flt, SUMMARY, cursor=cursor, limit=limit).listing(session_row)


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


def get_session(db: Database, session_id: str, *, project: str) -> SessionDetail | None:
    """The session; ``None`` where the project has none. Its totals are of all its requests, 2,000 of which are shown.

    Raises:
        StoreError: The database cannot be read.
    """
    place, wanted = name(project), name(session_id)
    chosen = (spans.c.project == place, spans.c.session_id == wanted, spans.c.is_request == 1)
    query = select(spans.c.start_ns, spans.c.session_path, *COLUMNS).where(*chosen)
    with db.read() as connection:
        own = (stored.c.project == place, stored.c.session_id == wanted)
        found = connection.execute(select(stored).where(*own)).first()
        if found is None:
            return None
        rows = connection.execute(query.order_by(spans.c.start_ns, spans.c.key).limit(MAX_REQUESTS + 1)).all()
        truncated, rows = len(rows) > MAX_REQUESTS, rows[:MAX_REQUESTS]
        members: list[TraceRow] = []
        for chunk in in_chunks(dict.fromkeys(row.trace_id for row in rows)):
            held = select(traces).where(traces.c.project == place, traces.c.trace_id.in_(chunk))
            members += [trace_row(row) for row in connection.execute(held)]
    return SessionDetail(
        session=session_row(found),
        requests=[row_of(row) for row in rows],
        traces=sorted(members, key=lambda trace: (trace.start_ns, trace.trace_id)),
        paths=paths_of(rows),
        truncated=truncated,
    )


@dataclass(slots=True)
class Folder:
    """A path of the session while its tree is made."""

    parts: tuple[str, ...]
    own: list[Row[Any]] = field(default_factory=list)
    every: list[Row[Any]] = field(default_factory=list)


def paths_of(rows: Sequence[Row[Any]]) -> list[PathNode]:
    """The folders of the requests in pre-order, siblings by their first request.

    A path counts the same with and without its first slash, and a doubled or a last one counts for nothing.
    """
    if not rows:
        return []
    folders: dict[tuple[str, ...], Folder] = {(): Folder(())}
    for row in rows:
        parts = tuple(part.strip() for part in (row.session_path or "").split("/") if part.strip())
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
        request_ids=[row.id for row in folder.own],
        request_count=len(every),
        total_cost_usd=dollars(total(row.cost for row in every)),
        unpriced_count=sum(row.cost is None and row.outcome != "running" for row in every),
        input_tokens=total(row.input_tokens for row in every),
        output_tokens=total(row.output_tokens for row in every),
        error_count=sum(row.outcome == "error" for row in every),
        start_ns=min(row.start_ns for row in every),
        end_ns=max(row.start_ns + (row.duration_ns or 0) for row in every),
    )
