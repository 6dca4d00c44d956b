"""What is SQLite's own: its file, its settings, its transactions, and what its errors mean."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool

from asgi_llmobs.config import make_data_dir
from asgi_llmobs.errors import StoreError, Trouble

__all__ = ["SQLite"]

BUSY_SECONDS = 5.0
CHECKPOINT_MILLISECONDS = 100  # that emptying the log may hold up others

TROUBLES = {
    sqlite3.SQLITE_BUSY: Trouble.TRANSIENT,
    sqlite3.SQLITE_LOCKED: Trouble.TRANSIENT,
    sqlite3.SQLITE_INTERRUPT: Trouble.TRANSIENT,
    sqlite3.SQLITE_SCHEMA: Trouble.TRANSIENT,
    sqlite3.SQLITE_NOMEM: Trouble.TRANSIENT,
    sqlite3.SQLITE_PROTOCOL: Trouble.TRANSIENT,
    sqlite3.SQLITE_IOERR: Trouble.AWAY,
    sqlite3.SQLITE_CANTOPEN: Trouble.AWAY,
    sqlite3.SQLITE_FULL: Trouble.FULL,
    sqlite3.SQLITE_READONLY: Trouble.READ_ONLY,
    sqlite3.SQLITE_PERM: Trouble.READ_ONLY,
    sqlite3.SQLITE_AUTH: Trouble.READ_ONLY,
    sqlite3.SQLITE_CORRUPT: Trouble.DAMAGED,
    sqlite3.SQLITE_NOTADB: Trouble.DAMAGED,
}


class SQLite:
    """A SQLite database, in a file or in memory.

    Args:
        url: Where it is, with the driver.
        create: Create file and folder where there are none.
    """

    def __init__(self, url: URL, *, create: bool) -> None:
        self.url = url
        self.create = create
        self.path = None if url.database in (None, "", ":memory:") else os.path.abspath(url.database or "")
        self._memory_lock: threading.RLock | None = None

    @property
    def location(self) -> str:
        """Where it is, for people."""
        return self.path or "memory"

    def engine(self) -> Engine:
        """A new engine; the file is there afterwards, the tables may not be.

        Raises:
            StoreError: The file cannot be made, or is not there and must not be made.
        """
        options: dict[str, Any] = {"timeout": BUSY_SECONDS, "check_same_thread": False}
        if self.path is None:
            self._memory_lock = threading.RLock()
        elif self.create:
            make_file(self.path)
        elif not os.path.exists(self.path):
            raise StoreError(f"{self.path} does not exist")
        pool = StaticPool if self.path is None else QueuePool
        url = self.url.set(database=self.path)
        engine = create_engine(url, poolclass=pool, hide_parameters=True, connect_args=options)
        event.listen(engine, "connect", prepare)
        event.listen(engine, "begin", begin)
        return engine

    def turn(self) -> AbstractContextManager[Any]:
        """Held while a connection is in use: there is only one to a database in memory."""
        return self._memory_lock or nullcontext()

    def options(self, *, write: bool) -> dict[str, Any]:
        """What a connection is used with."""
        return {"llmobs_write": write}

    def begun(self, connection: Connection, *, write: bool, patient: bool) -> None:
        """A transaction has begun."""

    def look(self, connection: Connection) -> None:
        """Before the version of the schema is asked for."""

    def claim(self, connection: Connection) -> None:
        """Before the schema is made, in a write transaction."""

    def opened(self) -> None:
        """Its schema is ready."""

    def sound(self, *, write: bool) -> bool:
        """Whether the open engine may be used."""
        return True

    def mend(self, engine: Engine | None) -> None:
        """Close *engine*."""

    def failed(self, error: BaseException) -> Trouble:
        """What an error of the driver means."""
        code = getattr(error, "sqlite_errorcode", None)
        return TROUBLES.get(code & 0xFF, Trouble.BUG) if code is not None else Trouble.BUG

    def reset_after_fork(self) -> None:
        """Forget locks that a thread of the parent may hold."""
        self._memory_lock = None

    def vacuum(self, engine: Engine, pages: int, spare: float) -> bool:
        """See :meth:`asgi_llmobs.store.database.Database.vacuum`."""
        with self._driver(engine) as driver:
            count, free = (driver.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
            if free <= count * spare:
                return False
            driver.executescript(f"PRAGMA incremental_vacuum({pages})")  # execute() would free a single page
            return bool(driver.execute("PRAGMA freelist_count").fetchone()[0] < free)

    def checkpoint(self, engine: Engine) -> None:
        """See :meth:`asgi_llmobs.store.database.Database.checkpoint`."""
        with self._driver(engine) as driver:
            driver.execute(f"PRAGMA busy_timeout={CHECKPOINT_MILLISECONDS}")
            try:
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                driver.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")

    @contextmanager
    def _driver(self, engine: Engine) -> Iterator[Any]:
        """SQLite's own connection, outside any transaction."""
        with self.turn():
            held = engine.raw_connection()
            try:
                yield held.driver_connection
            except sqlite3.Error as error:
                raise StoreError(f"{type(error).__name__}: {error}", self.failed(error)) from error
            finally:
                held.close()


def make_file(path: str) -> None:
    """An empty file that only its owner reads, in a folder of its own where there was none."""
    folder = os.path.dirname(path)
    try:
        make_data_dir(folder)
        # one that is there is not opened: closing it would take SQLite's locks on it from this whole process
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", Trouble.of(error)) from error


def prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are ours: see begin
    cursor = connection.cursor()
    try:
        if cursor.execute("PRAGMA page_count").fetchone()[0] == 0:
            cursor.execute("PRAGMA page_size=8192")
            cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] not in ("wal", "memory"):
            cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
        cursor.execute("PRAGMA cache_size=-16384")
        cursor.execute("PRAGMA temp_store=MEMORY")
    finally:
        cursor.close()


def begin(connection: Connection) -> None:
    # a transaction that reads first and writes later is refused at once, whatever the timeout says
    write = connection.get_execution_options().get("llmobs_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
