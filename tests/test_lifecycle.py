"""Engines and apps that come and go in one process: nothing leaks, nothing mixes, nothing raises at the end."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_llmobs import LLMObs, LLMObsMiddleware, annotate
from asgi_llmobs.queries.status import workers
from asgi_llmobs.store.database import Database
from asgi_llmobs.testing import capture
from tests.calling import URL, answer, ask, question
from tests.crash.identity import adopt

ROOT = Path(__file__).parents[1]


def host(obs: LLMObs | None = None) -> Starlette:
    """An app whose every request makes a call that repeats its id."""

    async def work(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await ask(request.path_params["id"]))

    app = Starlette(routes=[Route("/{id}", work)])
    app.add_middleware(LLMObsMiddleware, **({"obs": obs} if obs is not None else {}))
    return app


@pytest.mark.parametrize("inside", [True, False], ids=["with", "without"])
def test_a16_test_client(inside: bool, tmp_path: Path) -> None:
    """Starlette's TestClient sends a lifespan only in a ``with`` block: calls are stored either way."""
    url = f"sqlite:///{tmp_path / 'llmobs.db'}"
    obs = LLMObs(url)
    client = TestClient(host(obs))
    if inside:
        with client:
            assert client.get("/one").text == "one"
    else:
        assert client.get("/one").text == "one"
        obs.close()

    database = Database(url, create=False)
    told = workers(database, project="default")
    database.dispose()
    assert (told.captured, told.stored, [worker.state for worker in told.each]) == (2, 2, ["ended"])


