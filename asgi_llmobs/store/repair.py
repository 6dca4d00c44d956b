"""A SQLite file that is gone, replaced or damaged: what happened to it, and a sound one in its place."""

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from sqlalchemy import Engine
from sqlalchemy.pool import QueuePool

from asgi_llmobs.config import make_data_dir
from asgi_llmobs.errors import StoreError, Trouble

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]
FLOCK = hasattr(fcntl, "flock")

__all__ = ["Files", "Wrong", "is_ours", "quarantined"]

LOGS = ("-wal", "-shm")
CORRUPT = ".corrupt-"
LOOKED_AT = 1 << 20  # bytes at the start of a file that say whose it is
# as the schema holds it: kind, name, name of the table, root page, statement
FOREIGN_TABLE = re.compile(rb"table(?!llmobs_|sqlite_)(\w{1,200}?)\1.{1,4}CREATE (?:VIRTUAL )?TABLE", re.DOTALL)
OWN_TABLE = re.compile(rb"tablellmobs_spansllmobs_spans.{1,4}CREATE TABLE", re.DOTALL)
BACKUP_PAGES = 1_000

Identity = tuple[int, int]


class Wrong(StrEnum):
    """What is the matter with an open database."""

    STALE = "stale"  # an error of the disk: what SQLite believes to be written may not be
    GONE = "gone"
    REPLACED = "replaced"
    LOG_GONE = "log gone"
    DAMAGED = "damaged"


class Files:
    """A database file and its logs, as they were when it was opened.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._own: dict[str, Identity] = {}
        self._filled = False
        self._handle = -1

    def remember(self) -> None:
        """They are as they should be now."""
        self.forget()
        found = {suffix: identity(self.path + suffix) for suffix in ("", *LOGS)}
        self._own = {suffix: one for suffix, one in found.items() if one is not None}
        # tells later whether the file was deleted or moved; closing any other kind of handle would take SQLite's locks
        # from the whole process
        flags = getattr(os, "O_PATH", None)
        if flags is not None:
            with suppress(OSError):
                self._handle = os.open(self.path, flags | os.O_CLOEXEC)

    def forget(self) -> None:
        """Nothing of them is open any more."""
        handle, self._handle = self._handle, -1
        self._own, self._filled = {}, False
        if handle >= 0:
            os.close(handle)

    def look(self) -> Wrong | None:
        """What is the matter with them, if anything."""
        if "" not in self._own:
            return None
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return Wrong.GONE
        except OSError:
            return None  # the disk does not answer just now: writing will tell
        if (found.st_dev, found.st_ino) != self._own[""]:
            return Wrong.REPLACED
        if not found.st_size and self._filled:
            return Wrong.DAMAGED
        self._filled = found.st_size > 0
        changed = any(
            identity(self.path + suffix) != own for suffix in LOGS if (own := self._own.get(suffix)) is not None
        )
        return Wrong.LOG_GONE if changed else None

    def unlinked(self) -> bool:
        """Whether the file has no name any more, as far as can be told."""
        return self._handle < 0 or os.fstat(self._handle).st_nlink == 0

    def is_own(self, suffix: str = "") -> bool:
        """Whether what stands there now is what was opened."""
        return suffix in self._own and identity(self.path + suffix) == self._own[suffix]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while names change, against other processes that see the same."""
        folder = os.path.dirname(self.path)
        make_data_dir(folder)
        if not FLOCK:
            yield
            return
        held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield
        finally:
            os.close(held)

    def set_aside(self) -> str:
        """Give the files another name, where nobody writes into them; that name."""
        stamp = time.strftime("%Y%m%dT%H%M%S")
        target = f"{self.path}{CORRUPT}{stamp}"
        number = 1
        while os.path.exists(target):
            number += 1
            target = f"{self.path}{CORRUPT}{stamp}.{number}"
        os.rename(self.path, target)
        for suffix in LOGS:
            with suppress(FileNotFoundError):
                os.rename(self.path + suffix, target + suffix)
        return target

    def drop_logs(self) -> None:
        """Delete the logs of a file that is not there any more: they would be applied to the next one."""
        for suffix in LOGS:
            if self.is_own(suffix):
                with suppress(OSError):
                    os.unlink(self.path + suffix)

    def close(self, engine: Engine | None) -> None:
        """Close *engine*. SQLite then deletes logs by their names, whosever they are: those of a new file stay."""
        kept = []
        for suffix in LOGS:
            name = self.path + suffix
            if not self.is_own(suffix) and os.path.exists(name):
                with suppress(OSError):
                    os.link(name, f"{name}.keep-{os.getpid()}")
                    kept.append(name)
        if engine is not None:
            engine.dispose()
        for name in kept:
            with suppress(OSError):
                if os.path.exists(name):
                    os.unlink(f"{name}.keep-{os.getpid()}")
                else:
                    os.rename(f"{name}.keep-{os.getpid()}", name)

    def copy(self, engine: Engine) -> None:
        """Put what the open connections of *engine* still see into a new file of this name.

        Raises:
            StoreError: It cannot be done now.
            sqlite3.Error: It cannot be read, or not be written.
        """
        if not isinstance(engine.pool, QueuePool) or not engine.pool.checkedin():
            raise StoreError(f"{self.path} is gone, and every connection to it is busy", Trouble.TRANSIENT)
        temporary = f"{self.path}.rescue-{os.getpid()}"
        held = engine.raw_connection()
        try:
            os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
            target = sqlite3.connect(temporary)
            try:
                driver: sqlite3.Connection = held.driver_connection  # type: ignore[assignment]
                driver.backup(target, pages=BACKUP_PAGES)
            finally:
                target.close()
            self.drop_logs()
            os.rename(temporary, self.path)
        finally:
            held.close()
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def identity(path: str) -> Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_ours(path: str) -> bool:
    """Whether a file that cannot be opened was made by us, and holds nothing of anybody else."""
    try:
        with open(path, "rb") as file:
            start = file.read(LOOKED_AT)
    except OSError:
        return False
    return OWN_TABLE.search(start) is not None and not FOREIGN_TABLE.search(start)


def quarantined(path: str) -> list[str]:
    """The damaged files that were set aside from *path*, oldest first."""
    folder, name = os.path.split(path)
    pattern = re.compile(re.escape(name + CORRUPT) + r"\d{8}T\d{6}(?:\.\d+)?")
    try:
        return sorted(os.path.join(folder, found) for found in os.listdir(folder) if pattern.fullmatch(found))
    except OSError:
        return []
