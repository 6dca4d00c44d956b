"""Own spans: the decorator on every kind of callable, blocks, annotation, and how long values may be."""

import asyncio
import functools
import gc
import inspect
import logging
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient

from asgi_llmobs import (
    LLMObs,
    LLMObsMiddleware,
    annotate,
    current,
    current_trace_id,
    observe,
    propagate,
    span,
    suppress,
    trace,
)
from asgi_llmobs.capture import clients
from asgi_llmobs.context import place
from asgi_llmobs.records import Span
from asgi_llmobs.safely import failures
from asgi_llmobs.testing import Captured, capture
from tests.calling import ask, ask_sync

KINDS = "span agent chain tool retriever embedding reranker guardrail evaluator prompt llm".split()


def only(llmobs: Captured) -> Span:
    """The one span there is."""
    (found,) = llmobs.spans
    return found


def named(llmobs: Captured, name: str) -> Span:
    """The one span of this name."""
    (found,) = (record for record in llmobs.spans if record.name == name)
    return found


# functions of every kind


@observe
def plain(question: str, *, limit: int = 3) -> list[str]:
    """Docstring."""
    return [question] * limit


@observe(kind="tool", name="other", plan="pro")
async def waiting(question: str) -> str:
    await asyncio.sleep(0)
    return question.upper()


class Shop:
    """Methods of each kind."""

    @observe
    def method(self, x: int) -> int:
        return x + 1

    @observe
    async def async_method(self, x: int) -> int:
        return x + 1

    @classmethod
    @observe
    def inner_class_method(cls, x: int) -> str:
        return cls.__name__ * x

    @observe
    @classmethod
    def class_method(cls, x: int) -> str:
        return cls.__name__ * x

    @staticmethod
    @observe
    def inner_static(x: int) -> int:
        return -x

    @observe
    @staticmethod
    def static(x: int) -> int:
        return -x


def test_bare(llmobs: Captured) -> None:
    """Bare, it takes the name of the function, what goes in by name, and what comes out (P12)."""
    assert plain("q", limit=2) == ["q", "q"]
    found = only(llmobs)

    assert (found.name, found.kind, found.outcome) == ("plain", "span", "ok")
    assert (found.input, found.output) == ('{"question":"q","limit":2}', '["q","q"]')
    assert found.duration_ns is not None and found.parent_id is None
    assert found.caller is not None and found.caller.startswith("tests/capture/test_decorators.py:")


def test_called(llmobs: Captured) -> None:
    """Called, it takes name, kind and properties."""
    assert asyncio.run(waiting("q")) == "Q"
    found = only(llmobs)

    assert (found.name, found.kind, dict(found.properties), found.output) == ("other", "tool", {"plan": "pro"}, "Q")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str, llmobs: Captured) -> None:
    """One decorator for all kinds (P13)."""
    observe(kind=kind)(lambda: None)()
    assert only(llmobs).kind == kind


@pytest.mark.parametrize("kind", ["http", "Tool", "", "workflow", None])
def test_an_unknown_kind_is_told_at_once(kind: Any) -> None:
    """A kind that does not exist is an error where it is written, and the error lists those that do."""
    for make in (lambda: observe(kind=kind), lambda: span("x", kind=kind), lambda: trace("x", kind=kind)):
        with pytest.raises(ValueError, match="retriever"):
            make()


def test_methods_of_each_kind(llmobs: Captured) -> None:
    """Methods, class and static methods, whichever decorator is the outer one; ``self`` is no input."""
    shop = Shop()
    assert (shop.method(1), asyncio.run(shop.async_method(1))) == (2, 2)
    assert (Shop.class_method(2), shop.inner_class_method(1)) == ("ShopShop", "Shop")
    assert (Shop.static(1), shop.inner_static(2)) == (-1, -2)

    assert [record.name for record in llmobs.spans] == [
        "method", "async_method", "class_method", "inner_class_method", "static", "inner_static",
    ]  # fmt: skip
    assert {record.input for record in llmobs.spans} == {'{"x":1}', '{"x":2}'}


