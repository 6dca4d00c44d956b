"""A trace of 10,000 nodes in a real browser: a small page, and every part of it a link away."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from asgi_llmobs.testing import serve
from tests.making import SECOND, START, span

pytestmark = pytest.mark.slow
TRACE = "ab" * 16
NODES = 10_000
DEEP = 60


@pytest.fixture(scope="module")
def forest() -> Iterator[str]:
    """The address of an admin over one trace: a chain of 60 levels, and the rest below its third node."""
    database = Database("sqlite://")
    ids = [f"{number:016x}" for number in range(1, NODES + 1)]
    made = [
        span(
            id=id, trace_id=TRACE, parent_id=None if not place else ids[place - 1] if place < DEEP else ids[2],
            name=f"node {place}", start_ns=START + place * 1_000, duration_ns=SECOND,
        )
        for place, id in enumerate(ids)
    ]  # fmt: skip
    for start in range(0, NODES, 2_000):
        Sink(database).write(made[start : start + 2_000])
    with serve(Admin(database=database, auth=lambda request: True, environ={}), lifespan="off") as url:
        yield url
    database.dispose()


@pytest.mark.parametrize("scripts", [True, False])
def test_T21_ten_thousand_nodes(forest: str, opened: Callable[..., Any], scripts: bool) -> None:
    """Fewer than 150 rows are in the page, with and without JavaScript, and the deepest node is a few links away."""
    seen = opened(forest, checked=scripts, java_script_enabled=scripts)
    seen.go(f"/traces/{TRACE}")
    rows = seen.page.locator("[data-row]")

    assert 0 < rows.count() < 150
    assert seen.page.locator("body *").count() < 4_000
    seen.page.locator("[data-unfold]").first.click()
    assert 0 < rows.count() < 150
    seen.go(f"/traces/{TRACE}?node={DEEP:016x}")
    assert "node 59" in seen.page.locator("tr.on").inner_text() and rows.count() < 150
    seen.page.locator("input[name=find]").fill("node 9999")
    seen.page.locator("form[role=search] button").click()
    seen.page.wait_for_url("**find=*")
    assert rows.count() == 1 and "node 9999" in rows.first.inner_text()


def test_T15_one_key_to_the_slowest(forest: str, opened: Callable[..., Any]) -> None:
    """A key leads to the node with the longest time of its own."""
    seen = opened(forest)
    seen.go(f"/traces/{TRACE}")
    seen.page.keyboard.press("b")
    seen.page.wait_for_url("**node=*")
    assert seen.page.locator("tr.on").count() == 1
