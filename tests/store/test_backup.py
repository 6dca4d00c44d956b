"""A copy made while the app goes on, as docs/operating.md says, is whole."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.recompute import recompute
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.making import request
from tests.postgres_server import PostgresServer
from tests.processes import ROOT

FIRST = 300


@contextmanager
def in_use(database: Database) -> Iterator[None]:
    """A store with some requests, to which others are added all the time."""
    sink, over = Sink(database), threading.Event()
    sink.write([request(f"question {number}", session_id="s", user_id="u") for number in range(FIRST)])

    def go_on() -> None:
        for number in count():
            if over.is_set():
                return
            sink.write([request(f"later {number}", session_id="s", user_id="u") for _ in range(5)])

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(20)


def whole(copy: Database) -> None:
    """Everything of the beginning is there, and its totals are those of its rows."""
    assert list_requests(copy, Filter(text='"question 7"')).count == 1
    assert (list_requests(copy, Filter(session=("s",))).count or 0) >= FIRST
    assert list(recompute(copy, check=True)) == []
    Sink(copy).write([request("in the copy")])
    copy.dispose()


def test_f34_sqlite(tmp_path: Path) -> None:
    """The function of the page."""
    page = (ROOT / "docs" / "operating.md").read_text()
    told: dict[str, Any] = {}
    exec(re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)[-1], told)
    database = Database(f"sqlite:///{tmp_path / 'live.db'}")
    with in_use(database):
        for number in range(3):
            told["back_up"](str(tmp_path / "live.db"), str(tmp_path / f"{number}.db"))
    database.dispose()

    for number in range(3):
        whole(Database(f"sqlite:///{tmp_path / f'{number}.db'}"))


@pytest.mark.slow
def test_f34_postgresql(tmp_path: Path) -> None:
    """pg_dump and pg_restore."""
    with PostgresServer() as server:
        server.run("createdb", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "copy")
        database, dump = Database(server.url()), str(server.folder / "llmobs.dump")
        with in_use(database):
            server.run("pg_dump", "--schema=llmobs", "--format=custom", f"--file={dump}", server.url())
        database.dispose()
        server.run("pg_restore", f"--dbname={server.url('copy')}", dump)
        whole(Database(server.url("copy")))
