"""A page that goes on: server-sent events while the visitor listens, until they leave or the server stops.

A server that is asked to stop waits for open answers, and tells nobody. So the feed looks for itself whether uvicorn
or Hypercorn wants to stop. Of others nobody can know: there it ends every few seconds, and the browser comes again at
once with the mark that it had, so that nothing is missed and no stop waits for long.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import CoroutineType
from typing import Any, cast

import anyio
import anyio.to_thread
import orjson
from anyio.lowlevel import RunVar
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from asgi_llmobs.admin.answers import GUARD, INERT
from asgi_llmobs.errors import StoreError
from asgi_llmobs.queries.live import Mark, News
from asgi_llmobs.store.deadline import within

__all__ = ["FeedAnswer", "LISTENERS"]

LISTENERS = 16  # at a time, of one process
THREADS = 2
LOOK_SECONDS = 0.5  # between two looks at the store
STEP_SECONDS = 0.1  # between two looks at the server
QUIET_SECONDS = 10.0  # after which a sign of life is sent
LIFE_SECONDS = 120.0
BLIND_SECONDS = 8.0  # where nobody tells that the server stops
READ_SECONDS = 2.0
RETRY_MS = 1_000
BLIND_RETRY_MS = 100
HEADERS = {
    **GUARD,
    "content-type": "text/event-stream; charset=utf-8",
    "content-security-policy": INERT,
    "x-accel-buffering": "no",
}

_threads: RunVar[anyio.CapacityLimiter] = RunVar("llmobs_feed_threads")
_listeners: RunVar[list[int]] = RunVar("llmobs_feed_listeners")


class FeedAnswer(Response):
    """The events of one listener.

    Args:
        look: Blocks; says what happened since a mark.
        mark: Where to begin.
    """

    def __init__(self, look: Callable[[Mark], News], mark: Mark) -> None:
        super().__init__(b"", 200, HEADERS)
        del self.headers["content-length"]
        self.look = look
        self.mark = mark

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the listener leaves."""
        async with place() as given:
            if not given:
                full = Response(b"", 503, {**GUARD, "retry-after": "5"})
                await full(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with anyio.create_task_group() as group:
                if scope["method"] != "HEAD":
                    group.start_soon(left, receive, group.cancel_scope)
                    await self._tell(send)
                group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        stopping = server_stops()
        seconds, retry = (BLIND_SECONDS, BLIND_RETRY_MS) if stopping is None else (LIFE_SECONDS, RETRY_MS)
        until, quiet, looked = time.monotonic() + seconds, time.monotonic(), 0.0
        await send(piece(f"retry: {retry}\nid: {self.mark}\n\n"))
        while not (stopping and stopping()) and (now := time.monotonic()) < until:
            if now - looked >= LOOK_SECONDS:
                looked = now
                told = await self._look()
                if told:
                    await send(piece(told))
                    quiet = now
            if now - quiet >= QUIET_SECONDS:
                await send(piece(": \n\n"))
                quiet = now
            await anyio.sleep(STEP_SECONDS)

    async def _look(self) -> str:
        """The next event as text; empty where nothing happened, or the store could not be asked this time."""
        try:
            found = await anyio.to_thread.run_sync(timely, self.look, self.mark, limiter=own_threads())
        except StoreError:
            return ""
        before, self.mark = self.mark, found.mark
        if not found.new and not found.changed:
            # a mark that moved goes along, so that whoever comes again need not look through what was no news
            return f"id: {found.mark}\n\n" if found.mark != before else ""
        data = orjson.dumps({"new": found.new, "changed": found.changed, "more": found.more}).decode()
        return f"event: rows\nid: {found.mark}\ndata: {data}\n\n"


def timely(look: Callable[[Mark], News], mark: Mark) -> News:
    with within(READ_SECONDS):
        return look(mark)


def piece(text: str) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}


async def left(receive: Receive, scope: anyio.CancelScope) -> None:
    """Wait until the listener has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


@asynccontextmanager
async def place() -> AsyncIterator[bool]:
    """One of the places for listeners, while the block runs; false where all are taken."""
    try:
        count = _listeners.get()
    except LookupError:
        count = [0]
        _listeners.set(count)
    if count[0] >= LISTENERS:
        yield False
        return
    count[0] += 1
    try:
        yield True
    finally:
        count[0] -= 1


def own_threads() -> anyio.CapacityLimiter:
    try:
        return _threads.get()
    except LookupError:
        made = anyio.CapacityLimiter(THREADS)
        _threads.set(made)
        return made


def server_stops() -> Callable[[], bool] | None:
    """Asks whether the server that runs this event loop wants to stop; ``None`` where it cannot be asked.

    The server is found among what the loop's tasks wait in: uvicorn's ``Server``, Hypercorn's ``TCPServer``.
    """
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:
        return None  # trio
    for task in tasks:
        inner: Any = task.get_coro()
        while isinstance(inner, CoroutineType):
            owner = inner.cr_frame.f_locals.get("self") if inner.cr_frame is not None else None
            # uvicorn's lifespan has a should_exit too, which says something else
            if isinstance(getattr(owner, "should_exit", None), bool) and hasattr(owner, "server_state"):
                return partial(getattr, owner, "should_exit")
            ended = getattr(getattr(getattr(owner, "context", None), "terminated", None), "is_set", None)
            if callable(ended):
                return cast("Callable[[], bool]", ended)
            inner = inner.cr_await
    return None
