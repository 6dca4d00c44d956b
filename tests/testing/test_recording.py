"""``capture()`` and the fixture: everything that happens in the block, as records, at once, nothing on disk."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_llmobs import LLMObs, LLMObsMiddleware, annotate, runtime, span, wrap
from asgi_llmobs.capture import clients, recorder
from asgi_llmobs.testing import Captured, capture
from tests.calling import URL, answer, ask, ask_sync, question

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """What a test sets up is gone after it."""
    before = runtime.current_engine()
    runtime.make_current(None)
    yield
    runtime.make_current(before)


def make_app(**options: Any) -> Starlette:
    """An app as a user has it."""

    async def endpoint(request: Request) -> PlainTextResponse:
        annotate(user="ada")
        return PlainTextResponse(await ask("in the app"))

    app = Starlette(routes=[Route("/chat", endpoint)])
    app.add_middleware(LLMObsMiddleware, **options)
    return app


def test_an_app_made_before_and_one_made_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the app was set up, and whether it has answered before: the block has what happens in it, only that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_VERSION", raising=False)
    before = TestClient(make_app())
    before.get("/chat")
    with capture() as llmobs:
        before.get("/chat")
        inside = TestClient(make_app(project="other"))
        inside.get("/chat")
        assert [call.text for call in llmobs.requests] == ["in the app"] * 2
        assert [root.name for root in llmobs.incoming] == ["GET /chat"] * 2
    inside.get("/chat")
    assert len(llmobs.requests) == 2
    engine = runtime.current_engine()
    assert engine is not None and engine is not llmobs.obs
    for found in list(runtime._engines):
        found.close()


def test_nothing_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_VERSION", raising=False)
    with capture() as llmobs:
        TestClient(make_app()).get("/chat")
        ask_sync()
        assert len(llmobs.requests) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_lists() -> None:
    """Requests, spans, traces and incoming requests, in the order of their start."""
    with capture() as llmobs:
        TestClient(make_app()).get("/chat")
        with span("tool", kind="tool"):
            ask_sync("in the tool")

        assert [call.text for call in llmobs.requests] == ["in the app", "in the tool"]
        assert [record.kind for record in llmobs.spans] == ["http", "llm", "tool", "llm"]
        assert [record.kind for record in llmobs.traces] == ["http", "tool"]
        assert [(root.user_id, root.route) for root in llmobs.incoming] == [("ada", "/chat")]
        llmobs.clear()
        assert llmobs.spans == []
        ask_sync("again")
        assert [call.text for call in llmobs.requests] == ["again"]
    assert [call.text for call in llmobs.requests] == ["again"]


def test_blocks_in_blocks() -> None:
    """The inner one takes what happens in it, the outer one the rest."""
    with capture() as outer:
        ask_sync("1")
        with capture(project="inner") as inner:
            ask_sync("2")
        ask_sync("3")
    assert [call.text for call in outer.requests] == ["1", "3"]
    assert [(call.text, call.project) for call in inner.requests] == [("2", "inner")]


def test_threads_are_captured() -> None:
    """It holds for the whole process."""
    with capture() as llmobs:
        threads = [threading.Thread(target=ask_sync, args=(str(number),)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {call.text for call in llmobs.requests} == {str(number) for number in range(8)}


def test_wrapped_clients_are_captured() -> None:
    """Also a client that was wrapped by another engine."""
    obs = LLMObs("sqlite://", instrument="off")
    client = obs.wrap(httpx.Client(transport=httpx.MockTransport(answer)))
    with capture(instrument="off") as llmobs:
        client.post(URL, json=question("wrapped"))
        wrap(httpx.Client(transport=httpx.MockTransport(answer))).post(URL, json=question("by the function"))
        assert [call.text for call in llmobs.requests] == ["wrapped", "by the function"]
    assert obs.stats().captured == 0
    client.close()


def test_it_records_where_the_environment_says_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite may switch recording off as a whole, and look at it in the tests that are about it."""
    monkeypatch.setenv("LLMOBS_ENABLED", "false")
    monkeypatch.setenv("LLMOBS_SAMPLE", "0")
    with capture() as llmobs:
        TestClient(make_app()).get("/chat")
        assert len(llmobs.requests) == 1


def test_everything_is_as_before_afterwards() -> None:
    """Also where the block ends with an exception."""
    watching, before_threads = clients.instrumented(), set(threading.enumerate())
    engine, default, override = runtime.current_engine(), recorder.default_recorder(), recorder._override
    with pytest.raises(ZeroDivisionError), capture():
        raise ZeroDivisionError
    assert (runtime.current_engine(), recorder.default_recorder(), recorder._override) == (engine, default, override)
    assert clients.instrumented() == watching
    assert set(threading.enumerate()) <= before_threads


def test_attempts_are_joined() -> None:
    """Retries of one request are one record with its attempts."""
    answers = iter([httpx.Response(429, json={"error": {"message": "slow down"}}), None])

    def handler(request: httpx.Request) -> httpx.Response:
        return next(answers) or answer(request)

    with capture() as llmobs, httpx.Client(transport=httpx.MockTransport(handler)) as client, span("retrying"):
        for number in range(2):
            client.post(URL, json=question("hi"), headers={"x-stainless-retry-count": str(number)})
        (call,) = llmobs.requests
    assert [attempt.status for attempt in call.attempts] == [429, 200]
    assert (call.outcome, call.text) == ("ok", "hi")


def test_the_fixture(llmobs: Captured) -> None:
    """The plugin gives the same as a fixture."""
    ask_sync("by the fixture")
    assert [call.text for call in llmobs.requests] == ["by the fixture"]


def test_the_plugin_is_registered() -> None:
    """Installed, pytest finds it by itself."""
    assert [found.value for found in entry_points(group="pytest11", name="llmobs")] in (
        ["asgi_llmobs.testing.plugin"],
        [],  # a checkout that is not installed
    )
    assert (
        '[project.entry-points.pytest11]\nllmobs = "asgi_llmobs.testing.plugin"'
        in (ROOT / "pyproject.toml").read_text()
    )


SUITE = """
import sys
sys.path.insert(0, {root!r})
import pytest
from tests.calling import ask_sync

@pytest.mark.parametrize("number", range(8))
def test_each(llmobs, number):
    ask_sync(str(number))
    assert [call.text for call in llmobs.requests] == [str(number)]
"""


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_in_a_suite_of_a_user(arguments: list[str], tmp_path: Path) -> None:
    """A suite elsewhere takes the fixture, in one process or in several, and stays quiet."""
    (tmp_path / "test_it.py").write_text(SUITE.format(root=str(ROOT)))
    installed = bool(entry_points(group="pytest11", name="llmobs"))
    plugin = [] if installed else ["-p", "asgi_llmobs.testing.plugin"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout and "warning" not in done.stdout
