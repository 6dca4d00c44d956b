"""LLM calls and ASGI connections for the tests of capture: an endpoint in the process, and an app called by hand."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import httpx

URL = "https://api.openai.com/v1/chat/completions"
Message = MutableMapping[str, Any]


def answer(request: httpx.Request) -> httpx.Response:
    """What a chat model would say: it repeats the last message."""
    said = json.loads(request.content)["messages"][-1]["content"]
    return httpx.Response(
        200,
        json={
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        },
    )


def question(text: str) -> dict[str, Any]:
    """The body of a chat call."""
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}


async def ask(text: str = "hello", **headers: str) -> str:
    """One chat call with a client of its own; what the model says."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        response = await client.post(URL, json=question(text), headers=headers)
    return str(response.json()["choices"][0]["message"]["content"])


def ask_sync(text: str = "hello", **headers: str) -> str:
    """The same, synchronous."""
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        response = client.post(URL, json=question(text), headers=headers)
    return str(response.json()["choices"][0]["message"]["content"])


def http_scope(**given: Any) -> dict[str, Any]:
    """A request as a server gives it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": given.get("path", "/").encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"test")],
        "client": ("203.0.113.9", 4711),
        "server": ("127.0.0.1", 80),
        "state": {},
        "extensions": {},
        **given,
    }


def drive(
    app: Callable[..., Awaitable[None]],
    scope: MutableMapping[str, Any] | None = None,
    incoming: Iterable[Message] = ({"type": "http.request", "body": b"", "more_body": False},),
) -> list[Message]:
    """Call *app* once as a server would; what it sent. When *incoming* is used up, the client has gone."""
    sent: list[Message] = []
    waiting = list(incoming)

    async def receive() -> Message:
        await asyncio.sleep(0)
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        await asyncio.sleep(0)
        sent.append(message)

    asyncio.run(app(http_scope() if scope is None else scope, receive, send))  # type: ignore[arg-type]
    return sent


async def reply(send: Callable[[Message], Awaitable[None]], status: int = 200, body: bytes = b"ok") -> None:
    """The two messages of a plain response."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})
