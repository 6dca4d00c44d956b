"""What it costs to work on finished calls and store them: CPU, spans a second, disk.

    python -m benchmarks.ingest [--spans 20000] [--batch 200] [--store URL] [--profile STAGE]

Exchanges are made beforehand. Measured is what the writer thread does with them: reading, pricing, redaction (the
pipeline), then rows, compression, full-text index, totals and commits (the store). Beside
it stands what rows written by hand take in the same run (`floor.py`).
"""

import argparse
import cProfile
import gc
import glob
import os
import pstats
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext

from asgi_llmobs.config import Config
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.pricing import Pricer
from asgi_llmobs.spool import Entry
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from benchmarks.floor import floor
from benchmarks.generate import entries

__all__ = ["fill"]


def fill(database: Database, made: Sequence[Entry], batch: int, profile: str | None = None) -> tuple[float, float]:
    """Work on *made* and store it; the CPU seconds of pipeline and store."""
    pipeline, sink = Pipeline(Config.make(), Pricer()), Sink(database)
    working = storing = 0.0
    profiles = {"pipeline": cProfile.Profile(), "store": cProfile.Profile()}
    for start in range(0, len(made), batch):
        begin = time.process_time()
        with profiles["pipeline"] if profile == "pipeline" else nullcontext():
            records = [pipeline.process(entry) for entry in made[start : start + batch]]
        between = time.process_time()
        with profiles["store"] if profile == "store" else nullcontext():
            written = sink.write(records)
        if written.refused:
            raise SystemExit(f"{written.refused} spans were refused")
        working += between - begin
        storing += time.process_time() - between
    if profile is not None:
        pstats.Stats(profiles[profile], stream=sys.stderr).sort_stats("tottime").print_stats(40)
    return working, storing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--store", help="database URL; a new SQLite file in a temporary folder unless given")
    parser.add_argument("--profile", choices=["pipeline", "store"])
    options = parser.parse_args()
    made = list(entries(options.spans))
    payload = sum(getattr(entry, "request_size", 0) + getattr(entry, "response_size", 0) for entry in made)
    gc.collect()
    gc.freeze()  # what was made beforehand is no load of a real writer
    with tempfile.TemporaryDirectory() as folder:
        least = floor(f"{folder}/floor.db", made, options.batch)
        least_disk = size_of(f"{folder}/floor.db")
        database = Database(options.store or f"sqlite:///{folder}/llmobs.db")
        with database.write():
            pass  # the schema is made
        begin = time.perf_counter()
        working, storing = fill(database, made, options.batch, options.profile)
        wall = time.perf_counter() - begin
        database.dispose()
        disk = size_of(f"{folder}/llmobs.db")
    count = len(made)
    print(f"{count} spans, {payload / count:.0f} bytes of payload a span, batches of {options.batch}")
    print(f"pipeline {working / count * 1e6:.0f} us a span, store {storing / count * 1e6:.0f} us a span")
    print(f"{(working + storing) / count * 1000:.3f} CPU s per 1,000 spans, {count / wall:.0f} spans/s")
    if disk:
        print(f"{disk / count:.0f} bytes on disk a span")
    print(f"by hand: {least / count * 1000:.3f} CPU s per 1,000 spans, {least_disk / count:.0f} bytes on disk a span")


def size_of(path: str) -> int:
    """Bytes of a SQLite file and of what stands beside it."""
    return sum(os.path.getsize(each) for each in glob.glob(f"{path}*"))


if __name__ == "__main__":
    main()
