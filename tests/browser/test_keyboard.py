"""The palette, the sheet of keys, going to pages, and judging by key; and the same without JavaScript."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.queries.scores import scores_of_span
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from asgi_llmobs.testing import serve
from tests.admin.seeding import fill
from tests.browser.conftest import Watched
from tests.making import request

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

Open = Callable[..., Watched]


class Site:
    """A filled store behind an admin for an owner."""

    def __init__(self, url: str, database: Database, records: dict[str, Any]) -> None:
        self.url, self.database, self.records = url, database, records

    def said(self) -> list[tuple[str, float | None, str | None]]:
        found = scores_of_span(self.database, "default", self.records["second"].id)
        return [(one.score.name, one.score.value, one.score.comment) for one in found if one.current]


@pytest.fixture
def site(chromium: str) -> Iterator[Site]:
    database = Database("sqlite://")
    records = fill(database)
    with serve(Admin(database=database, auth=lambda request: "owner", environ={}), lifespan="off") as url:
        yield Site(url, database, records)
    database.dispose()


def test_the_palette(site: Site, opened: Open) -> None:
    """Ctrl K offers pages, actions of this page, and what the store knows by what is typed; Escape closes it."""
    seen = opened(site.url)
    page = seen.page
    seen.go(f"/requests/{site.records['second'].id}")
    page.keyboard.press("Control+k")
    field = page.get_by_role("combobox", name="Go to")
    field.wait_for()
    choices = page.locator(".palette [role=option]")
    assert choices.count() > 10
    page.keyboard.type("thumbs")
    assert choices.first.inner_text().startswith("Thumbs up")
    field.fill("sess")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{site.url}/sessions")

    page.keyboard.press("Meta+k")
    page.keyboard.type("trip-")
    choices.filter(has_text="trip-1").first.click()
    page.wait_for_url(f"{site.url}/sessions/trip-1")
    page.get_by_role("button", name="Go to a page").click()
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")


def test_the_sheet_and_going(site: Site, opened: Open) -> None:
    """? shows the keys of everywhere and of this page; g and a letter go; in a field letters are letters."""
    seen = opened(site.url)
    page = seen.page
    seen.go(f"/requests/{site.records['second'].id}")
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keys")
    sheet.get_by_text("next and previous row").wait_for()
    assert "Write a note" in sheet.inner_text() and "Insights" in sheet.inner_text()
    page.keyboard.press("Escape")
    for keys, slug in (("gt", "traces"), ("gi", "insights"), ("g,", "settings"), ("go", "")):
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_url(f"{site.url}/{slug}")
    seen.go("/requests")
    page.keyboard.press("/")
    page.keyboard.type("gt")
    assert (
        page.url == f"{site.url}/requests"
        and page.get_by_role("searchbox").or_(page.get_by_role("combobox", name="Search")).first.input_value() == "gt"
    )


def test_judging_by_key(site: Site, opened: Open) -> None:
    """+ and - are thumbs, e opens the form to annotate, n the one for a note; each is kept at once."""
    seen = opened(site.url)
    page = seen.page
    seen.go(f"/requests/{site.records['second'].id}")
    with page.expect_navigation():
        page.keyboard.press("+")
    assert page.url.endswith("#scores") and site.said() == [("thumbs", 1.0, None)]
    with page.expect_navigation():
        page.keyboard.press("-")
    assert site.said() == [("thumbs", 0.0, None)]
    assert page.get_by_role("button", name="Bad").get_attribute("aria-pressed") == "true"

    page.keyboard.press("e")
    page.keyboard.type("accuracy")
    page.get_by_label("Value").fill("0.75")
    page.get_by_label("Why").fill("one city is missing")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    page.keyboard.press("n")
    page.keyboard.type("ask again: n + e")
    with page.expect_navigation():
        page.locator("#scores form:has(textarea)").get_by_role("button", name="Save").click()
    assert set(site.said()) == {
        ("thumbs", 0.0, None), ("accuracy", 0.75, "one city is missing"), ("note", None, "ask again: n + e"),
    }  # fmt: skip
    assert "ask again: n + e" in page.locator("#scores").inner_text()


def test_judging_without_scripts(site: Site, opened: Open) -> None:
    """On the page of a request, a trace and a session; then it is taken back."""
    seen = opened(site.url, java_script_enabled=False)
    page, second = seen.page, site.records["second"]
    for place in ("/sessions/trip-1", f"/traces/{second.trace_id}", f"/requests/{second.id}"):
        seen.go(place)
        before = page.url
        page.get_by_role("button", name="Good").click()
        assert page.url == f"{before}#scores"
        assert page.locator("#scores .said").get_by_text("up").count() == 1, place
        page.get_by_role("button", name="Take back thumbs").click()
        assert "taken back" in page.locator("#scores").inner_text(), place


def test_the_menu_of_a_phone(site: Site, opened: Open) -> None:
    """It opens without JavaScript too, over the page, and every page is in it."""
    seen = opened(site.url, viewport={"width": 390, "height": 800}, java_script_enabled=False)
    page = seen.page
    seen.go("/requests")
    link = page.get_by_role("link", name="Insights", exact=True)
    assert not link.is_visible()
    page.get_by_role("button", name="Pages").click()
    assert page.locator("nav .menu a").count() >= 11 and link.is_visible()
    link.click()
    page.wait_for_url(f"{site.url}/insights")


def point_at(page: Any, selector: str) -> None:
    box = page.locator(selector).first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_only_what_is_pointed_at(site: Site, opened: Open) -> None:
    """f narrows a list to the value under the pointer, else to the first of the row; what was chosen before stays."""
    seen = opened(site.url)
    page = seen.page
    seen.go("/requests?status=ok")
    page.keyboard.press("f")
    assert page.url.endswith("/requests?status=ok"), "nothing is pointed at"
    point_at(page, "[data-is^='user=']")
    with page.expect_navigation():
        page.keyboard.press("f")
    assert page.url.endswith("/requests?status=ok&user=ada")
    page.mouse.move(0, 0)
    page.keyboard.press("j")
    with page.expect_navigation():
        page.keyboard.press("f")
    assert "status=ok&user=ada&model=" in page.url
    seen.go("/traces")
    point_at(page, "[data-is^='status=']")
    with page.expect_navigation():
        page.keyboard.press("f")
    assert "/traces?status=" in page.url


def test_a_running_request_ends(site: Site, opened: Open) -> None:
    """Its page shows the answer as soon as it is there, but not while a note is being written."""
    made = request()
    running = replace(made, outcome="running", duration_ns=None, usage=None, response_body=None, text="")
    Sink(site.database).write([running])
    seen = opened(site.url)
    page = seen.page
    seen.go(f"/requests/{made.id}")
    page.get_by_text("Nothing yet.").wait_for()
    page.keyboard.press("n")
    page.keyboard.type("So slow")
    page.wait_for_timeout(300)
    Sink(site.database).write([made])
    page.wait_for_timeout(1_500)
    assert page.get_by_text("Nothing yet.").count() == 1
    page.get_by_label("Note", exact=True).evaluate("each => each.blur()")
    page.get_by_text("Paris, of course.").first.wait_for()
