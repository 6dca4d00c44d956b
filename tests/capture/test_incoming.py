"""One trace for each incoming request, wherever its calls are made: what the app sees, and what is recorded."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route, Router
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from asgi_llmobs import LLMObs, LLMObsMiddleware, annotate, current, current_trace_id, propagate, span, suppress
from asgi_llmobs import context as contexts
from asgi_llmobs.records import Kind, Outcome, Span
from asgi_llmobs.records import Request as Call
from asgi_llmobs.testing import Captured, capture
from tests.calling import ask, ask_sync, drive, http_scope, reply


def traced(app: Any) -> Any:
    """*app* inside the middleware, without an admin."""
    return LLMObsMiddleware(app, obs=LLMObs(admin=None))


def one_tree(llmobs: Captured) -> tuple[Span, list[Call]]:
    """The root and its calls, after looking that every call hangs on it."""
    (root,) = llmobs.incoming
    calls = llmobs.requests
    assert calls, "no call was recorded"
    assert {call.trace_id for call in calls} == {root.trace_id}
    return root, calls


# where an app makes its calls (A4)


def all_places() -> FastAPI:
    """An app with an endpoint for each place that a call can be made in."""
    app = FastAPI()

    async def dependency() -> str:
        return await ask("dependency")

    def sync_dependency() -> str:
        return ask_sync("sync dependency")

    async def leaving() -> AsyncIterator[None]:
        yield
        await ask("exit")

    def leaving_sync() -> Iterator[None]:
        yield
        ask_sync("sync exit")

    @app.get("/endpoint")
    async def endpoint() -> str:
        return await ask("endpoint")

    @app.get("/sync-endpoint")
    def sync_endpoint() -> str:
        return ask_sync("sync endpoint")

    @app.get("/dependency")
    async def with_dependency(said: Annotated[str, Depends(dependency)]) -> str:
        return said

    @app.get("/sync-dependency")
    async def with_sync_dependency(said: Annotated[str, Depends(sync_dependency)]) -> str:
        return said

    @app.get("/exit")
    async def with_exit(_: Annotated[None, Depends(leaving)]) -> str:
        return "left"

    @app.get("/sync-exit")
    async def with_sync_exit(_: Annotated[None, Depends(leaving_sync)]) -> str:
        return "left"

    @app.get("/task")
    async def task() -> str:
        return await asyncio.create_task(ask("task"))

    @app.get("/gather")
    async def gather() -> list[str]:
        return list(await asyncio.gather(ask("one"), ask("two"), ask("three")))

    @app.get("/thread")
    async def thread() -> str:
        return await asyncio.to_thread(ask_sync, "thread")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            for text in ("a", "b"):
                yield await ask(text)

        return StreamingResponse(body())

    @app.get("/sync-stream")
    async def sync_stream() -> StreamingResponse:
        def body() -> Iterator[str]:
            for text in ("a", "b"):
                yield ask_sync(text)

        return StreamingResponse(body())

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> str:
        tasks.add_task(ask, "background")
        tasks.add_task(ask_sync, "sync background")
        return "soon"

    @app.get("/executor")
    async def executor() -> str:
        return await asyncio.get_running_loop().run_in_executor(None, propagate(ask_sync), "executor")

    @app.get("/raw-thread")
    def raw_thread() -> str:
        worker = threading.Thread(target=propagate(ask_sync), args=("thread",))
        worker.start()
        worker.join()
        return "done"

    @app.get("/pool")
    def pool() -> list[str]:
        with ThreadPoolExecutor(3) as workers:
            return list(workers.map(propagate(ask_sync), ["1", "2", "3"]))

    @app.get("/loop-in-thread")
    def loop_in_thread() -> str:
        with ThreadPoolExecutor(1) as workers:
            return workers.submit(asyncio.run, propagate(ask)("loop")).result()

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await ask("socket"))
        await websocket.close()

    app.add_middleware(LLMObsMiddleware, obs=LLMObs(admin=None))
    return app


PLACES = {
    "endpoint": 1, "sync-endpoint": 1, "dependency": 1, "sync-dependency": 1, "exit": 1, "sync-exit": 1, "task": 1,
    "gather": 3, "thread": 1, "stream": 2, "sync-stream": 2, "background": 2, "executor": 1, "raw-thread": 1, "pool": 3,
    "loop-in-thread": 1,
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a04_calls_belong_to_the_request(place: str, llmobs: Captured) -> None:
    """Wherever the app makes its calls, they hang below the request that caused them."""
    with TestClient(all_places()) as client:
        assert client.get(f"/{place}").status_code == 200
    root, calls = one_tree(llmobs)

    assert len(calls) == PLACES[place]
    assert {call.parent_id for call in calls} == {root.id}
    assert (root.name, root.status, root.outcome, root.route) == (f"GET /{place}", 200, "ok", f"/{place}")


def test_a04_calls_belong_to_the_websocket(llmobs: Captured) -> None:
    """A connection is a trace as a request is."""
    with TestClient(all_places()) as client, client.websocket_connect("/socket") as socket:
        assert socket.receive_text() == "socket"
    root, (call,) = one_tree(llmobs)

    assert (root.kind, root.name, root.status, root.outcome) == (Kind.WEBSOCKET, "WEBSOCKET /socket", 101, "ok")
    assert call.parent_id == root.id


@pytest.mark.parametrize("where", ["executor", "thread", "pool"])
def test_a05_without_propagate_a_call_stands_alone(where: str, llmobs: Captured) -> None:
    """Executors and threads lose the context: the call is recorded in a trace of its own, under nobody's request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if where == "executor":
            await asyncio.get_running_loop().run_in_executor(None, ask_sync)
        elif where == "pool":
            with ThreadPoolExecutor(1) as workers:
                workers.submit(ask_sync).result()
        else:
            worker = threading.Thread(target=ask_sync)
            worker.start()
            worker.join()
        await reply(send)

    drive(traced(app))
    (call,) = llmobs.requests

    assert llmobs.incoming == []
    assert call.parent_id is None


