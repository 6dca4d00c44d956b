"""What the pages' queries cost over a store of generated spans: milliseconds of CPU, the median of several runs.

python -m benchmarks.queries [--spans 100000] [--store URL] [--keep FOLDER] [--runs 9]
"""

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.figures import edges
from asgi_llmobs.queries.requests import get_request, list_requests
from asgi_llmobs.queries.sessions import get_session, list_sessions
from asgi_llmobs.queries.traces import get_trace, list_traces
from asgi_llmobs.spool import Entry
from asgi_llmobs.store.database import Database
from benchmarks.generate import RARE, START_NS, entries
from benchmarks.ingest import fill

DAY_NS = 86_400_000_000_000
PORTION = 10_000  # spans made and stored at a time


def cases(database: Database) -> dict[str, Callable[[], Any]]:
    """Every query by its name."""
    newest = list_requests(database, Filter())
    request, trace = newest.rows[0].id, newest.rows[0].trace_id
    word, phrase = common_words(database, request)
    session = list_sessions(database, Filter()).rows[0].session_id
    tenant = (("tenant", "t7"),)

    def requests(**given: Any) -> Callable[[], Any]:
        return lambda: list_requests(database, Filter(**given))

    return {
        "newest requests": requests(),
        "second page": lambda: list_requests(database, Filter(), cursor=newest.next_cursor),
        "model": requests(model=("gpt-4o",)),
        "model, one day, property": requests(
            model=("gpt-4o",), since_ns=START_NS, until_ns=START_NS + DAY_NS, properties=tenant
        ),
        "property": requests(properties=tenant),
        "errors": requests(status=("error",)),
        "one user": requests(user=("user-7",)),
        "text, rare word": requests(text=RARE),
        "text, common word": requests(text=word),
        "text, phrase": requests(text=f'"{phrase}"'),
        "newest traces": lambda: list_traces(database, Filter()),
        "traces of a model": lambda: list_traces(database, Filter(model=("gpt-4o",))),
        "sessions": lambda: list_sessions(database, Filter()),
        "one session": lambda: get_session(database, session, project="default"),
        "one tree": lambda: get_trace(database, trace, project="default"),
        "one request in full": lambda: get_request(database, request, project="default"),
    }


def common_words(database: Database, id: str) -> tuple[str, str]:
    """A word that very many texts hold, and two words in a row that few do."""
    found = get_request(database, id, project="default")
    assert found is not None
    words = found.request.text.replace(".", "").split()
    return max(words[:40], key=words.count), " ".join(words[4:6])


def measured(query: Callable[[], Any], runs: int) -> tuple[float, Any]:
    """CPU milliseconds of the median run, and what the query gives."""
    result = query()
    times = []
    for _ in range(runs):
        begin = time.process_time()
        query()
        times.append((time.process_time() - begin) * 1000)
    return statistics.median(times), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--store", help="database URL, filled where it is empty; a new SQLite file unless given")
    parser.add_argument("--keep", help="folder for that file; it is filled only where it is not there yet")
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(options.keep or folder, f"llmobs-{options.spans}.db")
        database = Database(options.store or f"sqlite:///{path}")
        if edges(database, "default") == (None, None):
            store(database, options.spans)
        for name, query in cases(database).items():
            milliseconds, result = measured(query, options.runs)
            rows: Sequence[Any] | None = getattr(result, "rows", None)
            print(f"{name:28} {milliseconds:8.2f} ms" + (f"  {len(rows)} rows" if rows is not None else ""))
        database.dispose()


def store(database: Database, spans: int) -> None:
    portion: list[Entry] = []
    for entry in entries(spans):
        portion.append(entry)
        if len(portion) == PORTION:
            fill(database, portion, 500)
            portion = []
    fill(database, portion, 500)
    gc.collect()


if __name__ == "__main__":
    main()
