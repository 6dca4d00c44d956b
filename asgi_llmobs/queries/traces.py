"""The traces: the list, and one as a tree with its five metrics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import Connection, Row, literal, select, union_all

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.outline import Outline, read_outline
from asgi_llmobs.queries.paging import DAY_NS, Listing
from asgi_llmobs.queries.select import traces_page
from asgi_llmobs.queries.timing import self_time
from asgi_llmobs.store.database import Database, first_key, in_chunks
from asgi_llmobs.store.tables import SpanRow
from asgi_llmobs.store.tables import TraceRow as StoredTrace
from asgi_llmobs.store.trees import Node
from asgi_llmobs.store.values import dollars, name

__all__ = [
    "Choose",
    "TraceNode",
    "TraceRow",
    "TraceTree",
    "get_trace",
    "list_traces",
    "trace_id_of",
    "trace_row",
    "tree_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRow:
    """One line of the list of traces."""

    trace_id: str
    name: str  # of the root, e.g. ``POST /chat``
    kind: str
    root_id: str | None
    session_id: str | None
    user_id: str | None
    route: str | None
    start_ns: int
    duration_ns: int | None  # root start to the end of the last leaf
    outcome: str  # of the root; ``running`` while anything runs
    node_count: int  # LLM requests
    span_count: int
    error_count: int
    max_depth: int
    success_rate: float | None  # 0.0 to 1.0 of the requests; None without any
    total_cost_usd: Decimal | None  # None where no request has a price
    unpriced_count: int  # requests without a price
    input_tokens: int | None
    output_tokens: int | None
    error_type: str | None = None  # of its first span that failed; known in the list only
    error_message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceNode:
    """One node of the tree, in pre-order. A virtual node was never sent: only its children name it."""

    id: str
    parent_id: str | None  # of the node it hangs under in the tree
    depth: int  # the root: 1
    kind: str
    name: str
    label: str  # the property ``step``, else the name
    outcome: str
    status: int | None
    is_request: bool
    virtual: bool
    orphan: bool  # its parent was never stored: it hangs under the root
    critical: bool  # on the critical path
    offset_ns: int  # start, from the start of the trace
    duration_ns: int | None
    self_ns: int | None  # duration less what children cover
    retry_wait_ns: int  # between its attempts
    child_count: int
    below_count: int  # all nodes below, at any depth
    failed_below: int
    provider: str | None
    model: str | None  # answering, else requested
    operation: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    cost_reason: str | None
    total_cost_usd: Decimal | None  # with all below
    total_input_tokens: int | None
    total_output_tokens: int | None
    first_token_ns: int | None
    attempts: int
    error_type: str | None
    error_message: str | None
    input_preview: str | None
    output_preview: str | None
    session_id: str | None
    user_id: str | None
    node_id: str | None
    caller: str | None
    properties: Mapping[str, str]
    note: str | None  # what is to be said of its place, e.g. that its parent is ambiguous


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceTree:
    """One trace. ``nodes`` are in pre-order unless they were chosen otherwise, so that ``depth`` alone draws it."""

    trace_id: str
    name: str
    session_id: str | None
    session_name: str | None
    user_id: str | None
    start_ns: int
    nodes: Sequence[TraceNode]
    total_cost_usd: Decimal | None
    unpriced_count: int
    duration_ns: int | None  # root start to the end of the last leaf
    node_count: int  # LLM requests
    span_count: int
    virtual_count: int  # nodes that are only named by others
    max_depth: int
    success_rate: float | None
    error_count: int
    input_tokens: int | None
    output_tokens: int | None
    outcome: str  # of the root; ``running`` while anything runs
    parallel_saving_ns: int  # what its leaves would have taken longer one after the other
    retry_wait_ns: int  # spent between attempts of requests
    truncated: bool  # more spans than are shown


Choose = Callable[[Outline], Sequence[Node]]

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
stored: Any = StoredTrace.__table__  # type: ignore[attr-defined]

SHOWN = tuple(
    spans.c[label]
    for label in (
        "key", "name", "status", "provider", "request_model", "response_model", "operation", "cost_reason",
        "first_token_ns", "attempts", "error_type", "error_message", "input_preview", "output_preview", "session_id",
        "user_id", "caller", "properties",
    )
)  # fmt: skip
SUMMARY = tuple(column for column in stored.c if column.name not in ("project", "start_ns", "trace_id"))
STEP = "step"  # a property of this name, in any case, labels the node
VIRTUAL: dict[str, Any] = {
    "kind": "span", "outcome": "ok", "status": None, "is_request": False, "self_ns": None, "provider": None,
    "model": None, "operation": None, "input_tokens": None, "output_tokens": None, "cost_usd": None,
    "cost_reason": None, "first_token_ns": None, "attempts": 0, "error_type": None, "error_message": None,
    "input_preview": None, "output_preview": None, "session_id": None, "user_id": None, "caller": None,
}  # fmt: skip


def list_traces(
    db: Database,
    flt: Filter,
    *,
    cursor: str | None = None,
    limit: int = 50,
    sort: str = "time",
    lowest: bool = False,
) -> Listing[TraceRow]:
    """The newest traces with a request that *flt* means.

    Args:
        db: The store.
        flt: What is meant; its times are those of the trace's start.
        cursor: ``next_cursor`` or ``previous_cursor`` of an earlier page in the same order.
        limit: Rows of a page, 1 to 500.
        sort: ``time``, or one of ``GROUP_RANKS["traces"]`` of :mod:`asgi_llmobs.queries.select`, highest first: then
            the list may hold only the newest 10,000, and says so by ``sorted_within``.
        lowest: Lowest first; not of ``time``.

    Raises:
        FilterError: The cursor is none of ours.
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        found = traces_page(connection, flt, SUMMARY, cursor=cursor, limit=limit, sort=sort, lowest=lowest).listing(
            trace_row
        )
        return replace(found, rows=with_errors(connection, flt.project, found.rows))


