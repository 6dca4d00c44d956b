"""Every address, with every verb, for everybody: who gets what, and what every answer carries."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from asgi_llmobs.admin import Action, Admin, Download, Page, Permission
from asgi_llmobs.admin.assets import assets
from asgi_llmobs.admin.page import LADDER, Route, allowed
from asgi_llmobs.admin.pages import ROUTES
from asgi_llmobs.auth import Role, token
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.admin.conftest import MakeAdmin
from tests.admin.seeding import CONTENT, PICTURE_SHA256, canaries, fill
from tests.admin.visiting import Answer, Visitor, loop
from tests.making import request

TOKEN = "a long enough secret"
UNSAFE = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "MKCOL", "get", "Post", "FOO")
VERBS = ("GET", "HEAD", *UNSAFE)
STATIC = sorted(assets())


@dataclass
class Site:
    """A filled store, the admin over it, and the records in it."""

    admin: Admin
    database: Database
    records: dict[str, Any]

    def visitor(self, role: str | None = None) -> Visitor:
        return Visitor(self.admin, headers={"x-role": role} if role else {})


def by_header(request: Any) -> str | None:
    role: str | None = request.headers.get("x-role")
    return role


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Read only: tests that write make their own."""
    database = Database("sqlite://")
    records = fill(database)
    yield Site(Admin(database=database, auth=by_header, environ={}), database, records)
    database.dispose()


@pytest.fixture(scope="module")
def locked(site: Site) -> Visitor:
    """A stranger before an admin with a token."""
    return Visitor(Admin(database=site.database, auth=token(TOKEN), environ={}))


def ids_of(slug: str, name: str) -> str:
    """What stands for ``{name}`` in an address of this kind; the ids are those of the seeded store."""
    if name in ("form", "sha256"):
        return "curl" if name == "form" else PICTURE_SHA256
    return {
        "requests": "FIRST",
        "traces": "ab" * 16,
        "sessions": "trip-1",
        "insights": "repeated",
        "users": "ada",
        "models": "gpt-4o",
    }.get(slug.split("/")[0], "x")


def addresses() -> list[tuple[Route, str]]:
    """Every address that can be read, JSON twins included, made from the app's own table."""
    found: list[tuple[Route, str]] = []
    for route in ROUTES:
        if isinstance(route, Action):
            continue
        path = "/" + "/".join(ids_of(route.slug, each[1:-1]) if each[:1] == "{" else each for each in route.segments)
        found.append((route, path))
        if isinstance(route, Page):
            found.append((route, f"{path if path != '/' else '/index'}.json"))
    return found


def real(site: Site, path: str) -> str:
    return path.replace("FIRST", site.records["first"].id)


ADDRESSES = addresses()
PATHS = [path for _, path in ADDRESSES]


def test_the_table_is_the_app() -> None:
    """The tests below look at all that there is: a page that is added is looked at too."""
    assert {route.slug for route in ROUTES} >= {
        "",
        "requests",
        "requests/{id}",
        "traces/{id}",
        "sessions/{id}",
        "status",
    }
    assert len({(isinstance(route, Action), route.slug) for route in ROUTES}) == len(ROUTES)


def test_no_route_without_permission() -> None:
    """A page whose author forgot what it needs does not come into being."""
    with pytest.raises(TypeError):
        Page(slug="x", title="X", template="x.html", load=dict)  # type: ignore[call-arg]
    for nonsense in (None, "owner", True, Role.OWNER):
        with pytest.raises(TypeError, match="Permission"):
            Download(slug="x", load=dict, permission=nonsense)  # type: ignore[arg-type]


