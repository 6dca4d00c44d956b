"""What the garbage collector, another task or another context ends: recorded once, and nobody hears of it."""

import asyncio
import contextlib
import gc
import json
import logging
import threading
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextvars import Context, copy_context
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from asgi_llmobs import LLMObs, observe, span, suppress, trace
from asgi_llmobs.context import place, suppressed
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.safely import failures
from asgi_llmobs.testing import Captured
from tests.calling import URL, ask, question


@pytest.fixture(autouse=True)
def no_garbage_of_another_test() -> None:
    """What earlier tests left open is not to be found in these."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def piece(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c1", "model": "gpt-4o", "choices": [choice]}).encode() + b"\n\n"


PIECES = [piece("he"), piece("ll"), piece("o", "stop"), b"data: [DONE]\n\n"]


def streaming(family: Any) -> Any:
    """A client whose model answers in pieces, with a wait before each."""

    class Stream(family.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for each in PIECES:
                await asyncio.sleep(0)
                yield each

    def handle(request: Any) -> Any:
        return family.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream())

    return family.AsyncClient(transport=family.MockTransport(handle))


class Storm:
    """A thread that collects garbage all the time."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._blow)
        self.collected = 0

    def __enter__(self) -> "Storm":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _blow(self) -> None:
        while not self._over.wait(0.0005):
            gc.collect()
            self.collected += 1


async def read(family: Any, name: dict[str, str]) -> None:
    """A stream that is read, of a client that nobody closes."""
    async with streaming(family).stream("POST", URL, json=question("hi"), headers=name) as response:
        assert b"".join([chunk async for chunk in response.aiter_raw()]) == b"".join(PIECES)


async def leave(family: Any, name: dict[str, str]) -> None:
    """A stream that is left for the collector half read, in a circle with its client."""
    client = streaming(family)
    response = await client.send(client.build_request("POST", URL, json=question("hi"), headers=name), stream=True)
    chunks = response.aiter_raw()
    await anext(chunks)
    response.itself, response.client, response.chunks = response, client, chunks


async def forget(family: Any, name: dict[str, str]) -> None:
    """A stream that nobody began to read."""
    client = streaming(family)
    await client.send(client.build_request("POST", URL, json=question("hi"), headers=name), stream=True)


async def cancel(family: Any, name: dict[str, str]) -> None:
    """A task that is cancelled in the middle of its stream."""
    began = asyncio.Event()

    async def consume() -> None:
        async with streaming(family).stream("POST", URL, json=question("hi"), headers=name) as response:
            async for _ in response.aiter_raw():
                began.set()
                await asyncio.sleep(30)

    task = asyncio.create_task(consume())
    await began.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


WAYS: dict[Callable[[Any, dict[str, str]], Any], str] = {
    read: "ok", leave: "abandoned", forget: "abandoned", cancel: "cancelled"
}  # fmt: skip


@pytest.mark.parametrize("each", [10, pytest.param(80, marks=pytest.mark.slow)])
def test_p9_a_storm_of_collections(tmp_path: Path, caplog: pytest.LogCaptureFixture, each: int) -> None:
    """However often the collector runs, and whatever it ends: every call is stored once, with its own outcome."""
    failed = failures()
    obs = LLMObs(f"sqlite:///{tmp_path / 'llmobs.db'}")
    expected: dict[str, str] = {}

    async def load() -> None:
        done = 0

        async def one(way: Callable[..., Any], family: ModuleType, name: str) -> None:
            nonlocal done
            try:
                await way(family, {"LLMObs-Property-Call": name})
            finally:
                done += 1

        for number in range(each):
            for family in (httpx, httpx2):
                for way, outcome in WAYS.items():
                    name = f"{way.__name__} {family.__name__} {number}"
                    expected[name] = outcome
                    asyncio.create_task(one(way, family, name))  # nobody holds on to it
            await asyncio.sleep(0)
        while done < len(expected):
            await asyncio.sleep(0.005)

    with caplog.at_level(logging.WARNING), Storm() as storm:
        asyncio.run(load())
    gc.collect()
    assert obs.flush(40) and storm.collected > 1
    stats = obs.stats()
    found: list[tuple[str, str]] = []
    page = list_requests(obs.database, Filter(), limit=500)
    while True:
        found += [(row.properties["Call"], str(row.outcome)) for row in page.rows]
        if page.next_cursor is None:
            break
        page = list_requests(obs.database, Filter(), limit=500, cursor=page.next_cursor)
    obs.close()

    assert Counter(name for name, _ in found) == Counter(dict.fromkeys(expected, 1))
    assert dict(found) == expected
    assert stats.captured == stats.stored == len(expected) and dict(stats.dropped) == {}
    assert failures() == failed and caplog.messages == []


