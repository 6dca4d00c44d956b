"""Percentiles of 30 days from the rollups: milliseconds of CPU and of wall time, the median of several runs.

    python -m benchmarks.rollups [--requests 1000000] [--store URL] [--runs 9]

Only the rollups are filled, through the function that the writer uses; nothing else is read for these figures. The last
column says how far the percentiles are from those of the durations themselves, at most.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.overview import SHARES, Cell, overview
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.rollups import HOUR_NS, roll
from asgi_llmobs.store.sums import Counted

DAYS = 30
DAY_NS = 24 * HOUR_NS
START_NS = 20_700 * DAY_NS
MODELS = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-5",
    "claude-opus-5",
    "claude-haiku-5",
    "gemini-3-pro",
    "mistral-large",
    "qwen-4",
)
ROUTES = ("/chat", "/search", "/summaries/{id}", "")
PORTION = 20_000
NOTHING = dict.fromkeys(Counted._fields)

Found = dict[tuple[str, int], list[int]]  # durations of each model in each hour


def fill(database: Database, requests: int) -> Found:
    """Roll up so many requests; the durations that they have."""
    chance, found, rows = random.Random(1), defaultdict(list), []
    for number in range(requests):
        start = START_NS + number * DAYS * DAY_NS // requests
        model = chance.choice(MODELS)
        duration = int(chance.lognormvariate(0.5, 0.8) * 1e9)
        failed = chance.random() < 0.02
        found[model, start // HOUR_NS].append(duration)
        values: dict[str, Any] = {
            **NOTHING, "key": number, "project": "default", "start_ns": start, "duration_ns": duration,
            "outcome": "error" if failed else "ok", "status": 500 if failed else 200, "route": chance.choice(ROUTES),
            "provider": "openai", "operation": "chat", "request_model": model, "first_token_ns": duration // 3,
            "cost": 10**8, "input_tokens": 900, "output_tokens": 150, "estimated": 0, "truncated": 0, "calls_tools": 0,
        }  # fmt: skip
        rows.append(Counted(**values))
        if len(rows) == PORTION or number == requests - 1:
            with database.write() as connection:
                roll(connection, rows)
            rows = []
    return found


def worst(cells: Sequence[Cell], found: Found, hours: int) -> float:
    """How far the percentiles of *cells* by model are from the exact ones, as a share of these, at most."""
    exact: dict[tuple[int, str], list[int]] = defaultdict(list)
    for (model, hour), durations in found.items():
        exact[hour // hours * hours * HOUR_NS if hours else cells[0].start_ns, model] += durations
    off = 0.0
    for cell in cells:
        durations = sorted(exact[cell.start_ns, str(cell.key[0])])
        for share, told in zip(SHARES, cell.latency, strict=True):
            real = durations[max(0, -(-int(share * 1000) * len(durations) // 1000) - 1)]
            off = max(off, abs((told or 0) - real) / real)
    return off


def measured(run: Callable[[], Any], runs: int) -> tuple[float, float]:
    """Milliseconds of CPU and of wall time."""
    cpu, wall = [], []
    for _ in range(runs):
        begin, at = time.process_time(), time.perf_counter()
        run()
        cpu.append(time.process_time() - begin)
        wall.append(time.perf_counter() - at)
    return statistics.median(cpu) * 1_000, statistics.median(wall) * 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--store", help="database URL; a new SQLite file in a temporary folder unless given")
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(options.store or f"sqlite:///{folder}/llmobs.db")
        begin = time.process_time()
        found = fill(database, options.requests)
        each = (time.process_time() - begin) * 1e6 / options.requests
        print(f"{options.requests} requests made and rolled up: {each:.1f} us each")
        times: dict[str, Any] = {"since_ns": START_NS, "until_ns": START_NS + DAYS * DAY_NS}
        whole, one = Filter(**times), Filter(**times, model=(MODELS[0],))
        cases: dict[str, tuple[int, Callable[[], list[Cell]]]] = {
            "by the hour and model": (1, lambda: overview(database, whole, by=("model",))),
            "by the hour, one model": (1, lambda: overview(database, one, by=("model",))),
            "by the day and model": (24, lambda: overview(database, whole, bucket="day", by=("model",))),
            "by the day, one model": (24, lambda: overview(database, one, bucket="day", by=("model",))),
            "of all 30 days, by model": (0, lambda: overview(database, whole, bucket="range", by=("model",))),
        }
        for label, (hours, run) in cases.items():
            cpu, wall = measured(run, options.runs)
            print(f"{label:26} {cpu:8.1f} ms CPU {wall:8.1f} ms wall {worst(run(), found, hours):7.2%} off at most")
        database.dispose()


if __name__ == "__main__":
    main()
