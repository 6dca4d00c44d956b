"""The list of requests: columns, orders, suggestions, facets and saved views, for each role and project."""

from typing import Any
from urllib.parse import quote

import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.queries import paging
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.views import saved_views
from asgi_llmobs.store.write import Sink
from tests.admin.reading import read
from tests.admin.visiting import Visitor
from tests.making import SECOND, START, priced, request


@pytest.fixture
def listed(database: Database) -> Database:
    """Twelve requests of one project, and one of another."""
    Sink(database).write(
        [
            *(
                request(
                    start_ns=START + number * SECOND, duration_ns=(number * 7 % 12) * SECOND, user_id=f"u{number % 3}",
                    cost=priced(f"0.{number % 5 + 1}"), properties={"Plan": "pro" if number % 2 else "free"},
                )
                for number in range(12)
            ),
            request(project="other", user_id="secret-user", request_model="secret-model",
                    properties={"secret-name": "secret-value", "Plan": "secret-plan"}),
        ]
    )  # fmt: skip
    return database


def visitor(database: Database, role: str = "operator", who: str = "") -> Visitor:
    def auth(request: Any) -> Any:
        return role

    made = Visitor(Admin(database=database, auth=auth, environ={}))
    if who:
        made.scope["user"] = type("User", (), {"is_authenticated": True, "display_name": who, "username": who})()
    return made


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("columns=time,colour", "columns"),
        ("columns=property.", "columns"),
        ("columns=" + ",".join(f"property.{number}" for number in range(30)), "columns"),
        ("sort=colour", "sort"),
        ("sort=cost&order=sideways", "order"),
        ("order=lowest", "order"),
        ("sort=cost&cursor=x", "cursor"),
        ("attempts=many", "attempts"),
    ],
)
def test_what_cannot_be_shown_is_named(listed: Database, query: str, field: str) -> None:
    """A column or an order that is not there is an error that names it."""
    answer = visitor(listed).get(f"/requests.json?{query}")

    assert (answer.status, answer.json["field"]) == (422, field)


@pytest.mark.parametrize("order", ["highest", "lowest"])
def test_another_order_page_by_page(listed: Database, order: str) -> None:
    """Each row once, in order, forth and back by the links."""
    site, cursor, found = visitor(listed), "", []
    pages = []
    while True:
        twin = site.get(f"/requests.json?sort=latency&order={order}&limit=5{cursor}").json
        pages.append(twin["rows"])
        found += [row["duration_ns"] for row in twin["rows"]]
        if twin["next_cursor"] is None:
            break
        cursor = f"&cursor={twin['next_cursor']}"
    back = site.get(f"/requests.json?sort=latency&order={order}&limit=5&cursor={twin['previous_cursor']}").json

    assert found == sorted(found, reverse=order == "highest") and len(found) == 12
    assert back["rows"] == pages[-2] and twin["sorted_within"] is None


def test_an_order_says_how_far_it_reaches(listed: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are more rows than are sorted, page and twin say so."""
    monkeypatch.setattr(paging, "REACH", 4)
    site = visitor(listed)
    twin = site.get("/requests.json?sort=latency").json

    assert (twin["sorted_within"], len(twin["rows"])) == (4, 4)
    assert "among the newest 4 requests" in read(site.get("/requests?sort=latency").text).text


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("", "model:"),
        ("sta", "status:"),
        ("status:er", "error"),
        ("model:gpt", "gpt-4o"),
        ("-user:", "u0"),
        ("(user:u1 OR us", "user:"),
        ("pla", "property.plan:"),
        ("property.p", "property.plan:"),
        ("plan:f", "free"),
        ('property."Plan":pr', "pro"),
        ("user:(u1 OR u", "u0"),
        ("cost:", ">0.01"),
        ("nothing:x", None),
        ("secret", None),
        ("user:secret", None),
        ("model:secret", None),
        ("plan:secret", None),
        ('"quoted ', "model:"),
    ],
)
def test_suggestions(listed: Database, text: str, first: str | None) -> None:
    """Keys and values of the visitor's own project, where the cursor is."""
    answer = visitor(listed, "viewer").get(f"/search.json?q={quote(text)}")
    found = answer.json["suggestions"]

    assert (found[0]["text"] if found else None) == first
    assert "secret" not in str(found) and answer.status == 200


def test_who_may_see_sums_only_is_given_no_names(listed: Database) -> None:
    """Names of users and properties are for viewers."""
    for path in ("/search.json?q=user:", "/requests", "/rows?id=x", "/live"):
        assert visitor(listed, "metrics").get(path).status == 403


def test_facets_add_up(listed: Database) -> None:
    """Counts are those of the list, with the alternatives of what is chosen; nothing is of another project."""
    twin = visitor(listed).get("/requests.json?q=plan:pro+user:u1").json
    facets = {
        one["key"] + one["label"]: {each["value"]: each["count"] for each in one["choices"]} for one in twin["facets"]
    }

    assert twin["count"] == 2 and facets["status"] == {"ok": 2}
    assert facets["user"] == {"u0": 2, "u1": 2, "u2": 2} and facets["propertyPlan"] == {"pro": 2, "free": 2}
    assert "secret" not in str(twin)


def test_rows_by_id_are_the_projects(listed: Database) -> None:
    """Rows are handed out by id, never those of another project."""
    ids = [row["id"] for row in visitor(listed).get("/requests.json").json["rows"]]
    other = Visitor(Admin(database=listed, auth=lambda request: "operator", environ={}, project="other"))

    assert len(visitor(listed).get(f"/rows.json?id={','.join(ids[:3])}").json["rows"]) == 3
    assert other.get(f"/rows.json?id={','.join(ids)}").json["rows"] == []
    assert visitor(listed).get(f"/rows.json?id={','.join(map(str, range(200)))}").status == 422


def test_views(listed: Database) -> None:
    """A view is saved under a name, seen by all of its project, and deleted by who saved it or an operator."""
    viewer, reader, operator = (visitor(listed, role) for role in ("viewer", "reader", "operator"))
    fields = {"page": "requests", "name": "<slow>", "query": "q=latency:>2s&columns=time,cost&cursor=x"}
    assert viewer.post("/views", fields).location == "./requests?q=latency%3A%3E2s&columns=time%2Ccost"
    (view,) = saved_views(listed, "default", "requests")
    assert (view.name, view.query) == ("<slow>", "q=latency%3A%3E2s&columns=time%2Ccost")
    assert "<slow>" in read(reader.get("/requests").text).text
    assert reader.post(f"/views/{view.id}/delete").status == 403
    assert operator.post(f"/views/{view.id}/delete").status == 303
    assert saved_views(listed, "default", "requests") == []

    for wrong in ({"page": "secrets"}, {"name": " "}, {"query": "q=modle:x"}):
        assert viewer.post("/views.json", {**fields, **wrong}).status == 422
    assert viewer.post("/views.json", fields).status == 200
    (own,) = saved_views(listed, "default", "requests")
    assert viewer.post(f"/views/{own.id}/delete").status == 303


def test_a_name_that_nobody_uses(listed: Database) -> None:
    """A search for a property that is not there says so, where it finds nothing."""
    assert "No request has a property colour" in read(visitor(listed).get("/requests?q=colour:red").text).text
    assert "No request has" not in visitor(listed).get("/requests?q=plan:blue").text
