"""One tree whatever runs where: streams, tasks, threads, loops, workers."""

import asyncio
import contextlib
import gc
import logging
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient

from asgi_llmobs import LLMObs, LLMObsMiddleware, annotate, context, current_trace_id, observe, propagate, trace
from asgi_llmobs.testing import Captured
from tests.calling import URL, answer, ask, ask_sync, drive, http_scope, question, reply


def traced(app: Any) -> Any:
    return LLMObsMiddleware(app, obs=LLMObs())


def everywhere() -> FastAPI:
    """An app that calls a model wherever an app can."""
    app = FastAPI()

    def sync_dependency() -> None:
        ask_sync("sync dependency")

    async def async_dependency() -> AsyncIterator[None]:
        await ask("before the endpoint")
        yield
        await ask("after the endpoint")

    @app.get("/all", dependencies=[Depends(sync_dependency), Depends(async_dependency)])
    async def all_ways(tasks: BackgroundTasks) -> StreamingResponse:
        await asyncio.gather(ask("gather 1"), ask("gather 2"))
        await asyncio.create_task(ask("task"))
        async with asyncio.TaskGroup() as group:
            group.create_task(ask("group"))
        async with anyio.create_task_group() as trio_like:
            trio_like.start_soon(ask, "anyio group")
        await asyncio.to_thread(ask_sync, "to_thread")
        await asyncio.get_running_loop().run_in_executor(None, propagate(ask_sync), "executor")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(propagate(lambda: asyncio.run(ask("another loop")))).result()
        tasks.add_task(ask, "background")
        tasks.add_task(ask_sync, "sync background")

        async def pieces() -> AsyncIterator[bytes]:
            await ask("in the stream")
            yield b"x"

        return StreamingResponse(pieces(), background=tasks)

    @app.get("/sync")
    def endpoint() -> str:
        return ask_sync("sync endpoint")

    @app.websocket("/ws")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await ask("websocket")
        await websocket.close()

    return app


PLACES = {
    "sync dependency", "before the endpoint", "after the endpoint", "gather 1", "gather 2", "task", "group",
    "anyio group", "to_thread", "executor", "another loop", "background", "sync background", "in the stream",
}  # fmt: skip


def test_T11_without_any_header(llmobs: Captured) -> None:
    """Everything that one request sets off is one trace by itself."""
    client = TestClient(traced(everywhere()))
    client.get("/all")
    (root,) = llmobs.incoming

    assert {call.text for call in llmobs.requests} == PLACES
    assert {(call.trace_id, call.parent_id) for call in llmobs.requests} == {(root.trace_id, root.id)}

    client.get("/sync")
    with client.websocket_connect("/ws"):
        pass
    kinds = {span.kind: span.trace_id for span in llmobs.incoming[1:]}
    assert [(call.text, call.trace_id) for call in llmobs.requests[-2:]] == [
        ("sync endpoint", kinds["http"]), ("websocket", kinds["websocket"])
    ]  # fmt: skip


def test_N3_nothing_is_detached(llmobs: Captured, caplog: pytest.LogCaptureFixture) -> None:
    """The stream's context ends elsewhere than it began: nobody logs a thing about it."""
    with caplog.at_level(logging.INFO):
        TestClient(traced(everywhere())).get("/all")
    assert [record.getMessage() for record in caplog.records if "context" in record.getMessage().lower()] == []
    assert len(llmobs.traces) == 1


def test_N3_an_observed_stream_collected_in_another_task(llmobs: Captured, caplog: pytest.LogCaptureFixture) -> None:
    """Left half read and collected by whoever comes along: recorded as abandoned, and that task's place stays."""

    @observe
    async def stream() -> AsyncIterator[str]:
        for word in ("one", "two", "three"):
            yield word

    async def begin(held: list[Any]) -> None:
        with trace("reader"):
            held.append(stream())
            await anext(held[0])

    async def main() -> None:
        held: list[Any] = []
        await asyncio.create_task(begin(held))
        with trace("somebody else") as other:
            held.clear()
            gc.collect()
            await asyncio.sleep(0.01)
            assert current_trace_id() == other.trace_id
            await ask("mine")

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    spans = {span.name: span for span in llmobs.spans}
    assert spans["stream"].outcome == "abandoned" and spans["stream"].trace_id == spans["reader"].trace_id
    assert llmobs.requests[0].trace_id == spans["somebody else"].trace_id
    assert caplog.records == []


