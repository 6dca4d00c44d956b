"""Eight processes that start at once on an empty PostgreSQL database, of one version and of two."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator

import pytest

from asgi_llmobs.store.database import Database
from tests.first_starts import start
from tests.postgres_server import PostgresServer, as_admin

ROUNDS = 8
PROCESSES = 8
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as made:
        yield made


def started(server: PostgresServer, name: str, newer: int) -> tuple[list[str], Counter[str]]:
    """The databases, and what all processes said."""
    urls = []
    for number in range(ROUNDS):
        as_admin(server.url(), f"CREATE DATABASE {name}_{number}")
        urls.append(server.url(f"{name}_{number}"))
    context = multiprocessing.get_context("spawn")
    barrier, said = context.Barrier(PROCESSES), context.SimpleQueue()
    workers = [
        context.Process(target=start, args=(urls, number, number < newer, barrier, said)) for number in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    words = Counter(said.get() for _ in range(ROUNDS * PROCESSES))
    for worker in workers:
        worker.join()
    return urls, words


def test_f18_first_starts(server: PostgresServer) -> None:
    """One makes the schema, the others wait for it; no start fails and every call is stored."""
    urls, words = started(server, "first", 0)

    assert words == {"done": ROUNDS * PROCESSES}
    for url in urls:
        database = Database(url, create=False)
        with database.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM llmobs_spans").scalar() == PROCESSES
        database.dispose()


@pytest.mark.long
def test_f18_two_versions_start_at_once(server: PostgresServer) -> None:
    """The newer one always succeeds; the older one does before it, and is told the reason after it."""
    _, words = started(server, "both", 4)

    assert set(words) <= {"done", "too new"}
    assert words["done"] >= ROUNDS * 4
