"""Very large requests: bounded in memory and in the store, neither read nor held up in the app's own task."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from asgi_llmobs import LLMObs
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import get_request, list_requests
from tests.calling import URL
from tests.capture.large_script import TIMES
from tests.processes import ROOT

OURS_KB = 80_000  # what we are: modules, a database, the pages of the spool's files


def run(kind: str, folder: str, seconds: float) -> Any:
    """What became of an app that sends such requests, in a process of its own."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "LLMOBS"))}
    done = subprocess.run(
        [sys.executable, "-m", "tests.capture.large_script", kind, folder],
        cwd=ROOT, env={**known, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout)


def sent(kind: str, folder: Path, grown_kb: int, seconds: float = 55) -> Any:
    """With us; memory, counters and pages are as they are to be."""
    bare, found = run(kind, "-", seconds), run(kind, str(folder), seconds)
    calls = TIMES + 4  # the first ones were small
    print({"without": bare, "with": found})
    assert found["stored_kb"] - bare["asked_kb"] < OURS_KB + grown_kb
    assert found["shown_kb"] - found["stored_kb"] < grown_kb
    assert found["stats"][:3] == [found["stats"][0], found["stats"][0], 0] and found["stats"][3:] == [{}, {}]
    assert found["rows"] == calls
    assert [status for status, _ in found["pages"]] == [200, 200]
    return found


@pytest.mark.parametrize("length", [500_000, 3_000_000])
def test_p40_far_more_than_is_kept(database_url: str, length: int) -> None:
    """Of request and answer head and tail are kept, and the size of the whole; neighbours are stored as they are."""
    words = random.Random(length).randbytes(length // 2).hex(" ", 8)
    sent = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": words}]}).encode()
    choice = {"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}
    got = json.dumps({"id": "c", "model": "gpt-4o", "choices": [choice]}).encode()
    obs = LLMObs(database_url, instrument="off", max_body=100_000)
    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=httpx.ByteStream(got)))
    client = obs.wrap(httpx.Client(transport=transport))
    for content in (b"{}", sent, b"{}"):
        assert client.post(URL, content=content, headers={"content-type": "application/json"}).content == got
    assert obs.flush(40)
    rows = list_requests(obs.database, Filter()).rows
    found = [get_request(obs.database, row.id, project="default") for row in rows]
    obs.close()

    large = [one.request for one in found if one is not None and one.request.request_body.size > 2]  # type: ignore[union-attr]
    assert (len(found), len(large)) == (3, 1)
    for body, whole in ((large[0].request_body, sent), (large[0].response_body, got)):
        assert body is not None and len(body.content) == 100_000
        assert (body.size, body.truncated) == (len(whole), True)
        assert whole.startswith(body.content[:75_000]) and whole.endswith(body.content[-12_000:])
        if body is large[0].response_body or length < 800_000:
            assert body.sha256 == hashlib.sha256(whole).hexdigest()


@pytest.mark.slow
def test_p43_a_picture_of_fifty_megabytes(tmp_path: Path) -> None:
    """It is neither kept nor copied, and the loop is not held up for as long as it would take to read it."""
    found = sent("image", tmp_path, grown_kb=80_000)
    kept, size, sha256, truncated, slimmed = found["kept"]

    assert kept < 3_000_000 and size == found["size"] and sha256 in (None, found["sha256"]) and (truncated or slimmed)
    assert found["held"] < found["parsed"]


@pytest.mark.slow
def test_p43_ten_thousand_messages(tmp_path: Path) -> None:
    """All are there; they are read elsewhere, and their page shows some at a time."""
    found = sent("messages", tmp_path, grown_kb=80_000)

    assert found["held"] < found["parsed"]
    assert found["pages"][0][1] < 1_000_000


@pytest.mark.long
@pytest.mark.timeout(600)
def test_p40_more_than_a_gigabyte(tmp_path: Path) -> None:
    """Head and tail and the size of the whole are kept, and memory grows by what is kept; others are stored."""
    found = sent("huge", tmp_path, grown_kb=120_000, seconds=280)
    kept, size, sha256, truncated, _ = found["kept"]

    assert (kept, size, truncated) == (2 * 1024 * 1024, found["size"], True)
    assert sha256 in (None, found["sha256"])  # so much is not added up in the app's own task
    assert found["ends"] == [True, True]