def test_a_class(llmobs: Captured) -> None:
    """Of a class its public methods are observed; the class stays itself."""

    class Agent:
        tools = ("a",)

        def __init__(self) -> None:
            self.ready = True

        def run(self) -> str:
            return self._step()

        def _step(self) -> str:
            return "done"

        @staticmethod
        def help() -> str:
            return "help"

    assert observe(kind="agent")(Agent) is Agent
    agent = Agent()
    assert (agent.run(), agent.help(), agent.tools) == ("done", "help", ("a",))
    assert [(record.name, record.kind) for record in llmobs.spans] == [("run", "agent"), ("help", "agent")]


def test_callables_without_a_name(llmobs: Captured) -> None:
    """Partial functions and objects that can be called have names too."""

    class Greeter:
        def __call__(self, name: str) -> str:
            return f"hi {name}"

    assert observe(functools.partial(plain.__wrapped__, limit=1))("x") == ["x"]  # type: ignore[attr-defined]
    assert observe(Greeter())("y") == "hi y"
    assert asyncio.run(observe(functools.partial(waiting.__wrapped__))("z")) == "Z"  # type: ignore[attr-defined]
    assert [record.name for record in llmobs.spans] == ["plain", "Greeter", "waiting"]


def test_what_it_looks_like_stays() -> None:
    """Name, docstring, signature and nature of the function are kept."""

    @observe
    async def stream(x: int) -> AsyncIterator[int]:
        yield x

    @observe
    def numbers(x: int) -> Iterator[int]:
        yield x

    assert (plain.__name__, plain.__doc__) == ("plain", "Docstring.")
    assert str(inspect.signature(plain)) == "(question: str, *, limit: int = 3) -> list[str]"
    assert inspect.iscoroutinefunction(waiting)
    assert inspect.isasyncgenfunction(stream)
    assert inspect.isgeneratorfunction(numbers)


def test_wrong_arguments_are_the_functions_own_error(llmobs: Captured) -> None:
    """A call that cannot work raises what it raises without us."""
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'question'"):
        plain()  # type: ignore[call-arg]
    assert only(llmobs).error_type == "TypeError"


def test_an_exception_is_the_same_object(llmobs: Captured) -> None:
    """It passes as it is and is noted."""
    boom = LookupError("nothing found")

    @observe
    def fails() -> None:
        raise boom

    @observe
    async def fails_later() -> None:
        raise boom

    for call in (fails, lambda: asyncio.run(fails_later())):
        with pytest.raises(LookupError) as raised:
            call()
        assert raised.value is boom
    assert boom.__context__ is None
    for found in llmobs.spans:
        assert (found.outcome, found.error_type, found.error_message) == ("error", "LookupError", "nothing found")


