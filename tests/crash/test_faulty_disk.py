"""A disk whose calls fail one by one, that writes short, or hangs: the app answers as ever, and nothing is lost."""

import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.crash.test_disk import check, run
from tests.processes import ROOT

SLOW, LONG = pytest.mark.slow, pytest.mark.long
pytestmark = pytest.mark.slow
FILES = (".seg", "llmobs.db", "-wal")


class Disk:
    """A mounted folder, and what is to go wrong in it."""

    def __init__(self, folder: Path, faults: Path) -> None:
        self.folder = folder
        self._faults = faults

    def fails(self, **faults: Any) -> None:
        """From now on."""
        told = self._faults.with_suffix(".new")
        told.write_text(json.dumps(faults))
        told.rename(self._faults)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of its own; skips where none can be mounted."""
    if importlib.util.find_spec("mfusepy") is None or shutil.which("fusermount3") is None:
        pytest.skip("no FUSE: pip install mfusepy, apt-get install fuse3")
    if not os.access("/dev/fuse", os.W_OK):
        pytest.skip("/dev/fuse cannot be used")
    backing, folder, faults = tmp_path / "backing", tmp_path / "disk", tmp_path / "faults.json"
    backing.mkdir(mode=0o755)
    folder.mkdir(mode=0o755)
    faults.write_text("{}")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.crash.faulty", str(backing), str(folder), str(faults)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 10
        while not folder.is_mount():
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                pytest.skip(f"nothing can be mounted: {process.communicate()[1][-300:]}")
            time.sleep(0.05)
        yield Disk(folder, faults)
    finally:
        faults.write_text("{}")
        subprocess.run(["fusermount3", "-u", "-z", str(folder)], check=False)
        process.terminate()
        process.communicate(timeout=10)


def stored(folder: Path, captured: int) -> None:
    """The database is whole, and each call is in it once."""
    with closing(sqlite3.connect(folder / "llmobs.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        count = connection.execute("SELECT count(*), count(DISTINCT id) FROM llmobs_spans").fetchone()
    assert count == (captured, captured)


def fails(disk: Disk, kind: str, match: str, **rule: Any) -> dict[str, Any]:
    disk.fails(**{kind: {"match": match, **rule}})
    found = run(disk.folder / "data")
    check(found)
    disk.fails()
    stored(disk.folder / "data", found["captured"])
    return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("kind", "match", "rule"),
    [
        pytest.param("write", ".seg", {"error": "ENOSPC"}, id="no room for the spool", marks=SLOW),
        pytest.param(
            "write", ".seg", {"short": 100, "from": 2, "times": 1}, id="a short write to the spool", marks=LONG
        ),
        pytest.param("write", ".seg", {"error": "EIO", "from": 20}, id="the spool fails later", marks=SLOW),
        pytest.param("read", ".seg", {"error": "EIO"}, id="the spool cannot be read", marks=SLOW),
        pytest.param("fsync", ".seg", {"error": "EIO"}, id="the spool cannot be brought to the disk", marks=SLOW),
        pytest.param("create", ".seg", {"error": "ENOSPC"}, id="no file of the spool can be made", marks=SLOW),
        pytest.param("unlink", ".seg", {"error": "EIO"}, id="no file of the spool can be deleted", marks=SLOW),
        pytest.param("write", "-wal", {"error": "EINTR", "from": 3, "times": 2}, id="interrupted", marks=SLOW),
        pytest.param("fsync", "llmobs.db", {"error": "EIO", "times": 3}, id="the store cannot be synced", marks=SLOW),
        pytest.param("write", "llmobs.db", {"error": "EIO", "from": 4, "times": 5}, id="the store fails", marks=SLOW),
        pytest.param("truncate", "", {"error": "ENOSPC", "times": 3}, id="nothing can be made longer", marks=LONG),
    ],
)
def test_f8_a_disk_that_fails(disk: Disk, kind: str, match: str, rule: dict[str, Any]) -> None:
    """Whatever it is and wherever: the same answers, and all of it stored once."""
    fails(disk, kind, match, **rule)


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("kind", ["write", "fsync", "read", "open", "create", "truncate", "unlink"])
@pytest.mark.parametrize("number", range(1, 30, 4))
def test_f8_each_call_fails(disk: Disk, kind: str, error: str, number: int) -> None:
    """The n-th of each kind, on any file."""
    fails(disk, kind, "", error=error, times=1, **{"from": number})


@pytest.mark.timeout(120)
@pytest.mark.parametrize("match", [".seg", "llmobs.db"])
def test_f9_a_disk_that_hangs(disk: Disk, match: str) -> None:
    """Each sync takes six seconds: nobody waits for it, and all is stored."""
    disk.fails(fsync={"match": match, "sleep": 6, "times": 2})
    found = run(disk.folder / "data", seconds=40)
    check(found)
    assert found["slowest"] < 3
    stored(disk.folder / "data", found["captured"])
