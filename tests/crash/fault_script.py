"""Run by the fault tests in a process of its own: an app whose database is on a disk that fails. Prints what became."""

import asyncio
import json
import sys
import time

from asgi_llmobs import LLMObs
from tests.crash.hosting import app, ask

PATHS = ("/stream", "/plain", "/failing")


def main(url: str, folder: str, rounds: int, seconds: float, wait: bool = False) -> None:
    """Ask *rounds* times for each path, after a line of input each time if *wait*; wait until all of it is stored,
    *seconds* at most."""
    obs = LLMObs(url, data_dir=folder, spool_bytes=1 << 24)
    watched, bare = app(obs), app(None)
    same, slowest = True, 0.0
    for _ in range(rounds):
        if wait:
            print("ready", flush=True)
            sys.stdin.readline()
        for path in PATHS:
            started = time.perf_counter()
            got = asyncio.run(ask(watched, path))
            slowest = max(slowest, time.perf_counter() - started)
            same = same and got == asyncio.run(ask(bare, path))
        settled = obs.flush(0.2)
        until = time.monotonic() + (15 if wait else 0)
        while not settled and obs.stats().last_error is None and time.monotonic() < until:
            settled = obs.flush(0.2)
    stored = obs.flush(seconds)
    stats = obs.stats()
    obs.close()
    told = {
        "same": same, "flushed": stored, "captured": stats.captured, "stored": stats.stored, "spooled": stats.spooled,
        "dropped": dict(stats.dropped), "failures": dict(stats.failures), "last_error": stats.last_error,
        "slowest": slowest, "events": [event.kind for event in obs.database.events], "durable": stats.durable,
    }  # fmt: skip
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), len(sys.argv) > 5)
