"""Judging from the pages and by API: who may, what is kept, who may take it back, and where it is shown."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.auth import token
from asgi_llmobs.queries.scores import scores_of_span
from asgi_llmobs.scores import make_score
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.scores import give
from tests.admin.reading import read
from tests.admin.seeding import CONTENT, fill
from tests.admin.visiting import Visitor

TRACE = "ab" * 16


class Person:
    """Somebody whom the app's own authentication knows."""

    is_authenticated = True

    def __init__(self, name: str) -> None:
        self.display_name = name


class Desk:
    """A filled store, and visitors with a role and a name in front of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.records = fill(database)
        self.first = self.records["first"].id
        self.admin = Admin(database=database, auth=lambda request: request.headers["x-role"], environ={})

    def visitor(self, role: str = "analyst", name: str = "") -> Visitor:
        scope = {"user": Person(name)} if name else {}
        return Visitor(self.admin, headers={"x-role": role}, scope=scope)

    def said(self, id: str | None = None) -> list[tuple[Any, ...]]:
        found = scores_of_span(self.database, "default", id or self.first)
        return [
            (
                each.score.name,
                each.score.kind,
                each.score.value,
                each.score.label,
                each.score.comment,
                each.score.author,
            )
            for each in found
            if each.current
        ]


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def test_thumbs_from_the_page(desk: Desk) -> None:
    """One press says it, the other press changes it, and the page shows which; then one is back where one was."""
    visitor = desk.visitor(name="ada")
    page = read(visitor.get(f"/requests/{desk.first}").text)
    form = {attrs["name"]: attrs["value"] for tag, attrs in page.tags if tag == "input" and "value" in attrs}
    keys = {attrs.get("data-key"): attrs for tag, attrs in page.tags if tag == "button" and "data-key" in attrs}
    assert {"+", "-"} <= set(keys) and keys["+"]["aria-pressed"] == "false"

    sent = {"about": f"span:{desk.first}", "name": "thumbs", "kind": "thumbs", "next": form["next"]}
    answer = visitor.post("/scores", {**sent, "value": "true"})
    assert (answer.status, answer.location) == (303, f"./requests/{desk.first}#scores")
    visitor.post("/scores", {**sent, "value": "false"})

    assert desk.said() == [("thumbs", "thumbs", 0.0, None, None, "ada")]
    shown = visitor.get(f"/requests/{desk.first}.json").json["judged"]
    assert shown["thumbs"] is False and len(shown["before"]) == 1 and shown["now"][0]["mine"] is True


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"name": "accuracy", "kind": "number", "value": "0.9"}, ("accuracy", "number", 0.9, None, None, "analyst")),
        ({"name": "accuracy", "value": "0.9"}, ("accuracy", "number", 0.9, None, None, "analyst")),
        ({"name": "tone", "value": "rude", "comment": "why"}, ("tone", "label", None, "rude", "why", "analyst")),
        ({"name": "good", "value": "up"}, ("good", "thumbs", 1.0, None, None, "analyst")),
        ({"name": "golden", "kind": "tag", "value": "true"}, ("golden", "tag", 1.0, None, None, "analyst")),
        ({"kind": "note", "comment": "look"}, ("note", "note", None, None, "look", "analyst")),
    ],
)
def test_every_kind(desk: Desk, sent: dict[str, str], kept: tuple[Any, ...]) -> None:
    """Thumbs, number, label, tag and note, of a form and of a program alike."""
    visitor = desk.visitor()
    assert visitor.post("/scores", {"about": f"span:{desk.first}", **sent}).status == 303
    told = visitor.post("/scores.json", {"about": f"span:{desk.records['second'].id}", **sent}).json

    assert desk.said() == desk.said(desk.records["second"].id) == [kept] and told["author"] == "analyst"


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"name": "a", "value": "1"}, "about"),
        ({"about": "planet:x", "name": "a", "value": "1"}, "target"),
        ({"about": "span:", "name": "a", "value": "1"}, "target_id"),
        ({"about": "span:x", "value": "1"}, "name"),
        ({"about": "span:x", "name": "a"}, "value"),
        ({"about": "span:x", "name": "a", "kind": "number", "value": "much"}, "value"),
        ({"about": "span:x", "name": "a", "kind": "number", "value": ""}, "value"),
        ({"about": "span:x", "name": "a", "kind": "colour", "value": "1"}, "kind"),
        ({"about": "span:x", "kind": "note", "comment": " "}, "comment"),
    ],
)
def test_what_is_not_understood(desk: Desk, sent: dict[str, str], field: str) -> None:
    """It is said which field is wrong, and nothing is kept."""
    answer = desk.visitor().post("/scores.json", sent)

    assert (answer.status, answer.json["field"]) == (422, field)
    assert desk.visitor().get("/scores.json").json["names"] == []


def test_who_may_take_it_back(desk: Desk) -> None:
    """Its author and an operator; to others it is there, and there to stay."""
    ada, ken, boss = desk.visitor(name="ada"), desk.visitor(name="ken"), desk.visitor("operator", name="boss")
    ids = [
        ada.post("/scores.json", {"about": f"span:{desk.first}", "name": name, "value": "up"}).json["id"]
        for name in ("one", "two")
    ]
    assert ken.post(f"/scores/{ids[0]}/delete").status == 403 and len(desk.said()) == 2
    assert [each["mine"] for each in ken.get(f"/requests/{desk.first}.json").json["judged"]["now"]] == [False, False]
    assert ada.post(f"/scores/{ids[0]}/delete").status == 303 and boss.post(f"/scores/{ids[1]}/delete").status == 303
    assert desk.said() == [] and ada.post("/scores/none/delete").status == 404


def test_a_note_is_changed(desk: Desk) -> None:
    """The new text stands for the old one; nobody else's note can be replaced."""
    ada, ken = desk.visitor(name="ada"), desk.visitor(name="ken")
    note = {"about": f"span:{desk.first}", "kind": "note"}
    id = ada.post("/scores.json", {**note, "comment": "firts"}).json["id"]

    assert ken.post("/scores", {**note, "comment": "mine", "replaces": id}).status == 403
    assert ada.post("/scores", {**note, "comment": "first", "replaces": id}).status == 303
    assert desk.said() == [("note", "note", None, None, "first", "ada")]


