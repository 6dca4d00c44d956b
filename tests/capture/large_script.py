"""Run by the tests of large requests in a process of its own: an app that sends them. Prints what it took.

    python -m tests.capture.large_script image|messages|huge FOLDER|-

With ``-`` for the folder the app runs without us.
"""

import asyncio
import base64
import hashlib
import json
import os
import resource
import sys
import time
from typing import Any

import httpx

from asgi_llmobs import LLMObs, span
from asgi_llmobs.auth import allow
from asgi_llmobs.queries.requests import get_request
from tests.calling import URL

TIMES = 4
HELD: list[float] = []
ANSWER = {
    "id": "chatcmpl-1",
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a cat"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}


def question(kind: str) -> bytes:
    """A picture of 50 MB, a conversation of 10,000 messages, or one of 1.1 GB."""
    if kind == "huge":
        return b'{"model":"gpt-4o","messages":[{"role":"user","content":"%s"}]}' % (b"0123456789 " * 100_000_000)
    if kind == "image":
        picture = "data:image/png;base64," + base64.b64encode(os.urandom(37_500_000)).decode()
        parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": picture}}]
        messages: list[Any] = [{"role": "user", "content": parts}]
    else:
        messages = [
            {"role": ("user", "assistant")[number % 2], "content": f"message {number} " + "word " * 40}
            for number in range(10_000)
        ]
    return json.dumps({"model": "gpt-4o", "messages": messages}).encode()


class Provider(httpx.AsyncBaseTransport):
    """A model that reads what it is sent, as a socket would, and answers after a moment."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for _ in request.stream:
            pass
        await asyncio.sleep(0.01)
        return httpx.Response(200, json=ANSWER)


class Ticks:
    """How late the loop was at most."""

    def __init__(self) -> None:
        self.over, self.late = False, 0.0

    async def run(self) -> None:
        while not self.over:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            self.late = max(self.late, time.perf_counter() - began - 0.001)


async def ask(content: bytes) -> None:
    async with httpx.AsyncClient(transport=Provider()) as client:
        for _ in range(TIMES):
            request = client.build_request("POST", URL, content=content, headers={"content-type": "application/json"})
            ticks = Ticks()
            task = asyncio.create_task(ticks.run())
            await asyncio.sleep(0)
            await client.send(request)
            ticks.over = True
            await task
            HELD.append(ticks.late)


def resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def page(obs: LLMObs, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=obs.admin(auth=allow(lambda request: True)))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin.example", timeout=60) as client:
        return await client.get(path)


def main(kind: str, folder: str) -> None:
    obs = None if folder == "-" else LLMObs(f"sqlite:///{folder}/llmobs.db")
    asyncio.run(ask(b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'))
    if obs is not None:
        assert obs.flush(40)
    content = question(kind)
    HELD.clear()
    asyncio.run(ask(content))
    if obs is not None and kind == "huge":
        with span("work", input=content):
            pass
    found: dict[str, Any] = {"held": min(HELD), "asked_kb": resident()}
    if obs is not None:
        assert obs.flush(40)
        found["stored_kb"] = resident()
        found["size"], found["sha256"] = len(content), hashlib.sha256(content).hexdigest()
        began = time.perf_counter()
        if kind != "huge":
            json.loads(content)
        found["parsed"] = time.perf_counter() - began
        rows = asyncio.run(page(obs, "/requests.json")).json()["rows"]
        found["rows"] = len({row["id"] for row in rows})
        answers = [asyncio.run(page(obs, f"/requests/{rows[0]['id']}{ending}")) for ending in ("", ".json")]
        found["pages"] = [[answer.status_code, len(answer.content)] for answer in answers]
        body = get_request(obs.database, rows[0]["id"], project="default").request.request_body
        found["kept"] = [len(body.content), body.size, body.sha256, body.truncated, body.slimmed]
        found["ends"] = [content.startswith(body.content[:1000]), content.endswith(body.content[-1000:])]
        found["shown_kb"] = resident()
        stats = obs.stats()
        found["stats"] = [stats.captured, stats.stored, stats.spooled, stats.dropped, stats.failures]
        obs.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