def test_a06_concurrent_requests_stay_apart(llmobs: Captured) -> None:
    """Of three hundred requests at once each has its own call, user and session."""
    seen: dict[str, str | None] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        name = scope["path"].strip("/")
        await asyncio.sleep(0)
        annotate(user=f"user-{name}", session=f"session-{name}", canary=name)
        await asyncio.sleep(int(name) % 7 / 1000)
        seen[name] = current_trace_id()
        assert await ask(name) == name
        await reply(send)

    wrapped = traced(app)

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def everybody() -> None:
        await asyncio.gather(*(wrapped(http_scope(path=f"/{number}"), receive, send) for number in range(300)))

    asyncio.run(everybody())
    calls = {call.text: call for call in llmobs.requests}

    assert len(set(seen.values())) == len(calls) == 300
    for name, call in calls.items():
        assert (call.trace_id, call.user_id, call.session_id) == (seen[name], f"user-{name}", f"session-{name}")
        assert call.properties == {"canary": name}


@pytest.mark.parametrize("inside", [True, False])
def test_base_http_middleware_around_or_inside(inside: bool, llmobs: Captured) -> None:
    """Another kind of middleware, above or below, does not break the link."""

    class Other(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            return await call_next(request)

    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await ask())

    app = Starlette(routes=[Route("/x/{y}", endpoint)])
    app.add_middleware(Other) if inside else app.add_middleware(LLMObsMiddleware, obs=LLMObs())
    app.add_middleware(LLMObsMiddleware, obs=LLMObs()) if inside else app.add_middleware(Other)
    assert TestClient(app).get("/x/1").text == "hello"
    root, (call,) = one_tree(llmobs)

    assert (root.route, call.route) == ("/x/{y}", "/x/{y}")


