"""The connection to the database: one sync engine, made on first use, for SQLite and PostgreSQL."""

import random
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from typing import Any, Protocol

from sqlalchemy import URL, Connection, Engine, Table, make_url
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

from asgi_llmobs.errors import StoreError, TooSlow, Trouble
from asgi_llmobs.pace import give_way
from asgi_llmobs.store import partitions
from asgi_llmobs.store.deadline import expired, held
from asgi_llmobs.store.postgres import Postgres, copy, translated
from asgi_llmobs.store.sqlite import LONG_LOG_MILLISECONDS, Event, SQLite
from asgi_llmobs.store.tables import PARTITIONED, SCHEMA_VERSION, metadata
from asgi_llmobs.store.upgrade import stored_version, upgrade

__all__ = ["AT_ONCE", "Database", "first_key", "in_chunks", "insert", "insert_statement", "new_keys"]

AT_ONCE = 50  # rows, of SQLite: inserting more holds up the app's threads
OPEN_SECONDS = 5.0  # how long opening waits for other processes that open the same empty database
DISPOSE_SECONDS = 0.5  # how long closing waits for a thread that is opening it just now
DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
}


class Backend(Protocol):
    """What differs from one kind of database to another."""

    @property
    def path(self) -> str | None:
        """The file, where it is one."""

    @property
    def location(self) -> str:
        """Where it is, for people."""

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened to it that its owner should know, oldest first."""

    def engine(self) -> Engine:
        """A new engine."""

    def turn(self) -> AbstractContextManager[Any]:
        """Held while a connection is in use."""

    def options(self, *, write: bool) -> dict[str, Any]:
        """What a connection is used with."""

    def begun(self, connection: Connection, *, write: bool, patient: bool) -> None:
        """A transaction has begun."""

    def look(self, connection: Connection) -> None:
        """Before the version of the schema is asked for."""

    def claim(self, connection: Connection) -> None:
        """Before the schema is made, in a write transaction."""

    def opened(self, engine: Engine) -> None:
        """Its schema is ready."""

    def closed(self) -> None:
        """Its engine is not there any more."""

    def sound(self, *, write: bool) -> bool:
        """Whether the open engine may be used; otherwise :meth:`mend` is called."""

    def mend(self, engine: Engine | None) -> None:
        """Close *engine* and put right what is wrong, before a new one is made."""

    def failed(self, error: BaseException) -> Trouble:
        """Take note of an error of the driver; what it means."""

    def low(self) -> bool:
        """Whether there is room for what has no content only."""

    def tight(self) -> bool:
        """Whether the disk was full, and has not got plenty of room since."""

    def relieve(self) -> bool:
        """Make some room on a full disk; whether there was any to make."""

    def tend(self) -> None:
        """Do what is to be done now and then, by whoever writes."""

    def reset_after_fork(self) -> None:
        """Forget what belongs to the parent."""


class Database:
    """A database by its URL. Nothing is opened before the first :meth:`read` or :meth:`write`.

    Args:
        url: ``sqlite:///path``, ``sqlite://`` (in memory) or ``postgresql://…``; async drivers in the URL are
            translated.
        create: Create file, folder and tables, and upgrade them, where needed.
        read_url: Where to read from instead: a replica of it.
    """

    def __init__(self, url: str, *, create: bool = True, read_url: str | None = None) -> None:
        self.url = url
        self.create = create
        self.replica = Database(read_url, create=False) if read_url else None
        address = self.address
        self.backend: Backend = SQLite(address, create=create) if self.sqlite else Postgres(address)
        self._engine: Engine | None = None
        self._lock = threading.RLock()

    @property
    def address(self) -> URL:
        """The URL with its sync driver."""
        scheme = self.url.split("://")[0].split("+")[0]
        url = make_url(self.url) if scheme == "sqlite" else translated(self.url)
        return url.set(drivername=DRIVERS.get(scheme, url.drivername))

    @property
    def sqlite(self) -> bool:
        """Whether it is SQLite, in a file or in memory."""
        return self.address.get_backend_name() == "sqlite"

    @property
    def path(self) -> str | None:
        """The SQLite file; ``None`` for anything else."""
        return self.backend.path

    @property
    def location(self) -> str:
        """Where the database is, for people: a path, ``memory``, or an address without its password."""
        return self.backend.location

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened to the database that its owner should know, oldest first."""
        return self.backend.events

    @contextmanager
    def read(self, *, fresh: bool = False) -> Iterator[Connection]:
        """A connection for reading one consistent state. Blocking: call it from a thread.

        On PostgreSQL each statement may take five seconds, or sixty where *fresh*.

        Args:
            fresh: Not from the replica, which may lag behind: for what decides about writing, and for tools.

        Raises:
            StoreError: The database cannot be opened or read, or it takes too long.
            SchemaTooNew: It was written by a newer version.
            TooSlow: It took longer than :func:`asgi_llmobs.store.deadline.within` allows.
        """
        if self.replica is not None and not fresh:
            with self.replica.read() as connection:
                yield connection
            return
        with self._connection(write=False, patient=fresh) as connection, held(connection):
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection inside one write transaction, committed at the end, rolled back on any error.

        Raises:
            StoreError: The database cannot be opened or written.
            SchemaTooNew: It was written by a newer version.
        """
        try:
            with self._connection(write=True) as connection:
                yield connection
        except StoreError as error:
            if error.trouble == Trouble.FULL:
                self._fold_log()
            raise
        if self.tight():
            self._fold_log()

    def _fold_log(self) -> None:
        """On a full disk the log takes the room that deleting needs."""
        with suppress(StoreError, DBAPIError, sqlite3.Error):
            self.checkpoint()

    def low(self) -> bool:
        """Whether the disk is so full that only what has no content may be written."""
        return self.backend.low()

    def tight(self) -> bool:
        """Whether the disk was full, and has not got plenty of room since."""
        return self.backend.tight()

    def relieve(self) -> bool:
        """Make some room on a full disk; whether there was any to make."""
        return self.backend.relieve()

    def tend(self) -> None:
        """Do what is to be done now and then, by whoever writes; if it is time."""
        self.backend.tend()
        if isinstance(self.backend, SQLite) and self.backend.long_log():
            self.backend.checkpoint(self._opened(), LONG_LOG_MILLISECONDS)

    def dispose(self) -> None:
        """Close all connections; the next use opens new ones. What is in memory is gone."""
        if self._lock.acquire(timeout=DISPOSE_SECONDS):
            try:
                engine, self._engine = self._engine, None
                if engine is not None:
                    engine.dispose()
                self.backend.closed()
            finally:
                self._lock.release()
        if self.replica is not None:
            self.replica.dispose()

    def reset_after_fork(self) -> None:
        """Forget the parent's connections without closing them."""
        engine, self._engine = self._engine, None
        self._lock = threading.RLock()
        self.backend.reset_after_fork()
        if self.replica is not None:
            self.replica.reset_after_fork()
        if engine is not None:
            engine.dispose(close=False)

    def vacuum(self, pages: int, spare: float) -> bool:
        """Take free pages out of a SQLite file; it gets shorter with the next :meth:`checkpoint`.

        Args:
            pages: How many at most.
            spare: Share of the file that may stay free.

        Returns:
            Whether there are more to be taken out; never on PostgreSQL, which does so by itself.

        Raises:
            StoreError: The database cannot be written now.
        """
        more = isinstance(self.backend, SQLite) and self.backend.vacuum(self._opened(), pages, spare)
        if more and self.tight():
            self._fold_log()
        return more

    def rewrite(self) -> bool:
        """Write a SQLite file anew, with what is in it and nothing else; others may read, writers wait.

        It takes some seven CPU seconds a gigabyte, and twice as much room on the disk again as the file has: in the
        folder for temporary files and in the log.

        Returns:
            Whether it was: a file with tables of somebody else is left as it is, for their rows may be given other
            numbers.

        Raises:
            StoreError: The database cannot be written now, or there is no room.
        """
        return not isinstance(self.backend, SQLite) or self.backend.rewrite(self._opened())

    def vacuum_rows(self) -> None:
        """Free the room of dead rows on PostgreSQL; what a server keeps of them elsewhere is its own business.

        Raises:
            StoreError: The database cannot be written now.
        """
        if isinstance(self.backend, Postgres):
            engine = self._opened()
            try:
                self.backend.free_rows(engine, list(metadata.tables))
            except DBAPIError as error:
                raise self._told(error) from error

    def checkpoint(self) -> None:
        """Empty the log of a SQLite file into it, unless somebody reads just now."""
        if isinstance(self.backend, SQLite):
            self.backend.checkpoint(self._opened())

    @contextmanager
    def _connection(self, *, write: bool, patient: bool = False) -> Iterator[Connection]:
        engine = self._opened(write=write)
        with self.backend.turn():
            try:
                with engine.connect() as connection:
                    connection = connection.execution_options(**self.backend.options(write=write))
                    with connection.begin():
                        self.backend.begun(connection, write=write, patient=patient)
                        yield connection
            except DBAPIError as error:
                raise TooSlow if not write and expired() else self._told(error) from error

    def _told(self, error: DBAPIError | sqlite3.Error, where: str | None = None) -> StoreError:
        original = error.orig if isinstance(error, DBAPIError) else error
        text = where or type(original).__name__
        return StoreError(f"{text}: {first_line(error)}", self.backend.failed(original or error))

    def _opened(self, *, write: bool = True) -> Engine:
        engine = self._engine
        if engine is not None and self.backend.sound(write=write):
            return engine
        with self._lock:
            if not self.backend.sound(write=write):
                self.backend.mend(self._engine)
                self._engine = None
            if self._engine is None:
                engine = self._make()
                try:
                    self._prepare(engine)
                    self.backend.opened(engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _make(self) -> Engine:
        try:
            return self.backend.engine()
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            driver = self.address.drivername
            raise StoreError(f"no driver for {driver}: pip install 'asgi_llmobs[postgres]'") from error

    def _prepare(self, engine: Engine) -> None:
        """Make or upgrade the schema. Other processes may be doing the same: whoever comes second waits."""
        deadline = time.monotonic() + OPEN_SECONDS
        while True:
            try:
                with engine.connect() as connection:
                    if not self._is_current(connection.execution_options(llmobs_write=False)):
                        self._prepare_on(connection.execution_options(llmobs_write=self.create))
                return
            except (DBAPIError, sqlite3.Error) as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise self._told(error, self.location) from error
                # SQLite does not wait for its own change to WAL
                time.sleep(random.uniform(0.01, 0.1))
            except SQLAlchemyError as error:
                raise StoreError(f"{self.location}: {type(error).__name__}") from error

    def _is_current(self, connection: Connection) -> bool:
        """Whether nothing has to be written first: another process may hold the lock for long."""
        with connection.begin():
            self.backend.look(connection)
            return stored_version(connection) == SCHEMA_VERSION

    def _prepare_on(self, connection: Connection) -> None:
        with connection.begin():
            self.backend.look(connection)
            version = stored_version(connection)
            if not self.create and version == 0:
                raise StoreError(f"{self.location} holds no data of asgi_llmobs")
            if self.create and version < SCHEMA_VERSION:
                self.backend.claim(connection)
                upgrade(connection)


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
    """Insert *rows*, each with all columns of *table* in order; with *replace* they take the place of those with the
    same primary key."""
    if not rows:
        return
    if connection.dialect.name == "sqlite" or table not in PARTITIONED:
        statement = insert_statement(connection.dialect.name, table, replace)
        for some in in_chunks(rows, AT_ONCE) if connection.dialect.name == "sqlite" else [list(rows)]:
            connection.exec_driver_sql(statement, some)
            give_way()
        return
    if replace:  # a part on another server has no ON CONFLICT
        places = [place for place, column in enumerate(table.columns) if column.primary_key]
        statement = delete_statement(table)
        connection.exec_driver_sql(statement, [tuple(row[place] for place in places) for row in rows])
    copy(connection, table, rows)


@lru_cache(maxsize=128)
def delete_statement(table: Table) -> str:
    keys = [column.name for column in table.columns if column.primary_key]
    return f"DELETE FROM {table.name} WHERE {' AND '.join(f'{key} = %s' for key in quoted(keys))}"  # noqa: S608


def new_keys(connection: Connection, starts_ns: Sequence[int]) -> Sequence[int]:
    """Keys for new rows of ``llmobs_spans``, in the order of arrival.

    Args:
        connection: In a write transaction: nobody else takes keys.
        starts_ns: When each of the spans began.
    """
    if connection.dialect.name != "sqlite":
        return partitions.new_keys(connection, starts_ns)
    last = connection.exec_driver_sql("SELECT max(key) FROM llmobs_spans").scalar() or 0
    return range(last + 1, last + 1 + len(starts_ns))


def first_key(connection: Connection, start_ns: int) -> int:
    """The lowest key of all spans that began at *start_ns* or later: 0, or on PostgreSQL the first of a partition.

    That as a further condition spares looking into the partitions of earlier days.
    """
    return 0 if connection.dialect.name == "sqlite" else partitions.first_key(start_ns)


def in_chunks(values: Iterable[Any], size: int = 500) -> Iterator[list[Any]]:
    """*values* in lists that fit into one statement."""
    every = list(values)
    for start in range(0, len(every), size):
        yield every[start : start + size]
