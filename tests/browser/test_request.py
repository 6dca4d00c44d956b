"""The page of a request in Chromium: each of its keys, copying, the stream by hand, JSON as a tree, both themes."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_llmobs.admin import Admin
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from asgi_llmobs.testing import serve
from tests.browser.conftest import Watched
from tests.making import START, body, request

sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

MS = 1_000_000
WORDS = ["Take ", "the ", "first ", "train ", "to ", "Sintra", "."] * 4
Open = Callable[..., Watched]


class Willing:
    """What stands for a host's client: it allows everything and sends nothing."""

    def refusal(self, url: str) -> None:
        """Nothing is refused."""

    def send(self, *call: Any) -> None:
        """Nothing is sent."""


def talk(*messages: str, **given: Any) -> Any:
    """A call with these messages of a user."""
    content = [{"role": "user", "content": message} for message in messages]
    sent = {"model": "gpt-4o", "temperature": 0.5, "messages": content, "rest": {"deep": [1, {"x": "needle"}]}}
    return request(request_body=body(sent), **given)


def streamed(*messages: str, **given: Any) -> Any:
    """A call whose answer came word by word, with a pause in the middle."""
    events = [
        b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}).encode() + b"\n\n"
        for word in WORDS
    ]
    points, size = [], 0
    for number, event in enumerate(events):
        size += len(event)
        points.append((number * 30 * MS + (600 * MS if number > 14 else 0), size))
    return talk(
        *messages, stream=True, framing="sse", text="".join(WORDS), chunks=len(events), chunk_times=tuple(points),
        response_body=body(b"".join(events), "text/event-stream"), **given,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ids() -> dict[str, str]:
    """The calls of the conversation by their place."""
    return {}


@pytest.fixture(scope="module")
def site(chromium: str, ids: dict[str, str]) -> Iterator[str]:
    """A conversation of three calls, in one session and trace."""
    database = Database("sqlite://")
    common = {"session_id": "sintra", "trace_id": "ab" * 16, "caller": "app.py:7 chat"}
    calls = [
        talk("How do I get to Sintra?", start_ns=START, **common),
        streamed("How do I get to Sintra?", "And by train?", start_ns=START + 900 * MS, **common),
        talk("How do I get to Sintra?", "And by train?", "Thanks", start_ns=START + 5000 * MS, **common),
    ]
    Sink(database).write(calls)
    ids.update({name: made.id for name, made in zip(("first", "second", "third"), calls, strict=True)})
    admin = Admin(database=database, auth=lambda request: "owner", environ={}, replay=Willing())
    with serve(Starlette(routes=[Mount("/_llmobs", admin)])) as url:
        yield f"{url}/_llmobs"
    database.dispose()


def test_keys(site: str, opened: Open, ids: dict[str, str]) -> None:
    """Each key leads where the footer says."""
    watched = opened(site)
    page = watched.page

    def press(key: str, ends: str) -> None:
        watched.go(f"/requests/{ids['second']}")
        page.keyboard.press(key)
        page.wait_for_url(f"**/requests/{ends}")

    first, second, third = ids["first"], ids["second"], ids["third"]
    for key, ends in (("<", first), (">", third), ("{", first), ("}", third), ("[", third), ("]", first),
                      ("r", f"{second}/replay"), ("d", f"{second}?compare={first}"),
                      ("m", f"{second}?markdown=1")):  # fmt: skip
        press(key, ends)


def test_copy(site: str, opened: Open, ids: dict[str, str]) -> None:
    """The menu opens by its key and takes the focus; a press on a form of the call puts it into the clipboard."""
    watched = opened(site, permissions=["clipboard-read", "clipboard-write"])
    page = watched.page
    watched.go(f"/requests/{ids['second']}")
    page.keyboard.press("c")
    page.locator("[data-copy-call]:focus", has_text="curl").wait_for()
    page.keyboard.press("Enter")
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("curl -sS")

    page.keyboard.press("Escape")
    assert not page.locator("[data-pop]").first.evaluate("each => each.open")


def test_stream_by_hand(site: str, opened: Open, ids: dict[str, str]) -> None:
    """The slider shows the text as it was, by keys too."""
    watched = opened(site)
    page = watched.page
    watched.go(f"/requests/{ids['second']}")
    slider = page.get_by_label("Moment of the stream")
    slider.focus()
    said = page.locator("[data-said]")
    sync_api.expect(said).to_have_text("".join(WORDS))
    slider.press("Home")
    sync_api.expect(said).to_have_text(WORDS[0])
    slider.press("ArrowRight")
    sync_api.expect(said).to_have_text("".join(WORDS[:2]))


def test_json_as_a_tree(site: str, opened: Open, ids: dict[str, str]) -> None:
    """A body becomes a tree that opens where something is found."""
    watched = opened(site)
    page = watched.page
    watched.go(f"/requests/{ids['third']}")
    page.get_by_text("Raw request body").click()
    card = page.locator("#request-body")
    card.get_by_role("button", name="As a tree").click()
    card.get_by_label("Search in this JSON").fill("needle")
    card.get_by_label("Search in this JSON").press("Enter")

    assert card.locator(".hit").inner_text() == 'x: "needle"'
    assert card.get_by_role("status").inner_text() == "1 of 1"
    card.get_by_role("button", name="As text").click()
    assert card.locator("pre").is_visible()


def test_a_megabyte_of_json(site: str, opened: Open) -> None:
    """A body of a megabyte is there as a tree, and found through."""
    value = {"rows": [{"id": number, "text": "x" * 60} for number in range(12_000)], "end": {"last": "needle"}}
    big = request(start_ns=START - 10**12, request_body=body({"model": "gpt-4o", "messages": [], **value}))
    watched = opened(site)
    page = watched.page
    watched.go("/requests")
    page.route("**/request-body", lambda route: route.fulfill(body=big.request_body.content))
    first = page.request.get(f"{site}/requests.json").json()["rows"][0]["id"]
    watched.go(f"/requests/{first}")
    page.get_by_text("Raw request body").click()
    card = page.locator("#request-body")
    card.get_by_role("button", name="As a tree").click()
    card.locator(".json").wait_for()
    took = page.evaluate("""async () => {
        const field = document.querySelector("#request-body .json input");
        field.value = "needle";
        const start = performance.now();
        field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
        return performance.now() - start;
    }""")

    assert card.locator(".hit").inner_text() == 'last: "needle"'
    assert took < 10_000
    assert page.evaluate("document.querySelectorAll('#request-body .json *').length") < 2000


def test_without_javascript(site: str, opened: Open, ids: dict[str, str]) -> None:
    """What is new, what came back, the copies and the stream can be read."""
    watched = opened(site, java_script_enabled=False)
    page = watched.page
    watched.go(f"/requests/{ids['second']}")
    assert "And by train?" in page.locator("#sent").inner_text()
    assert "Sintra" in page.locator("#answer").inner_text()
    page.get_by_role("link", name="Every moment as a table").click()
    assert page.locator("tbody tr").count() == len(WORDS)
    watched.go(f"/requests/{ids['second']}")
    page.locator("summary", has_text="Copy").click()
    page.get_by_role("link", name="Python (httpx)").click()
    assert "httpx.request(" in page.locator("#text").inner_text()


def test_beside_the_list(site: str, opened: Open, ids: dict[str, str]) -> None:
    """In the panel beside the list the slider, the tree and the copies work as on the page."""
    watched = opened(site, permissions=["clipboard-read", "clipboard-write"], viewport={"width": 1500, "height": 900})
    page = watched.page
    watched.go(f"/requests?open={ids['second']}")
    panel = page.get_by_role("complementary", name="Request")
    slider, said = panel.get_by_label("Moment of the stream"), panel.locator("[data-said]")
    for _ in range(40):  # what is in the panel is brought to life a moment after it is there
        slider.focus()
        if said.is_visible():
            break
        slider.blur()
        page.wait_for_timeout(100)
    sync_api.expect(panel.locator("[data-said]")).to_have_text("".join(WORDS))
    panel.get_by_text("Raw response body").click()
    panel.locator("#response-body").get_by_role("button", name="As a tree").click()
    sync_api.expect(panel.locator("#response-body .json summary").first).to_have_text(f"[{len(WORDS)}]")
    panel.locator("summary", has_text="Copy").click()
    panel.get_by_role("link", name="pytest fixture").click()
    sync_api.expect(panel.get_by_text("Copied")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_accessibility(site: str, opened: Open, ids: dict[str, str], scheme: str) -> None:
    """axe finds nothing serious, with and without a comparison; no page is wider than a phone."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    watched = opened(site, bypass_csp=True, color_scheme=scheme, checked=False)
    page = watched.page
    for tail in (ids["second"], f"{ids['second']}?compare={ids['first']}", f"{ids['second']}/replay",
                 f"{ids['second']}/stream", f"{ids['second']}/copy/curl"):  # fmt: skip
        watched.go(f"/requests/{tail}")
        found = [issue for issue in axe.run(page).response["violations"] if issue["impact"] in ("serious", "critical")]
        assert found == [], (tail, [(each["id"], each["nodes"][0]["html"]) for each in found])
        page.set_viewport_size({"width": 390, "height": 844})
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), tail
        page.set_viewport_size({"width": 1280, "height": 800})
