"""An admin that is busy: few threads of its own, pages that give up in time, and never a page that hangs."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import anyio.to_thread
import pytest
from sqlalchemy import text

from asgi_llmobs.admin import Admin, app, workers
from asgi_llmobs.admin.page import Page, Permission, View
from asgi_llmobs.auth import allow
from asgi_llmobs.store.database import Database
from tests.admin.visiting import Visitor, loop
from tests.databases import BACKENDS, new_database

FOR_EVER = text(
    "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) SELECT count(*) FROM numbers"
)


@pytest.fixture(params=BACKENDS)
def slow(request: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visitor]:
    """An admin with a page whose query never ends, on each kind of database."""
    monkeypatch.setattr(app, "READ_SECONDS", 0.8)

    def load(view: View) -> dict[str, Any]:
        with view.database.read() as connection:
            return {"error": connection.execute(FOR_EVER).scalar()}

    with new_database(request.param, tmp_path, request) as url:
        database = Database(url)
        admin = Admin(database=database, auth=allow(lambda request: True), environ={})
        page = Page(slug="slow", title="Slow", template="pages/error.html", load=load, permission=Permission.VIEW)
        admin.routes = (*admin.routes, page)
        yield Visitor(admin)
        database.dispose()


@pytest.mark.slow
def test_f28_a_query_that_takes_too_long(slow: Visitor) -> None:
    """It is stopped by the database, page and twin say so, and the next page is as always."""
    for _ in range(2):
        page, twin = slow.get("/slow"), slow.get("/slow.json")

        assert (page.status, twin.status) == (503, 503)
        assert "takes longer than 0.8 seconds" in page.text and "<h1>" in page.text
        assert "takes longer than 0.8 seconds" in twin.json["detail"]
        assert slow.get("/requests").status == 200


def test_f28_four_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask, four are worked on; who cannot be served in time is told, and the threads come free again."""
    monkeypatch.setattr(workers, "WAIT_SECONDS", 0.2)
    free = threading.Event()
    running: set[int] = set()
    most = 0

    def work(number: int) -> int:
        nonlocal most
        running.add(number)
        most = max(most, len(running))
        free.wait(10)
        running.discard(number)
        return number

    async def storm() -> list[Any]:
        tasks = [asyncio.create_task(workers.in_thread(work, number)) for number in range(20)]
        await asyncio.sleep(0.6)
        free.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        return [*done, *[await workers.in_thread(work, number) for number in range(20, 30)]]

    answers = loop.run(storm())
    assert most == 4
    assert [answer for answer in answers if isinstance(answer, int)] == [*range(4), *range(20, 30)]
    assert sum(isinstance(answer, workers.Busy) for answer in answers) == 16


def test_p15_the_apps_threads_are_its_own() -> None:
    """However many pages are stuck, a thread of the app's is to be had at once."""
    free = threading.Event()

    async def stuck() -> tuple[int, str]:
        tasks = [asyncio.create_task(workers.in_thread(free.wait, 20)) for _ in range(40)]
        await asyncio.sleep(0.2)
        limiter = anyio.to_thread.current_default_thread_limiter()
        taken = int(limiter.borrowed_tokens)
        limiter.total_tokens = 1
        answer = await asyncio.wait_for(anyio.to_thread.run_sync(lambda: "host"), 5)
        free.set()
        await asyncio.gather(*tasks)
        return taken, answer

    assert loop.run(stuck()) == (0, "host")


def test_f28_who_is_not_served_is_told(slow: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with a sentence, as a page and as JSON, and when to come again."""

    async def nobody(function: Any, *args: Any) -> Any:
        raise workers.Busy

    monkeypatch.setattr(app, "in_thread", nobody)
    page, twin = slow.get("/requests"), slow.get("/requests.json")

    assert (page.status, twin.status) == (503, 503)
    assert "Many are reading" in page.text and "Many are reading" in twin.json["detail"]
    assert page.header("retry-after") == twin.header("retry-after") == "5"
