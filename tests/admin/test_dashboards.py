"""The dashboards: pages and twins agree, every figure leads to its rows, and what is asked for wrongly is said."""

import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.admin.board import span_of
from asgi_llmobs.admin.charts import Chart, Line, drawn, nice, times
from asgi_llmobs.filters import Filter
from asgi_llmobs.records import Cost, Kind
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.admin.reading import read
from tests.admin.visiting import Visitor
from tests.making import SECOND, START, priced, request, span

HOUR = 3_600 * SECOND
PAGES = (
    "/", "/?by=model", "/?by=route&and=user", "/?by=property.plan", "/?by=error", "/?by=outcome", "/?by=status",
    "/users", "/users?sort=last", "/users/ada",
    "/properties", "/properties/plan", "/properties/plan?and=model", "/models", "/models/gpt-4o", "/models/acme",
    "/endpoints", "/endpoints?route=/chat", "/?q=user:ada", "/?since=2026-09-21T14:00&until=2026-09-21T15:00",
)  # fmt: skip


@pytest.fixture(scope="module")
def visitor() -> Iterator[Visitor]:
    """An admin over a few hours of two endpoints; the header x-role says who asks."""
    database = Database("sqlite://")
    records: list[Any] = []
    for number in range(40):
        start = START + number * HOUR // 8
        root = span(kind=Kind.HTTP, route="/chat" if number % 3 else "/search", start_ns=start, duration_ns=4 * SECOND,
                    outcome="cancelled" if number == 7 else "ok", user_id="ada")  # fmt: skip
        given: dict[str, Any] = {"request_model": "acme", "cost": Cost(reason="no price is known for acme")}
        if number % 4:
            given = {"cost": priced("0.5"), "properties": {"plan": "pro"}, "user_id": "ada"}
        outcome = "error" if number == 5 else "ok"
        about = {"trace_id": root.trace_id, "parent_id": root.id, "route": root.route, "start_ns": start}
        records += [
            root,
            request(outcome=outcome, error_type="rate limit: x", error_message="PROMPT", **about, **given),
        ]
    Sink(database).write(records)
    yield Visitor(Admin(database=database, auth=lambda asked: asked.headers.get("x-role"), environ={}),
                  headers={"x-role": "owner"})  # fmt: skip
    database.dispose()


@pytest.mark.slow
def test_every_figure_leads_to_its_rows(visitor: Visitor) -> None:
    """No link of a dashboard is refused, whatever it was narrowed down to; of each kind a few are followed."""
    seen: set[str] = set()
    kinds: Counter[tuple[str, ...]] = Counter()
    for path in PAGES:
        answer = visitor.get(path)
        assert answer.status == 200, answer.text
        assert not re.search(r"style=|onclick|<script(?! )", answer.text), path
        links = {link for link in read(answer.text).links() if not link.startswith("#") and "static/" not in link}

        depth = path.partition("?")[0].count("/") - 1
        for link in sorted(links):
            target = "/" + link.removeprefix("../" * depth).removeprefix("./")
            page, _, query = target.partition("?")
            kind = (path, page.split("/")[1], *sorted({each.partition("=")[0] for each in query.split("&")}))
            if target not in seen and kinds[kind] < 2:
                seen.add(target)
                kinds[kind] += 1
                assert visitor.get(target).status in (200, 303), (path, link)
    assert len(seen) > 100


def test_figures_and_their_rows_agree(visitor: Visitor) -> None:
    """The list behind a tile, a step and a group has as many rows as these say."""
    twin = visitor.get("/index.json?by=model").json
    page = read(visitor.get("/?by=model").text)
    assert (twin["total"]["requests"], twin["total"]["total_cost_usd"], twin["total"]["unpriced_count"]) == (40, 15, 10)
    assert sum(group["requests"] for group in twin["groups"]) == 40 == sum(step["requests"] for step in twin["steps"])
    links = [link.removeprefix("./") for link in page.links()]
    rows = [link for link in links if link.startswith("requests?") and "model" in link]
    counts = [visitor.get("/" + link.replace("requests", "requests.json", 1)).json["count"] for link in rows]
    assert sorted(counts) == sorted(group["requests"] for group in twin["groups"])
    step = next(step for step in twin["steps"] if step["requests"])
    length = twin["window"]["step_ns"]
    between = f"since={step['start_ns']}&until={step['start_ns'] + length}"
    assert visitor.get(f"/requests.json?{between}").json["count"] == step["requests"]


def test_models(visitor: Visitor) -> None:
    """A model without a price says where to put one, in lines that work."""
    text = read(visitor.get("/models/acme").text).text
    assert "10 requests of this range have no price: no price is known for acme (10)" in " ".join(text.split()) or (
        "no price is known for acme" in text
    )
    assert 'app.add_middleware(LLMObsMiddleware, prices={ "acme": {' in " ".join(text.split())
    rows = {row["model"]: row for row in visitor.get("/models.json").json["rows"]}
    assert rows["acme"]["known"] is False and rows["gpt-4o"]["known"] is True
    assert rows["gpt-4o"]["figures"]["requests"] == 30 and rows["gpt-4o"]["rates"]["tokens_per_second"] == 10
    assert visitor.get("/models/nobody").status == visitor.get("/users/nobody").status == 404


