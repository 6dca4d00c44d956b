"""Whether anything grows or gets lost over time: an app under a low load for minutes or hours, with faults.

    python -m benchmarks.soak [--minutes 20] [--rate 20] [--workers 3] [--postgresql] [--retention 3000]

Servers with one worker each share one store, and are asked for whole answers, streams and calls from threads. Every two
minutes the store goes away for ten seconds: PostgreSQL is restarted, SQLite's file is locked. Every three minutes the
last worker is killed or stopped, and another one comes; the others stay, and are what is measured. Somebody reads the
admin all the time, and a retention deletes. The first fifth is for warming up and counts for nothing. Every sample
compares the counters of each worker: ``captured == stored + spooled + dropped``.

What a process has of its own (``rss``) is more than what it uses. *In use* is what malloc has given out: a leak shows
there, or in the blocks of Python. *Spare* is what malloc keeps, in an arena for each thread, and gives back seldom.
"""

import argparse
import http.client
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from asgi_llmobs.testing import FakeProvider
from tests.crash.identity import adopt, look
from tests.postgres_server import PostgresServer
from tests.processes import ROOT, answering, free_port

WAYS = ("call", "stream", "kept")
OUTAGE_EVERY, OUTAGE_SECONDS, REPLACED_EVERY, SAMPLE_EVERY = 120.0, 10.0, 180.0, 10.0
WARM = 0.2
SHOWN = {
    "rss": "rss: MB of its own", "used": "of it in use", "spare": "of it spare", "mapped": "MB of mapped files",
    "blocks": "1,000 blocks of Python", "threads": "threads", "descriptors": "descriptors", "waiting": "waiting calls",
}  # fmt: skip
READ = ("/_llmobs/", "/_llmobs/requests", "/_llmobs/traces", "/_llmobs/models", "/_llmobs/status")
TOKEN = "soak"


class Sample(NamedTuple):
    """What one worker holds at a moment."""

    at: float
    worker: int
    rss: float  # MB, of its own: without what is mapped from files
    mapped: float  # MB of files that are mapped
    used: float  # MB that malloc has given out
    spare: float  # MB that it keeps for later
    blocks: float  # thousands of them, of Python's own allocator
    threads: int
    descriptors: int
    waiting: int


