"""The database: its file, its schema, many processes at once, and what it raises."""

import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import sqlmodel
from sqlalchemy import inspect

from asgi_llmobs.errors import SchemaTooNew, StoreError
from asgi_llmobs.recompute import recompute
from asgi_llmobs.store import tables
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.making import request


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def test_nothing_is_opened_before_use(tmp_path: Path) -> None:
    """Making a database object touches no disk."""
    Database(url_of(tmp_path / "new" / "llmobs.db"))

    assert list(tmp_path.iterdir()) == []


def test_file_is_private_and_ignored_by_git(tmp_path: Path) -> None:
    """The file is 0600 in a 0700 folder that git ignores whole."""
    path = tmp_path / "new" / "llmobs.db"
    database = Database(url_of(path))
    Sink(database).write([request()])

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (path.parent / ".gitignore").read_text() == "*\n"
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob("llmobs.db*")} == {0o600}
    database.dispose()


def test_folder_of_the_user_is_left_alone(tmp_path: Path) -> None:
    """In a folder that was there before, only the database's own files appear."""
    tmp_path.chmod(0o755)
    database = Database(url_of(tmp_path / "llmobs.db"))
    with database.read():
        pass
    database.dispose()

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert not (tmp_path / ".gitignore").exists()


def test_settings_of_sqlite(tmp_path: Path) -> None:
    """WAL, big pages, vacuum in steps, and patience with other writers."""
    database = Database(url_of(tmp_path / "llmobs.db"))
    with database.read() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "page_size", "auto_vacuum", "busy_timeout", "synchronous")
        ]
    database.dispose()

    assert found == ["wal", 8192, 2, 2000, 2]


def test_tables_stay_out_of_the_hosts_metadata() -> None:
    """SQLModel's own MetaData, which the host migrates, does not hold our tables."""
    assert not [name for name in sqlmodel.SQLModel.metadata.tables if "llmobs" in name]
    assert "llmobs_spans" in tables.metadata.tables


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite+aiosqlite:///x.db", "sqlite+pysqlite"),
        ("postgresql+asyncpg://a:b@c/d", "postgresql+psycopg"),
        ("postgres://a:b@c/d", "postgresql+psycopg"),
        ("postgresql://a:b@c/d", "postgresql+psycopg"),
    ],
)
def test_async_urls_are_translated(url: str, driver: str) -> None:
    """The URL that the app uses for its async engine works as it is."""
    assert Database(url).address.drivername == driver


def test_location_hides_the_password() -> None:
    """What people see of an address has no password in it."""
    assert Database("postgresql+asyncpg://app:secret@db/x").location == "postgresql://app:***@db/x"
    assert Database("sqlite://").location == "memory"


def test_newer_schema_is_refused(database: Database) -> None:
    """A database of a later version is neither read nor changed."""
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE llmobs_meta SET value = '999' WHERE name = 'version'")
    database.dispose()
    later = Database(database.url)

    for attempt in (later.read, later.write):
        with pytest.raises(SchemaTooNew, match="schema 999"), attempt():
            pass
    later.dispose()


def test_older_schema_is_added_to(tmp_path: Path) -> None:
    """Columns and tables that are missing are added; rows that are there stay; an index that nothing reads goes."""
    path = tmp_path / "llmobs.db"
    database = Database(url_of(path))
    Sink(database).write([request()])
    database.dispose()
    with sqlite3.connect(path) as raw:
        raw.execute("ALTER TABLE llmobs_spans DROP COLUMN caller")
        raw.execute("ALTER TABLE llmobs_spans DROP COLUMN estimated")
        raw.execute("DROP TABLE llmobs_attempts")
        raw.execute("CREATE INDEX llmobs_users_last ON llmobs_users (project, last_ns, user_id)")
        raw.execute("UPDATE llmobs_meta SET value = '0'")
    raw.close()
    again = Database(url_of(path))

    assert Sink(again).write([request(caller="app.py:1 f")]).stored == 1
    with again.read() as connection:
        rows = connection.exec_driver_sql("SELECT caller, estimated FROM llmobs_spans ORDER BY key").all()
        assert connection.exec_driver_sql("SELECT count(*) FROM llmobs_attempts").scalar() == 0
        indexes = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'index'").scalars().all()
    again.dispose()
    assert "llmobs_spans_start" in indexes and "llmobs_users_last" not in indexes
    assert [tuple(row) for row in rows] == [(None, 0), ("app.py:1 f", 0)]


def test_totals_of_users_by_day_are_taken_over(database: Database) -> None:
    """What schema 8 knew of a user's days is there at once, and nowhere else; hours come with `llmobs recompute`."""
    Sink(database).write([request(user_id="ann"), request(user_id="ann"), request(user_id="bob")])
    names = "project, user_id, requests, errors, priced, unpriced, cost, inputs, input_tokens, outputs, output_tokens"
    with database.write() as connection:
        change = connection.exec_driver_sql
        change(
            f"CREATE TABLE llmobs_user_days AS SELECT start AS day, {names} FROM llmobs_user_rollups WHERE hours = 24"
        )
        before = sorted(map(tuple, change(f"SELECT {names} FROM llmobs_user_days")))
        change("DROP TABLE llmobs_user_rollups")
        change("UPDATE llmobs_meta SET value = '8' WHERE name = 'version'")
    database.dispose()
    again = Database(database.url)

    with again.write() as connection:
        kept = sorted(map(tuple, connection.exec_driver_sql(f"SELECT {names} FROM llmobs_user_rollups")))
        assert not inspect(connection).has_table("llmobs_user_days")
    assert kept == before and len(before) == 2
    assert {one.table for one in recompute(again)} == {"llmobs_user_rollups"}
    assert list(recompute(again, check=True)) == []
    again.dispose()