def test_N3_a_thousand_at_once(llmobs: Captured) -> None:
    """Every one of 1,000 concurrent requests keeps its own user, session and calls."""
    app = FastAPI()
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))

    @app.get("/{canary}")
    async def endpoint(canary: str) -> str:
        annotate(user=canary, session=f"s-{canary}", canary=canary)
        await asyncio.sleep(0.001)
        await asyncio.gather(*(client.post(URL, json=question(f"{canary} {call}")) for call in "ab"))
        return canary

    watched = traced(app)

    async def one(number: int) -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            await asyncio.sleep(0)

        await watched(http_scope(path=f"/c{number}"), receive, send)

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(1_000)))

    asyncio.run(main())
    roots = {root.trace_id: root for root in llmobs.incoming}

    assert len(roots) == 1_000 and len(llmobs.requests) == 2_000
    for call in llmobs.requests:
        canary = call.text.split()[0]
        said = roots[call.trace_id].url, call.parent_id, call.user_id, call.session_id, call.properties
        assert said == (f"/{canary}", roots[call.trace_id].id, canary, f"s-{canary}", {"canary": canary})


def worker_app(queue: "list[Any]", *, observed: bool = False) -> Any:
    """The first request starts a worker that lives on."""

    async def work() -> None:
        while True:
            await ask(await queue[0].get())
            queue[0].task_done()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if len(queue) == 1:
            queue.append(asyncio.create_task((observe(work) if observed else work)()))
        annotate(user=scope["path"])
        await ask(f"by {scope['path']}")
        await reply(send)

    return traced(app)


@pytest.mark.parametrize("observed", [False, True])
def test_N3_a_worker_is_not_its_first_requests_for_ever(
    observed: bool, llmobs: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does long after that request is a trace of its own, without its user, and names where it was started."""
    monkeypatch.setattr(context, "GRACE_NS", 5_000_000)
    monkeypatch.setattr(context, "OPEN_GRACE_NS", 5_000_000)
    queue: list[Any] = []

    async def main() -> None:
        queue.append(asyncio.Queue())
        app = worker_app(queue, observed=observed)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None: ...

        await app(http_scope(path="/first"), receive, send)
        await asyncio.sleep(0.02)
        for job in ("job 1", "job 2"):
            queue[0].put_nowait(job)
            await queue[0].join()
        queue[1].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await queue[1]

    asyncio.run(main())
    mine, *jobs = llmobs.requests

    assert mine.user_id == "/first"
    assert [(job.user_id, job.parent_id, job.properties["linked_trace"]) for job in jobs] == [
        (None, None, mine.trace_id)
    ] * 2
    assert len({call.trace_id for call in llmobs.requests}) == 3


def test_N3_a_long_task_inside_a_span_stays(llmobs: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that goes on after the response keeps its trace as long as its own span is open."""
    monkeypatch.setattr(context, "GRACE_NS", 1_000_000)
    tasks: list[Any] = []

    @observe(kind="agent")
    async def agent() -> None:
        await ask("first")
        await asyncio.sleep(0.02)
        await ask("second")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(asyncio.create_task(agent()))
        await reply(send)

    async def main() -> None:
        async def nothing(*message: Any) -> Any: ...

        await traced(app)(http_scope(), nothing, nothing)
        await tasks[0]

    asyncio.run(main())
    assert len({span.trace_id for span in llmobs.spans}) == 1
    assert [call.text for call in llmobs.requests] == ["first", "second"]


def test_N3_threads_of_many_requests(llmobs: Captured) -> None:
    """A pool that serves several requests gives each call to the request that sent it."""
    pool = ThreadPoolExecutor(4)
    barrier = threading.Barrier(4)

    def work(name: str) -> None:
        barrier.wait(40)
        ask_sync(name)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.wrap_future(pool.submit(propagate(work), scope["path"]))
        await reply(send)

    watched = traced(app)
    threads = [threading.Thread(target=drive, args=(watched, http_scope(path=f"/{n}"))) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    pool.shutdown()
    paths = {root.trace_id: root.url for root in llmobs.incoming}
    assert {(call.text, paths[call.trace_id]) for call in llmobs.requests} == {(f"/{n}", f"/{n}") for n in range(4)}