def test_only_those_who_may(desk: Desk) -> None:
    """A reader sees what was said and has no form; a viewer does not see comments, which may quote a prompt."""
    give(desk.database, make_score("tone", "rude", target="span", target_id=desk.first, comment=CONTENT, author="ada"))
    reader, viewer = desk.visitor("reader"), desk.visitor("viewer")

    assert reader.post("/scores", {"about": f"span:{desk.first}", "name": "a", "value": "1"}).status == 403
    assert (
        CONTENT in reader.get(f"/requests/{desk.first}").text
        and 'action="../scores"' not in reader.get(f"/requests/{desk.first}").text
    )
    for path in (f"/requests/{desk.first}", f"/traces/{TRACE}", "/sessions/trip-1", "/scores"):
        for place in (path, f"{path}.json"):
            assert CONTENT not in viewer.get(place).everything and "rude" in viewer.get(place).text


def test_a_program_needs_the_role(database: Database) -> None:
    """With a token of the role analyst; an operator's program may speak for an evaluator."""
    first = fill(database)["first"].id
    sent = {"about": f"span:{first}", "name": "accuracy", "value": 0.5, "author": "evaluator-2"}
    for role, status, author in (("reader", 403, None), ("analyst", 200, "analyst"), ("operator", 200, "evaluator-2")):
        program = Visitor(Admin(database=database, auth=token("a long secret", role=role), environ={}))
        headers = {"authorization": "Bearer a long secret", "content-type": "application/json"}
        answer = program.ask("POST", "/scores", headers, json.dumps(sent).encode())
        assert answer.status == status and (author is None or answer.json["author"] == author)


def test_as_helicone_sends_them(desk: Desk) -> None:
    """Its three addresses, with the id that the app gave the request."""
    visitor = desk.visitor("operator")
    sent = [
        ("/v1/request/mine-1/score", {"scores": {"accuracy": 0.9, "helpful": True}}),
        ("/v1/request/mine-1/feedback", {"rating": True}),
        ("/v1/session/trip-1/feedback", {"rating": False}),
    ]
    for path, fields in sent:
        headers = {"content-type": "application/json", "sec-fetch-site": "same-origin"}
        assert visitor.ask("POST", path, headers, json.dumps(fields).encode()).status == 200

    assert {(name, value) for name, _, value, *_ in desk.said()} == {
        ("accuracy", 0.9),
        ("helpful", 1.0),
        ("thumbs", 1.0),
    }
    (session,) = visitor.get("/sessions/trip-1.json").json["judged"]["now"][:1]
    assert visitor.get("/scores.json?name=thumbs").json["names"][0]["name"]["count"] == 2 and session["current"]
    bad = visitor.ask("POST", "/v1/request/mine-1/feedback", {**headers}, b'{"rating": "good"}')
    assert bad.status == 422


