"""A large tree comes in pieces, and a link to a node leads to the piece that it is in."""

from dataclasses import replace

import pytest

from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.admin.conftest import MakeAdmin
from tests.admin.reading import read
from tests.admin.visiting import Visitor
from tests.making import SECOND, START, request, span

TRACE = "ab" * 16
NODES = 1200


@pytest.fixture
def visitor(database: Database, make_admin: MakeAdmin) -> Visitor:
    """Somebody who may see a trace of a root with 1,200 spans below it."""
    root = span(id="f" * 16, trace_id=TRACE, name="root", duration_ns=9 * SECOND)
    below = [
        span(id=f"{n:016x}", trace_id=TRACE, parent_id=root.id, name=f"node {n}", start_ns=START + n * 1000)
        for n in range(1, NODES + 1)
    ]
    Sink(database).write([root, *below])
    return Visitor(make_admin(lambda request: True))


def test_pieces(visitor: Visitor) -> None:
    """Following the links shows every node once."""
    seen: list[str] = []
    address: str | None = f"./{TRACE}"
    while address is not None:
        page = read(visitor.get(f"/traces/{address.rpartition('/')[2]}").text)
        rows = [attrs["href"] for tag, attrs in page.tags if tag == "a" and "data-open" in attrs]
        assert len(rows) <= 100
        seen += rows
        address = page.marked("data-piece", "after")

    assert len(seen) == len(set(seen)) == NODES + 1


def test_a_node_is_shown_with_its_piece(visitor: Visitor) -> None:
    """The page of a node holds the node."""
    page = read(visitor.get(f"/traces/{TRACE}?node={1100:016x}").text)
    selected = [attrs["id"] for _, attrs in page.tags if "on" in attrs.get("class", "").split()]
    assert selected == ["node"]
    assert "node 1100" in page.text


def test_the_twin_has_all_that_is_asked_for(visitor: Visitor) -> None:
    """JSON comes in the same pieces as the page, or at once where so many rows are asked for."""
    assert len(visitor.get(f"/traces/{TRACE}.json").json["nodes"]) == 100
    everything = visitor.get(f"/traces/{TRACE}.json?limit=20000").json
    assert len(everything["nodes"]) == NODES + 1 and everything["folded"] == []


@pytest.mark.parametrize("start", ["-1", "x", "1201", "9" * 30, "٣"])
def test_no_such_piece(visitor: Visitor, start: str) -> None:
    """What is no place in the tree is said to be none."""
    answer = visitor.get(f"/traces/{TRACE}.json?from={start}")

    assert (answer.status, answer.json["field"]) == (422, "from")


@pytest.fixture
def forest(database: Database, make_admin: MakeAdmin) -> Visitor:
    """Somebody who may see a root with ten branches of 99 nodes and one chain that is 60 deep."""
    root = span(id="f" * 16, trace_id=TRACE, name="root", duration_ns=9 * SECOND)
    made = [root]
    for branch in range(10):
        top = span(id=f"b{branch:015x}", trace_id=TRACE, parent_id=root.id, name=f"branch {branch}")
        made += [top, *(span(trace_id=TRACE, parent_id=top.id, name=f"leaf {branch}.{n}") for n in range(98))]
    above = root.id
    for level in range(2, 61):
        made.append(request(id=f"c{level:015x}", trace_id=TRACE, parent_id=above, name=f"level {level}"))
        above = made[-1].id
    Sink(database).write([*made[:-1], replace(made[-1], outcome="error", duration_ns=SECOND // 2)])
    return Visitor(make_admin(lambda request: True))


def names(visitor: Visitor, query: str = "") -> list[str]:
    return [node["name"] for node in visitor.get(f"/traces/{TRACE}.json{query}").json["nodes"]]


def test_a_large_tree_is_folded(forest: Visitor) -> None:
    """What does not fit is one link away: the first levels, and on each folded node how much is below."""
    twin = forest.get(f"/traces/{TRACE}.json").json
    page = read(forest.get(f"/traces/{TRACE}").text)
    rows = [attrs for tag, attrs in page.tags if tag == "tr" and "data-row" in attrs]
    unfold = [attrs["href"] for tag, attrs in page.tags if "data-unfold" in attrs]
    fold = [attrs["href"] for tag, attrs in page.tags if "data-fold" in attrs]

    assert twin["nodes"][0]["name"] == "root" and len(rows) == len(twin["nodes"]) < 100
    assert len(unfold) == len(twin["folded"]) == 11
    assert {node["below_count"] for node in twin["nodes"] if node["id"] in twin["folded"]} >= {98}
    first, last = (link[0].partition("traces/")[2].partition("#")[0] for link in (unfold, fold))
    opened = read(forest.get(f"/traces/{first}").text)
    assert len(opened.rows()) == 100 and "leaf 0.0" in opened.text and "leaf 1.0" not in opened.text
    shut = read(forest.get(f"/traces/{last}").text)
    assert len(shut.rows()) == 1 and "1,049 below" in shut.text
    assert names(forest, f"?at=b{0:015x}")[:2] == ["branch 0", "leaf 0.0"]
    assert len(names(forest, f"?at=b{0:015x}")) == 99


def test_the_way_to_a_node_is_unfolded(forest: Visitor) -> None:
    """A link to a node 60 levels down shows it with its path, of which the middle is left out."""
    twin = forest.get(f"/traces/{TRACE}.json?node=c{60:015x}").json

    assert twin["selected"]["name"] == "level 60" and "level 60" in [node["name"] for node in twin["nodes"]]
    assert [crumb["name"] for crumb in twin["path"]] == [
        "root", "level 2", "level 3", "54 more", "level 58", "level 59", "level 60"
    ]  # fmt: skip


def test_find_and_order(forest: Visitor) -> None:
    """Words find nodes in the whole tree; orders lay it out flat; what is none of them is said to be none."""
    assert names(forest, "?find=LEAF+3.7") == ["leaf 3.7", *(f"leaf 3.7{n}" for n in range(10))]
    assert names(forest, "?find=nothing") == []
    assert names(forest, "?order=duration&limit=1") == ["root"]
    assert len(names(forest, "?order=start")) == 100
    assert forest.get(f"/traces/{TRACE}.json?order=size").json["field"] == "order"
    assert forest.get(f"/traces/{TRACE}.json?limit=0").json["field"] == "limit"


def test_landmarks(forest: Visitor) -> None:
    """The slowest, the dearest and the next failed node are one key away."""
    twin = forest.get(f"/traces/{TRACE}.json").json
    page = read(forest.get(f"/traces/{TRACE}").text)

    assert twin["landmarks"]["failed"] == f"c{60:015x}" and twin["landmarks"]["dearest"] == f"c{2:015x}"
    assert twin["landmarks"]["slowest"] == "f" * 16
    keys = {attrs["data-key"]: attrs["href"] for tag, attrs in page.tags if tag == "a" and "data-key" in attrs}
    assert set(keys) == {"b", "$", "x", "1", "2", "3", "4"} and f"node=c{60:015x}" in keys["x"]
