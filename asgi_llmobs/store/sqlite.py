"""What is SQLite's own: its file, its settings, its transactions, and what its errors mean."""

import logging
import math
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, NamedTuple
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool

from asgi_llmobs.config import make_data_dir
from asgi_llmobs.errors import StoreError, Trouble
from asgi_llmobs.store.ballast import Ballast
from asgi_llmobs.store.repair import Files, Wrong, is_ours

__all__ = ["Event", "SQLite"]

logger = logging.getLogger("asgi_llmobs")

BUSY_SECONDS = 2.0  # a writer that waits for its turn holds up the end of its process for no longer
LOOK_SECONDS = 1.0  # between two looks at the files by those who only read
READ_SECONDS = 30.0  # that one transaction may compute
WRITE_SECONDS = 120.0
STEPS = 50_000  # of SQLite's machine between two looks at the clock: a few milliseconds
DAMAGED_SECONDS = 60.0
EVENTS = 50
BALLAST_SECONDS = 30.0
FOREIGN_TABLES = (
    "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'llmobs_*' AND name NOT GLOB 'sqlite_*'"
)
CHECKPOINT_MILLISECONDS = 100  # that emptying the log may hold up others
LONG_LOG = 16 << 20  # bytes of a log that reader after reader keeps from being begun anew: then they are waited for
LONG_LOG_MILLISECONDS = 1_000
LONG_LOG_SECONDS = 0.5  # between two looks at it
IN_MEMORY = 64 << 20  # bytes of a file that may be copied in memory

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


