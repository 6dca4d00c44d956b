"""The connection to the database: one sync engine, made on first use, for SQLite and PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

__all__ = ["Database"]


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

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading one consistent state. Blocking: call it from a thread.

        Raises:
            StoreError: The database cannot be opened.
            SchemaTooNew: It was written by a newer version.
        """
        raise NotImplementedError
        yield

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection inside one write transaction, committed at the end, rolled back on any error.

        Raises:
            StoreError: The database cannot be opened.
            SchemaTooNew: It was written by a newer version.
        """
        raise NotImplementedError
        yield

    def dispose(self) -> None:
        """Close all connections; the next use opens new ones."""
        raise NotImplementedError

    def reset_after_fork(self) -> None:
        """Forget the parent's connections without closing them."""
        raise NotImplementedError
