"""Blocks as spans: ``span`` for a part of a function, ``trace`` for what is a trace of its own."""

import time
from collections.abc import Mapping
from contextvars import Token
from types import TracebackType
from typing import Any

from asgi_llmobs.capture.call import outcome_of
from asgi_llmobs.capture.caller import caller
from asgi_llmobs.capture.clients import instrument_for
from asgi_llmobs.capture.recorder import Recorder, active_recorder, bridged, otel_parent
from asgi_llmobs.capture.serialize import as_text
from asgi_llmobs.capture.tracebacks import STACKTRACE, traceback_of
from asgi_llmobs.context import Place, Trace, current_place, give_back, new_span_id, place
from asgi_llmobs.records import Kind, Outcome, Span
from asgi_llmobs.safely import message_of, safely

__all__ = ["OpenSpan", "kind_named", "short", "span", "texts", "trace"]

CUSTOM_KINDS = frozenset(Kind) - {Kind.HTTP, Kind.WEBSOCKET}  # those are what comes in


def kind_named(kind: str) -> Kind:
    if kind not in CUSTOM_KINDS:
        raise ValueError(f"kind={kind!r} is none of {', '.join(sorted(CUSTOM_KINDS))}")
    return Kind(kind)


def short(value: Any) -> str | None:
    return None if value is None else str(value)[:1_000]


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value)[:4_096] for name, value in values.items() if value is not None}


