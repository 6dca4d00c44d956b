"""The traces: the list, and one as a tree with its five metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.select import Listing
from asgi_llmobs.store.database import Database

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


def list_traces(db: Database, flt: Filter, *, cursor: str | None = None, limit: int = 50) -> Listing[TraceRow]:
    """The newest traces with a request that *flt* means.

    Raises:
        FilterError: The cursor is none of ours.
    """
    raise NotImplementedError


def get_trace(db: Database, trace_id: str, *, project: str) -> TraceTree | None:
    """The trace as a tree; ``None`` where the project has none."""
    raise NotImplementedError
