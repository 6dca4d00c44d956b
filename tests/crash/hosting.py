"""An app that calls a model, and what its client got: the same whatever happens to us."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from asgi_llmobs import LLMObs, LLMObsMiddleware, observe

MODEL = "https://api.openai.com/v1/chat/completions"
CHUNKS = [
    b'data: {"id":"c1","object":"chat.completion.chunk","model":"gpt-4o",',
    b'"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
    b'data: {"id":"c1","object":"chat.completion.chunk","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"b"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n',
    b"data: [DONE]\n\n",
]
ANSWER = {
    "id": "c2",
    "object": "chat.completion",
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


class Chunks(httpx.AsyncByteStream):
    """A stream that comes in pieces."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            await pause()
            yield chunk


class Provider(httpx.AsyncBaseTransport):
    """A model behind no network: streams where that is asked for."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        await pause()
        if b'"fail"' in body:
            raise httpx.ReadTimeout("too slow", request=request)
        if b'"stream"' in body:
            return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Chunks())
        return httpx.Response(200, json=ANSWER)


def app(obs: LLMObs | None) -> Any:
    """The app, with or without us."""

    async def stream(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            asked = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
            async with (
                httpx.AsyncClient(transport=Provider()) as client,
                client.stream("POST", MODEL, json=asked) as got,
            ):
                async for piece in got.aiter_raw():
                    yield piece

        return StreamingResponse(pieces())

    @observe
    async def tool(question: str) -> str:
        async with httpx.AsyncClient(transport=Provider()) as client:
            got = await client.post(
                MODEL, json={"model": "gpt-4o", "messages": [{"role": "user", "content": question}]}
            )
            return str(got.json()["choices"][0]["message"]["content"])

    async def plain(request: Request) -> Response:
        return JSONResponse({"said": await tool("what?")})

    async def failing(request: Request) -> Response:
        async with httpx.AsyncClient(transport=Provider()) as client:
            try:
                await client.post(MODEL, json={"model": "gpt-4o", "fail": True})
            except httpx.ReadTimeout as error:
                return JSONResponse({"error": str(error)}, status_code=504)
        return JSONResponse({})

    made = Starlette(routes=[Route("/stream", stream), Route("/plain", plain), Route("/failing", failing)])
    if obs is not None:
        made.add_middleware(LLMObsMiddleware, obs=obs)
    return made


class Got(NamedTuple):
    """What the server was told, and how it ended."""

    messages: tuple[Any, ...]
    error: str | None
    steps: int


class Steps:
    """Counts the waits of a request, and cancels it at one of them."""

    def __init__(self, at: int) -> None:
        self.at, self.taken = at, 0
        self.task: asyncio.Task[None] | None = None


steps: ContextVar[Steps] = ContextVar("steps")


async def pause() -> None:
    """A wait, as for a socket."""
    found = steps.get()
    found.taken += 1
    if found.taken == found.at:
        assert found.task is not None
        found.task.cancel()
    await asyncio.sleep(0)


async def ask(application: Any, path: str, cancel_at: int = 0) -> Got:
    """One request, driven by hand."""
    messages: list[Any] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": [(b"host", b"app")],
        "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 80), "state": {}, "extensions": {},
    }  # fmt: skip
    told = asyncio.Event()

    async def receive() -> Any:
        if not told.is_set():
            told.set()
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        await pause()
        messages.append(message)

    counted = Steps(cancel_at)
    steps.set(counted)
    counted.task = asyncio.ensure_future(application(scope, receive, send))
    error = None
    try:
        await counted.task
    except BaseException as problem:
        error = type(problem).__name__
    return Got(tuple(map(repr, messages)), error, counted.taken)
