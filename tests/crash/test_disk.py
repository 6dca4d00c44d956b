"""A disk that fails, fills up, or cannot be written: the app is not touched, and nothing is lost."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT

pytestmark = pytest.mark.slow
CALLS = "pwrite64,fsync,fdatasync,ftruncate,unlink,fallocate,pread64"
DAMAGED = 40  # system calls on the database's files that one run makes at least


def run(folder: Path, *, seconds: float = 20, before: Sequence[str] = ()) -> dict[str, Any]:
    """What became of an app in a process of its own."""
    script = [sys.executable, "-m", "tests.crash.fault_script", f"sqlite:///{folder / 'llmobs.db'}", str(folder)]
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "LLMOBS"))}
    done = subprocess.run(
        [*before, *script, "2", str(seconds)],
        cwd=ROOT,
        env={**known, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    assert lines, (done.returncode, done.stderr[-2_000:])
    found: dict[str, Any] = json.loads(lines[-1])
    found["log"] = done.stderr
    return found


def check(found: Mapping[str, Any], *, stored: bool = True) -> None:
    """The app's answers are the same, the counters add up, and the log is quiet: a line for each reason."""
    assert found["same"]
    assert found["captured"] == found["stored"] + found["spooled"] + sum(found["dropped"].values()), found
    assert found["dropped"] == {}, found
    if stored:
        assert found["flushed"] and found["stored"] == found["captured"] > 0, found
    reasons = [line.split(" (")[0] for line in found["log"].splitlines() if line.startswith("asgi_llmobs:")]
    assert len(reasons) == len(set(reasons)), found["log"]


def fails_at(tmp_path: Path, number: int, error: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace: apt-get install strace")
    folder = tmp_path / f"{error}-{number}"
    database = folder / "llmobs.db"
    watched = [option for suffix in ("", "-wal", "-shm") for option in ("-P", f"{database}{suffix}")]
    inject = ["-e", f"trace={CALLS}", "-e", f"inject={CALLS}:error={error}:when={number}"]
    found = run(folder, before=["strace", "-f", "-qq", "-o", "/dev/null", *watched, *inject])
    check(found)
    connection = sqlite3.connect(database)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        count = connection.execute("SELECT count(*), count(DISTINCT id) FROM llmobs_spans").fetchone()
    finally:
        connection.close()
    assert count == (found["captured"], found["captured"])


@pytest.mark.parametrize(("number", "error"), [(2, "EIO"), (9, "ENOSPC")])
def test_the_nth_system_call_fails(tmp_path: Path, number: int, error: str) -> None:
    """Of each kind on the files of the database: what was captured is stored in the end, once."""
    fails_at(tmp_path, number, error)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("number", range(1, DAMAGED))
def test_each_system_call_fails(tmp_path: Path, number: int, error: str) -> None:
    """One after the other."""
    fails_at(tmp_path, number, error)


def mounted(tmp_path: Path, size: str, commands: str) -> list[str]:
    """What runs something on a small disk of its own; skips where that is not allowed."""
    inner = f'mount -t tmpfs -o size={size} none "{tmp_path}" && {commands} && exec "$@"'
    allowed = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size=1m none "{tmp_path}"'], capture_output=True, check=False
    ) if shutil.which("unshare") else None  # fmt: skip
    if allowed is None or allowed.returncode:
        pytest.skip("no disk of its own can be mounted here")
    return ["unshare", "-m", "sh", "-c", inner, "sh"]


def test_a_full_disk_from_the_start(tmp_path: Path) -> None:
    """Where nothing fits the app starts and answers, and what it did waits in memory."""
    found = run(
        tmp_path / "data", seconds=8, before=mounted(tmp_path, "64k", f'head -c 60000 /dev/zero > "{tmp_path}/filler"')
    )
    check(found, stored=False)

    assert not found["flushed"] and found["spooled"] == found["captured"] > 0
    assert "full" in found["last_error"] and found["slowest"] < 5


