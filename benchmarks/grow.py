"""Makes a large SQLite store of a smaller one: its traces again and again, with other ids and at later times.

    python -m benchmarks.grow SMALL LARGE [--times 10]

To make and work on ten million calls takes more than an hour; to copy their rows takes a fraction of it. Texts are
indexed like those of any call, totals and rollups are copied or multiplied, so that ``llmobs recompute --check`` finds
them right.
"""

import argparse
import shutil
import sqlite3
import time
from typing import Any

from asgi_llmobs.store.contents import unpacked_content
from asgi_llmobs.store.tables import metadata

__all__ = ["grow"]

DAY_NS = 86_400_000_000_000
PORTION = 50_000  # rows copied in one transaction
FIRST = 103  # "g": what begins with it was no hexadecimal id before
COPIED = (
    "llmobs_spans", "llmobs_contents", "llmobs_attempts", "llmobs_properties", "llmobs_traces", "llmobs_sessions",
    "llmobs_user_days", "llmobs_rollups",
)  # fmt: skip
BY_KEY = COPIED[:3]  # these are copied in portions
TOTALS = ("requests", "errors", "priced", "unpriced", "cost", "inputs", "input_tokens", "outputs", "output_tokens")


def grow(path: str, times: int) -> None:
    """Let the store at *path* hold *times* as much.

    Raises:
        sqlite3.Error: It is no store, or somebody else writes to it.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    for setting in ("synchronous=OFF", "cache_size=-1000000", "wal_autocheckpoint=20000"):
        connection.execute(f"PRAGMA {setting}")
    ask = connection.execute
    count, first, last = ask("SELECT max(key), min(start_ns), max(start_ns) FROM llmobs_spans").fetchone()
    days = last // DAY_NS - first // DAY_NS + 1  # copies share no day
    for copy in range(1, times):
        begin = time.monotonic()
        for table in COPIED:
            columns = [column.name for column in metadata.tables[table].columns]
            chosen = ", ".join(changed(table, name, copy, count, days) for name in columns)
            statement = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} FROM {table}"
            if table in BY_KEY:
                for start in range(0, count, PORTION):
                    ask(f"{statement} WHERE key > ? AND key <= ?", (start, min(start + PORTION, count)))
            else:
                ask(f"{statement} WHERE {original(table, count, first, days)}")
        for start in range(0, count, PORTION):
            index(connection, start, min(start + PORTION, count), copy * count)
        print(f"copy {copy}: {time.monotonic() - begin:.0f} s", flush=True)
    sums = ", ".join(f"{name} = {name} * {times}" for name in TOTALS)
    ask(f"UPDATE llmobs_users SET {sums}, last_ns = last_ns + {(times - 1) * days * DAY_NS}")
    ask("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    ask("PRAGMA optimize").fetchall()
    connection.close()


def changed(table: str, column: str, copy: int, count: int, days: int) -> str:
    """What stands in *column* of a copied row."""
    later = copy * days
    if column == "key":
        return f"key + {copy * count}"
    if column in ("id", "trace_id", "parent_id", "root_id"):
        return f"char({FIRST + copy}) || substr({column}, 2)"
    if column == "session_id":
        return f"session_id || '.{copy}'"
    if column.endswith("_ns") and column not in ("duration_ns", "first_token_ns"):
        return f"iif({column} < 0, {column}, {column} + {later * DAY_NS})"  # -1: there is none
    if column == "day":
        return f"day + {later}"
    if table == "llmobs_rollups" and column == "start":
        return f"start + {later} * 24 / hours"
    return column


def original(table: str, count: int, first: int, days: int) -> str:
    """Which rows of *table* were there at the beginning."""
    end = first // DAY_NS + days
    if table == "llmobs_properties":
        return f"key <= {count}"
    if table == "llmobs_user_days":
        return f"day < {end}"
    if table == "llmobs_rollups":
        return f"start * hours < {end * 24}"
    return f"start_ns < {end * DAY_NS}"


def index(connection: sqlite3.Connection, start: int, end: int, offset: int) -> None:
    """Give the texts of the rows after *start* to the full-text index again, as those of their copies."""
    rows = connection.execute("SELECT key, content FROM llmobs_contents WHERE key > ? AND key <= ?", (start, end))
    texts: list[tuple[Any, ...]] = []
    for key, content in rows:
        words = unpacked_content(content).words
        if words is not None:
            texts.append((key + offset, *words))
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO llmobs_search (rowid, input, output) VALUES (?, ?, ?)", texts)
    connection.execute("COMMIT")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("small")
    parser.add_argument("large")
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args()
    shutil.copyfile(options.small, options.large)
    grow(options.large, options.times)


if __name__ == "__main__":
    main()
