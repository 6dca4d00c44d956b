"""T16 to T20: what a trace adds up to is the same on the list, the page, in its JSON twin and on the command line."""

import json
import re
from dataclasses import fields, replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from asgi_llmobs import cli
from asgi_llmobs.admin import Admin
from asgi_llmobs.admin.api import jsonable
from asgi_llmobs.cli.treetext import figures
from asgi_llmobs.queries.traces import TraceTree, get_trace
from asgi_llmobs.records import Cost, Span
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.admin.visiting import Visitor
from tests.making import SECOND, START, attempt, priced, request, span

TRACE = "a" * 32
WORDS = {
    "Total cost", "Total duration", "Node count", "Max depth", "Success rate", "Parallel saving", "Waiting for retries",
}  # fmt: skip


def twice(**given: Any) -> Span:
    """A request whose first attempt failed, and that waited half a second."""
    made = request(trace_id=TRACE, attempt=2, duration_ns=3 * SECOND, **given)
    first = attempt(made, 1, duration_ns=SECOND, outcome="error", status=429, start_ns=made.start_ns)
    second = attempt(made, 2, start_ns=made.start_ns + int(1.5 * SECOND), duration_ns=int(1.5 * SECOND))
    return replace(made, attempts=(first, second))


def root(**given: Any) -> Span:
    return span(id="root", name="POST /ask", trace_id=TRACE, **{"duration_ns": 10 * SECOND, **given})


def inside(id: str, **given: Any) -> Span:
    return request(id=id, trace_id=TRACE, **{"parent_id": "root", "start_ns": START + SECOND, **given})


RUNNING: dict[str, Any] = {"outcome": "running", "duration_ns": None}
UNPRICED = Cost(reason="no price is known")
SHAPES: dict[str, list[Span]] = {
    "plain": [root(), inside("one"), inside("two", start_ns=START + 2 * SECOND, cost=priced("0.25"))],
    "running": [root(**RUNNING), inside("one", cost=UNPRICED, **RUNNING)],
    "orphan": [root(), inside("lost", parent_id="never"), inside("below", parent_id="lost")],
    "virtual": [root(), inside("leaf", node_id="a:b:c"), inside("no", node_id="a:x", outcome="error", cost=UNPRICED)],
    "skewed": [root(), inside("early", start_ns=START - 2 * SECOND), twice(id="again", parent_id="root")],
    "no request": [root()],
    "no root": [inside("one", parent_id="elsewhere"), inside("two", parent_id="elsewhere")],
}  # fmt: skip


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> list[Span]:
    """Traces that are hard to add up."""
    return SHAPES[request.param]


def stored(path: Path, spans: list[Span]) -> tuple[Database, TraceTree]:
    """A store that holds *spans*, and the tree that they make."""
    database = Database(f"sqlite:///{path / 'llmobs.db'}")
    Sink(database).write(spans)
    tree = get_trace(database, TRACE, project="default")
    assert tree is not None
    return database, tree


def shown(html: str) -> dict[str, str]:
    """The figures of a page, as a reader sees them."""
    found = re.findall(r"<dt[^>]*>([^<]+)</dt><dd[^>]*>(.*?)</dd>", html)
    return {word: " ".join(unescape(re.sub(r"<[^>]+>", "", value)).split()) for word, value in found if word in WORDS}


def test_T16_to_T20_equal_on_page_list_json_and_command_line(
    shape: list[Span], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """T20: running, orphan, virtual and skewed nodes included; every figure and every node's times and sums."""
    database, tree = stored(tmp_path, shape)
    visitor = Visitor(Admin(database=database, auth=lambda request: True, environ={}))
    twin = visitor.get(f"/traces/{TRACE}.json").json
    (listed,) = visitor.get("/traces.json?status=ok&status=error&status=running").json["rows"] or [None]
    page = shown(visitor.get(f"/traces/{TRACE}").text)
    monkeypatch.setenv("LLMOBS_DATABASE_URL", database.url)
    assert cli.main(["trace", TRACE[:12], "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert cli.main(["trace", TRACE]) == 0
    text = capsys.readouterr().out

    told = figures(tree)
    assert set(told) == WORDS
    for word, value in told.items():
        assert f"{word:<20} {value}\n" in text
        assert page.get(word, "0 ms") == value  # a saving of nothing is not on the page
    own = {item.name: jsonable(getattr(tree, item.name)) for item in fields(TraceTree) if item.name != "nodes"}
    assert twin["trace"] == printed["trace"] == own
    if listed is not None:
        both = listed.keys() & own.keys() - {"session_name"}
        assert {name: listed[name] for name in both} == {name: own[name] for name in both}
    assert printed["nodes"] == jsonable(tree.nodes)
    for node in twin["nodes"]:
        assert node == next(one for one in printed["nodes"] if one["id"] == node["id"])
    database.dispose()


def test_a_name_gives_no_orders_to_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A span may be called anything; and what is not there is said."""
    database, _ = stored(tmp_path, [root(), inside("x", name="\x1b[2J\x07bell\nand more")])
    monkeypatch.setenv("LLMOBS_DATABASE_URL", database.url)
    assert cli.main(["trace", TRACE, "--limit", "1"]) == 0
    assert "1 more: --limit" in capsys.readouterr().out
    assert cli.main(["trace", TRACE]) == 0
    text = capsys.readouterr().out

    assert "\x1b" not in text and "\x07" not in text and "bell and more" in text
    assert cli.main(["trace", "f" * 32]) == 1
    assert "no trace" in capsys.readouterr().out
    database.dispose()
