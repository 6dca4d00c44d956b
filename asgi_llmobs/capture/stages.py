"""When a call waited for a connection, opened one, secured it, sent and waited: told by the families' own transports.

They call back whatever stands under ``trace`` in the extensions of a request, a public interface of theirs. Nobody else
is to find ours there: the transport is given a twin of the request, which alone holds it.
"""

import functools
import inspect
from collections.abc import Callable
from time import monotonic_ns
from types import FunctionType
from typing import Any

from asgi_llmobs.capture.call import FAMILIES, Call
from asgi_llmobs.capture.outbound import MARKER
from asgi_llmobs.safely import report

__all__ = ["HANDLES", "heard_by", "own_method", "watch_handle"]

HANDLES = {"HTTPTransport": "handle_request", "AsyncHTTPTransport": "handle_async_request"}
SMALL = 64 * 1024  # bytes that are in the socket's buffer as soon as the headers are
STAGES = {
    "connection.connect_tcp.started": "connect",
    "connection.connect_unix_socket.started": "connect",
    "socks.connect_tcp.started": "connect",
    "connection.start_tls.started": "tls",
    "proxy.start_tls.started": "tls",
    "socks.start_tls.started": "tls",
    "http11.send_request_headers.started": "send",
    "http2.send_request_headers.started": "send",
    "http11.send_request_headers.complete": "wait",
    "http2.send_request_headers.complete": "wait",
    "http11.send_request_body.complete": "wait",
    "http2.send_request_body.complete": "wait",
}


class Noting:
    """Takes down when each stage of one exchange began.

    Args:
        clocks: Where; by the names of the stages.
        extensions: What the transport looks into at each step: from the moment that there is nothing more to hear, we
            are out of it. ``None`` where somebody else listens, too.
    """

    __slots__ = ("_clocks", "_extensions")

    def __init__(self, clocks: dict[str, int], extensions: dict[str, Any] | None) -> None:
        self._clocks = clocks
        self._extensions = extensions

    def note(self, event: str, info: Any) -> None:
        """What a transport for threads calls."""
        try:
            stage = STAGES.get(event)
            if stage is None:
                return
            clocks = self._clocks
            if stage not in clocks or stage in ("send", "wait"):  # a proxy is sent something before the request is
                clocks[stage] = monotonic_ns()
            if stage == "send" and self._extensions is not None and info["request"].method != b"CONNECT":
                self._extensions.pop("trace", None)
        except Exception as error:  # noqa: BLE001 - hot path: a guard object would cost more than the work
            report("stages", error)

    async def note_async(self, event: str, info: Any) -> None:
        """What a transport for event loops awaits."""
        self.note(event, info)


def heard_by(transport: Any, request: Any, *, is_async: bool) -> Any:
    """:func:`heard` where *transport* is one of the family's own that is not watched as a class already."""
    return heard(request, is_async=is_async) if own_method(type(transport)) is not None else request


def heard(request: Any, *, is_async: bool) -> Any:
    """The request as a transport of the family is to have it: with our ears in it, where its call is recorded."""
    try:
        return staged(request, is_async)
    except Exception as error:  # noqa: BLE001 - as above
        report("stages", error)
        return request


def staged(request: Any, is_async: bool) -> Any:
    extensions = request.extensions
    call: Call | None = extensions.get(MARKER)
    exchange = call.exchange if call is not None else None
    if call is None or exchange is None:
        return request
    clocks = exchange.stages = {"queue": monotonic_ns()}  # anew for each address that it is sent on to
    own = {**extensions}
    theirs = own.get("trace")
    if theirs is None:
        noting = Noting(clocks, own if 0 < len(call.content) <= SMALL else None)
        own["trace"] = noting.note_async if is_async else noting.note
    else:
        own["trace"] = beside(theirs, Noting(clocks, None))
    twin = object.__new__(type(request))
    twin.__dict__.update(request.__dict__)
    twin.extensions = own
    return twin


def beside(theirs: Callable[[str, Any], Any], noting: Noting) -> Callable[[str, Any], Any]:
    """What the app put there itself, and ours before it; where theirs is asynchronous, it is theirs that is awaited."""

    def both(event: str, info: Any) -> Any:
        noting.note(event, info)
        return theirs(event, info)

    return both


def watch_handle(original: Any, marker: str) -> Any:
    """A transport's own method that hears of the stages; *marker* is the attribute that leads back to *original*.

    The one of :class:`AsyncHTTPTransport` hands on the original's coroutine: one more of ours around it would cost as
    much as all that it does.
    """
    is_async = inspect.iscoroutinefunction(original)

    @functools.wraps(original)
    def handle(self: Any, request: Any) -> Any:
        return original(self, heard(request, is_async=is_async))

    if is_async and hasattr(inspect, "markcoroutinefunction"):
        inspect.markcoroutinefunction(handle)
    setattr(handle, marker, original)
    return handle


def own_method(thing: Any) -> Any:
    """The method of a class of transports that sends; ``None`` where it is not a family's own, as it came."""
    method = vars(thing).get(HANDLES.get(thing.__name__, ""))
    # mocks and other instrumentations may keep the request that they are given, and are to have the app's own
    plain = type(method) is FunctionType and method.__globals__.get("__name__", "").partition(".")[0] in FAMILIES
    return method if plain else None
