"""A large tree comes in pieces, and a link to a node leads to the piece that it is in."""

import pytest

from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.admin.conftest import MakeAdmin
from tests.admin.reading import read
from tests.admin.visiting import Visitor
from tests.making import SECOND, START, span

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
        assert len(rows) <= 500
        seen += rows
        address = page.link("next")

    assert len(seen) == len(set(seen)) == NODES + 1


def test_a_node_is_shown_with_its_piece(visitor: Visitor) -> None:
    """The page of a node holds the node."""
    page = read(visitor.get(f"/traces/{TRACE}?node={1100:016x}").text)
    selected = [attrs["id"] for _, attrs in page.tags if "on" in attrs.get("class", "").split()]
    assert selected == ["node"]
    assert "node 1100" in page.text


def test_the_twin_has_all(visitor: Visitor) -> None:
    """JSON does not come in pieces."""
    assert len(visitor.get(f"/traces/{TRACE}.json").json["nodes"]) == NODES + 1


@pytest.mark.parametrize("start", ["-1", "x", "1201", "9" * 30, "٣"])
def test_no_such_piece(visitor: Visitor, start: str) -> None:
    """What is no place in the tree is said to be none."""
    answer = visitor.get(f"/traces/{TRACE}.json?from={start}")

    assert (answer.status, answer.json["field"]) == (422, "from")