class TestAnonymous:
    """Who has not signed in learns nothing."""

    @pytest.mark.parametrize("verb", VERBS)
    def test_every_route_and_verb(self, site: Site, locked: Visitor, verb: str) -> None:
        """No address but the sign-in page answers, and what is there looks like what is not."""
        page, twin = (locked.ask(verb, f"/nothing/at/all{ending}") for ending in ("", ".json"))
        for path in (*PATHS, "/nothing", "/logout", "/login/", "/login.json", "/v1/traces"):
            answer = locked.ask(verb, real(site, path))
            other = twin if path.endswith(".json") else page

            assert answer.status == other.status and answer.status in (303, 401, 403, 405), path
            assert not re.search(r"trip-1|gpt-4o|" + CONTENT, re.sub(r"next=\S+", "", answer.everything)), path
            if answer.status == 303:
                assert re.match(r"(\./|(\.\./)+)login(\?next=|$)", answer.location), path
                assert answer.content == b"", path

    @pytest.mark.parametrize("verb", UNSAFE)
    def test_as_a_page_of_ours(self, site: Site, locked: Visitor, verb: str) -> None:
        """The right Origin alone opens nothing."""
        headers = {"origin": "http://admin.example", "sec-fetch-site": "same-origin"}
        for path in (*PATHS, "/nothing"):
            assert locked.ask(verb, real(site, path), headers).status in (303, 401, 405), path

    def test_what_is_open(self, locked: Visitor) -> None:
        """The sign-in page and the files that it needs."""
        page = locked.get("/login")
        assert page.status == 200
        needed = re.findall(r'(?:href|src)="\./static/([^"]+)"', page.text)
        assert needed and set(needed) <= set(STATIC)
        for name in STATIC:
            answer = locked.get(f"/static/{name}")
            assert answer.status == 200 and "immutable" in answer.header("cache-control")

    def test_error_pages_show_no_menu(self, locked: Visitor) -> None:
        """What pages there are is said to nobody outside."""
        assert not re.search(r"requests|traces|sessions|status", locked.get("/login").text)

    SPELLINGS = (
        ["//requests", "/requests//", "/requests/", "//", "/%2e%2e/requests", "/%2e/requests", "/../requests",
         "/./requests",
         "/login/../requests", "/login/%2e%2e/requests", "/login%2f..%2frequests", "/static/../requests",
         "/static/%2e%2e/requests", "/static%2f..%2frequests", "/requests%2f", "/%2frequests", "/requests;",
         "/requests;.css", "/login;/../requests", "/requests/%00", "/requests%00.css", "/REQUESTS", "/Requests.JSON",
         "/requests.css", "/requests.json/", "/requests.json.json", "/requests%2ejson", "/requests%20", "/%20requests",
         "/requests\\", "/\\requests", "/requests?x=/static/admin.css", "/requests#login", "/login.json", "/LOGIN",
         "/login/x", "/.json", "/index.json", "/%ff", "/é", "http://admin.example/requests", "*", ""]
    )  # fmt: skip

    @pytest.mark.parametrize("verb", ["GET", "HEAD", "POST"])
    def test_spellings(self, site: Site, locked: Visitor, verb: str) -> None:
        """However an address is spelled, a stranger is refused, and led to nowhere but the sign-in page."""
        for path in self.SPELLINGS:
            answer = locked.ask(verb, path)
            assert answer.status in (303, 401, 403, 404, 405), (verb, path)
            assert not re.search(r"trip-1|gpt-4o|" + CONTENT, answer.everything)
            if answer.status == 303 and path:
                assert re.match(r"(\./|(\.\./)+)login(\?next=[^/\s]*)?$", answer.location), answer.location

    @pytest.mark.parametrize(
        "headers",
        [{"x-original-url": "/login"}, {"x-rewrite-url": "/static/admin.css"}, {"x-http-method-override": "GET"},
         {"x-forwarded-prefix": "/login"}, {"x-forwarded-user": "owner"}, {"remote-user": "owner"}, {"x-role": "owner"},
         {"authorization": "Bearer"}, {"authorization": "Bearer null"}, {"authorization": "Basic b3duZXI6b3duZXI="},
         {"cookie": "llmobs=owner; role=owner"}, {"host": ""}, {"host": "127.0.0.1"}, {"x-forwarded-for": "127.0.0.1"}],
    )  # fmt: skip
    def test_headers_that_claim(self, site: Site, locked: Visitor, headers: dict[str, str]) -> None:
        """No header but a right token says who somebody is, and none changes address or verb."""
        assert Visitor(locked.app, peer="198.51.100.77").ask("GET", "/requests", headers).status in (303, 401)

    def test_websockets(self, site: Site) -> None:
        """A WebSocket is refused before it is open."""
        sent: list[Any] = []

        async def receive() -> dict[str, str]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {**Visitor(site.admin, headers={"x-role": "owner"}).request("GET", "/requests"), "type": "websocket"}
        loop.run(site.admin(scope, receive, send))

        assert [message["type"] for message in sent] == ["websocket.close"]


