"""The one line: a plain ASGI callable that changes nothing of what passes through it."""

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from asgi_llmobs import LLMObs, LLMObsMiddleware, runtime, safely
from asgi_llmobs.capture import annotations, blocks, clients, current, decorators, incoming, recorder
from asgi_llmobs.capture.incoming import Incoming
from asgi_llmobs.capture.recorder import Recorder
from asgi_llmobs.spool import MemorySpool
from asgi_llmobs.testing import Captured, capture
from tests.calling import ask, drive, http_scope, reply

HEAVY = ("sqlmodel", "sqlalchemy", "jinja2", "genai_prices", "opentelemetry", "httpx", "httpx2", "starlette", "anyio")


@pytest.fixture(autouse=True)
def no_engine_before() -> Iterator[None]:
    """Each test makes its own engine, and leaves none behind."""
    before = runtime.current_engine()
    runtime.make_current(None)
    yield
    runtime.make_current(before)


async def calling(scope: Any, receive: Any, send: Any) -> None:
    """An app that makes one call."""
    await ask()
    await reply(send)


def stub_admin(obs: LLMObs) -> list[dict[str, Any]]:
    """Put an app in place of the admin; the scopes that it was called with."""
    seen: list[dict[str, Any]] = []

    async def admin(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await reply(send, body=b"admin")

    obs._admin = admin
    return seen


def test_a01_a_plain_asgi_callable() -> None:
    """It is no BaseHTTPMiddleware, and its call takes what a server gives."""
    assert not issubclass(LLMObsMiddleware, BaseHTTPMiddleware)
    assert list(inspect.signature(LLMObsMiddleware.__call__).parameters) == ["self", "scope", "receive", "send"]


def test_a02_unknown_types_pass_untouched(llmobs: Captured) -> None:
    """Of a type from the future the app gets the very objects that the server gave."""
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.extend((scope, receive, send))

    async def receive() -> Any: ...
    async def send(message: Any) -> None: ...

    scope = {"type": "telepathy", "path": "/_llmobs"}
    asyncio.run(LLMObsMiddleware(app, obs=LLMObs())(scope, receive, send))
    assert [id(thing) for thing in got] == [id(scope), id(receive), id(send)]
    assert scope == {"type": "telepathy", "path": "/_llmobs"}


MESSAGES: list[dict[str, Any]] = [
    {"type": "http.response.early_hint", "links": [b"</style.css>"]},
    {"type": "http.response.debug", "info": {"template": object()}},
    {
        "type": "http.response.start",
        "status": 200,
        "trailers": True,
        "headers": [(b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-Odd", b"\xff"), (b"set-cookie", b"a=1")],
    },
    {"type": "http.response.body", "body": b"x", "more_body": True},
    {"type": "http.response.zerocopysend", "file": 7, "count": 3, "more_body": True},
    {"type": "http.response.pathsend", "path": "/tmp/x"},
    {"type": "http.response.body", "body": memoryview(b"y")},
    {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")], "more_trailers": False},
    {"type": "http.response.something", "new": [1, {"a": 2}]},
    {"no": "type"},
]


def test_a11_every_message_passes_as_it_is(llmobs: Captured) -> None:
    """Known or unknown, in and out: the same objects in the same order; scope, extensions and state likewise."""
    coming = [
        {"type": "http.request", "body": b"abc", "more_body": True},
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.something"},
        {"type": "http.disconnect"},
    ]
    received: list[Any] = []
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        for _ in coming:
            received.append(await receive())
        for message in MESSAGES:
            await send(message)

    scope = http_scope(extensions={"http.response.pathsend": {}, "http.response.trailers": {}}, state={"a": object()})
    extensions, state = scope["extensions"], scope["state"]
    sent = drive(LLMObsMiddleware(app, obs=LLMObs()), scope, coming)

    assert [id(message) for message in sent] == [id(message) for message in MESSAGES]
    assert [id(message) for message in received] == [id(message) for message in coming]
    assert scopes[0] is scope and scope["extensions"] is extensions and scope["state"] is state


def test_a11_every_websocket_message_passes(llmobs: Captured) -> None:
    """The same for connections, denial responses included."""
    messages: list[dict[str, Any]] = [
        {"type": "websocket.accept", "subprotocol": "x", "headers": [(b"a", b"b")]},
        {"type": "websocket.send", "bytes": b"\x00"},
        {"type": "websocket.http.response.start", "status": 403, "headers": []},
        {"type": "websocket.http.response.body", "body": b"no"},
        {"type": "websocket.close", "code": 4001, "reason": "r"},
    ]
    receives: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        receives.append(receive)
        for message in messages:
            await send(message)

    sent = drive(LLMObsMiddleware(app, obs=LLMObs()), http_scope(type="websocket"))
    assert [id(message) for message in sent] == [id(message) for message in messages]


def test_a12_the_trace_header_is_appended_only_when_asked(llmobs: Captured) -> None:
    """Off by default; switched on it comes after all other headers, which stay in order, duplicates too."""
    app = LLMObsMiddleware(cookies, obs=LLMObs())
    before = drive(app)[0]["headers"]
    with capture(trace_header=True) as asked:
        drive_after = drive(app)[0]["headers"]
        asked.clear()

    assert before == COOKIES
    assert drive_after[:-1] == COOKIES
    assert drive_after[-1][0] == b"x-llmobs-trace-id" and len(drive_after[-1][1]) == 32


COOKIES = [(b"set-cookie", b"a=1"), (b"x-b", b"2"), (b"set-cookie", b"c=3")]


async def cookies(scope: Any, receive: Any, send: Any) -> None:
    """An app with two cookies, whose own list of headers must not change."""
    headers = list(COOKIES)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
    assert headers == COOKIES


def test_a13_the_body_is_left_to_the_app(llmobs: Captured) -> None:
    """Nothing is received unless the app asks for it."""
    asked: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ask()
        await reply(send)

    async def receive() -> Any:
        asked.append(1)
        return {"type": "http.request"}

    async def send(message: Any) -> None: ...

    asyncio.run(LLMObsMiddleware(app, obs=LLMObs())(http_scope(method="POST"), receive, send))
    assert asked == []


def test_a16_a_request_without_lifespan_starts_everything(tmp_path: Any) -> None:
    """Some servers send no lifespan: the first finished call starts the writer, and what it says is stored."""
    obs = LLMObs(f"sqlite:///{tmp_path}/llmobs.db", admin=None)
    drive(LLMObsMiddleware(calling, obs=obs))
    assert obs.flush() and obs.stats().stored == 2
    obs.close()


def test_a17_an_app_without_lifespan_stays_one(llmobs: Captured) -> None:
    """An app that raises on the lifespan scope still does, with the same exception, as servers expect."""
    refusal = NotImplementedError("no lifespan here")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise refusal

    with pytest.raises(NotImplementedError) as raised:
        drive(LLMObsMiddleware(app, obs=LLMObs()), {"type": "lifespan"}, ())
    assert raised.value is refusal


def test_the_lifespan_passes_and_stops_the_engine(tmp_path: Any) -> None:
    """Startup and shutdown reach the app, its state stays its own, and at the end everything is stored."""
    obs = LLMObs(f"sqlite:///{tmp_path}/llmobs.db", admin=None)
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["pool"] = "mine"
        for kind in ("startup", "shutdown"):
            seen.append((await receive())["type"])
            if kind == "shutdown":
                await ask()
            await send({"type": f"lifespan.{kind}.complete"})

    scope: dict[str, Any] = {"type": "lifespan", "state": {}}
    coming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = drive(LLMObsMiddleware(app, obs=obs), scope, coming)

    assert seen == ["lifespan.startup", "lifespan.shutdown"]
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert (scope["state"], obs.stats().stored) == ({"pool": "mine"}, 1)


def test_a18_added_twice_one_recording(llmobs: Captured) -> None:
    """Two lines where one was meant, and a mounted app with its own: each request is one root."""

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(await ask())

    inner = Starlette(routes=[Route("/x", endpoint)])
    inner.add_middleware(LLMObsMiddleware)
    app = Starlette(routes=[Mount("/inner", inner)])
    app.add_middleware(LLMObsMiddleware)
    app.add_middleware(LLMObsMiddleware)
    assert LLMObsMiddleware(app).obs is LLMObsMiddleware(inner).obs
    assert TestClient(app).get("/inner/x").status_code == 200

    assert [(root.name, root.route) for root in llmobs.incoming] == [("GET /inner/x", "/inner/x")]
    assert len(llmobs.requests) == 1


def test_a18_constructing_does_nothing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, no thread, however often."""
    import threading

    monkeypatch.chdir(tmp_path)
    before = threading.active_count()
    for _ in range(3):
        LLMObsMiddleware(calling, project="shop")
    assert (threading.active_count(), list(tmp_path.iterdir())) == (before, [])


def test_a33_wrapped_around_any_app(llmobs: Captured) -> None:
    """It also stands outside an app as ``app = LLMObsMiddleware(app)``."""
    app = LLMObsMiddleware(FastAPI(), obs=LLMObs(admin=None))
    assert TestClient(app).get("/docs").status_code == 200
    assert TestClient(LLMObsMiddleware(calling, obs=LLMObs())).get("/").text == "ok"
    assert len(llmobs.requests) == 1


@pytest.mark.parametrize(
    ("path", "root_path", "raw_path", "served"),
    [
        ("/_llmobs", "", None, "/_llmobs"),
        ("/_llmobs/", "", None, "/_llmobs/"),
        ("/_llmobs/requests/a b", "", b"/_llmobs/requests/a%20b", "/_llmobs/requests/a b"),
        ("/_llmobs/sessions/a/b", "", b"/_llmobs/sessions/a%2Fb", "/_llmobs/sessions/a/b"),
        ("/api/_llmobs/x", "/api", None, "/api/_llmobs/x"),  # the server puts the root path in
        ("/_llmobs/x", "/api", None, "/api/_llmobs/x"),  # the server leaves it out
        ("/_llmobs/x", "/api/", None, "/api/_llmobs/x"),
        ("/_llmobs/x", "", b"/stripped/_llmobs/x", "/_llmobs/x"),  # a proxy in between took a prefix off
        ("/_llmobsX", "", None, None),
        ("/_llmob", "", None, None),
        ("//_llmobs", "", None, None),
        ("//_llmobs/", "", b"/%2F_llmobs/", None),
        ("/_llmobs/x", "", b"/_llmobs%2Fx", None),
        ("/x/_llmobs", "", None, None),
        ("/_LLMOBS", "", None, None),
        ("/", "", None, None),
        ("", "", None, None),
        ("/api_llmobs", "/api", None, None),
    ],
)
def test_a30_where_the_admin_is(path: str, root_path: str, raw_path: bytes | None, served: str | None) -> None:
    """The admin answers below its own path only, however the server says where the app is mounted."""
    obs = LLMObs()
    seen = stub_admin(obs)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send, body=b"app")

    scope = http_scope(path=path, root_path=root_path, raw_path=path.encode() if raw_path is None else raw_path)
    body = drive(LLMObsMiddleware(app, obs=obs), dict(scope))[-1]["body"]

    assert body == (b"app" if served is None else b"admin")
    if served is not None:
        assert seen[0]["path"] == served
        assert served.startswith(seen[0]["root_path"]) and seen[0]["root_path"].endswith("/_llmobs")


def test_a30_a_websocket_below_the_path_is_the_apps() -> None:
    """The admin has no WebSockets."""
    obs = LLMObs()
    seen = stub_admin(obs)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})

    drive(LLMObsMiddleware(app, obs=obs), http_scope(type="websocket", path="/_llmobs"))
    assert seen == []


@pytest.mark.parametrize(("options", "path"), [({"admin": None}, None), ({"admin": "/x/y/"}, "/x/y"), ({}, "/_llmobs")])
def test_the_admin_path_is_an_option(options: dict[str, Any], path: str | None) -> None:
    """It can be elsewhere, or nowhere."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send, body=b"app")

    middleware = LLMObsMiddleware(app, **options)
    seen = stub_admin(middleware.obs)
    for asked in ("/_llmobs", "/x/y", "/x/y/z"):
        drive(middleware, http_scope(path=asked))
    assert sorted({scope["root_path"] for scope in seen}) == ([path] if path else [])


def test_a27_the_admin_is_not_recorded(llmobs: Captured) -> None:
    """What its visitors do is no traffic of the app."""
    obs = LLMObs()

    async def admin(scope: Any, receive: Any, send: Any) -> None:
        await calling(scope, receive, send)

    obs._admin = admin
    drive(LLMObsMiddleware(calling, obs=obs), http_scope(path="/_llmobs/"))
    assert llmobs.incoming == []


RESPONSES = {
    "head": ("HEAD", Response(b"", headers={"content-length": "5"})),
    "options": ("OPTIONS", Response(status_code=204)),
    "not-modified": ("GET", Response(status_code=304, headers={"etag": "x"})),
    "wrong-length": ("GET", Response(b"abc", headers={"content-length": "7"})),
    "plain": ("GET", PlainTextResponse("é")),
    "empty": ("DELETE", Response(b"")),
}


@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("with_call", [False, True])
def test_a31_the_response_is_what_it_is_without_us(name: str, with_call: bool, llmobs: Captured) -> None:
    """Status, headers and chunks are equal with and without the middleware."""
    method, response = RESPONSES[name]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if with_call:
            await ask()
        await response(scope, receive, send)

    scope = http_scope(method=method, path=f"/{name}")
    assert drive(app, dict(scope)) == drive(LLMObsMiddleware(app, obs=LLMObs()), dict(scope))


def test_a31_a_stream_keeps_its_chunks(llmobs: Captured) -> None:
    """Chunk boundaries are the app's."""

    def app() -> Any:
        async def pieces() -> Any:
            for piece in (b"a", b"", b"bc", b"\xff"):
                yield piece

        return StreamingResponse(pieces())

    # a client that stays: a stream is cancelled when its client goes
    async def serve(target: Any) -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            await asyncio.sleep(3600)

        async def send(message: Any) -> None:
            sent.append(message)

        await target(http_scope(), receive, send)
        return sent

    assert asyncio.run(serve(app())) == asyncio.run(serve(LLMObsMiddleware(app(), obs=LLMObs())))


def test_a32_importing_loads_nothing() -> None:
    """The databases, templates, prices and clients wait for their first use; so do Starlette and AnyIO."""
    code = f"import sys, asgi_llmobs; print([name for name in {HEAVY!r} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (printed.stdout.strip(), printed.stderr) == ("[]", "")


def test_p2_nothing_is_said(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """No banner at import, at the middleware or at the first call; nothing is logged."""
    code = """
import asyncio, logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
logging.getLogger("httpx").setLevel(logging.WARNING)
sys.path.insert(0, ".")
from asgi_llmobs import LLMObs, LLMObsMiddleware
from tests.calling import ask, drive, reply
async def app(scope, receive, send):
    await ask()
    await reply(send)
obs = LLMObs("sqlite://")
drive(LLMObsMiddleware(app, obs=obs))
obs.close()
assert obs.stats().stored == 2
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_p5_the_global_tracer_provider_is_left_alone() -> None:
    """What OpenTelemetry the host has set up stays as it is, and none is set up by us."""
    code = """
import sys
sys.path.insert(0, ".")
from opentelemetry import trace
from opentelemetry.trace import ProxyTracerProvider
from asgi_llmobs import LLMObs, LLMObsMiddleware
from tests.calling import ask, drive, reply
async def app(scope, receive, send):
    await ask()
    await reply(send)
before = trace.get_tracer_provider()
obs = LLMObs("sqlite://")
drive(LLMObsMiddleware(app, obs=obs))
obs.close()
assert trace.get_tracer_provider() is before and isinstance(before, ProxyTracerProvider)
assert trace._TRACER_PROVIDER is None
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# A29: a bug in any function of ours


FUNCTIONS = [
    (LLMObsMiddleware, "_admin_scope"),
    (LLMObs, "start"),
    (LLMObs, "close"),
    (incoming, "arrive"),
    (incoming, "trusted"),
    (incoming, "believe"),
    (incoming, "networks"),
    (incoming, "text_or_none"),
    (incoming, "has_identity"),
    (incoming, "effective"),
    (incoming, "otel_parent"),
    (incoming, "new_span_id"),
    (incoming, "new_trace_id"),
    (incoming, "safe_text"),
    (incoming, "ended_by"),
    (incoming, "message_of"),
    (Incoming, "__init__"),
    (Incoming, "admit"),
    (Incoming, "first"),
    (Incoming, "route"),
    (Incoming, "sent"),
    (Incoming, "received"),
    (Incoming, "finish"),
    (Incoming, "open_root"),
    (Incoming, "over"),
    (Incoming, "_identify"),
    (Incoming, "_record"),
    (Incoming, "_span"),
    (Incoming, "_attributes"),
    (Incoming, "_http_outcome"),
    (annotations, "read"),
    (annotations, "valid_trace_id"),
    (recorder, "otel_suppressed"),
    (Recorder, "samples"),
    (Recorder, "new_trace"),
    (Recorder, "begin"),
    (Recorder, "finish"),
    (Recorder, "record"),
    (Recorder, "match"),
    (MemorySpool, "begin"),
    (MemorySpool, "put"),
    (clients, "instrument"),
    (blocks, "as_text"),
    (blocks, "texts"),
    (blocks, "caller"),
    (blocks, "active_recorder"),
    (blocks, "instrument_for"),
    (blocks, "new_span_id"),
    (blocks, "outcome_of"),
    (blocks, "current_place"),
    (blocks, "traceback_of"),
    (current, "current_place"),
    (blocks.OpenSpan, "begin"),
    (blocks.OpenSpan, "_span"),
    (blocks.OpenSpan, "_text"),
    (decorators.Observed, "arguments"),
    (decorators.Items, "add"),
    (decorators.Items, "value"),
]


@pytest.mark.parametrize(("owner", "name"), FUNCTIONS, ids=[f"{o.__name__.rsplit('.')[-1]}.{n}" for o, n in FUNCTIONS])
def test_a29_a_bug_of_ours_stays_ours(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever function of ours fails, the app answers as ever, its calls work, its exceptions are its own."""

    @decorators.observe(kind="tool", plan="x")
    def tool(question: str) -> list[str]:
        return [question]

    @decorators.observe
    async def stream() -> Any:
        yield "a"
        yield {"b": 1}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        await receive()
        current.annotate(user="ada")
        with blocks.span("work", kind="chain"), blocks.trace("own"):
            assert await ask("hi", **{"LLMObs-User-Id": "u"}) == "hi"
        assert tool("q") == ["q"]
        assert [item async for item in stream()] == ["a", {"b": 1}]
        current.current_trace_id()
        await reply(send)
        if scope["path"] == "/boom":
            raise ZeroDivisionError

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a bug of ours")

    headers = [(b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")]
    scope = http_scope(headers=headers, path="/x", client=("10.0.0.1", 1))
    coming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    with capture(trust_inbound=["10.0.0.0/8"], session=lambda scope: "s"):
        expected = drive(app, dict(scope))
        middleware = LLMObsMiddleware(app, obs=LLMObs("sqlite://"))
        middleware.obs._admin = app
        monkeypatch.setattr(owner, name, fail)
        monkeypatch.setattr(safely.logger, "warning", lambda *args: None)
        assert drive(middleware, dict(scope)) == expected
        with pytest.raises(ZeroDivisionError):
            drive(middleware, {**scope, "path": "/boom"})
        assert len(drive(middleware, {"type": "lifespan"}, coming)) == 2
        monkeypatch.undo()