class Worker:
    """One server process on a port of its own, restarted where that is asked for."""

    def __init__(self, number: int, environment: dict[str, str]) -> None:
        self.number = number
        self.environment = environment
        self.begin()

    def begin(self) -> None:
        self.port = free_port()
        command = ["uvicorn", "benchmarks.soak_app:app", "--port", str(self.port), "--log-level", "warning"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, text=True
        )
        answering(self.process, self.port, "/pid")

    def end(self, how: signal.Signals) -> int:
        """Stop it; its exit code."""
        self.process.send_signal(how)
        return self.process.wait(30)

    def asked(self, path: str, timeout: float = 30) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as connection:
            connection.request("GET", path, headers={"authorization": f"Bearer {TOKEN}"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def sample(self, began: float) -> tuple[Sample, dict[str, Any]]:
        stats = json.loads(self.asked("/stats")[1])
        memory = json.loads(self.asked("/memory")[1])
        folder = Path("/proc", str(self.process.pid))
        sizes = dict(line.split(":") for line in (folder / "status").read_text().splitlines())
        own, mapped = (int(sizes[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
        found = Sample(
            time.monotonic() - began, self.number, own, mapped, memory["used"] / 2**20, memory["spare"] / 2**20,
            memory["blocks"] / 1000, int(sizes["Threads"]), len(os.listdir(folder / "fd")), stats["spooled"],
        )  # fmt: skip
        return found, stats


class Soak:
    """The run: its workers, who asks them, and what was seen."""

    def __init__(
        self, workers: list[Worker], rate: float, url: str, server: PostgresServer | None, *, readers: bool
    ) -> None:
        self.readers = readers
        self.workers = workers
        self.rate = rate
        self.url = url
        self.server = server
        self.over = threading.Event()
        self.samples: list[Sample] = []
        self.acknowledged: list[str] = []
        self.sent: list[str] = []
        self.refused = 0
        self.unbalanced: list[Any] = []
        self.dropped: Counter[str] = Counter()
        self.pages: Counter[int] = Counter()
        self.outages = self.replaced = 0

    def ask(self, client: int, clients: int) -> None:
        begun, ids = time.monotonic(), count()
        while not self.over.is_set():
            number = next(ids)
            self.over.wait(max(0.0, begun + number * clients / self.rate - time.monotonic()))
            id, worker = f"{client}-{number}", self.workers[number % len(self.workers)]
            self.sent.append(id)
            try:
                status, body = worker.asked(f"/{WAYS[number // len(self.workers) % len(WAYS)]}/{id}")
                if status == 200 and body.endswith(id.encode()):
                    self.acknowledged.append(id)
            except (OSError, http.client.HTTPException):
                self.refused += 1  # it is being replaced

    def read(self) -> None:
        for number in count():
            if self.over.wait(2.0) or not self.readers:
                return
            with suppress(OSError, http.client.HTTPException):
                self.pages[self.workers[number % len(self.workers)].asked(READ[number % len(READ)])[0]] += 1

    def outage(self) -> None:
        self.outages += 1
        if self.server is not None:
            self.server.stop("immediate" if self.outages % 2 else "fast")
            self.over.wait(OUTAGE_SECONDS)
            self.server.start()
            return
        with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=20, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.over.wait(OUTAGE_SECONDS)
            other.execute("ROLLBACK")

    def replace(self) -> None:
        self.replaced += 1
        self.workers[-1].end(signal.SIGKILL if self.replaced % 2 else signal.SIGTERM)
        self.workers[-1].begin()

    def fault(self, seconds: float) -> None:
        began = time.monotonic()
        outage, replaced = OUTAGE_EVERY, REPLACED_EVERY
        while not self.over.wait(1.0):
            now = time.monotonic() - began
            if now > seconds - 30:  # time to settle
                continue
            if now > outage:
                outage += OUTAGE_EVERY
                self.outage()
            elif now > replaced:
                replaced += REPLACED_EVERY
                self.replace()

    def look(self, began: float) -> None:
        for worker in self.workers:
            with suppress(OSError, http.client.HTTPException, KeyError, ValueError):
                sample, stats = worker.sample(began)
                self.samples.append(sample)
                if stats["captured"] != stats["stored"] + stats["spooled"] + sum(stats["dropped"].values()):
                    self.unbalanced.append(stats)
                self.dropped.update(stats["dropped"])

    def run(self, seconds: float, folder: Path) -> list[dict[str, float]]:
        """All of it; what the files took."""
        threads = [threading.Thread(target=self.ask, args=(number, 4)) for number in range(4)]
        threads += [threading.Thread(target=self.read), threading.Thread(target=self.fault, args=(seconds,))]
        began, files = time.monotonic(), []
        for thread in threads:
            thread.start()
        while (now := time.monotonic() - began) < seconds:
            time.sleep(SAMPLE_EVERY)
            self.look(began)
            files.append({"at": now, **taken(folder)})
        self.over.set()
        for thread in threads:
            thread.join(60)
        return files


def taken(folder: Path) -> dict[str, float]:
    """MB of the database's files, and of the spool with their number."""
    found: Counter[str] = Counter()
    for path in folder.rglob("*"):
        with suppress(OSError):
            name = "log" if path.name.endswith("-wal") else "spool" if "spool" in path.parts else path.name
            if path.is_file() and "ballast" not in name:
                found[name if name in ("log", "spool") else "database"] += path.stat().st_size
                found["files"] += 1
    return {name: value if name == "files" else value / 1e6 for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=float, default=20, help="calls a second, of all workers together")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--postgresql", action="store_true", help="from the wheel of the dev extra, not on SQLite")
    parser.add_argument("--retention", default="3000")
    parser.add_argument("--no-readers", action="store_true", help="nobody opens the admin")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(PostgresServer()) if options.postgresql else None
        url = server.url() if server is not None else f"sqlite:///{folder / 'llmobs.db'}"
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "LLMOBS_DATABASE_URL": url, "LLMOBS_DATA_DIR": str(folder),
            "LLMOBS_RETENTION": options.retention, "LLMOBS_ADMIN_TOKEN": TOKEN,
            "PROVIDER": stack.enter_context(FakeProvider().serve()),
        }  # fmt: skip
        workers = [Worker(number, environment) for number in range(options.workers)]
        soak = Soak(workers, options.rate, url, server, readers=not options.no_readers)
        files = soak.run(options.minutes * 60, folder)
        for worker in workers:
            assert worker.end(signal.SIGTERM) in (0, -signal.SIGTERM)
        left = adopt(url, str(folder))
        tell(soak, files, left, look(url), options.minutes * 60)


def tell(soak: Soak, files: list[dict[str, float]], left: Any, found: Any, seconds: float) -> None:
    lasting = [sample for sample in soak.samples if sample.worker < len(soak.workers) - 1]
    print(f"{'of a worker that stays, medians':<36}{'second fifth':>14}{'last fifth':>14}{'most':>10}")
    for name, title in SHOWN.items():
        show(title, [(sample.at, getattr(sample, name)) for sample in lasting], seconds)
    for name in ("database", "log", "spool", "files"):
        show(f"MB of {name}" if name != "files" else name, [(each["at"], each.get(name, 0)) for each in files], seconds)
    for name in ("rss", "used", "blocks"):
        course(name, [(sample.at, getattr(sample, name)) for sample in lasting], seconds)
    told = found.workers
    newest = set(soak.acknowledged[-300:])
    print(
        f"sent {len(soak.sent)}, acknowledged {len(soak.acknowledged)}, not answered while replaced {soak.refused}\n"
        f"outages {soak.outages}, replaced {soak.replaced}, pages by status {dict(soak.pages)}\n"
        f"unbalanced samples {len(soak.unbalanced)} of {len(soak.samples)}, dropped {dict(soak.dropped)}\n"
        f"all workers: captured {told.captured}, stored {told.stored}, waiting {told.spooled}, "
        f"dropped {dict(told.dropped)}, adopted {told.adopted}; left for the next start: {left.captured}\n"
        f"of the newest {len(newest)} acknowledged lost: {sum(found.calls[id] != 1 for id in newest)}, "
        f"doubled: {sum(number > 1 for number in found.calls.values())}"
    )


def course(name: str, values: list[tuple[float, float]], seconds: float) -> None:
    """Medians of ten parts of the run."""
    parts = [[value for at, value in values if part <= 10 * at / seconds < part + 1] for part in range(10)]
    print(f"{name} over time: " + " ".join(f"{statistics.median(part):.1f}" for part in parts if part))


def show(name: str, values: list[tuple[float, float]], seconds: float) -> None:
    def middle(low: float, high: float) -> float:
        return statistics.median([value for at, value in values if low * seconds <= at <= high * seconds] or [0])

    most = max(value for at, value in values if at >= WARM * seconds)
    print(f"{name:<36}{middle(WARM, 2 * WARM):>14.1f}{middle(1 - WARM, 2):>14.1f}{most:>10.1f}")


if __name__ == "__main__":
    main()