class TestRoles:
    """metrics < viewer < reader < analyst < operator < owner, and ingest apart."""

    @pytest.mark.slow
    @pytest.mark.parametrize("role", list(Role))
    def test_matrix(self, site: Site, role: Role) -> None:
        """A role opens exactly what it may open, for GET and HEAD, and nobody may do anything else."""
        visitor = site.visitor(role)
        same = {"origin": "http://admin.example", "sec-fetch-site": "same-origin"}
        for route, path in ADDRESSES:
            may = role is not Role.INGEST and LADDER.index(role) >= LADDER.index(route.permission.value)
            answer, head = visitor.get(real(site, path)), visitor.ask("HEAD", real(site, path))

            assert answer.status == (200 if may else 403), path
            assert (head.status, head.content) == (answer.status, b""), path
            assert head.header("content-length") == answer.header("content-length"), path
            acts = any(isinstance(other, Action) and other.slug == route.slug for other in ROUTES)  # test_actions.py
            assert {visitor.ask(verb, real(site, path), same).status for verb in UNSAFE[acts:]} == {405}, path

    def test_ladder(self) -> None:
        """Each role may what the one before it may, and ingest neither gives nor takes."""
        for place, role in enumerate(LADDER):
            may = {permission for permission in Permission if allowed(role, permission)}
            assert may == {Permission(each) for each in LADDER[: place + 1]}
        assert {each for each in Permission if allowed(Role.INGEST, each)} == {Permission.INGEST}
        assert not any(allowed(None, permission) for permission in Permission)

    @pytest.mark.parametrize("role", [Role.METRICS, Role.VIEWER])
    def test_content_is_for_readers(self, site: Site, role: Role) -> None:
        """Prompts, answers, errors that quote them and tool arguments never reach a lower role, in any form."""
        visitor = site.visitor(role)
        for path in PATHS:
            assert CONTENT not in visitor.get(real(site, path)).everything, path
            assert CONTENT not in visitor.get(f"{real(site, path)}?node={site.records['tool'].id}").everything, path

    def test_content_is_there_to_be_hidden(self, site: Site) -> None:
        """The test above could fail: a reader sees it in all these places."""
        visitor = site.visitor("reader")
        for path in ("/", "/requests", "/requests/FIRST", "/traces/" + "ab" * 16, "/sessions/trip-1"):
            assert CONTENT in visitor.get(real(site, path)).text
            assert CONTENT in visitor.get(real(site, path if path != "/" else "/index") + ".json").text
        assert CONTENT in visitor.get(real(site, "/requests/FIRST/request-body")).text

    @pytest.mark.parametrize("path", ["/requests", "/traces", "/sessions"])
    @pytest.mark.parametrize("name", ["q", "text"])
    def test_no_search_in_what_one_may_not_read(self, site: Site, path: str, name: str) -> None:
        """Search would answer, word by word, what a prompt says."""
        for target in (
            f"{path}?{name}=France", f"{path}.json?{name}=France", f"{path}?q=&{name}=France", f"{path}?q=-France",
            f"{path}?q=(user:x+OR+text:France)", "/live?q=France",
        ):  # fmt: skip
            answer = site.visitor("viewer").get(target)
            assert answer.status == 422 and "trip-1" not in answer.text
        assert site.visitor("reader").get(f"{path}.json?{name}=France").json["count"] == 1
        assert "Words" not in site.visitor("viewer").get(path).text

    def test_every_text_of_a_record(self) -> None:
        """Of a record that is marked in every text, a viewer sees names and ids only."""
        database = Database("sqlite://")
        call, work = canaries("CAN-")
        Sink(database).write([call, work])
        visitor = Visitor(Admin(database=database, auth=lambda request: "viewer", environ={}))
        seen: set[str] = set()
        for path in ("/index", "/requests", f"/requests/{call.id}", "/traces", f"/traces/{call.trace_id}", "/sessions",
                     "/sessions/CAN-session_id"):  # fmt: skip
            for target in (path, f"{path}.json"):
                seen |= set(
                    re.findall(r"CAN-([\w-]+)", visitor.get(target.replace("/index", "/", target == "/index")).text)
                )
        database.dispose()

        names = {
            "attempt-type", "caller", "error-code", "error-type", "error_type", "finish-reason", "host", "name",
            "node_id",
            "operation", "prompt_id", "property", "property-value", "provider", "provider_request_id", "release",
            "request_id", "request_model", "response_id", "response_model", "retry-after", "retry_after", "route",
            "server-tool", "service", "service_tier", "session_id", "session_name", "session_path", "t", "url",
            "usage-key",
            "usage-value", "user_id",
        }  # fmt: skip
        assert seen <= names, seen - names
        assert {"request_model", "session_id", "error_type"} <= seen

    def test_options_are_for_operators(self, site: Site) -> None:
        """How the app is configured is not for everybody who may see its calls."""
        assert site.visitor("analyst").get("/settings.json").status == 403
        assert site.visitor("operator").get("/settings.json").json["options"]

    def test_the_menu_leads_to_what_one_may_open(self, site: Site) -> None:
        """No link of the menu ends at a refusal."""
        for role in LADDER:
            page = site.visitor(role).get("/").text
            menu = re.findall(r'href="\./(\w*)"', page[page.index("<nav") : page.index("</nav>")])
            assert menu and all(site.visitor(role).get(f"/{slug}").status == 200 for slug in menu)


