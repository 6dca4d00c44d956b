"""Makes a large store of a small one: its traces again and again, with other ids and at later times.

    python -m benchmarks.grow SMALL LARGE [--times 10]

SMALL is the file that `benchmarks.queries --keep` left behind, LARGE a new SQLite file or the address of a PostgreSQL
server without our tables. To make and work on ten million calls takes more than an hour; to copy rows takes a fraction
of it. Texts are indexed like those of any call, totals and rollups are copied or multiplied, so that ``llmobs recompute
--check`` finds them right.
"""

import argparse
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from asgi_llmobs.store import partitions
from asgi_llmobs.store.contents import unpacked_content
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.postgres import SCHEMA, translated
from asgi_llmobs.store.tables import PARTITIONED, metadata

__all__ = ["carry", "grow"]

DAY_NS = 86_400_000_000_000
PORTION = 50_000  # rows copied in one transaction
LETTERS = "ghijklmnopqrstuvwxyz"  # what begins with them was no hexadecimal id before
COPIED = (
    "llmobs_spans", "llmobs_contents", "llmobs_attempts", "llmobs_properties", "llmobs_traces", "llmobs_sessions",
    "llmobs_user_rollups", "llmobs_rollups",
)  # fmt: skip
ROLLUPS = COPIED[-2:]
BY_KEY = COPIED[:3]  # these are copied in portions
OURS = (*COPIED, "llmobs_users", "llmobs_series")  # all that generated traffic fills
TOTALS = ("requests", "errors", "priced", "unpriced", "cost", "inputs", "input_tokens", "outputs", "output_tokens")
Words = Sequence[tuple[int, str, str]]


class Target(Protocol):
    """The store that grows."""

    def ask(self, statement: str) -> Sequence[tuple[Any, ...]]:
        """Run a statement; its rows."""

    def index(self, words: Words, offset: int) -> None:
        """Make the texts of rows searchable as those of the rows with keys *offset* higher."""

    def finish(self) -> None:
        """Leave it as a server that has had time would."""


