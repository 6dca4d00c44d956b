"""The ASGI app: from a request to the page, its JSON twin, a download, the sign-in page or a refusal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, quote

from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from asgi_llmobs.admin.address import inner_path, last_segment, safe_next, to_root
from asgi_llmobs.admin.answers import (
    attachment,
    html,
    json_answer,
    message,
    new_nonce,
    plain,
    problem,
    redirect,
    static,
)
from asgi_llmobs.admin.assets import assets
from asgi_llmobs.admin.intake import INTAKES, Ingest, Intake, is_exporter, take
from asgi_llmobs.admin.lock import Decision, Lock, arguments, cookie_name, environment
from asgi_llmobs.admin.origin import foreign_read, foreign_write
from asgi_llmobs.admin.page import Download, NotFound, Page, Permission, Route, View, allowed, match
from asgi_llmobs.admin.pages import ROUTES
from asgi_llmobs.admin.templating import render
from asgi_llmobs.admin.workers import Busy, in_thread
from asgi_llmobs.auth import Role
from asgi_llmobs.config import Config
from asgi_llmobs.errors import FilterError, StoreError, TooSlow
from asgi_llmobs.safely import safely
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.deadline import within
from asgi_llmobs.store.signins import SESSION_SECONDS, SignIns

__all__ = ["Admin"]

TITLE = "LLM calls"
LARGEST_FORM = 4096  # bytes
UNRESERVED = "~:@+=,"
WRONG = {"token": "That is not it.", "code": "This code is wrong, used or older than 10 minutes."}
ERRORS = {
    400: "This call is not understood.",
    403: "You may not see this.",
    404: "There is nothing here.",
    405: "This cannot be done here.",
    415: "This call is not understood.",
    422: "This filter is not understood.",
    429: "Too many tries. Wait a moment.",
    500: "This page failed. The app is not affected; its log names the place.",
    503: "The store cannot be read right now. Recording goes on; try again in a moment.",
}


READ_SECONDS = 5.0  # that a page may read
SLOW = "This takes longer than {seconds:g} seconds. Ask for less: a shorter time, fewer columns, another filter."
BUSY = "Many are reading just now. Try again in a moment."


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request to the admin, and what is known of it so far."""

    request: Request
    segments: tuple[str, ...]
    base: str
    as_json: bool
    nonce: str
    decision: Decision = Decision()

    @property
    def gzipped(self) -> bool:
        return "gzip" in self.request.headers.get("accept-encoding", "")


