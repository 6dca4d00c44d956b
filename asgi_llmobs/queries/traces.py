"""The traces: the list, and one as a tree with its five metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import Row, select

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.paging import Listing
from asgi_llmobs.queries.select import traces_page
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import SpanRow
from asgi_llmobs.store.tables import TraceRow as StoredTrace
from asgi_llmobs.store.trees import Fact, Node, arrange, total, totals
from asgi_llmobs.store.values import dollars, name

__all__ = ["TraceNode", "TraceRow", "TraceTree", "get_trace", "list_traces"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceNode:
    """One node of the tree, in pre-order. A virtual node was never sent: only its children name it."""

    id: str
    parent_id: str | None  # of the node it hangs under in the tree
    depth: int  # the root: 1
    kind: str
    name: str
    outcome: str
    status: int | None
    is_request: bool
    virtual: bool
    orphan: bool  # its parent was never stored: it hangs under the root
    critical: bool  # on the critical path
    offset_ns: int  # start, from the start of the trace
    duration_ns: int | None
    self_ns: int | None  # duration less what children cover
    child_count: int
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
    """One trace. ``nodes`` are in pre-order, so that ``depth`` alone draws the tree."""

    trace_id: str
    name: str
    session_id: str | None
    session_name: str | None
    user_id: str | None
    start_ns: int
    nodes: Sequence[TraceNode]
    total_cost_usd: Decimal | None
    unpriced_count: int
    duration_ns: int | None
    node_count: int
    span_count: int
    max_depth: int
    success_rate: float | None
    error_count: int
    input_tokens: int | None
    output_tokens: int | None
    truncated: bool  # more spans than are shown


MAX_NODES = 20_000

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
stored: Any = StoredTrace.__table__  # type: ignore[attr-defined]

FACTS = tuple(spans.c[label] for label in Fact._fields)
SHOWN = (
    "name", "status", "provider", "request_model", "response_model", "operation", "cost_reason", "first_token_ns",
    "attempts", "error_type", "error_message", "input_preview", "output_preview", "session_id", "session_name",
    "user_id", "caller", "properties",
)  # fmt: skip
SUMMARY = tuple(column for column in stored.c if column.name not in ("project", "start_ns", "trace_id"))


def list_traces(db: Database, flt: Filter, *, cursor: str | None = None, limit: int = 50) -> Listing[TraceRow]:
    """The newest traces with a request that *flt* means.

    Args:
        db: The store.
        flt: What is meant; its times are those of the trace's start.
        cursor: ``next_cursor`` or ``previous_cursor`` of an earlier page.
        limit: Rows of a page, 1 to 500.

    Raises:
        FilterError: The cursor is none of ours.
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        return traces_page(connection, flt, SUMMARY, cursor=cursor, limit=limit).listing(trace_row)


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


def get_trace(db: Database, trace_id: str, *, project: str) -> TraceTree | None:
    """The trace as a tree; ``None`` where the project has none. Of a huge one the first 20,000 spans.

    Raises:
        StoreError: The database cannot be read.
    """
    query = (
        select(*FACTS, *(spans.c[label] for label in SHOWN))
        .where(spans.c.project == name(project), spans.c.trace_id == name(trace_id.lower()))
        .order_by(spans.c.start_ns, spans.c.key)
        .limit(MAX_NODES + 1)
    )
    with db.read() as connection:
        rows = connection.execute(query).all()
    if not rows:
        return None
    truncated = len(rows) > MAX_NODES
    rows = rows[:MAX_NODES]
    width = len(Fact._fields)
    facts = {row.key: Fact(*row[:width]) for row in rows}
    return tree_of(trace_id.lower(), arrange(facts.values()), {row.key: row for row in rows}, truncated)


def tree_of(trace_id: str, nodes: Sequence[Node], rows: Mapping[int, Row[Any]], truncated: bool) -> TraceTree:
    found = totals(nodes)
    mark_critical(nodes)
    below = rolled_up(nodes)
    by_start = list(rows.values())
    root = rows[found.root.fact.key] if found.root is not None and found.root.fact is not None else by_start[0]
    return TraceTree(
        trace_id=trace_id,
        name=root.name,
        session_id=next((row.session_id for row in by_start if row.session_id), None),
        session_name=next((row.session_name for row in by_start if row.session_name), None),
        user_id=next((row.user_id for row in by_start if row.user_id), None),
        start_ns=found.start_ns,
        nodes=[
            node_of(node, rows.get(node.fact.key) if node.fact else None, below[id(node)], found.start_ns)
            for node in nodes
        ],
        total_cost_usd=dollars(found.cost),
        unpriced_count=found.unpriced,
        duration_ns=found.duration_ns,
        node_count=found.requests,
        span_count=found.spans,
        max_depth=found.depth,
        success_rate=found.succeeded / found.finished if found.finished else None,
        error_count=found.errors,
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        truncated=truncated,
    )