def test_a_task_that_outlives_its_request_brings_the_root(llmobs: Captured) -> None:
    """The first call is made after the response: request and call are one trace all the same."""
    later: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def work() -> None:
            await asyncio.sleep(0.02)
            await ask("late")

        later.append(asyncio.create_task(work()))
        await reply(send)

    async def serve() -> None:
        async def nothing(*message: Any) -> Any:
            return {"type": "http.request", "body": b""}

        await traced(app)(http_scope(path="/late"), nothing, nothing)
        await later[0]

    asyncio.run(serve())
    root, (call,) = one_tree(llmobs)

    assert call.parent_id == root.id
    assert (root.name, root.outcome, root.status) == ("GET /late", "ok", 200)
    assert root.duration_ns is not None and root.duration_ns < 20_000_000


def test_a_worker_started_in_a_request_is_not_its_for_ever(llmobs: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a task does long after its request belongs to nobody's request."""
    monkeypatch.setattr(contexts, "GRACE_NS", 1_000_000)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ask("in time")
        await reply(send)
        scope["later"].append(propagate(ask_sync))

    later: list[Callable[..., Any]] = []
    drive(traced(app), http_scope(later=later))
    threading.Event().wait(0.01)
    later[0]("much later")
    first, second = llmobs.requests

    assert (second.text, second.parent_id) == ("much later", None)
    assert first.trace_id != second.trace_id


# how a request ends


def test_a07_an_exception_passes_and_is_a_500(llmobs: Captured) -> None:
    """The app's exception comes out as the same object, at most one frame deeper, and the root says 500."""
    boom = RuntimeError("boom")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ask()
        raise boom

    def depth() -> int:
        trace, count = boom.__traceback__, 0
        while trace is not None:
            trace, count = trace.tb_next, count + 1
        return count

    with pytest.raises(RuntimeError) as bare:
        drive(app)
    without = depth()
    boom.__traceback__ = None
    with pytest.raises(RuntimeError) as raised:
        drive(traced(app))
    (root,) = llmobs.incoming

    assert bare.value is raised.value is boom
    assert boom.__context__ is None and boom.__cause__ is None
    assert depth() <= without + 2  # middleware and the function that watches
    assert (root.status, root.outcome, root.error_type, root.error_message) == (500, "error", "RuntimeError", "boom")


def test_a07_the_answer_of_the_error_middleware(llmobs: Captured) -> None:
    """In an app the 500 is made outside of us; status, route and outcome are right all the same."""

    async def endpoint(request: Request) -> PlainTextResponse:
        await ask()
        raise ValueError("no")

    app = Starlette(routes=[Route("/x", endpoint)])
    app.add_middleware(LLMObsMiddleware, obs=LLMObs())
    assert TestClient(app, raise_server_exceptions=False).get("/x").status_code == 500
    root, _ = one_tree(llmobs)

    assert (root.status, root.outcome, root.route) == (500, "error", "/x")


def test_an_exception_whose_text_fails(llmobs: Captured) -> None:
    """An exception of the app that cannot even be printed is recorded and passes."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise KeyError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ask()
        raise Odd

    with pytest.raises(Odd):
        drive(traced(app))
    assert (llmobs.incoming[0].error_type, llmobs.incoming[0].outcome) == ("Odd", "error")


@pytest.mark.parametrize(
    ("messages", "error", "expected"),
    [
        (["start", "more"], None, "cancelled"),  # the server cancelled the stream and swallowed it (A8)
        (["start", "more", "end"], None, "ok"),
        (["start", "pathsend"], None, "ok"),
        (["start", "zerocopysend"], None, "ok"),
        (["fail", "end"], None, "error"),
        (["start", "end"], RuntimeError(), "error"),
        (["start", "more"], asyncio.CancelledError(), "cancelled"),
        ([], asyncio.CancelledError(), "cancelled"),
        (["start", "more"], ClientDisconnect(), "cancelled"),
    ],
)
def test_a08_how_a_request_ended(
    messages: list[str], error: BaseException | None, expected: str, llmobs: Captured
) -> None:
    """The outcome follows from what was sent and how the app returned."""
    known: dict[str, dict[str, Any]] = {
        "start": {"type": "http.response.start", "status": 200, "headers": []},
        "fail": {"type": "http.response.start", "status": 503, "headers": []},
        "more": {"type": "http.response.body", "body": b"x", "more_body": True},
        "end": {"type": "http.response.body", "body": b""},
        "pathsend": {"type": "http.response.pathsend", "path": "/file"},
        "zerocopysend": {"type": "http.response.zerocopysend", "file": 3},
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ask()
        for name in messages:
            await send(known[name])
        if error is not None:
            raise error

    if error is None:
        drive(traced(app))
    else:
        with pytest.raises(type(error)):
            drive(traced(app))
    root, _ = one_tree(llmobs)

    assert root.outcome == expected


def test_a08_a_disconnect_that_the_app_was_told(llmobs: Captured) -> None:
    """A stream whose app saw the client leave is cancelled, and so is the call that it gave up at that moment."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with span("open stream"):
            while (await receive())["type"] != "http.disconnect":
                pass

    drive(traced(app))
    assert llmobs.incoming[0].outcome == "cancelled"


def test_a08_a_websocket_whose_client_leaves_is_no_failure(llmobs: Captured) -> None:
    """The framework tells a disconnect by an exception: it is not an error of the app."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await ask()
        raise WebSocketDisconnect(1001)

    with pytest.raises(WebSocketDisconnect):
        drive(traced(app), http_scope(type="websocket"))
    assert llmobs.incoming[0].outcome == "cancelled"


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([{"type": "websocket.close", "code": 1000}], 403),
        (
            [
                {"type": "websocket.http.response.start", "status": 429, "headers": []},
                {"type": "websocket.http.response.body", "body": b"no"},
            ],
            429,
        ),
        ([{"type": "websocket.accept"}, {"type": "websocket.close"}], 101),
    ],
)
def test_a_websocket_that_is_refused(messages: list[dict[str, Any]], status: int, llmobs: Captured) -> None:
    """The status is what the client was answered at the handshake."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ask()
        for message in messages:
            await send(message)

    scope = http_scope(type="websocket")
    del scope["method"]
    assert drive(traced(app), scope) == messages
    assert (llmobs.incoming[0].status, llmobs.incoming[0].outcome) == (status, "ok")


def test_a10_cancellation_passes_at_once(llmobs: Captured) -> None:
    """A cancelled request ends as it does without us: no await of ours stands between."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ask()
        await asyncio.sleep(60)

    async def cancelled(target: Any) -> int:
        steps = 0

        async def nothing(*_: Any) -> Any:
            return {"type": "http.request", "body": b""}

        task = asyncio.create_task(target(http_scope(), nothing, nothing))
        while not llmobs.obs.stats().captured:
            await asyncio.sleep(0.001)
        task.cancel()
        while not task.done():
            await asyncio.sleep(0)
            steps += 1
        assert task.cancelled()
        return steps

    assert asyncio.run(cancelled(traced(app))) <= 1
    assert [root.outcome for root in llmobs.incoming] == ["cancelled"]


# what the root says


def test_a14_the_route_below_mounts_and_routers(llmobs: Captured) -> None:
    """The template is whole, from the outermost mount to the innermost route; without a match there is none."""

    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await ask())

    async def missing(scope: Any, receive: Any, send: Any) -> None:
        await ask()
        await reply(send, 404)

    inner = Starlette(routes=[Route("/deep/{b}", endpoint)])
    api = FastAPI()
    api.add_api_route("/items/{item_id}", endpoint)
    router = Router(
        [Mount("/a/{a}", inner), Route("/top", endpoint), Mount("/api", api), Mount("/none", app=missing)],
        default=missing,
    )
    client = TestClient(traced(router), root_path="/prefix")
    for path in ("/a/1/deep/2", "/top", "/api/items/7", "/nowhere/42"):
        client.get("/prefix" + path)

    assert [root.route for root in llmobs.incoming] == ["/a/{a}/deep/{b}", "/top", "/api/items/{item_id}", None]
    assert [root.name for root in llmobs.incoming][-1] == "GET /prefix/nowhere/42"
    assert [call.route for call in llmobs.requests] == ["/a/{a}/deep/{b}", "/top", "/api/items/{item_id}", None]


@pytest.mark.parametrize("client", [None, ["10.0.0.1", 80], ("10.0.0.1", "80"), ("unix:", None), [], ("", 0)])
def test_a15_odd_scopes(client: Any, llmobs: Captured) -> None:
    """A client that is no address, and a scope with only what the specification demands, are no trouble."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["client"] == client
        await ask()
        await reply(send)

    scope = {"type": "http", "path": "/x", "method": "GET", "headers": [], "query_string": b"", "client": client}
    assert len(drive(LLMObsMiddleware(app, obs=LLMObs(trust_inbound=["10.0.0.0/8"])), scope)) == 2
    assert one_tree(llmobs)[0].name == "GET /x"


class Members(AuthenticationBackend):
    """Lets everybody in under one name."""

    def __init__(self, user: BaseUser) -> None:
        self.user = user

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser]:
        return AuthCredentials(), self.user


