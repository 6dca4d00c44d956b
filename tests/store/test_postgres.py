"""PostgreSQL alone: servers that go away, refuse or wait, and several writers of the same rows."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import make_url

from asgi_llmobs.errors import StoreError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.queries.select import narrowed
from asgi_llmobs.queries.sessions import list_sessions
from asgi_llmobs.store import postgres as module
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.databases import postgres_database
from tests.making import request


@pytest.fixture
def url(postgres: str) -> Iterator[str]:
    with postgres_database(postgres) as made:
        yield made


def as_admin(url: str, statement: str) -> None:
    """Run *statement* as somebody else, by another connection."""
    import psycopg

    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True, options="-c default_transaction_read_only=off") as other:
        other.execute(statement)  # type: ignore[arg-type]


CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> {own}"
CUT = CUT.format(own="pg_backend_pid()")


def test_our_tables_have_a_schema_of_their_own(url: str) -> None:
    """Nothing of ours stands beside the tables of the app."""
    database = Database(url)
    Sink(database).write([request()])
    with database.read() as connection:
        query = "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_name LIKE 'llmobs%%'"
        assert connection.exec_driver_sql(query).scalars().all() == ["llmobs"]
    database.dispose()


def test_connections_that_were_cut(url: str) -> None:
    """After the server went away and came back the next batch is stored, and nothing twice."""
    database = Database(url)
    sink, first = Sink(database), request()
    sink.write([first])
    as_admin(url, CUT)

    assert sink.write([first, request()]) == (2, 0)
    assert list_requests(database, Filter()).count == 2
    database.dispose()


def test_cut_inside_a_transaction(url: str) -> None:
    """What was under way is not stored and not refused: it is a StoreError, and the same can be tried again."""
    database = Database(url)
    sink = Sink(database)
    sink.write([request()])
    with pytest.raises(StoreError), database.write() as connection:
        connection.exec_driver_sql("DELETE FROM llmobs_spans")
        as_admin(url, CUT)
        connection.exec_driver_sql("SELECT 1")

    assert sink.write([request()]) == (1, 0)
    assert list_requests(database, Filter()).count == 2
    database.dispose()


@pytest.mark.parametrize(
    ("break_it", "mend_it"),
    [
        ("ALTER DATABASE {name} SET default_transaction_read_only = on", "ALTER DATABASE {name} RESET ALL"),
        ("ALTER TABLE llmobs.llmobs_spans RENAME TO away", "ALTER TABLE llmobs.away RENAME TO llmobs_spans"),
    ],
    ids=["read only", "no table"],
)
def test_a_database_that_cannot_be_written(url: str, break_it: str, mend_it: str) -> None:
    """Records are kept for later, none is counted as bad; once it works again all of them are stored."""
    database, name = Database(url), make_url(url).database
    sink, batch = Sink(database), [request() for _ in range(5)]
    sink.write([request()])
    as_admin(url, break_it.format(name=name))
    as_admin(url, CUT)
    with pytest.raises(StoreError):
        sink.write(batch)
    as_admin(url, mend_it.format(name=name))
    as_admin(url, CUT)

    assert sink.write(batch) == (5, 0)
    assert list_requests(database, Filter()).count == 6
    database.dispose()


def test_nobody_waits_for_ever(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that was stopped inside its transaction costs the others a StoreError, not their thread."""
    monkeypatch.setattr(module, "TURN_SECONDS", 1)
    database, other = Database(url), Database(url)
    Sink(database).write([request()])
    with other.write(), pytest.raises(StoreError, match="LockNotAvailable"):
        Sink(database).write([request()])

    assert Sink(database).write([request()]) == (1, 0)
    database.dispose()
    other.dispose()


def test_several_writers_of_the_same_rows(url: str) -> None:
    """Hosts that write the beginning and the end of the same calls at once never block each other for good."""
    calls = [request(session_id="s") for _ in range(40)]
    said: list[object] = []

    def write(turn: int) -> None:
        database = Database(url)
        sink = Sink(database)
        for start in range(0, 40, 4):
            some = calls[start : start + 4]
            running = [replace(one, outcome="running", duration_ns=None) for one in some]
            said.append(sink.write((running if turn % 2 else some)[:: 1 if turn < 2 else -1]))
            said.append(sink.write([*some, request(session_id="s")]))
        database.dispose()

    threads = [threading.Thread(target=write, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database = Database(url)
    rows = list_requests(database, Filter(), limit=500).rows
    assert len(said) == 80 and all(one[1] == 0 for one in said)  # type: ignore[index]
    assert len(rows) == 80 and {row.outcome for row in rows} == {"ok"}
    assert [row.request_count for row in list_sessions(database, Filter()).rows] == [80]
    database.dispose()


def test_words_are_planned_for(url: str) -> None:
    """However often a search was made, its plan is made for the very words; for all else a plan may be kept."""
    database = Database(url)
    for query, mode in (({"model": ("gpt-4o",)}, "auto"), ({"text": "hello"}, "force_custom_plan")):
        with database.read() as connection:
            narrowed(connection, Filter(**query))
            assert connection.exec_driver_sql("SHOW plan_cache_mode").scalar() == mode
    database.dispose()