def rolled_up(nodes: Sequence[Node]) -> dict[int, tuple[int | None, int | None, int | None]]:
    """Cost, input and output tokens of each node with all below it, by the node's identity."""
    found: dict[int, tuple[int | None, int | None, int | None]] = {}
    for node in reversed(nodes):
        parts = [found[id(child)] for child in node.children]
        if node.fact is not None:
            parts.append((node.fact.cost, node.fact.input_tokens, node.fact.output_tokens))
        cost, sent, got = (total(column) for column in zip(*parts, strict=True)) if parts else (None, None, None)
        found[id(node)] = cost, sent, got
    return found


def mark_critical(nodes: Sequence[Node]) -> None:
    """Mark the chain that the end of the trace waited for: from the end back, always the child that ended last."""
    roots = [node for node in nodes if node.parent is None]
    if not roots:
        return
    stack = [max(roots, key=lambda node: node.end_ns or 0)]
    while stack:
        node = stack.pop()
        node.critical = True
        until = node.end_ns
        for child in sorted(node.children, key=lambda item: item.end_ns or 0, reverse=True):
            if child.end_ns is not None and until is not None and child.end_ns <= until and child.start_ns <= until:
                stack.append(child)
                until = child.start_ns


def self_time(node: Node) -> int | None:
    """The duration of a node less the time that any child covers."""
    if node.fact is None or node.fact.duration_ns is None:
        return None
    start, end = node.start_ns, node.start_ns + node.fact.duration_ns
    left, at = node.fact.duration_ns, start
    for child in node.children:
        if child.end_ns is not None:
            low, high = max(at, child.start_ns), min(end, child.end_ns)
            if high > low:
                left -= high - low
                at = high
    return left


def node_of(
    node: Node, row: Row[Any] | None, below: tuple[int | None, int | None, int | None], start_ns: int
) -> TraceNode:
    cost, sent, got = below
    fact = node.fact
    duration = fact.duration_ns if fact is not None else None
    if fact is None and node.end_ns is not None:
        duration = max(0, node.end_ns - node.start_ns)
    label = row.name if row is not None else node.id.rsplit(":", 1)[-1]
    return TraceNode(
        id=node.id,
        parent_id=node.parent.id if node.parent is not None else None,
        depth=node.depth,
        kind=fact.kind if fact is not None else "span",
        name=label,
        outcome=fact.outcome if fact is not None else "ok",
        status=row.status if row is not None else None,
        is_request=bool(fact.is_request) if fact is not None else False,
        virtual=fact is None,
        orphan=node.orphan,
        critical=node.critical,
        offset_ns=node.start_ns - start_ns,
        duration_ns=duration,
        self_ns=self_time(node),
        child_count=len(node.children),
        provider=row.provider if row is not None else None,
        model=(row.response_model or row.request_model) if row is not None else None,
        operation=row.operation if row is not None else None,
        input_tokens=fact.input_tokens if fact is not None else None,
        output_tokens=fact.output_tokens if fact is not None else None,
        cost_usd=dollars(fact.cost) if fact is not None else None,
        cost_reason=row.cost_reason if row is not None else None,
        total_cost_usd=dollars(cost),
        total_input_tokens=sent,
        total_output_tokens=got,
        first_token_ns=row.first_token_ns if row is not None else None,
        attempts=row.attempts if row is not None else 0,
        error_type=row.error_type if row is not None else None,
        error_message=row.error_message if row is not None else None,
        input_preview=row.input_preview if row is not None else None,
        output_preview=row.output_preview if row is not None else None,
        session_id=row.session_id if row is not None else None,
        user_id=row.user_id if row is not None else None,
        node_id=fact.node_id if fact is not None else node.id,
        caller=row.caller if row is not None else None,
        properties=orjson.loads(row.properties) if row is not None and row.properties else {},
        note=node.note,
    )