def test_a19_the_user_that_inner_middleware_found(llmobs: Captured) -> None:
    """We stand outside of the authentication, yet root and call know the user that it found."""

    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await ask())

    app = Starlette(routes=[Route("/", endpoint)])
    app.add_middleware(AuthenticationMiddleware, backend=Members(SimpleUser("ada")))
    app.add_middleware(LLMObsMiddleware, obs=LLMObs())
    TestClient(app).get("/")
    root, (call,) = one_tree(llmobs)

    assert (root.user_id, call.user_id) == ("ada", "ada")


def test_the_app_names_session_and_user_from_the_scope() -> None:
    """Callables over the scope name both, for the root and for the calls; one that fails is no trouble."""

    def user(scope: Any) -> str:
        raise LookupError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ask()
        await reply(send)

    with capture(session=lambda scope: scope["path"][1:], user=user) as llmobs:
        assert len(drive(traced(app), http_scope(path="/s-1"))) == 2
        root, (call,) = one_tree(llmobs)

    assert (root.session_id, call.session_id, root.user_id) == ("s-1", "s-1", None)
    assert "user of the request" in llmobs.obs.stats().failures


def test_a27_requests_without_calls_leave_nothing(llmobs: Captured) -> None:
    """Health checks, static files and the rest are not recorded."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        annotate(user="somebody")
        await reply(send)

    for _ in range(5):
        drive(traced(app))
    assert (llmobs.spans, llmobs.obs.stats().captured) == ([], 0)


def test_a_plain_request_leaves_no_cycles(llmobs: Captured) -> None:
    """What is noted of a request is freed with it, not by the garbage collector."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send)

    def traces() -> int:
        return sum(isinstance(thing, contexts.Trace) for thing in gc.get_objects())

    gc.collect()
    before = traces()
    gc.disable()
    try:
        for _ in range(10):
            drive(traced(app))
        assert traces() == before
    finally:
        gc.enable()


