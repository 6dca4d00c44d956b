"""A PostgreSQL server that goes away, hangs, refuses or fills up: nothing is lost, nothing doubled, it soon goes on."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from asgi_llmobs import LLMObs
from asgi_llmobs.errors import StoreError, Trouble
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.records import Span
from asgi_llmobs.store import postgres as module
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.calling import ask_sync
from tests.making import request
from tests.postgres_server import PostgresServer, Proxy, as_admin, stopped

BACK_SECONDS = 5.0
_numbers = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(deadlock_timeout="200ms") as made:
        yield made


@pytest.fixture
def url(server: PostgresServer) -> str:
    """A new database on the server."""
    name = f"faults_{next(_numbers)}"
    as_admin(server.url(), f"CREATE DATABASE {name}")
    return server.url(name)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """The store in it, which has one call."""
    made = Database(url)
    Sink(made).write([request()])
    yield made
    made.dispose()


def stored(database: Database) -> list[str]:
    """The ids of all stored calls."""
    return [row.id for row in list_requests(database, Filter(), limit=500).rows]


def insist(sink: Sink, batch: Sequence[Span], seconds: float) -> tuple[float, set[Trouble]]:
    """Store *batch*, again and again as the writer does, for so long; how long it took, and what stood in the way."""
    begin, troubles = time.monotonic(), set()
    while True:
        try:
            assert sink.write(batch) == (len(batch), 0)
            return time.monotonic() - begin, troubles
        except StoreError as error:
            troubles.add(error.trouble)
            assert time.monotonic() - begin < seconds, error
            time.sleep(0.2)


def test_f14_a_server_that_is_not_there_yet(server: PostgresServer, url: str) -> None:
    """Who starts before the server does is told so, and stores everything once it is there."""
    server.stop()
    database, batch = Database(url), [request() for _ in range(5)]
    try:
        with pytest.raises(StoreError) as raised:
            Sink(database).write(batch)
        assert raised.value.trouble == Trouble.AWAY
    finally:
        server.start()

    took, _ = insist(Sink(database), batch, BACK_SECONDS)
    assert took < BACK_SECONDS and len(stored(database)) == 5
    database.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("end", ["fast", "immediate", "kill"])
def test_f14_a_server_that_is_restarted_under_load(server: PostgresServer, database: Database, end: str) -> None:
    """Stopped in an orderly way, at once, or killed: what was acknowledged is there, and nothing is there twice."""
    sink, acknowledged, done = Sink(database), ["the first"], threading.Event()
    late: list[float] = []

    def write() -> None:
        while not done.is_set():
            batch = [request() for _ in range(10)]
            took, _ = insist(sink, batch, 30)
            late.append(took)
            acknowledged.extend(one.id for one in batch)

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.5)
    server.kill() if end == "kill" else server.stop(end)
    time.sleep(0.5)
    server.start()
    back = time.monotonic()
    mark = len(late)
    while len(late) < mark + 2:
        assert time.monotonic() - back < BACK_SECONDS
        time.sleep(0.02)
    done.set()
    writer.join()

    with database.read() as connection:
        ids = connection.exec_driver_sql("SELECT id FROM llmobs_spans").scalars().all()
    assert len(ids) == len(set(ids)) == len(acknowledged)
    assert set(acknowledged[1:]) <= set(ids)


@pytest.mark.slow
def test_f15_a_backend_that_hangs_between_two_batches(database: Database) -> None:
    """A connection whose other end was stopped is given up within seconds, and the batch goes by a new one."""
    with stopped(backend_of(database)):
        begin = time.monotonic()
        assert Sink(database).write([request()]) == (1, 0)
        assert time.monotonic() - begin < 10

    assert len(stored(database)) == 2


@pytest.mark.slow
def test_f15_a_backend_that_hangs_inside_a_transaction(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statement is given up; while the server holds the lock of the hung one nothing is refused."""
    for name, seconds in (("WRITE_SECONDS", 3), ("TURN_SECONDS", 1), ("GRACE_SECONDS", 0)):
        monkeypatch.setattr(module, name, seconds)
    begin = time.monotonic()
    batch = [request() for _ in range(3)]
    with pytest.raises(StoreError, match="no answer") as raised, database.write() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with stopped(pid):
            try:
                connection.exec_driver_sql("SELECT 1")
            finally:
                with pytest.raises(StoreError, match="LockNotAvailable") as waited:
                    Sink(database).write(batch)
    assert raised.value.trouble == Trouble.AWAY and waited.value.trouble == Trouble.TRANSIENT
    assert time.monotonic() - begin < 10

    insist(Sink(database), batch, BACK_SECONDS)
    assert len(stored(database)) == 4


