"""More rows, ids and values than one statement takes, larger ones than a row takes, and none at all."""

import hashlib
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from asgi_llmobs.erasure import take_out
from asgi_llmobs.filters import Filter
from asgi_llmobs.limits import Retention
from asgi_llmobs.queries.requests import get_request, list_requests, rows_by_id
from asgi_llmobs.queries.sessions import get_session, list_sessions
from asgi_llmobs.queries.traces import get_trace
from asgi_llmobs.recompute import recompute
from asgi_llmobs.retention import prune
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.pins import pin
from asgi_llmobs.store.write import Sink
from tests.databases import new_database
from tests.making import SECOND, START, body, request, span

LEAST = 999  # values that a statement may have in the smallest build of SQLite


@contextmanager
def bounded(limit: int, most: int) -> Iterator[None]:
    """Every connection to SQLite refuses statements with more values, or longer ones, as another build of it would."""

    def connected(driver: Any, record: object) -> None:
        if isinstance(driver, sqlite3.Connection):
            driver.setlimit(limit, most)

    event.listen(Engine, "connect", connected)
    try:
        yield
    finally:
        event.remove(Engine, "connect", connected)


def many(count: int, **given: Any) -> list[Any]:
    """Calls with ten properties each, every one in a trace of its own."""
    return [
        request(
            properties={f"Name {place}": f"{number} {place}" for place in range(10)}, start_ns=START + number * SECOND,
            **given,
        )
        for number in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("backend", "count", "most"),
    [
        ("sqlite", 700, LEAST),
        pytest.param("sqlite", 2_000, 32_766, marks=[pytest.mark.long, pytest.mark.timeout(180)]),
        pytest.param("postgresql", 1_000, 0, marks=[pytest.mark.slow, pytest.mark.timeout(180)]),
    ],
)
def test_p45_thousands_at_once(
    backend: str, count: int, most: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A batch that needs more values than a statement may have, and everything that is asked of so many afterwards."""
    limit = sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER
    with bounded(limit, most), new_database(backend, tmp_path, request) as url:
        database = Database(url)
        ada, bob = many(count, user_id="ada", session_id="one"), many(count, user_id="bob")
        tree = [span(trace_id="f" * 32, id=f"f{number:015x}") for number in range(count)]

        assert Sink(database).write([*ada, *bob, *tree]) == (3 * count, 0)
        assert Sink(database).write([*ada, *bob, *tree]) == (3 * count, 0)
        assert list_requests(database, Filter(user=("ada",))).count == count
        names = tuple(("Name 3", f"{number} 3") for number in range(100))
        assert list_requests(database, Filter(properties=names), limit=500).count == 200
        found = get_trace(database, "f" * 32, project="default")
        assert found is not None and found.span_count == count
        session = get_session(database, "one", project="default")
        assert session is not None and session.session.request_count == count
        assert list(recompute(database, check=True)) == []

        pin(database, "default", bob[0].trace_id)
        assert take_out(database, project="default", user="ada") == (count, count)
        assert take_out(database, project="default", trace="f" * 32) == (1, count)
        assert prune(database, Retention(spans=0), now_ns=START + 10**6 * SECOND).spans == count - 1
        assert [row.id for row in list_requests(database, Filter()).rows] == [bob[0].id]
        assert list(recompute(database, check=True)) == []
        database.dispose()


def test_p40_content_that_the_database_refuses(tmp_path: Path) -> None:
    """Of content larger than a value may be, head and tail, size and hash are stored, and its neighbours in whole."""
    most = 300_000
    words = random.Random(1).randbytes(most).hex()  # nothing packs it
    sent = body({"model": "gpt-4o", "messages": [{"role": "user", "content": words}]})
    large = request(words, request_body=sent, properties={"team": "a"})
    told = request("What?", words, response_body=body(words.encode(), "text/plain"))
    work = span(input=words, output=words)
    with bounded(sqlite3.SQLITE_LIMIT_LENGTH, most):
        database = Database(f"sqlite:///{tmp_path / 'llmobs.db'}")
        first, last = request(), request()

        assert Sink(database).write([first, large, work, told, last]) == (5, 0)
        assert list_requests(database, Filter()).count == 4
        found, other = (get_request(database, one.id, project="default") for one in (large, told))
        assert found is not None and other is not None
        kept, got = found.request.request_body, other.request.response_body
        assert kept is not None and got is not None
        assert (kept.size, kept.sha256, kept.truncated) == (sent.size, sent.sha256, True)
        assert sent.content.startswith(kept.content[:40_000]) and sent.content.endswith(kept.content[-10_000:])
        assert (got.size, got.sha256, got.truncated) == (len(words), hashlib.sha256(words.encode()).hexdigest(), True)
        assert found.request.usage == large.usage and found.request.cost is not None
        assert any("refused" in warning for warning in found.request.warnings)
        (node,) = get_trace(database, work.trace_id, project="default").nodes  # type: ignore[union-attr]
        assert node.name == "work"
        assert list(recompute(database, check=True)) == []
        database.dispose()


def test_p45_nothing_at_all(database: Database) -> None:
    """Empty lists, and questions to an empty store, are no error."""
    assert Sink(database).write([]) == (0, 0)
    assert rows_by_id(database, "default", []) == []
    assert list_requests(database, Filter(model=(), properties=())).count == 0
    assert list_sessions(database, Filter()).rows == []
    assert take_out(database, project="default", user="nobody") == (0, 0)
    assert prune(database, Retention(spans=0, bodies_spans=0, age_ns=1)).spans == 0
    assert list(recompute(database)) == []
