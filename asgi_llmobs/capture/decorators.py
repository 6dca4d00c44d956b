"""Own spans in a trace: ``observe`` for functions, ``span`` and ``trace`` for blocks, ``annotate`` for the rest."""

import contextvars
import functools
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

from asgi_llmobs.capture.call import outcome_of
from asgi_llmobs.capture.caller import caller
from asgi_llmobs.capture.clients import instrument_for
from asgi_llmobs.capture.recorder import Recorder, active_recorder, bridged, otel_parent
from asgi_llmobs.capture.serialize import Items, as_text
from asgi_llmobs.context import Place, Trace, current_place, new_span_id, place
from asgi_llmobs.records import Kind, Outcome, Span
from asgi_llmobs.safely import guarded, message_of, safely

__all__ = ["Current", "OpenSpan", "annotate", "current", "current_trace_id", "observe", "propagate", "span", "trace"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F")
CUSTOM_KINDS = frozenset(
    {"span", "agent", "chain", "tool", "retriever", "embedding", "reranker", "guardrail", "evaluator", "prompt", "llm"}
)


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
        self._before: Place | None = None
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
            self._before = place.get()
            if self._place is not None:
                place.set(self._place)

    def leave(self) -> None:
        """Give the place back. Sets the value instead of resetting a token: the context may be another one."""
        with safely("span"):
            if self._place is not None:
                place.set(self._before)
            self._before = None

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

    def _text(self, value: Any) -> str | None:
        keeps = self._recorder is not None and self._recorder.config.capture == "full"
        return as_text(value) if keeps and value is not None else None

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
            attributes={"truncated_spans": shared.truncated} if self._is_root and shared.truncated else {},
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


@overload
def observe(
    fn: None = None,
    *,
    name: str | None = None,
    kind: str = "span",
    capture_input: bool = True,
    capture_output: bool = True,
    **properties: Any,
) -> Callable[[F], F]: ...
@overload
def observe(fn: F) -> F: ...
def observe(
    fn: Any = None,
    *,
    name: str | None = None,
    kind: str = "span",
    capture_input: bool = True,
    capture_output: bool = True,
    **properties: Any,
) -> Any:
    """Each call of the function becomes a span. Bare or called; sync, async, generators, methods and classes.

    Args:
        fn: The function, or a class, whose public methods are then observed each.
        name: Name of the span; the function's own unless given.
        kind: As in :func:`span`.
        capture_input: Whether the arguments are kept.
        capture_output: Whether what it returns, or yields, is kept.
        **properties: Put on the span and inherited by the spans below it.

    Raises:
        ValueError: *kind* is none of the kinds.
    """
    options = Options(name, kind_named(kind), capture_input, capture_output, properties)
    return options.decorate if fn is None else options.decorate(fn)


class Options(NamedTuple):
    """The arguments of :func:`observe`."""

    name: str | None
    kind: Kind
    capture_input: bool
    capture_output: bool
    properties: Mapping[str, Any]

    def decorate(self, fn: Any) -> Any:
        """*fn* with each of its calls as a span; of a class each public method."""
        if isinstance(fn, staticmethod | classmethod):
            return type(fn)(self.decorate(fn.__func__))
        if inspect.isclass(fn):
            for attribute, member in list(vars(fn).items()):
                if not attribute.startswith("_") and (
                    inspect.isfunction(member) or isinstance(member, staticmethod | classmethod)
                ):
                    setattr(fn, attribute, self._replace(name=None).decorate(member))
            return fn
        return Observed(fn, self.name or name_of(fn), self.kind, signature_of(fn), *self[2:]).wrapper()


def name_of(fn: Any) -> str:
    """The name of a function; of a partial one that of what it calls, of an object that of its class."""
    inner = fn.func if isinstance(fn, functools.partial) else fn
    return str(getattr(inner, "__name__", type(inner).__name__))


def signature_of(fn: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        return None


class Observed(NamedTuple):
    """A function and how its calls become spans."""

    fn: Any
    name: str
    kind: Kind
    signature: inspect.Signature | None
    capture_input: bool
    capture_output: bool
    properties: Mapping[str, Any]

    def open(self, args: Any, kwargs: Any) -> OpenSpan:
        """A span for one call, not begun."""
        opened = OpenSpan(self.name, self.kind, properties=self.properties)
        if self.capture_input:
            with safely("observe"):
                opened.input = self.arguments(args, kwargs)
        return opened

    def arguments(self, args: Any, kwargs: Any) -> Any:
        try:
            bound = self.signature.bind(*args, **kwargs).arguments if self.signature else {"args": args, **kwargs}
        except TypeError:  # the call itself will say so
            return {"args": args, **kwargs}
        return {name: value for name, value in bound.items() if name not in ("self", "cls")}

    def keep(self, opened: OpenSpan, value: Any) -> None:
        if self.capture_output:
            opened.output = value

    def wrapper(self) -> Any:
        if inspect.isasyncgenfunction(self.fn):
            return self._async_generator()
        if inspect.isgeneratorfunction(self.fn):
            return self._generator()
        if inspect.iscoroutinefunction(self.fn):
            return self._coroutine()
        return self._function()

    def _function(self) -> Any:
        @functools.wraps(self.fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.open(args, kwargs) as opened:
                value = self.fn(*args, **kwargs)
                self.keep(opened, value)
                return value

        return call

    def _coroutine(self) -> Any:
        @functools.wraps(self.fn)
        async def call(*args: Any, **kwargs: Any) -> Any:
            with self.open(args, kwargs) as opened:
                value = await self.fn(*args, **kwargs)
                self.keep(opened, value)
                return value

        return call

    def _generator(self) -> Any:
        @functools.wraps(self.fn)
        def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            steps = Steps(self, args, kwargs)
            inner = self.fn(*args, **kwargs)
            advance, value = inner.send, None
            try:
                while True:
                    with steps:
                        try:
                            item = advance(value)
                        except StopIteration as stop:
                            steps.finish(returned=stop.value)
                            return stop.value
                    steps.collect(item)
                    try:
                        value = yield item
                        advance = inner.send
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:  # noqa: BLE001 - what is thrown in goes on to the generator
                        advance, value = inner.throw, thrown
            except BaseException as error:
                steps.finish(error)
                with steps:
                    inner.close()
                raise

        return call

    def _async_generator(self) -> Any:
        @functools.wraps(self.fn)
        async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            steps = Steps(self, args, kwargs)
            inner = self.fn(*args, **kwargs)
            advance, value = inner.asend, None
            try:
                while True:
                    with steps:
                        try:
                            item = await advance(value)
                        except StopAsyncIteration:
                            steps.finish()
                            return
                    steps.collect(item)
                    try:
                        value = yield item
                        advance = inner.asend
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:  # noqa: BLE001 - what is thrown in goes on to the generator
                        advance, value = inner.athrow, thrown
            except BaseException as error:
                # recorded before anything is awaited: a cancelled generator may not get further
                steps.finish(error)
                with steps:
                    await inner.aclose()
                raise

        return call


class Steps:
    """The span of a generator: the current place from one yield to the next, and only then."""

    __slots__ = ("_items", "_keeps", "_opened")

    def __init__(self, observed: Observed, args: Any, kwargs: Any) -> None:
        self._opened = observed.open(args, kwargs)
        self._keeps = observed.capture_output
        self._items = Items()
        with safely("span"):
            self._opened.begin()

    def __enter__(self) -> None:
        self._opened.enter()

    def __exit__(self, *exception: object) -> None:
        self._opened.leave()

    def collect(self, item: Any) -> None:
        """Note what the generator yields."""
        if self._keeps:
            with safely("collect"):
                self._items.add(item)

    def finish(self, error: BaseException | None = None, *, returned: Any = None) -> None:
        """It has ended; what it returned counts more than what it yielded."""
        if self._keeps:
            with safely("collect"):
                self._opened.output = self._items.value() if returned is None else returned
        self._opened.finish(error)


def annotate(
    *,
    session: str | None = None,
    session_name: str | None = None,
    session_path: str | None = None,
    user: str | None = None,
    name: str | None = None,
    project: str | None = None,
    **properties: Any,
) -> None:
    """Say what is known about the trace that runs now; all its spans get it. Outside a trace nothing happens.

    Args:
        session: Id of the session (a conversation, a workflow run).
        session_name: What the session is called.
        session_path: Where in the session this happens, e.g. ``/research/summary``.
        user: Id of the user who caused it.
        name: What the trace is called.
        project: The project that it belongs to: say it first, what is over by then stays in the one before.
        **properties: Keys and values to filter and group by.
    """
    with safely("annotate"):
        here = current_place()
        if here is None:
            return
        shared = here.trace
        for attribute, value in (
            ("session_id", session),
            ("session_name", session_name),
            ("session_path", session_path),
            ("user_id", user),
            ("name", name),
            ("project", project or None),
        ):
            if value is not None:
                setattr(shared, attribute, short(value))
        shared.properties.update(texts(properties))
        shared.late = shared.late or shared.told


class Current(NamedTuple):
    """Where we are now."""

    trace_id: str
    span_id: str | None
    session_id: str | None
    user_id: str | None
    properties: Mapping[str, str]


@guarded("current")
def current() -> Current | None:
    """The current span and what is known about its trace; ``None`` outside any trace."""
    here = current_place()
    if here is None:
        return None
    shared = here.trace
    return Current(shared.id, here.span_id, shared.session_id, shared.user_id, {**shared.properties, **here.properties})


@guarded("current")
def current_trace_id() -> str | None:
    """The id of the trace that runs now; ``None`` outside any trace."""
    here = current_place()
    return None if here is None else here.trace.id


def propagate(fn: Callable[P, R]) -> Callable[P, R]:
    """*fn*, to be run in another thread or executor, with the context of here and now.

    ``loop.run_in_executor``, ``threading.Thread`` and ``ThreadPoolExecutor`` do not take it along by themselves. An
    async function, for a loop in another thread, keeps its place in the trace.
    """
    if inspect.iscoroutinefunction(fn):
        there = place.get()

        @functools.wraps(fn)
        async def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            before = place.get()
            place.set(there)
            try:
                return await fn(*args, **kwargs)
            finally:
                place.set(before)

        return run  # type: ignore[return-value]
    here = contextvars.copy_context()

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # a copy for each call: one context cannot be entered by two threads at once
        return here.copy().run(fn, *args, **kwargs)

    return call