def test_what_was_said_around_it(desk: Desk) -> None:
    """A request's page shows what was said of its trace and session, as that and with a way there; and they of it."""
    first, visitor = desk.records["first"], desk.visitor(name="ada")
    places = {"span": first.id, "trace": first.trace_id, "session": first.session_id}
    for target, id in places.items():
        visitor.post("/scores", {"about": f"{target}:{id}", "name": "of", "kind": "label", "value": f"the-{target}"})
    visitor.post("/scores", {"about": f"session:{first.session_id}", "kind": "note", "comment": "Odd one."})
    pages = {
        target: f"/{folder}/{places[target]}"
        for target, folder in (("span", "requests"), ("trace", "traces"), ("session", "sessions"))
    }
    shown = {target: visitor.get(f"{page}.json").json["judged"] for target, page in pages.items()}
    texts = {target: visitor.get(page).text for target, page in pages.items()}

    assert [each["score"]["label"] for each in shown["span"]["now"]] == ["the-span"]
    assert [each["score"]["target"] for each in shown["span"]["around"]] == ["session", "session", "trace"]
    assert [each["score"]["target"] for each in shown["trace"]["around"]] == ["session", "session"]
    assert {each["score"]["label"] for each in shown["session"]["now"]} >= {"the-span", "the-trace", "the-session"}
    assert f"../traces/{first.trace_id}" in texts["span"] and "Odd one." in texts["span"]
    assert [about for about, _ in shown["span"]["abouts"]] == [f"{target}:{id}" for target, id in places.items()]
    assert "the-trace" in texts["span"] and "the-session" in texts["trace"] and "the-span" in texts["session"]
    viewer = desk.visitor("viewer").get(f"{pages['span']}.json").json["judged"]["around"]
    assert {each["score"]["comment"] for each in viewer} == {None}


def test_the_page_of_all_scores(desk: Desk) -> None:
    """Names with what they come to; each number is a search for the requests behind it."""
    ids = [desk.first, desk.records["second"].id, desk.records["alone"].id]
    for id, number, word in zip(ids, (0.0, 0.5, 1.0), ("a b", "a b", 'say "c"'), strict=True):
        give(desk.database, make_score("accuracy", number, target="span", target_id=id, author="ada"))
        give(desk.database, make_score("tone", word, target="span", target_id=id, author="ken", time_ns=86_400 * 10**9))
    twin = desk.visitor().get("/scores.json").json
    accuracy, tone = sorted(twin["names"], key=lambda each: str(each["name"]["name"]))

    assert (accuracy["name"]["mean"], accuracy["name"]["count"]) == (0.5, 3)
    assert [each[2] for each in accuracy["bins"]] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert accuracy["bins"][-1][3] == "score.accuracy:>=0.9 score.accuracy:<=1.0"
    asked = [(search, count) for _, count, search in tone["values"]]
    asked += [(search, count) for _, _, count, search in accuracy["bins"]] + [(tone["search"], 3)]
    for search, count in asked:  # each number leads to as many requests
        found = desk.visitor().get(f"/requests.json?q={quote(search)}").json
        assert found["count"] == count, search
    assert [(day["start_ns"], day["count"]) for day in tone["days"]] == [(86_400 * 10**9, 3)]
    recent = desk.visitor().get("/scores.json?since=7d").json
    assert [each["name"]["name"] for each in recent["names"]] == ["accuracy"]
    page = read(desk.visitor().get("/scores").text)
    assert any("score.accuracy" in link for link in page.links())


def test_one_name_is_charted_and_every_number_leads_to_its_calls(desk: Desk) -> None:
    """By the model of what was judged; the link of a group has just those calls."""
    give(desk.database, make_score("accuracy", 0.5, target="span", target_id=desk.first))
    give(desk.database, make_score("accuracy", 0.75, target="trace", target_id=desk.records["first"].trace_id))
    visitor = desk.visitor("viewer")
    twin = visitor.get("/scores.json?name=accuracy&by=model").json["one"]
    page = read(visitor.get("/scores?name=accuracy&by=model").text)

    assert [chart["title"] for chart in twin["charts"]] == ["Given", "Mean"]
    (group,) = [each for each in twin["groups"] if each["sum"]["key"] == desk.records["first"].request_model]
    assert (group["sum"]["count"], group["sum"]["mean"]) == (2, 0.625)
    (link,) = [
        attrs["href"] for tag, attrs in page.tags if tag == "a" and "data-open" in attrs and "score" in attrs["href"]
    ]
    found = visitor.get("/requests.json?" + link.partition("?")[2]).json["rows"]
    assert desk.first in [row["id"] for row in found]
    assert {row["request_model"] for row in found} == {desk.records["first"].request_model}
    assert visitor.get("/scores?name=accuracy&by=nothing").status == 422
