"""What changes something: who may, from where, how much, and what comes back."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from asgi_llmobs.admin import Action, Admin, Done, Page, Permission, View
from asgi_llmobs.admin.page import LADDER
from asgi_llmobs.admin.pages import ROUTES
from asgi_llmobs.auth import Role, token
from asgi_llmobs.errors import FilterError
from tests.admin.conftest import MakeAdmin
from tests.admin.visiting import Answer, Visitor

TOKEN = "a long enough secret"
OURS = {"origin": "http://admin.example", "sec-fetch-site": "same-origin"}
FORM = {"content-type": "application/x-www-form-urlencoded", **OURS}
JSON = {"content-type": "application/json", **OURS}
ACTIONS = [route for route in ROUTES if isinstance(route, Action)]


class Ledger:
    """What was done, and the two addresses that do it."""

    def __init__(self) -> None:
        self.done: list[tuple[Mapping[str, str], Mapping[str, str]]] = []

    def load(self, view: View) -> Done:
        if view.fields.get("word") == "wrong":
            raise FilterError("word", "this word is wrong")
        self.done.append((dict(view.params), dict(view.fields)))
        return Done(next=view.fields.get("next", "./requests?q=a#scores"), value={"kept": len(self.done)})

    @property
    def routes(self) -> tuple[Any, ...]:
        return (
            Page(slug="", title="Home", template="pages/error.html", load=home, permission=Permission.METRICS),
            Action(slug="notes/{id}", load=self.load, permission=Permission.ANALYSE),
        )


def home(view: View) -> dict[str, Any]:
    return {"status": 200, "detail": "home"}


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def visitor(make_admin: MakeAdmin, ledger: Ledger) -> Visitor:
    """An analyst, unless a header says otherwise."""
    admin = make_admin(lambda request: request.headers.get("x-role", "analyst"))
    admin.routes = ledger.routes
    return Visitor(admin)


def test_a_form(visitor: Visitor, ledger: Ledger) -> None:
    """It arrives whole, empty fields too, and leads on to a page below the mount."""
    answer = visitor.ask("POST", "/notes/7", FORM, b"word=a+b&none=&word=%C3%A9")

    assert ledger.done == [({"id": "7"}, {"word": "é", "none": ""})]
    assert (answer.status, answer.location, answer.content) == (303, "../requests?q=a#scores", b"")


def test_json(visitor: Visitor, ledger: Ledger) -> None:
    """A program sends an object and gets one, with and without .json; values that are no text stand as JSON."""
    sent = json.dumps({"word": "é", "number": 0.5, "yes": True, "none": None, "list": [1]}).encode()
    answers = [visitor.ask("POST", path, JSON, sent) for path in ("/notes/7", "/notes/7.json")]

    assert [answer.json for answer in answers] == [{"kept": 1}, {"kept": 2}]
    assert ledger.done[0] == ({"id": "7"}, {"word": "é", "number": "0.5", "yes": "true", "list": "[1]"})
    assert visitor.ask("POST", "/notes/7.json", FORM, b"word=x").json == {"kept": 3}


@pytest.mark.parametrize(
    ("next", "place"),
    [
        ("./sessions/a", "../sessions/a"),
        ("sessions/a?x=1", "../sessions/a?x=1"),
        ("", "../"),
        ("https://evil.example/", "../"),
        ("//evil.example", "../"),
        ("../../other", "../"),
        ("/requests", "../"),
        ("requests\r\nset-cookie: a=b", "../"),
        ("requests#a b", "../requests"),
    ],
)
def test_where_a_form_goes_on(visitor: Visitor, next: str, place: str) -> None:
    """Below the mount, whatever the form says."""
    assert visitor.post("/notes/7", {"next": next}).location == place


def test_what_is_wrong_is_said(visitor: Visitor, ledger: Ledger) -> None:
    """As a page to a form and as JSON to a program."""
    page = visitor.post("/notes/7", {"word": "wrong"})
    twin = visitor.post("/notes/7.json", {"word": "wrong"})

    assert page.status == twin.status == 422 and ledger.done == []
    assert "this word is wrong" in page.text and twin.json["field"] == "word"


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"content-type": "multipart/form-data; boundary=x"}, b"x", 415),
        ({"content-type": "text/plain"}, b"word=x", 415),
        ({}, b"word=x", 415),
        ({"content-type": "application/json"}, b"{", 400),
        ({"content-type": "application/json"}, b"[1]", 400),
        ({"content-type": "application/json"}, b"[" * 100_000, 400),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=1&" * 2000, 400),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=" + b"x" * 262_144, 413),
        ({"content-type": "application/json", "content-length": "9" * 12}, b"{}", 413),
    ],
)
def test_what_is_not_taken(
    visitor: Visitor, ledger: Ledger, headers: dict[str, str], content: bytes, status: int
) -> None:
    """Another kind, a broken one or too much is refused before anything is done."""
    sent = list({**OURS, **headers}.items())
    assert visitor.ask("POST", "/notes/7", sent, content).status == status and ledger.done == []


@pytest.mark.parametrize("role", list(Role))
def test_roles(visitor: Visitor, ledger: Ledger, role: Role) -> None:
    """Only those who may, and those who send data in are none of them."""
    may = role in LADDER[LADDER.index(Role.ANALYST) :]
    answer = visitor.ask("POST", "/notes/7", [*FORM.items(), ("x-role", role)], b"word=x")

    assert answer.status == (303 if may else 403) and len(ledger.done) == may


@pytest.mark.parametrize("verb", ["GET", "HEAD", "PUT", "DELETE"])
def test_nothing_but_post(visitor: Visitor, ledger: Ledger, verb: str) -> None:
    """Reading the address does nothing."""
    answer = visitor.ask(verb, "/notes/7?word=x", FORM)

    assert answer.status == 405 and ledger.done == []


FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://admin.example", "sec-fetch-site": "cross-site"},
    {"origin": "http://admin.example", "sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"origin": "https://evil.example", "authorization": f"Bearer {TOKEN}"},
    {},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_from_elsewhere(make_admin: MakeAdmin, ledger: Ledger, headers: dict[str, str]) -> None:
    """A page of another site can do nothing with a visitor's cookie, in a form or in JSON."""
    visitor = signed_in(make_admin, ledger)
    for kind in ("application/x-www-form-urlencoded", "application/json", "text/plain"):
        answer = visitor.ask("POST", "/notes/7", {"content-type": kind, **headers}, b"{}")
        assert (answer.status, answer.content) == (403, b"")
    assert ledger.done == []


