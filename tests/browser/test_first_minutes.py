"""The first minutes of a user: start the app, make a call, look at it, all in a real browser."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import Watched

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]  # a browser and a server start first

Open = Callable[..., Watched]
PAGES = ("/_llmobs/requests", "/_llmobs/insights", "/_llmobs/status", "/_llmobs/settings", "/_llmobs/help",
         "/_llmobs/search", "/_llmobs/jump?to=ada", "/_llmobs/requests?status=ok&model=gpt*", "/_llmobs/scores",
         "/_llmobs/sessions/ada-lisbon", "/_llmobs/nothing")  # fmt: skip
# axe looks at these in test_dashboards.py, test_traces.py and test_request.py, where there is more on them
OTHERS = ("/_llmobs/", "/_llmobs/traces", "/_llmobs/sessions", "/_llmobs/users", "/_llmobs/users/ada",
          "/_llmobs/properties", "/_llmobs/models", "/_llmobs/endpoints")  # fmt: skip


def all_pages(watched: Watched) -> list[str]:
    """Every kind of page, with a request and a trace that are there."""
    rows = watched.page.request.get(f"{watched.url}/_llmobs/requests.json").json()["rows"]
    agent = next(row for row in rows if row["user_id"] == "ken")
    return [*PAGES, *OTHERS, f"/_llmobs/requests/{agent['id']}", f"/_llmobs/traces/{agent['trace_id']}"]


def background(page: Any) -> tuple[int, ...]:
    """Red, green and blue behind the page."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    if colour == "rgba(0, 0, 0, 0)":
        colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return tuple(int(float(part)) for part in colour.strip("rgba()").split(",")[:3])


@pytest.mark.parametrize(
    "java_script",
    [pytest.param(True, id="with JavaScript"), pytest.param(False, id="without", marks=pytest.mark.slow)],
)
def test_from_the_overview_to_the_session(travelled: str, opened: Open, java_script: bool) -> None:
    """Overview, request with its conversation, its trace, its session, and back: links alone lead everywhere."""
    watched = opened(travelled, java_script_enabled=java_script)
    page = watched.page
    watched.go("/_llmobs")
    assert page.url == f"{travelled}/_llmobs/"
    assert page.get_by_role("heading", level=1).inner_text() == "Overview"

    page.get_by_role("link", name="And with two children?").first.click()
    assert "/_llmobs/requests/" in page.url
    page.get_by_text("3 messages as before").click()
    talk = page.locator("article.turn")
    assert [role.lower() for role in talk.locator(".role").all_inner_texts()] == [
        "system", "user", "assistant", "user", "assistant",
    ]  # fmt: skip
    assert "And with two children?" in talk.nth(3).inner_text()
    assert len(talk.nth(4).inner_text()) > 40
    assert "gpt-4.1-mini" in page.get_by_role("heading", level=1).inner_text()

    page.get_by_role("link", name="POST /chat").click()
    assert page.get_by_role("heading", level=1).inner_text() == "POST /chat"
    assert page.locator("tr[data-row]").count() == 2

    page.get_by_role("link", name="Trip of ada").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Trip of ada"
    assert page.locator("section.step").count() == 2
    assert "What is in the itinerary for Lisbon?" in page.locator("main").inner_text()

    page.get_by_role("link", name="Requests", exact=True).first.click()
    assert page.url == f"{travelled}/_llmobs/requests"
    assert page.locator("tr[data-row]").count() >= 4


@pytest.mark.slow
@pytest.mark.parametrize("java_script", [True, False], ids=["with JavaScript", "without"])
def test_searching(travelled: str, opened: Open, java_script: bool) -> None:
    """A search is typed in, stands in the address, survives a reload, and can be taken away."""
    watched = opened(travelled, java_script_enabled=java_script)
    page = watched.page
    watched.go("/_llmobs/requests")
    page.locator("[data-search]").fill("children")
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url("**q=children*")
    assert page.locator("tr[data-row]").count() == 1
    page.reload()
    assert page.locator("[data-search]").input_value() == "children"
    page.get_by_role("link", name="Remove children").click()
    assert page.url == f"{travelled}/_llmobs/requests" and page.locator("tr[data-row]").count() >= 4


