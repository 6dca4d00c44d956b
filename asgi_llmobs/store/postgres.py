"""What is PostgreSQL's own: its settings, its transactions, and what its errors mean."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine

from asgi_llmobs.errors import Trouble

__all__ = ["Postgres"]

SCHEMA = "llmobs"
ADVISORY_LOCK = 0x6C6C6D6F
WRITE_LOCK = ADVISORY_LOCK + 1
# a server that hangs, or a client that was stopped inside a transaction, holds nobody up for ever
SERVER_SETTINGS = {
    "search_path": SCHEMA,
    "lock_timeout": "15s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
}
# by the class of the error, where the whole code says nothing of its own
TROUBLES = {
    "08": Trouble.AWAY,
    "57": Trouble.AWAY,
    "28": Trouble.AWAY,
    "3D": Trouble.AWAY,
    "53": Trouble.TRANSIENT,
    "40": Trouble.TRANSIENT,
    "55": Trouble.TRANSIENT,
    "53100": Trouble.FULL,
    "25006": Trouble.READ_ONLY,
    "42501": Trouble.READ_ONLY,
    "58": Trouble.AWAY,
    "XX": Trouble.DAMAGED,
}


class Postgres:
    """A PostgreSQL server.

    Args:
        url: Where it is, with the driver.
    """

    path = None

    def __init__(self, url: URL) -> None:
        self.url = url

    @property
    def location(self) -> str:
        """Where it is, for people: without the password."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=True)

    def engine(self) -> Engine:
        """A new engine; nothing is connected yet."""
        return create_engine(
            self.url,
            pool_pre_ping=True,
            pool_size=2,
            max_overflow=8,
            hide_parameters=True,
            connect_args={
                "options": " ".join(f"-c{name}={value}" for name, value in SERVER_SETTINGS.items()),
                "connect_timeout": 5,
            },
        )

    def turn(self) -> AbstractContextManager[Any]:
        """Connections do not wait for each other."""
        return nullcontext()

    def options(self, *, write: bool) -> dict[str, Any]:
        """What a connection is used with: all that one read sees is of one moment, as on SQLite."""
        if write:
            return {"llmobs_write": True}
        return {"llmobs_write": False, "isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    def begun(self, connection: Connection, *, write: bool) -> None:
        """Writers take turns, as on SQLite, so that none acts on what another is about to change."""
        if write:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")

    def claim(self, connection: Connection) -> None:
        """Before the schema is made, in a write transaction: whoever comes second waits."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")

    def opened(self) -> None:
        """Its schema is ready."""

    def sound(self, *, write: bool) -> bool:
        """Its pool finds out by itself which connections are dead."""
        return True

    def mend(self, engine: Engine | None) -> None:
        """Nothing of it is here."""

    def failed(self, error: BaseException) -> Trouble:
        """What an error of the driver means."""
        state = getattr(error, "sqlstate", None)
        if not state:  # the connection was never there, or is gone
            return Trouble.AWAY
        return TROUBLES.get(state, TROUBLES.get(state[:2], Trouble.BUG))

    def reset_after_fork(self) -> None:
        """Nothing of it is shared with the parent."""