@pytest.mark.parametrize("raised", [StopIteration, KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_exceptions_that_mean_something_else(raised: type[BaseException], llmobs: Captured) -> None:
    """Also those that end loops and programs pass."""

    @observe
    def fails() -> None:
        raise raised("x")

    with pytest.raises(raised):
        fails()
    assert only(llmobs).outcome == ("error" if raised is StopIteration else "cancelled")


def test_content_can_be_kept_out(llmobs: Captured) -> None:
    """Arguments and results are left out where that is asked, or where nothing of content is recorded."""

    @observe(capture_input=False, capture_output=False)
    def secret(password: str) -> str:
        return password

    @observe(capture_output=False)
    def stream() -> Iterator[str]:
        yield "hidden"

    assert secret("x") == "x"
    assert list(stream()) == ["hidden"]
    with capture(capture="metadata") as metadata:
        plain("hidden")
        assert (only(metadata).input, only(metadata).output) == (None, None)
    assert [(record.input, record.output) for record in llmobs.spans] == [(None, None), ("{}", None)]


def test_the_input_is_what_went_in(llmobs: Captured) -> None:
    """A function that changes its argument does not change what is recorded of it."""

    @observe
    def consume(messages: list[str]) -> None:
        messages.clear()

    consume(["one"])
    assert only(llmobs).input == '{"messages":["one"]}'


# nesting


def test_nested_calls_are_one_trace(llmobs: Captured) -> None:
    """Decorated calls inside a decorated function, one after the other or deeper, share its trace (P11, P16)."""

    @observe(kind="retriever")
    def search() -> str:
        return ask_sync("embed")

    @observe(kind="tool")
    async def tool() -> str:
        return await ask("tool")

    @observe(kind="agent")
    async def agent() -> None:
        await asyncio.to_thread(search)
        await asyncio.gather(tool(), tool())
        await ask("answer")

    asyncio.run(agent())
    root = named(llmobs, "agent")
    (search_span,) = (record for record in llmobs.spans if record.name == "search")
    tools = [record for record in llmobs.spans if record.name == "tool"]
    calls = {call.text: call for call in llmobs.requests}

    assert {record.trace_id for record in llmobs.spans} == {root.trace_id}
    assert [record.parent_id for record in (search_span, *tools)] == [root.id] * 3
    assert calls["embed"].parent_id == search_span.id
    assert sorted(call.parent_id or "" for call in llmobs.requests if call.text == "tool") == sorted(
        t.id for t in tools
    )
    assert calls["answer"].parent_id == root.id


def test_properties_are_inherited(llmobs: Captured) -> None:
    """What is put on a span is on the spans below it, and nowhere else."""
    with span("outer", team="a") as outer:
        with span("inner", step=1) as inner:
            inner.set(late="yes")
            ask_sync("deep")
        outer.set(cost_center=7)
        ask_sync("shallow")
    deep, shallow = llmobs.requests

    assert dict(deep.properties) == {"team": "a", "step": "1", "late": "yes"}
    assert dict(shallow.properties) == {"team": "a", "cost_center": "7"}
    assert dict(named(llmobs, "inner").properties) == {"team": "a", "step": "1", "late": "yes"}


def test_trace_is_a_trace_of_its_own(llmobs: Captured) -> None:
    """In a script a block holds together what belongs together, with session and user (P11)."""
    with span("around"), trace("import run", session="s-1", user="u-1", batch=4) as run:
        assert current_trace_id() == run.trace_id
        ask_sync("one")
        ask_sync("two")
    assert current() is None
    around, root = named(llmobs, "around"), named(llmobs, "import run")

    assert root.parent_id is None and root.trace_id != around.trace_id
    for call in llmobs.requests:
        assert (call.trace_id, call.parent_id, call.session_id, call.user_id) == (root.trace_id, root.id, "s-1", "u-1")
        assert dict(call.properties) == {"batch": "4"}


def test_late_annotation_in_a_script(llmobs: Captured) -> None:
    """A trace outside of any request also spreads what is said after a call."""
    with trace("job"):
        ask_sync()
        llmobs.obs.flush()
        annotate(session="s", user="u", k="v")
    (call,) = llmobs.requests

    assert (call.session_id, call.user_id, dict(call.properties)) == ("s", "u", {"k": "v"})


def test_a_span_tells_what_it_is(llmobs: Captured) -> None:
    """Inside the block ``current`` is the span; input, output and name can be set until the end."""
    with span("search", kind="retriever", input={"q": 1}) as found:
        now = current()
        assert now is not None and (now.span_id, now.trace_id) == (found.id, found.trace_id)
        found.output = ["a"]
        found.name = "renamed"
    record = only(llmobs)

    assert (record.id, record.name, record.input, record.output) == (found.id, "renamed", '{"q":1}', '["a"]')


def test_async_with(llmobs: Captured) -> None:
    """The block may also be an asynchronous one."""

    async def work() -> None:
        async with span("a"), trace("b"):
            await ask()

    asyncio.run(work())
    assert llmobs.requests[0].parent_id == named(llmobs, "b").id


def test_suppressed(llmobs: Captured) -> None:
    """Nothing is recorded inside, and everything works; afterwards it is as before."""
    with suppress():
        assert plain("q") == ["q"] * 3
        with span("x") as silent:
            silent.set(a=1)
            assert (silent.id, silent.trace_id, current()) == (None, None, None)
    plain("q")
    assert len(llmobs.spans) == 1


def test_annotate_outside_is_nothing(llmobs: Captured) -> None:
    """Outside of any trace there is nothing to say something about."""
    annotate(session="s", user="u")
    assert (llmobs.spans, current(), current_trace_id()) == ([], None, None)


def test_switched_off(llmobs: Captured) -> None:
    """An engine that captures nothing lets everything work."""
    with capture(capture="off") as off:
        assert plain("q") == ["q"] * 3
        with trace("x", session="s"):
            assert ask_sync("hi") == "hi"
            annotate(user="u")
        assert off.spans == []


def test_instrument_off_patches_nothing() -> None:
    """A span does not start to watch clients that the configuration left alone."""
    before = clients.instrumented()
    clients.uninstrument()
    try:
        with capture(instrument="off") as llmobs:
            with span("x"):
                ask_sync()
            assert not clients.instrumented()
            assert (len(llmobs.requests), len(llmobs.spans)) == (0, 1)
    finally:
        if before:
            clients.instrument()


# generators


@pytest.fixture(autouse=True)
def as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items are noted for some milliseconds only: on a busy machine that is not enough for those of these tests."""
    monkeypatch.setattr("asgi_llmobs.capture.serialize.MAX_SECONDS", 40.0)


@observe
def talk(log: list[Any]) -> Iterator[Any]:
    """Yields what it gets, and says how it ended."""
    try:
        got = yield "a"
        log.append(got)
        try:
            yield "b"
        except KeyError as error:
            log.append(error)
            yield "c"
        ask_sync("inside")
        return
    finally:
        log.append("closed")


@observe
async def async_talk(log: list[Any]) -> AsyncIterator[Any]:
    """The same, asynchronous."""
    try:
        got = yield "a"
        log.append(got)
        try:
            yield "b"
        except KeyError as error:
            log.append(error)
            yield "c"
        await ask("inside")
    finally:
        log.append("closed")


def test_a_generator(llmobs: Captured) -> None:
    """Its span lasts from the first item to the last; between the items the consumer is not inside it."""
    log: list[Any] = []
    with span("around") as around:
        for _ in talk(log):
            now = current()
            assert now is not None and now.span_id == around.id
    found = named(llmobs, "talk")

    assert (found.outcome, found.output, found.parent_id) == ("ok", "ab", around.id)
    assert llmobs.requests[0].parent_id == found.id
    assert log == [None, "closed"]


def test_an_async_generator(llmobs: Captured) -> None:
    """The same for asynchronous ones."""

    async def consume() -> list[str]:
        return [item async for item in async_talk([])]

    assert asyncio.run(consume()) == ["a", "b"]
    found = named(llmobs, "async_talk")
    assert (found.outcome, found.output) == ("ok", "ab")
    assert llmobs.requests[0].parent_id == found.id


def test_values_and_errors_go_in(llmobs: Captured) -> None:
    """``send`` and ``throw`` reach the generator, and what it returns comes back."""
    log: list[Any] = []
    generator: Any = talk(log)
    error = KeyError("k")
    assert [next(generator), generator.send(42), generator.throw(error)] == ["a", "b", "c"]
    assert list(generator) == []

    async def consume() -> list[Any]:
        there: list[Any] = []
        other: Any = async_talk(there)
        got = [await other.__anext__(), await other.asend(42), await other.athrow(error)]
        assert [item async for item in other] == []
        assert there == [42, error, "closed"]
        return got

    assert asyncio.run(consume()) == ["a", "b", "c"]
    assert log == [42, error, "closed"]
    assert [record.outcome for record in llmobs.spans if record.kind == "span"] == ["ok", "ok"]


def test_what_a_generator_returns(llmobs: Captured) -> None:
    """``yield from`` gets the returned value; it counts as the output."""

    @observe
    def inner() -> Any:
        yield 1
        return {"sum": 1}

    def outer() -> Any:
        result = yield from inner()
        yield result

    assert list(outer()) == [1, {"sum": 1}]
    assert only(llmobs).output == '{"sum":1}'


@pytest.mark.parametrize("how", ["close", "break", "collected"])
def test_a_generator_that_is_left(how: str, llmobs: Captured) -> None:
    """Closed early, broken out of or forgotten: it is closed as without us, and recorded as abandoned."""
    log: list[Any] = []
    generator: Any = talk(log)
    next(generator)
    if how == "close":
        generator.close()
    elif how == "break":
        for _ in generator:
            break
        generator.close()
    else:
        del generator
        gc.collect()
    found = only(llmobs)

    assert log[-1] == "closed"
    assert (found.outcome, found.output) == ("abandoned", "ab" if how == "break" else "a")


def test_a_generator_that_is_never_started(llmobs: Captured) -> None:
    """Nothing ran: there is nothing to record."""
    talk([]).close()  # type: ignore[attr-defined]
    assert llmobs.spans == []


@pytest.mark.parametrize("how", ["aclose", "break", "collected", "cancelled", "other task"])
def test_an_async_generator_that_is_left(
    how: str, llmobs: Captured, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """However it ends, in whichever task: closed, recorded once, and nobody complains about a context."""
    log: list[Any] = []

    async def consume() -> None:
        generator: Any = async_talk(log)
        with trace("consumer"):
            before = place.get()
            await generator.__anext__()
            assert place.get() is before
            if how == "aclose":
                await generator.aclose()
            elif how == "break":
                async for _ in generator:
                    break
                await generator.aclose()
            elif how == "collected":
                del generator
                gc.collect()
                await asyncio.sleep(0.01)
            elif how == "other task":
                await asyncio.create_task(generator.aclose())
            else:
                with pytest.raises(asyncio.CancelledError):
                    await generator.athrow(asyncio.CancelledError())
            assert place.get() is before

    failed = failures()
    with caplog.at_level(logging.DEBUG):
        asyncio.run(consume())
    found = named(llmobs, "async_talk")

    assert log[-1] == "closed"
    assert found.outcome == ("cancelled" if how == "cancelled" else "abandoned")
    assert [str(warning.message) for warning in recwarn] == []
    assert [message for message in caplog.messages if "context" in message or "never retrieved" in message] == []
    assert failures() == failed


def test_a_stream_given_up_by_its_loop(llmobs: Captured) -> None:
    """A generator left open when the loop ends is closed by the loop."""
    log: list[Any] = []
    kept: list[Any] = []

    async def consume() -> None:
        kept.append(async_talk(log))
        await kept[0].__anext__()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(consume())
    assert (log, only(llmobs).outcome) == (["closed"], "abandoned")


def test_a_generator_that_refuses_to_close(llmobs: Captured) -> None:
    """The interpreter's own complaint about it is what the app gets."""

    @observe
    def stubborn() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    generator: Any = stubborn()
    next(generator)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        generator.close()


def test_items_are_not_kept_alive(llmobs: Captured) -> None:
    """A generator of large things does not make them pile up: they are noted as text, and boundedly."""

    class Large:
        alive = 0

        def __init__(self) -> None:
            Large.alive += 1

        def __del__(self) -> None:
            Large.alive -= 1

        def __repr__(self) -> str:
            return "<large>"

    @observe
    def many() -> Iterator[Large]:
        for _ in range(1_000):
            yield Large()

    most = 0
    for _ in many():
        most = max(most, Large.alive)
    output = only(llmobs).output

    assert most <= 3
    assert output is not None and output.count("<large>") == 199 and "801 more" in output


def test_long_texts_are_bounded(llmobs: Captured) -> None:
    """Of a long stream of text the beginning is kept."""

    @observe
    def chatter() -> Iterator[str]:
        for _ in range(100):
            yield "x" * 1_000

    assert sum(map(len, chatter())) == 100_000
    output = only(llmobs).output
    assert output is not None and len(output) == 32_768


def test_a_dependency_with_yield(llmobs: Captured) -> None:
    """FastAPI takes decorated generators as dependencies, with their exits and their exceptions."""
    left: list[str] = []

    @observe
    async def database() -> AsyncIterator[str]:
        try:
            yield "db"
        except ZeroDivisionError:
            left.append("rolled back")
            raise
        left.append("committed")

    @observe
    def cache() -> Iterator[str]:
        yield "cache"
        left.append("cache closed")

    app = FastAPI()

    @app.get("/{number}")
    async def endpoint(
        number: int, db: Annotated[str, Depends(database)], store: Annotated[str, Depends(cache)]
    ) -> str:
        await ask(f"{db} {store} {1 / number}")
        return "ok"

    app.add_middleware(LLMObsMiddleware, obs=LLMObs())
    client = TestClient(app, raise_server_exceptions=False)
    assert [client.get("/1").status_code, client.get("/0").status_code] == [200, 500]
    outcomes = [(record.name, record.outcome) for record in llmobs.spans if record.kind == "span"]

    assert left == ["cache closed", "committed", "rolled back"] or left[:2] == ["cache closed", "committed"]
    assert outcomes[:2] == [("database", "ok"), ("cache", "ok")]
    assert ("database", "error") in outcomes
    assert llmobs.requests[0].parent_id == llmobs.incoming[0].id


# threads


def test_propagate(llmobs: Captured) -> None:
    """A function is taken to other threads with its place, many at once, and leaves no mark there."""
    results: list[Any] = []

    def work(number: int) -> None:
        annotate(seen=number)
        results.append((number, current_trace_id()))

    with trace("root") as root:
        run = propagate(work)
    threads = [threading.Thread(target=run, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert run.__name__ == "work"
    assert sorted(results) == [(number, root.trace_id) for number in range(20)]
    assert current() is None


def test_one_client_from_many_threads(llmobs: Captured) -> None:
    """Spans of threads that run at once hang where they belong."""

    def work(number: int) -> None:
        with trace(f"t{number}") as root:
            assert ask_sync(f"{number} {root.id}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(llmobs.requests) == 32
    for call in llmobs.requests:
        assert call.text.split()[1] == call.parent_id


def test_a_plain_function_that_gives_a_coroutine(llmobs: Captured) -> None:
    """What another decorator made of an async function: its work is inside, and its result is the output."""

    def wrapped(fn: Any) -> Any:
        @functools.wraps(fn)
        def call(*args: Any) -> Any:
            return fn(*args)

        return call

    @observe(kind="tool")
    @wrapped
    async def weather(city: str) -> str:
        with span("below"):
            await asyncio.sleep(0)
        if city == "Atlantis":
            raise LookupError(city)
        return f"mild in {city}"

    given = weather("Porto")
    assert inspect.iscoroutine(given) and given.__name__ == "weather"
    assert asyncio.run(given) == "mild in Porto"
    with pytest.raises(LookupError):
        asyncio.run(weather("Atlantis"))

    fine, failed = (record for record in llmobs.spans if record.name == "weather")
    below = next(record for record in llmobs.spans if record.name == "below")
    assert below.parent_id == fine.id and (fine.output, fine.outcome) == ("mild in Porto", "ok")
    assert (failed.outcome, failed.error_type) == ("error", "LookupError")


def test_what_cannot_be_observed() -> None:
    """It is said at once, with the way out."""
    with pytest.raises(TypeError, match="its options are given by name"):
        observe("a name")  # type: ignore[call-overload]
