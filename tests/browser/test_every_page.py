"""Every page in Chromium, filled with hostile texts: both themes, two widths, with and without JavaScript."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_llmobs.admin import Admin
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from asgi_llmobs.testing import serve
from tests.admin.seeding import canaries, fill
from tests.making import SECOND, START, request

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'`{{7*7}}javascript:alert(3)//"
POINTS = (
    "", "?by=model", "requests", "requests/{first}", "requests/{canary}", "requests/{first}?replayed=no", "traces",
    "traces/{trace}", "traces/{trace}?view=timeline", "traces/{trace}?view=messages", "traces/{trace}?view=log",
    "traces/{hostile}", "sessions", "sessions/trip-1", "sessions/trip-1?view=timeline", "users", "users/ada",
    "properties", "properties/plan", "models", "models/gpt-4o", "endpoints", "scores", "insights?since=2020-01-01",
    "insights/repeated?since=2020-01-01&provider=openai&model=gpt-4o", "status", "settings", "help", "jump",
    "jump?to=tri", "jump?to={canary}z", "requests?model=nothing", "requests?min_cost=x", "requests?q=%22", "nowhere",
)  # fmt: skip
EMPTY = ("", "requests", "traces", "sessions", "users", "properties", "models", "endpoints", "scores", "insights",
         "status")  # fmt: skip


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
    ids.update(
        plain=many[0].id,
        first=records["first"].id,
        trace=records["first"].trace_id,
        canary=call.id,
        hostile=call.trace_id,
    )

    def owner(_: Any) -> bool:
        return True

    inner = Admin(database=filled, auth=owner)
    app = Starlette(
        routes=[
            Mount("/_llmobs", Admin(database=filled, auth=owner)),
            Mount("/empty", Admin(database=empty, auth=owner)),
            Mount("/token", Admin(database=empty, environ={"LLMOBS_ADMIN_TOKEN": "a-long-enough-token"})),
            Mount("/tools/behind", Stripped(inner, "/tools/behind")),
        ]
    )
    with serve(app) as url:
        yield url
    filled.dispose()
    empty.dispose()


class Watched:
    """A page that notes whatever a page should not do."""

    def __init__(self, page: Any, site: str) -> None:
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
def watched(chrome: Any, site: str) -> Iterator[Watched]:
    """A fresh browser window of a desktop."""
    context = chrome.new_context(viewport={"width": 1280, "height": 900})
    yield Watched(context.new_page(), site)
    context.close()


@pytest.mark.parametrize(
    ("scheme", "javascript"),
    [
        pytest.param("light", False, id="light-nojs"),
        pytest.param("dark", True, id="dark-js"),
        pytest.param("light", True, id="light-js", marks=pytest.mark.long),
        pytest.param("dark", False, id="dark-nojs", marks=pytest.mark.long),
    ],
)
def test_every_page(chrome: Any, site: str, ids: dict[str, str], scheme: Any, javascript: bool) -> None:
    """No script or picture of a prompt comes to life, nothing is asked elsewhere, nothing is wider than the window."""
    context = chrome.new_context(color_scheme=scheme, java_script_enabled=javascript)
    view = Watched(context.new_page(), site)
    for point in (*POINTS, *(f"../empty/{page}" for page in EMPTY), "../token/login"):
        view.page.goto(f"{site}/_llmobs/{point.format(**ids)}")

        assert view.page.locator("h1").is_visible(), point
        alive = view.page.locator(
            "main img:not(.picture img), main script:not([src*='/static/']), main iframe, [onerror]"
        )
        assert alive.count() == 0, point
        for width in (390, 1280) if javascript else ():
            view.page.set_viewport_size({"width": width, "height": 800})
            assert not view.page.evaluate("document.documentElement.scrollWidth > innerWidth"), (point, width)
    context.close()

    assert view.complaints == []


def test_first_page_is_light(watched: Watched, site: str, ids: dict[str, str]) -> None:
    """Fifty rows take few requests and few bytes; neither the stream of a live list nor thumbnails are waited for."""
    sizes: list[int] = []
    watched.page.on("requestfinished", lambda request: sizes.append(len(request.response().body())))
    # each page as the first that is opened
    watched.page.context.new_cdp_session(watched.page).send("Network.setCacheDisabled", {"cacheDisabled": True})
    for point in ("", "requests", "requests/{plain}", "traces", "traces/{trace}", "sessions", "endpoints",
                  "scores?name=accuracy"):  # fmt: skip
        watched.asked.clear()
        sizes.clear()
        watched.page.goto(f"{site}/_llmobs/{point.format(**ids)}", wait_until="load")
        watched.page.wait_for_timeout(200)

        asked = [address for address in watched.asked if not re.search("/live[?]|/pictures/", address)]
        assert len(asked) <= 5, point
        assert 40_000 < sum(sizes) <= 150_000, point  # before compression
        watched.page.goto("about:blank")


def test_behind_a_proxy_that_strips(watched: Watched, site: str) -> None:
    """Whoever only follows links gets everywhere, though the admin does not know where it is."""
    page = watched.page
    page.goto(f"{site}/tools/behind/")
    page.get_by_role("link", name="Requests", exact=True).click()
    page.get_by_title("Trace of this request").first.click()
    page.get_by_role("link", name="Open request").click()
    page.get_by_role("heading", name="What came back").wait_for()
    with page.expect_download() as download:
        page.get_by_text("Raw request body").click()
        page.get_by_role("link", name="Download").first.click()
    page.get_by_role("link", name="Overview").click()

    assert page.url == f"{site}/tools/behind/"
    assert download.value.suggested_filename == "request-body.txt"
    assert watched.complaints == []


@pytest.mark.timeout(600)
def test_axe(chrome: Any, site: str, ids: dict[str, str]) -> None:
    """Every page, filled, empty and locked, in both themes, folded and unfolded, keeps to WCAG 2.1 AA."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    options = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
    # axe is put into the page from outside, which the page's own policy would not allow
    context = chrome.new_context(
        viewport={"width": 1280, "height": 900}, bypass_csp=True, reduced_motion="reduce", color_scheme="light"
    )
    page = context.new_page()
    found = []
    points = dict.fromkeys(point for point in POINTS if not point.startswith("requests?"))
    for point in (*points, "scores?name=accuracy", *(f"../empty/{name}" for name in EMPTY), "../token/login"):
        page.goto(f"{site}/_llmobs/{point.format(**ids)}")
        for opened, scheme in ((False, "light"), (True, "dark")):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            if opened:
                page.evaluate("document.querySelectorAll('main details').forEach((each) => { each.open = true })")
            for issue in axe.run(page, options=options).response["violations"]:
                found.append((point, scheme, issue["id"], [node["html"][:200] for node in issue["nodes"][:3]]))
    context.close()
    assert found == []
