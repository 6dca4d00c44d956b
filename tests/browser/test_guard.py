"""The guard of the admin as a browser enforces it: signing in, hostile prompts, hostile sites."""

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route

from asgi_llmobs.admin import Admin
from asgi_llmobs.auth import token
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from asgi_llmobs.testing.server import serve
from tests.admin.seeding import canaries
from tests.browser.conftest import Watched
from tests.making import request

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

Open = Callable[..., Watched]
TOKEN = "a long enough secret"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A store with one request."""
    made = Database(f"sqlite:///{tmp_path / 'llmobs.db'}")
    Sink(made).write([request(session_id="trip-1", user_id="ada")])
    yield made
    made.dispose()


def below(admin: Any) -> Starlette:
    return Starlette(routes=[Mount("/in/llm", admin)])


def test_sign_in_link(database: Database, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """The link of the log signs in at once; its code is gone from the address and the history; signing out works."""
    with serve(below(Admin(database=database, environ={"LLMOBS_STRICT": "1"}))) as url:
        watched = opened(url)
        page = watched.page
        with caplog.at_level(logging.WARNING, "asgi_llmobs"):
            watched.go("/in/llm/requests?status=ok")
        assert page.url == f"{url}/in/llm/login?next=requests%3Fstatus%3Dok"
        link = re.search(r"http\S+/login#(\S+)", caplog.text)
        assert link is not None

        page.goto("about:blank")
        page.goto(link[0])
        page.wait_for_url(f"{url}/in/llm/")
        assert page.get_by_role("heading", level=1).inner_text() == "Overview"
        (cookie,) = page.context.cookies()
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and cookie["path"] == "/in/llm"
        page.go_back()
        assert link[1] not in page.url and link[1] not in page.content()
        assert not [call for call in watched.calls if link[1] in call]

        watched.go("/in/llm/")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{url}/in/llm/login")
        assert page.context.cookies() == []
        watched.go("/in/llm/")
        assert "/login" in page.url


HOSTILE = """<img src=/stolen onerror=alert(1)></script><script>alert(2)</script>"'><svg onload=alert(3)><!--
![x](/stolen?a) <iframe src=/stolen></iframe> <link rel=stylesheet href=/stolen> [x](javascript:alert(4)) {{7*7}}"""


def test_hostile_prompts(database: Database, opened: Open) -> None:
    """A prompt that wants to run, to load or to lead away does nothing, in whichever field it stands."""
    call, work = canaries(HOSTILE)
    Sink(database).write([call, work])
    with serve(Admin(database=database, auth=lambda request: "owner", environ={})) as url:
        watched = opened(url)
        page = watched.page
        for path in ("/", "/requests", f"/requests/{call.id}", "/traces", f"/traces/{call.trace_id}?node={call.id}",
                     "/sessions"):  # fmt: skip
            assert watched.go(path).status == 200
            assert page.locator("[onerror], [onload], main :is(img, iframe, script, link)").count() == 0
            page.locator("details").evaluate_all("(all) => all.forEach((each) => { each.open = true })")
        page.wait_for_timeout(200)  # what was going to be fetched is on its way by then
        assert not [each for each in watched.calls if "stolen" in each]
        assert len(watched.calls) >= 6


def test_hostile_sites(database: Database, opened: Open) -> None:
    """A page on another port, where cookies do go along, can neither read nor change nor frame anything."""
    with serve(below(Admin(database=database, auth=token(TOKEN), environ={}))) as url:
        evil = Starlette(routes=[Route("/", lambda request: HTMLResponse(EVIL.replace("ADMIN", f"{url}/in/llm")))])
        with serve(evil) as elsewhere:
            watched = opened(url, checked=False)
            page = watched.page
            watched.go("/in/llm/login")
            page.get_by_label("Token or password").fill(TOKEN)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(f"{url}/in/llm/")

            page.goto(elsewhere)
            page.wait_for_function("window.done === true")
            assert page.evaluate("window.read") == []
            assert all("trip-1" not in frame.content() for frame in page.frames)
            with page.expect_response(lambda response: response.url.endswith("/logout")) as answered:
                page.locator("#leave button").click()
            assert answered.value.status == 403
            again = page.context.new_page()
            again.goto(f"{url}/in/llm/sessions")
            assert "trip-1" in again.locator("main").inner_text(), "still signed in"


EVIL = """<!doctype html><title>x</title>
<form id=leave method=post action="ADMIN/logout"><button>x</button></form>
<iframe src="ADMIN/sessions"></iframe><img src="ADMIN/icon" onload="read.push('image')">
<script>
window.read = [];
const tries = [["cors", "include"], ["cors", "omit"]].map(([mode, credentials]) =>
  fetch("ADMIN/sessions.json", {mode, credentials}).then(
    (answer) => answer.text()).then((text) => read.push(text), () => 0));
tries.push(fetch("ADMIN/sessions.json", {mode: "no-cors", credentials: "include"}).then(
  (answer) => answer.text()).then((text) => { if (text) read.push(text); }, () => 0));
tries.push(new Promise((done) => { const tag = document.createElement("script"); tag.src = "ADMIN/sessions.json";
  tag.onload = () => { read.push("script"); done(); }; tag.onerror = done; document.head.append(tag); }));
Promise.all(tries).then(() => { window.done = true; });
</script>"""
