"""A database file that is deleted, moved, replaced, cut or overwritten under us, and a disk that is full."""

import gc
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from asgi_llmobs.errors import StoreError, Trouble
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.queries.scores import scores_of_span, scores_of_trace
from asgi_llmobs.scores import make_score
from asgi_llmobs.store import ballast, salvage, sqlite
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.pins import is_pinned, pin
from asgi_llmobs.store.repair import is_ours, quarantined
from asgi_llmobs.store.scores import give
from asgi_llmobs.store.sqlite import SQLite
from asgi_llmobs.store.write import Sink
from tests.making import request

COUNT = 200
LOGS = ("", "-wal", "-shm")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "llmobs.db"


@pytest.fixture
def database(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database of 200 requests."""
    monkeypatch.setattr(salvage, "SETTLE_SECONDS", 0.0)
    made = Database(f"sqlite:///{path}")
    Sink(made).write([request(f"question {number}", properties={"n": str(number)}) for number in range(COUNT)])
    yield made
    made.dispose()


def stored(database: Database) -> int:
    with database.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM llmobs_spans").scalar() or 0)


def sound(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    finally:
        connection.close()


def kinds(database: Database) -> list[str]:
    return [event.kind for event in database.events]


def insist(database: Database, times: int = 5) -> int:
    """Write one request, as the writer does: again where it fails; how often it failed."""
    batch = [request()]
    for failures in range(times):
        with suppress(StoreError):
            Sink(database).write(batch)
            return failures
    pytest.fail(f"it does not store after {times} tries")


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for suffix in LOGS:
        Path(f"{path}{suffix}").unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("old.db"))


def delete_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def delete_index_of_the_log(path: Path) -> None:
    Path(f"{path}-shm").unlink()


@pytest.mark.parametrize(
    ("fault", "kind", "left"),
    [
        (delete, "restored", COUNT),
        (delete_all, "restored", COUNT),
        (move, "moved", 0),
        (delete_log, "log gone", COUNT),
        (delete_index_of_the_log, "log gone", COUNT),
    ],
)
def test_a_file_that_goes_away(
    database: Database, path: Path, fault: Callable[[Path], None], kind: str, left: int
) -> None:
    """Before the next batch it is noticed; what is deleted is written into a new file, what is moved is left alone."""
    fault(path)

    assert insist(database) == 0
    assert (stored(database), kinds(database)) == (left + 1, [kind])
    assert sound(path) and insist(database) == 0
    if fault is move:
        assert sound(path.with_name("old.db"))
        assert stored(Database(f"sqlite:///{path.with_name('old.db')}", create=False)) == COUNT


def test_a_file_in_its_place(database: Database, path: Path) -> None:
    """A restored backup is used from the next batch on, and the log of the old file is not applied to it."""
    other = Database(f"sqlite:///{path.with_name('other.db')}")
    Sink(other).write([request(), request()])
    other.dispose()
    os.replace(path.with_name("other.db"), path)

    assert insist(database) == 0
    assert (stored(database), kinds(database), sound(path)) == (3, ["replaced"], True)


def test_readers_notice_within_a_second(database: Database, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing is written."""
    assert stored(database) == COUNT
    path.unlink()
    monkeypatch.setattr(sqlite, "LOOK_SECONDS", 0.0)
    until = time.monotonic() + 40
    while not path.exists() and time.monotonic() < until:
        assert stored(database) == COUNT

    assert path.exists() and kinds(database) == ["restored"]


def test_another_process_notices_too(database: Database, path: Path) -> None:
    """Whoever comes second uses the new file, and does not delete its log."""
    second = Database(f"sqlite:///{path}")
    assert stored(second) == COUNT
    path.unlink()
    assert insist(database) == insist(second) == insist(database) == 0

    assert stored(database) == stored(second) == COUNT + 3
    second.dispose()
    assert insist(database) == 0 and sound(path)


def overwrite(path: Path, *places: int, size: int = 8192) -> None:
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(os.urandom(size))


def cut(path: Path) -> None:
    os.truncate(path, 0)


def garble_header(path: Path) -> None:
    overwrite(path, 0, size=100)


LEAF = 13  # the first byte of a page that holds rows of a table


def garble_pages(path: Path) -> None:
    data = path.read_bytes()
    rows = [at for at in range(0, len(data), 8192) if data[at] == LEAF and b"question" in data[at : at + 8192]]
    overwrite(path, *rows[1::4])


@pytest.mark.parametrize(("fault", "least"), [(cut, 0), (garble_header, COUNT), (garble_pages, COUNT // 4)])
def test_a_damaged_file(database: Database, path: Path, fault: Callable[[Path], None], least: int) -> None:
    """It is set aside, storing goes on in a new one, and what still reads is copied there, each span once."""
    database.checkpoint()
    if fault is not cut:
        database.dispose()
    fault(path)
    damaged = database if fault is cut else Database(f"sqlite:///{path}")
    if fault is garble_pages:
        while not quarantined(str(path)):
            with suppress(StoreError), damaged.read() as connection:
                connection.exec_driver_sql("SELECT * FROM llmobs_contents").all()
                connection.exec_driver_sql("SELECT * FROM llmobs_spans").all()
    insist(damaged)
    assert kinds(damaged)[0] == "quarantined" and len(quarantined(str(path))) == 1
    saved = salvage_all(damaged)
    found = list_requests(damaged, Filter())

    assert sound(path) and least <= saved <= COUNT and found.count == stored(damaged) == saved + 1
    assert insist(damaged) == 0
    if least == COUNT:
        assert list_requests(damaged, Filter(text="question 7")).count == 1
        assert list_requests(damaged, Filter(properties=(("n", "7"),))).count == 1
    damaged.dispose()


def salvage_all(database: Database) -> int:
    """Let it run to its end; how many spans there are besides the first."""
    sink = Sink(database)
    until = time.monotonic() + 40
    while "salvaged" not in kinds(database) and time.monotonic() < until:
        sink.tend()
    assert kinds(database)[-1] == "salvaged"
    before = stored(database)
    another = Sink(database)
    for _ in range(5):
        another.tend()
    assert stored(database) == before, "it is copied once"
    return before - 1


def garbled(database: Database, path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """What takes the place of a database whose file is damaged; each look at it copies one step."""
    database.checkpoint()
    database.dispose()
    garble_header(path)
    made = Database(f"sqlite:///{path}")
    insist(made)
    monkeypatch.setattr(salvage, "STEP_SECONDS", 0.0)
    return made


@pytest.mark.parametrize("step", [1, 2])
def test_salvage_goes_on_where_it_was(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A process that dies half-way leaves the rest to the next one, and nothing comes twice."""
    first = garbled(database, path, monkeypatch)
    sink = Sink(first)
    for _ in range(step):
        sink.tend()
    first.dispose()
    second = Database(f"sqlite:///{path}")
    with second.write() as connection:
        connection.exec_driver_sql("DELETE FROM llmobs_meta WHERE name = 'lease:salvage'")

    assert salvage_all(second) == COUNT
    second.dispose()


def test_salvage_that_is_given_up_in_another_thread(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever lets go of an engine ends what its writer had begun, and nothing is said about it."""
    first = garbled(database, path, monkeypatch)
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    sink = Sink(first)
    writer = threading.Thread(target=sink.tend)
    writer.start()
    writer.join()
    del sink, writer
    gc.collect()
    first.dispose()

    assert said == []


def test_salvage_takes_along_what_people_said(database: Database, path: Path) -> None:
    """Judgements and pins are copied too; what was said anew in the meantime stays."""
    judged = list_requests(database, Filter()).rows[0]
    said = make_score("helpful", True, target="span", target_id=judged.id, author="ann")
    give(database, said)
    pin(database, "default", judged.trace_id)
    database.checkpoint()
    database.dispose()
    garble_header(path)
    new = Database(f"sqlite:///{path}")
    insist(new)
    give(new, make_score("helpful", False, target="trace", target_id="f" * 32))
    salvage_all(new)

    (found,) = scores_of_span(new, "default", judged.id)
    assert (found.score.id, found.current) == (said.id, True)
    assert is_pinned(new, "default", judged.trace_id)
    assert len(scores_of_trace(new, "default", "f" * 32)) == 1
    new.dispose()


def test_a_file_that_is_not_ours_stays(tmp_path: Path) -> None:
    """Somebody's notes, or their own database, are not set aside however damaged they look."""
    notes = tmp_path / "notes.txt"
    notes.write_text("what llmobs_ is: " + "words " * 5_000)
    own = tmp_path / "app.db"
    connection = sqlite3.connect(own)
    connection.executescript("CREATE TABLE users (name); CREATE TABLE llmobs_spans (key)")
    connection.close()
    overwrite(own, 0, size=90)
    for file in (notes, own):
        before = file.read_bytes()
        database = Database(f"sqlite:///{file}")
        for _ in range(3):
            with pytest.raises(StoreError) as told:
                Sink(database).write([request()])
            assert told.value.trouble == Trouble.DAMAGED
        assert file.read_bytes() == before and quarantined(str(file)) == []
    assert not is_ours(str(own))


def test_the_apps_own_database_is_left_alone(database: Database, path: Path) -> None:
    """Where the app keeps its tables in the same file, nothing of it is renamed."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE users (name)")
    connection.close()
    database.dispose()
    assert stored(database) == COUNT
    database.checkpoint()
    backend = database.backend
    assert isinstance(backend, SQLite)
    error = sqlite3.DatabaseError("malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    for _ in range(3):
        backend.failed(error)

    assert stored(database) == COUNT and quarantined(str(path)) == [] and kinds(database) == []


def test_an_error_of_the_disk_opens_it_anew(database: Database, path: Path) -> None:
    """After a failed fsync nothing that SQLite holds in memory is believed."""
    backend = database.backend
    assert isinstance(backend, SQLite)
    assert stored(database) == COUNT
    before = database._engine
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC

    assert backend.failed(error) == Trouble.AWAY
    assert stored(database) == COUNT and database._engine is not before


def test_a_query_has_a_deadline(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that computes for ever ends, and the connection is good for the next."""
    monkeypatch.setattr(sqlite, "READ_SECONDS", 0.1)
    forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    started = time.monotonic()
    with pytest.raises(StoreError, match="interrupted") as told, database.read() as connection:
        connection.exec_driver_sql(forever)

    assert told.value.trouble == Trouble.TRANSIENT and time.monotonic() - started < 40
    assert stored(database) == COUNT


def test_ballast(database: Database, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk it makes room; content waits from the moment that half of it is used, the rest is stored."""
    held = sqlite_backend(database).ballast
    assert held is not None
    held.restore()
    assert os.stat(held.path).st_size == ballast.SIZE
    full(database, monkeypatch, 1)
    free = ballast.RESERVE + 1
    monkeypatch.setattr(ballast.Ballast, "free", lambda _: free)
    sink = Sink(database)

    assert sink.write([request()]) == (1, 0)
    assert kinds(database) == ["ballast used"] and not os.path.exists(held.path)
    free = ballast.RESERVE - 1
    with pytest.raises(StoreError) as told:
        sink.write([request()])
    assert told.value.trouble == Trouble.FULL
    assert sink.write([request(request_body=None, response_body=None)]) == (1, 0)
    free = ballast.PLENTY
    assert sink.write([request()]) == (1, 0)
    monkeypatch.setattr(sqlite_backend(database), "_next_ballast", 0.0)
    sink.tend()
    assert kinds(database) == ["ballast used", "ballast restored"] and os.path.exists(held.path)
    assert stored(database) == COUNT + 3


def sqlite_backend(database: Database) -> SQLite:
    assert isinstance(database.backend, SQLite)
    return database.backend


def full(database: Database, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The next so many writes find no room."""
    begin = database.write

    def write() -> object:
        nonlocal times
        if times:
            times -= 1
            raise StoreError("database or disk is full", Trouble.FULL)
        return begin()

    monkeypatch.setattr(database, "write", write)
