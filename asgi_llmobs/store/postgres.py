"""What is PostgreSQL's own: its settings, its transactions, and what its errors mean."""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    Connection,
    Engine,
    LargeBinary,
    SmallInteger,
    Table,
    create_engine,
    event,
    make_url,
)

from asgi_llmobs.errors import Trouble
from asgi_llmobs.store.tables import PARTITIONED

__all__ = ["Postgres", "copy", "take_time", "translated"]

SCHEMA = "llmobs"
VACUUM_SECONDS = 3_600.0  # for one table
WRITE_LOCK = 0x6C6C6D70
READ_SECONDS = 5  # that a statement of a page may take
LONG_READ_SECONDS = 60  # and one of a tool
WRITE_SECONDS = 8
OPEN_SECONDS = 20  # that others may take to make the schema
GRACE_SECONDS = 2  # in which the server should have said itself that the time is over
# a client that was stopped inside its transaction holds up the others no longer than this
TURN_SECONDS = 5
IDLE_SECONDS = 10
DRIVER_OPTIONS = {
    # a network that swallows everything is noticed
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
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
    "57014": Trouble.TRANSIENT,  # took too long
    "25006": Trouble.READ_ONLY,
    "42501": Trouble.READ_ONLY,
    "42P01": Trouble.READ_ONLY,  # who may not use the schema any more sees no table in it
    "58": Trouble.AWAY,
    "XX": Trouble.DAMAGED,
}


# what other drivers' addresses say in other words, or what is of no concern to ours
RENAMED = {"ssl": "sslmode", "timeout": "connect_timeout"}
FOREIGN = {"command_timeout", "async_fallback", "statement_cache_size", "server_settings"}
TLS = {"true": "require", "1": "require", "false": "disable", "0": "disable"}


def translated(text: str) -> URL:
    """An address as libpq or the driver of an async engine takes it, for the sync driver.

    Several hosts, ``host1:5432,host2:5432``, are tried in turn; ``ssl`` of asyncpg becomes ``sslmode``.
    """
    parts = re.fullmatch(r"([^:/]+://(?:[^/?]*@)?)([^/?@]*,[^/?@]*)(.*)", text, re.DOTALL)
    several = parts[2].split(",") if parts else []
    url = make_url(f"{parts[1]}{parts[3] or '/'}" if parts else text)
    query = {RENAMED.get(name, name): value for name, value in url.query.items() if not foreign(name)}
    if "ssl" in url.query:
        query["sslmode"] = TLS.get(str(url.query["ssl"]).lower(), url.query["ssl"])
    if several:
        query["host"] = tuple(several)
    return url.set(query=query)


