"""Traces and sessions in a real browser: every projection, every key, with and without JavaScript, in both themes."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from asgi_llmobs.testing import serve
from tests.browser.conftest import Watched
from tests.making import SECOND, START, attempt, body, priced, request, span

sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

Open = Callable[..., Watched]
TRACE, BEFORE, LIVE = "a1" * 16, "b2" * 16, "c3" * 16
MS = SECOND // 1000


def run(trace: str, start: int, **answer: Any) -> list[Any]:
    """An agent with a plan, a tool that fails, a retriever, a request with three attempts, and two orphans of sorts."""
    prefix = trace[:8]

    def id(number: int) -> str:
        return f"{prefix}{number:08x}"

    common = {"trace_id": trace, "session_id": "trip", "session_name": "A trip", "user_id": "ada"}
    below = {"parent_id": id(2), **common}
    root = span(id=id(1), name="POST /agent", kind="http", start_ns=start, duration_ns=9 * SECOND, **common)
    agent = span(
        id=id(2), parent_id=id(1), name="agent", kind="agent", start_ns=start + MS, duration_ns=8 * SECOND, **common
    )
    plan = request(
        "Plan it", "A plan", id=id(3), start_ns=start + 10 * MS, duration_ns=SECOND, first_token_ns=200 * MS, **below
    )
    tool = span(
        id=id(4), name="weather", kind="tool", start_ns=start + 2 * SECOND, duration_ns=SECOND // 2, outcome="error",
        error_type="TimeoutError", error_message="too slow", input='{"city": "Kyoto"}', **below,
    )  # fmt: skip
    found = span(
        id=id(5), name="guide", kind="retriever", start_ns=start + 2 * SECOND, duration_ns=SECOND // 4,
        output='[{"id": "d1", "content": "Golden temple", "score": 0.91}]', **below,
    )  # fmt: skip
    again = request("Rank", "Ranked", id=id(6), start_ns=start + 3 * SECOND, duration_ns=3 * SECOND, attempt=2, **below)
    again = replace(again, cost=priced("0.5"), attempts=(
        attempt(again, 1, outcome="error", status=429, duration_ns=MS * 200, error_type="rate_limit"),
        attempt(again, 2, start_ns=again.start_ns + 2 * SECOND, duration_ns=SECOND),
    ))  # fmt: skip
    messages = [{"role": "user", "content": "Plan it"}, {"role": "assistant", "content": "A plan"},
                {"role": "user", "content": "Say it"}]  # fmt: skip
    last = request(
        "Say it", answer.get("said", "Done"), id=id(7), start_ns=start + 6 * SECOND, duration_ns=SECOND,
        request_body=body({"model": "gpt-4o", "messages": messages}), **below,
    )  # fmt: skip
    lost = span(id=id(8), trace_id=trace, parent_id="f" * 16, name="lost", start_ns=start + SECOND, duration_ns=MS)
    return [root, agent, plan, tool, found, again, last, lost]


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """An admin over two runs of an agent in one session, half an hour apart, and one that still runs."""
    database = Database("sqlite://")
    Sink(database).write([*run(BEFORE, START), *run(TRACE, START + 1800 * SECOND, said="All done")])
    Sink(database).write(
        [span(trace_id=LIVE, name="live", start_ns=START + 3600 * SECOND, duration_ns=None, outcome="running")]
    )
    with serve(Admin(database=database, auth=lambda request: True, environ={}), lifespan="off") as url:
        yield url
    database.dispose()


def selected(page: Any) -> str:
    return str(page.get_by_label("Selected node").get_by_role("heading", level=2).inner_text())


def go(seen: Watched, path: str) -> Any:
    seen.go(path)
    return seen.page


@pytest.mark.parametrize(("scheme", "scripts"), [("light", True), ("dark", False)])
def test_four_projections_of_one_selection(site: str, opened: Open, scheme: str, scripts: bool) -> None:
    """Whatever is selected stays selected from one projection to the next, and the back button goes back."""
    seen = opened(site, java_script_enabled=scripts, checked=scripts, color_scheme=scheme)
    page = go(seen, f"/traces/{TRACE}")
    page.get_by_role("link", name="weather").click()
    page.wait_for_url("**node=*")
    assert selected(page) == "weather"
    for name in ("Timeline", "Messages", "Log", "Tree"):
        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_role("region", name=name).wait_for()
        assert selected(page) == "weather", name
        assert page.locator("[data-row]").count() == (3 if name == "Messages" else 8)
    page.go_back()
    page.get_by_role("region", name="Log").wait_for()
    assert selected(page) == "weather"
    assert page.get_by_text("too slow").count() >= 1


def test_messages_show_what_is_new(site: str, opened: Open) -> None:
    """A request that repeats what was said before shows only what is new in it."""
    page = go(opened(site), f"/traces/{TRACE}?view=messages")
    steps = page.locator(".step")

    assert "2 earlier messages sent again" in steps.nth(2).inner_text()
    assert "Say it" in steps.nth(2).inner_text() and "Plan it" not in steps.nth(2).inner_text()


def test_keys_of_a_trace(site: str, opened: Open) -> None:
    """Each key does what the foot of the page says, without a new page being loaded."""
    seen = opened(site)
    page = go(seen, f"/traces/{TRACE}")
    page.evaluate("window.kept = true")
    press = page.keyboard.press

    for key, name in (("2", "Timeline"), ("3", "Messages"), ("4", "Log"), ("1", "Tree")):
        press(key)
        page.get_by_role("region", name=name).wait_for()
    press("x")
    page.locator(".aside h2", has_text="weather").wait_for()
    press("$")
    page.wait_for_url(f"**node={TRACE[:8]}{6:08x}*")
    press("b")
    page.wait_for_url(lambda url: f"{6:08x}" in url or f"{2:08x}" in url)
    page.get_by_role("link", name="agent", exact=True).first.click()
    page.locator(".aside h2", has_text="agent").wait_for()
    press("h")
    sync_api.expect(page.locator("[data-row]")).to_have_count(3)
    press("h")  # now it is folded: to the node above
    assert "POST /agent" in page.locator("[data-row].at").inner_text()
    press("j")
    press("l")
    sync_api.expect(page.locator("[data-row]")).to_have_count(8)
    press("j")
    press("Enter")
    page.wait_for_url(f"**node={TRACE[:8]}{3:08x}*")
    press("k")
    assert "agent" in page.locator("[data-row].at").inner_text()
    press("/")
    page.keyboard.type("guide")
    press("Enter")
    page.wait_for_url("**find=guide*")
    assert page.locator("[data-row]").count() == 1
    assert page.evaluate("window.kept") is True
    press("Escape")
    page.locator("h1").click()
    press("]")
    page.wait_for_url(f"**/traces/{BEFORE}")
    press("[")
    page.wait_for_url(f"**/traces/{TRACE}")
    press("d")
    page.wait_for_url("**/traces/compare?a=*")
    assert "output" in page.locator("table.compared").inner_text() and "All done" in page.locator("main").inner_text()
    press("2")
    page.wait_for_url("**show=all*")
    assert page.locator("[data-row]").count() == 8
    press("1")
    page.wait_for_url(lambda url: "show" not in url)


def test_the_selected_node(site: str, opened: Open) -> None:
    """Arguments, documents with their scores, attempts with the wait, the first token, why a node is dashed."""
    page = go(opened(site), f"/traces/{TRACE}?node={TRACE[:8]}{5:08x}")
    aside = page.get_by_label("Selected node")
    assert "0.91" in aside.inner_text() and "Golden temple" in aside.inner_text()
    page.get_by_role("link", name="weather").click()
    page.locator(".aside h2", has_text="weather").wait_for()
    text = aside.inner_text()
    assert text.index("too slow") < text.index("starts after") and '"Kyoto"' in text
    assert page.locator(".bar .wait").count() >= 1 and page.locator("tbody .bar .first").count() == 1
    page.get_by_role("link", name="lost").click()
    page.locator(".aside h2", has_text="lost").wait_for()
    assert "never stored" in aside.inner_text()
    page.get_by_role("link", name="chat gpt-4o").first.click()
    page.get_by_role("link", name="Open request").click()
    page.wait_for_url(f"**/requests/{TRACE[:8]}{3:08x}")


def first_bar(page: Any) -> dict[str, float]:
    """Where the first bar is; while the page puts a new one in its place there is none for a moment."""
    for _ in range(50):
        box: dict[str, float] | None = page.locator("tbody svg.bar").first.bounding_box()
        if box is not None:
            return box
        page.wait_for_timeout(50)
    raise AssertionError("there is no bar")


def test_zoom_and_idle_time(site: str, opened: Open) -> None:
    """The timeline zooms by its links, by Ctrl and the wheel, by a double click and by dragging; idle time is cut."""
    page = go(opened(site), f"/traces/{TRACE}?view=timeline")
    page.get_by_role("link", name="Zoom in", exact=True).or_(page.locator("[data-zoom=in]")).first.click()
    page.wait_for_url("**zoom=*")
    page.get_by_role("link", name="whole time").click()
    page.wait_for_url(lambda url: "zoom" not in url)
    page.locator("tr", has_text="weather").locator("svg.bar").dblclick()
    page.wait_for_url(re.compile("zoom=2000"))
    page.go_back()
    page.wait_for_url(lambda url: "zoom" not in url)
    box = first_bar(page)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 5)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.wait_for_url("**zoom=*")
    page.get_by_role("link", name="whole time").click()
    page.wait_for_url(lambda url: "zoom" not in url)
    box = first_bar(page)
    page.mouse.move(box["x"] + 10, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + 5)
    page.mouse.up()
    page.wait_for_url("**zoom=*")


def test_a_running_trace_stays_in_place(site: str, opened: Open) -> None:
    """It is asked for again by itself, and its rows neither move nor lose the place of the reader."""
    seen = opened(site)
    page = go(seen, f"/traces/{LIVE}")
    before = page.locator("[data-row]").first.bounding_box()
    page.wait_for_timeout(2_600)

    assert sum(LIVE in call for call in seen.calls) >= 2
    assert page.locator("[data-row]").first.bounding_box() == before


def test_a_call_of_a_running_trace_shows_at_once(opened: Open) -> None:
    """It is told by the feed, without waiting for the next time that the page is asked for again."""
    database = Database("sqlite://")
    Sink(database).write([span(trace_id=LIVE, name="live", start_ns=START, duration_ns=None, outcome="running")])
    with serve(Admin(database=database, auth=lambda request: True, environ={}), lifespan="off") as url:
        seen = opened(url)
        seen.page.add_init_script("setInterval = () => 0")
        with seen.page.expect_response(lambda answer: "/live" in answer.url):
            page = go(seen, f"/traces/{LIVE}")
        Sink(database).write([request(trace_id=LIVE, start_ns=START + SECOND, name="chat told-by-the-feed")])
        page.locator("[data-row]", has_text="told-by-the-feed").wait_for()
        seen.page.goto("about:blank")
    database.dispose()


@pytest.mark.parametrize("scripts", [True, False])
def test_session(site: str, opened: Open, scripts: bool) -> None:
    """A conversation with its pauses, a timeline with idle time drawn short, a tree of paths."""
    seen = opened(site, java_script_enabled=scripts, checked=scripts)
    page = go(seen, "/sessions/trip")
    assert page.locator(".step [data-open], .step").count() >= 6
    assert "29 m 53 s idle" in page.locator("main").inner_text()
    page.get_by_role("link", name="Timeline").click()
    page.get_by_role("region", name="Timeline").wait_for()
    assert page.locator("[data-row]").count() == 2 and "29 m" in page.locator("svg.ticks").text_content()
    page.get_by_role("link", name="Paths").click()
    page.get_by_role("region", name="Paths").wait_for()
    if scripts:
        page.keyboard.press("1")
        page.get_by_role("region", name="Conversation").wait_for()


def test_nothing_is_wider_than_the_window(site: str, opened: Open) -> None:
    """No page scrolls sideways, and axe has nothing serious to say."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    seen = opened(site, bypass_csp=True)
    views = [f"/traces/{TRACE}?view={view}" for view in ("tree", "timeline", "messages", "log")]
    views += [f"/sessions/trip?view={view}" for view in ("conversation", "timeline", "paths")]
    for path in ("/traces", f"/traces/compare?a={BEFORE}&b={TRACE}", *views):
        page = go(seen, path)
        found = axe.run(page).response["violations"]
        assert [
            (each["id"], each["nodes"][0]["target"]) for each in found if each["impact"] in ("serious", "critical")
        ] == [], path
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
