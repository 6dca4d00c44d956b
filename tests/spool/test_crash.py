"""Processes that die: no finished call is lost or doubled, what was under way comes back as interrupted."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asgi_llmobs import LLMObs
from tests.crash import identity
from tests.processes import ROOT, crowd
from tests.servers.serving import APP, served

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
ENVIRONMENT.pop("PYTEST_VERSION", None)


def start(what: str, database: Path, *before: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*before, sys.executable, "-m", "tests.spool.dying", what, str(database)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )


def adopt(database: Path) -> Any:
    """The next start: everything that was left behind is stored; the counters."""
    stats = identity.adopt(f"sqlite:///{database}", str(database.parent))
    assert stats.failures.get("pipeline", 0) == 0
    return stats


def stored(database: Path) -> list[tuple[str, str]]:
    """Outcome and beginning of the answer of each stored call."""
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT outcome, output_preview FROM llmobs_spans WHERE kind = 'llm'"
        return [(outcome, text or "") for outcome, text in connection.execute(query)]


def left(database: Path) -> list[str]:
    folder = database.parent / "spool"
    return sorted(str(path) for path in folder.iterdir()) if folder.exists() else []


def check(database: Path, acknowledged: Sequence[str]) -> list[str]:
    """Each acknowledged call is there once; the texts of the interrupted ones."""
    rows = stored(database)
    finished = Counter(text for outcome, text in rows if outcome == "ok")
    assert [name for name in acknowledged if finished[name] != 1] == []
    assert max(finished.values()) == 1
    assert {outcome for outcome, _ in rows} <= {"ok", "interrupted"}
    assert left(database) == []
    return [text for outcome, text in rows if outcome == "interrupted"]


def killed(database: Path, seconds: float) -> None:
    """Load, SIGKILL in the middle of it, the next start."""
    process = start("load", database)
    assert process.stdout is not None
    heard: list[str] = []
    streaming = 0.0
    for line in process.stdout:
        heard.append(line.decode().rstrip("\n"))
        if heard[-1] == "streaming":
            streaming = time.monotonic()
        if streaming and time.monotonic() - streaming > seconds:
            break
    process.kill()
    heard += process.stdout.read().decode().splitlines()
    process.wait()
    process.stdout.close()
    assert process.stderr is not None and process.stderr.read() == b""
    process.stderr.close()
    heard.remove("streaming")
    assert len(heard) > 50

    adopt(database)

    interrupted = check(database, heard)
    assert any(text.startswith("w0 w1 w2 ") for text in interrupted)
    assert len(interrupted) <= 5


@pytest.mark.parametrize("number", range(5))
def test_p4_kill_9_under_load(number: int, tmp_path: Path) -> None:
    """Five times, at different moments: 0 finished calls lost, 0 doubled, the stream comes back with its text."""
    killed(tmp_path / "llmobs.db", 0.05 + 0.13 * number)


@pytest.mark.slow
def test_p4_kill_9_of_a_process_whose_other_threads_hardly_run(tmp_path: Path) -> None:
    """Where the app keeps the interpreter to itself, files are ready in time all the same."""
    database = tmp_path / "llmobs.db"
    process = start("busy", database)
    assert process.communicate() == (b"", b"")

    adopt(database)

    rows = stored(database)
    assert Counter(outcome for outcome, _ in rows) == {"ok": 4_000}
    assert len({text.split()[0] for _, text in rows}) == 4_000


@pytest.mark.slow
def test_the_writer_keeps_up_with_a_process_that_computes_on_and_on(tmp_path: Path) -> None:
    """Its calls make room for it: otherwise it would have the interpreter for some hundredths of the time."""
    out, errors = start("keep-up", tmp_path / "llmobs.db").communicate()

    stats = json.loads(out)["stats"]
    assert errors == b""
    assert stats["captured"] == 8_001 == stats["stored"] + stats["spooled"]
    assert stats["stored"] > 500  # without that room it is one


@pytest.mark.long
@pytest.mark.timeout(300)
def test_p4_kill_9_twenty_times(tmp_path: Path) -> None:
    """The same, again and again on one database."""
    for number in range(20):
        killed(tmp_path / f"{number}" / "llmobs.db", 0.07 * number)


def test_p4_os_exit(tmp_path: Path) -> None:
    """No hook of ours runs, nothing is lost."""
    database = tmp_path / "llmobs.db"
    out, errors = start("leave", database).communicate()

    stats = adopt(database)

    assert (len(out.split()), errors) == (20, b"")
    assert check(database, out.decode().split()) == []
    assert stats.adopted <= 20


def test_p7_fork(tmp_path: Path) -> None:
    """Parent and child each keep their own; nothing twice."""
    database = tmp_path / "llmobs.db"
    out, errors = start("fork", database).communicate()

    adopt(database)

    assert (len(out.split()), errors) == (45, b"")
    assert check(database, out.decode().split()) == []
    assert len(stored(database)) == 45


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--lifespan", "off")], ids=["one", "two", "no-lifespan"])
def test_p1_sigterm_under_uvicorn(options: tuple[str, ...], tmp_path: Path) -> None:
    """Every call whose answer came is stored: by the stop itself, or by the next start."""
    command = ["uvicorn", APP, "--log-level", "warning", *options, "--port"]
    with served(lambda port: [*command, str(port)], tmp_path) as app:
        ids = [f"c{number}" for number in range(60)]
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(lambda id: app.get(f"/below/{id}"), ids))
        assert app.stop() < 5 * crowd()

    if not options or (
        "off" not in options and crowd() == 1.0
    ):  # two that are crowded leave the rest to the next start
        assert set(ids) <= {text for _, text in stored(tmp_path / "llmobs.db")}
    adopt(tmp_path / "llmobs.db")
    assert check(tmp_path / "llmobs.db", ids) == []


@pytest.mark.slow
def test_f2_a_living_worker_takes_over(tmp_path: Path) -> None:
    """One of two workers is killed: the other, or the one in its place, stores what it left."""
    database = tmp_path / "llmobs.db"
    engine = LLMObs(f"sqlite:///{database}", instrument="off")
    engine.start()
    process = start("load", database)
    assert process.stdout is not None
    heard = [process.stdout.readline().decode().strip() for _ in range(100)]
    process.kill()
    heard += process.stdout.read().decode().splitlines()
    process.communicate()
    died = time.monotonic()
    while engine.stats().adopted == 0 and time.monotonic() - died < 40:
        time.sleep(0.05)
    assert engine.flush()
    engine.close()

    check(database, [name for name in heard if name != "streaming"])


@pytest.mark.parametrize("what", ["limited", "tell"])
def test_f5_a_full_disk(what: str, tmp_path: Path) -> None:
    """Files may not grow, or the disk is full: every call of the app returns, and the counters add up."""
    database = tmp_path / "full" / "llmobs.db"
    database.parent.mkdir()
    before: tuple[str, ...] = ()
    if what == "tell":
        mount = f"mount -t tmpfs -o size=200k none {database.parent}"
        before = ("unshare", "-m", "sh", "-c", f'{mount} || exit 77; exec "$@"', "sh")
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            pytest.skip("needs root and unshare to mount a small disk")
    process = start(what, database, *before)
    out, errors = process.communicate()
    if process.returncode == 77:
        pytest.skip("no mount here")

    assert process.returncode == 0, errors
    stats = json.loads(out)["stats"]
    assert stats["captured"] == stats["stored"] + stats["spooled"] + sum(stats["dropped"].values())
    assert not stats["durable"]
    assert errors.count(b"no file can be written") == 1


def test_f7_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    """Read-only from the start: one warning, every call returns."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("needs a user that is not root")
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/") and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    as_nobody = ("setpriv", "--reuid", "65534", "--clear-groups") if os.geteuid() == 0 else ()
    process = start("tell", folder / "llmobs.db", *as_nobody)
    out, errors = process.communicate()

    assert process.returncode == 0, errors
    stats = json.loads(out)["stats"]
    assert stats["captured"] == 300 == stats["stored"] + stats["spooled"] + sum(stats["dropped"].values())
    assert errors.count(b"no file can be written") == 1


def test_a_signal_in_the_middle_costs_nothing(tmp_path: Path) -> None:
    """Stopped and continued, as serverless hosts do: what had returned is there before anything runs again."""
    database = tmp_path / "llmobs.db"
    process = start("load", database)
    assert process.stdout is not None
    heard = [process.stdout.readline().decode().strip() for _ in range(50)]
    process.send_signal(signal.SIGSTOP)
    process.kill()
    heard += process.stdout.read().decode().splitlines()
    process.communicate()

    adopt(database)

    check(database, [name for name in heard if name != "streaming"])
