"""Faults that last a minute: the app answers as ever, the admin is readable, and nothing is lost until the cap."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.crash.test_faulty_disk import Disk, disk, stored
from tests.processes import ROOT

__all__ = ["disk"]

SECONDS = 60.0
PAUSE = 0.005
# SQLite maps this file: where a page of it cannot be read, the system ends the process, whoever it belongs to
MAPPED = {"write": "\0", "fsync": "\0", "read": "-shm"}
TIMES = ("p50", "p99", "slowest", "stall_p999", "stall", "gc")
pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


class Running:
    """The app in its process, and what it says at the end."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.told: dict[str, Any] = {}

    def wait_for(self, word: str) -> None:
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if said.strip() != word:
            self.process.terminate()
            raise AssertionError((said, self.process.communicate()[1][-3_000:], self.process.returncode))

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self) -> dict[str, Any]:
        """It stores what is left; what became."""
        out, log = self.process.communicate("\n", timeout=200)
        assert out, log[-3_000:]
        self.told = {**json.loads(out.strip().splitlines()[-1]), "log": log}
        return self.told


@contextmanager
def running(folder: Path | None, **given: Any) -> Iterator[Running]:
    """An app that is ready to be loaded; bare where no *folder* is given."""
    if folder is not None:
        given |= {"url": f"sqlite:///{folder / 'llmobs.db'}", "folder": str(folder)}
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "LLMOBS"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.minute_script", json.dumps({"seconds": SECONDS, "pause": PAUSE, **given})],
        cwd=ROOT, env={**known, "PYTHONPATH": str(ROOT)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    made = Running(process)
    try:
        made.wait_for("ready")
        yield made
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def bare() -> dict[str, Any]:
    """The same load on an app without us."""
    with running(None, seconds=20) as app:
        return app.finish()


def faulted(disk: Disk, **faults: Any) -> dict[str, Any]:
    """What becomes of the app whose disk has these faults during the load."""
    with running(disk.folder / "data") as app:
        disk.fails(**faults)
        app.go_on()
        app.wait_for("over")
        disk.fails()
        return app.finish()


def check(found: dict[str, Any], bare: dict[str, Any]) -> None:
    """The same answers in about the same time, counters that add up, a page whenever one was asked for."""
    shown = {name: value for name, value in found.items() if name not in ("log", "pages")}
    print(json.dumps({"with": shown, "without": {name: bare[name] for name in TIMES}}))
    for counts in (found["during"], found):
        assert counts["captured"] == counts["stored"] + counts["spooled"] + sum(counts["dropped"].values()), counts
    assert found["failed"] == 0 and found["calls"] > 1_000
    assert found["flushed"] and found["spooled"] == 0
    assert found["p99"] < 5 * bare["p99"] + 0.05 and found["slowest"] < 3
    reasons = [line.split(" (")[0] for line in found["log"].splitlines() if line.startswith("asgi_llmobs:")]
    assert all(reasons.count(reason) <= SECONDS / 60 + 1 for reason in reasons), found["log"]


@pytest.mark.parametrize("kind", ["write", "fsync", "read"])
def test_f8_a_store_that_fails_for_a_minute(disk: Disk, bare: dict[str, Any], kind: str) -> None:
    """What happened meanwhile waits, and is stored once as soon as the disk does its work again."""
    found = faulted(disk, **{kind: {"match": "llmobs.db", "error": "EIO", "unless": MAPPED[kind]}})

    check(found, bare)
    assert found["dropped"] == {} and found["stored"] == found["captured"]
    stored(disk.folder / "data", found["captured"])


@pytest.mark.parametrize("kind", ["write", "read"])
def test_f8_a_disk_that_fails_for_a_minute(disk: Disk, bare: dict[str, Any], kind: str) -> None:
    """Neither store nor spool: as much as fits into memory is stored afterwards, what does not is counted."""
    found = faulted(disk, **{kind: {"match": "", "error": "EIO", "unless": MAPPED[kind]}})

    check(found, bare)
    assert set(found["dropped"]) <= {"spool full", "spool damaged"}
    assert found["stored"] > 4_000 and found["stored"] + sum(found["dropped"].values()) == found["captured"]
    stored(disk.folder / "data", found["stored"])


@pytest.mark.parametrize("match", [".seg", "llmobs.db", ""])
def test_f9_a_disk_that_hangs_for_a_minute(disk: Disk, bare: dict[str, Any], match: str) -> None:
    """A sync that takes a minute: no answer waits for it, and nothing is lost."""
    found = faulted(disk, fsync={"match": match, "sleep": SECONDS, "times": 1})

    check(found, bare)
    assert found["dropped"] == {} and found["stored"] == found["captured"]
    stored(disk.folder / "data", found["captured"])


def test_f12_a_minute_under_the_lock_of_another(tmp_path: Path, bare: dict[str, Any]) -> None:
    """Another process writes to the database for a minute: calls wait, pages are read, all is stored after it."""
    folder = tmp_path / "data"
    with running(folder) as app:
        with closing(sqlite3.connect(folder / "llmobs.db", isolation_level=None, timeout=20)) as other:
            other.execute("BEGIN IMMEDIATE")
            app.go_on()
            app.wait_for("over")
            other.execute("ROLLBACK")
        found = app.finish()

    check(found, bare)
    assert set(found["pages"]) == {200} and len(found["pages"]) > SECONDS / 10
    assert found["during"]["spooled"] > 1_000
    assert found["dropped"] == {} and found["stored"] == found["captured"]
    stored(folder, found["captured"])


def test_f22_ten_times_what_can_be_stored(tmp_path: Path, bare: dict[str, Any]) -> None:
    """The store gets a tenth of the time: what does not fit loses its bodies, then goes, oldest first, each counted."""
    folder = tmp_path / "data"
    over = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(folder / "llmobs.db", isolation_level=None, timeout=20)) as other:
            while not over.is_set():
                other.execute("BEGIN IMMEDIATE")
                over.wait(1.8)
                other.execute("ROLLBACK")
                time.sleep(0.2)

    options = {"spool_bytes": 16 << 20, "buffer_bytes": 8 << 20}
    with running(folder, pause=0.0, size=20_000, options=options) as app:
        holder = threading.Thread(target=hold)
        holder.start()
        try:
            app.go_on()
            app.wait_for("over")
        finally:
            over.set()
            holder.join()
        found = app.finish()

    check(found, bare)
    assert found["bodies_dropped"] > 0
    assert found["during"]["captured"] > 3 * found["during"]["stored"]
    assert found["stored"] + sum(found["dropped"].values()) == found["captured"]
    assert found["grown_kb"] < 150_000
    stored(folder, found["stored"])