class Event(NamedTuple):
    """Something that happened to a database and that its owner should know."""

    time_ns: int
    kind: str
    text: str


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
        self.ballast = Ballast(self.path) if self.path is not None and create else None
        self._memory_lock: threading.RLock | None = None
        self._files = Files(self.path) if self.path is not None else None
        self._wrong: Wrong | None = None
        self._known = False  # was opened before: whatever it is now, it was a database of ours
        self._shared = False  # holds tables of somebody else: its file is not ours to put right
        self._next_look = 0.0
        self._damaged_at = -math.inf
        self._next_fold = 0.0
        self._next_ballast = time.monotonic() + BALLAST_SECONDS  # what runs for a moment only needs none
        self._events: deque[Event] = deque(maxlen=EVENTS)

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened to the file, oldest first."""
        return tuple(self._events)

    def tell(self, kind: str, text: str) -> None:
        """Note that something has happened to the file."""
        self._events.append(Event(time.time_ns(), kind, text))
        logger.warning("asgi_llmobs: %s", text)

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
            engine = create_engine(
                self.url.set(database=None), poolclass=StaticPool, hide_parameters=True, connect_args=options
            )
        else:
            if self.create:
                make_file(self.path)
            elif not os.path.exists(self.path):
                raise StoreError(f"{self.path} does not exist")
            # a file that has vanished since is not made again by whoever connects next
            address = f"file:{quote(self.path)}?mode=rw"
            engine = create_engine(
                self.url.set(database=self.path),
                poolclass=QueuePool,
                hide_parameters=True,
                creator=lambda: sqlite3.connect(address, uri=True, **options),
            )
        event.listen(engine, "connect", prepare)
        event.listen(engine, "begin", begin)
        return engine

    def turn(self) -> AbstractContextManager[Any]:
        """Held while a connection is in use: there is only one to a database in memory."""
        return self._memory_lock or nullcontext()

    def options(self, *, write: bool) -> dict[str, Any]:
        """What a connection is used with."""
        return {"llmobs_write": write, "llmobs_seconds": WRITE_SECONDS if write else READ_SECONDS}

    def begun(self, connection: Connection, *, write: bool, patient: bool) -> None:
        """A transaction has begun."""

    def look(self, connection: Connection) -> None:
        """Before the version of the schema is asked for."""

    def claim(self, connection: Connection) -> None:
        """Before the schema is made, in a write transaction."""

    def opened(self, engine: Engine) -> None:
        """Its schema is ready."""
        if self._files is None:
            return
        with self._driver(engine) as driver:
            self._shared = driver.execute(FOREIGN_TABLES).fetchone()[0] > 0
        self._known = True
        self._files.remember()

    def closed(self) -> None:
        """Its engine is not there any more."""
        if self._files is not None:
            self._files.forget()

    def sound(self, *, write: bool) -> bool:
        """Whether the open engine may be used: nothing failed, and its files are those that were opened."""
        if self._wrong is None and self._files is not None:
            now = time.monotonic()
            if write or now >= self._next_look:
                self._next_look = now + LOOK_SECONDS
                self._wrong = self._files.look()
        return self._wrong is None

    def mend(self, engine: Engine | None) -> None:
        """Close *engine* and put right what is wrong with the files.

        Raises:
            StoreError: It cannot be done now, or not by us.
        """
        wrong, files = self._wrong, self._files
        assert files is not None
        try:
            if self.create and not self._shared:
                with files.lock():
                    self._put_right(files, wrong, engine)
                    files.close(engine)
            elif engine is not None:
                engine.dispose()
        except sqlite3.Error as error:
            raise StoreError(f"{type(error).__name__}: {error}", meaning(error)) from error
        except OSError as error:
            raise StoreError(f"{files.path}: {error.strerror}", Trouble.of(error)) from error
        files.forget()
        self._wrong = None

    def _put_right(self, files: Files, wrong: Wrong | None, engine: Engine | None) -> None:
        name = os.path.basename(files.path)
        if wrong == Wrong.DAMAGED and (files.is_own() if self._known else is_ours(files.path) or self._has_ballast()):
            aside = os.path.basename(files.set_aside())
            self.tell("quarantined", f"{name} is damaged: set aside as {aside}, what can be read of it is copied")
        elif wrong == Wrong.DAMAGED and not self._known:
            self._wrong = None  # it may be another file the next time
            raise StoreError(f"{files.path} is no database of asgi_llmobs, or a damaged one", Trouble.DAMAGED)
        elif wrong == Wrong.GONE and engine is not None:
            self._replace(files, name, engine)
        elif wrong == Wrong.REPLACED:
            files.drop_logs()
            self.tell("replaced", f"{name} was replaced by another file: that one is used now")
        elif wrong == Wrong.LOG_GONE and engine is not None:
            fold(engine)
            self.tell("log gone", f"the log of {name} was deleted or replaced: the database was opened anew")

    def _has_ballast(self) -> bool:
        return self.ballast is not None and os.path.exists(self.ballast.path)

    def _replace(self, files: Files, name: str, engine: Engine) -> None:
        if os.path.exists(files.path):  # another process was faster
            return
        if not files.unlinked():
            fold(engine)
            files.drop_logs()
            self.tell("moved", f"{name} was moved away: a new one is begun")
            return
        try:
            files.copy(engine)
        except sqlite3.Error as error:
            if meaning(error) in (Trouble.FULL, Trouble.TRANSIENT):
                raise
            files.drop_logs()
            self.tell("deleted", f"{name} was deleted and cannot be read any more: a new one is begun")
            return
        self.tell("restored", f"{name} was deleted: what it held was written into a new one")

    def failed(self, error: BaseException) -> Trouble:
        """Take note of an error of the driver; what it means."""
        code = getattr(error, "sqlite_errorcode", None)
        trouble = meaning(error)
        if self._files is not None and code is not None:
            if trouble == Trouble.DAMAGED:
                now = time.monotonic()
                # once may be a read that failed: what is opened anew and damaged again is damaged
                again = now - self._damaged_at < DAMAGED_SECONDS
                self._wrong, self._damaged_at = Wrong.DAMAGED if again else Wrong.STALE, now
            elif trouble == Trouble.AWAY and code & 0xFF == sqlite3.SQLITE_IOERR and self._wrong is None:
                self._wrong = Wrong.STALE
        return trouble

    def low(self) -> bool:
        """Whether there is room for what has no content only."""
        return self.ballast is not None and self.ballast.low()

    def tight(self) -> bool:
        """Whether the disk was full, and has not got plenty of room since."""
        return self.ballast is not None and self.ballast.released

    def relieve(self) -> bool:
        """Make some room on a full disk; whether there was any to make."""
        if self.ballast is None or not self.ballast.release():
            return False
        self.tell("ballast used", "the disk is full: the ballast was given up, so that rows can still be deleted")
        return True

    def tend(self) -> None:
        """Take the ballast in again, if it is time."""
        now = time.monotonic()
        if self.ballast is None or now < self._next_ballast:
            return
        self._next_ballast = now + BALLAST_SECONDS
        if self.ballast.restore():
            self.tell("ballast restored", "there is room on the disk again, the ballast too")

    def reset_after_fork(self) -> None:
        """Forget locks that a thread of the parent may hold."""
        self._memory_lock = None
        self.closed()

    def vacuum(self, engine: Engine, pages: int, spare: float) -> bool:
        """See :meth:`asgi_llmobs.store.database.Database.vacuum`."""
        with self._driver(engine) as driver:
            count, free = (driver.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
            if free <= count * spare:
                return False
            driver.executescript(f"PRAGMA incremental_vacuum({pages})")  # execute() would free a single page
            return bool(driver.execute("PRAGMA freelist_count").fetchone()[0] < free)

    def rewrite(self, engine: Engine) -> bool:
        """See :meth:`asgi_llmobs.store.database.Database.rewrite`."""
        if self._shared:
            return False
        with self._driver(engine) as driver:
            large = self.path is not None and os.path.getsize(self.path) > IN_MEMORY
            driver.execute(f"PRAGMA temp_store={'FILE' if large else 'MEMORY'}")
            try:
                driver.execute("VACUUM")
            finally:
                driver.execute("PRAGMA temp_store=MEMORY")
        return True

    def long_log(self) -> bool:
        """Whether the log has grown too long, and it is time to do something about it."""
        now = time.monotonic()
        if self.path is None or not self.create or now < self._next_fold:
            return False
        self._next_fold = now + LONG_LOG_SECONDS
        with suppress(OSError):
            return os.stat(f"{self.path}-wal").st_size > LONG_LOG
        return False

    def checkpoint(self, engine: Engine, milliseconds: int = CHECKPOINT_MILLISECONDS) -> None:
        """See :meth:`asgi_llmobs.store.database.Database.checkpoint`."""
        with self._driver(engine) as driver:
            driver.execute(f"PRAGMA busy_timeout={milliseconds}")
            try:
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                driver.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")

    @contextmanager
    def _driver(self, engine: Engine) -> Iterator[Any]:
        """SQLite's own connection, outside any transaction."""
        with self.turn():
            held = engine.raw_connection()
            held.info["until"] = math.inf
            try:
                yield held.driver_connection
            except sqlite3.Error as error:
                raise StoreError(f"{type(error).__name__}: {error}", self.failed(error)) from error
            finally:
                held.close()


def meaning(error: BaseException) -> Trouble:
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return Trouble.FULL  # who opens it first has to make the index of its log
    return TROUBLES.get(code & 0xFF, Trouble.BUG) if code is not None else Trouble.BUG


def fold(engine: Engine) -> None:
    """Bring what stands in a log that has lost its name into the file."""
    with suppress(sqlite3.Error):  # what cannot be brought there is damage, and is found as such
        held = engine.raw_connection()
        try:
            held.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # type: ignore[union-attr]
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


def prepare(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions are ours: see begin
    clock = record.info
    clock["until"] = math.inf
    connection.set_progress_handler(lambda: time.monotonic() > clock["until"], STEPS)
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
        cursor.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten; not every build does so unasked
    finally:
        cursor.close()


def begin(connection: Connection) -> None:
    # a transaction that reads first and writes later is refused at once, whatever the timeout says
    options = connection.get_execution_options()
    connection.info["until"] = time.monotonic() + options.get("llmobs_seconds", math.inf)
    write = options.get("llmobs_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