class TestProjects:
    """No address leads from one project to another."""

    def test_ids_of_another_project(self) -> None:
        """Lists, pages, twins, downloads, filters, totals and search of one project know nothing of the other."""
        database = Database("sqlite://")
        theirs = fill(database, project="theirs")
        Sink(database).write([request("mine", project="mine", session_id="own")])
        visitor = Visitor(Admin(database=database, project="mine", auth=lambda request: "owner", environ={}))
        try:
            first = theirs["first"]
            for id in (first.id, first.response_id, first.provider_request_id, "mine-1"):
                for tail in ("", ".json", "/request-body", "/response-body"):
                    assert visitor.get(f"/requests/{id}{tail}").status == 404
            for path in (f"/traces/{first.trace_id}", "/sessions/trip-1"):
                assert visitor.get(path).status == visitor.get(f"{path}.json").status == 404
            for path in ("/requests", "/traces", "/sessions"):
                assert visitor.get(f"{path}.json").json["count"] == 1
                for query in ("session=trip-1", "user=ada", f"trace={first.trace_id}", "property.plan=pro", "q=France"):
                    assert visitor.get(f"{path}.json?{query}").json["count"] == 0, (path, query)
                for extra in ("project=theirs", "project=*"):
                    assert visitor.get(f"{path}?{extra}").status == 422
            assert visitor.get("/index.json").json["total"]["requests"] == 1
            assert visitor.get("/status.json").json["store"]["requests"] == 1
        finally:
            database.dispose()


