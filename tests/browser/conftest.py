"""A real browser, the example app as a user starts it, and an eye on what the pages do behind the user's back."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import ROOT, free_port

REPORT = """addEventListener("securitypolicyviolation", (event) =>
  console.error("CSP " + event.violatedDirective + " " + event.blockedURI + " " + event.sourceFile));"""


@pytest.fixture(autouse=True)
def pages_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other tests is no reason to answer that the store is."""
    monkeypatch.setattr("asgi_llmobs.admin.app.READ_SECONDS", 60.0)
    monkeypatch.setattr("asgi_llmobs.admin.feed.READ_SECONDS", 60.0)
    monkeypatch.setattr("asgi_llmobs.admin.workers.WAIT_SECONDS", 60.0)


@contextmanager
def example_app(folder: Path) -> Iterator[str]:
    """The example app as its first line says to start it; its address."""
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("LLMOBS_", "PYTEST"))}
    environ.update(
        LLMOBS_DEV="1",
        LLMOBS_DATABASE_URL=f"sqlite:///{folder / 'llmobs.db'}",
        PYTHONPATH=str(ROOT),
        PYTHONUNBUFFERED="1",
    )
    command = [sys.executable, "-m", "uvicorn", "example_app.app:app", "--port", str(port), "--log-level", "warning"]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: process.poll() is not None or answers(f"{url}/"), folder)
        assert process.poll() is None, (folder / "log.txt").read_text()
        yield url
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(ready: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline, (folder / "log.txt").read_text()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def travelled(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the example app after one user chatted twice and another asked its agent; all of it stored."""
    folder = tmp_path_factory.mktemp("example")
    with example_app(folder) as url, httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        turn = {"user": "ada", "session": "ada-lisbon"}
        for message in ("What is in the itinerary for Lisbon?", "And with two children?"):
            assert client.post("/chat", json={"message": message, **turn}).status_code == 200
        goal = "Find flights from Vienna to Kyoto and the weather there"
        client.post("/agent", json={"message": goal, "user": "ken", "session": "ken-plan"}).raise_for_status()

        def stored() -> bool:
            rows = client.get("/_llmobs/requests.json").json()["rows"]
            return len(rows) >= 4 and all(row["outcome"] != "running" for row in rows)

        wait_for(stored, folder)
        yield url


@pytest.fixture(scope="module")
def chrome(chromium: str) -> Iterator[Any]:
    """The browser; it ends with its module, since while it is there no other event loop can run in this thread."""
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect.set_options(timeout=30_000)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Watched:
    """A page, and all that it did: messages, dialogs, violations of its policy, calls to elsewhere."""

    def __init__(self, context: Any, url: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.url = url
        self.complaints: list[str] = []
        self.calls: list[str] = []
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.note(message.text))
        self.page.on("pageerror", lambda error: self.note(str(error)))
        self.page.on("dialog", lambda dialog: (self.note(f"dialog {dialog.message}"), dialog.dismiss()))
        context.on("request", lambda request: self.calls.append(request.url))
        context.add_init_script(REPORT)

    def note(self, text: str) -> None:
        self.complaints.append(text)

    def go(self, path: str) -> Any:
        """Open an address below the admin."""
        return self.page.goto(f"{self.url}{path}")

    def check(self) -> None:
        """Nothing went wrong, and nothing outside was asked for."""
        assert self.complaints == []
        assert [call for call in self.calls if not call.startswith((f"{self.url}/", "data:"))] == []


@pytest.fixture
def opened(chrome: Any) -> Iterator[Callable[..., Watched]]:
    """Opens a page in a fresh profile, in front of an address; what it did is checked at the end."""
    contexts, pages = [], []

    def open_page(url: str, *, checked: bool = True, **options: Any) -> Watched:
        context = chrome.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        watched = Watched(context, url)
        if checked:
            pages.append(watched)
        return watched

    yield open_page
    for each in pages:
        each.check()
    for context in contexts:
        context.close()
