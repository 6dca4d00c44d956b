"""A store whose days lie on two further servers in turn: a coordinator and two data nodes."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from asgi_llmobs.cli import main
from asgi_llmobs.filters import Filter
from asgi_llmobs.limits import Retention
from asgi_llmobs.queries.requests import get_request, list_requests
from asgi_llmobs.queries.sessions import list_sessions
from asgi_llmobs.queries.traces import get_trace, list_traces
from asgi_llmobs.recompute import recompute
from asgi_llmobs.retention import prune
from asgi_llmobs.store import partitions
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.expiry import drop_day
from asgi_llmobs.store.partitions import DAY_NS, days
from asgi_llmobs.store.shards import add_shard, each_remote
from asgi_llmobs.store.write import Sink
from tests.making import request, span
from tests.postgres_server import PostgresServer, as_admin

TODAY = int(time.time()) // 86_400
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[PostgresServer]]:
    with PostgresServer() as coordinator, PostgresServer() as one, PostgresServer() as two:
        yield [coordinator, one, two]


@pytest.fixture
def database(servers: list[PostgresServer]) -> Iterator[Database]:
    """An empty store with two shards."""
    for server in servers:
        as_admin(server.url(), "DROP DATABASE IF EXISTS parted WITH (FORCE)")
        as_admin(server.url(), "CREATE DATABASE parted")
    made = Database(servers[0].url("parted"))
    with made.write() as connection:
        for server in servers[1:]:
            add_shard(connection, server.url("parted"))
    yield made
    made.dispose()


def rows_on(server: PostgresServer) -> int:
    """How many spans lie on a shard."""
    import psycopg

    with psycopg.connect(server.url("parted")) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'llmobs_spans_%'").fetchall()
        counts = [connection.execute(f"SELECT count(*) FROM llmobs_shard.{name}").fetchone() for (name,) in names]
        return sum(count[0] for count in counts if count)


def on_days(monkeypatch: pytest.MonkeyPatch, shift: int) -> int:
    """Let the database think that it is *shift* days from today; a time on that day."""
    noon = (TODAY + shift) * 86_400 + 43_200
    monkeypatch.setattr(partitions, "KEYS", ORIGINAL.replace("now()", f"to_timestamp({noon})"))
    return (TODAY + shift) * DAY_NS


ORIGINAL = partitions.KEYS


def test_days_lie_on_the_shards_in_turn(
    database: Database, servers: list[PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing, replacing, replaying, lists, filters, words, trees and totals work as on one server."""
    calls = []
    for shift in (-6, -5, 0):
        start = on_days(monkeypatch, shift)
        session = f"s{shift}"
        some = [
            request(f"the capital number{n}", start_ns=start + n, session_id=session, properties={"plan": f"p{n}"})
            for n in range(10)
        ]
        running = replace(some[0], outcome="running", duration_ns=None)
        assert Sink(database).write([running, *some[1:]]) == (10, 0)
        for _ in range(2):
            assert Sink(database).write(some) == (10, 0)
        calls += some
    root = span(trace_id=calls[-1].trace_id, start_ns=start, kind="http", name="root", user_id="u", spread=True)
    assert Sink(database).write([root]) == (1, 0)

    assert {rows_on(servers[1]), rows_on(servers[2])} in ({10, 21}, {20, 11})
    assert list_requests(database, Filter()).count == 30
    assert [row.outcome for row in list_requests(database, Filter(session=("s-6",))).rows] == ["ok"] * 10
    assert len(list_requests(database, Filter(text="number3")).rows) == 3
    assert len(list_requests(database, Filter(text='"capital number4"', properties=(("plan", "p4"),))).rows) == 3
    assert [row.id for row in list_requests(database, Filter(user=("u",))).rows] == [calls[-1].id]
    assert len(list_requests(database, Filter(model=("gpt-4o",), since_ns=start)).rows) == 10
    assert [row.request_count for row in list_sessions(database, Filter()).rows] == [10, 10, 10]
    assert len(list_traces(database, Filter()).rows) == 30
    found = get_request(database, calls[0].id, project="default")
    assert found is not None and found.request.text == "Paris, of course."
    tree = get_trace(database, calls[-1].trace_id, project="default")
    assert tree is not None
    with database.read() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN (VERBOSE, COSTS OFF) SELECT key FROM llmobs_texts WHERE words @@ to_tsquery('simple', 'number3')"
        ).scalars()
        assert any("Remote SQL" in line and "@@" in line for line in plan)  # the words are looked for over there


def test_whole_days_go_from_the_shards_too(
    database: Database, servers: list[PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where dropping is taken back nothing is lost, and the rows over there go with the next time."""
    for shift in (-9, -8, 0):
        Sink(database).write([request(start_ns=on_days(monkeypatch, shift)) for _ in range(5)])
    limits = {"default": (TODAY - 1) * DAY_NS}
    with pytest.raises(RuntimeError), database.write() as connection:
        gone = [drop_day(connection, day, limits) for day in days(connection) if day.number < TODAY - 7]
        assert [one is not None and one[0] for one in gone] == [5, 5]
        raise RuntimeError
    assert list_requests(database, Filter()).count == 15

    for _ in range(2):
        prune(database, Retention(age_ns=DAY_NS), now_ns=TODAY * DAY_NS)
    assert list(recompute(database, check=True)) == []
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM llmobs_spans").scalar() == 5
    assert rows_on(servers[1]) + rows_on(servers[2]) == 5


def test_a_shard_that_is_away(database: Database, servers: list[PostgresServer]) -> None:
    """What cannot be stored now is stored once it is back."""
    Sink(database).write([request()])
    batch = [request() for _ in range(3)]
    for server in servers[1:]:
        server.stop("immediate")
    try:
        with pytest.raises(Exception, match=r"could not connect|connection") as raised:
            Sink(database).write(batch)
        assert raised.type.__name__ == "StoreError"
    finally:
        for server in servers[1:]:
            server.start()

    assert Sink(database).write(batch) == (3, 0)
    assert list_requests(database, Filter()).count == 4


def test_a_new_column_reaches_the_shards(database: Database) -> None:
    """The schema over there grows with that of the store."""
    Sink(database).write([request()])
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE llmobs_spans ADD COLUMN later bigint")
        each_remote(connection, "llmobs_spans", "ADD COLUMN IF NOT EXISTS later bigint")
        connection.exec_driver_sql("UPDATE llmobs_spans SET later = 7")
        assert connection.exec_driver_sql("SELECT later FROM llmobs_spans").scalars().all() == [7]


def test_the_command(
    servers: list[PostgresServer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``llmobs shard`` makes one known, and says why where it cannot."""
    as_admin(servers[0].url(), "DROP DATABASE IF EXISTS commanded")
    as_admin(servers[0].url(), "CREATE DATABASE commanded")
    monkeypatch.setenv("LLMOBS_DATABASE_URL", servers[0].url("commanded"))
    assert main(["shard", servers[1].url()]) == 0
    assert "llmobs_shard_001" in capsys.readouterr().out
    assert main(["shard", servers[1].url("not_there")]) == 1
    assert "could not establish connection" in capsys.readouterr().out
    monkeypatch.setenv("LLMOBS_DATABASE_URL", "sqlite://")
    assert main(["shard", servers[1].url()]) == 1
    assert "PostgreSQL" in capsys.readouterr().out
