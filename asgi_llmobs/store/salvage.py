"""What still reads of a damaged database that was set aside, row by row, into the one in its place."""

import os
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, Protocol
from urllib.parse import quote

import orjson
from sqlalchemy import Connection, Table, select

from asgi_llmobs.records import Outcome, Span
from asgi_llmobs.store.contents import packed_content, unpacked_content
from asgi_llmobs.store.database import Database, insert, new_keys
from asgi_llmobs.store.leases import Lease
from asgi_llmobs.store.repair import quarantined
from asgi_llmobs.store.rows import Rows, property_rows
from asgi_llmobs.store.sqlite import SQLite
from asgi_llmobs.store.tables import AttemptRow, ContentRow, MetaRow, PinRow, ScoreRow, SpanRow
from asgi_llmobs.store.totals import Totals
from asgi_llmobs.store.values import UNPACKABLE

__all__ = ["Salvage"]

STEP = 64  # keys looked at in one go
STEP_SECONDS = 0.05
SETTLE_SECONDS = 3.0  # in which other processes leave the file that was set aside
LOOK_SECONDS = 30.0
LEASE_SECONDS = 60.0
ROW_BYTES = 100  # that a span takes at least
HEADER = 100
DONE = "done"

_meta: Any = MetaRow.__table__  # type: ignore[attr-defined]
WHOLE: tuple[Any, ...] = (ScoreRow.__table__, PinRow.__table__)  # type: ignore[attr-defined]  # what people said
_spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
EMPTY = packed_content({}, {}, None)
UNREADABLE = (*UNPACKABLE, ValueError, TypeError, IndexError, struct.error)
COLUMN = {column.name: place for place, column in enumerate(_spans.columns)}


class Batch(Protocol):
    """What writes rows in one transaction."""

    connection: Connection
    totals: Totals

    def find(self, places: Mapping[tuple[str, str], Span]) -> Mapping[tuple[str, str], Any]:
        """The rows that exist already, by project and id."""

    def insert_rows(self, rows: Sequence[Rows]) -> None:
        """Rows of spans that are not there yet."""


class Salvage:
    """Copies out of damaged files, a small step at a time, in one process of all that share the store.

    Args:
        database: What stands in their place.
        begin: Makes what writes rows into a transaction.
    """

    def __init__(self, database: Database, begin: Callable[[Connection], Batch]) -> None:
        self._database = database
        self._begin = begin
        self._lease = Lease(database, "salvage")
        self._due = 0.0
        self._known = 0  # events that were looked at
        self._work: Iterator[None] | None = None

    def step(self) -> None:
        """Do a little, if there is anything to do.

        Raises:
            StoreError: The database cannot be read or written; it is tried again.
        """
        path, now = self._database.path, time.monotonic()
        happened = len(self._database.events)
        if happened != self._known:
            self._known, self._due = happened, now + SETTLE_SECONDS
        if path is None or now < self._due:
            return
        if self._work is None:
            self._due = now + LOOK_SECONDS
            waiting = self._waiting(path)
            if not waiting or not self._lease.take(LEASE_SECONDS):
                return
            self._work = self._copied(waiting[0])
        self._due = now
        work, self._work = self._work, None  # an error on the way begins it anew, where it had got to
        while next(work, DONE) != DONE:
            if time.monotonic() >= now + STEP_SECONDS:
                self._work = work
                return

    def _waiting(self, path: str) -> list[str]:
        files = quarantined(path)
        if not files:
            return []
        with self._database.read() as connection:
            return [file for file in files if progress(connection, file) is not None]

    def _copied(self, file: str) -> Iterator[None]:
        source = Source(file)
        try:
            with self._database.read() as connection:
                key, copied = progress(connection, file) or (0, 0)
            for low, high in source.stretches(key + 1):
                found = list(source.spans(low, high))
                with self._database.write() as connection:
                    if not self._lease.renew(connection, LEASE_SECONDS):
                        return
                    copied += store(self._begin(connection), source, found)
                    note(connection, file, f"{high} {copied}")
                yield
            with self._database.write() as connection:
                for table in WHOLE:
                    add(connection, table, source.whole(table))
                note(connection, file, f"{DONE} {copied}")
        finally:
            source.close()
        backend = self._database.backend
        if isinstance(backend, SQLite):
            unread = f", {source.unread} places could not be read" if source.unread else ""
            backend.tell("salvaged", f"{copied} spans were copied out of {os.path.basename(file)}{unread}")


def progress(connection: Connection, file: str) -> tuple[int, int] | None:
    """The last key that was copied out of *file* and how many spans that made; ``None`` where all is done."""
    query = _meta.select().with_only_columns(_meta.c.value).where(_meta.c.name == label(file))
    place, _, copied = (connection.execute(query).scalar() or "0 0").partition(" ")
    return None if place == DONE else (int(place), int(copied))


def note(connection: Connection, file: str, value: str) -> None:
    insert(connection, _meta, [(label(file), value)], replace=True)


def label(file: str) -> str:
    return f"salvage:{os.path.basename(file)}"


