"""Hundreds of slow senders and a hundred readers at the admin of a real server: the app answers, calls are stored."""

import asyncio
import contextlib
import http.client
import signal
import statistics
import time
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.crash.conftest import Place
from tests.crash.identity import adopt, check, look

SENDERS, READERS = 500, 100
SECRET = "a long enough secret"
HEAD = f"POST /_llmobs/v1/traces HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {SECRET}\r\n".encode()
BODY = b"content-type: application/json\r\ncontent-length: 100000\r\n\r\n{"


class Crowd:
    """Everybody who is at the server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.over = asyncio.Event()
        self.sending = 0
        self.pages: Counter[int] = Counter()
        self.acknowledged: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def send_slowly(self, number: int) -> None:
        """Half of them never end their headers, the others never their body."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(HEAD + (BODY if number % 2 else b""))
            self.sending += 1
            while not self.over.is_set():
                writer.write(b"  " if number % 2 else b"x-more: 1\r\n")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.over.wait(), 1)
            writer.close()

    async def read(self, client: httpx.AsyncClient) -> None:
        """A reader who looks at a page, and a while later at it again."""
        while not self.over.is_set():
            with contextlib.suppress(httpx.TransportError):
                self.pages[(await client.get("/_llmobs/requests")).status_code] += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), 2)

    async def ask(self, client: httpx.AsyncClient, name: str, count: int) -> float:
        """The app's own users; the median of seconds that an answer took."""
        took = []
        for number in range(count):
            id = f"{name}-{number}"
            started = time.perf_counter()
            answer = await client.get(f"/call/{id}")
            took.append(time.perf_counter() - started)
            assert (answer.status_code, answer.text) == (200, id)
            self.acknowledged.append(id)
        return statistics.median(took)


async def besieged(port: int) -> tuple[Crowd, float, float]:
    """Users alone, then among all the others; the median of their seconds."""
    crowd = Crowd(port)
    limits = httpx.Limits(max_connections=READERS + 10, max_keepalive_connections=READERS + 10)
    given: dict[str, Any] = {"base_url": f"http://127.0.0.1:{port}", "timeout": 40, "trust_env": False}
    async with httpx.AsyncClient(**given) as user, httpx.AsyncClient(
        **given, limits=limits, headers={"authorization": f"Bearer {SECRET}"}
    ) as reader:  # fmt: skip
        alone = await crowd.ask(user, "alone", 60)
        crowd.tasks += [asyncio.create_task(crowd.send_slowly(number)) for number in range(SENDERS)]
        while crowd.sending < SENDERS:
            await asyncio.sleep(0.05)
        among_senders = await crowd.ask(user, "senders", 60)
        crowd.tasks += [asyncio.create_task(crowd.read(reader)) for _ in range(READERS)]
        await asyncio.sleep(0.5)
        among_all = await crowd.ask(user, "all", 60)
        print("alone, among senders, among all, in seconds:", alone, among_senders, among_all)
        while sum(crowd.pages.values()) < READERS:
            await asyncio.sleep(0.05)
        assert among_senders < 10 * alone
    return crowd, alone, among_all


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["uvicorn"])
def test_f28_slow_senders_and_many_readers(name: str, place: Place) -> None:
    """The app's answers are those of an app that is a little busier, all is stored, and the server ends when told."""
    with place.serve(name, LLMOBS_ADMIN_TOKEN=SECRET) as server:

        async def scene() -> Crowd:
            crowd, alone, among_all = await besieged(server.port)
            assert set(crowd.pages) <= {200, 503} and crowd.pages[200] >= 4, crowd.pages
            assert among_all < 100 * alone
            told = time.monotonic()
            server.signal(signal.SIGTERM)
            await asyncio.to_thread(server.wait, 40)
            print("ended after", time.monotonic() - told, "pages", crowd.pages)
            crowd.over.set()
            await asyncio.gather(*crowd.tasks, return_exceptions=True)
            return crowd

        crowd = asyncio.run(scene())
        with contextlib.suppress(OSError, http.client.HTTPException):
            server.get("/pid")
            raise AssertionError("it still answers")
    adopt(place.url, place.folder)
    found = look(place.url)

    check(found, crowd.acknowledged, crowd.acknowledged)