class File:
    """A SQLite file."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000"):
            self.connection.execute(f"PRAGMA {setting}")

    def ask(self, statement: str) -> Sequence[tuple[Any, ...]]:
        return self.connection.execute(statement).fetchall()

    def index(self, words: Words, offset: int) -> None:
        rows = ((key + offset, sent, got) for key, sent, got in words)
        self.ask("BEGIN")
        self.connection.executemany("INSERT INTO llmobs_search (rowid, input, output) VALUES (?, ?, ?)", rows)
        self.ask("COMMIT")

    def finish(self) -> None:
        self.ask("PRAGMA optimize")
        self.ask("PRAGMA journal_mode=WAL")
        self.connection.close()


class Server:
    """A PostgreSQL server."""

    def __init__(self, url: str) -> None:
        import psycopg  # optional

        address = translated(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self.connection = psycopg.connect(address, autocommit=True, options=f"-c search_path={SCHEMA}")

    def ask(self, statement: str) -> Sequence[tuple[Any, ...]]:
        cursor = self.connection.execute(statement)
        return cursor.fetchall() if cursor.description else ()

    def index(self, words: Words, offset: int) -> None:
        if offset == 0:
            insert = "INSERT INTO llmobs_texts (key, words) VALUES (%s, to_tsvector('simple', %s))"
            with self.connection.transaction(), self.connection.cursor() as cursor:
                cursor.executemany(insert, [(key, f"{sent} {got}") for key, sent, got in words])
        elif words:  # they are there already, as those of the first rows
            low, high = words[0][0], words[-1][0]
            self.ask(
                f"INSERT INTO llmobs_texts (key, words) SELECT key + {offset}, words FROM llmobs_texts "
                f"WHERE key >= {low} AND key <= {high}"
            )

    def copy(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        with self.connection.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as into:
            for row in rows:
                into.write_row(row)

    def finish(self) -> None:
        self.ask("VACUUM ANALYZE")
        self.ask("CHECKPOINT")
        self.connection.close()


def grow(path: str, target: Target, times: int, step: int | None = None, searched: int = 1) -> None:
    """Let *target*, which holds what the store at *path* does, hold *times* as much.

    Args:
        path: A SQLite store that was not grown.
        target: A copy of it.
        times: How many times as much, up to 400.
        step: What lies between the keys of a row and its next copy; unless given, the number of rows.
        searched: Every so many copies one has bodies and can be searched.
    """
    small = sqlite3.connect(path)
    count, first, last = small.execute("SELECT max(key), min(start_ns), max(start_ns) FROM llmobs_spans").fetchone()
    days = last // DAY_NS - first // DAY_NS + 1  # copies share no day
    begin = 0 if step is None else first // DAY_NS * step
    apart = count if step is None else step * days
    words = [found for start in range(0, count, PORTION) for found in texts(small, start, start + PORTION)]
    moved = [(key + begin, sent, got) for key, sent, got in words]
    if step is not None:
        target.index(moved, 0)
    for copy in range(1, times):
        clock = time.monotonic()
        whole = (times - 1 - copy) % searched == 0  # the last one has
        for table in COPIED:
            if table == "llmobs_contents" and not whole:
                continue
            columns = [column.name for column in metadata.tables[table].columns]
            chosen = ", ".join(changed(table, name, copy, copy * apart, days) for name in columns)
            statement = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} FROM {table} WHERE "
            if table in BY_KEY:
                for start in range(begin, begin + count, PORTION):
                    target.ask(statement + f"key > {start} AND key <= {min(start + PORTION, begin + count)}")
            else:
                target.ask(statement + original(table, begin + count, first, days))
        for start in range(0, len(moved) if whole else 0, PORTION):
            target.index(moved[start : start + PORTION], copy * apart)
        print(f"copy {copy}: {time.monotonic() - clock:.0f} s", flush=True)
    sums = ", ".join(f"{name} = {name} * {times}" for name in TOTALS)
    target.ask(f"UPDATE llmobs_users SET {sums}, last_ns = last_ns + {(times - 1) * days * DAY_NS}")
    target.finish()


def changed(table: str, column: str, copy: int, offset: int, days: int) -> str:
    """What stands in *column* of a copied row."""
    later = copy * days
    if column == "key":
        return f"key + {offset}"
    if column in ("id", "trace_id", "parent_id", "root_id"):
        return f"'{LETTERS[copy // 20]}{LETTERS[copy % 20]}' || substr({column}, 3)"
    if column == "session_id":
        return f"session_id || '.{copy}'"
    if column.endswith("_ns") and column not in ("duration_ns", "first_token_ns", "own_ns", "waited_ns"):
        return f"CASE WHEN {column} < 0 THEN {column} ELSE {column} + {later * DAY_NS} END"  # -1: there is none
    if table in ROLLUPS and column == "start":
        return f"start + {later} * 24 / hours"
    return column


def original(table: str, last: int, first: int, days: int) -> str:
    """Which rows of *table* were there at the beginning."""
    end = first // DAY_NS + days
    if table == "llmobs_properties":
        return f"key <= {last}"
    if table in ROLLUPS:
        return f"start * hours < {end * 24}"
    return f"start_ns < {end * DAY_NS}"


def texts(small: sqlite3.Connection, start: int, end: int) -> Iterator[tuple[int, str, str]]:
    """Key and words of the rows after *start*, up to *end*."""
    for key, content in small.execute(
        "SELECT key, content FROM llmobs_contents WHERE key > ? AND key <= ?", (start, end)
    ):
        words = unpacked_content(content).words
        if words is not None:
            yield key, words.input, words.output


def carry(path: str, server: Server, url: str, times: int) -> int:
    """Bring the rows of the SQLite store at *path* to a PostgreSQL server, with partitions for *times* as many days.

    Every row arrived on the day on which it began.

    Returns:
        What lies between the keys of a row and of its copy one day later.
    """
    small = sqlite3.connect(path)
    first, last = small.execute("SELECT min(start_ns) / ?1, max(start_ns) / ?1 FROM llmobs_spans", (DAY_NS,)).fetchone()
    database, step = Database(url), 1 << partitions.NUMBER_BITS
    with database.write() as connection:
        partitions.make_days(connection, range(first, first + (last - first + 1) * times))
    database.dispose()
    for name in OURS:
        table = metadata.tables[name]
        columns = [column.name for column in table.columns]
        key = columns.index("key") if table in PARTITIONED else None
        rows = small.execute(f"SELECT {', '.join(columns)} FROM {name}")
        server.copy(name, columns, rows if key is None else (lifted(row, key, first * step) for row in rows))
    return step


def lifted(row: Sequence[Any], place: int, by: int) -> Sequence[Any]:
    return [*row[:place], row[place] + by, *row[place + 1 :]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("small")
    parser.add_argument("large")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--searched", type=int, default=1, help="one in so many copies has bodies and can be searched")
    options = parser.parse_args()
    if "://" in options.large:
        server = Server(options.large)
        step = carry(options.small, server, options.large, options.times)
        grow(options.small, server, options.times, step, options.searched)
    else:
        shutil.copyfile(options.small, options.large)
        grow(options.small, File(options.large), options.times, searched=options.searched)


if __name__ == "__main__":
    main()