def with_errors(connection: Connection, project: str, rows: Sequence[TraceRow]) -> list[TraceRow]:
    """The lines, and on each that has failures what the first of them is called."""
    # a day more, since clocks of one trace differ
    lowest = first_key(connection, min((row.start_ns for row in rows), default=0) - DAY_NS)
    first = [
        select(spans.c.trace_id, spans.c.error_type, spans.c.error_message)
        .where(
            spans.c.project == name(project), spans.c.trace_id == row.trace_id,
            spans.c.outcome == literal("error", literal_execute=True),
            spans.c.key >= literal(lowest, literal_execute=True),
        )
        .limit(1).subquery()
        for row in rows
        if row.error_count
    ]  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for chunk in in_chunks(first, 100):
        for told in connection.execute(union_all(*(select(each) for each in chunk))):
            found[told.trace_id] = {"error_type": told.error_type, "error_message": told.error_message}
    return [replace(row, **found.get(row.trace_id, {})) for row in rows]


def trace_row(row: Row[Any]) -> TraceRow:
    """A line of the list from a row of ``llmobs_traces``."""
    return TraceRow(
        trace_id=row.trace_id,
        name=row.name,
        kind=row.kind,
        root_id=row.root_id,
        session_id=row.session_id,
        user_id=row.user_id,
        route=row.route,
        start_ns=row.start_ns,
        duration_ns=row.duration_ns,
        outcome=row.outcome,
        node_count=row.requests,
        span_count=row.spans,
        error_count=row.errors,
        max_depth=row.depth,
        success_rate=row.succeeded / row.finished if row.finished else None,
        total_cost_usd=dollars(row.cost),
        unpriced_count=row.unpriced,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
    )


