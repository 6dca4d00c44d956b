"""The connection to the database: one sync engine, made on first use, for SQLite and PostgreSQL."""

import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool, StaticPool

from asgi_llmobs.config import make_data_dir
from asgi_llmobs.errors import StoreError
from asgi_llmobs.store.upgrade import stored_version, upgrade

__all__ = ["Database", "in_chunks", "insert", "insert_statement"]

SCHEMA = "llmobs"  # on PostgreSQL
BUSY_SECONDS = 5.0
CHECKPOINT_MILLISECONDS = 100  # that emptying the log may hold up others
OPEN_SECONDS = 20.0  # how long opening waits for other processes that open the same empty database
ADVISORY_LOCK = 0x6C6C6D6F
WRITE_LOCK = ADVISORY_LOCK + 1
# a server that hangs, or a client that was stopped inside a transaction, holds nobody up for ever
SERVER_SETTINGS = {
    "search_path": SCHEMA,
    "lock_timeout": "15s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
}
DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
}


class Database:
    """A database by its URL. Nothing is opened before the first :meth:`read` or :meth:`write`.

    Args:
        url: ``sqlite:///path``, ``sqlite://`` (in memory) or ``postgresql://…``; async drivers in the URL are
            translated.
        create: Create file, folder and tables, and upgrade them, where needed.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        self.url = url
        self.create = create
        self._engine: Engine | None = None
        self._lock = threading.RLock()
        self._memory_lock: threading.RLock | None = None

    @property
    def address(self) -> URL:
        """The URL with its sync driver."""
        url = make_url(self.url)
        return url.set(drivername=DRIVERS.get(url.drivername.split("+")[0], url.drivername))

    @property
    def sqlite(self) -> bool:
        """Whether it is SQLite, in a file or in memory."""
        return self.address.get_backend_name() == "sqlite"

    @property
    def path(self) -> str | None:
        """The SQLite file; ``None`` for anything else."""
        url = self.address
        if not self.sqlite or url.database in (None, "", ":memory:"):
            return None
        return os.path.abspath(url.database or "")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading one consistent state. Blocking: call it from a thread.

        Raises:
            StoreError: The database cannot be opened or read.
            SchemaTooNew: It was written by a newer version.
        """
        with self._connection(write=False) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection inside one write transaction, committed at the end, rolled back on any error.

        Raises:
            StoreError: The database cannot be opened or written.
            SchemaTooNew: It was written by a newer version.
        """
        with self._connection(write=True) as connection:
            yield connection

    def dispose(self) -> None:
        """Close all connections; the next use opens new ones. What is in memory is gone."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    def reset_after_fork(self) -> None:
        """Forget the parent's connections without closing them."""
        engine, self._engine = self._engine, None
        self._lock = threading.RLock()
        self._memory_lock = None
        if engine is not None:
            engine.dispose(close=False)

    def vacuum(self, pages: int, spare: float) -> bool:
        """Take free pages out of a SQLite file; it gets shorter with the next :meth:`checkpoint`.

        Args:
            pages: How many at most.
            spare: Share of the file that may stay free.

        Returns:
            Whether there are more to be taken out.

        Raises:
            StoreError: The database cannot be written now.
        """
        with self._driver() as driver:
            count, free = (driver.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
            if free <= count * spare:
                return False
            driver.executescript(f"PRAGMA incremental_vacuum({pages})")  # execute() would free a single page
            return bool(driver.execute("PRAGMA freelist_count").fetchone()[0] < free)

    def checkpoint(self) -> None:
        """Empty the log of a SQLite file into it, unless somebody reads just now."""
        with self._driver() as driver:
            driver.execute(f"PRAGMA busy_timeout={CHECKPOINT_MILLISECONDS}")
            try:
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                driver.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")

    @contextmanager
    def _driver(self) -> Iterator[Any]:
        """SQLite's own connection, outside any transaction."""
        engine = self._opened()
        with self._memory_lock or nullcontext():
            held = engine.raw_connection()
            try:
                yield held.driver_connection
            except sqlite3.Error as error:
                raise StoreError(f"{type(error).__name__}: {error}") from error
            finally:
                held.close()

    @contextmanager
    def _connection(self, *, write: bool) -> Iterator[Connection]:
        engine = self._opened()
        with self._memory_lock or nullcontext():
            try:
                with engine.connect() as connection:
                    connection = connection.execution_options(llmobs_write=write)
                    if not write and connection.dialect.name != "sqlite":
                        # as on SQLite: all that one read sees is of one moment
                        connection = connection.execution_options(
                            isolation_level="REPEATABLE READ", postgresql_readonly=True
                        )
                    with connection.begin():
                        if write and connection.dialect.name != "sqlite":
                            # as on SQLite: writers take turns, so that none acts on what another is about to change
                            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
                        yield connection
            except DBAPIError as error:
                raise StoreError(f"{type(error.orig).__name__}: {first_line(error)}") from error

    def _opened(self) -> Engine:
        engine = self._engine
        if engine is not None:
            return engine
        with self._lock:
            if self._engine is None:
                engine = self._make()
                try:
                    self._prepare(engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _make(self) -> Engine:
        url = self.address
        try:
            if url.get_backend_name() == "sqlite":
                return self._make_sqlite(url)
            return create_engine(
                url,
                pool_pre_ping=True,
                pool_size=2,
                max_overflow=8,
                hide_parameters=True,
                connect_args={
                    "options": " ".join(f"-c{name}={value}" for name, value in SERVER_SETTINGS.items()),
                    "connect_timeout": 5,
                },
            )
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            raise StoreError(f"no driver for {url.drivername}: pip install 'asgi_llmobs[postgres]'") from error

    def _make_sqlite(self, url: URL) -> Engine:
        path = self.path
        options: dict[str, Any] = {"timeout": BUSY_SECONDS, "check_same_thread": False}
        if path is None:
            self._memory_lock = threading.RLock()
            url = url.set(database=None)
        else:
            url = url.set(database=path)
            if self.create:
                make_file(path)
            elif not os.path.exists(path):
                raise StoreError(f"{path} does not exist")
        pool = StaticPool if path is None else QueuePool
        engine = create_engine(url, poolclass=pool, hide_parameters=True, connect_args=options)
        event.listen(engine, "connect", prepare_sqlite)
        event.listen(engine, "begin", begin_sqlite)
        return engine

    def _prepare(self, engine: Engine) -> None:
        """Make or upgrade the schema. Other processes may be doing the same: whoever comes second waits."""
        deadline = time.monotonic() + OPEN_SECONDS
        while True:
            try:
                with engine.connect() as connection:
                    self._prepare_on(connection.execution_options(llmobs_write=self.create))
                return
            except (DBAPIError, sqlite3.Error) as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise StoreError(f"{self.location}: {first_line(error)}") from error
                # SQLite does not wait for its own change to WAL
                time.sleep(random.uniform(0.01, 0.1))
            except SQLAlchemyError as error:
                raise StoreError(f"{self.location}: {type(error).__name__}") from error

    def _prepare_on(self, connection: Connection) -> None:
        with connection.begin():
            if connection.dialect.name != "sqlite" and self.create:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
                connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            if self.create:
                upgrade(connection)
            elif stored_version(connection) == 0:
                raise StoreError(f"{self.location} holds no data of asgi_llmobs")

    @property
    def location(self) -> str:
        """Where the database is, for people: a path, ``memory``, or an address without its password."""
        url = self.address
        if url.get_backend_name() == "sqlite":
            return self.path or "memory"
        return url.set(drivername="postgresql").render_as_string(hide_password=True)


def make_file(path: str) -> None:
    """An empty file that only its owner reads, in a folder of its own where there was none."""
    folder = os.path.dirname(path)
    try:
        make_data_dir(folder)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are ours: see begin_sqlite
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


def begin_sqlite(connection: Connection) -> None:
    # a transaction that reads first and writes later is refused at once, whatever the timeout says
    write = connection.get_execution_options().get("llmobs_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def first_line(error: Exception) -> str:
    original = error.orig if isinstance(error, DBAPIError) else error
    return (str(original).strip().splitlines() or [""])[0][:200]


@lru_cache(maxsize=128)
def insert_statement(dialect: str, table: Table, replace: bool = False) -> str:
    """The text of an insert of all of *table*'s columns in order, for ``exec_driver_sql`` with tuples.

    Args:
        dialect: Name of the connection's dialect.
        table: Where the rows go.
        replace: A row with the same primary key takes the new values; otherwise it is an error.
    """
    if dialect == "sqlite":
        text = str(table.insert().compile(dialect=sqlite.dialect(paramstyle="qmark")))
    else:
        text = str(table.insert().compile(dialect=psycopg.dialect(paramstyle="format")))  # type: ignore[no-untyped-call]
    if replace:
        keys = [column.name for column in table.primary_key.columns]
        changes = ", ".join(
            f'"{column.name}" = excluded."{column.name}"' for column in table.columns if column.name not in keys
        )
        text += f" ON CONFLICT ({', '.join(quoted(keys))}) DO UPDATE SET {changes}"
    return text


def quoted(names: Iterable[str]) -> list[str]:
    return [f'"{name}"' for name in names]


def insert(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]], *, replace: bool = False) -> None:
    """Insert *rows*, each with all columns of *table* in order, in one call of the driver."""
    if rows:
        connection.exec_driver_sql(insert_statement(connection.dialect.name, table, replace), list(rows))


def in_chunks(values: Iterable[Any], size: int = 500) -> Iterator[list[Any]]:
    """*values* in lists that fit into one statement."""
    every = list(values)
    for start in range(0, len(every), size):
        yield every[start : start + size]
