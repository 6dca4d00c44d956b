"""The ASGI app: from a request to the page, its JSON twin, a download, an action, the sign-in page or a refusal."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from asgi_llmobs.admin.address import inner_path, last_segment, safe_next
from asgi_llmobs.admin.answers import attachment, json_answer, message, plain, problem, redirect, static
from asgi_llmobs.admin.assets import assets
from asgi_llmobs.admin.frame import Frame
from asgi_llmobs.admin.intake import INTAKES, Ingest, Intake, is_exporter, take
from asgi_llmobs.admin.lock import Lock, arguments, environment
from asgi_llmobs.admin.origin import foreign_read, foreign_write
from asgi_llmobs.admin.page import Action, Denied, Done, Download, Feed, NotFound, Page, Route, View, allowed, match
from asgi_llmobs.admin.pages import ROUTES
from asgi_llmobs.admin.sent import JSON, Refused, content_type, fields_of
from asgi_llmobs.admin.signing import Signing
from asgi_llmobs.admin.visit import Visit, asked, visit_of
from asgi_llmobs.admin.workers import Busy, in_thread
from asgi_llmobs.auth import Role
from asgi_llmobs.config import VARIABLES, Config
from asgi_llmobs.errors import FilterError, ScoreError, StoreError, TooSlow
from asgi_llmobs.safely import safely
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.deadline import within
from asgi_llmobs.store.signins import SignIns

__all__ = ["Admin"]

TITLE = "LLM calls"
LARGEST_ACTION = 256 * 1024  # bytes
READ_SECONDS = 5.0  # that a page may read
SLOW = "This takes longer than {seconds:g} seconds. Ask for less: a shorter time, fewer columns, another filter."
BUSY = "Many are reading just now. Try again in a moment."
READ_ONLY = {"allow": "GET, HEAD"}
WRITE_ONLY = {"allow": "POST"}


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
        replay: Sends a call again, see :mod:`asgi_llmobs.replay`; ``None``: nobody may.

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
        replay: Any = None,
    ) -> None:
        self.database = database
        self.replay = replay
        self.ingest = ingest
        self.stats = stats
        self.config = config or Config()
        self.project = project or self.config.project
        self.title = title or TITLE
        environ = environment() if environ is None else environ
        self.variables = {name: bool(environ.get(name, "").strip()) for name in VARIABLES}
        self.lock = Lock(auth, SignIns(database), environ, arguments(), self.project)
        self.frame = Frame(ROUTES, self.title, self.project, self.lock)
        self.signing = Signing(self.lock, self.frame)

    @property
    def routes(self) -> tuple[Route, ...]:
        """Every address that the pages have, in the order of the menu."""
        return self.frame.routes

    @routes.setter
    def routes(self, routes: tuple[Route, ...]) -> None:
        self.frame.routes = routes

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
            return plain(405, headers=READ_ONLY)
        if not path:
            if request.method == "POST":
                return plain(405, headers=READ_ONLY)
            name = last_segment(request.scope)
            return redirect(f"./{name}/{asked(request)}" if name else f"./{asked(request)}")
        visit = visit_of(request, path)
        if request.method == "POST":
            return await self._post(visit)
        if foreign_read(request):
            return plain(403)
        if visit.segments[0] == "static" and len(visit.segments) == 2:
            return await in_thread(self._static, visit)
        if self.signing.is_login(visit):
            return await self.signing.page(visit)
        return await self._get(visit)

    def _static(self, visit: Visit) -> Response:
        """One of our files. Runs in a worker thread: the first one is read from the disk."""
        asset = assets().get(visit.segments[1])
        return plain(404) if asset is None else static(asset, gzipped=visit.gzipped)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _get(self, visit: Visit) -> Response:
        try:
            visit = replace(visit, decision=await self.lock.decide(visit.request))
            return await in_thread(self.frame.refusal if visit.decision.role is None else self._admit, visit)
        except Busy:
            return (problem if visit.as_json else message)(503, BUSY, headers={"retry-after": "5"})

    def _admit(self, visit: Visit) -> Response:
        """The page of a visitor with a role. Runs, like all below, in a worker thread."""
        if visit.above is not None:
            return redirect(f"{visit.base}{visit.above}{asked(visit.request)}")
        acts = False
        for route in self.routes:
            params = match(route, visit.segments)
            if params is None or (visit.as_json and isinstance(route, Download | Feed)):
                continue
            if isinstance(route, Action):
                acts = True
            elif not allowed(visit.decision.role, route.permission):
                return self.frame.error(visit, 403)
            else:
                return self._load(route, self._view(visit, params), visit)
        return self.frame.error(visit, 405, headers=WRITE_ONLY) if acts else self.frame.error(visit, 404)

    def _view(self, visit: Visit, params: Mapping[str, str], fields: Mapping[str, str] | None = None) -> View:
        return View(
            database=self.database,
            project=self.project,
            role=visit.decision.role or Role.METRICS,
            who=visit.decision.who,
            params=params,
            query=tuple(QueryParams(visit.request.scope.get("query_string", b"")).multi_items()),
            fields=fields or {},
            resume=visit.request.headers.get("last-event-id", ""),
            stats=self.stats,
            config=self.config,
            variables=self.variables,
            replay=self.replay,
        )

    def _load(self, route: Route, view: View, visit: Visit) -> Response:
        with safely(f"admin page /{route.slug}"):
            try:
                with within(READ_SECONDS):
                    loaded = route.load(view)
                return self._answer(route, loaded, visit)
            except NotFound:
                return self.frame.error(visit, 404)
            except Denied:
                return self.frame.error(visit, 403)
            except ScoreError as error:
                return self.frame.error(visit, 422, str(error), field=error.field)
            except FilterError as error:
                return self.frame.unread(visit, error)
            except TooSlow:
                return self.frame.error(visit, 503, SLOW.format(seconds=READ_SECONDS))
            except StoreError:
                return self.frame.error(visit, 503)
        return self.frame.error(visit, 500)

    def _answer(self, route: Route, loaded: Any, visit: Visit) -> Response:
        if isinstance(route, Download):
            return attachment(loaded)
        if isinstance(route, Feed):
            return loaded  # type: ignore[no-any-return]
        if isinstance(loaded, Done):
            return json_answer(loaded.value, gzipped=visit.gzipped) if visit.as_json else onward(loaded, visit)
        if visit.as_json:
            return json_answer(loaded, gzipped=visit.gzipped)
        assert isinstance(route, Page)
        return self.frame.page(visit, route.template, {"page": route, "page_title": route.title, **loaded})

    # -- changing --------------------------------------------------------------------------------------------------

    async def _post(self, visit: Visit) -> Response:
        intake = self._intake(visit)
        if foreign_write(visit.request):
            # a program need not show what a browser shows; but a stranger is not told what is here
            if intake is None or not is_exporter(visit.request):
                return plain(403)
            visit = replace(visit, decision=await self.lock.decide(visit.request))
            return await self._take(intake, visit) if visit.decision.role is not None else plain(403)
        if self.signing.is_login(visit):
            return await self.signing.enter(visit)
        visit = replace(visit, decision=await self.lock.decide(visit.request))
        if visit.decision.role is None:
            return await in_thread(self.frame.refusal, visit)
        if intake is not None:
            return await self._take(intake, visit)
        if self.signing.is_logout(visit):
            return await self.signing.leave(visit)
        return await self._act(visit)

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

    async def _act(self, visit: Visit) -> Response:
        """Do what is sent to one of the actions. Nothing is read of it before the visitor is known to be allowed."""
        visit = replace(visit, as_json=visit.as_json or content_type(visit.request) == JSON)
        for route in self.routes:
            params = match(route, visit.segments) if isinstance(route, Action) else None
            if params is None:
                continue
            if not allowed(visit.decision.role, route.permission):
                return await in_thread(self.frame.error, visit, 403)
            try:
                fields = await fields_of(visit.request, LARGEST_ACTION)
            except Refused as refused:
                return await in_thread(self.frame.error, visit, refused.status)
            return await in_thread(self._load, route, self._view(visit, params, fields), visit)
        return plain(405, headers=READ_ONLY)


def onward(done: Done, visit: Visit) -> Response:
    """On to the page that an action names; anything odd in its address, which a form may hold, means the overview."""
    path, _, anchor = done.next.removeprefix("./").partition("#")
    place = visit.base + safe_next(path).removeprefix("./")
    return redirect(f"{place}#{anchor}" if anchor.isalnum() and anchor.isascii() else place)


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
