"""Leases: work that one process at a time does, agreed on through a row of ``llmobs_meta``."""

import secrets
import time

from sqlalchemy import Connection, select

from asgi_llmobs.store.database import Database, insert
from asgi_llmobs.store.tables import MetaRow

__all__ = ["Lease"]

LONGEST_SECONDS = 3_600.0
SECOND = 1_000_000_000

_meta = MetaRow.__table__  # type: ignore[attr-defined]


class Lease:
    """The right to do the work called *name*, which ends by itself when its holder dies.

    Args:
        database: Whose work it is.
        name: The same for all who do this work.
    """

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self.name = f"lease:{name}"
        self.owner = secrets.token_hex(8)

    def take(self, seconds: float, *, force: bool = False) -> bool:
        """Hold it for *seconds*, 3,600 at most; ``False`` where another one does, unless taken away by *force*.

        Raises:
            StoreError: The database cannot be written.
        """
        if not force:
            with self.database.read(fresh=True) as connection:
                if self._taken(connection):
                    return False
        with self.database.write() as connection:
            if self._taken(connection) and not force:
                return False
            self._set(connection, seconds)
        return True

    def renew(self, connection: Connection, seconds: float) -> bool:
        """Hold it for *seconds* from now, in the caller's write transaction; ``False`` where it was taken away."""
        if self._row(connection)[0] != self.owner:
            return False
        self._set(connection, seconds)
        return True

    def _row(self, connection: Connection) -> tuple[str, int]:
        value = connection.execute(select(_meta.c.value).where(_meta.c.name == self.name)).scalar()
        owner, _, until = (value or "").partition(" ")
        return owner, int(until) if until.isdecimal() else 0

    def _taken(self, connection: Connection) -> bool:
        owner, until = self._row(connection)
        left = until - time.time_ns()
        # an end that lies further off than any lease lasts was written by a clock that has been set since
        return owner != self.owner and 0 < left <= LONGEST_SECONDS * SECOND

    def _set(self, connection: Connection, seconds: float) -> None:
        until = time.time_ns() + int(min(seconds, LONGEST_SECONDS) * SECOND)
        insert(connection, _meta, [(self.name, f"{self.owner} {until}")], replace=True)
