"""Reading from a replica: how long after the commit a batch is seen there, and whose CPU a page of requests takes.

    python -m benchmarks.replica --store URL --read-url URL [--server PID --replica PID] [--batches 200]

``--server`` and ``--replica`` name the first processes of the two servers on this machine.
"""

import argparse
import statistics
import time

from asgi_llmobs.config import Config
from asgi_llmobs.filters import Filter
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.pricing import Pricer
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from benchmarks.generate import entries
from benchmarks.scaling import server_seconds

BATCH = 20
PAGES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--read-url", required=True)
    parser.add_argument("--server", type=int, default=0)
    parser.add_argument("--replica", type=int, default=0)
    parser.add_argument("--batches", type=int, default=200)
    options = parser.parse_args()
    pipeline, both = Pipeline(Config.make(), Pricer()), Database(options.store, read_url=options.read_url)
    sink, alone, lags = Sink(both), Database(options.store), []
    for number in range(options.batches):
        batch = [pipeline.process(entry) for entry in entries(BATCH, seed=number + 1)]
        sink.write(batch)
        begin, last = time.perf_counter(), batch[-1].id
        while not seen(both, last):
            pass
        lags.append(time.perf_counter() - begin)
    lags.sort()
    print(f"seen after {statistics.median(lags) * 1e3:.0f} ms, 99 of 100 after {lags[len(lags) * 99 // 100] * 1e3:.0f}")
    for label, database in (("from the store", alone), ("from the replica", both)):
        before = [server_seconds([pid]) for pid in (options.server, options.replica)]
        for _ in range(PAGES):
            list_requests(database, Filter())
        database.dispose()  # what a connection used counts once it is closed
        time.sleep(1)
        spent = [
            server_seconds([pid]) - one for pid, one in zip((options.server, options.replica), before, strict=True)
        ]
        each = [seconds * 1e3 / PAGES for seconds in spent]
        print(f"a page {label}: {each[0]:.1f} ms CPU of the store, {each[1]:.1f} of the replica")


def seen(database: Database, id: str) -> bool:
    with database.read() as connection:
        query = "SELECT 1 FROM llmobs_spans WHERE project = 'default' AND id = %s"
        return connection.exec_driver_sql(query, (id,)).first() is not None


if __name__ == "__main__":
    main()
