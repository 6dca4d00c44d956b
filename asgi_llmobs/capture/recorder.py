"""What capture talks to: takes what happened, decides whether it is kept, hands it to the spool."""

import os
import random
import socket
import sys
import time
from collections import deque
from collections.abc import Callable

from asgi_llmobs.config import Config
from asgi_llmobs.context import Place, Trace, left_place, new_trace_id, suppressed
from asgi_llmobs.providers import GENERIC, Match, match
from asgi_llmobs.records import Exchange, Span
from asgi_llmobs.safely import safely
from asgi_llmobs.spool import Spool

__all__ = ["Recorder", "active_recorder", "bridged", "otel_parent", "otel_suppressed", "set_bridge"]

_default: "Recorder | None" = None
_override: "Recorder | None" = None
LINK = "linked_trace"  # property of what goes on after the trace that it was started in
_bridge: Callable[[Place | None], tuple[str, str] | None] | None = None
HOST = socket.gethostname()
BEGINNING, PROGRESS, FINISHING, OTEL = safely("begin"), safely("progress"), safely("finish"), safely("otel")
EVERY = 64  # calls of which one is timed


class Recorder:
    """The write side of one engine.

    Once the interpreter is being taken apart nothing is recorded: its other threads have stopped where they were, locks
    in hand, and who waits for one of those waits for ever.

    Args:
        config: Its options.
        spool: Where finished calls go.
    """

    def __init__(self, config: Config, spool: Spool) -> None:
        self.config = config
        self.spool = spool
        self.active = config.enabled and config.capture != "off"
        self._begun = self._ended = 0
        self._begin_ns: deque[int] = deque(maxlen=EVERY)
        self._end_ns: deque[int] = deque(maxlen=EVERY)

    def match(self, method: str, host: str, port: int | None, path: str) -> Match | None:
        """Who answers this call, ``None`` where it is no LLM call."""
        return match(method, host, port, path, self.config.providers)

    def match_any(self, path: str) -> Match:
        """The dialect of a call that the app itself calls an LLM call: told by its path, else read as plain JSON."""
        return match("POST", "", None, path, self.config.providers) or GENERIC

    def new_trace(self, trace_id: str | None = None) -> Trace:
        """A trace of this engine's project, sampled as configured."""
        trace = Trace(trace_id or new_trace_id(), self.config.project, self)
        trace.sampled = self.samples()
        behind = left_place()
        if behind is not None:
            trace.properties[LINK] = behind.trace.id
        return trace

    def samples_id(self, trace_id: str) -> bool:
        """Whether a trace that several processes write to is kept: its id decides, for all of them alike."""
        share = self.config.sample
        return share >= 1.0 or int(trace_id[:8], 16) < share * 0x1_0000_0000

    def samples(self) -> bool:
        """Whether the next trace is kept."""
        share = self.config.sample
        return share >= 1.0 or random.random() < share

    def begin(self, exchange: Exchange) -> None:
        """A call has started."""
        with BEGINNING:
            self.spool.begin(exchange)
            self._begun += 1
            if not self._begun % EVERY:
                self._begin_ns.append(time.monotonic_ns() - exchange.clock_ns)

    def progress(self, exchange: Exchange) -> None:
        """More of the answer of a call came in."""
        if sys.is_finalizing():
            return
        with PROGRESS:
            self.spool.progress(exchange)

    def finish(self, exchange: Exchange) -> None:
        """A call has ended, in whatever way. Synchronous and cheap: it may run in a cancelled generator."""
        if sys.is_finalizing():
            return
        with FINISHING:
            if exchange.trace is not None:
                exchange.trace.told = True
            self.spool.put(exchange)
            self._ended += 1
            if not self._ended % EVERY and exchange.end_clock_ns is not None:
                self._end_ns.append(time.monotonic_ns() - exchange.end_clock_ns)

    def caller_ns(self) -> int | None:
        """What the beginning and the end of a call cost the app, the median of some; ``None`` before the first of them.

        What every chunk of a stream costs is not in it.
        """
        begin, end = list(self._begin_ns), list(self._end_ns)
        return median(begin) + median(end) if begin and end else None

    def opened(self, id: str, tell: Callable[[], Span | None]) -> None:
        """A span has begun; its record follows when it is complete. *tell*, a method, gives it as it stands."""
        with safely("opened"):
            self.spool.opened(id, tell)

    def record(self, span: Span) -> None:
        """A span that is complete."""
        if sys.is_finalizing():
            return
        with safely("record"):
            self.spool.put(span)

    def refuse(self, reason: str) -> None:
        """Something happened that is not to be recorded: counted by its *reason*."""
        if sys.is_finalizing():
            return
        with safely("refuse"):
            self.spool.refuse(reason)


def median(values: list[int]) -> int:
    """The one in the middle. Python's own would have fractions imported into every app."""
    return sorted(values)[len(values) // 2]


def set_default(recorder: "Recorder | None") -> None:
    """The recorder of calls made outside any trace; the engine that was made last."""
    global _default
    _default = recorder


def default_recorder() -> "Recorder | None":
    """The recorder set last."""
    return _default


def override(recorder: "Recorder | None") -> "Recorder | None":
    """Everything that happens in this process is recorded here, whoever claims it; gives the one before. For tests."""
    global _override
    before, _override = _override, recorder
    return before


def effective(recorder: "Recorder") -> "Recorder":
    """*recorder*, or the one that overrides it."""
    return _override or recorder


def active_recorder(trace: Trace | None = None, own: "Recorder | None" = None) -> "Recorder | None":
    """The recorder to use now, ``None`` where nothing is to be recorded.

    Args:
        trace: The trace we are in: what happens inside it belongs to its engine.
        own: The recorder of a client that was wrapped, which wins.
    """
    recorder = _override or own or (trace.recorder if trace is not None else None) or _default
    if recorder is None or not recorder.active or suppressed() or otel_suppressed() or sys.is_finalizing():
        return None
    return recorder


def otel_suppressed() -> bool:
    """Whether OpenTelemetry's ``suppress_instrumentation`` is in force. Looks only where it is loaded already."""
    context = sys.modules.get("opentelemetry.context")
    if context is None:
        return False
    with OTEL:
        return bool(context.get_value("suppress_instrumentation") or context.get_value("suppress_http_instrumentation"))
    return False


def otel_parent() -> tuple[str, str] | None:
    """Trace id and span id of a valid current OpenTelemetry span of the host, so that both trees join."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    with OTEL:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            return f"{context.trace_id:032x}", f"{context.span_id:016x}"
    return None


def set_bridge(innermost: Callable[[Place | None], tuple[str, str] | None]) -> None:
    """From now on spans of OpenTelemetry are taken in; *innermost* says which of them is the current place."""
    global _bridge
    _bridge = innermost


def bridged(here: Place | None) -> tuple[str, str] | None:
    """Trace id and span id of the OpenTelemetry span that is taken in and lies inside *here*; ``None`` without one."""
    if _bridge is None:
        return None
    with OTEL:
        return _bridge(here)
    return None


def origin() -> dict[str, object]:
    """Where we run, for every record."""
    return {"host": HOST, "pid": os.getpid()}