def test_a28_suppressed_by_us_and_by_opentelemetry(llmobs: Captured) -> None:
    """Inside either kind of suppression nothing is recorded."""
    from opentelemetry import context as otel

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with suppress():
            await ask("ours")
            with span("ours"):
                pass
        token = otel.attach(otel.set_value("suppress_instrumentation", True))
        await ask("theirs")
        with span("theirs"):
            pass
        otel.detach(token)
        await reply(send)

    drive(traced(app))
    assert llmobs.spans == []


# whom we believe (A34, A36)


INBOUND = [
    (b"llmobs-user-id", b"mallory"),
    (b"Helicone-Session-Id", b"stolen"),
    (b"helicone-property-tier", b"gold"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"baggage", b"user.id=mallory"),
]


async def calling(scope: Any, receive: Any, send: Any) -> None:
    """An app that makes one call."""
    await ask()
    await reply(send)


def test_a34_a_stranger_changes_nothing(llmobs: Captured) -> None:
    """Headers of a public client name no user, no session, no property, and no trace; its traceparent is only noted."""
    drive(traced(calling), http_scope(headers=INBOUND))
    root, (call,) = one_tree(llmobs)

    for record in (root, call):
        assert (record.user_id, record.session_id, dict(record.properties)) == (None, None, {})
    assert root.trace_id != "0af7651916cd43dd8448eb211c80319c"
    assert root.attributes["inbound_traceparent"] == INBOUND[3][1].decode()


