"""Where we are: one trace, held by one ContextVar, mutable so that what a thread adds is seen everywhere."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, TypeVar

from asgi_llmobs.records import Span

__all__ = [
    "Place",
    "Trace",
    "current_place",
    "give_back",
    "left_place",
    "new_span_id",
    "new_trace_id",
    "place",
    "suppress",
    "suppressed",
]

MAX_SPANS = 5_000  # of one trace: beyond, calls are counted and the trace is marked truncated
GRACE_NS = 10_000_000_000  # what a task begins later than this after its request is no part of it any more
OPEN_GRACE_NS = 600_000_000_000  # the same for what it begins inside a span of the trace that is still open

T = TypeVar("T")
# the OS seeds it; a fork draws on: two processes must never make the same ids
_random = random.SystemRandom()
_bits = random.Random(_random.getrandbits(128))


def reseed() -> None:
    """Fresh ids for a forked child."""
    _bits.seed(_random.getrandbits(128))


def new_span_id() -> str:
    """A span id: 16 hex digits, never all zero."""
    return f"{_bits.getrandbits(64) or 1:016x}"


def new_trace_id() -> str:
    """A trace id: 32 hex digits, never all zero."""
    return f"{_bits.getrandbits(128) or 1:032x}"


class Trace:
    """What all spans below one root share. One object for the whole request; ``annotate`` changes it in place."""

    __slots__ = (
        "client_gone",
        "ended_clock_ns",
        "id",
        "late",
        "name",
        "project",
        "properties",
        "recorder",
        "root",
        "root_spooled",
        "root_told",
        "sampled",
        "session_id",
        "session_name",
        "session_path",
        "spans",
        "told",
        "truncated",
        "user_id",
    )

    def __init__(self, trace_id: str, project: str, recorder: Any = None) -> None:
        self.id = trace_id
        self.project = project
        self.recorder = recorder  # of the engine that this trace belongs to
        self.session_id: str | None = None
        self.session_name: str | None = None
        self.session_path: str | None = None
        self.user_id: str | None = None
        self.name: str | None = None
        self.properties: dict[str, str] = {}
        self.spans = 0  # admitted below the root
        self.truncated = 0
        self.sampled = True
        self.ended_clock_ns: int | None = None
        self.root: Callable[[], Span] | None = None  # gives the root span as it stands, while it is open
        self.root_spooled = False
        self.root_told = False
        self.told = False  # a span of it was recorded already
        self.late = False  # annotated after that
        self.client_gone = False

    def admit(self) -> bool:
        """Count one more span; ``False`` where the trace is full or not sampled."""
        if not self.sampled:
            return False
        if self.spans >= MAX_SPANS:
            self.truncated += 1
            if self.recorder is not None:
                self.recorder.refuse("trace full")
            return False
        self.spans += 1
        if self.spans == 1:
            self.first()
        return True

    def first(self) -> None:
        """The first span below the root starts."""

    def route(self) -> str | None:
        """The template of the route that the incoming request took."""
        return None

    def open_root(self) -> Span | None:
        """The root span as it stands; ``None`` where there is none or it has ended."""
        return None if self.root is None else self.root()

    def over(self, grace_ns: int | None = None) -> bool:
        """Whether the root ended so long ago that what starts now is no longer part of it."""
        if self.ended_clock_ns is None:
            return False
        return time.monotonic_ns() - self.ended_clock_ns > (GRACE_NS if grace_ns is None else grace_ns)


class Place:
    """A point in a trace: the span that new spans hang below, and the properties they inherit."""

    __slots__ = ("open", "properties", "span_id", "trace")

    def __init__(self, trace: Trace, span_id: str | None, properties: Mapping[str, str] | None = None) -> None:
        self.trace = trace
        self.span_id = span_id
        self.properties: dict[str, str] = dict(properties) if properties else {}
        self.open = False  # a span of the app's own that has not ended

    def over(self) -> bool:
        """Whether what starts here is no longer part of the trace."""
        return self.trace.over(OPEN_GRACE_NS if self.open else None)


place: ContextVar[Place | None] = ContextVar("llmobs_place", default=None)
_suppressed: ContextVar[object] = ContextVar("llmobs_suppressed", default=None)  # whatever it is, by whom


def give_back(variable: ContextVar[T | None], token: Token[T | None], own: T) -> None:
    """Undo the setting of *variable* to *own*, wherever we are: the block of a generator may end in another context.

    There only a copy of what was set is undone; what somebody else set there stays.
    """
    try:
        variable.reset(token)
    except ValueError:
        if variable.get() is own:
            variable.set(None if token.old_value is Token.MISSING else token.old_value)


def current_place() -> Place | None:
    """The point where a new span belongs, ``None`` outside any trace."""
    here = place.get()
    return None if here is None or here.over() else here


def left_place() -> Place | None:
    """The point where this task was started, where the trace of that point is over."""
    here = place.get()
    return here if here is not None and here.over() else None


def suppressed() -> bool:
    """Whether the code that runs now is not to be recorded."""
    return _suppressed.get() is not None


@contextmanager
def suppress() -> Iterator[None]:
    """Nothing that happens inside the block is recorded.

    OpenTelemetry's own ``suppress_instrumentation`` is honoured likewise.
    """
    own = object()
    token = _suppressed.set(own)
    try:
        yield
    finally:
        give_back(_suppressed, token, own)
