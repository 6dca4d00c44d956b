"""What a large trace costs to read, beside a small one: milliseconds of CPU, the best of several runs.

python -m benchmarks.trees [--spans 10000] [--depth 60] [--store URL] [--runs 7] [--paint]

With ``--paint`` also when Chromium first paints the page, by the wall clock (needs playwright and chromium).
"""

import argparse
import gc
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from asgi_llmobs.admin import Admin
from asgi_llmobs.admin.folding import Folding
from asgi_llmobs.admin.place import Place
from asgi_llmobs.queries.traces import get_trace
from asgi_llmobs.records import Kind, Request, Span
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from asgi_llmobs.testing import serve

START_NS = 1_790_000_000_000_000_000
PORTION = 2_000  # spans stored at a time

PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def spans(trace_id: str, count: int, depth: int) -> Iterator[Span]:
    """A chain of *depth* levels with the rest hung below it anywhere."""
    chance = random.Random(7)
    ids: list[str] = []
    for number in range(count):
        id = f"{trace_id[:6]}{number:010x}"
        parent = None if not ids else ids[-1] if number < depth else chance.choice(ids)
        common: dict[str, Any] = {
            "id": id, "trace_id": trace_id, "parent_id": parent, "name": f"node {number}",
            "start_ns": START_NS + number * 1_000_000, "duration_ns": chance.randrange(1, 10**9),
        }  # fmt: skip
        yield Request(kind=Kind.LLM, **common) if number % 3 == 2 else Span(**common)
        ids.append(id)


def measured(read: Callable[[], Any], runs: int) -> float:
    """CPU milliseconds of the best run."""
    times = []
    for _ in range(runs + 1):
        begin = time.process_time()
        read()
        times.append((time.process_time() - begin) * 1_000)
    return min(times[1:])


def painted(database: Database, trace_id: str, runs: int) -> tuple[list[float], int]:
    """Milliseconds from the click to the first contentful paint, a new tab each, and the rows in the page."""
    from playwright.sync_api import sync_playwright

    times, rows = [], 0
    admin = Admin(database=database, auth=lambda request: True, environ={})
    with serve(admin, lifespan="off") as url, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(runs + 1):
            page = browser.new_page()
            page.goto(f"{url}/traces/{trace_id}")
            # asked again and again, for the page's policy forbids what wait_for_function() does
            while (painted := page.evaluate(PAINTED)) is None:
                page.wait_for_timeout(20)
            times.append(painted)
            rows = page.locator("[data-row]").count()
            page.close()
        browser.close()
    return sorted(times[1:]), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=10_000)
    parser.add_argument("--depth", type=int, default=60)
    parser.add_argument("--store", help="database URL; a new SQLite file unless given")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--paint", action="store_true", help="measure the first paint in Chromium too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(options.store or f"sqlite:///{folder}/llmobs.db")
        for name, count in (("small", 100), ("large", options.spans)):
            trace_id = name.encode().hex().ljust(32, "0")
            made = list(spans(trace_id, count, min(options.depth, count)))
            for place in range(0, count, PORTION):
                Sink(database).write(made[place : place + PORTION])
            del made
            gc.collect()
            gc.freeze()  # what was made beforehand is no load of a real reader
            read = partial(get_trace, database, trace_id, project="default")
            page = measured(partial(read, choose=Folding(Place())), options.runs)
            whole = measured(read, options.runs)
            each = 1_000 * page / count
            print(f"{name} {count:6} spans: page {page:8.1f} ms, {each:6.1f} µs a span; whole {whole:8.1f} ms")
            if options.paint:
                times, rows = painted(database, trace_id, options.runs)
                print(f"      painted after {times[0]:.0f} to {times[-1]:.0f} ms, {rows} rows in the page")
        database.dispose()


if __name__ == "__main__":
    main()
