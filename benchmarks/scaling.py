"""Several processes that write into one store at once: spans a second, CPU, errors.

    python -m benchmarks.scaling [--processes 4] [--spans 5000] [--batch 200] [--store URL] [--server PID ...]

Records are made beforehand; measured is what the sinks of all processes do with them from the first batch to the last.
``--server`` names the first processes of PostgreSQL servers on this machine whose CPU is to be counted too.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from asgi_llmobs.config import Config
from asgi_llmobs.errors import StoreError
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.pricing import Pricer
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from benchmarks.generate import entries


def write(url: str, spans: int, batch: int, seed: int, barrier: Barrier, said: Any) -> None:
    """One process: says spans, CPU seconds, errors, and the longest batch in seconds."""
    pipeline = Pipeline(Config.make(), Pricer())
    records = [pipeline.process(entry) for entry in entries(spans, seed)]
    database = Database(url)
    sink = Sink(database)
    with database.read():
        pass
    barrier.wait()
    begin, errors, longest = time.process_time(), 0, 0.0
    for start in range(0, len(records), batch):
        some, at = records[start : start + batch], time.perf_counter()
        while True:
            try:
                assert sink.write(some).refused == 0
                break
            except StoreError:
                errors += 1
        longest = max(longest, time.perf_counter() - at)
    said.put((len(records), time.process_time() - begin, errors, longest))
    database.dispose()


def server_seconds(pids: list[int]) -> float:
    """CPU that servers and their children have used."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, fields = int(path.parent.name), path.read_text().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        if pid in pids:
            ticks += sum(map(int, fields[11:15]))  # with the children that have ended
        elif int(fields[1]) in pids:
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--spans", type=int, default=5_000, help="of each process")
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--store", help="database URL; a new SQLite file in a temporary folder unless given")
    parser.add_argument("--server", type=int, nargs="*", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.store or f"sqlite:///{folder}/llmobs.db"
        context = multiprocessing.get_context("spawn")
        barrier, said = context.Barrier(options.processes + 1), context.SimpleQueue()
        for seed in range(options.processes):
            arguments = (url, options.spans, options.batch, seed + 1, barrier, said)
            context.Process(target=write, args=arguments, daemon=True).start()
        barrier.wait()
        begin, before = time.perf_counter(), server_seconds(options.server)
        found = [said.get() for _ in range(options.processes)]
        wall, served = time.perf_counter() - begin, server_seconds(options.server) - before
        spans, cpu, errors, longest = (sum(one) for one in zip(*found, strict=True))
        longest = max(one[3] for one in found)
    print(f"{options.processes} processes, {spans} spans in batches of {options.batch}: {spans / wall:.0f} spans/s")
    print(f"{cpu / spans * 1e6:.0f} us a span in the app, {served / spans * 1e6:.0f} us in the servers")
    print(f"{errors} errors, the longest batch took {longest * 1000:.0f} ms")


if __name__ == "__main__":
    main()
