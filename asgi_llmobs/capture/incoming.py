"""The ASGI side: one trace for each incoming request, written only when something LLM happened in it."""

import ipaddress
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import lru_cache
from typing import Any

from asgi_llmobs.capture import annotations
from asgi_llmobs.capture.call import is_cancelled
from asgi_llmobs.capture.recorder import Recorder, effective, otel_parent
from asgi_llmobs.capture.tracebacks import STACKTRACE, traceback_of
from asgi_llmobs.config import network_of
from asgi_llmobs.context import Place, Trace, new_span_id, new_trace_id, place, suppressed
from asgi_llmobs.records import Kind, Outcome, Span
from asgi_llmobs.redaction import safe_text
from asgi_llmobs.safely import message_of, report, safely

__all__ = ["MARKER", "Incoming", "watch"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MARKER = "llmobs"
TRACE_HEADER = b"x-llmobs-trace-id"
STARTS = frozenset({"http.response.start", "websocket.http.response.start"})
BODIES = frozenset({"http.response.body", "http.response.zerocopysend", "websocket.http.response.body"})
GONE = frozenset({"ClientDisconnect", "WebSocketDisconnect"})


class Incoming(Trace):
    """The trace of one HTTP request or WebSocket connection, and what is noted while the app answers it.

    It is the trace itself, not beside it: two objects that know each other would wait for the garbage collector.
    """

    __slots__ = (
        "_clock",
        "_duration",
        "_error",
        "_outcome",
        "_route",
        "_start",
        "_traceback",
        "ended",
        "method",
        "path",
        "root_path",
        "scope",
        "span_id",
        "started",
        "status",
    )

    def __init__(self, scope: Scope, recorder: Recorder) -> None:
        joined = otel_parent()
        super().__init__(joined[0] if joined else new_trace_id(), recorder.config.project, recorder)
        self.sampled = recorder.samples()
        self.scope: Scope | None = scope
        # routing changes the scope in place: what is needed of it is kept as it was
        self.method = scope.get("method", "WEBSOCKET")
        self.path = scope.get("path", "")
        self.root_path = scope.get("root_path", "")
        self.status: int | None = None
        self.started = self.ended = False
        self.span_id = new_span_id()
        self._route: str | None = None
        self._outcome: str = Outcome.RUNNING
        self._error: tuple[str, str] | None = None
        self._traceback: str | None = None
        self._duration: int | None = None
        self._start = time.time_ns()
        self._clock = time.monotonic_ns()

    def route(self) -> str | None:
        """The route's template below every mount, ``None`` while or where no route matched."""
        scope = self.scope  # once: the writer asks too, while the request ends
        if scope is None:
            return self._route
        template = getattr(scope.get("route"), "path", None)
        if not isinstance(template, str):
            return None
        mounts = str(scope.get("root_path") or "").removeprefix(self.root_path)
        for name, value in (scope.get("path_params") or {}).items() if mounts else ():
            if f"{{{name}" not in template:  # a parameter of a mount: the root path has its value
                mounts = f"{mounts}/".replace(f"/{value}/", f"/{{{name}}}/", 1)[:-1]
        return mounts + template

    def sent(self, message: Message) -> None:
        """A message goes out to the server."""
        kind = message["type"]
        if kind in BODIES:
            if not message.get("more_body", False):
                self.ended = True
        elif kind in STARTS:
            self.started = True
            self.status = message.get("status")
        elif kind == "http.response.pathsend":
            self.ended = True
        elif kind == "websocket.accept":
            self.started = True
            self.status = 101
        elif kind == "websocket.close" and not self.started:
            self.status = 403

    def received(self, message: Message) -> None:
        """A message came from the server."""
        if message["type"] == "http.disconnect" and not self.ended:
            self.client_gone = True

    def first(self) -> None:
        """The first span below starts: who caused it is asked now, when inner middleware has had its turn.

        In a task that outlived the request the root follows: it was not recorded, since there was nothing below it.
        """
        self._identify()
        if self.ended_clock_ns is not None:
            self._record()

    def finish(self, error: BaseException | None) -> None:
        """The app has returned. Without a span below it nothing is recorded."""
        self.ended_clock_ns = time.monotonic_ns()
        self._duration = self.ended_clock_ns - self._clock
        if self.scope is not None and self.scope["type"] == "http":
            self._outcome = self._http_outcome(error)
        else:
            self._outcome = Outcome.OK if error is None else ended_by(error)
        if error is not None:
            self._error = type(error).__name__, message_of(error)
        if self.spans:
            if error is not None and self._outcome == Outcome.ERROR and self.recorder.config.capture == "full":
                self._traceback = traceback_of(error)
            self._identify()
            self._record()

    def _http_outcome(self, error: BaseException | None) -> str:
        if error is not None:
            outcome = ended_by(error)
            if self.status is None and outcome == Outcome.ERROR:
                self.status = 500  # the answer is made outside of us, by the server error middleware
            return outcome
        if (self.started or self.client_gone) and not self.ended:
            # servers cancel the stream and let the app return as if nothing had happened
            self.client_gone = True
            return Outcome.CANCELLED
        return Outcome.ERROR if self.status is not None and self.status >= 500 else Outcome.OK

    def open_root(self) -> Span | None:
        """The root as it stands, for calls that are shown before the app has answered."""
        return None if self.ended_clock_ns is not None else self._span()

    def _record(self) -> None:
        self.recorder.record(self._span())
        # calls that wait to be stored hold the trace: they must not hold the request with it
        self._route, self.scope = self.route(), None

    def _identify(self) -> None:
        scope, config = self.scope, self.recorder.config
        if scope is None:
            return
        with safely("session of the request"):
            if self.session_id is None and config.session is not None:
                self.session_id = text_or_none(config.session(scope))
        with safely("user of the request"):
            if self.user_id is None and config.user is not None:
                self.user_id = text_or_none(config.user(scope))
            user = scope.get("user")
            if self.user_id is None and getattr(user, "is_authenticated", False) is True:
                name = getattr(user, "identity", None) if has_identity(user) else None
                self.user_id = text_or_none(name or getattr(user, "display_name", None))

    def _attributes(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.truncated:
            found["truncated_spans"] = self.truncated
        if self._traceback is not None:
            found[STACKTRACE] = self._traceback
        for name, value in (self.scope or {}).get("headers") or ():
            # of a stranger only noted: it must not join its requests with those of others
            if name == b"traceparent" and annotations.valid_trace_id(value.decode("latin-1")):
                found["inbound_traceparent"] = value.decode("latin-1").strip()[:100]
        return found

    def _span(self) -> Span:
        route = self.route()
        kind = Kind.WEBSOCKET if self.method == "WEBSOCKET" else Kind.HTTP
        return Span(
            id=self.span_id,
            trace_id=self.id,
            parent_id=None,
            project=self.project,
            kind=kind,
            name=self.name or f"{self.method} {route or safe_text(self.path)}",
            start_ns=self._start,
            duration_ns=self._duration,
            outcome=self._outcome,
            error_type=self._error[0] if self._error else None,
            error_message=self._error[1] if self._error else None,
            session_id=self.session_id,
            session_name=self.session_name,
            session_path=self.session_path,
            user_id=self.user_id,
            properties=dict(self.properties),
            method=self.method,
            url=safe_text(self.path)[:2_000],
            status=self.status,
            route=route,
            attributes=self._attributes(),
            spread=self.late,
        )


def ended_by(error: BaseException) -> Outcome:
    """How a request ended whose app raised *error*: a client that went away is no failure."""
    gone = type(error).__name__ in GONE and type(error).__module__.partition(".")[0] == "starlette"
    return Outcome.CANCELLED if gone or is_cancelled(error) else Outcome.ERROR


def has_identity(user: Any) -> bool:
    # Starlette's BaseUser declares `identity` as a property that raises NotImplementedError
    try:
        return bool(user.identity)
    except (NotImplementedError, AttributeError):
        return False


def text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)[:1_000] or None


def arrive(scope: Scope, recorder: Recorder) -> Incoming | None:
    """Note a request that has just come in; from a trusted peer its annotations are believed."""
    recorder = effective(recorder)
    if not recorder.active or suppressed():
        return None
    incoming = Incoming(scope, recorder)
    rule = recorder.config.trust_inbound
    if rule is not False and trusted(scope.get("client"), rule):
        believe(incoming, scope.get("headers") or ())
    return incoming


def trusted(client: Any, rule: bool | Sequence[str]) -> bool:
    """Whether the peer is one of those whose headers are believed.

    Args:
        client: ``scope["client"]``: a pair, a list, or ``None`` (a Unix socket).
        rule: The option ``trust_inbound``.
    """
    if isinstance(rule, bool):
        return rule
    host = client[0] if client else None
    if not isinstance(host, str):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in rule
    mapped = getattr(address, "ipv4_mapped", None)
    return any(address in network or (mapped is not None and mapped in network) for network in networks(tuple(rule)))


@lru_cache(maxsize=16)
def networks(rule: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(network for entry in rule if (network := network_of(entry)) is not None)


def believe(incoming: Incoming, headers: Any) -> None:
    """Take session, user, properties and trace id from the headers of a trusted peer."""
    said = annotations.read(headers)
    incoming.session_id, incoming.session_name = said.session_id, said.session_name
    incoming.session_path, incoming.user_id = said.session_path, said.user_id
    incoming.properties.update(said.properties)
    for name, value in headers:
        if name == b"traceparent":
            ids = annotations.valid_trace_id(value.decode("latin-1"))
            if ids is not None:
                incoming.id = ids[0]


async def watch(app: App, scope: Scope, receive: Receive, send: Send, recorder: Recorder) -> None:
    """Run *app* for one request or connection inside a trace of its own; exceptions pass as they are."""
    arrived: Incoming | None = None
    with safely("incoming"):
        arrived = arrive(scope, recorder)
    if arrived is None:
        await app(scope, receive, send)
        return
    incoming = arrived
    header = (TRACE_HEADER, incoming.id.encode()) if incoming.recorder.config.trace_header else None

    # a plain function that gives the inner awaitable: streams pay one call a chunk, not one coroutine
    def watched_send(message: Message) -> Awaitable[None]:
        try:
            # a chunk with more to come says nothing
            if message["type"] != "http.response.body" or not message.get("more_body"):
                incoming.sent(message)
                if header is not None and message["type"] in STARTS:
                    message = {**message, "headers": [*message.get("headers", ()), header]}
        except Exception as failure:  # noqa: BLE001 - hot path: a guard object would cost more than the work
            report("send", failure)
        return send(message)

    async def watched_receive() -> Message:
        message = await receive()
        with safely("receive"):
            incoming.received(message)
        return message

    before = place.get()
    place.set(Place(incoming, incoming.span_id))
    error: BaseException | None = None
    try:
        await app(scope, watched_receive if scope["type"] == "http" else receive, watched_send)
    except BaseException as raised:
        error = raised
        raise
    finally:
        place.set(before)
        with safely("finish incoming"):
            incoming.finish(error)
        error = None  # else the frame and its exception would keep each other alive