def bare(client: Any) -> AsyncIterator[str]:
    """An answer passed on piece by piece, as an app does."""

    async def words() -> AsyncIterator[str]:
        async with client.stream("POST", URL, json=question("hi")) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line[6:])["choices"][0]["delta"]["content"]

    return words()


def in_span(client: Any) -> AsyncIterator[str]:
    """The same inside a block."""

    async def words() -> AsyncIterator[str]:
        with span("words"):
            async for word in bare(client):
                yield word

    return words()


def in_async_span(client: Any) -> AsyncIterator[str]:
    """The same inside an async block in a trace of its own."""

    async def words() -> AsyncIterator[str]:
        async with trace("around"), span("words"):
            async for word in bare(client):
                yield word

    return words()


def observed(client: Any) -> AsyncIterator[str]:
    """The same with the decorator."""

    @observe(name="words")
    async def words() -> AsyncIterator[str]:
        async for word in bare(client):
            yield word

    return words()


async def collected(held: list[Any]) -> None:
    held.clear()
    gc.collect()
    for _ in range(20):
        await asyncio.sleep(0)


async def in_another_task(held: list[Any]) -> None:
    await asyncio.create_task(held[0].aclose())


async def in_another_context(held: list[Any]) -> None:
    await asyncio.create_task(held[0].aclose(), context=Context())


async def thrown_into(held: list[Any]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await held[0].athrow(asyncio.CancelledError())


async def left_to_the_loop(held: list[Any]) -> None:
    """The loop closes it as it ends."""


ENDS = (collected, in_another_task, in_another_context, thrown_into, left_to_the_loop)


@pytest.mark.parametrize("each_step", ["in its own context", "in one task"])
@pytest.mark.parametrize("form", [bare, in_span, in_async_span, observed], ids=lambda form: form.__name__)
def test_p12_a_stream_that_ends_elsewhere(
    form: Callable[[Any], AsyncIterator[str]],
    each_step: str,
    llmobs: Captured,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    """Whoever closes an answer half read: one record with its text so far, the place of others as it was, no word."""
    failed = failures()
    problems: list[Any] = []
    kept: list[Any] = []

    async def step(generator: Any) -> str:
        if each_step == "in one task":
            return str(await anext(generator))
        return await asyncio.create_task(anext(generator), context=copy_context())

    async def begin(family: Any, held: list[Any]) -> None:
        with trace("reader"):
            before = place.get()
            held.append(form(streaming(family)))
            assert [await step(held[0]), await step(held[0])] == ["he", "ll"]
            if form in (bare, observed) or each_step != "in one task":
                assert place.get() is before

    async def main(family: Any, end: Callable[[list[Any]], Any]) -> None:
        if end is not left_to_the_loop:  # where a loop closes all at once, the client itself complains, without us too
            asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        else:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
        held: list[Any] = []
        kept.append(held)
        await asyncio.create_task(begin(family, held))
        with trace("somebody else") as other:
            await end(held)
            now = place.get()
            assert now is not None and now.span_id == other.id

    for family in (httpx, httpx2):
        for end in ENDS:
            kept.clear()
            with caplog.at_level(logging.DEBUG, "asyncio"), caplog.at_level(logging.WARNING):
                asyncio.run(main(family, end))
            kept.clear()
            gc.collect()
            told = (family.__name__, end.__name__)
            wanted = {"cancelled"} if end is thrown_into else {"abandoned", "cancelled"}
            (call,) = llmobs.requests
            assert call.outcome in wanted and call.text == "hell", (told, call.outcome, call.text)
            spans = [found for found in llmobs.spans if found.name == "words"]
            assert len(spans) == (form is not bare), told
            assert all(found.outcome in wanted and call.parent_id == found.id for found in spans), (told, spans)
            readers = {found.trace_id for found in llmobs.spans if found.name in ("reader", "around")}
            assert call.trace_id in readers, told
            llmobs.clear()

    assert problems == [] and failures() == failed
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert [str(warning.message) for warning in recwarn] == []


def test_p12_a_suppression_that_ends_elsewhere(llmobs: Captured) -> None:
    """Of a generator that somebody else closes: what that one has suppressed stays so, and in a copy it ends."""

    async def quiet() -> AsyncIterator[int]:
        with suppress():
            yield 1
            yield 2

    async def main() -> None:
        first, second = quiet(), quiet()
        await asyncio.create_task(anext(first), context=copy_context())  # type: ignore[arg-type]
        with suppress():
            await first.aclose()  # type: ignore[attr-defined]
            assert suppressed()
            await ask("hidden")
        await ask("seen")
        await anext(second)

        async def copied() -> None:
            assert suppressed()
            await second.aclose()  # type: ignore[attr-defined]
            await ask("seen too")

        await asyncio.create_task(copied())

    asyncio.run(main())

    assert [call.text for call in llmobs.requests] == ["seen", "seen too"]
