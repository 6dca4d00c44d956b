"""One node of a trace in full, the attempts of several, and the traces next to one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Row, and_, or_, select

from asgi_llmobs.queries.content import stored_content, stored_request
from asgi_llmobs.records import Attempt, Body, Request
from asgi_llmobs.store.attempts import attempt_of
from asgi_llmobs.store.database import Database, in_chunks
from asgi_llmobs.store.tables import AttemptRow, SpanRow, TraceRow
from asgi_llmobs.store.values import name

__all__ = ["Around", "Document", "NodeDetail", "around", "attempts_by_id", "node_detail"]

ALIKE_WITHIN = 2_000  # older traces that are looked at for one of the same name
MOST_DOCUMENTS = 50
MOST_READ = 200_000  # bytes of an output that may hold documents
TRACEBACKS = ("exception.stacktrace", "traceback")  # attributes that hold one
WHERE = ("service", "release", "host", "pid")

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
attempts: Any = AttemptRow.__table__  # type: ignore[attr-defined]
traces: Any = TraceRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Something that a retriever found or a reranker ordered."""

    id: str | None
    content: str
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDetail:
    """What is shown of a node beside its figures."""

    where: Mapping[str, Any]  # route, service, release, host, pid, as far as they are known
    request: Request | None  # of an LLM request
    input: Body | None  # of any other span
    output: Body | None
    documents: Sequence[Document]
    traceback: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """The traces next to one: in the project's list, in its session, and the one before it of the same name."""

    newer_id: str | None
    older_id: str | None
    earlier_in_session_id: str | None
    later_in_session_id: str | None
    alike_id: str | None


def node_detail(db: Database, span_id: str, *, project: str) -> NodeDetail | None:
    """The node with this span id; ``None`` where the project has none.

    Raises:
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        row = connection.execute(
            select(spans).where(spans.c.project == name(project), spans.c.id == name(span_id))
        ).first()
        if row is None:
            return None
        detail, bodies, _ = stored_content(connection, row.key)
        request = stored_request(connection, row) if row.is_request else None
    known = {"route": row.route, **{label: detail.get(label) for label in WHERE}}
    attributes = detail.get("attributes") or (detail.get("details") or {}).get("attributes") or {}
    output = bodies.get("output")
    return NodeDetail(
        where={label: value for label, value in known.items() if value is not None},
        request=request,
        input=bodies.get("input"),
        output=output,
        documents=documents_of(output) if row.kind in ("retriever", "reranker") else (),
        traceback=next((str(attributes[label]) for label in TRACEBACKS if attributes.get(label)), None),
    )


def documents_of(output: Body | None) -> list[Document]:
    """The documents in what a retriever or reranker gave back: a JSON list, or one inside an object."""
    if output is None or len(output.content) > MOST_READ:
        return []
    try:
        found = orjson.loads(output.content)
    except orjson.JSONDecodeError:
        return []
    if isinstance(found, dict):
        found = next((value for value in found.values() if isinstance(value, list)), None)
    if not isinstance(found, list):
        return []
    return [document for item in found[:MOST_DOCUMENTS] if (document := document_of(item)) is not None]


def document_of(item: Any) -> Document | None:
    if isinstance(item, str):
        return Document(id=None, content=item, score=None)
    if not isinstance(item, dict):
        return None
    texts = (item.get(label) for label in ("content", "text", "page_content", "document", "title"))
    content = next((text for text in texts if isinstance(text, str)), None)
    scores = (item.get(label) for label in ("score", "relevance_score", "similarity", "distance"))
    score = next((float(each) for each in scores if isinstance(each, int | float)), None)
    if content is None:
        content = orjson.dumps(item).decode()
    return Document(id=str(item["id"]) if item.get("id") is not None else None, content=content, score=score)


def attempts_by_id(db: Database, ids: Iterable[str], *, project: str) -> dict[str, list[Attempt]]:
    """The attempts of the requests with these span ids that needed several, by span id.

    Raises:
        StoreError: The database cannot be read.
    """
    found: dict[str, list[Attempt]] = {}
    columns = attempts.c
    with db.read() as connection:
        for chunk in in_chunks(map(name, ids)):
            wanted = (
                select(spans.c.id, attempts).join(spans, spans.c.key == columns.key)
                .where(spans.c.project == name(project), spans.c.id.in_(chunk)).order_by(columns.key, columns.number)
            )  # fmt: skip
            for row in connection.execute(wanted):
                found.setdefault(row.id, []).append(attempt_of(row, row.id))
    return found


def around(db: Database, trace_id: str, *, project: str) -> Around:
    """The traces next to this one.

    Raises:
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        row = connection.execute(
            select(traces).where(traces.c.project == name(project), traces.c.trace_id == name(trace_id))
        ).first()
        if row is None:
            return Around(
                newer_id=None, older_id=None, earlier_in_session_id=None, later_in_session_id=None, alike_id=None
            )
        return Around(
            newer_id=neighbour(connection, row, newer=True),
            older_id=neighbour(connection, row, newer=False),
            earlier_in_session_id=in_session(connection, row, later=False),
            later_in_session_id=in_session(connection, row, later=True),
            alike_id=alike(connection, row),
        )


def neighbour(connection: Connection, row: Row[Any], *, newer: bool) -> str | None:
    """The trace next to *row* in the project's list."""
    time, id = traces.c.start_ns, traces.c.trace_id
    there = (
        and_(time >= row.start_ns, or_(time > row.start_ns, id > row.trace_id)) if newer
        else and_(time <= row.start_ns, or_(time < row.start_ns, id < row.trace_id))
    )  # fmt: skip
    order = (time.asc(), id.asc()) if newer else (time.desc(), id.desc())
    found: str | None = connection.execute(
        select(id).where(traces.c.project == row.project, there).order_by(*order).limit(1)
    ).scalar()
    return found


def in_session(connection: Connection, row: Row[Any], *, later: bool) -> str | None:
    """The trace of the same session with the next request before or after those of *row*."""
    if row.session_id is None:
        return None
    columns = spans.c
    own = (columns.project == row.project, columns.session_id == row.session_id, columns.is_request == 1)
    order = columns.start_ns.asc() if later else columns.start_ns.desc()
    there = columns.start_ns >= row.start_ns if later else columns.start_ns <= row.start_ns
    found: str | None = connection.execute(
        select(columns.trace_id).where(*own, there, columns.trace_id != row.trace_id).order_by(order).limit(1)
    ).scalar()
    return found


def alike(connection: Connection, row: Row[Any]) -> str | None:
    """The newest of the traces before *row* that is called the same."""
    older = (
        select(traces.c.trace_id, traces.c.name, traces.c.start_ns)
        .where(traces.c.project == row.project, traces.c.start_ns < row.start_ns)
        .order_by(traces.c.start_ns.desc()).limit(ALIKE_WITHIN).subquery()
    )  # fmt: skip
    found: str | None = connection.execute(
        select(older.c.trace_id).where(older.c.name == row.name).order_by(older.c.start_ns.desc()).limit(1)
    ).scalar()
    return found