@pytest.mark.parametrize(
    ("rule", "client", "believed"),
    [
        (True, None, True),
        (True, ("203.0.113.9", 1), True),
        (["10.0.0.0/8", "::1"], ("10.1.2.3", 1), True),
        (["10.0.0.0/8", "::1"], ("::1", 1), True),
        (["10.0.0.0/8"], ("::ffff:10.1.2.3", 1), True),
        (["10.0.0.0/8"], ("11.1.2.3", 1), False),
        (["10.0.0.0/8"], None, False),
        (["10.0.0.0/8"], ["10.0.0.1", 5], True),
        (["testclient", "10.0.0.0/8"], ("10.0.0.1", 5), True),
        (["testclient"], ("testclient", 5), True),
        (["testclient"], ("10.0.0.1", 5), False),
        ([], ("10.0.0.1", 5), False),
    ],
)
def test_a34_only_trusted_peers_are_believed(rule: Any, client: Any, believed: bool) -> None:
    """``trust_inbound`` is all, none, or a list of networks, and goes by the peer of the connection."""
    with capture(trust_inbound=rule) as llmobs:
        drive(traced(calling), http_scope(headers=INBOUND, client=client))
        root, (call,) = one_tree(llmobs)

    assert (root.user_id == "mallory", call.session_id == "stolen") == (believed, believed)
    assert (root.trace_id == "0af7651916cd43dd8448eb211c80319c") is believed
    assert (dict(call.properties) == {"tier": "gold"}) is believed


@pytest.mark.parametrize(
    "traceparent",
    [
        b"",
        b"garbage",
        b"00-0af7-b7ad-01",
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"ff-" + b"a" * 32 + b"-" + b"b" * 16,
        b"00-" + b"A" * 32 + b"-b7ad6b7169203331-01",
        b"00-" + b"\xff" * 32 + b"-" + b"b" * 16 + b"-01",
        b"9" * 100_000,
    ],
)
def test_a34_broken_trace_ids_are_not_used(traceparent: bytes) -> None:
    """What is no valid ``traceparent`` is not taken over even from a trusted peer."""
    with capture(trust_inbound=True) as llmobs:
        drive(traced(calling), http_scope(headers=[(b"traceparent", traceparent)]))
        root, _ = one_tree(llmobs)

    assert len(root.trace_id) == 32 and "inbound_traceparent" not in root.attributes


