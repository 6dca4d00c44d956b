"""The pages of traces and sessions: what they show to whom, what their twins say, and how much they read."""

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from asgi_llmobs.admin.axis import Axis, Gap
from asgi_llmobs.records import Span
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.admin.conftest import MakeAdmin
from tests.admin.reading import read
from tests.admin.seeding import CONTENT, fill
from tests.admin.visiting import Visitor
from tests.making import SECOND, START, body, request, span

TRACE, OTHER = "ab" * 16, "cd" * 16
VIEWS = ("tree", "timeline", "messages", "log")


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the database."""
    asked: list[str] = []
    execute, driver = Connection.execute, Connection.exec_driver_sql

    def counting(self: Connection, statement: Any, *more: Any, **given: Any) -> Any:
        asked.append(str(statement))
        return execute(self, statement, *more, **given)

    def plain(self: Connection, statement: str, *more: Any, **given: Any) -> Any:
        asked.append(statement)
        return driver(self, statement, *more, **given)

    monkeypatch.setattr(Connection, "execute", counting)
    monkeypatch.setattr(Connection, "exec_driver_sql", plain)
    return asked


def test_a_viewer_sees_no_content(database: Database, make_admin: MakeAdmin) -> None:
    """In no projection, list, comparison or twin stands a word of a prompt, an answer, a tool or an error."""
    records = fill(database)
    Sink(database).write(
        [span(trace_id=OTHER, name="POST /chat", error_message=CONTENT, outcome="error", output=CONTENT)]
    )
    node = records["tool"].id
    paths = [f"/traces/{TRACE}{{}}?view={view}&node={id}" for view in VIEWS for id in (node, records["first"].id)]
    paths += ["/traces{}", f"/traces/compare{{}}?a={TRACE}&b={OTHER}&show=all", "/sessions/trip-1{}"]
    paths += ["/sessions/trip-1{}?view=timeline", "/sessions/trip-1{}?view=paths"]
    viewer, reader = (Visitor(make_admin(lambda request, role=role: role)) for role in ("viewer", "reader"))

    seen = 0
    for path in paths:
        for address in (path.format(""), path.format(".json")):
            answer = viewer.get(address)
            assert answer.status == 200 and CONTENT not in answer.text, address
            seen += CONTENT in reader.get(address).text
    assert seen > 12


@pytest.mark.parametrize("view", VIEWS)
def test_page_and_twin_hold_the_same_rows(database: Database, make_admin: MakeAdmin, view: str) -> None:
    """Each projection shows the nodes that its twin names, the selected one among them."""
    records = fill(database)
    visitor = Visitor(make_admin(lambda request: True))
    where = f"?view={view}&node={records['second'].id}"
    page, twin = read(visitor.get(f"/traces/{TRACE}{where}").text), visitor.get(f"/traces/{TRACE}.json{where}").json

    shown = [attrs["data-id"] for _, attrs in page.tags if "data-row" in attrs]
    assert shown == [node["id"] for node in twin["nodes"]] and twin["selected"]["id"] == records["second"].id
    assert len(shown) == (2 if view == "messages" else 4)
    assert twin["place"]["view"] == view


@pytest.mark.parametrize(
    ("query", "field"),
    [("view=x", "view"), ("zoom=5", "zoom"), ("zoom=9-2", "zoom"), ("gaps=x", "gaps"), ("limit=0", "limit"),
     ("zoom=a-b", "zoom"), ("zoom=nan-nan", "zoom"), ("zoom=0-inf", "zoom")],
)  # fmt: skip
def test_no_such_place(database: Database, make_admin: MakeAdmin, query: str, field: str) -> None:
    """What is no place in a trace is said to be none, by name."""
    fill(database)
    answer = Visitor(make_admin(lambda request: True)).get(f"/traces/{TRACE}.json?{query}")

    assert (answer.status, answer.json["field"]) == (422, field)


def test_idle_time_is_offered_to_be_cut(database: Database, make_admin: MakeAdmin) -> None:
    """Where no leaf ran for most of the time the page says how long, and a link draws it short."""
    root = span(id="1" * 16, trace_id=OTHER, duration_ns=40 * SECOND)
    first = span(trace_id=OTHER, parent_id=root.id, start_ns=START, duration_ns=SECOND)
    last = span(trace_id=OTHER, parent_id=root.id, start_ns=START + 39 * SECOND, duration_ns=SECOND)
    Sink(database).write([root, first, last])
    visitor = Visitor(make_admin(lambda request: True))
    page = read(visitor.get(f"/traces/{OTHER}?view=timeline").text)

    assert "38.00 s in which no leaf ran, 95 %" in page.text
    twin = visitor.get(f"/traces/{OTHER}.json?view=timeline&gaps=cut").json
    assert [(gap["start_ns"], gap["end_ns"]) for gap in twin["axis"]["gaps"]] == [(SECOND, 39 * SECOND)]


def test_axis() -> None:
    """Time runs evenly but for gaps, which take the same little room each; nothing leaves the edges."""
    plain = Axis(start_ns=0, end_ns=1000)
    assert [plain.x(ns) for ns in (-5, 0, 250, 1000, 2000)] == [0, 0, 250, 1000, 1000]
    cut = Axis(start_ns=0, end_ns=10_000, gaps=[Gap(start_ns=100, end_ns=9_900)])
    assert cut.x(100) == pytest.approx(482) and cut.x(9_900) == pytest.approx(518) and cut.x(10_000) == 1000
    assert [tick.gap_ns for tick in cut.ticks() if tick.gap_ns] == [9_800]
    places = [tick.x for tick in cut.ticks()]
    assert places == sorted(places) and len(places) >= 2


def test_neighbours(database: Database, make_admin: MakeAdmin) -> None:
    """From a trace one gets to those beside it in the list and in its session, and to the one before of its name."""
    made = [
        request(
            trace_id=f"{n:032x}", start_ns=START + n * SECOND, name="same" if n != 2 else "other",
            session_id="s" if n != 3 else "t",
        )
        for n in range(1, 5)
    ]  # fmt: skip
    Sink(database).write(made)
    around = Visitor(make_admin(lambda request: True)).get(f"/traces/{4:032x}.json").json["around"]

    assert (around["newer_id"], around["older_id"], around["alike_id"]) == (None, f"{3:032x}", f"{3:032x}")
    assert (around["earlier_in_session_id"], around["later_in_session_id"]) == (f"{2:032x}", None)


def conversation(turns: int) -> list[Span]:
    """A session in which each turn sends all that was said before."""
    said: list[dict[str, str]] = []
    made: list[Span] = []
    for n in range(turns):
        said = [*said[-8:], {"role": "user", "content": f"question {n}"}]
        sent = {"model": "gpt-4o", "messages": said}
        made.append(
            request(
                f"question {n}", f"answer {n}", start_ns=START + n * SECOND, session_id="long", request_body=body(sent)
            )
        )
        said = [*said, {"role": "assistant", "content": f"answer {n}"}]
    return made


def test_a_long_session_is_read_a_page_at_a_time(
    database: Database, make_admin: MakeAdmin, statements: list[str]
) -> None:
    """Whichever page, it takes the same few queries, and each turn shows only what is new."""
    Sink(database).write(conversation(300))
    visitor = Visitor(make_admin(lambda request: True))
    counts = []
    for page in (1, 12):
        statements.clear()
        twin = visitor.get(f"/sessions/long.json?page={page}").json
        counts.append(len(statements))
        assert len(twin["steps"]) == 25 and twin["pages"] == 12
    assert counts[1] <= counts[0] + 1 and counts[0] <= 16, counts
    later = json.dumps(twin["steps"][3]["turns"])
    assert "question 278" in later and "answer 278" in later
    assert visitor.get("/sessions/long.json?page=13").json["field"] == "page"


def test_a_session_by_folders(database: Database, make_admin: MakeAdmin) -> None:
    """The tree of paths leads to the requests of one folder, with its totals and the way back."""
    made = [
        request(session_id="s", session_path=path, start_ns=START + n) for n, path in enumerate(["/a/b", "/c", "/a"])
    ]
    Sink(database).write(made)
    visitor = Visitor(make_admin(lambda request: True))
    page = read(visitor.get("/sessions/s?view=paths").text)
    assert any(link.endswith("?path=%2Fa%2Fb") for link in page.links())
    one = visitor.get("/sessions/s.json?path=a").json

    assert [step["row"]["id"] for step in one["steps"]] == [made[0].id, made[2].id]
    assert one["folder"]["request_count"] == 2 and one["path"] == "/a"


def test_comparing(database: Database, make_admin: MakeAdmin) -> None:
    """Page and twin of a comparison say the same; without two traces there is a form; of none that is not there."""
    fill(database)
    again = span(trace_id=OTHER, name="POST /chat", kind="http", duration_ns=3 * SECOND)
    Sink(database).write([again, replace(span(name="look_up", kind="tool"), trace_id=OTHER, parent_id=again.id)])
    visitor = Visitor(make_admin(lambda request: True))
    where = f"?a={TRACE}&b={OTHER}"
    page, twin = visitor.get(f"/traces/compare{where}").text, visitor.get(f"/traces/compare.json{where}").json

    assert twin["states"] == {"changed": 2, "only a": 2} and "2 only in A" in read(page).text
    assert sorted(node["state"] for node in twin["nodes"]) == ["changed", "changed", "only a", "only a"]
    assert [node["name"] for node in twin["nodes"] if node["state"] == "changed"] == ["POST /chat", "look_up"]
    assert "Compare two traces" in visitor.get("/traces/compare").text
    assert visitor.get(f"/traces/compare.json?a={TRACE}&b={'e' * 32}").json["field"] == "a"
