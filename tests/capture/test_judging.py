"""``score`` in the app: about what runs here or what is named, and never in the app's way."""

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from asgi_llmobs import LLMObs, annotate, current, current_trace_id, observe, score, span, suppress, trace
from asgi_llmobs.queries.scores import scores_of_span, scores_of_trace
from asgi_llmobs.testing import capture


def test_about_what_runs_here(llmobs: Any) -> None:
    """The innermost open span of the app's own, else the trace."""
    with trace("job") as job:
        score("done", True)
        with span("search") as inner:
            score("found", 3, comment="few", author="eval")

    (done, found) = llmobs.scores
    assert (done.target, done.target_id, done.kind, done.value) == ("trace", job.trace_id, "thumbs", 1.0)
    assert (found.target, found.target_id, found.trace_id) == ("span", inner.id, job.trace_id)
    assert (found.kind, found.value, found.comment, found.author) == ("number", 3.0, "few", "eval")
    assert [one.name for one in llmobs.spans] == ["job", "search"]


def test_about_what_is_named(llmobs: Any) -> None:
    """A trace that is long over, a call by the app's own id, a session."""
    for name, named in (("a", {"trace": "f" * 32}), ("b", {"span": "order-1"}), ("c", {"session": "talk"})):
        score(name, "good", **named)  # type: ignore[arg-type]

    said = [(one.name, one.target, one.target_id) for one in llmobs.scores]
    assert said == [("a", "trace", "f" * 32), ("b", "span", "order-1"), ("c", "session", "talk")]


def test_what_cannot_be_kept_is_told_and_never_raised(llmobs: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Wrong values, no target, two targets: ``None``, a line in the log, and the app goes on."""
    before = llmobs.obs.stats().failures.get("score", 0)
    wrong: list[Any] = [
        score("nowhere", True),
        score("nan", float("nan"), trace="f" * 32),
        score("both", True, trace="f" * 32, session="s"),
        score("", True, trace="f" * 32),
        score("kind", True, kind="stars", trace="f" * 32),
        score("odd", object(), trace="f" * 32),  # type: ignore[arg-type]
    ]

    assert wrong == [None] * 6 and llmobs.scores == []
    assert llmobs.obs.stats().failures["score"] == before + 6
    assert "say which span, trace or session" in caplog.text


def test_nothing_where_nothing_is_recorded() -> None:
    """Suppressed, not sampled, switched off."""
    with capture(sample=0.0) as recorded, trace("job"):
        assert score("x", 1) is None
    with capture() as other, trace("job"), suppress():
        assert score("x", 1) is None
    assert recorded.scores == other.scores == []


def test_from_many_threads_and_tasks(llmobs: Any) -> None:
    """Every score arrives once, and on the trace that it was given in."""

    async def request(number: int) -> None:
        with trace(f"request {number}"):
            await asyncio.sleep(0)
            await asyncio.to_thread(score, "number", number, comment=current_trace_id())

    async def requests() -> None:
        await asyncio.gather(*(request(number) for number in range(100)))

    asyncio.run(requests())
    threads = [threading.Thread(target=score, args=("other", at), kwargs={"trace": "f" * 32}) for at in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    own = [one for one in llmobs.scores if one.name == "number"]
    assert sorted(one.value for one in own) == list(range(100))
    assert all(one.target_id == one.comment for one in own)
    assert sorted(one.value for one in llmobs.scores if one.name == "other") == list(range(20))


def test_on_its_way_to_the_store() -> None:
    """Through the spool like a call, counted like a call, secrets taken out; the same id is stored once."""
    obs = LLMObs("sqlite://", redact=[r"Ann\w*"], capture="metadata")
    with trace("job") as job, span("step") as step:
        obs.score("quality", 0.5, comment="said Annabel", id="once")
        obs.score("quality", 0.9, comment="changed", id="once")
    obs.score("helpful", False, trace=job.trace_id, author="bob")

    assert obs.flush()
    stats = obs.stats()
    assert stats.captured == stats.stored == 5
    found = scores_of_span(obs.database, "default", step.id or "")
    assert [one.score.value for one in found] == [0.5] and "Ann" not in (found[0].score.comment or "")
    assert len(scores_of_trace(obs.database, "default", job.trace_id or "")) == 2
    obs.close()


def test_from_outside_the_span(llmobs: Any) -> None:
    """A function that judges what an inner one did, with what ``current`` gives."""

    @observe(kind="tool")
    def tool() -> str:
        here = current()
        assert here is not None and here.span_id is not None
        return here.span_id

    with trace("request"):
        annotate(user="ann")
        id = tool()
        score("useful", True, span=id)

    assert llmobs.scores[0].target_id == id
    assert id in {one.id for one in llmobs.spans}


def test_outlives_the_process(tmp_path: Path) -> None:
    """A process that is gone the next moment leaves the score to the next one."""
    store = f"sqlite:///{tmp_path / 'llmobs.db'}"
    code = (
        "import os\nfrom asgi_llmobs import LLMObs, score\n"
        f"LLMObs('{store}')\nscore('helpful', True, trace='{'f' * 32}', comment='at last', author='ann')\nos._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=50, cwd=Path(__file__).parents[2])
    assert done.returncode == 9
    obs = LLMObs(store)
    obs.start()
    deadline = time.monotonic() + 40
    while not (found := scores_of_trace(obs.database, "default", "f" * 32)) and time.monotonic() < deadline:
        time.sleep(0.1)
    obs.close()

    (given,) = found
    assert (given.score.name, given.score.value, given.score.author, given.current) == ("helpful", 1.0, "ann", True)
    assert given.score.comment == "at last"
