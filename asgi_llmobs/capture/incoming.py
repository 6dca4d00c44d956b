"""The ASGI side: one trace for each incoming request, written only when something LLM happened in it."""

import ipaddress
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from asgi_llmobs.capture import annotations
from asgi_llmobs.capture.outbound import is_cancelled
from asgi_llmobs.capture.recorder import Recorder, effective, otel_parent
from asgi_llmobs.context import Place, Trace, new_span_id, place
from asgi_llmobs.records import Kind, Outcome, Span
from asgi_llmobs.redaction import safe_text
from asgi_llmobs.safely import guarded, safely

__all__ = ["MARKER", "Incoming", "watch"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MARKER = "llmobs"
TRACE_HEADER = b"x-llmobs-trace-id"


class Incoming:
    """What is noted of one HTTP request or WebSocket connection while the app answers it."""

    __slots__ = (
        "_clock",
        "_start",
        "ended",
        "method",
        "path",
        "recorder",
        "root_path",
        "scope",
        "span_id",
        "started",
        "status",
        "trace",
    )

    def __init__(self, scope: Scope, recorder: Recorder) -> None:
        self.scope = scope
        self.recorder = recorder
        # routing changes the scope in place: what is needed of it is kept as it was
        self.method = scope.get("method", "WEBSOCKET")
        self.path = scope.get("path", "")
        self.root_path = scope.get("root_path", "")
        self.status: int | None = None
        self.started = self.ended = False
        self._start = time.time_ns()
        self._clock = time.monotonic_ns()
        self.span_id = new_span_id()
        joined = otel_parent()
        self.trace: Trace = recorder.new_trace(joined[0] if joined else None)
        self.trace.route_of = self.route
        self.trace.root = self.running

    def route(self) -> str | None:
        """The route's template below every mount, ``None`` while or where no route matched."""
        route = self.scope.get("route")
        template = getattr(route, "path", None)
        if not isinstance(template, str):
            return None
        root = str(self.scope.get("root_path") or "")
        return root.removeprefix(self.root_path) + template

    def sent(self, message: Message) -> None:
        """A message goes out to the server."""
        kind = message["type"]
        if kind == "http.response.body":
            if not message.get("more_body", False):
                self.ended = True
        elif kind == "http.response.start":
            self.started = True
            self.status = message.get("status")
        elif kind in ("http.response.pathsend", "websocket.close"):
            self.ended = True
            if kind == "websocket.close" and not self.started:
                self.status = 403
        elif kind == "websocket.accept":
            self.started = True
            self.status = 101

    def finish(self, error: BaseException | None) -> None:
        """The app has returned. Without a span below it nothing is recorded."""
        trace = self.trace
        trace.ended_clock_ns = time.monotonic_ns()
        outcome, status = Outcome.OK, self.status
        if error is not None:
            outcome = Outcome.CANCELLED if is_cancelled(error) else Outcome.ERROR
            if status is None and outcome is Outcome.ERROR and self.scope["type"] == "http":
                status = 500  # the answer is made outside of us, by the server error middleware
        elif self.scope["type"] == "http" and self.started and not self.ended:
            # servers cancel the stream and let the app return as if nothing had happened
            outcome = Outcome.CANCELLED
            trace.client_gone = True
        elif status is not None and status >= 500:
            outcome = Outcome.ERROR
        if trace.spans == 0:
            return
        with safely("incoming identity"):
            self._identify()
        self.recorder.record(self._span(outcome, status, error, trace.ended_clock_ns - self._clock))

    def running(self) -> Span:
        """The root as it stands, for calls that are shown before the app has answered."""
        return self._span(Outcome.RUNNING, self.status, None, None)

    def _identify(self) -> None:
        trace, config = self.trace, self.recorder.config
        if trace.session_id is None and config.session is not None:
            trace.session_id = text_or_none(config.session(self.scope))
        if trace.user_id is None and config.user is not None:
            trace.user_id = text_or_none(config.user(self.scope))
        user = self.scope.get("user")
        if trace.user_id is None and getattr(user, "is_authenticated", False) is True:
            name = getattr(user, "identity", None) if has_identity(user) else None
            trace.user_id = text_or_none(name or getattr(user, "display_name", None))

    def _span(self, outcome: str, status: int | None, error: BaseException | None, duration: int | None) -> Span:
        trace = self.trace
        route = self.route()
        attributes: dict[str, Any] = {}
        if trace.truncated:
            attributes["truncated_spans"] = trace.truncated
        if trace.inbound_traceparent:
            attributes["inbound_traceparent"] = trace.inbound_traceparent
        return Span(
            id=self.span_id,
            trace_id=trace.id,
            parent_id=None,
            project=trace.project,
            kind=Kind.HTTP if self.scope["type"] == "http" else Kind.WEBSOCKET,
            name=trace.name or f"{self.method} {route or safe_text(self.path)}",
            start_ns=self._start,
            duration_ns=duration,
            outcome=outcome,
            error_type=type(error).__name__ if error is not None else None,
            error_message=str(error)[:2_000] if error is not None else None,
            session_id=trace.session_id,
            session_name=trace.session_name,
            session_path=trace.session_path,
            user_id=trace.user_id,
            properties=dict(trace.properties),
            method=self.method,
            url=safe_text(self.path)[:2_000],
            status=status,
            route=route,
            attributes=attributes,
        )


def has_identity(user: Any) -> bool:
    # Starlette's BaseUser declares `identity` as a property that raises NotImplementedError
    try:
        return bool(user.identity)
    except (NotImplementedError, AttributeError):
        return False


def text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)[:1_000] or None