def test_f15_a_writer_that_was_stopped_inside_its_transaction(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends it, and the others get past."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 1)
    database, other = Database(url), Database(url)
    Sink(database).write([request()])
    with pytest.raises(StoreError), other.write() as connection:
        assert Sink(database).write([request()]) == (1, 0)
        connection.exec_driver_sql("SELECT 1")

    assert len(stored(database)) == 2
    database.dispose()
    other.dispose()


def backend_of(database: Database) -> int:
    """The process that serves the connection which is used next."""
    with database.write() as connection:
        pid: int = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        return pid


def test_f16_a_commit_whose_answer_never_comes(server: PostgresServer, url: str) -> None:
    """Whether the transaction took place is not known then; the same batch again neither loses nor doubles a row."""
    name = make_url(url).database or ""
    with Proxy(server.port) as proxy:
        database = Database(proxy.url(name))
        Sink(database).write([request(session_id="s")])
        for _ in range(10):
            batch = [request(session_id="s") for _ in range(3)]
            proxy.cut_after = b"COMMIT"
            with pytest.raises(StoreError) as raised:
                Sink(database).write(batch)
            assert raised.value.trouble == Trouble.AWAY
            proxy.cut_after = None
            insist(Sink(database), batch, BACK_SECONDS)
        assert proxy.cuts == 10
        database.dispose()

    database = Database(url)
    assert len(stored(database)) == 31
    with database.read() as connection:
        counted = connection.exec_driver_sql("SELECT requests, traces FROM llmobs_sessions").one()
    assert tuple(counted) == (31, 31)
    database.dispose()


@pytest.mark.slow
def test_f17_a_slow_server(server: PostgresServer, url: str) -> None:
    """200 ms to every answer make a batch slow, not fail."""
    Database(url).dispose()
    with Proxy(server.port) as proxy:
        database = Database(proxy.url(make_url(url).database or ""))
        Sink(database).write([request()])
        proxy.delay = 0.2
        batch = [request(session_id="s", properties={"plan": "pro"}) for _ in range(100)]
        took, troubles = insist(Sink(database), batch, 30)
        database.dispose()

    assert not troubles and took < 10


@pytest.mark.slow
def test_f19_a_fork_does_not_wait_for_a_slow_server(server: PostgresServer, url: str, tmp_path: Path) -> None:
    """The app forks while a batch takes seconds: it goes on at once, and parent and child lose nothing."""
    with Proxy(server.port) as proxy:
        obs = LLMObs(proxy.url(make_url(url).database or ""), data_dir=str(tmp_path))
        assert ask_sync("first") == "first" and obs.flush(20)
        proxy.delay = 2.0
        ask_sync("second")
        time.sleep(1.0)  # the batch is under way
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            ask_sync("third")
            os._exit(0)
        took = time.monotonic() - began
        os.waitpid(child, 0)
        proxy.delay = 0.0
        assert obs.flush(20)
        obs.close()
        heir = LLMObs(url, data_dir=str(tmp_path), instrument="off")
        heir.start()
        until = time.monotonic() + 20
        while len(stored(heir.database)) < 3 and time.monotonic() < until:
            time.sleep(0.1)
        assert len(stored(heir.database)) == 3
        heir.close()

    assert took < 1.5


def test_f7_a_role_without_rights(server: PostgresServer, url: str) -> None:
    """It is told at once what is missing, and goes on as soon as the right is granted."""
    name = make_url(url).database
    as_admin(url, f"CREATE ROLE {name} LOGIN")
    database = Database(server.url(name or "", user=name or ""))
    with pytest.raises(StoreError, match="permission denied for database") as raised:
        Sink(database).write([request()])
    assert raised.value.trouble == Trouble.READ_ONLY
    as_admin(url, f"GRANT CREATE ON DATABASE {name} TO {name}")

    assert Sink(database).write([request()]) == (1, 0)
    as_admin(url, f"REVOKE CREATE ON DATABASE {name} FROM {name}")
    database.dispose()
    assert Sink(database).write([request()]) == (1, 0)  # where the schema is up to date it takes no right to make one
    database.dispose()


def test_f17_one_connection_is_left(server: PostgresServer, url: str) -> None:
    """Writing and reading share it; who finds none is told that it may work the next time."""
    name = make_url(url).database or ""
    as_admin(
        url, f"CREATE ROLE {name} LOGIN; ALTER DATABASE {name} OWNER TO {name}; ALTER ROLE {name} CONNECTION LIMIT 1"
    )
    database = Database(server.url(name, user=name))
    for number in range(1, 4):
        assert Sink(database).write([request()]) == (1, 0)
        assert len(stored(database)) == number
    with database.read(), pytest.raises(StoreError, match="too many connections"):
        Sink(database).write([request()])

    assert Sink(database).write([request()]) == (1, 0)
    database.dispose()


def test_f17_a_deadlock(url: str, database: Database) -> None:
    """Who is sent away by the server tries again; nothing is refused."""
    import psycopg

    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE llmobs.llmobs_traces")
        found: list[Any] = []
        batch = [request() for _ in range(3)]
        writer = threading.Thread(target=lambda: found.append(insist(Sink(database), batch, 20)))
        writer.start()
        while not other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            time.sleep(0.01)
        with suppress(psycopg.errors.DeadlockDetected):  # the server chooses whom it sends away
            other.execute(f"SELECT pg_advisory_xact_lock({module.WRITE_LOCK})")
        other.rollback()
    writer.join()

    took, troubles = found[0]
    assert troubles <= {Trouble.TRANSIENT} and took < BACK_SECONDS
    assert len(stored(database)) == 4


RAISE = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$;
CREATE TRIGGER fail BEFORE INSERT ON llmobs.llmobs_traces FOR EACH STATEMENT EXECUTE FUNCTION fail()
"""


@pytest.mark.parametrize(
    ("state", "trouble"),
    [
        ("40001", Trouble.TRANSIENT),  # serialization
        ("40P01", Trouble.TRANSIENT),  # deadlock
        ("53100", Trouble.FULL),
        ("53200", Trouble.TRANSIENT),  # memory
        ("25006", Trouble.READ_ONLY),
        ("57P03", Trouble.AWAY),  # still starting
        ("58030", Trouble.AWAY),  # input or output error
    ],
)
def test_f17_what_an_error_means(url: str, database: Database, state: str, trouble: Trouble) -> None:
    """Each kind of trouble is told apart, none makes a record bad, and afterwards the batch is stored."""
    batch = [request() for _ in range(3)]
    as_admin(url, RAISE.format(state=state))
    with pytest.raises(StoreError) as raised:
        Sink(database).write(batch)
    assert raised.value.trouble == trouble
    as_admin(url, "DROP TRIGGER fail ON llmobs.llmobs_traces")

    assert Sink(database).write(batch) == (3, 0)
    assert len(stored(database)) == 4


@pytest.mark.slow
def test_f17_a_full_disk(server: PostgresServer) -> None:
    """What finds no room is kept for later, and stored as soon as there is some."""
    folder = server.folder / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]).returncode:
        pytest.skip("a small disk takes the right to mount one")
    try:
        shutil.chown(folder, server.user)
        as_admin(server.url(), f"CREATE TABLESPACE small LOCATION '{folder}'")
        as_admin(server.url(), "CREATE DATABASE full_disk TABLESPACE small STRATEGY file_copy")
        database = Database(server.url("full_disk"))
        stored_ids, batch = [], []
        with pytest.raises(StoreError) as raised:
            for _ in range(200):
                batch = [request(os.urandom(8_000).hex()) for _ in range(20)]
                assert Sink(database).write(batch) == (20, 0)
                stored_ids += [one.id for one in batch]
        assert raised.value.trouble == Trouble.FULL
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        took, _ = insist(Sink(database), batch, BACK_SECONDS)
        stored_ids += [one.id for one in batch]
        with database.read() as connection:
            ids = connection.exec_driver_sql("SELECT id FROM llmobs_spans ORDER BY key").scalars().all()
        assert ids == stored_ids and took < BACK_SECONDS
        database.dispose()
        as_admin(server.url(), "DROP DATABASE full_disk WITH (FORCE)")
        as_admin(server.url(), "DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.parametrize("lost", ["tables", "schema", "writing"])
def test_f7_rights_that_are_lost_later(server: PostgresServer, url: str, lost: str) -> None:
    """What is captured waits, nothing is refused, pages are read as far as it is allowed, and it goes on by itself."""
    name = make_url(url).database or ""
    as_admin(url, f"CREATE ROLE {name} LOGIN; GRANT CREATE ON DATABASE {name} TO {name}")
    database, batch = Database(server.url(name, user=name)), [request(session_id="s") for _ in range(3)]
    sink = Sink(database)
    assert sink.write([request(session_id="s")]) == (1, 0)
    take, give = {
        "tables": ("REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA llmobs FROM {}",
                   "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA llmobs TO {}"),
        "schema": ("ALTER SCHEMA llmobs OWNER TO postgres", "ALTER SCHEMA llmobs OWNER TO {}"),
        "writing": ("ALTER ROLE {} SET default_transaction_read_only TO on",
                    "ALTER ROLE {} RESET default_transaction_read_only"),
    }[lost]  # fmt: skip
    as_admin(url, take.format(name))
    if lost == "writing":  # holds for who signs in anew
        database.dispose()
    for _ in range(3):
        with pytest.raises(StoreError) as raised:
            sink.write(batch)
        assert raised.value.trouble == Trouble.READ_ONLY
    if lost != "schema":
        assert len(stored(database)) == 1

    as_admin(url, give.format(name))
    if lost == "writing":
        database.dispose()
    assert sink.write(batch) == (3, 0)
    assert len(stored(database)) == 4
    database.dispose()