class TestSpelling:
    """Whoever may come in finds a page under its one address."""

    @pytest.mark.parametrize("path", ["/requests", "/traces", "/sessions", "/status", "/sessions/trip-1"])
    def test_slash_at_the_end(self, site: Site, path: str) -> None:
        """One slash too many is led back, with the query."""
        answer = site.visitor("owner").get(f"{path}/?status=ok")

        assert (answer.status, answer.location) == (303, f"{'../' * path.count('/')}{path[1:]}?status=ok")
        encoded = site.visitor("owner").get(f"{path}%2f")  # to a browser no slash at all
        assert (encoded.status, encoded.location) == (303, f"{'../' * (path.count('/') - 1) or './'}{path[1:]}")

    @pytest.mark.parametrize(
        "path",
        ["//requests", "/requests//x", "/Requests", "/requests;x", "/%2e%2e/requests", "/..%2f..", "/x",
         "/requests/a/b/c", "/static", "/static/", "/static/admin.css", "/logout", "/requests.xml", "/.json.json",
         "/requests/FIRST/request-body.json", "/requests/FIRST/bodies", "/pages/requests.html", "/base.html"],
    )  # fmt: skip
    def test_nothing_there(self, site: Site, path: str) -> None:
        """Anything else is no address; the answer says so without guessing."""
        answer = site.visitor("owner").get(real(site, path))

        assert answer.status == 404

    def test_dots_lead_nowhere(self, site: Site) -> None:
        """A redirect never climbs out of the mount."""
        for path in ("/../", "/%2e%2e/", "/./", "/requests/../"):
            assert site.visitor("owner").get(path).status == 404

    MADE_UP = (
        ["nothing", "0" * 16, "%00", "%ff", "'%20OR%201=1--", "x" * 9000, "~", "~!!", "~" + "A" * 5000, "{id}",
         "%7B%7B7*7%7D%7D",
         "-1", "~" + urlsafe_b64encode("\ud800".encode("utf-8", "surrogatepass")).decode().rstrip("="), "%F0%9F%98%80"]
    )  # fmt: skip

    @pytest.mark.parametrize("slug", ["requests", "traces", "sessions"])
    def test_made_up_ids(self, site: Site, slug: str) -> None:
        """An id that nobody has is not found, whatever it is made of."""
        for id in self.MADE_UP:
            assert site.visitor("owner").get(f"/{slug}/{id}").status == 404, id
            assert site.visitor("owner").get(f"/{slug}/{id}.json").json == {"detail": "There is nothing here."}, id

    def test_static_is_a_table(self, site: Site) -> None:
        """Files are looked up by name: no path leads to another file."""
        for name in ("../base.html", "..%2fbase.html", "%2e%2e/base.html", "admin.css", "/etc/passwd",
                     "%2fetc%2fpasswd",
                     "..%5c..%5cbase.html", "admin.css%00", "ADMIN.CSS", "", ".", "..", "../static/" + STATIC[0],
                     STATIC[0].upper(), STATIC[0] + "/", STATIC[0] + ".map"):  # fmt: skip
            assert site.visitor("owner").get(f"/static/{name}").status in (303, 404), name
        for name in STATIC:
            assert site.visitor("owner").get(f"/static/{name}").status == 200

    def test_static_files_can_be_gzipped(self, site: Site) -> None:
        """And only for those who say so; a twin and a page too."""
        import gzip

        visitor = site.visitor("owner")
        for path in (f"/static/{STATIC[0]}", "/requests", "/requests.json"):
            plain, small = visitor.get(path), visitor.get(path, accept_encoding="gzip, br")
            assert not plain.header("content-encoding") and small.header("content-encoding") == "gzip"
            assert "Accept-Encoding" in small.header("vary")
            unpacked = gzip.decompress(small.content)
            assert unpacked == plain.content or len(unpacked) == len(plain.content)  # a page has its own nonce


