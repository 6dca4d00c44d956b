"""The power fails: only what was brought to the disk is there, and the rest of each file is as it was before."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.identity import adopt
from tests.processes import ROOT

pytestmark = pytest.mark.slow
AT_MOST = 1.0  # seconds of calls that may be lost
SLACK = 4.0  # seconds in which this machine may be busy with other things
IDLE = 0.2
SYNC = re.compile(r"^(\d+) .*f(?:data)?sync\(\d+<(/[^>]*)>")
STOPPED = re.compile(r"^(\d+) .*stopped by SIGSTOP")


class Image(NamedTuple):
    """What a power failure at that moment would have left, and when each call had returned by then."""

    folder: Path
    moment: float
    finished: dict[str, float]


class Disk:
    """What would be on the disk: each file as it was when it was brought there last.

    Args:
        live: The folder that the app writes to.
        folder: Where the copies go.
    """

    def __init__(self, live: Path, folder: Path) -> None:
        self.live, self.folder = live, folder
        self.syncs = 0

    def _forget(self, path: Path) -> None:
        """What was deleted in that folder stays so."""
        copies = self.folder / path.relative_to(self.live)
        for copy in copies.glob("*"):
            if copy.is_file() and not (path / copy.name).exists():
                copy.unlink()

    def take(self, paths: set[str]) -> None:
        """These files were brought to the disk. The app stands still."""
        self.syncs += 1
        for path in map(Path, paths):
            if path.is_dir():
                self._forget(path)
                continue
            copy = self.folder / path.relative_to(self.live)
            copy.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # deleted since then
                shutil.copy2(path, copy)


class Watched:
    """An app under load that stands still whenever it brought a file to the disk."""

    def __init__(self, process: "subprocess.Popen[str]", trace: Path, disk: Disk) -> None:
        self.process, self.trace, self.disk = process, trace, disk
        self.finished: dict[str, float] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.finished[line.strip()] = time.monotonic()

    def images(self, folder: Path, *, seconds: float, every: int) -> Iterator[Image]:
        """One after *every* so many syncs."""
        waiting: set[str] = set()
        until = time.monotonic() + seconds
        for line in self._lines(until):
            if synced := SYNC.match(line):
                waiting.add(synced[2])
            stopped = STOPPED.match(line)
            # every thread says that it stopped: the first one counts
            if line and (stopped is None or not waiting):
                continue
            if waiting:
                self.disk.take(waiting)
                waiting.clear()
                if self.disk.syncs % every == 0 and (self.disk.folder / "llmobs.db").exists():
                    image = Image(folder / f"image-{self.disk.syncs}", time.monotonic(), dict(self.finished))
                    shutil.copytree(self.disk.folder, image.folder)
                    yield image
            os.killpg(self.process.pid, signal.SIGCONT)

    def _lines(self, until: float) -> Iterator[str]:
        """What strace tells; an empty one where it has told nothing for a while: the app may stand unseen."""
        line, heard = "", time.monotonic()
        with self.trace.open() as file:
            while time.monotonic() < until and self.process.poll() is None:
                line += file.readline()
                if line.endswith("\n"):
                    yield line
                elif time.monotonic() - heard > IDLE:
                    yield ""
                else:
                    time.sleep(0.0005)
                    continue
                line, heard = "", time.monotonic()


@contextmanager
def watched(live: Path, folder: Path) -> Iterator[Watched]:
    """See :class:`Watched`; killed when the block ends."""
    trace = folder / "trace"
    trace.touch()
    strace = ["strace", "-f", "-y", "-qq", "-o", str(trace), "-e", "trace=fsync,fdatasync"]
    inject = ["-e", "inject=fsync,fdatasync:signal=SIGSTOP"]
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "LLMOBS"))}
    process = subprocess.Popen(
        [*strace, *inject, sys.executable, "-m", "tests.spool.dying", "load", str(live / "llmobs.db")],
        cwd=ROOT,
        env={**known, "PYTHONPATH": str(ROOT), "LLMOBS_DATA_DIR": str(live)},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield Watched(process, trace, Disk(live, folder / "disk"))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.long  # how much is lost says something on a calm machine only
@pytest.mark.timeout(180)
def test_f3_the_power_fails(tmp_path: Path) -> None:
    """Whenever it does, the database is sound, and what had ended a second before is there, once."""
    if shutil.which("strace") is None:
        pytest.skip("no strace: apt-get install strace")
    live = tmp_path / "live"
    live.mkdir()
    with watched(live, tmp_path) as app:
        images = []
        for image in app.images(tmp_path, seconds=120, every=10):
            images.append(image)
            if len(images) >= 6 and len(image.finished) > 100:
                break
    lost = [lost_in(image) for image in images[-6:]]

    print(f"\n{len(images)} images; seconds of calls lost: {[round(each, 2) for each in lost]}")
    assert len(lost) == 6 and len(images[-1].finished) > 100
    assert max(lost) <= AT_MOST + SLACK


def lost_in(image: Image) -> float:
    """How long before the power failure the oldest of the calls ended that are not there at the next start."""
    adopt(f"sqlite:///{image.folder / 'llmobs.db'}", str(image.folder))
    connection = sqlite3.connect(image.folder / "llmobs.db")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        query = "SELECT output_preview FROM llmobs_spans WHERE kind = 'llm' AND outcome = 'ok'"
        made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'llmobs_spans'").fetchone()
        there = [text for (text,) in connection.execute(query)] if made else []
    finally:
        connection.close()
    assert len(there) == len(set(there))
    missing = [ended for name, ended in image.finished.items() if name != "streaming" and name not in set(there)]
    return image.moment - min(missing, default=image.moment)
