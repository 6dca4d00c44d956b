"""``observe``: each call of a function as a span, whatever kind of function it is."""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from types import CoroutineType
from typing import Any, NamedTuple, TypeVar, overload

from asgi_llmobs.capture.blocks import OpenSpan, kind_named
from asgi_llmobs.capture.serialize import Items
from asgi_llmobs.records import Kind
from asgi_llmobs.safely import safely

__all__ = ["observe"]

F = TypeVar("F", bound="Callable[..., Any] | staticmethod[..., Any] | classmethod[Any, ..., Any]")


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
        TypeError: *fn* cannot be called; a property is observed below ``@property``.
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
        if not callable(fn):
            raise TypeError(f"observe: {fn!r} is no function; its options are given by name, as observe(name=…)")
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
            opened = self.open(args, kwargs)
            opened.__enter__()
            try:
                value = self.fn(*args, **kwargs)
            except BaseException as error:
                opened.leave()
                opened.finish(error)
                raise
            opened.leave()
            if type(value) is CoroutineType:  # of an async function in a plain wrapper: its work is still to come
                return self._awaited(value, opened)
            self.keep(opened, value)
            opened.finish()
            return value

        return call

    def _awaited(self, inner: Any, opened: OpenSpan) -> Any:
        """*inner* with what it does below *opened*, under its own name."""

        async def run() -> Any:
            opened.enter()
            try:
                value = await inner
            except BaseException as error:
                opened.leave()
                opened.finish(error)
                raise
            opened.leave()
            self.keep(opened, value)
            opened.finish()
            return value

        made: Any = run()
        made.__name__, made.__qualname__ = inner.__name__, inner.__qualname__
        return made

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
            inner = self.fn(*args, **kwargs)
            steps = Steps(self, args, kwargs)
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
            inner = self.fn(*args, **kwargs)
            steps = Steps(self, args, kwargs)
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
