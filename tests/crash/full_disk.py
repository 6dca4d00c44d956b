"""Run by a test on a small disk of its own: the disk is full, and a retention is set. Prints what became of it."""

import json
import os
import random
import sys
import time
from pathlib import Path

from asgi_llmobs import LLMObs
from asgi_llmobs.store import sqlite
from tests.calling import ask_sync

KEPT = "5MB"


def main(folder: Path) -> None:
    """Store until there is much, fill the disk with something else, and go on with a retention."""
    sqlite.BALLAST_SECONDS = 1.0  # this one does not run for long
    url, data_dir = f"sqlite:///{folder / 'llmobs.db'}", str(folder)
    obs = LLMObs(url, data_dir=data_dir, spool_bytes=0)
    obs.start()
    words = [random.randbytes(random.randint(1, 5)).hex() for _ in range(3_000)]
    for _ in range(500):
        ask_sync(" ".join(random.choices(words, k=6_000)))
        obs.flush(5)
    time.sleep(1.5)
    obs.flush(5)
    obs.close()
    before, ballast = database(folder), (folder / "llmobs.db-ballast").exists()
    fill(folder / "filler")

    obs = LLMObs(url, data_dir=data_dir, retention=KEPT, spool_bytes=0)
    obs.start()
    said = [ask_sync(f"on a full disk {number}") for number in range(20)]
    until = time.monotonic() + 40
    while time.monotonic() < until and (database(folder) > 0.8 * before or not obs.flush(0.5)):
        time.sleep(0.2)
    stats = obs.stats()
    told = {
        "said": said == [f"on a full disk {number}" for number in range(20)], "before": before, "ballast": ballast,
        "after": database(folder), "free": free(folder), "captured": stats.captured, "stored": stats.stored,
        "spooled": stats.spooled, "dropped": dict(stats.dropped), "events": [each.kind for each in obs.database.events],
    }  # fmt: skip
    obs.close()
    print(json.dumps(told))


def database(folder: Path) -> int:
    return (folder / "llmobs.db").stat().st_size


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


if __name__ == "__main__":
    main(Path(sys.argv[1]))
