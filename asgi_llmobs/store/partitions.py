"""Daily partitions, on PostgreSQL: made ahead of time and when they are needed, dropped whole.

The key of a row says on which day it arrived: ``day << 36 | number``, with the days counted from 1970. So one range of
keys is one day in every table whose rows hang on a span, and a single scheme parts them all. What claims to have begun
later than tomorrow goes into a partition of its own, above all days. With that a span that began on some day is never
found below the day before, however late it is looked for again.

The whole has no primary key: each partition has its own, so that one can also lie on another server
(:mod:`asgi_llmobs.store.shards`). Nothing is written twice because writers take turns and look rows up first.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, Table
from sqlalchemy.schema import CreateColumn

from asgi_llmobs.errors import StoreError
from asgi_llmobs.store import shards
from asgi_llmobs.store.tables import PARTITIONED, metadata

__all__ = ["Day", "days", "drop", "drop_empty", "first_key", "make_tables", "new_keys", "part"]

NUMBER_BITS = 36
SECOND = 1_000_000_000
DAY_NS = 86_400 * SECOND
FAR = 1 << 18  # stands for the day of all that claims to begin later than tomorrow
AHEAD = 2  # days whose partitions are made before they begin
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SEQUENCE = "llmobs_keys"
LAST = PARTITIONED[-1].name
KEYS = f"""
SELECT extract(epoch FROM now())::bigint / 86400,
  to_regclass('{LAST}_' || to_char(now() AT TIME ZONE 'UTC' + interval '1 day', 'YYYYMMDD')) IS NOT NULL,
  nextval('{SEQUENCE}')
FROM generate_series(1, %s)
"""  # noqa: S608
PARTITIONS = """
SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = to_regclass(%s)
ORDER BY relname
"""


class Day(NamedTuple):
    """A day of arrival that has a partition; its spans have keys from ``low`` to below ``high``."""

    number: int
    low: int
    high: int

    @property
    def end_ns(self) -> int:
        """When it ends, in nanoseconds since 1970."""
        return (self.number + 1) * DAY_NS


def first_key(start_ns: int) -> int:
    """The lowest key that a span which began at *start_ns* can have."""
    return max(0, min(start_ns // DAY_NS - 1, FAR)) << NUMBER_BITS


def new_keys(connection: Connection, starts_ns: Sequence[int]) -> list[int]:
    """Keys for new spans, in order; the partitions for them are there then.

    Args:
        connection: In a write transaction.
        starts_ns: When each of them says it began.
    """
    rows = connection.exec_driver_sql(KEYS, (len(starts_ns),)).all()
    today, prepared, _ = rows[0]
    if not prepared:
        make_days(connection, (*range(today, today + AHEAD + 1), FAR))
    far = (today + 2) * DAY_NS
    return [
        (FAR if start >= far else today) << NUMBER_BITS | row[2] for start, row in zip(starts_ns, rows, strict=True)
    ]


def make_days(connection: Connection, numbers: Sequence[int]) -> None:
    """Make the partitions of those days that have none; days in turn lie on the shards, where there are any."""
    servers = shards.servers(connection)
    for table in PARTITIONED:
        present = set(connection.exec_driver_sql(PARTITIONS, (table.name,)).scalars())
        for day in numbers:
            name = partition_name(table, day)
            if name in present:
                continue
            if servers and day != FAR:
                shards.make_table(connection, servers[day % len(servers)], table, name, unique_keys(table))
            else:
                make_partition(connection, table, name)
            low, high = day << NUMBER_BITS, "MAXVALUE" if day == FAR else day + 1 << NUMBER_BITS
            connection.exec_driver_sql(
                f"ALTER TABLE {table.name} ATTACH PARTITION {name} FOR VALUES FROM ({low}) TO ({high})"
            )


def make_partition(connection: Connection, table: Table, name: str) -> None:
    # made apart and attached, which holds up no reader of the whole as PARTITION OF would
    connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING ALL)")
    for place, columns in enumerate(unique_keys(table)):
        kind = "UNIQUE" if place else "PRIMARY KEY"
        connection.exec_driver_sql(f"ALTER TABLE {name} ADD {kind} ({', '.join(columns)})")


def unique_keys(table: Table) -> list[list[str]]:
    """The columns of the primary key, and of each further index that takes a value only once."""
    primary = [column.name for column in table.primary_key.columns]
    return [primary, *([column.name for column in index.columns] for index in table.indexes if index.unique)]


def partition_name(table: Table, day: int) -> str:
    return f"{table.name}_far" if day == FAR else f"{table.name}_{EPOCH + timedelta(days=day):%Y%m%d}"


def day_of(name: str) -> int | None:
    """The day that the partition *name* is for; ``None`` where it is for none."""
    text = name.rsplit("_", 1)[1]
    return (datetime.strptime(f"{text} +0000", "%Y%m%d %z") - EPOCH).days if text.isdecimal() else None


def make_tables(connection: Connection) -> None:
    """Make the parted tables that are missing, still without any part.

    Raises:
        StoreError: They are there, but not parted: no version that was released has made them.
    """
    ask = connection.exec_driver_sql
    ask(f"CREATE SEQUENCE IF NOT EXISTS {SEQUENCE} MAXVALUE {(1 << NUMBER_BITS) - 1} CYCLE")
    for table in PARTITIONED:
        kind = ask("SELECT relkind::text FROM pg_class WHERE oid = to_regclass(%s)", (table.name,)).scalar()
        if kind == "r":
            raise StoreError(f"{table.name} is from before the first release and has no partitions: drop its schema")
        if kind is None:
            columns = (CreateColumn(column).compile(dialect=connection.dialect) for column in table.columns)
            ask(f"CREATE TABLE {table.name} ({', '.join(map(str, columns))}) PARTITION BY RANGE (key)")
            for index in table.indexes:
                if not index.unique:
                    index.create(connection)


def days(connection: Connection) -> list[Day]:
    """The days of arrival that have a partition, oldest first; none on SQLite, which has no partitions."""
    if connection.dialect.name == "sqlite":
        return []
    names = connection.exec_driver_sql(PARTITIONS, (PARTITIONED[0].name,)).scalars()
    numbers = (day_of(name) for name in names)
    return [Day(day, day << NUMBER_BITS, (day + 1) << NUMBER_BITS) for day in numbers if day is not None]


def drop_empty(connection: Connection) -> int:
    """Drop the partitions of past days that hold no span any more; how many.

    Args:
        connection: In a write transaction.

    Raises:
        StoreError: Somebody reads for so long that it could not be done now, out of the transaction.
    """
    gone = 0
    shards.drop_leftovers(connection)
    for day in days(connection):
        query = f"SELECT extract(epoch FROM now()) >= %s AND NOT EXISTS (SELECT FROM {part(day)})"  # noqa: S608
        if connection.exec_driver_sql(query, (day.end_ns // SECOND,)).scalar():
            drop(connection, day)
            gone += 1
    return gone


def part(day: Day, table: str = PARTITIONED[0].name) -> str:
    """The name of the partition of *table* that *day* has."""
    return partition_name(metadata.tables[table], day.number)


def drop(connection: Connection, day: Day) -> None:
    """Drop all partitions of *day*. What is kept beside the spans (traces, totals) is the caller's business.

    Args:
        connection: In a write transaction, which should have nothing else of length to do: who reads waits.

    Raises:
        StoreError: As with :func:`drop_empty`.
    """
    # dropping waits for those who read, and everybody else waits behind it
    connection.exec_driver_sql("SET LOCAL lock_timeout TO '1s'")
    for table in PARTITIONED:
        shards.drop_table(connection, partition_name(table, day.number))
