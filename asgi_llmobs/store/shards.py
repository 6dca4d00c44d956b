"""Shards: further PostgreSQL servers on which the partitions of days lie in turn, reached through postgres_fdw.

That a database has shards is a fact of that database: everybody who writes into it finds them there. They are made
known once, by :func:`add_shard` (``llmobs shard``) or by the statements in the documentation.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, make_url

__all__ = ["add_shard", "drop_leftovers", "drop_table", "each_remote", "make_table", "servers"]

PREFIX = "llmobs_shard_"
SCHEMA = "llmobs_shard"  # a server that is itself a store keeps its own rows in another one
# rows travel in large lots, and several shards are asked at a time
OPTIONS = {"batch_size": "1000", "fetch_size": "5000", "async_capable": "true", "connect_timeout": "5"}
COLUMNS = """
SELECT quote_ident(attname), format_type(atttypid, atttypmod), attnotnull
FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = %s"
REMOTE = """
SELECT srvname, relname FROM pg_foreign_table JOIN pg_foreign_server ON pg_foreign_server.oid = ftserver
JOIN pg_class ON pg_class.oid = ftrelid WHERE srvname LIKE %s
"""
LYING = f"SELECT tablename::text FROM pg_tables WHERE schemaname = '{SCHEMA}'"  # noqa: S608


def servers(connection: Connection) -> list[str]:
    """The shards that are known, in order."""
    query = "SELECT srvname FROM pg_foreign_server WHERE srvname LIKE %s ORDER BY srvname"
    return list(connection.exec_driver_sql(query, (f"{PREFIX}%",)).scalars())


def add_shard(connection: Connection, url: str) -> str:
    """Make the PostgreSQL database at *url* the next shard; days that have no partition yet will lie there in turn.

    Args:
        connection: In a write transaction, as a role that may create extensions and servers.
        url: How the database itself reaches the shard, with user and password.

    Returns:
        The name of the foreign server.
    """
    ask = connection.exec_driver_sql
    for extension in ("postgres_fdw", "dblink"):
        ask(f"CREATE EXTENSION IF NOT EXISTS {extension}")
    address = make_url(url)
    name = f"{PREFIX}{len(servers(connection)) + 1:03d}"
    at: dict[str, Any] = {"host": address.host, "port": address.port, "dbname": address.database}
    who = {"user": address.username, "password": address.password}
    ask(f"CREATE SERVER {name} FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({options({**at, **OPTIONS})})")
    ask(f"CREATE USER MAPPING FOR CURRENT_USER SERVER {name} OPTIONS ({options(who)})")
    remotely(connection, name, f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    return name


def options(values: dict[str, Any]) -> str:
    given = {name: str(value).replace("'", "''") for name, value in values.items() if value is not None}
    return ", ".join(f"{name} '{value}'" for name, value in given.items())


def remotely(connection: Connection, server: str, statement: str) -> None:
    connection.exec_driver_sql(f"SELECT {dblink(connection)}.dblink_exec(%s, %s)", (server, statement))


def dblink(connection: Connection) -> str:
    """The schema that the extension of this name was put into."""
    query = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'dblink'"
    return str(connection.exec_driver_sql(query).scalar())


def make_table(connection: Connection, server: str, table: Table, name: str, unique: Sequence[Sequence[str]]) -> None:
    """Make the table *name*, a part of *table*, on *server*, and its foreign table here."""
    ask = connection.exec_driver_sql
    there = f"{SCHEMA}.{name}"
    columns = [
        f"{column} {kind}{' NOT NULL' if needed else ''}" for column, kind, needed in ask(COLUMNS, (table.name,))
    ]
    statements = [f"CREATE TABLE IF NOT EXISTS {there} ({', '.join(columns)}, PRIMARY KEY ({', '.join(unique[0])}))"]
    for place, further in enumerate(unique[1:]):
        statements.append(f"CREATE UNIQUE INDEX IF NOT EXISTS {name}_unique{place} ON {there} ({', '.join(further)})")
    for index, definition in ask(INDEXES, (table.name,)):
        kind = definition.split(" USING ", 1)[1]
        statements.append(f"CREATE INDEX IF NOT EXISTS {name}{index.removeprefix(table.name)} ON {there} USING {kind}")
    remotely(connection, server, "; ".join(statements))
    ask(
        f"CREATE FOREIGN TABLE {name} ({', '.join(columns)}) SERVER {server} "
        f"OPTIONS (schema_name '{SCHEMA}', table_name '{name}')"
    )


def each_remote(connection: Connection, table: str, change: str) -> None:
    """Run ``ALTER TABLE … change`` on the parts of *table* that lie on shards."""
    for server, name in connection.exec_driver_sql(REMOTE, (f"{PREFIX}%",)).all():
        if name.startswith(f"{table}_"):
            remotely(connection, server, f"ALTER TABLE {SCHEMA}.{name} {change}")


def drop_table(connection: Connection, name: str) -> None:
    """Drop the part *name*. On a shard its rows stay until :func:`drop_leftovers`: they must outlive a rollback."""
    query = "SELECT relkind::text FROM pg_class WHERE oid = to_regclass(%s)"
    kind = "FOREIGN TABLE" if connection.exec_driver_sql(query, (name,)).scalar() == "f" else "TABLE"
    connection.exec_driver_sql(f"DROP {kind} IF EXISTS {name}")


def drop_leftovers(connection: Connection) -> None:
    """Drop what lies on shards although its part here was dropped by an earlier transaction."""
    ask = connection.exec_driver_sql
    known = {(server, name) for server, name in ask(REMOTE, (f"{PREFIX}%",))}
    for server in servers(connection):
        lying = ask(f"SELECT name FROM {dblink(connection)}.dblink(%s, %s) AS found (name text)", (server, LYING))  # noqa: S608
        for name in lying.scalars().all():
            if (server, name) not in known:
                remotely(connection, server, f"DROP TABLE {SCHEMA}.{name}")