def test_with_a_token(make_admin: MakeAdmin, ledger: Ledger) -> None:
    """A program needs no more than the token, and a wrong one does nothing."""
    admin = signed_in(make_admin, ledger).app
    program = Visitor(admin)
    good, bad = ({"authorization": f"Bearer {text}", "content-type": "application/json"} for text in (TOKEN, "x" * 20))

    assert program.ask("POST", "/notes/7", bad, b"{}").status == 401 and ledger.done == []
    assert program.ask("POST", "/notes/7", good, b"{}").json == {"kept": 1}


def test_a_stranger(make_admin: MakeAdmin, ledger: Ledger) -> None:
    """Who has not signed in is not told what can be done here."""
    stranger = Visitor(signed_in(make_admin, ledger).app)
    assert facts(stranger.ask("POST", "/notes/7", FORM, b"a=1")) == facts(stranger.ask("POST", "/x/7", FORM, b"a=1"))
    assert ledger.done == []


def facts(answer: Answer) -> tuple[int, str]:
    return answer.status, re.sub(r"next=.*", "", answer.location)


def signed_in(make_admin: MakeAdmin, ledger: Ledger) -> Visitor:
    admin: Admin = make_admin(token(TOKEN))
    admin.routes = ledger.routes
    visitor = Visitor(admin)
    assert visitor.post("/login", {"secret": TOKEN}).status == 303
    return visitor


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.slug)
def test_every_action_of_ours(make_admin: MakeAdmin, action: Action) -> None:
    """Each asks for more than to see numbers, and is neither read nor open to lower roles and other sites."""
    assert LADDER.index(action.permission.value) > LADDER.index(Role.METRICS)
    admin = make_admin(lambda request: request.headers["x-role"])
    path = "/" + re.sub(r"\{\w+\}", "x", action.slug)
    below = LADDER[LADDER.index(action.permission.value) - 1]

    assert Visitor(admin).ask("POST", path, {**FORM, "x-role": below}, b"a=1").status == 403
    assert Visitor(admin).ask("GET", path, {"x-role": "owner"}).status in (200, 404, 405)
    evil = {**FORM, "origin": "https://evil.example", "x-role": "owner"}
    assert Visitor(admin).ask("POST", path, evil, b"a=1").status == 403