def test_endpoints(visitor: Visitor) -> None:
    """By route: what was waited for, what one that ended well costs, what was spent on clients that had gone."""
    twin = visitor.get("/endpoints.json").json
    routes = {one["route"]: one for one in twin["routes"]}

    assert {route: one["requests"] for route, one in routes.items()} == {"/chat": 26, "/search": 14}
    assert routes["/chat"]["wait_share"] == 0.25 and routes["/chat"]["gone_cost_usd"] == 0.5
    assert routes["/chat"]["cost_per_success_usd"] == pytest.approx(routes["/chat"]["total_cost_usd"] / 25)
    assert "$0.5000" in visitor.get("/endpoints").text
    refused = visitor.get("/endpoints.json?model=gpt-4o")
    assert refused.status == 422 and refused.json["field"] == "model"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/index.json?by=tenant", "by"), ("/index.json?by=property.", "by"), ("/index.json?by=model&and=x", "by"),
        ("/index.json?by=model&and=user&and=route", "by"), ("/users.json?sort=name", "sort"),
        ("/users.json?page=0", "page"), ("/users.json?model=x", "filter"), ("/index.json?since=soon", "since"),
    ],
)  # fmt: skip
def test_what_is_not_understood(visitor: Visitor, path: str, field: str) -> None:
    """It is refused, and the field is named."""
    answer = visitor.get(path)
    assert (answer.status, answer.json["field"]) == (422, field)


def test_roles(visitor: Visitor) -> None:
    """Metrics sees totals and nothing else; a viewer sees rows without a word of their content."""
    metrics = Visitor(visitor.app, headers={"x-role": "metrics"})
    page, twin = metrics.get("/"), metrics.get("/index.json").json
    assert page.status == 200 and "requests?" not in page.text and twin["newest"] == [] == twin["failed"]
    for query in ("by=user", "user=ada", "q=hello"):
        assert metrics.get(f"/?{query}").status == 422
    for path in ("/users", "/properties", "/models", "/endpoints", "/users/ada"):
        assert metrics.get(path).status == 403
    viewer = Visitor(visitor.app, headers={"x-role": "viewer"})
    for path in PAGES:
        assert "PROMPT" not in viewer.get(path).text


def test_empty() -> None:
    """A store without a request explains itself."""
    database = Database("sqlite://")
    visitor = Visitor(Admin(database=database, auth=lambda _: True, environ={}))
    words = {"/": "Nothing captured yet", "/users": "No request names a user", "/properties": "has a property",
             "/models": "No model was asked", "/endpoints": "No request to the app"}  # fmt: skip
    for path, text in words.items():
        assert text in visitor.get(path).text
        assert visitor.get(f"{path}index.json" if path == "/" else f"{path}.json").status == 200
    database.dispose()


def test_the_range_that_nobody_asked_for() -> None:
    """The shortest in which something happened; what is asked for holds; ages without data are left out."""
    now, hour = START, HOUR
    cases = (
        ((now - hour // 2, now - 5), "1h"), ((now - 90 * hour, now - 5), "24h"),
        ((now - 90 * hour, now - 60 * hour), "7d"),
        ((now - 900 * hour, now - 700 * hour), "30d"), ((now - 9_000 * hour, now - 1_000 * hour), "1970-01-01"),
    )  # fmt: skip
    for (oldest, newest), word in cases:
        found = span_of(Filter(), oldest, newest, now)
        assert (found.word, found.chosen) == (word, False) and found.since_ns <= newest
    asked = Filter(since_ns=0, since="1970-01-01")
    assert span_of(asked, now - hour, now, now).since_ns == now - hour
    assert span_of(asked, None, None, now).until_ns == now
    ended = span_of(Filter(since_ns=now - 5 * hour, until_ns=now - hour), now, now, now)
    assert (ended.since_ns, ended.until_ns, ended.word) == (now - 5 * hour, now - hour, "")


def test_ticks() -> None:
    """Axes go up to the first round value that is not below the highest, in at most four steps."""
    for unit in ("count", "money", "duration", "share", "per_second"):
        for most in (1, 3, 7, 0.0004, 0.97, 12_345, 7.3e9, 4e14):
            most = min(most, 1.0) if unit == "share" else most
            found = nice(most, unit)
            assert 1 <= len(found) <= 4 and found[-1] >= most * (1 - 1e-9) and found == sorted(set(found))
    assert nice(0, "count") == [] and nice(9, "count") == [5, 10] or nice(9, "count")[-1] >= 9
    assert nice(1.7e9, "duration") == [500_000_000, 1_000_000_000, 1_500_000_000, 2_000_000_000]


def test_drawing() -> None:
    """Bars stand on each other; a line is broken where nothing is known, and one value alone is seen."""
    starts = range(START // HOUR * HOUR, START // HOUR * HOUR + 4 * HOUR, HOUR)
    bars = drawn(
        Chart(title="", unit="money", kind="bars", lines=[
            Line(label="a", mark="x", values=[Decimal(1), None, Decimal(2), 0]),
            Line(label="b", mark="y", values=[Decimal(1), Decimal(4), None, 0]),
        ]), starts, HOUR,
    )  # fmt: skip
    assert [(mark, y, height) for mark, _, y, _, height in bars.bars] == [
        ("x", 90, 30), ("x", 60, 60), ("y", 60, 30), ("y", 0, 120)
    ]  # fmt: skip
    line = drawn(
        Chart(title="", unit="share", kind="lines", lines=[Line(label="", mark="z", values=[None, 0.5, None, 1])]),
        starts, HOUR,
    )  # fmt: skip
    ((_, path),) = line.paths
    assert path.count("M") == 2 and path.count("h") == 2 and "L" not in path
    assert drawn(Chart(title="", unit="count", kind="bars", lines=[]), (), HOUR).empty
    for length, step in ((3_600, 60), (86_400, 3_600), (30 * 86_400, 86_400), (900 * 86_400, 28 * 86_400)):
        labels = times(range(START, START + length * SECOND, step * SECOND), step * SECOND)
        assert 1 <= len(labels) <= 6 and all(0 <= x <= 100 for x, *_ in labels)