class Source:
    """A damaged file, read as far as it reads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.unread = 0
        self._connection = self._opened()

    def _opened(self) -> sqlite3.Connection:
        try:
            return connected(self.path)
        except sqlite3.DatabaseError:
            with suppress(OSError, sqlite3.Error):
                mend_header(self.path)
        return read_only(self.path)

    def close(self) -> None:
        """Leave the file as it is."""
        self._connection.close()

    def stretches(self, first: int) -> Iterator[tuple[int, int]]:
        """All keys from *first* on, in stretches."""
        last = self._last()
        for low in range(first, last + 1, STEP):
            yield low, min(low + STEP - 1, last)

    def _last(self) -> int:
        """The highest key, as far as anything says it."""
        found = [0]
        for table in ("llmobs_spans", "llmobs_contents"):
            for order in ("DESC", "ASC"):
                rows = self._rows(f"SELECT key FROM {table} ORDER BY key {order} LIMIT 1")  # noqa: S608
                found += [row[0] for row in rows or ()]
        with suppress(OSError):
            if any(found) and self._rows("SELECT max(key) FROM llmobs_spans") is None:
                return max(*found, os.path.getsize(self.path) // ROW_BYTES)
        return max(found)

    def spans(self, low: int, high: int) -> Iterator[tuple[Any, ...]]:
        """The rows of spans with keys from *low* to *high*; where one cannot be read, its neighbours can."""
        return self._each(_spans, low, high)

    def children(self, model: Any, low: int, high: int) -> list[tuple[Any, ...]]:
        """The rows of another table with keys in that range."""
        return list(self._each(model.__table__, low, high))

    def whole(self, table: Table) -> list[tuple[Any, ...]]:
        """All rows of a small table; none where it cannot be read."""
        names = ", ".join(f'"{column.name}"' for column in table.columns)
        return self._rows(f"SELECT {names} FROM {table.name}") or []  # noqa: S608

    def _each(self, table: Table, low: int, high: int) -> Iterator[tuple[Any, ...]]:
        names = ", ".join(f'"{column.name}"' for column in table.columns)
        statement = f"SELECT {names} FROM {table.name} WHERE key BETWEEN {low} AND {high} ORDER BY key"  # noqa: S608
        rows = self._rows(statement)
        if rows is not None:
            yield from rows
        elif low == high:
            self.unread += table is _spans
        else:
            middle = (low + high) // 2
            yield from self._each(table, low, middle)
            yield from self._each(table, middle + 1, high)

    def _rows(self, statement: str) -> list[tuple[Any, ...]] | None:
        try:
            return self._connection.execute(statement).fetchall()
        except sqlite3.DatabaseError:
            return None


def read_only(path: str) -> sqlite3.Connection:
    # a salvage that nobody goes on with is closed by whichever thread collects it
    return sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, check_same_thread=False)


def connected(path: str) -> sqlite3.Connection:
    connection = read_only(path)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def mend_header(path: str) -> None:
    """Give a file that was set aside the header it must have had; what stood there is kept beside it."""
    pattern = sqlite3.connect(":memory:")
    pattern.executescript("PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL; CREATE TABLE one (a)")
    header = bytearray(pattern.serialize()[:HEADER])
    pattern.close()
    header[18:20] = b"\x02\x02"  # with a log
    header[28:32] = (os.path.getsize(path) // 8192).to_bytes(4, "big")
    with open(path, "r+b") as file, open(f"{path}-header", "xb") as kept:
        os.chmod(kept.name, 0o600)
        kept.write(file.read(HEADER))
        file.seek(0)
        file.write(header)


def store(batch: Batch, source: Source, found: Sequence[tuple[Any, ...]]) -> int:
    """Write spans that are not there yet, under new keys; how many."""
    spans = {(row[COLUMN["project"]], row[COLUMN["id"]]): row for row in found}
    known = batch.find({place: span_of(row) for place, row in spans.items()})
    missing = [row for place, row in spans.items() if place not in known]
    if not missing:
        return 0
    parts = Parts(source, missing[0][0], missing[-1][0])
    keys = new_keys(batch.connection, [row[COLUMN["start_ns"]] for row in missing])
    batch.insert_rows([parts.rows(row, key) for row, key in zip(missing, keys, strict=True)])
    batch.totals.refresh()
    return len(missing)


def add(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write those of *rows* that are not there yet."""
    keys = [place for place, column in enumerate(table.columns) if column.primary_key]
    there = {tuple(row) for row in connection.execute(select(*table.primary_key.columns))}
    insert(connection, table, [row for row in rows if tuple(row[key] for key in keys) not in there])


def span_of(row: tuple[Any, ...]) -> Span:
    return Span(**{label: row[COLUMN[label]] for label in ("id", "trace_id", "project", "start_ns")})


class Parts:
    """What hangs on some spans of a damaged file."""

    def __init__(self, source: Source, low: int, high: int) -> None:
        self._contents = dict(source.children(ContentRow, low, high))
        self._attempts = grouped(source.children(AttemptRow, low, high), lambda row: int(row[0]))

    def rows(self, span: tuple[Any, ...], key: int) -> Rows:
        """The rows of *span* under its new *key*."""
        start, project = span[COLUMN["start_ns"]], span[COLUMN["project"]]
        properties = span[COLUMN["properties"]]
        packed = self._contents.get(span[0], EMPTY)
        try:
            words = unpacked_content(packed).words
        except UNREADABLE:
            packed, words = EMPTY, None
        return Rows(
            record=span_of(span),
            span=(key, *span[1:]),
            content=(key, packed),
            attempts=[(key, *row[1:]) for row in self._attempts.get(span[0], [])],
            properties=property_rows(project, orjson.loads(properties) if properties else {}, start, key),
            words=None if words is None or span[COLUMN["outcome"]] == Outcome.RUNNING else (key, *words),
        )


def grouped(rows: list[tuple[Any, ...]], by: Callable[[tuple[Any, ...]], int]) -> dict[int, list[tuple[Any, ...]]]:
    return {key: list(group) for key, group in groupby(rows, by)}
