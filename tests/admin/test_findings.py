"""The insights as pages: what is shown, to whom, and that each leads to its calls."""

from typing import Any

import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.admin.reading import read
from tests.admin.seeding import CONTENT
from tests.admin.visiting import Visitor
from tests.making import SECOND, START, priced, request


@pytest.fixture
def visitor(database: Database) -> Visitor:
    calls = [request(f"{CONTENT} again", cost=priced("0.25"), start_ns=START + at * SECOND) for at in range(3)]
    Sink(database).write(calls)
    return Visitor(Admin(database=database, auth=lambda request: request.headers["x-role"], environ={}))


def as_role(visitor: Visitor, path: str, role: str = "owner") -> Any:
    return visitor.ask("GET", path, {"x-role": role})


def test_a_finding_leads_to_its_calls(visitor: Visitor) -> None:
    """Amount, arithmetic, and a link to just the calls that it was reckoned from."""
    time = "since=2020-01-01"
    page, twin = as_role(visitor, f"/insights?{time}"), as_role(visitor, f"/insights.json?{time}").json
    (repeated,) = next(kind["found"] for kind in twin["kinds"] if kind["kind"] == "repeated")

    assert repeated["amount"] == 0.5 and "$0.75 × 2 / 3 = $0.5" in page.text
    assert twin["kinds"][0]["kind"] == "repeated" and twin["looked_at"] == 3
    (link,) = (href for href in read(page.text).links() if "insights/repeated" in href)
    calls = read(as_role(visitor, link.removeprefix(".")).text)
    assert len(calls.rows()) == 3


def test_without_content(visitor: Visitor) -> None:
    """A viewer sees what it costs, not what was asked."""
    for path in ("/insights?since=2020-01-01", "/insights/repeated?since=2020-01-01&provider=openai&model=gpt-4o"):
        assert as_role(visitor, path, "viewer").status == 200
        assert CONTENT not in as_role(visitor, path, "viewer").text
    assert as_role(visitor, "/insights", "metrics").status == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [("/insights/nothing", 404), ("/insights/repeated?key=x", 422), ("/insights?since=soon", 422),
     ("/insights/repeated?key=" + "9" * 30, 422), ("/insights/cheaper", 404)],
)  # fmt: skip
def test_what_is_not_there(visitor: Visitor, path: str, status: int) -> None:
    """Kinds that there are not, keys that are none."""
    assert as_role(visitor, path).status == status


def test_nothing_to_look_at(visitor: Visitor) -> None:
    """A time without calls says so, and what to do."""
    assert "Nothing to look at" in as_role(visitor, "/insights?since=1m").text
