"""Own spans in a trace: ``observe`` for functions, ``span`` and ``trace`` for blocks, ``annotate`` for the rest."""

import contextvars
import functools
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

from asgi_llmobs.capture.caller import caller
from asgi_llmobs.capture.clients import instrument
from asgi_llmobs.capture.outbound import outcome_of
from asgi_llmobs.capture.recorder import Recorder, active_recorder
from asgi_llmobs.capture.serialize import as_text
from asgi_llmobs.context import Place, Trace, current_place, new_span_id, place
from asgi_llmobs.records import Kind, Outcome, Span
from asgi_llmobs.safely import safely

__all__ = ["Current", "OpenSpan", "annotate", "current", "current_trace_id", "observe", "propagate", "span", "trace"]

P = ParamSpec("P")
R = TypeVar("R")
CUSTOM_KINDS = frozenset(
    {"span", "agent", "chain", "tool", "retriever", "embedding", "reranker", "guardrail", "evaluator", "prompt", "llm"}
)
MAX_COLLECTED = 1_000


def kind_named(kind: str) -> Kind:
    if kind not in CUSTOM_KINDS:
        raise ValueError(f"kind={kind!r} is none of {', '.join(sorted(CUSTOM_KINDS))}")
    return Kind(kind)


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value)[:4_096] for name, value in values.items() if value is not None}