def test_a34_a_trace_that_grows_without_end_is_cut(llmobs: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit spans are counted as dropped, the root says so, and the app notices nothing."""
    monkeypatch.setattr(contexts, "MAX_SPANS", 3)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for number in range(10):
            assert await ask(str(number)) == str(number)
        await reply(send)

    drive(traced(app))
    root, calls = one_tree(llmobs)
    stats = llmobs.obs.stats()

    assert (len(calls), root.attributes["truncated_spans"]) == (3, 7)
    assert stats.dropped == {"trace full": 7}
    assert stats.captured == stats.stored + stats.spooled + 7


def test_sampled_out_is_out_in_whole() -> None:
    """Of a trace that is not sampled nothing is kept, neither calls nor root nor spans; nothing counts as lost."""
    with capture(sample=0.0) as llmobs:
        drive(traced(calling))
        with span("script"):
            ask_sync()
        assert (llmobs.spans, llmobs.obs.stats().captured) == ([], 0)


# what is said late


def test_late_annotation_reaches_the_calls_before_it(llmobs: Captured) -> None:
    """Session and user that the app learns only after a call are its session and user too; what it said stays."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ask("first")
        with span("tool", plan="own"):
            pass
        llmobs.obs.flush()  # they are stored before anything is known
        annotate(session="s", session_name="a talk", session_path="/a", user="u", plan="pro", name="chat turn")
        await ask("second", **{"LLMObs-User-Id": "someone else"})
        await reply(send)

    drive(traced(app))
    root, (first, second) = one_tree(llmobs)
    tool = next(record for record in llmobs.spans if record.name == "tool")

    assert root.name == "chat turn"
    for record in (root, first, tool):
        assert (record.session_id, record.session_name, record.session_path) == ("s", "a talk", "/a")
        assert record.user_id == "u"
    assert (first.properties, tool.properties["plan"], second.user_id) == ({"plan": "pro"}, "own", "someone else")


def test_annotation_before_the_call_costs_no_second_write(llmobs: Captured) -> None:
    """Where everything was said in time, nothing is to be put on other spans afterwards."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        annotate(session="s")
        await ask()
        await reply(send)

    drive(traced(app))
    assert [record.spread for record in llmobs.spans] == [False, False]


def test_a03_annotation_in_a_sync_dependency(llmobs: Captured) -> None:
    """It runs in another thread with a copy of the context; what it says reaches root and calls."""
    app = FastAPI()

    def who() -> None:
        annotate(user="ada", session="s-9")

    @app.get("/")
    async def endpoint(_: Annotated[None, Depends(who)]) -> str:
        now = current()
        assert now is not None and (now.user_id, now.session_id) == ("ada", "s-9")
        return await ask()

    app.add_middleware(LLMObsMiddleware, obs=LLMObs())
    assert TestClient(app).get("/").status_code == 200
    root, (call,) = one_tree(llmobs)

    assert (root.user_id, call.user_id, call.session_id) == ("ada", "ada", "s-9")
    assert current() is None


# together with OpenTelemetry


def test_the_trace_id_of_a_host_span_is_adopted(llmobs: Captured) -> None:
    """Where the host traces with OpenTelemetry both trees have one id, and its provider stays what it was."""
    from opentelemetry import trace as otel
    from opentelemetry.sdk.trace import TracerProvider

    before = otel.get_tracer_provider()
    tracer = TracerProvider().get_tracer("host")
    with tracer.start_as_current_span("server") as host:
        drive(traced(calling))
    root, _ = one_tree(llmobs)

    assert root.trace_id == f"{host.get_span_context().trace_id:032x}"
    assert otel.get_tracer_provider() is before


def test_a_json_endpoint_gets_its_trace_id(llmobs: Captured) -> None:
    """The app can hand out the id of the trace it is in."""

    async def endpoint(request: Request) -> JSONResponse:
        await ask()
        return JSONResponse(current_trace_id())

    app = Starlette(routes=[Route("/", endpoint)])
    app.add_middleware(LLMObsMiddleware, obs=LLMObs())
    assert TestClient(app).get("/").json() == one_tree(llmobs)[0].trace_id


def test_a_call_that_runs_long_shows_its_root(llmobs: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the app has answered, calls hang on a root that is running; later it is the finished one."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ask()
        roots = llmobs.incoming
        assert [(root.outcome, root.duration_ns) for root in roots] == [(Outcome.RUNNING, None)]
        await reply(send)

    drive(traced(app))
    assert [root.outcome for root in llmobs.incoming] == ["ok"]