def foreign(name: str) -> bool:
    return name in FOREIGN or name.startswith("prepared_statement_")


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
        from asgi_llmobs.store.patience import PatientConnection  # needs the driver, which is optional

        engine = create_engine(
            self.url,
            pool_pre_ping=True,
            pool_size=2,
            max_overflow=-1,  # those who read are few; the writer must not wait for them
            hide_parameters=True,
            connect_args={name: value for name, value in DRIVER_OPTIONS.items() if name not in self.url.query},
        )
        event.listen(engine, "do_connect", lambda _dialect, _record, args, kw: PatientConnection.connect(*args, **kw))
        event.listen(engine, "checkin", rest)
        event.listen(engine, "do_execute", copied)
        event.listen(engine, "do_executemany", copied)
        return engine

    def turn(self) -> AbstractContextManager[Any]:
        """Connections do not wait for each other."""
        return nullcontext()

    def options(self, *, write: bool) -> dict[str, Any]:
        """What a connection is used with: all that one read sees is of one moment, as on SQLite."""
        if write:
            return {"llmobs_write": True}
        return {"llmobs_write": False, "isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    def begun(self, connection: Connection, *, write: bool, patient: bool) -> None:
        """Writers take turns, as on SQLite, so that none acts on what another is about to change."""
        if write:
            begin(connection, WRITE_SECONDS, TURN_SECONDS)
        else:
            begin(connection, LONG_READ_SECONDS if patient else READ_SECONDS)

    def look(self, connection: Connection) -> None:
        """Before the version of the schema is asked for."""
        begin(connection, OPEN_SECONDS)

    def claim(self, connection: Connection) -> None:
        """Before the schema is made: whoever comes second waits."""
        begin(connection, 0, OPEN_SECONDS)
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")

    def free_rows(self, engine: Engine, tables: Sequence[str]) -> None:
        """Free the room of dead rows of *tables*."""
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            driver: Any = connection.connection.driver_connection
            driver.patience = VACUUM_SECONDS
            for table in tables:
                connection.exec_driver_sql(f"VACUUM {SCHEMA}.{table}")

    @property
    def events(self) -> tuple[Any, ...]:
        """Nothing happens to its files that could be seen from here."""
        return ()

    def opened(self, engine: Engine) -> None:
        """Its schema is ready."""

    def closed(self) -> None:
        """Its engine is not there any more."""

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

    def low(self) -> bool:
        """How full the server's disk is cannot be seen from here."""
        return False

    def tight(self) -> bool:
        """See :meth:`low`."""
        return False

    def relieve(self) -> bool:
        """There is no room to make."""
        return False

    def tend(self) -> None:
        """Nothing is to be done."""

    def reset_after_fork(self) -> None:
        """Nothing of it is shared with the parent."""


def begin(connection: Connection, seconds: int, turn_seconds: int | None = None) -> None:
    """Settle how long each statement of this transaction may take, and wait for the turn to write.

    The settings hold for the transaction alone: behind a pooler the next one may find another session.

    Args:
        connection: At the beginning of a transaction.
        seconds: For each statement; 0 is for ever.
        turn_seconds: How long to wait for other writers; ``None`` where nothing is written.
    """
    driver: Any = connection.connection.dbapi_connection
    driver.patience = (seconds or OPEN_SECONDS) + GRACE_SECONDS
    statement = (
        f"SET LOCAL search_path TO {SCHEMA}; SET LOCAL statement_timeout TO '{seconds}s'; "
        f"SET LOCAL idle_in_transaction_session_timeout TO '{IDLE_SECONDS}s'"
    )
    if turn_seconds is not None:
        statement += f"; SET LOCAL lock_timeout TO '{turn_seconds}s'; SELECT pg_advisory_xact_lock({WRITE_LOCK})"
    connection.exec_driver_sql(statement)
    if not seconds:
        driver.patience = float("inf")


def take_time(connection: Connection, seconds: int) -> None:
    """Let each further statement of this transaction take *seconds*."""
    driver: Any = connection.connection.dbapi_connection
    driver.patience = seconds + GRACE_SECONDS
    connection.exec_driver_sql(f"SET LOCAL statement_timeout TO '{seconds}s'")


def rest(driver: Any, _record: Any) -> None:
    if driver is not None:
        del driver.patience  # back to that of the class


def copy(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert *rows*, each with all columns of *table* in order, by COPY in its binary form.

    That takes a third of the time of pipelined inserts, on both sides.
    """
    connection.exec_driver_sql(copy_statement(table), list(rows))


@cache
def copy_statement(table: Table) -> str:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    return f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)"


@cache
def copy_types() -> dict[str, list[str]]:
    """The types of the columns by the statement that fills them: in binary form the driver must not guess."""
    return {copy_statement(table): [type_of(column.type) for column in table.columns] for table in PARTITIONED}


def type_of(kind: Any) -> str:
    if isinstance(kind, SmallInteger):
        return "int2"
    if isinstance(kind, BigInteger):
        return "int8"
    return "bytea" if isinstance(kind, LargeBinary) else "text"


def copied(cursor: Any, statement: str, parameters: Any, _context: Any) -> bool | None:
    """Do a COPY in the place of an execution, so that its errors are told and its connection treated as any other's."""
    types = copy_types().get(statement)
    if types is None:
        return None
    with cursor.copy(statement) as sent:
        sent.set_types(types)
        for row in parameters if isinstance(parameters, list) else [parameters]:
            sent.write_row(row)
    return True
