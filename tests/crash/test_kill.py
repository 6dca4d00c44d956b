"""A process that is killed in the middle of its work, again and again: 0 finished calls lost, 0 doubled."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import NamedTuple

import pytest

from asgi_llmobs.store.database import Database
from tests.crash.conftest import Place
from tests.crash.identity import adopt
from tests.processes import ROOT

BACKENDS = ["sqlite", "postgresql"]


class Story(NamedTuple):
    """What a process said before it was killed: the calls that had returned."""

    finished: list[str]
    streaming: bool


def loaded(place: Place) -> "subprocess.Popen[bytes]":
    """A process in which four threads ask on and on, and one listens to a stream."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LLMOBS_DATA_DIR": place.folder}
    environment.pop("PYTEST_VERSION", None)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.spool.dying", "load", place.url],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )


def killed(process: "subprocess.Popen[bytes]", seconds: float) -> Story:
    """Killed so many seconds after its stream began."""
    assert process.stdout is not None
    heard: list[str] = []
    began = 0.0
    for line in process.stdout:
        heard.append(line.decode().rstrip("\n"))
        if heard[-1] == "streaming":
            began = time.monotonic()
        if began and time.monotonic() - began > seconds:
            break
    process.send_signal(signal.SIGKILL)
    out, errors = process.communicate()
    assert errors == b""
    heard += out.decode().splitlines()
    return Story([line for line in heard if line != "streaming"], "streaming" in heard)


def stored(place: Place) -> list[tuple[str, str]]:
    """Outcome and beginning of the answer of each stored call."""
    database = Database(place.url, create=False)
    try:
        with database.read() as connection:
            query = "SELECT outcome, output_preview FROM llmobs_spans WHERE kind = 'llm'"
            return [(outcome, text or "") for outcome, text in connection.exec_driver_sql(query)]
    finally:
        database.dispose()


def compare(place: Place, story: Story) -> None:
    """Each call that had returned is there once, and the stream with what had come of it."""
    rows = stored(place)
    finished = Counter(text for outcome, text in rows if outcome == "ok")
    interrupted = [text for outcome, text in rows if outcome == "interrupted"]
    assert [name for name in story.finished if finished[name] != 1] == []
    assert max(finished.values()) == 1
    assert {outcome for outcome, _ in rows} <= {"ok", "interrupted"}
    assert story.streaming and any(text.startswith("w0 w1 w2 ") for text in interrupted)
    assert len(interrupted) <= 5  # four calls and the stream


@pytest.mark.parametrize("place", BACKENDS, indirect=True)
def test_f2_kill_9_under_load(place: Place) -> None:
    """0 lost, 0 doubled, and the files are gone after the next start."""
    story = killed(loaded(place), 0.4)
    assert len(story.finished) > 50

    adopt(place.url, place.folder)

    compare(place, story)
    assert os.listdir(os.path.join(place.folder, "spool")) == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [pytest.param(2, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)])
@pytest.mark.parametrize("place", BACKENDS, indirect=True)
def test_f2_kill_9_again_and_again(place: Place, times: int) -> None:
    """On one database, at a different moment each time."""
    every: list[str] = []
    for number in range(times):
        story = killed(loaded(place), 0.07 * number)
        every += story.finished
        adopt(place.url, place.folder)
    rows = Counter(text for outcome, text in stored(place) if outcome == "ok")

    assert [name for name in every if rows[name] != 1] == []
    assert max(rows.values()) == 1