@pytest.mark.slow
def test_an_agent_is_a_tree(travelled: str, opened: Open) -> None:
    """Agent, models and tools stand in one tree with their times; choosing a node keeps the address."""
    watched = opened(travelled)
    page = watched.page
    watched.go("/_llmobs/traces")
    page.get_by_role("link", name="POST /agent").click()
    rows = page.locator("tr[data-row]")
    names = " ".join(rows.all_inner_texts())
    for name in ("POST /agent", "trip planner", "find_flights", "get_weather", "gpt-5-mini"):
        assert name in names, name

    rows.filter(has_text="find_flights").get_by_role("link").click()
    page.wait_for_url("**node=*")
    assert "Kyoto has no airport" in page.locator("main").inner_text()


@pytest.mark.slow
def test_keys(travelled: str, opened: Open) -> None:
    """j and k walk the rows, Enter opens one beside them, / searches, [ and ] go to neighbours; typing is typing."""
    watched = opened(travelled)
    page = watched.page
    watched.go("/_llmobs/requests")
    rows = page.locator("tr[data-row]")
    hrefs = [rows.nth(place).locator("a[data-open]").get_attribute("href") for place in range(3)]
    at = page.locator("tr[data-row].at a[data-open]")
    page.keyboard.press("j")
    assert at.get_attribute("href") == hrefs[0]
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert at.get_attribute("href") == hrefs[2]
    page.keyboard.press("k")
    assert at.get_attribute("href") == hrefs[1]
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Open as a page").click()
    page.wait_for_url("**/requests/*")
    second = page.url
    assert second.endswith((hrefs[1] or "").removeprefix("./"))
    page.keyboard.press("]")
    page.wait_for_url(f"**{(hrefs[2] or '').removeprefix('.')}")
    page.keyboard.press("[")
    page.wait_for_url(second)

    watched.go("/_llmobs/requests")
    page.keyboard.press("/")
    page.keyboard.type("jkjk/[")
    assert page.locator("[data-search]").input_value() == "jkjk/["
    assert at.count() == 0
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert at.count() == 1
    page.keyboard.press("Control+j")
    assert at.get_attribute("href") == hrefs[0]


@pytest.mark.slow
def test_theme(travelled: str, opened: Open) -> None:
    """The system decides until the reader does; the choice stays on the next page and in the next visit."""
    watched = opened(travelled, color_scheme="dark")
    page = watched.page
    watched.go("/_llmobs/")
    assert sum(background(page)) < 200
    page.emulate_media(color_scheme="light")
    assert sum(background(page)) > 600

    switch = page.get_by_role("button", name="Colour theme")
    switch.click()
    switch.click()
    assert sum(background(page)) < 200, "the second choice is dark"
    watched.go("/_llmobs/requests")
    assert sum(background(page)) < 200
    page.reload()
    assert sum(background(page)) < 200
    page.get_by_role("button", name="Colour theme").click()
    assert sum(background(page)) > 600, "the third is the system's again"


@pytest.mark.slow
def test_phone(travelled: str, opened: Open) -> None:
    """What is tapped is there."""
    watched = opened(travelled, viewport={"width": 390, "height": 800}, has_touch=True)
    watched.go("/_llmobs/requests")
    watched.page.locator("a[data-open]").first.tap()
    watched.page.wait_for_url("**/requests/*")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_accessible(travelled: str, opened: Open, scheme: str) -> None:
    """axe finds nothing serious on any page, in either theme."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    # axe is put into the page from outside, which the page's own policy would not allow
    watched = opened(travelled, checked=False, bypass_csp=True, color_scheme=scheme, reduced_motion="reduce")
    found = []
    for path in PAGES:
        watched.go(path)
        for issue in axe.run(watched.page).response["violations"]:
            if issue["impact"] in ("serious", "critical"):
                targets = [f"{node['target']} {node['failureSummary']}" for node in issue["nodes"][:3]]
                found.append((path, issue["id"], len(issue["nodes"]), targets))
    assert found == []


@pytest.mark.slow
def test_quiet(travelled: str, opened: Open) -> None:
    """No page complains, breaks its policy, asks anybody outside for anything, or is wider than a phone's screen."""
    watched = opened(travelled)
    for path in all_pages(watched):
        if path != "/_llmobs/nothing":
            watched.page.set_viewport_size({"width": 1280, "height": 800})
            response = watched.go(path)
            assert response.status == 200
            watched.page.set_viewport_size({"width": 390, "height": 800})
            assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390, path
    watched.page.wait_for_timeout(200)
    assert any("/static/admin." in call for call in watched.calls)
    assert watched.page.context.cookies() == []
