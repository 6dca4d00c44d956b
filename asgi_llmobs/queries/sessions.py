"""The sessions: the list, and one with its totals, its requests in order and its tree of paths."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import RequestRow
from asgi_llmobs.queries.select import Listing
from asgi_llmobs.queries.traces import TraceRow
from asgi_llmobs.store.database import Database

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


def list_sessions(db: Database, flt: Filter, *, cursor: str | None = None, limit: int = 50) -> Listing[SessionRow]:
    """The sessions that were last active, with a request that *flt* means.

    Raises:
        FilterError: The cursor is none of ours.
    """
    raise NotImplementedError


def get_session(db: Database, session_id: str, *, project: str) -> SessionDetail | None:
    """The session; ``None`` where the project has none."""
    raise NotImplementedError
