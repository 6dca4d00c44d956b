"""Dashboards in Chromium: values under the pointer, a range by dragging, tables without JavaScript, axe."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.records import Cost, Kind, Request
from asgi_llmobs.scores import make_score
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.scores import give
from asgi_llmobs.store.write import Sink
from asgi_llmobs.testing import serve
from tests.browser.conftest import Watched
from tests.making import SECOND, priced, request, span

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

PAGES = ("", "?by=model&and=route", "users", "users/ada", "properties", "properties/plan", "models", "models/acme",
         "endpoints", "scores?name=accuracy&by=route")  # fmt: skip


@pytest.fixture(scope="module")
def board(chrome: Any) -> Iterator[str]:
    """The address of an admin over a day of requests to two endpoints."""
    database = Database("sqlite://")
    records: list[Any] = []
    hour = 3_600 * SECOND
    now = time.time_ns() // hour * hour
    for number in range(60):
        start = now - number * hour // 3
        root = span(kind=Kind.HTTP, route=f"/r{number % 2}", start_ns=start, duration_ns=3 * SECOND, user_id="ada")
        cost = {"cost": priced("0.01")} if number % 3 else {"request_model": "acme", "cost": Cost(reason="no price")}
        records += [root, request(trace_id=root.trace_id, parent_id=root.id, start_ns=start, route=root.route,
                                  user_id="ada", properties={"plan": "pro"}, **cost)]  # fmt: skip
    Sink(database).write(records)
    for number, call in enumerate(each for each in records if isinstance(each, Request)):
        helpful = make_score("helpful", number % 4 > 0, target="span", target_id=call.id)
        accuracy = make_score("accuracy", number / 60, target="trace", target_id=call.trace_id)
        give(database, replace(helpful, time_ns=call.start_ns), replace(accuracy, time_ns=call.start_ns))
    with serve(Admin(database=database, auth=lambda _: "owner", environ={})) as url:
        yield url
    database.dispose()


Open = Callable[..., Watched]


def test_values_and_dragging(opened: Open, board: str) -> None:
    """The pointer shows a step's values in every chart; a drag sets the range, which the table then has alone."""
    view = opened(board)
    view.go("/?since=24h&by=model")
    page = view.page
    area = page.locator(".chart .area").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box is not None
    middle = box["y"] + 60

    page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    page.locator(".chart.pointed").first.wait_for()
    told = page.locator(".chart.pointed .readout").all_inner_texts()
    assert len(told) == page.locator(".chart .area").count() and all("–" in text for text in told)
    assert "gpt-4o 2" in told[0] and "acme 1" in told[0]

    page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, middle)
    page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    assert page.locator(".cursor[visibility=visible]").count() == len(told)
    with page.expect_navigation():
        page.mouse.up()
    asked = parse_qs(urlsplit(page.url).query)
    assert asked["by"] == ["model"] and asked["since"][0] < asked["until"][0] and asked["until"][0].endswith(":00:00Z")
    assert page.locator("[data-values] tbody tr").count() < 64
    page.get_by_text("Values of the charts as a table").click()
    page.locator("[data-values] tbody a").nth(3).click()
    assert "/requests?" in page.url


def test_clicking_and_choosing(opened: Open, board: str) -> None:
    """A click on a step leads to its rows; periods and groups are chosen without a button."""
    view = opened(board)
    view.go("/?since=24h")
    page = view.page
    box = page.locator(".chart .area").first.bounding_box()
    assert box is not None
    with page.expect_navigation():
        page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + 50)
    assert "/requests?since=" in page.url and page.locator("[data-row]").count() == 3
    page.go_back()
    page.get_by_role("link", name="7 days").click()
    assert page.url.endswith("?since=7d")
    with page.expect_navigation():
        page.get_by_label("Group by").select_option("route")
    page.get_by_role("heading", name="By route").wait_for()
    assert page.locator(".sums tbody tr").count() == 2 and "since=7d" in page.url
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**route*")
    assert page.locator(".chip").first.inner_text().startswith("route:")


def test_reading_without_javascript(opened: Open, board: str) -> None:
    """Every figure of the charts stands in a table, whose times lead to rows."""
    view = opened(board, java_script_enabled=False)
    view.go("/")
    page = view.page
    page.get_by_text("Values of the charts as a table").click()
    assert page.locator("[data-values] tbody tr").first.is_visible()
    page.locator("[data-values] tbody a").nth(5).click()
    page.get_by_role("heading", name="Requests").wait_for()


def test_scores_of_one_name(opened: Open, board: str) -> None:
    """A step of the chart has the scores of that time, a group the calls that were judged; groups are chosen."""
    view = opened(board)
    view.go("/scores")
    page = view.page
    page.get_by_role("link", name="helpful", exact=True).first.click()
    page.get_by_text("Values of the charts as a table").click()
    page.locator("[data-values] tbody tr", has_text="66.7 %").locator("a").first.click()
    assert "name=helpful" in page.url and "until=" in page.url
    assert page.locator(".said > li").count() == 3
    view.go("/scores?name=helpful")
    with page.expect_navigation():
        page.get_by_label("Group by").select_option("property.plan")
    page.locator("a[data-open]", has_text="60").click()
    page.get_by_role("heading", name="Requests").wait_for()
    assert "property.plan=pro" in page.url and page.locator("[data-row]").count() == 50


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("light", 1280),
        pytest.param("light", 390, marks=pytest.mark.long),
        pytest.param("dark", 1280, marks=pytest.mark.long),
        pytest.param("dark", 390, marks=pytest.mark.long),
    ],
)
def test_axe_and_width(opened: Open, board: str, scheme: Any, width: int) -> None:
    """axe finds nothing serious, and nothing is wider than a phone."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    # axe puts a script of its own into the page, which the policy would rightly refuse
    view = opened(board, checked=False, color_scheme=scheme, bypass_csp=True)
    for path in PAGES:
        view.page.set_viewport_size({"width": width, "height": 800})
        view.go(f"/{path}")
        found = axe.run(view.page).response["violations"]
        serious = [(rule["id"], [node["target"] for node in rule["nodes"]][:3]) for rule in found
                   if rule["impact"] in ("serious", "critical")]  # fmt: skip
        assert serious == [], path
        view.page.set_viewport_size({"width": 390, "height": 800})
        assert not view.page.evaluate("document.documentElement.scrollWidth > innerWidth"), path
