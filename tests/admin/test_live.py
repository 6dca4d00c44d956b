"""The list as it happens: what is new, what has ended, marks that any process can go on from, and an end at once."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.admin import feed as feeds
from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries import live
from asgi_llmobs.queries.live import Mark, mark_now, news
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.admin.visiting import Visitor
from tests.databases import BACKENDS, new_database
from tests.making import SECOND, START, request
from tests.servers.serving import free_port

ROOT = Path(__file__).parents[2]
APP = """
from asgi_llmobs.admin import Admin
from asgi_llmobs.store.database import Database
app = Admin(database=Database({url!r}), auth=lambda request: True, environ={{}})
"""


@pytest.fixture(params=BACKENDS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with new_database(request.param, tmp_path, request) as url:
        made = Database(url)
        yield made
        made.dispose()


def running(**given: Any) -> Any:
    return request(outcome="running", duration_ns=None, status=None, response_body=None, **given)


def test_news(stored: Database) -> None:
    """What arrives is new once, what ran and ended is told of, and a filter leaves out what it does not mean."""
    flt = Filter(model=("gpt-4o",))
    call = running()
    Sink(stored).write([request(), call])
    mark = mark_now(stored, flt)
    assert len(mark.running) == 1 and not news(stored, flt, mark).new

    fresh, other, runs = request(start_ns=START + 1), request(request_model="o3"), running(start_ns=START + 2)
    Sink(stored).write([fresh, other, runs])
    first = news(stored, flt, Mark.read(str(mark)))
    assert (set(first.new), first.changed, first.more) == ({fresh.id, runs.id}, [], False)

    done = [replace(one, outcome="ok", duration_ns=SECOND, status=200) for one in (call, runs)]
    Sink(stored).write(done)
    second = news(Database(stored.url), flt, first.mark) if stored.path else news(stored, flt, first.mark)
    assert (second.new, set(second.changed)) == ([], {call.id, runs.id})
    third = news(stored, flt, second.mark)
    assert (third.new, third.changed, third.mark.running) == ([], [], ())


def test_many_at_once_are_not_told_one_by_one(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound it is only said that there are more, and none of them comes later."""
    monkeypatch.setattr(live, "MOST_NEW", 3)
    mark = mark_now(database, Filter())
    Sink(database).write([request(start_ns=START + number) for number in range(5)])
    found = news(database, Filter(), mark)

    assert (len(found.new), found.more) == (3, True)
    assert news(database, Filter(), found.mark).new == []


@pytest.mark.parametrize("text", ["", "x", "-1", "1.x", "1" * 30, "9" * 19 + "9", ".".join(["1"] * 500), "٣"])
def test_a_mark_of_somebody_else(database: Database, text: str) -> None:
    """What is no mark is an error that says so."""
    with pytest.raises(FilterError, match="^after: "):
        Mark.read(text)
    answer = Visitor(Admin(database=database, auth=lambda request: True, environ={})).get(f"/live?after={text or 'x'}")
    assert answer.status == 422


def test_a_projects_news_are_its_own(database: Database) -> None:
    """Nothing of another project is told."""
    mark = mark_now(database, Filter(project="a"))
    Sink(database).write([request(project="b"), running(project="b")])

    assert news(database, Filter(project="a"), mark).new == []


class Listener:
    """Somebody who listens to an admin directly."""

    def __init__(self, admin: Admin, target: str, **headers: str) -> None:
        self.scope = Visitor(admin).request(
            "GET", target, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        self.admin, self.started, self.text = admin, {}, ""
        self.leaves = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.started = message
        self.text += message.get("body", b"").decode()

    async def hears(self, word: str) -> None:
        for _ in range(4_000):
            if word in self.text:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(self.text)


def test_events_over_http(tmp_path: Path) -> None:
    """A listener is told, may come again where it left, and is gone when it goes."""
    database = Database(f"sqlite:///{tmp_path}/llmobs.db")
    admin = Admin(database=database, auth=lambda request: True, environ={})

    async def play() -> str:
        first = Listener(admin, "/live")
        task = asyncio.create_task(admin(first.scope, first.receive, first.send))
        await first.hears("retry:")
        made = request()
        await asyncio.to_thread(Sink(database).write, [made])
        await first.hears(made.id)
        first.leaves.set()
        await asyncio.wait_for(task, 30)
        id = [line for line in first.text.splitlines() if line.startswith("id: ")][-1].removeprefix("id: ")

        missed = request(start_ns=START + 5)
        await asyncio.to_thread(Sink(database).write, [missed])
        second = Listener(admin, "/live", last_event_id=id)
        task = asyncio.create_task(admin(second.scope, second.receive, second.send))
        await second.hears(missed.id)
        assert made.id not in second.text
        second.leaves.set()
        await asyncio.wait_for(task, 30)
        headers = dict(first.started["headers"])
        assert headers[b"content-type"].startswith(b"text/event-stream") and b"content-length" not in headers
        return second.text

    text = asyncio.run(play())
    data = next(line for line in text.splitlines() if line.startswith("data: "))
    assert set(json.loads(data.removeprefix("data: "))) == {"new", "changed", "more"}
    database.dispose()


def test_listeners_are_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more listen than there are places for; a place that is left is free again."""
    monkeypatch.setattr(feeds, "LISTENERS", 2)
    admin = Admin(database=database, auth=lambda request: True, environ={})

    async def play() -> None:
        listeners = [Listener(admin, "/live") for _ in range(3)]
        tasks = [asyncio.create_task(admin(one.scope, one.receive, one.send)) for one in listeners[:2]]
        for one in listeners[:2]:
            await one.hears("retry:")
        await admin(listeners[2].scope, listeners[2].receive, listeners[2].send)
        assert listeners[2].started["status"] == 503
        for one in listeners[:2]:
            one.leaves.set()
        await asyncio.gather(*tasks)
        again = Listener(admin, "/live")
        again.leaves.set()
        await admin(again.scope, again.receive, again.send)
        assert again.started["status"] == 200

    asyncio.run(play())


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_server_stops_at_once_though_somebody_listens(tmp_path: Path, workers: int) -> None:
    """uvicorn waits for open answers without an end: a feed ends itself when it is asked to stop."""
    url, port = f"sqlite:///{tmp_path}/llmobs.db", free_port()
    (tmp_path / "served.py").write_text(APP.format(url=url))
    Sink(Database(url)).write([request()])
    command = [sys.executable, "-m", "uvicorn", "served:app", "--port", str(port), "--workers", str(workers)]
    process = subprocess.Popen([*command, "--log-level", "warning", "--app-dir", str(tmp_path)], cwd=ROOT)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/requests.json", trust_env=False)
                break
            except httpx.TransportError:
                assert time.monotonic() < until and process.poll() is None
                time.sleep(0.05)
        with httpx.stream("GET", f"http://127.0.0.1:{port}/live", trust_env=False, timeout=20) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry:")
            process.send_signal(signal.SIGTERM)
            for _ in lines:
                pass
        process.wait(50)
    finally:
        process.kill()
        process.wait()