def get_trace(db: Database, trace_id: str, *, project: str, choose: Choose | None = None) -> TraceTree | None:
    """The trace as a tree; ``None`` where the project has none. Of a huge one the first 20,000 spans.

    Args:
        db: The store.
        trace_id: 32 hex digits.
        project: Whose trace it is.
        choose: Which nodes are read in full, and in which order; all unless given.

    Raises:
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        outline = read_outline(connection, project, trace_id)
        if outline is None:
            return None
        chosen = outline.nodes if choose is None else choose(outline)
        rows = rows_of(connection, chosen)
    nodes = [node_of(node, rows.get(node.fact.key) if node.fact else None, outline) for node in chosen]
    tree = tree_of(outline, trace_id, nodes)
    outline.dissolve()
    return tree


def tree_of(outline: Outline, trace_id: str, nodes: Sequence[TraceNode] = ()) -> TraceTree:
    """What the trace in *outline* adds up to, with *nodes*."""
    found = outline.totals
    return TraceTree(
        trace_id=trace_id.lower(),
        name=outline.title(),
        session_id=outline.said("session_id"),
        session_name=outline.said("session_name"),
        user_id=outline.said("user_id"),
        start_ns=found.start_ns,
        nodes=nodes,
        total_cost_usd=dollars(found.cost),
        unpriced_count=found.unpriced,
        duration_ns=found.duration_ns,
        node_count=found.requests,
        span_count=found.spans,
        virtual_count=len(outline.nodes) - found.spans,
        max_depth=found.depth,
        success_rate=found.succeeded / found.finished if found.finished else None,
        error_count=found.errors,
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        outcome=found.outcome,
        parallel_saving_ns=outline.parallel_saving_ns,
        retry_wait_ns=outline.retry_wait_ns,
        truncated=outline.truncated,
    )


def trace_id_of(db: Database, start: str, *, project: str) -> str | None:
    """The id of the only trace whose id begins with *start*; ``None`` where there is none, or several.

    Raises:
        StoreError: The database cannot be read.
    """
    low = start.strip().lower()
    columns = stored.c
    query = select(columns.trace_id).where(columns.project == (name(project) or ""), columns.trace_id >= low)
    with db.read() as connection:
        ids = connection.execute(query.order_by(columns.trace_id).limit(2)).scalars().all()
    found = [id for id in ids if low and id.startswith(low)]
    return found[0] if len(found) == 1 or low in found[:1] else None


def rows_of(connection: Connection, nodes: Sequence[Node]) -> dict[int, Row[Any]]:
    """The rest of what is stored of these nodes, by key."""
    found: dict[int, Row[Any]] = {}
    for chunk in in_chunks(node.fact.key for node in nodes if node.fact is not None):
        for row in connection.execute(select(*SHOWN).where(spans.c.key.in_(chunk))):
            found[row.key] = row
    return found


def node_of(node: Node, row: Row[Any] | None, outline: Outline) -> TraceNode:
    """A node in full; *row* is ``None`` where it is virtual."""
    fact = node.fact
    label = outline.name(node)
    properties: Mapping[str, str] = orjson.loads(row.properties) if row is not None and row.properties else {}
    step = next((value for key, value in properties.items() if key.casefold() == STEP), None)
    place: dict[str, Any] = {
        "id": node.id,
        "parent_id": node.parent.id if node.parent is not None else None,
        "depth": node.depth,
        "name": label,
        "label": step or label,
        "virtual": fact is None,
        "orphan": node.orphan,
        "critical": node.critical,
        "offset_ns": node.start_ns - outline.totals.start_ns,
        "child_count": len(node.children),
        "below_count": node.below,
        "failed_below": node.failed,
        "retry_wait_ns": outline.wait_ns(node),
        "total_cost_usd": dollars(node.cost),
        "total_input_tokens": node.input_tokens,
        "total_output_tokens": node.output_tokens,
        "properties": properties,
        "note": node.note,
    }
    if fact is None or row is None:
        end = node.end_ns
        return TraceNode(**VIRTUAL, **place, node_id=node.id, duration_ns=None if end is None else end - node.start_ns)
    return TraceNode(
        **place,
        kind=fact.kind,
        outcome=fact.outcome,
        status=row.status,
        is_request=bool(fact.is_request),
        duration_ns=fact.duration_ns,
        self_ns=self_time(node),
        provider=row.provider,
        model=row.response_model or row.request_model,
        operation=row.operation,
        input_tokens=fact.input_tokens,
        output_tokens=fact.output_tokens,
        cost_usd=dollars(fact.cost),
        cost_reason=row.cost_reason,
        first_token_ns=row.first_token_ns,
        attempts=row.attempts,
        error_type=row.error_type,
        error_message=row.error_message,
        input_preview=row.input_preview,
        output_preview=row.output_preview,
        session_id=row.session_id,
        user_id=row.user_id,
        node_id=fact.node_id,
        caller=row.caller,
    )
