"""Whether readers of the admin slow the app: latency of a host under load while many ask for pages, and while none do.

    python -m benchmarks.readers [--readers 100] [--spans 20000] [--page /requests] [--seconds 10]

A server with one process holds the app and the admin. A client asks the app 50 times a second; each answer takes an LLM
call whose provider stands in memory. Phases without and with readers take turns. `lag` is for how long the oldest
finished call waits for the store. Making pages brings on collections of Python's own, which stop every thread for as
long as the whole heap takes: they are the p99. As root the server is given priority, so that what else runs on the
machine decides less.
"""

import argparse
import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from asgi_llmobs import LLMObs
from benchmarks.generate import entries

RATE = 50


def fill(url: str, spans: int) -> None:
    """Generated traffic."""
    engine = LLMObs(url, instrument="off")
    for number, entry in enumerate(entries(spans)):
        engine.spool.put(entry)
        if number % 5_000 == 0:
            engine.flush(120)
    assert engine.flush(300)
    engine.close()


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> tuple[int, bytes]:
    """One request over a connection that is kept."""
    writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept-encoding: gzip\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def probe(port: int, seconds: float) -> tuple[list[float], list[float]]:
    """Seconds that the app took, and for how long finished calls waited."""
    took: list[float] = []
    waited: list[float] = []
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
    until = time.perf_counter() + seconds

    async def visit(number: int) -> None:
        while (begun := time.perf_counter()) < until:
            await asked(*connections[number], "/work")
            took.append(time.perf_counter() - begun)
            await asyncio.sleep(max(0.0, len(connections[:3]) / RATE - (time.perf_counter() - begun)))

    async def look() -> None:
        while time.perf_counter() < until:
            waited.append(float((await asked(*connections[3], "/lag"))[1]))
            await asyncio.sleep(0.05)

    await asyncio.gather(*(visit(number) for number in range(3)), look())
    for _, writer in connections:
        writer.close()
    return took, waited


async def read(port: int, page: str, readers: int, seconds: float) -> None:
    """Many who ask for a page as fast as they get it; how many they got."""
    until = time.perf_counter() + seconds
    got: dict[int, int] = {}

    async def one() -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            connection = await asyncio.open_connection("127.0.0.1", port)
            while time.perf_counter() < until:
                status, _ = await asked(*connection, f"/_llmobs{page}")
                got[status] = got.get(status, 0) + 1
            connection[1].close()

    await asyncio.wait([asyncio.create_task(one()) for _ in range(readers)], timeout=seconds + 1)
    print(got, flush=True)
    os._exit(0)


def made_app() -> Any:
    """The host: for uvicorn's ``--factory``."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    from asgi_llmobs import LLMObsMiddleware
    from benchmarks.loop import URL, Provider

    client = httpx.AsyncClient(transport=Provider())
    obs = LLMObs()

    async def work(request: Request) -> Response:
        await client.post(URL, json={"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]})
        return PlainTextResponse("done")

    async def lag(request: Request) -> Response:
        return PlainTextResponse(str(obs.stats().queue_age_ns / 1e9))

    app = Starlette(routes=[Route("/work", work), Route("/lag", lag)])
    app.add_middleware(LLMObsMiddleware, obs=obs)
    return app


def at(values: list[float], share: float) -> float:
    found = sorted(values)
    return found[min(len(found) - 1, int(len(found) * share))] * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--page", default="/requests")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--read", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        asyncio.run(read(given.read, given.page, given.readers, given.seconds))
        return
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        url = f"sqlite:///{Path(name) / 'llmobs.db'}"
        fill(url, given.spans)
        free.close()
        first = ["chrt", "-f", "5"] if os.geteuid() == 0 and shutil.which("chrt") else []
        server = subprocess.Popen(
            [*first, sys.executable, "-m", "uvicorn", "--factory", "benchmarks.readers:made_app", "--port", str(port),
             "--log-level", "error"],
            env={**os.environ, "LLMOBS_DATABASE_URL": url, "LLMOBS_DEV": "1"},
        )  # fmt: skip
        try:
            report(port, given, server)
        finally:
            server.kill()
            server.wait()


def report(port: int, given: Any, server: Any) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/_llmobs{given.page}", timeout=30).status_code == 200:
                break
        time.sleep(0.1)
    asyncio.run(probe(port, 3))
    print(f"{'readers':10}{'host p50':>10}{'p95':>9}{'p99':>9}{'lag p50':>10}{'p99':>9} ms")
    for readers in (0, given.readers, 0, given.readers, 0):
        many = None
        if readers:
            command = [sys.executable, "-m", "benchmarks.readers", "--read", str(port), "--page", given.page]
            command += ["--readers", str(readers), "--seconds", str(given.seconds + 1)]
            many = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            time.sleep(1)
        took, waited = asyncio.run(probe(port, given.seconds))
        pages = many.communicate()[0].strip() if many is not None else ""
        times = "".join(f"{at(took, share):9.2f}" for share in (0.5, 0.95, 0.99))
        print(
            f"{readers:<10} {times}{at(waited, 0.5):10.1f}{at(waited, 0.99):9.1f}  pages by status: {pages or 'none'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