def test_without_create_nothing_is_made(tmp_path: Path) -> None:
    """A reader that may not create says that there is nothing."""
    missing = Database(url_of(tmp_path / "none.db"), create=False)
    with pytest.raises(StoreError, match="does not exist"), missing.read():
        pass
    foreign = tmp_path / "foreign.db"
    sqlite3.connect(foreign).close()
    empty = Database(url_of(foreign), create=False)
    with pytest.raises(StoreError, match="holds no data"), empty.read():
        pass

    assert not (tmp_path / "none.db").exists()


def test_no_database_at_all(tmp_path: Path) -> None:
    """A file of something else is a StoreError that names the place and quotes nothing."""
    path = tmp_path / "text.db"
    path.write_bytes(b"this is a text, long enough to be no database header" * 100)
    with pytest.raises(StoreError, match="text.db"), Database(url_of(path)).read():
        pass


def test_errors_never_quote_parameters(tmp_path: Path) -> None:
    """What the driver raises says nothing of what was to be stored."""
    database = Database(url_of(tmp_path / "llmobs.db"))
    with pytest.raises(StoreError) as caught, database.write() as connection:
        connection.exec_driver_sql("INSERT INTO llmobs_meta (name, value) VALUES (?, ?)", ("a", None))
    database.dispose()

    with pytest.raises(StoreError) as secret, database.write() as connection:
        connection.exec_driver_sql("INSERT INTO nowhere VALUES (?)", ("my secret prompt",))
    assert "my secret prompt" not in str(secret.value) + str(secret.value.__cause__)
    assert "NOT NULL" in str(caught.value)
    database.dispose()


def test_memory_is_one_database_for_all_threads() -> None:
    """In memory every thread sees the same rows, and disposing forgets them."""
    from concurrent.futures import ThreadPoolExecutor

    database = Database("sqlite://")
    sink = Sink(database)
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda _: sink.write([request(), request()]), range(40)))
    with database.read() as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM llmobs_spans").scalar()

    assert sum(one.stored for one in written) == count == 80
    database.dispose()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM llmobs_spans").scalar() == 0
    database.dispose()


def test_write_is_rolled_back_whole(database: Database) -> None:
    """What fails leaves nothing behind, and the lock is free again."""
    with pytest.raises(RuntimeError), database.write() as connection:
        connection.exec_driver_sql("INSERT INTO llmobs_meta (name, value) VALUES ('a', 'b')")
        raise RuntimeError
    with database.write() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM llmobs_meta WHERE name = 'a'").scalar() == 0


def test_a_read_sees_one_moment(database: Database) -> None:
    """What is written while somebody reads is not in what that one still reads."""
    sink = Sink(database)
    sink.write([request()])
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM llmobs_spans").scalar() == 1
        sink.write([request()])
        assert connection.exec_driver_sql("SELECT count(*) FROM llmobs_traces").scalar() == 1
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM llmobs_traces").scalar() == 2


def test_readers_go_on_while_another_process_writes(tmp_path: Path) -> None:
    """A writer elsewhere holds up no reader."""
    path = tmp_path / "llmobs.db"
    database = Database(url_of(path))
    Sink(database).write([request()])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM llmobs_spans").scalar() == 1
    other.close()
    database.dispose()


START_TOGETHER = """
    import sys, time
    from asgi_llmobs.store.database import Database
    from asgi_llmobs.store.write import Sink
    from asgi_llmobs.records import Request
    url, number, at = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    time.sleep(max(0, at - time.time()))
    sink = Sink(Database(url))
    for turn in range(5):
        batch = [Request(id=f"{number:08x}{turn:04x}{item:04x}", trace_id="a" * 32, start_ns=1) for item in range(10)]
        assert sink.write(batch) == (10, 0)
"""


@pytest.mark.long
@pytest.mark.timeout(180)  # eight interpreters import the store
def test_many_processes_start_on_an_empty_database(database_url: str) -> None:
    """Eight processes that open the same new database at once all write all they have."""
    import time

    script = textwrap.dedent(START_TOGETHER)
    at = str(time.time() + 2.0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, database_url, str(number), at], stderr=subprocess.PIPE, env=environment
        )
        for number in range(8)
    ]
    said = [process.communicate()[1].decode()[-800:] for process in running]
    failed = [text for text, process in zip(said, running, strict=True) if process.returncode]
    database = Database(database_url)
    with database.read() as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM llmobs_spans").scalar()
        spans = connection.exec_driver_sql("SELECT spans FROM llmobs_traces").scalar()
    database.dispose()

    assert failed == []
    assert count == spans == 400


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_opens_its_own_connection(database: Database) -> None:
    """After a fork parent and child both go on writing."""
    Sink(database).write([request()])
    pid = os.fork()
    if pid == 0:
        database.reset_after_fork()
        os._exit(0 if Sink(database).write([request(id="c" * 16)]) == (1, 0) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert Sink(database).write([request()]) == (1, 0)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM llmobs_spans").scalar() == 3
