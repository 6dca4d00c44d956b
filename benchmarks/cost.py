"""What watching costs inside the app: CPU of all threads and of the event loop's thread, above the same without.

    python -m benchmarks.cost [--rounds 9] [--calls 200]

The provider is a stream of bytes in memory below a real httpx client, so nothing but the client and we is measured.
Rounds without and with us take turns; shown are medians of the differences.
"""

import argparse
import asyncio
import gc
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import httpx
import orjson

from asgi_llmobs import LLMObs, LLMObsMiddleware
from benchmarks.generate import Prose, completion

URL = "https://api.openai.com/v1/chat/completions"
PLAIN_PER_CALL = 10  # requests without a call are quick: so many more of them are made
CHUNKS = 200

Work = Callable[[], Awaitable[None]]


class Case(NamedTuple):
    """One kind of work, without us and with us."""

    name: str
    bare: Work
    watched: Work
    repeat: int = 1


class Cost(NamedTuple):
    """Microseconds a call."""

    all_threads: float
    loop: float


class Body(httpx.AsyncByteStream):
    """The provider's answer, chunk by chunk."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk


class Provider(httpx.AsyncBaseTransport):
    """Answers everything with the same."""

    def __init__(self, chunks: list[bytes], media_type: str) -> None:
        self.chunks = chunks
        self.headers = {"content-type": media_type, "x-request-id": "req_1"}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=self.headers, stream=Body(self.chunks))


def call(client: httpx.AsyncClient, body: dict[str, Any]) -> Work:
    async def work() -> None:
        response = await client.post(URL, json=body, headers={"authorization": "Bearer not-a-key-of-anybody"})
        assert response.status_code == 200

    return work


def visit(app: Any) -> Work:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        return None

    async def work() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"localhost")], "state": {}}
        await app(scope, receive, send)

    return work


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def streamed(prose: Prose) -> list[bytes]:
    chunks = []
    for word in prose(20 * CHUNKS).split()[:CHUNKS]:
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06",
                 "choices": [{"index": 0, "delta": {"content": f" {word}"}, "finish_reason": None}]}  # fmt: skip
        chunks.append(b"data: %s\n\n" % orjson.dumps(chunk))
    return [*chunks, b"data: [DONE]\n\n"]


def cases(obs: LLMObs) -> list[Case]:
    prose = Prose(1)
    whole = Provider([orjson.dumps(completion(prose.chance, "gpt-4o", prose(800), 1_200))], "application/json")
    stream = Provider(streamed(prose), "text/event-stream")

    def both(name: str, provider: Provider, characters: int, **more: Any) -> Case:
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": prose(characters)}], **more}
        bare, watched = httpx.AsyncClient(transport=provider), obs.wrap(httpx.AsyncClient(transport=provider))
        return Case(name, call(bare, body), call(watched, body))

    app = LLMObsMiddleware(hello, obs=obs, admin=None)
    return [
        both("a chat call", whole, 1_000),
        both("a call with 100 KB", whole, 100_000),
        both(f"a stream of {CHUNKS} chunks", stream, 1_000, stream=True),
        Case("a request without call", visit(hello), visit(app), PLAIN_PER_CALL),
    ]


async def measured(work: Work, count: int, obs: LLMObs) -> Cost:
    gc.collect()
    every, own = time.process_time_ns(), time.thread_time_ns()
    for _ in range(count):
        await work()
    own = time.thread_time_ns() - own
    assert obs.flush(60)
    every = time.process_time_ns() - every
    return Cost(every / count / 1000, own / count / 1000)


async def compared(case: Case, rounds: int, calls: int, obs: LLMObs) -> Cost:
    """The median of what is added, over all rounds but the first, which warms up."""
    added = []
    for _ in range(rounds + 1):
        bare = await measured(case.bare, calls * case.repeat, obs)
        watched = await measured(case.watched, calls * case.repeat, obs)
        added.append((watched.all_threads - bare.all_threads, watched.loop - bare.loop))
    return Cost(*(statistics.median(column) for column in zip(*added[1:], strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        obs = LLMObs(f"sqlite:///{os.path.join(folder, 'llmobs.db')}", instrument="off")
        for case in cases(obs):
            cost = asyncio.run(compared(case, options.rounds, options.calls, obs))
            print(f"{case.name:28} {cost.all_threads:8.1f} us in all, {cost.loop:7.1f} us on the event loop")
        assert not obs.stats().dropped and not obs.stats().failures, obs.stats()
        obs.close()


if __name__ == "__main__":
    main()