def test_a_full_disk_that_gets_room(tmp_path: Path) -> None:
    """It goes on by itself as soon as there is room."""
    commands = (
        f'head -c 3600000 /dev/zero > "{tmp_path}/filler"; '
        f'(sleep 6; mount -o remount,size=64m none "{tmp_path}") >/dev/null 2>&1 & true'
    )
    found = run(tmp_path / "data", before=mounted(tmp_path, "4m", commands))
    check(found)


def test_f6_retention_on_a_full_disk(tmp_path: Path) -> None:
    """The ballast goes, then the oldest calls; their space is free again, and new calls are stored."""
    script = [sys.executable, "-m", "tests.crash.full_disk", str(tmp_path)]
    done = subprocess.run(
        [*mounted(tmp_path, "90m", "true"), *script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])

    assert found["said"] and found["ballast"] and "ballast used" in found["events"], (found, done.stderr)
    assert (found["captured"], found["stored"], found["spooled"], found["dropped"]) == (20, 20, 0, {}), done.stderr
    assert found["after"] < 0.8 * found["before"] and found["free"] > 1 << 20, (found, done.stderr)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Read-only from the start: one warning, and what is captured waits in memory."""
    commands = f'mount -o remount,ro none "{tmp_path}"'
    found = run(tmp_path / "data", before=mounted(tmp_path, "4m", commands))
    check(found, stored=False)

    assert not found["flushed"] and not found["durable"] and found["spooled"] == found["captured"] > 0
    assert "read-only" in found["last_error"]


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that another user can come to; each session of pytest closes the parents of ``tmp_path`` again."""
    folder = Path(tempfile.mkdtemp(prefix="llmobs-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def give(folder: Path, owner: int, *, writable: bool) -> None:
    """All of *folder* to *owner*; others may read it at most, and it itself write only if *writable*."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner, -1)
        path.chmod((0o755 if writable else 0o555) if path.is_dir() else (0o644 if writable else 0o444))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("taken", ["before the start", "later"])
def test_f7_permissions_that_are_taken_away(public: Path, taken: str) -> None:
    """Whenever that is: the app answers as before, and once they are given back all is stored, without a restart."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root, to take them from another user")
    folder = public / "data"
    check(run(folder))
    give(folder, 65534, writable=True)
    script = [sys.executable, "-m", "tests.crash.fault_script", f"sqlite:///{folder / 'llmobs.db'}", str(folder)]
    rounds = [True, False, False, True] if taken == "later" else [False, False, True]
    with subprocess.Popen(
        ["setpriv", "--reuid", "65534", "--clear-groups", *script, str(len(rounds)), "20", "wait"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/nowhere"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        for writable in rounds:
            assert process.stdout.readline() == "ready\n"
            give(folder, 65534 if writable else 0, writable=writable)
            process.stdin.write("go\n")
            process.stdin.flush()
        out, errors = process.communicate(timeout=120)

    found = {**json.loads(out.splitlines()[-1]), "log": errors}
    check(found)
    assert "read-only" in errors or taken == "later", errors  # what is open already goes on
    with closing(sqlite3.connect(folder / "llmobs.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_too_few_files(tmp_path: Path) -> None:
    """A process that may open no more files answers as before, and its counters add up."""
    found = run(tmp_path / "data", before=["sh", "-c", 'ulimit -n 12; exec "$@"', "sh"])
    check(found, stored=False)


def test_a_store_that_another_process_holds(tmp_path: Path) -> None:
    """Locked the whole time: nothing is lost, and nobody waits for it but the end."""
    folder = tmp_path / "data"
    check(run(folder))
    holder = sqlite3.connect(folder / "llmobs.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    found = run(folder, seconds=8)
    holder.execute("ROLLBACK")
    holder.close()
    check(found, stored=False)

    assert found["spooled"] == found["captured"] > 0 and "locked" in found["log"] and found["slowest"] < 3
    again = run(folder)
    assert again["stored"] == again["captured"] >= 2 * found["captured"]
