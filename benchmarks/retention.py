"""A day that goes on PostgreSQL: dropped whole, or taken out in small steps, beside another process that writes.

    python -m benchmarks.retention --store URL [--steps-store URL] [--spans 20000]

The stores must be empty: each gets a day of spans that arrived nine days ago, and some that arrived today. While the
day goes, another process writes a small batch every 20 ms; how long its batches took is what writers notice.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from typing import Any
from unittest import mock

from asgi_llmobs.config import Config
from asgi_llmobs.limits import Retention
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.pricing import Pricer
from asgi_llmobs.retention import Pruned, lease_of, prune, steps
from asgi_llmobs.store import partitions
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from benchmarks import generate

DAY_NS = partitions.DAY_NS
LATER = "(now() - interval '9 days')"
PAUSE_SECONDS = 0.02
BATCH = 200


def fill(stores: list[Database], spans: int) -> int:
    """A day of *spans*, and a tenth as many of today; when the last of the old ones had ended."""
    pipeline, today = Pipeline(Config.make(), Pricer()), time.time_ns() // DAY_NS * DAY_NS
    for seed, start, count, query in (
        (1, today - 9 * DAY_NS, spans, partitions.KEYS.replace("now()", LATER)),
        (2, today, spans // 10, partitions.KEYS),
    ):
        with mock.patch.object(generate, "START_NS", start), mock.patch.object(partitions, "KEYS", query):
            made = [pipeline.process(entry) for entry in generate.entries(count, seed=seed)]
            for database in stores:
                for first in range(0, len(made), BATCH):
                    Sink(database).write(made[first : first + BATCH])
    return today - 7 * DAY_NS


def write(url: str, done: Event, said: Any) -> None:
    """The other process: says how many seconds each of its batches took."""
    pipeline, database = Pipeline(Config.make(), Pricer()), Database(url)
    sink, took = Sink(database), []
    for seed in range(1_000_000):
        batch = [pipeline.process(entry) for entry in generate.entries(5, seed=seed + 10)]
        begin = time.perf_counter()
        sink.write(batch)
        took.append(time.perf_counter() - begin)
        if done.wait(PAUSE_SECONDS):
            break
    said.put(took)
    database.dispose()


def beside(url: str, work: Any) -> tuple[float, list[float]]:
    """How long *work* took, and how long each batch of the other process meanwhile."""
    context = multiprocessing.get_context("spawn")
    done, said = context.Event(), context.SimpleQueue()
    other = context.Process(target=write, args=(url, done, said))
    other.start()
    time.sleep(3)
    begin = time.perf_counter()
    work()
    took = time.perf_counter() - begin
    done.set()
    found = said.get()
    other.join()
    return took, found


def in_steps(database: Database, before_ns: int) -> Iterator[Pruned]:
    """What a sweep did before it knew of whole days."""
    lease = lease_of(database, None)
    lease.take(3_600)
    now = time.time_ns()
    for step in steps(database, Retention(age_ns=now - before_ns), None, now, lease):
        time.sleep(0.05)
        yield step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--steps-store", help="where it goes in small steps; left out unless given")
    parser.add_argument("--spans", type=int, default=20_000)
    options = parser.parse_args()
    stores = [Database(url) for url in (options.store, options.steps_store) if url]
    whole, small = stores[0], stores[-1]
    before = fill(stores, options.spans)
    now = time.time_ns()
    for label, database, work in (
        ("nothing", whole, lambda: time.sleep(5)),
        ("dropped", whole, lambda: print(prune(whole, Retention(age_ns=now - before)))),
        ("in small steps", small, lambda: print(sum(step.spans for step in in_steps(small, before)), "spans")),
    ):
        if label == "in small steps" and small is whole:
            continue
        took, waits = beside(database.url, work)
        waits.sort()
        print(
            f"{label:15} {took:8.2f} s; a batch beside it took {statistics.median(waits) * 1e3:.0f} ms, "
            f"99 of 100 {waits[len(waits) * 99 // 100] * 1e3:.0f} ms, the longest {waits[-1] * 1e3:.0f} ms"
        )


if __name__ == "__main__":
    main()
