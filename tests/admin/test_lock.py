"""The lock, rule by rule: who gets in, and who does not."""

import asyncio
import functools
import logging
import re
import sqlite3
import time
from base64 import b64encode
from http.cookies import SimpleCookie
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.admin.app import safe_next
from asgi_llmobs.admin.throttle import Throttle
from asgi_llmobs.auth import Role, allow, basic, token
from asgi_llmobs.errors import ConfigError, StoreError
from asgi_llmobs.store.database import Database
from tests.admin.conftest import MakeAdmin
from tests.admin.visiting import Answer, Visitor, exchange, loop

TOKEN = "a long enough secret"
LINK = re.compile(r"(http\S+/login)#(\S+)")
DEV = {"LLMOBS_DEV": "1"}


def local(admin: Any, **more: Any) -> Visitor:
    """Somebody on this machine who asks for this machine."""
    return Visitor(admin, **{"peer": "127.0.0.1", "host": "127.0.0.1:8000", **more})


def is_in(answer: Answer) -> bool:
    """Whether the overview came back; anything else must be a refusal."""
    if answer.status == 200:
        assert "<h1>Overview</h1>" in answer.text
        return True
    assert answer.status in (303, 401, 403, 429)
    return False


def signed_link(visitor: Visitor, caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    """Address and code of the link in the log, after somebody looked at the sign-in page."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "asgi_llmobs"):
        assert visitor.get("/login").status == 200
    found = LINK.search(caplog.text)
    assert found, "no link in the log"
    return found[1], found[2]


class TestAuth:
    """Rule 1: where ``auth=`` is given, it decides alone."""

    @pytest.mark.parametrize(
        ("verdict", "role"),
        [
            (True, Role.OWNER),
            ("owner", Role.OWNER),
            (Role.VIEWER, Role.VIEWER),
            ("metrics", Role.METRICS),
            (None, None),
            (False, None),
            ("admin", None),
            ("Owner", None),
            ("", None),
            (1, None),
            ({"role": "owner"}, None),
        ],
    )
    @pytest.mark.parametrize("flavour", ["sync", "async", "partial", "object", "awaitable"])
    def test_verdicts(self, make_admin: MakeAdmin, verdict: Any, role: Role | None, flavour: str) -> None:
        """True is owner, a role is that role, and whatever is neither is refused, however the callable is made."""

        async def later(request: Any, answer: Any = verdict) -> Any:
            await asyncio.sleep(0)
            return answer

        class Judge:
            async def __call__(self, request: Any) -> Any:
                return verdict

        flavours = {
            "sync": lambda request: verdict,
            "async": later,
            "partial": functools.partial(later, answer=verdict),
            "object": Judge(),
            "awaitable": lambda request: later(request),
        }
        answer = Visitor(make_admin(allow(flavours[flavour]))).get("/")

        assert is_in(answer) is (role is not None)
        if role is None:
            assert answer.status == 403 and "set-cookie" not in answer.everything

    @pytest.mark.parametrize("error", [ValueError("no"), KeyError("user"), TimeoutError()])
    def test_raising_refuses(self, make_admin: MakeAdmin, error: Exception) -> None:
        """A callable that fails lets nobody in, and its message stays inside."""

        def decide(request: Any) -> bool:
            raise error

        async def decide_later(request: Any) -> bool:
            raise error

        for function in (decide, decide_later):
            answer = Visitor(make_admin(function)).get("/")
            assert answer.status == 403 and repr(error) not in answer.text

    def test_it_sees_the_request(self, make_admin: MakeAdmin) -> None:
        """The callable may look at the app's own session, headers and peer."""
        admin = make_admin(lambda request: "viewer" if request.headers.get("x-user") == "ada" else None)

        assert is_in(Visitor(admin).get("/", x_user="ada"))
        assert not is_in(Visitor(admin).get("/", x_user="eve"))

    def test_nothing_else_helps(self, make_admin: MakeAdmin) -> None:
        """Neither token nor password nor development opens what ``auth=`` keeps shut."""
        environ = {**DEV, "LLMOBS_ADMIN_TOKEN": TOKEN, "FASTAPI_ENV": "development"}
        visitor = local(make_admin(allow(lambda request: None), environ))

        assert not is_in(visitor.get("/"))
        assert not is_in(visitor.get("/", authorization=f"Bearer {TOKEN}"))
        assert visitor.get("/login").status == 403
        assert visitor.post("/login", {"secret": TOKEN}).status == 403
        assert not visitor.cookies

    def test_token_of_auth_shuts_out_that_of_the_environment(self, make_admin: MakeAdmin) -> None:
        """With ``auth=token(…)`` only that token counts, and development does not open it either."""
        visitor = local(make_admin(token("the one of the code"), {**DEV, "LLMOBS_ADMIN_TOKEN": TOKEN}))

        assert is_in(visitor.get("/", authorization="Bearer the one of the code"))
        assert not is_in(visitor.get("/", authorization=f"Bearer {TOKEN}"))
        assert not is_in(visitor.get("/"))

    def test_a_stored_session_is_worth_nothing_under_it(self, make_admin: MakeAdmin) -> None:
        """Who signed in with a token is not signed in where the app decides."""
        visitor = Visitor(make_admin(token(TOKEN)))
        visitor.post("/login", {"secret": TOKEN})
        assert is_in(visitor.get("/"))

        visitor.app = make_admin(allow(lambda request: False))
        assert not is_in(visitor.get("/"))

    @pytest.mark.parametrize("nonsense", ["owner", 7, False, {"a": 1}])
    def test_nonsense_is_told_at_construction(self, make_admin: MakeAdmin, nonsense: Any) -> None:
        """What cannot decide is no configuration; it never means open."""
        with pytest.raises(ConfigError, match="auth"):
            make_admin(nonsense)

    def test_weak_configuration_is_told(self) -> None:
        """Short tokens, empty passwords and unknown roles are refused when they are written down."""
        for make in (
            lambda: token("short"),
            lambda: token("  x     "),
            lambda: token(TOKEN, role="root"),
            lambda: basic("", "secret"),
            lambda: basic("a:b", "secret"),
            lambda: basic("ada", ""),
            lambda: basic("ada", "secret", role="root"),
            lambda: allow("owner"),  # type: ignore[arg-type]
        ):
            with pytest.raises(ConfigError, match="auth"):
                make()


class TestBasic:
    """``auth=basic(…)``."""

    def header(self, text: str) -> str:
        return "Basic " + b64encode(text.encode()).decode()

    def test_right_and_wrong(self, make_admin: MakeAdmin) -> None:
        """Name and password must both be right; the browser is asked otherwise."""
        admin = make_admin(basic("ada", "pass:wörd", role="viewer"))

        assert is_in(Visitor(admin).get("/", authorization=self.header("ada:pass:wörd")))
        for wrong in ("ada:pass", "eve:pass:wörd", ":", "", "ada"):
            answer = Visitor(admin, peer=f"198.51.100.{len(wrong)}").get("/", authorization=self.header(wrong))
            assert answer.status == 401 and answer.header("www-authenticate").startswith("Basic ")

    @pytest.mark.parametrize(
        "value", ["Basic", "Basic !!!", "Basic \xff", "Bearer YWRhOnNlY3JldA==", "YWRhOnNlY3JldA=="]
    )
    def test_garbage(self, make_admin: MakeAdmin, value: str) -> None:
        """What is not Basic is asked for again."""
        assert Visitor(make_admin(basic("ada", "secret"))).get("/", authorization=value).status == 401

    def test_back_off(self, make_admin: MakeAdmin) -> None:
        """After five wrong passwords even the right one has to wait, for this peer only."""
        admin = make_admin(basic("ada", "secret"))
        for _ in range(5):
            assert Visitor(admin).get("/", authorization=self.header("ada:guess")).status == 401
        answer = Visitor(admin).get("/", authorization=self.header("ada:secret"))

        assert answer.status == 429 and 1 <= int(answer.header("retry-after")) <= 60
        assert is_in(Visitor(admin, peer="198.51.100.7").get("/", authorization=self.header("ada:secret")))

    def test_guessing_the_ingest_token(self, make_admin: MakeAdmin) -> None:
        """It is another secret behind the same door: wrong ones count, too."""
        admin = make_admin(basic("ada", "secret"), environ={"LLMOBS_INGEST_TOKEN": TOKEN})
        for _ in range(5):
            assert Visitor(admin).get("/", authorization="Bearer guess").status == 401

        assert Visitor(admin).get("/", authorization=f"Bearer {TOKEN}").status == 429
        assert Visitor(admin, peer="198.51.100.7").get("/", authorization=f"Bearer {TOKEN}").status == 403


class TestToken:
    """Rule 2: token or password of the environment."""

    @pytest.mark.parametrize("name", ["LLMOBS_ADMIN_TOKEN", "LLMOBS_ADMIN_PASSWORD"])
    def test_bearer(self, make_admin: MakeAdmin, name: str) -> None:
        """The token opens, anything near it does not, and nothing opens without it, not even development."""
        visitor = local(make_admin(environ={**DEV, name: TOKEN}))

        assert is_in(visitor.get("/", authorization=f"Bearer {TOKEN}"))
        assert is_in(visitor.get("/", authorization=f"bearer {TOKEN}"))
        assert not is_in(visitor.get("/"))
        for wrong in (TOKEN[:-1], TOKEN + "x", TOKEN.upper(), ""):
            assert not is_in(visitor.get("/", authorization=f"Bearer {wrong}"))
        assert not is_in(visitor.get("/", authorization=TOKEN))
        assert not is_in(visitor.get(f"/?token={TOKEN}"))

    def test_both(self, make_admin: MakeAdmin) -> None:
        """Where both are set, either opens."""
        admin = make_admin(environ={"LLMOBS_ADMIN_TOKEN": TOKEN, "LLMOBS_ADMIN_PASSWORD": "another one"})

        assert is_in(Visitor(admin).get("/", authorization=f"Bearer {TOKEN}"))
        assert is_in(Visitor(admin).get("/", authorization="Bearer another one"))

    def test_blank_is_not_set(self, make_admin: MakeAdmin) -> None:
        """An empty variable is no token that an empty guess could meet."""
        visitor = Visitor(make_admin(environ={"LLMOBS_ADMIN_TOKEN": " ", "LLMOBS_ADMIN_PASSWORD": ""}))

        assert not is_in(visitor.get("/", authorization="Bearer "))
        assert visitor.post("/login", {"secret": ""}).status == 401
        assert visitor.post("/login", {"secret": " "}).status == 401

    def test_a_newline_around_it_does_not_count(self, make_admin: MakeAdmin) -> None:
        """A token read from a file often ends with a newline, which no header can carry."""
        admin = make_admin(environ={"LLMOBS_ADMIN_TOKEN": f"{TOKEN}\n"})

        assert is_in(Visitor(admin).get("/", authorization=f"Bearer {TOKEN}"))
        assert Visitor(admin).post("/login", {"secret": TOKEN}).status == 303

    def test_signing_in(self, make_admin: MakeAdmin) -> None:
        """A stranger is led to the sign-in page, and from there back to where they wanted to go."""
        visitor = Visitor(make_admin(environ={"LLMOBS_ADMIN_TOKEN": TOKEN}))
        refused = visitor.get("/requests?status=error")
        assert (refused.status, refused.location) == (303, "./login?next=requests%3Fstatus%3Derror")
        page = visitor.get("/login?next=requests%3Fstatus%3Derror")
        assert page.status == 200 and 'value="requests?status=error"' in page.text

        wrong = visitor.post("/login", {"secret": "guess", "next": "requests?status=error"})
        assert wrong.status == 401 and not visitor.cookies and 'value="requests?status=error"' in wrong.text
        right = visitor.post("/login", {"secret": TOKEN, "next": "requests?status=error"})
        assert (right.status, right.location) == (303, "./requests?status=error")
        assert is_in(visitor.get("/"))
        assert visitor.get("/login").location == "./"

    @pytest.mark.parametrize(
        ("scheme", "origin", "secure"),
        [("http", "", False), ("https", "", True), ("http", "https://admin.example", True)],
    )
    def test_cookie(self, make_admin: MakeAdmin, scheme: str, origin: str, secure: bool) -> None:
        """Scripts, other sites and paths do not get the cookie; with TLS, also in front of a proxy, it is bound."""
        visitor = Visitor(make_admin(token(TOKEN)), scheme=scheme)
        answer = visitor.post("/login", {"secret": TOKEN}, **({"origin": origin} if origin else {}))
        ((name, morsel),) = SimpleCookie(answer.header("set-cookie")).items()

        assert name == ("__Secure-llmobs" if secure else "llmobs")
        assert morsel["httponly"] and morsel["samesite"] == "Strict"
        assert bool(morsel["secure"]) is secure
        assert not morsel["domain"] and not morsel["path"]
        assert 0 < int(morsel["max-age"]) <= 12 * 3600
        assert len(morsel.value) >= 40 and TOKEN not in morsel.value

    def test_the_store_holds_no_cookie(self, make_admin: MakeAdmin, database: Database) -> None:
        """Who reads the database cannot sign in with what stands there."""
        visitor = Visitor(make_admin(token(TOKEN)))
        visitor.post("/login", {"secret": TOKEN})
        (value,) = visitor.cookies.values()
        with database.read() as connection:
            kept = str(connection.exec_driver_sql("SELECT * FROM llmobs_sign_ins").all())

        assert len(kept) > 64 and value not in kept and TOKEN not in kept

    def test_logout_kills_the_session(self, make_admin: MakeAdmin) -> None:
        """A copy of the cookie is worth nothing after the sign-out, on any worker."""
        visitor = Visitor(make_admin(token(TOKEN)))
        visitor.post("/login", {"secret": TOKEN})
        thief = Visitor(make_admin(token(TOKEN)), cookies=dict(visitor.cookies))
        assert is_in(thief.get("/"))
        answer = visitor.post("/logout")

        assert (answer.status, answer.location) == (303, "./login")
        assert not visitor.cookies
        assert not is_in(thief.get("/"))

    def test_another_token_ends_sessions(self, make_admin: MakeAdmin) -> None:
        """Sessions of a token that was replaced, or now gives another role, are over."""
        visitor = Visitor(make_admin(token(TOKEN)))
        visitor.post("/login", {"secret": TOKEN})

        for now in (token("the next secret"), token(TOKEN, role="viewer"), None):
            visitor.app = make_admin(now)
            assert not is_in(visitor.get("/"))

    def test_a_session_stays_in_its_project(self, database: Database) -> None:
        """Two admins over one store with one token: a cookie of one project opens only that."""
        one, two = (Admin(database=database, project=name, auth=token(TOKEN), environ={}) for name in ("one", "two"))
        visitor = Visitor(one)
        visitor.post("/login", {"secret": TOKEN})
        assert is_in(visitor.get("/"))

        visitor.app = two
        assert not is_in(visitor.get("/"))

    def test_fixation(self, make_admin: MakeAdmin) -> None:
        """A cookie that somebody planted is not the one that is signed in."""
        victim = Visitor(make_admin(token(TOKEN)), cookies={"llmobs": "planted" * 6})
        victim.post("/login", {"secret": TOKEN})

        assert victim.cookies["llmobs"] != "planted" * 6
        assert not is_in(Visitor(victim.app, cookies={"llmobs": "planted" * 6}).get("/"))

    def test_signing_in_again_ends_the_session_before(self, make_admin: MakeAdmin) -> None:
        """Each sign-in is a new session, and the old one does not live on."""
        visitor = Visitor(make_admin(token(TOKEN)))
        visitor.post("/login", {"secret": TOKEN})
        before = dict(visitor.cookies)
        visitor.post("/login", {"secret": TOKEN})

        assert visitor.cookies != before
        assert not is_in(Visitor(visitor.app, cookies=before).get("/"))

    @pytest.mark.parametrize("value", ["", "x", "x" * 5000, "None", "'; DROP TABLE llmobs_sign_ins; --", "%00", "é"])
    def test_made_up_cookies(self, make_admin: MakeAdmin, value: str) -> None:
        """A cookie that is none of ours is nothing."""
        assert not is_in(
            Visitor(make_admin(token(TOKEN)), cookies={"llmobs": value, "__Secure-llmobs": value}).get("/")
        )

    def test_sessions_end_by_themselves(self, make_admin: MakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
        """After twelve hours the session is over, whatever the browser keeps."""
        visitor = Visitor(make_admin(token(TOKEN)))
        visitor.post("/login", {"secret": TOKEN})
        now = time.time_ns()

        monkeypatch.setattr(time, "time_ns", lambda: now + (12 * 3600 - 60) * 10**9)
        assert is_in(visitor.get("/"))
        monkeypatch.setattr(time, "time_ns", lambda: now + (12 * 3600 + 1) * 10**9)
        assert not is_in(visitor.get("/"))

    def test_role_of_the_token(self, make_admin: MakeAdmin) -> None:
        """A form cannot ask for more than the token gives."""
        visitor = Visitor(make_admin(token(TOKEN, role="metrics")))
        visitor.post("/login", {"secret": TOKEN, "role": "owner"})

        assert is_in(visitor.get("/")) and visitor.get("/?role=owner").status == 422
        assert visitor.get("/requests?role=owner").status == 403

    @pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/json", ""])
    def test_other_forms_are_refused(self, make_admin: MakeAdmin, kind: str) -> None:
        """Only the form of the sign-in page signs in."""
        answer = Visitor(make_admin(token(TOKEN))).post("/login", {"secret": TOKEN}, content_type=kind)

        assert answer.status == 415

    def test_large_forms_are_refused(self, make_admin: MakeAdmin) -> None:
        """Nobody fills the memory through the sign-in page."""
        assert Visitor(make_admin(token(TOKEN))).post("/login", {"secret": "x" * 5000}).status == 413


class TestBackOff:
    """Guessing gets slower, and slower."""

    def test_form(self, make_admin: MakeAdmin) -> None:
        """After five wrong tries the sixth has to wait, even a right one; another peer does not."""
        admin = make_admin(token(TOKEN))
        visitor = Visitor(admin)
        assert [visitor.post("/login", {"secret": "guess"}).status for _ in range(5)] == [401] * 5
        answer = visitor.post("/login", {"secret": TOKEN})

        assert answer.status == 429 and not visitor.cookies and int(answer.header("retry-after")) >= 1
        assert Visitor(admin, peer="198.51.100.1").post("/login", {"secret": TOKEN}).status == 303

    def test_bearer_and_form_count_together(self, make_admin: MakeAdmin) -> None:
        """Changing the door does not give five more tries."""
        visitor = Visitor(make_admin(token(TOKEN)))
        for _ in range(3):
            visitor.get("/", authorization="Bearer guess")
            visitor.post("/login", {"secret": "guess"})

        assert visitor.get("/", authorization=f"Bearer {TOKEN}").status == 429
        assert visitor.get("/requests.json", authorization=f"Bearer {TOKEN}").json["detail"]

    def test_who_is_in_stays_in(self, make_admin: MakeAdmin) -> None:
        """Somebody else's guesses from the same address do not throw a visitor out."""
        visitor = Visitor(make_admin(token(TOKEN)))
        visitor.post("/login", {"secret": TOKEN})
        for _ in range(8):
            Visitor(visitor.app).post("/login", {"secret": "guess"})

        assert is_in(visitor.get("/"))

    def test_forged_addresses_do_not_help(self, make_admin: MakeAdmin) -> None:
        """The count hangs on the socket, not on what a header says."""
        admin = make_admin(token(TOKEN))
        statuses = [
            Visitor(admin).post("/login", {"secret": "guess"}, x_forwarded_for=f"198.51.100.{number}").status
            for number in range(8)
        ]

        assert statuses[5:] == [429] * 3

    def test_one_ipv6_network_is_one_peer(self, make_admin: MakeAdmin) -> None:
        """A subscriber has 2^64 addresses."""
        admin = make_admin(token(TOKEN))
        statuses = [
            Visitor(admin, peer=f"2001:db8:1:2::{number:x}").post("/login", {"secret": "guess"}).status
            for number in range(1, 8)
        ]

        assert statuses[5:] == [429] * 2
        assert Visitor(admin, peer="2001:db8:1:3::1").post("/login", {"secret": TOKEN}).status == 303

    def test_guessing_side_by_side(self, make_admin: MakeAdmin) -> None:
        """Fifty guesses at once are not fifty free ones."""
        admin = make_admin(token(TOKEN))
        # a cookie makes the admin look into the store on the way
        visitor = Visitor(admin, cookies={"llmobs": "anything"})
        body = b"secret=guess"
        headers = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}

        async def storm() -> list[Answer]:
            calls = (exchange(admin, visitor.request("POST", "/login", headers, body), body) for _ in range(50))
            return await asyncio.gather(*calls)

        assert sorted(answer.status for answer in loop.run(storm())) == [401] * 5 + [429] * 45

    def test_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The wait doubles up to a minute, runs off, and is forgotten after a quarter of an hour or a right try."""
        now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        throttle, waits = Throttle(), []
        for _ in range(13):
            throttle.note("peer", good=False)
            waits.append(throttle.wait("peer"))
        assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
        now += 30
        assert throttle.wait("peer") == 30
        now += 31
        assert throttle.wait("peer") == 0
        throttle.note("peer", good=False)
        assert throttle.wait("peer") == 60
        now += 901
        assert throttle.wait("peer") == 0
        throttle.note("peer", good=False)
        assert throttle.wait("peer") == 0
        for _ in range(9):
            throttle.note("peer", good=False)
        assert throttle.wait("peer") == 32
        throttle.note("peer", good=True)
        assert throttle.wait("peer") == 0

    def test_many_peers(self) -> None:
        """A hundred wrong tries a minute from anywhere close the sign-in page for a while, and memory stays small."""
        throttle = Throttle()
        for number in range(5000):
            throttle.note(f"peer {number}", good=False)

        assert throttle.wait("somebody else") == 0
        assert throttle.wait("somebody else", crowd=True) > 0
        assert len(throttle._peers) <= 4096


class TestDevelopment:
    """Rule 3: a development signal, and a visitor on this machine with nobody in between."""

    @pytest.mark.parametrize(
        "environ",
        [{"LLMOBS_DEV": "1"}, {"LLMOBS_DEV": "yes"}, {"FASTAPI_ENV": "development"}, {"FASTAPI_ENV": "Development"}],
    )
    def test_signals_of_the_environment(self, make_admin: MakeAdmin, environ: dict[str, str]) -> None:
        """Either variable is a signal."""
        assert is_in(local(make_admin(environ=environ)).get("/"))

    @pytest.mark.parametrize(
        "environ", [{}, {"LLMOBS_DEV": "0"}, {"LLMOBS_DEV": "false"}, {"LLMOBS_DEV": ""}, {"FASTAPI_ENV": "production"}]
    )
    def test_no_signal(self, make_admin: MakeAdmin, environ: dict[str, str]) -> None:
        """Without a signal this machine is a stranger too."""
        assert not is_in(local(make_admin(environ=environ)).get("/"))

    @pytest.mark.parametrize(("debug", "opens"), [(True, True), (False, False)])
    def test_debug_of_the_app(self, make_admin: MakeAdmin, debug: bool, opens: bool) -> None:
        """``app.debug`` is a signal."""
        visitor = local(make_admin(), scope={"app": SimpleNamespace(debug=debug)})

        assert is_in(visitor.get("/")) is opens

    @pytest.mark.parametrize(("argument", "opens"), [("--reload", True), ("--reload-dir", False), ("--workers", False)])
    def test_reload(self, make_admin: MakeAdmin, monkeypatch: pytest.MonkeyPatch, argument: str, opens: bool) -> None:
        """A server that reloads is a signal."""
        monkeypatch.setattr("sys.argv", ["uvicorn", "app:app", argument])

        assert is_in(local(make_admin()).get("/")) is opens

    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1:8000",
            "127.0.0.1",
            "localhost",
            "localhost:8000",
            "LOCALHOST:8000",
            "[::1]",
            "[::1]:8000",
            "127.9.9.9",
        ],
    )
    @pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
    def test_this_machine(self, make_admin: MakeAdmin, peer: str, host: str) -> None:
        """Loopback has several names."""
        assert is_in(local(make_admin(environ=DEV), peer=peer, host=host).get("/"))

    @pytest.mark.parametrize(
        "peer",
        ["192.168.1.5", "10.0.0.1", "203.0.113.9", "::ffff:203.0.113.9", "fe80::1", "0.0.0.0", "::", None, "",
         "localhost", "testclient", "127.0.0.1.evil.example"],
    )  # fmt: skip
    def test_other_peers(self, make_admin: MakeAdmin, peer: str | None) -> None:
        """Who sits elsewhere, or does not say where, is a stranger."""
        assert not is_in(local(make_admin(environ=DEV), peer=peer).get("/"))

    @pytest.mark.parametrize(
        "host",
        [None, "", "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
         "localhost.", "notlocalhost", "0.0.0.0:8000", "192.168.1.5", "127.0.0.1:8000:1", "127.0.0.1:x", "[::1",
         "[::1]x", "127.0.0.1, evil.example", "evil.example@127.0.0.1", "127.0.0.1/x", "2130706433", "127.1",
         "０.0.0.1".encode().decode("latin-1")],
    )  # fmt: skip
    def test_other_hosts(self, make_admin: MakeAdmin, host: str | None) -> None:
        """A browser that was led here by another name (DNS rebinding) is a stranger."""
        assert not is_in(local(make_admin(environ=DEV), host=host).get("/"))

    def test_two_hosts(self, make_admin: MakeAdmin) -> None:
        """Two Host headers are one too many."""
        headers = [("host", "127.0.0.1:8000"), ("host", "evil.example")]

        assert not is_in(local(make_admin(environ=DEV)).ask("GET", "/", headers))
        assert not is_in(local(make_admin(environ=DEV)).ask("GET", "/", headers[::-1]))

    @pytest.mark.parametrize(
        "name",
        ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix",
         "x-forwarded", "x-forward-for", "X-Forwarded-For", "x-real-ip", "x-client-ip", "x-cluster-client-ip",
         "x-original-url", "x-original-forwarded-for", "cf-connecting-ip", "cf-ray", "true-client-ip",
         "fastly-client-ip", "x-envoy-external-address", "x-remote-ip", "x-remote-addr", "x-proxyuser-ip",
         "x-azure-clientip", "fly-client-ip"],
    )  # fmt: skip
    @pytest.mark.parametrize("value", ["127.0.0.1", ""])
    def test_forwarded(self, make_admin: MakeAdmin, name: str, value: str) -> None:
        """What came through a proxy came from elsewhere, even if it says that it did not."""
        assert not is_in(local(make_admin(environ=DEV)).ask("GET", "/", {name: value}))

    def test_a_proxy_that_says_nothing(self, make_admin: MakeAdmin) -> None:
        """nginx without any setting speaks HTTP/1.0 and puts the app's own address into Host."""
        assert not is_in(local(make_admin(environ=DEV), scope={"http_version": "1.0"}).get("/"))

    @pytest.mark.parametrize("name", ["x-forwarded-for", "x-real-ip", "forwarded", "x-forwarded-host", "host"])
    def test_claims_of_a_stranger(self, make_admin: MakeAdmin, name: str) -> None:
        """Saying that one is local does not make it so."""
        visitor = Visitor(make_admin(environ=DEV))

        assert not is_in(visitor.ask("GET", "/", {name: "127.0.0.1"}))
        assert not is_in(visitor.ask("GET", "/", {name: "for=127.0.0.1;host=localhost"}))

    def test_strict(self, make_admin: MakeAdmin) -> None:
        """``LLMOBS_STRICT`` always asks, and a sign-in still works."""
        environ = {**DEV, "FASTAPI_ENV": "development", "LLMOBS_STRICT": "1"}
        visitor = local(make_admin(environ=environ), scope={"app": SimpleNamespace(debug=True)})
        assert not is_in(visitor.get("/"))

        visitor.app = make_admin(environ={**environ, "LLMOBS_STRICT": "0"})
        assert is_in(visitor.get("/"))
        visitor.app = make_admin(environ={**environ, "LLMOBS_ADMIN_TOKEN": TOKEN})
        assert is_in(visitor.get("/", authorization=f"Bearer {TOKEN}"))


class TestLink:
    """Rule 4: locked, and the log holds a link that works once."""

    def test_it_opens_once(self, make_admin: MakeAdmin, caplog: pytest.LogCaptureFixture) -> None:
        """The code signs in one browser; a second one gets nothing from it, on any worker."""
        visitor = Visitor(make_admin())
        assert not is_in(visitor.get("/"))
        address, code = signed_link(visitor, caplog)
        assert address == "http://10.0.0.5:8000/login" and len(code) >= 32

        late = Visitor(make_admin())
        assert late.post("/login", {"secret": code}).status == 303 and is_in(late.get("/"))
        assert visitor.post("/login", {"secret": code}).status == 401 and not is_in(visitor.get("/"))
        assert is_in(late.get("/"))

    def test_code_is_in_the_fragment_only(self, make_admin: MakeAdmin, caplog: pytest.LogCaptureFixture) -> None:
        """Neither the page nor a redirect nor an address that a server logs ever holds the code."""
        visitor = Visitor(make_admin())
        _, code = signed_link(visitor, caplog)

        assert f"/login#{code}" in caplog.text and f"?{code}" not in caplog.text
        assert code not in visitor.get("/login").everything
        assert code not in visitor.get("/requests").everything
        assert visitor.get(f"/login?secret={code}").status == 200 and not visitor.cookies
        assert visitor.get(f"/?code={code}").status == 303 and not visitor.cookies

    def test_log_does_not_repeat_it(self, make_admin: MakeAdmin, caplog: pytest.LogCaptureFixture) -> None:
        """One link in ten minutes, however many strangers look; after its use the next stranger causes another."""
        admin = make_admin()
        _, code = signed_link(Visitor(admin), caplog)
        for _ in range(5):
            Visitor(admin).get("/login")
        assert caplog.text.count("/login#") == 1

        Visitor(admin).post("/login", {"secret": code})
        assert signed_link(Visitor(admin), caplog)[1] != code

    def test_link_is_not_led_astray(self, make_admin: MakeAdmin, caplog: pytest.LogCaptureFixture) -> None:
        """A forged Host cannot make the log point to another site."""
        visitor = Visitor(make_admin(), host="evil.example", headers={"x-forwarded-host": "evil.example"})
        address, _ = signed_link(visitor, caplog)

        assert "evil" not in caplog.text and address.startswith("http://10.0.0.5:8000/")

    def test_link_below_a_mount(self, make_admin: MakeAdmin, caplog: pytest.LogCaptureFixture) -> None:
        """The link leads to where the admin is mounted."""
        visitor = Visitor(make_admin(), root_path="/in tern", scope={"path": "/in tern/login", "raw_path": None})

        assert signed_link(visitor, caplog)[0] == "http://10.0.0.5:8000/in%20tern/login"

    def test_it_is_hashed(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Who reads the database file cannot sign in, and who writes to a copy of it did not learn the code."""
        database = Database(f"sqlite:///{tmp_path / 'store.db'}")
        try:
            _, code = signed_link(Visitor(Admin(database=database, environ={})), caplog)
            with sqlite3.connect(tmp_path / "store.db") as connection:
                rows = connection.execute("SELECT * FROM llmobs_sign_ins").fetchall()
            connection.close()
        finally:
            database.dispose()

        assert len(rows) == 1
        assert not [path for path in tmp_path.iterdir() if code.encode() in path.read_bytes()]

    def test_ten_minutes(
        self, make_admin: MakeAdmin, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An old code is none."""
        admin = make_admin()
        start = time.time_ns()
        _, code = signed_link(Visitor(admin), caplog)
        monkeypatch.setattr(time, "time_ns", lambda: start + 601 * 10**9)
        assert Visitor(admin).post("/login", {"secret": code}).status == 401

        monkeypatch.setattr(time, "time_ns", lambda: start + 590 * 10**9)
        assert Visitor(admin).post("/login", {"secret": code}).status == 303

    def test_race(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Of many who try the code at once, through two workers, one gets in."""
        stores = [Database(f"sqlite:///{tmp_path / 'store.db'}") for _ in range(2)]
        admins = [Admin(database=store, environ={}) for store in stores]
        try:
            _, code = signed_link(Visitor(admins[0]), caplog)
            body = f"secret={code}".encode()
            headers = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}

            async def rush() -> list[Answer]:
                visitors = [Visitor(admins[number % 2], peer=f"198.51.100.{number}") for number in range(8)]
                calls = (exchange(one.app, one.request("POST", "/login", headers, body), body) for one in visitors)
                return await asyncio.gather(*calls)

            assert sorted(answer.status for answer in loop.run(rush())) == [303] + [401] * 7
        finally:
            for store in stores:
                store.dispose()

    def test_no_link_where_something_else_opens(self, make_admin: MakeAdmin, caplog: pytest.LogCaptureFixture) -> None:
        """With a token, or where the app decides, no code exists."""
        with caplog.at_level(logging.INFO, "asgi_llmobs"):
            for auth in (token(TOKEN), basic("ada", "secret"), allow(lambda request: None)):
                Visitor(make_admin(auth)).get("/login")

        assert "login#" not in caplog.text

    def test_a_bearer_is_no_code(self, make_admin: MakeAdmin, caplog: pytest.LogCaptureFixture) -> None:
        """The code opens the sign-in page and nothing else."""
        visitor = Visitor(make_admin())
        _, code = signed_link(visitor, caplog)

        assert not is_in(visitor.get("/", authorization=f"Bearer {code}"))

    def test_a_store_that_fails_does_not_eat_the_link(
        self, make_admin: MakeAdmin, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the code could not be stored, the next visit makes another."""
        admin = make_admin()

        def fail(credential: bytes) -> str:
            raise StoreError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(admin.lock.sign_ins, "issue", fail)
            assert Visitor(admin).get("/login").status == 200
        assert signed_link(Visitor(admin), caplog)[1]

    def test_a_code_stays_in_its_project(self, database: Database, caplog: pytest.LogCaptureFixture) -> None:
        """The link of one project's admin is worth nothing at that of another in the same store."""
        one, two = (Admin(database=database, project=name, environ={}) for name in ("one", "two"))
        _, code = signed_link(Visitor(one), caplog)

        assert Visitor(two).post("/login", {"secret": code}).status == 401
        assert Visitor(one).post("/login", {"secret": code}).status == 303


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "https:evil.example",
     "https://evil.example", "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "/requests", "../x",
     "requests/../../x", "./../x", "%2e%2e/x", ".", "..", "requests\r\nset-cookie: a=b", "requests\n", " //evil",
     "\t//evil.example", "requests#x", "x" * 3000, "requests//evil.example", "é", "a:b/c", "\x00"],
)  # fmt: skip
def test_open_redirect(make_admin: MakeAdmin, target: str) -> None:
    """Whatever ``next`` says, the way from the sign-in page leads to a page of ours."""
    visitor = Visitor(make_admin(token(TOKEN)))
    answer = visitor.post("/login", {"secret": TOKEN, "next": target})

    assert (answer.status, answer.location) == (303, "./")


@pytest.mark.parametrize("target", ["", "requests", "requests?status=error&q=a%20b", "requests/abc", "traces/a?node=b"])
def test_wanted_redirect(target: str) -> None:
    """Our own addresses are kept."""
    assert safe_next(target) == f"./{target}"
