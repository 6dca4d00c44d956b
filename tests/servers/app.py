"""The app that the server tests serve: whole calls, a stream that never ends, work in the background; no network."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_llmobs import LLMObsMiddleware
from tests.calling import URL, answer, ask, ask_sync, question


class Endless(httpx.AsyncByteStream):
    """A model that goes on talking."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            delta = {"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "word "}}]}
            yield b"data: " + json.dumps(delta).encode() + b"\n\n"
            await anyio.sleep(0.01)


def model(request: httpx.Request) -> httpx.Response:
    if json.loads(request.content).get("stream"):
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Endless())
    return answer(request)


async def call(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await ask(request.path_params["id"]))


def sync_call(request: Request) -> PlainTextResponse:
    return PlainTextResponse(ask_sync(request.path_params["id"]))


async def background(request: Request) -> PlainTextResponse:
    return PlainTextResponse("soon", background=BackgroundTask(ask, request.path_params["id"]))


async def stream(request: Request) -> StreamingResponse:
    async def words() -> AsyncIterator[bytes]:
        body: dict[str, Any] = {**question("talk"), "stream": True}
        async with httpx.AsyncClient(transport=httpx.MockTransport(model)) as client:
            async with client.stream("POST", URL, json=body) as response:
                async for chunk in response.aiter_bytes():
                    yield chunk

    return StreamingResponse(words())


async def plain(request: Request) -> PlainTextResponse:
    return PlainTextResponse("plain")


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await ask(websocket.path_params["id"]))
    await websocket.close()


app = Starlette(
    routes=[
        Mount("/below", routes=[Route("/{id}", call)]),
        Route("/sync/{id}", sync_call),
        Route("/background/{id}", background),
        Route("/stream", stream),
        Route("/plain", plain),
        WebSocketRoute("/socket/{id}", socket),
    ]
)
app.add_middleware(LLMObsMiddleware)
