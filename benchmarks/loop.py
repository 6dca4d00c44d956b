"""Whether the event loop is held up through us: how late a timer fires while calls are made, without and with us.

    python -m benchmarks.loop [--seconds 6] [--rate 200] [--only bare ours locked …]

Each case is a process of its own: 200 calls a second over a real httpx client, whose provider stands in memory, and a
timer every two milliseconds. `stall` is by how much a timer was late. The cases beside `bare` and `ours` take the
store away: locked by another process for five seconds, in a folder that cannot be written, on a disk that is full, at
a PostgreSQL server that is not there. The bare case is run first and last: read the others against it. What else runs
on the machine decides most of it; as root the processes are given priority.
"""

import argparse
import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from asgi_llmobs import LLMObs, LLMObsMiddleware
from benchmarks.generate import Prose, completion

URL = "https://api.openai.com/v1/chat/completions"
TICK_SECONDS = 0.002
WARM_SECONDS = 2.5  # the first batch imports the store
SHARES = (0.5, 0.99, 0.999, 1.0)


class Provider(httpx.AsyncBaseTransport):
    """Answers everything with the same, a little later."""

    def __init__(self) -> None:
        prose = Prose(1)
        self.content = json.dumps(completion(prose.chance, "gpt-4o", prose(1_500), 2_000)).encode()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.005)
        return httpx.Response(200, headers={"content-type": "application/json"}, content=self.content)


async def measured(app: Any, client: httpx.AsyncClient, seconds: float, rate: int) -> list[float]:
    """Seconds by which timers were late."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": Prose(2)(2_000)}]}
    late: list[float] = []
    until = time.perf_counter() + WARM_SECONDS + seconds

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await client.post(URL, json=body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    served = app(inside) if app is not None else inside

    async def nothing(*_: Any) -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def visits() -> None:
        number = 0
        begun = time.perf_counter()
        running: set[asyncio.Task[None]] = set()
        while time.perf_counter() < until:
            scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "headers": [], "query_string": b""}
            task = asyncio.create_task(served(scope, nothing, nothing))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
            await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        await asyncio.gather(*running)

    async def ticks() -> None:
        while (now := time.perf_counter()) < until:
            await asyncio.sleep(TICK_SECONDS)
            if now > until - seconds:
                late.append(time.perf_counter() - now - TICK_SECONDS)

    await asyncio.gather(visits(), ticks())
    return late


def child(case: str, url: str, seconds: float, rate: int) -> None:
    """Measure in this process, and print it."""
    app = None
    engine: LLMObs | None = None
    if case != "bare":
        engine = LLMObs(url, admin=None)
        app = lambda inside: LLMObsMiddleware(inside, obs=engine)  # noqa: E731
    client = httpx.AsyncClient(transport=Provider())
    late = sorted(asyncio.run(measured(app, client, seconds, rate)))
    stats = engine.stats() if engine is not None else None
    told = {
        "late": [late[min(len(late) - 1, int(len(late) * share))] * 1000 for share in SHARES],
        "stats": None if stats is None else [stats.captured, stats.stored, stats.spooled, sum(stats.dropped.values())],
        "error": stats.last_error if stats is not None else None,
    }
    print(json.dumps(told), flush=True)
    os._exit(0)


@contextmanager
def kept_locked(path: Path) -> Iterator[None]:
    """Another connection writes from when the measuring begins, for five seconds."""
    over = threading.Event()

    def hold() -> None:
        if over.wait(WARM_SECONDS + 1):
            return
        connection = sqlite3.connect(path, timeout=10, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        over.wait(5)
        connection.execute("ROLLBACK")
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def run(case: str, seconds: float, rate: int) -> dict[str, Any] | str:
    """One case in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = folder / "data" / "llmobs.db"
        database.parent.mkdir()
        url, before = f"sqlite:///{database}", []
        around: Callable[[], Any] | None = None
        if case == "locked":
            around = lambda: kept_locked(database)  # noqa: E731
        elif case == "unwritable":
            url = "sqlite:////proc/llmobs/llmobs.db"  # not even root writes there
        elif case == "full":
            if os.geteuid() != 0 or shutil.which("unshare") is None:
                return "needs root and unshare"
            mount = f"mount -t tmpfs -o size=2m none {database.parent}"
            before = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh"]
        elif case == "postgres-away":
            url = "postgresql://nobody@127.0.0.1:9/nothing"
        if os.geteuid() == 0 and shutil.which("chrt"):
            before = ["chrt", "-f", "5", *before]
        command = [*before, sys.executable, "-m", "benchmarks.loop", "--child", case, url]
        command += ["--seconds", str(seconds), "--rate", str(rate)]
        environment = {**os.environ, "LLMOBS_DATA_DIR": str(folder / "data")}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        if around is None:
            out, errors = process.communicate()
        else:
            with around():
                out, errors = process.communicate()
        return json.loads(out) if process.returncode == 0 else errors[-2_000:]


CASES = ("bare", "ours", "locked", "unwritable", "full", "postgres-away")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], given.child[1], given.seconds, given.rate)
        return
    print(f"{'case':15}{'p50':>9}{'p99':>9}{'p99.9':>9}{'max':>9} ms   captured = stored + spooled + dropped")
    for case in [*given.only, *(["bare"] if len(given.only) > 1 else [])]:
        told = run(case, given.seconds, given.rate)
        if isinstance(told, str):
            print(f"{case:15}{told}")
            continue
        numbers = "".join(f"{value:9.2f}" for value in told["late"])
        counts = told["stats"] or ""
        print(f"{case:15}{numbers}      {counts} {told['error'] or ''}", flush=True)


if __name__ == "__main__":
    main()
