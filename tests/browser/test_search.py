"""The list of requests in a real browser: searching, facets, saved views, the panel, and rows as they come."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from asgi_llmobs.testing import serve
from tests.browser.conftest import Watched
from tests.making import SECOND, START, request

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]  # a browser and a server start first

Open = Callable[..., Watched]
COUNT = 60


@pytest.fixture
def listed() -> Iterator[tuple[str, Database]]:
    """An admin over sixty requests of two models, and its store."""
    database = Database("sqlite://")
    Sink(database).write(
        [
            request(
                f"Question {number}", start_ns=START + number * SECOND, duration_ns=number * SECOND // 10,
                request_model="gpt-4o" if number % 3 else "o3", user_id=f"user {number % 4}",
                outcome="error" if number % 10 == 0 else "ok", properties={"Env": "dev" if number % 2 else "prod"},
            )
            for number in range(COUNT)
        ]
    )  # fmt: skip
    with serve(Admin(database=database, auth=lambda request: "operator", environ={}), lifespan="off") as url:
        yield url, database
    database.dispose()


def bar(page: Any) -> Any:
    return page.locator("[data-search]")


def test_typing_is_completed(listed: tuple[str, Database], opened: Open) -> None:
    """Keys and values of the store are offered; the keyboard takes them; what is wrong is said beside the text."""
    seen = opened(listed[0], checked=False)
    seen.go("/requests")
    page = seen.page
    bar(page).click()
    page.keyboard.type("mod")
    page.get_by_role("option", name="model:").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.get_by_role("option", name="o3").wait_for()
    assert bar(page).input_value() == "model:"
    page.keyboard.type("o")
    page.get_by_role("option", name="gpt-4o").wait_for(state="detached")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert bar(page).input_value() == "model:o3 "
    page.keyboard.type("-env:d")
    page.get_by_role("option", name="dev").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.type("ev")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=*")
    assert bar(page).input_value() == "model:o3 -property.env:dev" and page.locator("tr[data-row]").count() == 10

    bar(page).fill("modle:o3")
    page.keyboard.press("Enter")
    page.get_by_text("did you mean model").wait_for()
    assert bar(page).input_value() == "modle:o3"


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without"])
def test_facets_and_bar_say_the_same(listed: tuple[str, Database], opened: Open, scripts: bool) -> None:
    """Choosing and excluding values, and taking conditions away, is all links; counts agree with the list."""
    seen = opened(listed[0], java_script_enabled=scripts)
    seen.go("/requests")
    page = seen.page
    facets = page.locator(".facets")
    facets.get_by_role("link", name="o3", exact=True).click()
    page.wait_for_url("**model=o3*")
    assert bar(page).input_value() == "model:o3" and page.locator("tr[data-row]").count() == 20
    assert facets.locator("li.on").inner_text().split() == ["✓", "o3", "20", "−"]
    facets.get_by_role("link", name="Not status error").click()
    page.wait_for_url("**q=*")
    assert bar(page).input_value() == "model:o3 -status:error" and page.locator("tr[data-row]").count() == 18
    page.get_by_role("link", name="Remove model:o3").click()
    page.wait_for_url("**q=-status*")
    assert bar(page).input_value() == "-status:error"


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without"])
def test_columns_order_and_views(listed: tuple[str, Database], opened: Open, scripts: bool) -> None:
    """Columns and order are in the address, and a view keeps all of it under a name until it is deleted."""
    seen = opened(listed[0], java_script_enabled=scripts)
    seen.go("/requests?q=model:o3")
    page = seen.page
    page.locator("summary", has_text="Columns").click()
    page.get_by_label("Finish").check()
    page.get_by_label("Cache").uncheck()
    page.get_by_placeholder("property.Feature").fill("property.env")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**columns=*")
    headings = [text.split()[0] for text in page.locator("thead th").all_inner_texts()]
    assert "Finish" in headings and "env" in headings and "Cache" not in headings
    page.get_by_role("link", name="Latency").click()
    page.wait_for_url("**sort=latency*")
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Latency")
    assert "Question 57" in page.locator("tr[data-row]").first.inner_text()

    page.locator("summary", has_text="Views").click()
    page.get_by_label("Name of this view").fill("slow <o3>")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**sort=latency*")
    seen.go("/requests")
    page.locator("summary", has_text="Views · 1").click()
    page.get_by_role("link", name="slow <o3>").click()
    page.wait_for_url("**sort=latency*")
    assert bar(page).input_value() == "model:o3"
    page.locator("summary", has_text="Views · 1").click()
    page.get_by_role("button", name="Delete the view slow <o3>").click()
    page.wait_for_url("**/requests")
    assert page.locator("summary", has_text="Views").inner_text() == "Views"


def test_a_request_beside_the_list(listed: tuple[str, Database], opened: Open) -> None:
    """The panel shows the row that the keys are at, keeps its width, is in the address, and leaves the list alone."""
    seen = opened(listed[0])
    seen.go("/requests?q=model:o3")
    page = seen.page
    panel = page.locator("aside.beside-list")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    panel.get_by_text("Question 57").locator("visible=true").first.wait_for()
    page.keyboard.press("j")
    panel.get_by_text("Question 54").locator("visible=true").first.wait_for()
    page.keyboard.press("k")
    panel.get_by_text("Question 57").locator("visible=true").first.wait_for()
    assert page.locator("tr[data-row]").count() == 20 and "open=" in page.url
    before = panel.bounding_box()["width"]
    page.get_by_role("separator").focus()
    page.keyboard.press("ArrowLeft")
    assert panel.bounding_box()["width"] == before + 32
    page.reload()
    panel.get_by_text("Question 57").locator("visible=true").first.wait_for()
    assert panel.bounding_box()["width"] == before + 32
    assert all(
        href.startswith(seen.url) for href in panel.locator("a").evaluate_all("links => links.map((a) => a.href)")
    )
    page.keyboard.press("Escape")
    assert panel.count() == 0 and "open=" not in page.url


@pytest.mark.parametrize("width", [390, 1280])
def test_without_scripts_and_on_a_phone_the_page_opens(listed: tuple[str, Database], opened: Open, width: int) -> None:
    """Where there is no room or no JavaScript a row leads to its page; nothing is wider than the screen."""
    seen = opened(listed[0], java_script_enabled=width == 390, viewport={"width": width, "height": 800})
    seen.go("/requests")
    assert width == 1280 or seen.page.evaluate("document.documentElement.scrollWidth") <= width
    seen.page.get_by_role("link", name="Question 59").click()
    seen.page.wait_for_url("**/requests/*")


def running(text: str, place: int) -> Any:
    return request(
        text, outcome="running", duration_ns=None, status=None, response_body=None, start_ns=START + place * SECOND
    )


def test_rows_as_they_come(listed: tuple[str, Database], opened: Open) -> None:
    """A call is there by itself, changes in place when it ends, and waits where the reader paused."""
    url, database = listed
    seen = opened(url)
    seen.go("/requests")
    page = seen.page
    rows = page.locator("tr[data-row]")
    page.locator("[data-live=on]").wait_for()
    call = running("Has begun", 100)
    Sink(database).write([call])
    page.locator("tr.runs", has_text="Has begun").wait_for()
    assert rows.count() == 51 and "Has begun" in rows.first.inner_text()
    place = rows.first.bounding_box()
    Sink(database).write([replace(call, outcome="ok", duration_ns=SECOND, status=200)])
    page.locator("tr.runs").wait_for(state="detached")
    assert rows.count() == 51 and rows.first.bounding_box() == place and "1.00 s" in rows.first.inner_text()

    page.keyboard.press("p")
    assert page.locator("[data-state]").inner_text() == "Paused"
    Sink(database).write([request("One more", start_ns=START + 101 * SECOND), running("Another", 102)])
    fresh = page.locator("[data-show-new]", has_text="2 new")
    fresh.wait_for()
    assert rows.count() == 51
    fresh.click()
    assert rows.count() == 53 and "Another" in rows.first.inner_text()


def test_only_what_is_meant_comes(listed: tuple[str, Database], opened: Open) -> None:
    """With a search only rows that it means are added."""
    url, database = listed
    seen = opened(url)
    seen.go("/requests?q=model:o3+-env:dev")
    page = seen.page
    page.locator("[data-live=on]").wait_for()
    Sink(database).write([request("Not this", start_ns=START + 100 * SECOND)])
    Sink(database).write([request("But this", request_model="o3", start_ns=START + 101 * SECOND)])
    page.locator("tr[data-row]", has_text="But this").wait_for()
    assert page.get_by_text("Not this").count() == 0
