"""The admin in a real Chromium: what no look at the bytes can show."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_llmobs.admin import Admin
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from asgi_llmobs.testing import serve
from tests.admin.seeding import canaries, fill
from tests.making import SECOND, START, request

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

TOKEN = "a-long-enough-token"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'`{{7*7}}javascript:alert(3)//"
POINTS = ("", "requests", "requests/{first}", "requests/{canary}", "traces", "traces/{trace}", "traces/{hostile}",
          "sessions", "sessions/trip-1", "status", "requests?model=nothing", "requests?min_cost=x", "nowhere")  # fmt: skip


class Stripped:
    """A proxy that takes a prefix away and tells nobody."""

    def __init__(self, app: Any, prefix: str) -> None:
        self.app, self.prefix = app, prefix

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix(self.prefix)
            scope = {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One Chromium for all tests here."""
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def ids() -> dict[str, str]:
    """What the addresses are filled with."""
    return {}


@pytest.fixture(scope="module")
def site(ids: dict[str, str]) -> Iterator[str]:
    """A filled admin for everybody, an empty one, a locked one, one with a token, and one behind a proxy."""
    filled, empty = Database("sqlite://"), Database("sqlite://")
    records = fill(filled)
    call, span = canaries(HOSTILE)
    many = [request(f"Question {n}", f"Answer {n}", start_ns=START - n * SECOND) for n in range(60)]
    Sink(filled).write([call, span, *many])
    ids.update(first=records["first"].id, trace=records["first"].trace_id, canary=call.id, hostile=call.trace_id)

    def owner(_: Any) -> bool:
        return True

    inner = Admin(database=filled, auth=owner)
    app = Starlette(
        routes=[
            Mount("/_llmobs", Admin(database=filled, auth=owner)),
            Mount("/empty", Admin(database=empty, auth=owner)),
            Mount("/locked", Admin(database=empty, environ={})),
            Mount("/token", Admin(database=empty, environ={"LLMOBS_ADMIN_TOKEN": TOKEN})),
            Mount("/tools/behind", Stripped(inner, "/tools/behind")),
        ]
    )
    with serve(app) as url:
        yield url
    filled.dispose()
    empty.dispose()