class TestForeignSites:
    """What other sites may make a visitor's browser do: nothing."""

    FOREIGN = [
        {"origin": "https://evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "http://admin.example:8080"},
        {"origin": "http://admin.example.evil.example"},
        {"origin": "http://evil.example/admin.example"},
        {"origin": "http://admin.example@evil.example"},
        {"origin": "http://sub.admin.example"},
        {"origin": "ftp://admin.example"},
        {"origin": "null"},
        {"origin": "null", "sec-fetch-site": "same-origin"},
        {"origin": ""},
        {"origin": "http://["},
        {"origin": "admin.example"},
        {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
        {"origin": "http://admin.example", "sec-fetch-site": "cross-site"},
        {"origin": "http://admin.example", "sec-fetch-site": "same-site"},
        {"origin": "http://admin.example", "sec-fetch-site": "none"},
        {"origin": "http://admin.example", "sec-fetch-site": "Same-Origin"},
        {"origin": "http://admin.example", "sec-fetch-site": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"referer": "http://admin.example/login"},
        {"origin": "https://evil.example", "x-forwarded-host": "admin.example"},
        {"origin": "https://evil.example", "authorization": f"Bearer {TOKEN}"},
        {"authorization": "Basic eDp5"},
        {},
    ]

    @pytest.mark.slow
    @pytest.mark.parametrize("path", ["/login", "/logout", "/requests", "/status"])
    def test_unsafe_calls(self, site: Site, path: str) -> None:
        """A call that could change something must come from a page of ours: a signed-in browser is not enough."""
        visitor = Visitor(Admin(database=site.database, auth=token(TOKEN), environ={}))
        visitor.post("/login", {"secret": TOKEN})
        cookies = dict(visitor.cookies)
        for foreign in self.FOREIGN:
            headers = {"content-type": "application/x-www-form-urlencoded", **foreign}
            answer = visitor.ask("POST", path, headers, f"secret={TOKEN}".encode())

            assert answer.status == 403 and not answer.header("set-cookie"), foreign
            assert visitor.cookies == cookies and visitor.get("/requests").status == 200, foreign

    def test_two_origins(self, site: Site) -> None:
        """Two Origin headers are one too many."""
        visitor = Visitor(Admin(database=site.database, auth=token(TOKEN), environ={}))
        headers = [
            ("origin", "http://admin.example"),
            ("origin", "https://evil.example"),
            ("sec-fetch-site", "same-origin"),
        ]

        assert visitor.ask("POST", "/login", headers, b"secret=x").status == 403

    @pytest.mark.parametrize(
        ("host", "headers"),
        [
            ("admin.example", {"origin": "http://admin.example"}),
            ("admin.example:80", {"origin": "http://admin.example"}),
            ("admin.example", {"origin": "https://admin.example"}),
            ("admin.example:8443", {"origin": "https://admin.example:8443", "sec-fetch-site": "same-origin"}),
            ("ADMIN.example", {"origin": "http://admin.example", "sec-fetch-site": "same-origin"}),
            ("admin.example", {"sec-fetch-site": "same-origin"}),
            ("app:8000", {"origin": "https://admin.example", "x-forwarded-host": "admin.example"}),
            ("127.0.0.1:8000", {"origin": "https://admin.example", "sec-fetch-site": "same-origin"}),
            ("localhost:8000", {"origin": "https://admin.example", "sec-fetch-site": "same-origin"}),
            ("[::1]:8000", {"origin": "http://[::1]:8000", "sec-fetch-site": "same-origin"}),
        ],
    )
    def test_our_own_pages(self, site: Site, host: str, headers: dict[str, str]) -> None:
        """Our form works, with old browsers, behind a terminator of TLS and behind a proxy that changes the Host."""
        visitor = Visitor(Admin(database=site.database, auth=token(TOKEN), environ={}), host=host)
        form = {"content-type": "application/x-www-form-urlencoded", **headers}

        assert visitor.ask("POST", "/login", form, f"secret={TOKEN.replace(' ', '+')}".encode()).status == 303

    @pytest.mark.parametrize("where", ["cross-site", "same-site"])
    @pytest.mark.parametrize(
        ("mode", "kind"),
        [("cors", "empty"), ("no-cors", "script"), ("no-cors", "image"), ("navigate", "iframe"),
         ("navigate", "object"), ("navigate", "embed"), ("websocket", "websocket")],
    )  # fmt: skip
    def test_reading_from_another_site(self, site: Site, where: str, mode: str, kind: str) -> None:
        """Fetch, script, image, frame and event source of another site get nothing, however open the lock is."""
        visitor = site.visitor("owner")
        headers = {"sec_fetch_site": where, "sec_fetch_mode": mode, "sec_fetch_dest": kind}
        for path in (*PATHS, f"/static/{STATIC[0]}", "/login", "/nothing"):
            answer = visitor.get(real(site, path), **headers)
            assert (answer.status, answer.content) == (403, b""), path

    def test_following_a_link(self, site: Site) -> None:
        """A link in a chat or a ticket works."""
        headers = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}

        assert site.visitor("owner").get("/requests", **headers).status == 200

    @pytest.mark.parametrize("verb", ["GET", "OPTIONS", "POST"])
    def test_no_cors(self, site: Site, verb: str) -> None:
        """No other origin is ever told that it may read or send."""
        headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
        answer = site.visitor("owner").ask(verb, "/requests.json", headers)

        assert "access-control" not in answer.everything.lower()

    def test_get_changes_nothing(self, site: Site) -> None:
        """Reading every page leaves the store as it was."""

        def rows() -> dict[str, list[Any]]:
            with site.database.read() as connection:
                names = (
                    connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
                )
                return {
                    name: sorted(map(str, connection.exec_driver_sql(f'SELECT * FROM "{name}"').all()))
                    for name in names
                }

        before = rows()
        for path in (*PATHS, "/logout", "/login", "/login?secret=x", "/requests?delete=1"):
            for verb in ("GET", "HEAD"):
                site.visitor("owner").ask(verb, real(site, path))

        assert len(before) > 5 and rows() == before


class TestEveryAnswer:
    """What every answer carries, good or bad."""

    CASES = [
        ("GET", "/requests", "owner"),
        ("GET", "/requests.json", "owner"),
        ("HEAD", "/requests", "owner"),
        ("GET", "/requests/FIRST", "owner"),
        ("GET", "/requests/FIRST/request-body", "owner"),
        ("GET", "/nothing", "owner"),
        ("GET", "/nothing.json", "owner"),
        ("GET", "/requests", "metrics"),
        ("GET", "/requests.json", "metrics"),
        ("GET", "/requests", None),
        ("GET", "/requests.json", None),
        ("GET", "/requests?limit=x", "owner"),
        ("GET", "/requests.json?limit=x", "owner"),
        ("GET", "/requests/", "owner"),
        ("GET", "", "owner"),
        ("POST", "", "owner"),
        ("POST", "/requests", "owner"),
        ("PUT", "/requests", "owner"),
        ("GET", f"/static/{STATIC[0]}", None),
        ("GET", "/static/x", None),
    ]

    def check(self, answer: Answer) -> None:
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("x-frame-options") == "DENY"
        assert answer.header("referrer-policy") == "no-referrer"
        assert answer.header("cross-origin-resource-policy") == "same-origin"
        assert answer.header("cross-origin-opener-policy") == "same-origin"
        policy = dict(part.strip().partition(" ")[::2] for part in answer.header("content-security-policy").split(";"))
        assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
        assert not re.search(r"unsafe|\*|https?:|data:|blob:", answer.header("content-security-policy"))
        if answer.header("content-type").startswith("text/html"):
            nonce = policy["script-src"].removeprefix("'nonce-").removesuffix("'")
            assert len(nonce) >= 16 and policy["style-src"] == policy["script-src"] == f"'nonce-{nonce}'"
            assert policy["require-trusted-types-for"] == "'script'" and policy["trusted-types"] == "'none'"
            assert policy["base-uri"] == "'none'" and policy["form-action"] == policy["connect-src"] == "'self'"
            for tag in re.findall(r"<(?:script|style|link[^>]*stylesheet)[^>]*>", answer.text):
                assert f'nonce="{nonce}"' in tag
            assert not re.search(r"\son\w+=|\sstyle=|javascript:", answer.text)
        else:
            assert "sandbox" in policy
        if "immutable" not in answer.header("cache-control"):
            assert answer.header("cache-control") == "no-store"
        assert not answer.header("server") and not answer.header("x-powered-by")
        assert len({name for name, _ in answer.headers}) == len(answer.headers)

    @pytest.mark.parametrize(("verb", "path", "role"), CASES, ids=str)
    def test_headers(self, site: Site, verb: str, path: str, role: str | None) -> None:
        """The guard is complete on pages, twins, files, downloads, redirects and refusals."""
        self.check(site.visitor(role).ask(verb, real(site, path)))

    def test_of_the_sign_in(self, site: Site) -> None:
        """And on the sign-in page, its answers and the refusals of both kinds."""
        admin = Admin(database=site.database, auth=token(TOKEN), environ={})
        visitor = Visitor(admin)
        self.check(visitor.get("/login"))
        self.check(visitor.get("/requests"))
        self.check(visitor.get("/requests.json"))
        self.check(visitor.post("/login", {"secret": "wrong"}))
        self.check(visitor.post("/login", {"secret": TOKEN}))
        self.check(visitor.post("/login", {"secret": TOKEN}, origin="https://evil.example"))
        self.check(visitor.post("/logout"))
        for _ in range(6):
            last = visitor.post("/login", {"secret": "wrong"})
        assert last.status == 429
        self.check(last)

    def test_nonces_are_used_once(self, site: Site) -> None:
        """No two pages share a nonce."""
        policies = {site.visitor("owner").get("/requests").header("content-security-policy") for _ in range(20)}

        assert len(policies) == 20


SECRET = "SECRET of an exception"
TELLING = re.compile(
    r"Traceback|File \"|line \d+|\.py\b|SELECT|llmobs_spans|sqlite|OperationalError|StoreError|site-packages|Python/|"
    r"/(home|work|tmp|root|usr)/|asgi_llmobs|\d+\.\d+\.\d+|" + SECRET
)


class TestErrorPages:
    """An error says what the reader can do, and nothing of the inside."""

    def visit(self, make_admin: MakeAdmin, error: Exception, path: str) -> Answer:
        def load(view: Any) -> Any:
            raise error

        admin = make_admin(lambda request: "owner")
        admin.routes = (
            Page(slug="bad", title="Bad", template="pages/status.html", load=load, permission=Permission.VIEW),
            Download(slug="file", load=load, permission=Permission.VIEW),
        )
        return Visitor(admin).get(path)

    @pytest.mark.parametrize(
        "error",
        [ValueError(SECRET), KeyError(SECRET), RecursionError(SECRET), MemoryError(SECRET), AssertionError(SECRET)],
    )
    @pytest.mark.parametrize("path", ["/bad", "/bad.json", "/file"])
    def test_a_page_that_fails(self, make_admin: MakeAdmin, path: str, error: Exception) -> None:
        """Status 500 and a sentence; the type, text and place of the exception stay in the log."""
        answer = self.visit(make_admin, error, path)

        assert answer.status == 500 and not TELLING.search(answer.content.decode())
        assert "its log names the place" in answer.text

    def test_a_template_that_fails(self, make_admin: MakeAdmin) -> None:
        """The same where showing fails."""
        admin = make_admin(lambda request: "owner")
        admin.routes = (
            Page(
                slug="bad", title="Bad", template="pages/status.html", load=lambda view: {}, permission=Permission.VIEW
            ),
            Page(slug="none", title="Bad", template="pages/no.html", load=lambda view: {}, permission=Permission.VIEW),
        )
        for path in ("/bad", "/none"):
            answer = Visitor(admin).get(path)
            assert answer.status == 500 and not TELLING.search(answer.text) and "no.html" not in answer.text

    @pytest.mark.parametrize("path", ["/", "/requests", "/requests.json", "/status", "/requests/x/request-body"])
    def test_a_store_that_fails(
        self, make_admin: MakeAdmin, database: Database, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        """Status 503, without the driver's words."""

        def fail(*args: Any, **kwargs: Any) -> Any:
            raise OperationalError("SELECT secret FROM llmobs_spans", {}, Exception(SECRET))

        visitor = Visitor(make_admin(lambda request: "owner"))
        assert visitor.get("/").status == 200
        monkeypatch.setattr("sqlalchemy.engine.base.Connection.execute", fail)
        answer = visitor.get(path)

        assert answer.status == 503 and not TELLING.search(answer.content.decode())

    def test_a_store_that_fails_at_the_sign_in(self, make_admin: MakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
        """A right token cannot be kept then: status 503, no cookie, no words of the driver."""

        def fail(*args: Any, **kwargs: Any) -> Any:
            raise OperationalError("INSERT INTO llmobs_sign_ins", {}, Exception(SECRET))

        visitor = Visitor(make_admin(token(TOKEN)))
        visitor.get("/login")
        monkeypatch.setattr("sqlalchemy.engine.base.Connection.execute", fail)
        answer = visitor.post("/login", {"secret": TOKEN})

        assert answer.status == 503 and not visitor.cookies and not TELLING.search(answer.everything)

    @pytest.mark.parametrize("path", ["/nothing", "/requests?limit=x", "/requests?since=%3Cb%3E", "/requests/none"])
    def test_ordinary_errors(self, site: Site, path: str) -> None:
        """Nor do errors of the visitor's own tell anything."""
        answer = site.visitor("owner").get(path)

        assert (
            answer.status in (404, 422)
            and not TELLING.search(answer.text)
            and "<b>" not in answer.text.split("<h1>")[1]
        )

    def test_a_body_that_ends_early(self, site: Site) -> None:
        """A client that goes away in the middle of its form is no failure of ours."""
        from asgi_llmobs.safely import failures

        admin = Admin(database=site.database, auth=token(TOKEN), environ={})
        headers = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}
        before, sent = failures(), []

        async def receive() -> dict[str, str]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        loop.run(admin(Visitor(admin).request("POST", "/login", headers, b"secret"), receive, send))

        assert failures() == before and sent[0]["status"] == 400