@guarded("incoming")
def arrive(scope: Scope, recorder: Recorder) -> Incoming | None:
    """Note a request that has just come in; from a trusted peer its annotations are believed."""
    recorder = effective(recorder)
    if not recorder.active:
        return None
    incoming = Incoming(scope, recorder)
    config = recorder.config
    headers = scope.get("headers") or ()
    if config.trust_inbound is not False:
        if trusted(scope.get("client"), config.trust_inbound):
            believe(incoming, headers)
    return incoming


def trusted(client: Any, rule: Any) -> bool:
    """Whether the peer is one of those whose headers are believed."""
    if rule is True:
        return True
    host = client[0] if client else None
    if not isinstance(host, str):
        return False
    try:
        address = ipaddress.ip_address(host)
        return any(address in ipaddress.ip_network(network, strict=False) for network in rule)
    except ValueError:
        return host in rule


def believe(incoming: Incoming, headers: Any) -> None:
    trace = incoming.trace
    said = annotations.read(headers)
    trace.session_id, trace.session_name = said.session_id, said.session_name
    trace.session_path, trace.user_id = said.session_path, said.user_id
    trace.properties.update(said.properties)
    for name, value in headers:
        if name == b"traceparent":
            ids = annotations.valid_trace_id(value.decode("latin-1"))
            if ids is not None:
                trace.id = ids[0]
                trace.inbound_traceparent = value.decode("latin-1")


async def watch(app: App, scope: Scope, receive: Receive, send: Send, recorder: Recorder) -> None:
    """Run *app* for one request or connection inside a trace of its own; exceptions pass as they are."""
    incoming: Incoming | None = arrive(scope, recorder)
    if incoming is None:
        await app(scope, receive, send)
        return
    trace_header = incoming.recorder.config.trace_header
    trace_id = incoming.trace.id.encode()

    # a plain function that gives the inner awaitable: streams pay one call a chunk, not one coroutine
    def watched_send(message: Message) -> Awaitable[None]:
        try:
            incoming.sent(message)
            if trace_header and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (TRACE_HEADER, trace_id)]}
        except Exception:  # noqa: BLE001, S110 - hot path: a guard object would cost more than the work
            pass
        return send(message)

    before = place.get()
    place.set(Place(incoming.trace, incoming.span_id))
    error: BaseException | None = None
    try:
        await app(scope, receive, watched_send)
    except BaseException as raised:
        error = raised
        raise
    finally:
        place.set(before)
        with safely("finish incoming"):
            incoming.finish(error)
        error = None  # else the frame and its exception would keep each other alive