class Watched:
    """A page that notes whatever a page should not do."""

    def __init__(self, page: Page, site: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.note(message.type in ("error", "warning"), message.text))
        page.on("pageerror", lambda error: self.note(True, str(error)))
        page.on("dialog", lambda dialog: (self.note(True, f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("request", lambda request: self.note(not request.url.startswith(site), f"asked for {request.url}"))

    def note(self, wrong: bool, text: str) -> None:
        # that a page answers 404 or 422 is told by the browser in the same place as real errors
        if wrong and "the server responded with a status of 4" not in text:
            self.complaints.append(text)


@pytest.fixture
def watched(browser: Browser, site: str) -> Iterator[Watched]:
    """A fresh browser window of a desktop."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield Watched(context.new_page(), site)
    context.close()


@pytest.mark.parametrize("javascript", [True, False], ids=["js", "nojs"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page(browser: Browser, site: str, ids: dict[str, str], scheme: Any, javascript: bool) -> None:
    """No script or picture of a prompt comes to life, nothing is asked elsewhere, nothing is wider than the window."""
    for width in (1280, 390):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=javascript
        )
        view = Watched(context.new_page(), site)
        for point in (*POINTS, "../empty/", "../empty/requests", "../token/login"):
            view.page.goto(f"{site}/_llmobs/{point.format(**ids)}")

            assert view.page.locator("h1").is_visible(), point
            assert view.page.locator("main img, main script, main iframe, [onerror]").count() == 0, point
            if javascript:
                assert not view.page.evaluate("document.documentElement.scrollWidth > innerWidth"), (point, width)
        context.close()

        assert view.complaints == []


def test_first_page_is_light(watched: Watched, site: str) -> None:
    """Few requests and less than 100 KB."""
    sizes: list[int] = []
    watched.page.on("response", lambda response: sizes.append(len(response.body())))
    watched.page.goto(f"{site}/_llmobs/requests", wait_until="networkidle")

    assert len(watched.asked) <= 5
    assert sum(sizes) <= 200_000  # before compression


def test_keys(watched: Watched, site: str) -> None:
    """j and k move, Enter opens, / searches, ] and [ turn pages; typing in a field is typing."""
    page = watched.page
    page.goto(f"{site}/_llmobs/requests")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    first = page.locator("tr.at a[data-open]").get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url("**/requests/*")

    assert first is not None and page.url.endswith(first.removeprefix("."))

    page.goto(f"{site}/_llmobs/requests")
    page.keyboard.press("/")
    page.keyboard.type("j]")

    assert page.locator("[data-search]").input_value() == "j]"

    page.keyboard.press("Escape")
    page.keyboard.press("]")
    page.wait_for_url("**cursor=**")
    page.keyboard.press("[")
    page.wait_for_function("document.querySelector('[rel=prev]') === null")

    assert watched.complaints == []


def test_theme(watched: Watched, site: str) -> None:
    """The choice outlives the page; until there is one the system decides."""
    page = watched.page
    page.emulate_media(color_scheme="dark")
    page.goto(f"{site}/_llmobs/")

    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))

    dark = ground()
    page.get_by_role("button", name="Colour theme").click()
    light = ground()
    page.goto(f"{site}/_llmobs/status")

    assert dark != light == ground()


def test_copy(watched: Watched, site: str, ids: dict[str, str]) -> None:
    """The button copies the whole command."""
    watched.page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site)
    watched.page.goto(f"{site}/_llmobs/requests/{ids['first']}")
    watched.page.locator("[data-copy=curl]").click()
    watched.page.locator("[data-copy=curl]", has_text="Copied").wait_for()

    copied = watched.page.evaluate("navigator.clipboard.readText()")
    assert copied == watched.page.locator("#curl").text_content()
    assert copied.startswith("curl ") and "$OPENAI_API_KEY" in copied
    assert watched.complaints == []


def test_sign_in_link(watched: Watched, site: str, caplog: pytest.LogCaptureFixture) -> None:
    """The link of the log signs in once, and its code is in no address and no history."""
    page = watched.page
    with caplog.at_level(logging.WARNING, "asgi_llmobs"):
        page.goto(f"{site}/locked/traces")
    code = caplog.messages[-1].partition("#")[2].split()[0]
    page.goto("about:blank")
    page.goto(f"{site}/locked/login#{code}")
    page.get_by_role("heading", name="Overview").wait_for()

    assert page.url == f"{site}/locked/"
    assert not any(code in url for url in watched.asked)

    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.goto("about:blank")
    page.goto(f"{site}/locked/login#{code}")
    page.get_by_role("alert").wait_for()

    assert watched.complaints == []


@pytest.mark.parametrize("javascript", [True, False], ids=["js", "nojs"])
def test_token_and_filters(browser: Browser, site: str, javascript: bool) -> None:
    """Signing in leads to the page that was asked for; the form narrows the list and its state is in the address."""
    context = browser.new_context(java_script_enabled=javascript)
    page = context.new_page()
    page.goto(f"{site}/token/requests?model=gpt-4o")
    page.get_by_label("Token or password").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site}/token/requests?model=gpt-4o")

    assert page.get_by_text("No requests match.").is_visible()

    page.goto(f"{site}/_llmobs/requests")
    page.get_by_label("Search prompts and answers").fill("capital of France")
    page.get_by_text("More filters").click()
    page.get_by_label("Property").fill("plan=pro")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**q=capital*")

    assert page.locator("tr[data-row]").count() == 1
    assert page.get_by_role("heading", name="Requests").is_visible()

    page.get_by_label("Remove property.plan pro").click()
    page.wait_for_url(lambda url: "property" not in url)

    assert page.locator("tr[data-row]").count() == 1
    context.close()


def test_behind_a_proxy_that_strips(watched: Watched, site: str) -> None:
    """Whoever only follows links gets everywhere, though the admin does not know where it is."""
    page = watched.page
    page.goto(f"{site}/tools/behind/")
    page.get_by_role("link", name="Requests", exact=True).click()
    page.get_by_label("Trace of this request").or_(page.get_by_title("Trace of this request")).first.click()
    page.get_by_role("link", name="Open request").click()
    page.get_by_role("heading", name="Conversation").wait_for()
    with page.expect_download() as download:
        page.get_by_text("Raw request body").click()
        page.get_by_role("link", name="Download").first.click()
    page.get_by_role("link", name="Overview").click()

    assert page.url == f"{site}/tools/behind/"
    assert download.value.suggested_filename == "request-body.txt"
    assert watched.complaints == []


def test_a_narrow_tree_of_many_nodes(watched: Watched, site: str, ids: dict[str, str]) -> None:
    """Selecting a node keeps the page where it is and says what the node is."""
    page = watched.page
    page.goto(f"{site}/_llmobs/traces/{ids['trace']}")
    page.get_by_role("link", name="look_up").click()
    page.wait_for_url("**node=**")

    assert page.locator("tr.on").get_by_text("look_up").is_visible()
    assert page.get_by_text("LookupError").first.is_visible()
    assert watched.complaints == []