@pytest.mark.slow
def test_a6_a_thousand_at_once() -> None:
    """Requests in flight together never see each other's session, user, property or trace."""

    async def work(request: Request) -> PlainTextResponse:
        id = request.path_params["id"]
        await asyncio.sleep(0.001 * (int(id) % 7))
        annotate(session=f"s{id}", user=f"u{id}", canary=id)
        await asyncio.sleep(0.001 * (int(id) % 5))
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            await client.post(URL, json=question(f"first {id}"))
            await asyncio.sleep(0.001 * (int(id) % 3))
            await asyncio.gather(*(client.post(URL, json=question(f"{name} {id}")) for name in ("second", "third")))
        return PlainTextResponse(id)

    async def visits(app: Any) -> list[str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://h") as client:
            answers = await asyncio.gather(*(client.get(f"/{number}") for number in range(1_000)))
            return [each.text for each in answers]

    app = Starlette(routes=[Route("/{id}", work)])
    app.add_middleware(LLMObsMiddleware)
    with capture() as captured:
        assert asyncio.run(visits(app)) == [str(number) for number in range(1_000)]
        requests, roots = captured.requests, captured.incoming

    assert (len(requests), len(roots)) == (3_000, 1_000)
    trace_of = {str(root.properties["canary"]): root.trace_id for root in roots}
    assert len(set(trace_of.values())) == 1_000
    for request in requests:
        id = str(request.properties["canary"])
        assert (request.session_id, request.user_id, request.trace_id) == (f"s{id}", f"u{id}", trace_of[id])
        assert request.text.split() in (["first", id], ["second", id], ["third", id])


def test_two_event_loops(tmp_path: Path) -> None:
    """One engine under two loops in two threads at the same time."""
    obs = LLMObs(f"sqlite:///{tmp_path / 'llmobs.db'}")
    app = host(obs)
    answers: list[str] = []

    def run(name: str) -> None:
        async def visits() -> None:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://h") as client:
                for number in range(20):
                    answers.append((await client.get(f"/{name}{number}")).text)
            assert await obs.aflush()

        asyncio.run(visits())

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == sorted(f"{name}{number}" for name in "ab" for number in range(20))
    stats = obs.stats()
    assert (stats.captured, stats.stored, stats.spooled, stats.failures) == (80, 80, 0, {})
    obs.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_two_hundred_engines(tmp_path: Path) -> None:
    """As in a notebook whose cells are run again and again: no thread and no file is left."""
    url = f"sqlite:///{tmp_path / 'llmobs.db'}"
    for number in range(3):  # what is loaded once
        engine = LLMObs(url)
        asyncio.run(ask(str(number)))
        engine.close()
    del engine
    threads, files = threading.active_count(), open_files()
    for number in range(200):
        engine = LLMObs(url)
        if number % 10 == 0:
            asyncio.run(ask(str(number)))
        engine.close()
    del engine

    assert threading.active_count() <= threads
    assert open_files() <= files + 2
    database = Database(url, create=False)
    assert workers(database, project="default").stored == 23
    database.dispose()


AT_THE_END = """
import atexit, sys, threading
from asgi_llmobs import LLMObs
from tests.calling import ask_sync

def last():
    ask_sync("in atexit")
    print(sum(obs.stats().dropped.values()) + obs.stats().stored + obs.stats().spooled == obs.stats().captured)

atexit.register(last)
obs = LLMObs("sqlite:///" + sys.argv[1])
ask_sync("before")

class Late:
    def __del__(self):
        ask_sync("as the interpreter ends")

late = Late()
late.itself = late
thread = threading.Thread(target=lambda: [ask_sync(str(number)) for number in range(50)])
thread.start()
"""


LOCK_IN_HAND = """
import atexit, httpx, os, sys, threading, types
from asgi_llmobs import LLMObs, span
from tests.calling import URL, ask_sync, question

over, held = threading.Event(), threading.Event()

def hold():
    over.wait()
    with obs.spool.lock, obs.writer._idle:
        held.set()
        threading.Event().wait()

@atexit.register
def last():  # after ours: what was registered first runs last
    over.set()
    held.wait()

class Chunks(httpx.SyncByteStream):
    def __iter__(self):
        yield b"data: {}\\n\\n"
        yield b"data: {}\\n\\n"

class Late:
    def __del__(self):
        ask_sync("as the interpreter ends")
        next(self.chunks)
        self.response.close()
        with span("late"):
            pass
        obs.flush()
        obs.close()
        os.write(1, b"done")

obs = LLMObs("sqlite:///" + sys.argv[1])
ask_sync("before")
client = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, stream=Chunks())))
late = Late()
late.itself = late
late.response = client.send(client.build_request("POST", URL, json=question("streamed")), stream=True)
late.chunks = late.response.iter_raw()
next(late.chunks)
own = {"over": over, "held": held, "obs": obs, "threading": threading}  # a thread that holds on to late would keep it
threading.Thread(target=types.FunctionType(hold.__code__, own), daemon=True).start()
"""


def ended(script: str, folder: Path, seconds: float) -> "subprocess.CompletedProcess[str]":
    """How a process of its own ended that ran *script* with a database."""
    return subprocess.run(
        [sys.executable, "-c", script, str(folder / "llmobs.db")],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "PYTEST_VERSION"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def test_a24_a_thread_that_stopped_with_a_lock_in_hand(tmp_path: Path) -> None:
    """What happens after that, in finalizers as the interpreter ends, waits for no lock of ours."""
    done = ended(LOCK_IN_HAND, tmp_path, 40)

    assert (done.returncode, done.stdout, done.stderr) == (0, "done", "")


@pytest.mark.slow
def test_a24_at_the_end_of_the_interpreter(tmp_path: Path) -> None:
    """Calls in threads, in exit handlers and in finalizers raise nothing; what came before the end is stored."""
    done = ended(AT_THE_END, tmp_path, 50)

    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert "asgi_llmobs" not in done.stderr, done.stderr
    adopt(f"sqlite:///{tmp_path / 'llmobs.db'}", str(tmp_path))
    database = Database(f"sqlite:///{tmp_path / 'llmobs.db'}", create=False)
    with database.read() as connection:
        texts = {row[0] for row in connection.exec_driver_sql("SELECT output_preview FROM llmobs_spans")}
    database.dispose()
    assert {"before", "in atexit", *map(str, range(50))} <= texts