class OpenSpan:
    """A span under way. ``input``, ``output`` and ``name`` may be set until it ends; properties with ``set``.

    Usable with ``with`` and ``async with``, once; it never swallows an exception.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        *,
        input: Any = None,
        properties: Mapping[str, Any] | None = None,
        new_trace: bool = False,
    ) -> None:
        self.name = name
        self.input = input
        self.output: Any = None
        self._kind = kind
        self._properties = properties or {}
        self._new_trace = new_trace
        self._place: Place | None = None
        self._recorder: Recorder | None = None
        self._parent_id: str | None = None
        self._token: Token[Place | None] | None = None
        self._caller: str | None = None
        self._input_text: tuple[Any, str | None] = (None, None)
        self._start = self._clock = 0
        self._is_root = self._recorded = self._done = False

    def begin(self) -> "OpenSpan":
        """Start the clock and take a place in the trace; not yet the current one."""
        around = current_place()
        recorder = active_recorder(around.trace if around is not None else None)
        if recorder is None:
            return self
        self._recorder = recorder
        instrument_for(recorder)
        own = texts(self._properties)
        here = None if self._new_trace else around
        inner = None if self._new_trace else bridged(here)
        if here is None:
            joined = inner or (otel_parent() if around is None else None)
            self._begin_trace(recorder.new_trace(joined[0] if joined else None), own)
            self._parent_id = inner[1] if inner else None
        elif here.trace.admit():
            self._recorded = True
            self._parent_id = inner[1] if inner else here.span_id
            self._place = Place(here.trace, new_span_id(), {**here.properties, **own})
            self._place.open = True
        if self._recorded:
            self._caller = caller()
            self._input_text = self.input, self._text(self.input)  # now: the app may change it while it works on it
        self._start, self._clock = time.time_ns(), time.monotonic_ns()
        if self._recorded and self._place is not None:
            recorder.opened(self._place.span_id or "", self._running)
        return self

    def _begin_trace(self, shared: Trace, own: dict[str, str]) -> None:
        # where the trace is not sampled it is the place all the same: what happens inside is not sampled either
        self._place = Place(shared, new_span_id(), own)
        self._is_root = True
        self._recorded = shared.admit()
        if self._recorded:
            shared.root = self._running

    @property
    def id(self) -> str | None:
        """Its span id; ``None`` where nothing is recorded."""
        return self._place.span_id if self._place is not None and self._recorded else None

    @property
    def trace_id(self) -> str | None:
        """Its trace id; ``None`` where nothing is recorded."""
        return self._place.trace.id if self._place is not None and self._recorded else None

    @property
    def shared(self) -> Trace | None:
        """The trace it belongs to."""
        return self._place.trace if self._place is not None else None

    def set(self, **properties: Any) -> None:
        """Put properties on this span; spans that start below it from now on inherit them."""
        with safely("span"):
            if self._place is not None:
                self._place.properties.update(texts(properties))
            else:
                self._properties = {**self._properties, **properties}

    def enter(self) -> None:
        """Become the current place."""
        with safely("span"):
            if self._place is not None:
                self._token = place.set(self._place)

    def leave(self) -> None:
        """Give the place back; in a context of somebody else, which has a place of its own, that one stays."""
        with safely("span"):
            token, self._token = self._token, None
            if token is not None and self._place is not None:
                give_back(place, token, self._place)

    def finish(self, error: BaseException | None = None) -> None:
        """Stop the clock and record; only the first time counts."""
        if self._done:
            return
        self._done = True
        with safely("span"):
            if self._recorder is None or self._place is None:
                return
            now, shared = time.monotonic_ns(), self._place.trace
            self._place.open = False
            if self._is_root:
                shared.ended_clock_ns, shared.root = now, None
            if self._recorded:
                outcome = outcome_of(error) if error is not None else Outcome.OK
                self._recorder.record(self._span(outcome, now - self._clock, error))
                shared.told = True

    def _running(self) -> Span:
        return self._span(Outcome.RUNNING, None, None)

    def _keeps_texts(self) -> bool:
        return self._recorder is not None and self._recorder.config.capture == "full"

    def _text(self, value: Any) -> str | None:
        return as_text(value) if value is not None and self._keeps_texts() else None

    def _attributes(self, shared: Trace, error: BaseException | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._is_root and shared.truncated:
            found["truncated_spans"] = shared.truncated
        if error is not None and self._keeps_texts():
            found[STACKTRACE] = traceback_of(error)
        return found

    def _span(self, outcome: str, duration: int | None, error: BaseException | None) -> Span:
        assert self._place is not None
        shared = self._place.trace
        before, text = self._input_text
        return Span(
            id=self._place.span_id or "",
            trace_id=shared.id,
            parent_id=self._parent_id,
            project=shared.project,
            kind=self._kind,
            name=str(shared.name if self._is_root and shared.name else self.name),
            start_ns=self._start,
            duration_ns=duration,
            outcome=outcome,
            error_type=type(error).__name__ if error is not None else None,
            error_message=message_of(error) if error is not None else None,
            session_id=shared.session_id,
            session_name=shared.session_name,
            session_path=shared.session_path,
            user_id=shared.user_id,
            properties={**shared.properties, **self._place.properties},
            route=shared.route(),
            caller=self._caller,
            input=text if self.input is before else self._text(self.input),
            output=self._text(self.output),
            attributes=self._attributes(shared, error if outcome == Outcome.ERROR else None),
            spread=self._is_root and shared.late,
        )

    def __enter__(self) -> "OpenSpan":
        with safely("span"):
            self.begin()
        self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        self.finish(error)

    async def __aenter__(self) -> "OpenSpan":
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def span(name: str, *, kind: str = "span", input: Any = None, **properties: Any) -> OpenSpan:
    """A block as a span: ``with span("search", kind="retriever", input=question) as s: s.output = hits``.

    Args:
        name: What it is called.
        kind: ``span agent chain tool retriever embedding reranker guardrail evaluator prompt llm``.
        input: What goes in; kept as text of at most 32 KB.
        **properties: Put on this span and inherited by the spans below it.

    Raises:
        ValueError: *kind* is none of these.
    """
    return OpenSpan(name, kind_named(kind), input=input, properties=properties)


def trace(
    name: str,
    *,
    session: str | None = None,
    user: str | None = None,
    project: str | None = None,
    kind: str = "span",
    **properties: Any,
) -> OpenSpan:
    """A block as a trace of its own, for scripts and jobs: everything inside it belongs together.

    Args:
        name: What it is called.
        session: Id of the session it belongs to.
        user: Id of the user it is done for.
        project: The project it belongs to; the engine's unless given.
        kind: Kind of its root span, as in :func:`span`.
        **properties: Put on its root span and inherited by all spans below.

    Raises:
        ValueError: *kind* is none of the kinds.
    """
    return RootSpan(
        name, kind_named(kind), properties=properties, new_trace=True, session=session, user=user, project=project
    )


class RootSpan(OpenSpan):
    """The root of a trace made by :func:`trace`."""

    def __init__(
        self, name: str, kind: Kind, *, session: str | None, user: str | None, project: str | None, **options: Any
    ) -> None:
        super().__init__(name, kind, **options)
        self._session, self._user, self._project = session, user, project

    def begin(self) -> "OpenSpan":
        super().begin()
        shared = self.shared
        if shared is not None:
            shared.session_id, shared.user_id = short(self._session), short(self._user)
            shared.project = short(self._project) or shared.project
        return self
