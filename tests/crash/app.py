"""The app that is stopped and killed: LLM calls over real sockets, in every way that an app makes them."""

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from multiprocessing import get_context
from typing import Any

import anyio
import anyio.to_thread
import httpx
from anyio.lowlevel import current_token
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from asgi_llmobs import LLMObsMiddleware
from asgi_llmobs.runtime import current_engine

URL = os.environ.get("PROVIDER", "http://127.0.0.1:9") + "/v1/chat/completions"
# one for all: a child of a fork would wait for ever for a lock of OpenSSL that another thread had in hand
TLS = ssl.create_default_context()
ALONE: Any = {"trust_env": False, "timeout": 20, "verify": TLS}


def question(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], **more}


def named(id: str) -> dict[str, str]:
    """The headers by which a call is found again."""
    return {"LLMObs-Property-Call": id}


def ask(id: str) -> None:
    with httpx.Client(**ALONE) as client:
        client.post(URL, json=question(), headers=named(id)).raise_for_status()


class Clients:
    """A client for each event loop."""

    def __init__(self) -> None:
        self._by_loop: dict[Any, httpx.AsyncClient] = {}

    def get(self) -> httpx.AsyncClient:
        key = current_token()
        if key not in self._by_loop:
            self._by_loop[key] = httpx.AsyncClient(**ALONE)
        return self._by_loop[key]


clients = Clients()


async def call(request: Request) -> Response:
    """A whole answer."""
    id = request.path_params["id"]
    answer = await clients.get().post(URL, json=question(), headers=named(id))
    return PlainTextResponse(id, answer.status_code)


def sync_call(request: Request) -> Response:
    """The same, in a thread."""
    ask(request.path_params["id"])
    return PlainTextResponse(request.path_params["id"])


async def stream(request: Request) -> Response:
    """A streamed answer, passed on; its last line is the id."""
    id = request.path_params["id"]

    async def words() -> AsyncIterator[bytes]:
        async with clients.get().stream("POST", URL, json=question(stream=True), headers=named(id)) as answer:
            async for chunk in answer.aiter_bytes():
                yield chunk
        yield id.encode()

    return StreamingResponse(words())


async def endless(request: Request) -> Response:
    """A feed that never ends by itself."""

    async def ticks() -> AsyncIterator[bytes]:
        while True:
            yield b"tick\n"
            await anyio.sleep(0.05)

    return StreamingResponse(ticks())


async def pid(request: Request) -> Response:
    return PlainTextResponse(str(os.getpid()))


async def stats(request: Request) -> Response:
    engine = current_engine()
    assert engine is not None
    return JSONResponse(json.loads(json.dumps(engine.stats()._asdict(), default=dict)))


async def leave(request: Request) -> Response:
    """What no handler should do."""
    ask(request.path_params["id"])
    sys.exit(3)


def by_fork(request: Request) -> Response:
    """Many short-lived children, each with a call of its own."""
    id = request.path_params["id"]
    for number in range(int(request.query_params["count"])):
        child = os.fork()
        if child == 0:
            try:
                ask(f"{id}.{number}")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    ask(id)
    return PlainTextResponse(id)


def by_process(request: Request) -> Response:
    """Children of the standard library."""
    id = request.path_params["id"]
    how: Any = request.query_params["how"]
    child = get_context(how).Process(target=ask, args=(f"{id}.0",))
    child.start()
    child.join()
    ask(id)
    return PlainTextResponse(id)


async def own_loop(request: Request) -> Response:
    """A second event loop, in a thread."""
    id = request.path_params["id"]

    async def inside() -> None:
        async with httpx.AsyncClient(**ALONE) as client:
            await client.post(URL, json=question(), headers=named(f"{id}.0"))

    await anyio.to_thread.run_sync(lambda: asyncio.run(inside()))
    await clients.get().post(URL, json=question(), headers=named(id))
    return PlainTextResponse(id)


app = Starlette(
    routes=[
        Route("/call/{id}", call),
        Route("/sync/{id}", sync_call),
        Route("/stream/{id}", stream),
        Route("/endless", endless),
        Route("/pid", pid),
        Route("/stats", stats),
        Route("/leave/{id}", leave),
        Route("/fork/{id}", by_fork),
        Route("/process/{id}", by_process),
        Route("/loop/{id}", own_loop),
    ]
)
app.add_middleware(LLMObsMiddleware)