class OpenSpan:
    """A span under way. ``input``, ``output`` and ``name`` may be set until it ends; properties with ``set``.

    Usable with ``with`` and ``async with``; it never swallows an exception.
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
        self._own = texts(properties or {})
        self._new_trace = new_trace
        self._place: Place | None = None
        self._recorder: Recorder | None = None
        self._parent_id: str | None = None
        self._before: Place | None = None
        self._caller: str | None = None
        self._start = self._clock = 0
        self._done = False

    def begin(self) -> "OpenSpan":
        """Start the clock and take a place in the trace; not yet the current one."""
        instrument()
        here = None if self._new_trace else current_place()
        self._recorder = active_recorder(here.trace if here is not None else None)
        if self._recorder is None:
            return self
        self._caller = caller()
        shared = here.trace if here is not None else self._recorder.new_trace()
        self._parent_id = here.span_id if here is not None else None
        inherited = here.properties if here is not None else {}
        if shared.admit():
            self._place = Place(shared, new_span_id(), {**inherited, **self._own})
            if here is None:
                shared.root = self._running
        self._start, self._clock = time.time_ns(), time.monotonic_ns()
        return self

    @property
    def id(self) -> str | None:
        """Its span id; ``None`` where nothing is recorded."""
        return self._place.span_id if self._place is not None else None

    @property
    def trace_id(self) -> str | None:
        """Its trace id; ``None`` where nothing is recorded."""
        return self._place.trace.id if self._place is not None else None

    @property
    def shared(self) -> Trace | None:
        """The trace it belongs to."""
        return self._place.trace if self._place is not None else None

    def set(self, **properties: Any) -> None:
        """Put properties on this span; spans that start below it from now on inherit them."""
        self._own.update(texts(properties))
        if self._place is not None:
            self._place.properties.update(texts(properties))

    def enter(self) -> None:
        """Become the current place."""
        self._before = place.get()
        if self._place is not None:
            place.set(self._place)

    def leave(self) -> None:
        """Give the place back. Sets the value instead of resetting a token: the context may be another one."""
        if self._place is not None:
            place.set(self._before)

    def finish(self, error: BaseException | None = None) -> None:
        """Stop the clock and record; only the first time counts."""
        if self._done:
            return
        self._done = True
        with safely("span"):
            if self._recorder is None or self._place is None:
                return
            duration = time.monotonic_ns() - self._clock
            if self._parent_id is None and self._place.trace.root is not None:
                self._place.trace.ended_clock_ns = time.monotonic_ns()
            self._recorder.record(self._span(outcome_of(error) if error is not None else Outcome.OK, duration, error))

    def _running(self) -> Span:
        return self._span(Outcome.RUNNING, None, None)

    def _span(self, outcome: str, duration: int | None, error: BaseException | None) -> Span:
        assert self._place is not None
        shared = self._place.trace
        return Span(
            id=self._place.span_id or "",
            trace_id=shared.id,
            parent_id=self._parent_id,
            project=shared.project,
            kind=self._kind,
            name=self.name,
            start_ns=self._start,
            duration_ns=duration,
            outcome=outcome,
            error_type=type(error).__name__ if error is not None else None,
            error_message=str(error)[:2_000] if error is not None else None,
            session_id=shared.session_id,
            session_name=shared.session_name,
            session_path=shared.session_path,
            user_id=shared.user_id,
            properties={**shared.properties, **self._place.properties},
            route=shared.route_of() if shared.route_of is not None else None,
            caller=self._caller,
            input=as_text(self.input),
            output=as_text(self.output),
        )

    def __enter__(self) -> "OpenSpan":
        with safely("span"):
            self.begin()
            self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with safely("span"):
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
    name: str, *, session: str | None = None, user: str | None = None, kind: str = "span", **properties: Any
) -> OpenSpan:
    """A block as a trace of its own, for scripts and jobs: everything inside it belongs together.

    Args:
        name: What it is called.
        session: Id of the session it belongs to.
        user: Id of the user it is done for.
        kind: Kind of its root span, as in :func:`span`.
        **properties: Put on its root span and inherited by all spans below.
    """
    return RootSpan(name, kind_named(kind), properties=properties, new_trace=True, session=session, user=user)


class RootSpan(OpenSpan):
    """The root of a trace made by :func:`trace`."""

    def __init__(self, name: str, kind: Kind, *, session: str | None, user: str | None, **options: Any) -> None:
        super().__init__(name, kind, **options)
        self._session, self._user = session, user

    def begin(self) -> "OpenSpan":
        super().begin()
        if self.shared is not None:
            self.shared.session_id, self.shared.user_id = self._session, self._user
        return self


@overload
def observe(fn: Callable[P, R]) -> Callable[P, R]: ...
@overload
def observe(
    fn: None = None,
    *,
    name: str | None = None,
    kind: str = "span",
    capture_input: bool = True,
    capture_output: bool = True,
    **properties: Any,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
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
        return Observed(fn, self.name or fn.__name__, *self[1:]).wrapper()


class Observed(NamedTuple):
    """A function and how its calls become spans."""

    fn: Any
    name: str
    kind: Kind
    capture_input: bool
    capture_output: bool
    properties: Mapping[str, Any]

    def open(self, args: Any, kwargs: Any) -> OpenSpan:
        opened = OpenSpan(self.name, self.kind, properties=self.properties)
        with safely("observe"):
            if self.capture_input:
                opened.input = self.arguments(args, kwargs)
            opened.begin()
        return opened

    def arguments(self, args: Any, kwargs: Any) -> Any:
        try:
            bound = inspect.signature(self.fn).bind(*args, **kwargs).arguments
        except (TypeError, ValueError):
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
            opened = self.open(args, kwargs)
            with entered(opened):
                value = self.fn(*args, **kwargs)
                self.keep(opened, value)
                return value

        return call

    def _coroutine(self) -> Any:
        @functools.wraps(self.fn)
        async def call(*args: Any, **kwargs: Any) -> Any:
            opened = self.open(args, kwargs)
            with entered(opened):
                value = await self.fn(*args, **kwargs)
                self.keep(opened, value)
                return value

        return call

    def _generator(self) -> Any:
        @functools.wraps(self.fn)
        def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            opened = self.open(args, kwargs)
            items: list[Any] = []
            inner = self.fn(*args, **kwargs)
            advance, value = inner.send, None
            try:
                while True:
                    with step(opened):
                        try:
                            item = advance(value)
                        except StopIteration as stop:
                            self.keep(opened, joined(items) if stop.value is None else stop.value)
                            opened.finish()
                            return stop.value
                    collect(items, item)
                    try:
                        value = yield item
                        advance = inner.send
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:  # noqa: BLE001 - what is thrown in goes on to the generator
                        advance, value = inner.throw, thrown
            except BaseException as error:
                self.keep(opened, joined(items))
                opened.finish(error)
                with step(opened):
                    inner.close()
                raise

        return call

    def _async_generator(self) -> Any:
        @functools.wraps(self.fn)
        async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            opened = self.open(args, kwargs)
            items: list[Any] = []
            inner = self.fn(*args, **kwargs)
            advance, value = inner.asend, None
            try:
                while True:
                    with step(opened):
                        try:
                            item = await advance(value)
                        except StopAsyncIteration:
                            self.keep(opened, joined(items))
                            opened.finish()
                            return
                    collect(items, item)
                    try:
                        value = yield item
                        advance = inner.asend
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:  # noqa: BLE001 - what is thrown in goes on to the generator
                        advance, value = inner.athrow, thrown
            except BaseException as error:
                # recorded before anything is awaited: a cancelled generator may not get further
                self.keep(opened, joined(items))
                opened.finish(error)
                await inner.aclose()
                raise

        return call


@contextmanager
def entered(opened: OpenSpan) -> Iterator[None]:
    """The span is the current place inside the block, and ends with it."""
    opened.enter()
    try:
        yield
    except BaseException as error:
        opened.leave()
        opened.finish(error)
        raise
    opened.leave()
    opened.finish()


@contextmanager
def step(opened: OpenSpan) -> Iterator[None]:
    """The span is the current place while a generator runs from one yield to the next, and only then."""
    opened.enter()
    try:
        yield
    finally:
        opened.leave()


def collect(items: list[Any], item: Any) -> None:
    if len(items) < MAX_COLLECTED:
        items.append(item)


def joined(items: list[Any]) -> Any:
    return "".join(items) if items and all(isinstance(item, str) for item in items) else items


def annotate(
    *,
    session: str | None = None,
    session_name: str | None = None,
    session_path: str | None = None,
    user: str | None = None,
    name: str | None = None,
    **properties: Any,
) -> None:
    """Say what is known about the trace that runs now; all its spans get it. Outside a trace nothing happens.

    Args:
        session: Id of the session (a conversation, a workflow run).
        session_name: What the session is called.
        session_path: Where in the session this happens, e.g. ``/research/summary``.
        user: Id of the user who caused it.
        name: What the trace is called.
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
        ):
            if value is not None:
                setattr(shared, attribute, str(value)[:1_000])
        shared.properties.update(texts(properties))


class Current(NamedTuple):
    """Where we are now."""

    trace_id: str
    span_id: str | None
    session_id: str | None
    user_id: str | None
    properties: Mapping[str, str]


def current() -> Current | None:
    """The current span and what is known about its trace; ``None`` outside any trace."""
    here = current_place()
    if here is None:
        return None
    shared = here.trace
    return Current(shared.id, here.span_id, shared.session_id, shared.user_id, {**shared.properties, **here.properties})


def current_trace_id() -> str | None:
    """The id of the trace that runs now; ``None`` outside any trace."""
    here = current_place()
    return None if here is None else here.trace.id


def propagate(fn: Callable[P, R]) -> Callable[P, R]:
    """*fn*, to be run in another thread or executor, with the context of here and now.

    ``loop.run_in_executor``, ``threading.Thread`` and ``ThreadPoolExecutor`` do not take it along by themselves.
    """
    here = contextvars.copy_context()

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # a copy for each call: one context cannot be entered by two threads at once
        return here.copy().run(fn, *args, **kwargs)

    return call
