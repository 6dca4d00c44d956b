"""The requests: the list, one of them in full, and finding one by any of its ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.select import Listing
from asgi_llmobs.records import Request
from asgi_llmobs.store.database import Database

__all__ = ["RequestDetail", "RequestRow", "TraceSummary", "find_request", "get_request", "list_requests"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One line of the list. Times in nanoseconds, as in :mod:`asgi_llmobs.records`."""

    id: str
    trace_id: str
    parent_id: str | None
    request_id: str | None
    session_id: str | None
    session_name: str | None
    user_id: str | None
    name: str
    kind: str
    start_ns: int
    duration_ns: int | None
    first_token_ns: int | None
    outcome: str
    status: int | None
    provider: str
    api: str
    operation: str
    request_model: str | None
    response_model: str | None
    stream: bool
    input_tokens: int | None
    output_tokens: int | None
    cache_read: int | None
    reasoning: int | None
    estimated: bool
    cost_usd: Decimal | None
    cost_reason: str | None
    attempts: int
    error_type: str | None
    error_message: str | None
    input_preview: str | None
    output_preview: str | None
    route: str | None
    properties: Mapping[str, str]
    caller: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """The trace that a request belongs to, in one line."""

    trace_id: str
    name: str
    node_count: int  # LLM requests
    span_count: int  # spans of any kind
    error_count: int
    total_cost_usd: Decimal | None
    duration_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDetail:
    """One request with all that is known of it."""

    request: Request  # messages, tools and texts read again from the bodies
    newer_id: str | None  # neighbours in the project's list
    older_id: str | None
    trace: TraceSummary | None
    input_omitted: bool  # the request body is not stored
    output_omitted: bool


def list_requests(
    db: Database, flt: Filter, *, cursor: str | None = None, limit: int = 50
) -> Listing[RequestRow]:
    """The newest requests that *flt* means, a page at a time.

    Args:
        cursor: ``next_cursor`` or ``previous_cursor`` of an earlier page.
        limit: Rows of a page, 1 to 500.

    Raises:
        FilterError: The cursor is none of ours.
    """
    raise NotImplementedError


def get_request(db: Database, id: str, *, project: str) -> RequestDetail | None:
    """The request with the span id *id*; ``None`` where the project has none."""
    raise NotImplementedError


def find_request(db: Database, text: str, project: str) -> str | None:
    """The span id of the newest request known as *text*: its span id, its LLMObs-Request-Id, the provider's response
    id or the provider's request id."""
    raise NotImplementedError