class Admin:
    """The admin of one project. Making it does no I/O; every query runs in a worker thread.

    Args:
        database: What the pages show.
        stats: Gives the exact counters of capture, for the status page.
        project: The project that is shown, that of *config* unless given; no address leads to another.
        auth: ``allow(…)``, ``token(…)`` or ``basic(…)`` of :mod:`asgi_llmobs.auth`, or a callable; ``None``: the rules
            of :class:`asgi_llmobs.admin.lock.Lock`.
        title: What the pages are headed with.
        config: The options in force, for the status page; what is or may hold a secret is not shown.
        environ: Where variables are looked up; the process's environment unless given.
        ingest: Takes in what is sent to ``v1/traces``; ``None``: nothing is.

    Raises:
        ConfigError: *auth* is none of these.
    """

    def __init__(
        self,
        *,
        database: Database,
        stats: Callable[[], Any] | None = None,
        project: str | None = None,
        auth: Any = None,
        title: str | None = None,
        config: Config | None = None,
        environ: Mapping[str, str] | None = None,
        ingest: Ingest | None = None,
    ) -> None:
        self.database = database
        self.ingest = ingest
        self.stats = stats
        self.config = config or Config()
        self.project = project or self.config.project
        self.title = title or TITLE
        self.routes: tuple[Route, ...] = ROUTES
        self.lock = Lock(
            auth, SignIns(database), environment() if environ is None else environ, arguments(), self.project
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an HTTP request; refuse a WebSocket; answer a lifespan."""
        if scope["type"] == "lifespan":
            await live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = plain(500)
        with safely("admin"):
            response = await self._answered(Request(scope, receive))
        if scope["method"] == "HEAD":
            send = without_body(send)
        await response(scope, receive, send)

    async def _answered(self, request: Request) -> Response:
        try:
            return await self._respond(request)
        except (StoreError, Busy):
            return plain(503)
        except ClientDisconnect:
            return plain(400)  # nobody will read it

    async def _respond(self, request: Request) -> Response:
        path = inner_path(request.scope)
        if request.method not in ("GET", "HEAD", "POST"):
            return plain(405, headers={"allow": "GET, HEAD"})
        if not path:
            if request.method == "POST":
                return plain(405, headers={"allow": "GET, HEAD"})
            name = last_segment(request.scope)
            return redirect(f"./{name}/{asked(request)}" if name else f"./{asked(request)}")
        visit = visit_of(request, path)
        if request.method == "POST":
            return await self._post(visit)
        if foreign_read(request):
            return plain(403)
        if visit.segments[0] == "static" and len(visit.segments) == 2:
            return await in_thread(self._static, visit)
        if self._is_login(visit):
            return await self._login_page(visit)
        return await self._page(visit)

    def _static(self, visit: Visit) -> Response:
        """One of our files. Runs in a worker thread: the first one is read from the disk."""
        asset = assets().get(visit.segments[1])
        return plain(404) if asset is None else static(asset, gzipped=visit.gzipped)

    # -- pages -----------------------------------------------------------------------------------------------------

    async def _page(self, visit: Visit) -> Response:
        try:
            visit = replace(visit, decision=await self.lock.decide(visit.request))
            return await in_thread(self._refuse if visit.decision.role is None else self._admit, visit)
        except Busy:
            return (problem if visit.as_json else message)(503, BUSY, headers={"retry-after": "5"})

    def _admit(self, visit: Visit) -> Response:
        """The page of a visitor with a role. Runs, like all below, in a worker thread."""
        if len(visit.segments) > 1 and visit.segments[-1] == "" and visit.segments[-2] not in (".", ".."):
            path = "/".join(quote(part, safe=UNRESERVED) for part in visit.segments[:-1])
            return redirect(f"{visit.base}{path}{asked(visit.request)}")
        for route in self.routes:
            params = match(route, visit.segments)
            if params is None or (visit.as_json and isinstance(route, Download)):
                continue
            if not allowed(visit.decision.role, route.permission):
                return self._error(visit, 403)
            return self._load(route, params, visit)
        return self._error(visit, 404)

    def _load(self, route: Route, params: dict[str, str], visit: Visit) -> Response:
        view = View(
            database=self.database,
            project=self.project,
            role=visit.decision.role or Role.METRICS,
            params=params,
            query=tuple(QueryParams(visit.request.scope.get("query_string", b"")).multi_items()),
            stats=self.stats,
            config=self.config,
        )
        with safely(f"admin page /{route.slug}"):
            try:
                with within(READ_SECONDS):
                    loaded = route.load(view)
                return self._answer(route, loaded, visit)
            except NotFound:
                return self._error(visit, 404)
            except FilterError as error:
                return self._error(visit, 422, str(error), field=error.field)
            except TooSlow:
                return self._error(visit, 503, SLOW.format(seconds=READ_SECONDS))
            except StoreError:
                return self._error(visit, 503)
        return self._error(visit, 500)

    def _answer(self, route: Route, loaded: Any, visit: Visit) -> Response:
        if isinstance(route, Download):
            return attachment(loaded)
        if visit.as_json:
            return json_answer(loaded, gzipped=visit.gzipped)
        assert isinstance(route, Page)
        return self._html(visit, route.template, {"page": route, "page_title": route.title, **loaded})

    def _html(
        self,
        visit: Visit,
        template: str,
        context: Mapping[str, Any],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        role = visit.decision.role
        chrome = {
            "base": visit.base,
            "nonce": visit.nonce,
            "title": self.title,
            "project": self.project,
            "role": role,
            "content_visible": allowed(role, Permission.READ),
            "development": visit.decision.development,
            "may_sign_out": self.lock.challenge == "form" and role is not None and not visit.decision.development,
            "menu": [
                page for page in self.routes if isinstance(page, Page) and page.nav and allowed(role, page.permission)
            ],
            "here": visit.segments[0],
            "twin": twin(visit),
        }
        content = render(template, {**chrome, **context})
        return html(content, visit.nonce, status=status, gzipped=visit.gzipped, headers=headers)

    def _error(
        self, visit: Visit, status: int, detail: str = "", *, headers: Mapping[str, str] | None = None, **more: str
    ) -> Response:
        text = detail or ERRORS[status]
        if visit.as_json:
            return problem(status, text, headers=headers, **more)
        context = {"page": None, "page_title": ERRORS[status], "status": status, "detail": text}
        return self._html(visit, "pages/error.html", context, status=status, headers=headers)

    def _refuse(self, visit: Visit) -> Response:
        """What a stranger gets, whatever the address: it says nothing on what is there."""
        decision = visit.decision
        if decision.retry_after:
            return self._error(visit, 429, headers={"retry-after": str(decision.retry_after)})
        if decision.challenge == "basic":
            return plain(401, headers={"www-authenticate": 'Basic realm="llmobs", charset="UTF-8"'})
        if decision.challenge == "none":
            return self._error(visit, 403)
        if visit.as_json or "authorization" in visit.request.headers:
            return problem(401, headers={"www-authenticate": "Bearer"})
        path = "/".join(quote(part, safe=UNRESERVED) for part in visit.segments)
        wanted = path + asked(visit.request)
        return redirect(f"{visit.base}login" + (f"?next={quote(wanted, safe='')}" if wanted else ""))

    # -- signing in and out ----------------------------------------------------------------------------------------

    async def _post(self, visit: Visit) -> Response:
        intake = self._intake(visit)
        if foreign_write(visit.request):
            # a program need not show what a browser shows; but a stranger is not told what is here
            if intake is None or not is_exporter(visit.request):
                return plain(403)
            visit = replace(visit, decision=await self.lock.decide(visit.request))
            return await self._take(intake, visit) if visit.decision.role is not None else plain(403)
        if intake is not None:
            visit = replace(visit, decision=await self.lock.decide(visit.request))
            if visit.decision.role is not None:
                return await self._take(intake, visit)
            return await in_thread(self._refuse, visit)
        if self._is_login(visit):
            return await self._sign_in(visit)
        decision = await self.lock.decide(visit.request)
        if decision.role is None:
            return await in_thread(self._refuse, replace(visit, decision=decision))
        if visit.segments == ("logout",) and self.lock.challenge == "form":
            await self.lock.sign_out(visit.request)
            gone = f"{cookie_name(is_secure(visit.request))}=; Max-Age=0; {cookie_flags(visit.request)}"
            return redirect("./login", headers={"set-cookie": gone})
        return plain(405, headers={"allow": "GET, HEAD"})

    def _intake(self, visit: Visit) -> Intake | None:
        """What takes in data at this address."""
        if self.ingest is None or visit.as_json:
            return None
        return next((each for each in INTAKES if each.segments == visit.segments), None)

    async def _take(self, intake: Intake, visit: Visit) -> Response:
        decision = visit.decision
        if not allowed(decision.role, intake.permission) and not decision.development:
            return plain(403)
        assert self.ingest is not None
        return await take(intake, self.ingest, visit.request)

    def _is_login(self, visit: Visit) -> bool:
        return visit.segments == ("login",) and not visit.as_json and self.lock.challenge == "form"

    async def _login_page(self, visit: Visit) -> Response:
        decision = await self.lock.decide(visit.request)
        onward = visit.request.query_params.get("next", "")
        if decision.role is not None:
            return redirect(safe_next(onward))
        await self.lock.announce(visit.request)
        return await in_thread(self._login_html, visit, onward, "", 200, 0)

    def _login_html(self, visit: Visit, onward: str, message: str, status: int, wait: int) -> Response:
        context = {
            "page": None,
            "page_title": "Sign in",
            "asks": self.lock.asks,
            "message": message,
            "next": safe_next(onward).removeprefix("./"),
        }
        headers = {"retry-after": str(wait)} if wait else {}
        return self._html(visit, "pages/login.html", context, status=status, headers=headers)

    async def _sign_in(self, visit: Visit) -> Response:
        request = visit.request
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
            return plain(415)
        fields = await form_of(request)
        if fields is None:
            return plain(413)
        onward = fields.get("next", "")
        wait = self.lock.wait(request)
        if wait:
            message = f"Too many wrong tries. Wait {wait} s."
            return await in_thread(self._login_html, visit, onward, message, 429, wait)
        # no await between the look at the back-off and the try that it counts: tries side by side would all be free
        entered = await self.lock.sign_in(request, fields.get("secret", ""))
        if entered is None:
            message = WRONG[self.lock.asks]
            return await in_thread(self._login_html, visit, onward, message, 401, 0)
        await self.lock.sign_out(request)
        value = f"{cookie_name(is_secure(request))}={entered[0]}; Max-Age={SESSION_SECONDS}; {cookie_flags(request)}"
        return redirect(safe_next(onward), headers={"set-cookie": value})


def visit_of(request: Request, path: str) -> Visit:
    segments = tuple(path[1:].split("/")) if path.startswith("/") else (path,)
    as_json = segments[-1].endswith(".json")
    if as_json:
        stem = segments[-1].removesuffix(".json")
        segments = (*segments[:-1], "" if segments in ((".json",), ("index.json",)) else stem)
    return Visit(request=request, segments=segments, base=to_root(request.scope), as_json=as_json, nonce=new_nonce())


def asked(request: Request) -> str:
    """The query as it came, with its question mark."""
    query = request.scope.get("query_string", b"").decode("latin-1")
    return "?" + quote(query, safe="=&+%~:@!$'()*,;/?-._") if query else ""


def twin(visit: Visit) -> str:
    """The address of the JSON twin, from the mount."""
    path = "/".join(quote(part, safe=UNRESERVED) for part in visit.segments) or "index"
    return f"{path}.json{asked(visit.request)}"


def is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, to us or to the proxy in front."""
    said = request.headers.get("x-forwarded-proto", "") + request.headers.get("origin", "").partition(":")[0]
    return request.scope.get("scheme") == "https" or "https" in said


def cookie_flags(request: Request) -> str:
    # without Path a browser takes the folder of the address that it asked for: the mount, whatever proxies made of it
    return "HttpOnly; SameSite=Strict" + ("; Secure" if is_secure(request) else "")


async def form_of(request: Request) -> dict[str, str] | None:
    """The fields of a form, ``None`` where it is larger than any of ours."""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > LARGEST_FORM:
            return None
    return dict(parse_qsl(content.decode("utf-8", "replace")))


def without_body(send: Send) -> Send:
    """For HEAD: the headers as they would be, no content."""

    async def headers_only(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return headers_only


async def live(receive: Receive, send: Send) -> None:
    """The lifespan of an admin that is served on its own."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
