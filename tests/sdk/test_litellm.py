"""litellm, bare and watched, in an interpreter of its own: it pins ``openai<3``.

Its async calls go over an ``aiohttp`` transport inside httpx, so ``AsyncClient.send`` still sees each of them.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from asgi_llmobs.testing import FakeProvider, Received

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Ran:
    """What the script printed, and what the server got of its two runs."""

    def __init__(self, printed: dict[str, Any], log: list[Received]) -> None:
        self.printed = printed
        self.bare, self.watched = printed["bare"], printed["watched"]
        self.log = log

    def one(self, name: str) -> dict[str, Any]:
        """The only record of a scenario."""
        records = self.watched[name]["records"]
        assert len(records) == 1, records
        record: dict[str, Any] = records[0]
        return record


@pytest.fixture(scope="module")
def ran() -> Ran:
    """The script, run once."""
    python = os.environ.get("LLMOBS_TEST_LITELLM_PYTHON")
    if not python:
        pytest.skip("name an interpreter that has litellm in LLMOBS_TEST_LITELLM_PYTHON")
    fake = FakeProvider()
    environment = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "OPENAI_API_KEY": "", "NO_PROXY": "*"}
    with fake.serve() as url:
        done = subprocess.run(
            [python, str(HERE / "litellm_script.py"), url],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=55,
        )
        assert done.returncode == 0, done.stderr[-4_000:]
        return Ran(json.loads(done.stdout.splitlines()[-1]), list(fake.log))


NAMES = (
    "completion acompletion stream astream anthropic aanthropic anthropic_stream embedding aembedding headers "
    "retry error broken cancelled"
).split()


def test_every_scenario_ran(ran: Ran) -> None:
    """The names here are those of the script, and nothing of ours failed."""
    assert ran.printed["names"] == NAMES
    assert ran.printed["failures"] == {}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_differs(ran: Ran, name: str) -> None:
    """Results, exceptions and the number of sends are those of a bare run."""
    bare, watched = ran.bare[name], ran.watched[name]

    assert json.loads(json.dumps(watched["result"]).replace("watched", "bare")) == bare["result"]
    assert watched["sends"] == bare["sends"]
    assert ("type" in watched["result"]) is (name in ("error", "broken", "cancelled"))


def test_the_server_gets_the_same(ran: Ran) -> None:
    """Bodies and headers are the same in both runs but for ours, which never arrive."""

    def sent(received: Received) -> Any:
        ours = ("llmobs-", "helicone-", "x-fake")
        headers = {name: value for name, value in received.headers.items() if not name.startswith(ours)}
        return received.path, received.status, headers, received.body

    half = len(ran.log) // 2
    assert [sent(item) for item in ran.log[half:]] == [sent(item) for item in ran.log[:half]]
    assert not [name for item in ran.log[half:] for name in item.headers if name.startswith(("llmobs-", "helicone-"))]
    assert [name for item in ran.log[:half] for name in item.headers if name.startswith(("llmobs-", "helicone-"))]


@pytest.mark.parametrize("name", ["completion", "acompletion", "anthropic", "aanthropic"])
def test_P19_a_whole_answer_is_one_record(ran: Ran, name: str) -> None:
    """Sync over httpx and async over aiohttp: one record with text, usage and price."""
    record, result = ran.one(name), ran.watched[name]["result"]

    assert record["provider"] == ("anthropic" if "anthropic" in name else "openai")
    assert record["text"] == result["choices"][0]["message"]["content"] != ""
    assert record["output_tokens"] == result["usage"]["completion_tokens"]
    assert (record["outcome"], record["status"], record["priced"]) == ("ok", 200, True)
    assert len(record["attempts"]) == 1
    assert record["caller"].startswith("tests/sdk/litellm_script.py:")
    assert record["caller"].endswith(f" {name}")


def test_async_goes_over_one_send(ran: Ran) -> None:
    """With its own transport below, each async call is one ``AsyncClient.send``."""
    assert [ran.watched[name]["sends"] for name in ("acompletion", "aanthropic", "aembedding")] == [
        {"AsyncClient": 1}
    ] * 3


@pytest.mark.parametrize("name", ["stream", "astream", "anthropic_stream"])
def test_P19_a_stream_is_one_record(ran: Ran, name: str) -> None:
    """Text joined, usage of the last chunk, and the first token."""
    record, chunks = ran.one(name), ran.watched[name]["result"]
    texts = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]

    assert record["text"] == "".join(texts) != ""
    assert (record["outcome"], record["stream"], record["first_token"]) == ("ok", True, True)
    assert record["output_tokens"] > 0
    assert record["after_last_chunk_ms"] < 200  # also where nobody closes it before it is collected


@pytest.mark.parametrize("name", ["embedding", "aembedding"])
def test_embeddings(ran: Ran, name: str) -> None:
    """Embeddings are a record of their own operation."""
    record = ran.one(name)

    assert (record["operation"], record["outcome"]) == ("embeddings", "ok")
    assert record["input_tokens"] == ran.watched[name]["result"]["usage"]["prompt_tokens"]


def test_headers_of_ours(ran: Ran) -> None:
    """Our headers are read."""
    assert (ran.one("headers")["user_id"], ran.one("headers")["session_id"]) == ("ada", "s-1")


def test_attempts_of_one_request(ran: Ran) -> None:
    """A refusal and the answer after it are one request of two attempts."""
    assert ran.one("retry")["attempts"] == [[429, "error", "0.02"], [200, "ok", None]]


def test_failures(ran: Ran) -> None:
    """An error, a broken stream and a cancelled one each have their outcome."""
    assert (ran.one("error")["outcome"], ran.one("error")["status"]) == ("error", 401)
    assert ran.one("error")["error_message"] == "No key."
    assert ran.one("broken")["outcome"] == "error"
    assert ran.one("broken")["text"].startswith("You can")
    assert ran.one("cancelled")["outcome"] == "cancelled"
