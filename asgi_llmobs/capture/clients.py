"""The ways in: one client wrapped, one transport wrapped, or every client of both families watched."""

import functools
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from asgi_llmobs.capture.call import Call
from asgi_llmobs.capture.outbound import begin
from asgi_llmobs.capture.recorder import Recorder
from asgi_llmobs.capture.stages import HANDLES, heard_by, own_method, watch_handle
from asgi_llmobs.capture.streams import NAMES, attach, failed
from asgi_llmobs.errors import UnsupportedClient
from asgi_llmobs.safely import guarded

__all__ = ["WatchedTransport", "instrument", "instrument_for", "instrumented", "unwrap", "uninstrument", "wrap"]

T = TypeVar("T")
ORIGINAL = "__llmobs_original__"
SEARCH_DEPTH = 5
SEARCH_LIMIT = 400


class WatchedTransport:
    """A transport, sync or async, of either family, that watches the LLM calls that go through it.

    Args:
        inner: The transport to wrap. ``None``: the family's own default one, made at the first request.
        recorder: Where calls are recorded.
    """

    def __init__(self, inner: Any, recorder: Recorder) -> None:
        self.inner = inner
        self.recorder = recorder

    def handle_request(self, request: Any) -> Any:
        """Send one request and watch its response."""
        inner = self._default(request, "HTTPTransport") if self.inner is None else self.inner
        call: Call | None = begin(request, self.recorder)
        if call is None:
            return inner.handle_request(request)
        try:
            response = inner.handle_request(heard_by(inner, request, is_async=False))
        except BaseException as error:
            failed(call, error)
            raise
        attach(response, call, is_async=False)
        return response

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request and watch its response."""
        inner = self._default(request, "AsyncHTTPTransport") if self.inner is None else self.inner
        call: Call | None = begin(request, self.recorder)
        if call is None:
            return await inner.handle_async_request(request)
        try:
            response = await inner.handle_async_request(heard_by(inner, request, is_async=True))
        except BaseException as error:
            failed(call, error)
            raise
        attach(response, call, is_async=True)
        return response

    def _default(self, request: Any, name: str) -> Any:
        self.inner = getattr(sys.modules[type(request).__module__.partition(".")[0]], name)()
        return self.inner

    def close(self) -> None:
        """Close the inner transport."""
        if self.inner is not None:
            self.inner.close()

    async def aclose(self) -> None:
        """Close the inner transport."""
        if self.inner is not None:
            await self.inner.aclose()

    def __enter__(self) -> "WatchedTransport":
        if self.inner is not None:
            self.inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> Any:
        return None if self.inner is None else self.inner.__exit__(kind, error, trace)

    async def __aenter__(self) -> "WatchedTransport":
        if self.inner is not None:
            await self.inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> Any:
        return None if self.inner is None else await self.inner.__aexit__(kind, error, trace)

    def __getattr__(self, name: str) -> Any:
        if name in ("inner", "recorder"):
            raise AttributeError(name)
        return getattr(self.inner, name)


def client_classes() -> tuple[type, ...]:
    """The client classes of the families that are loaded."""
    found = []
    for name in NAMES:
        module = sys.modules.get(name)
        found += [getattr(module, kind) for kind in ("Client", "AsyncClient") if hasattr(module, kind)]
    return tuple(found)


def clients_in(thing: Any) -> list[Any]:
    """The httpx and httpx2 clients that *thing* is or holds, searched breadth first through its attributes."""
    classes = client_classes()
    found: list[Any] = []
    level, seen = [thing], {id(thing)}
    for _ in range(SEARCH_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, classes):
                found.append(item)
                continue
            for value in attributes(item):
                if id(value) not in seen and len(seen) < SEARCH_LIMIT and not isinstance(value, type | str | bytes):
                    seen.add(id(value))
                    below.append(value)
        level = below
    return found


def attributes(item: Any) -> list[Any]:
    values = list(getattr(item, "__dict__", {}).values())
    for base in type(item).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            try:
                values.append(object.__getattribute__(item, slot))
            except AttributeError:
                continue
    return values


def wrap(client: T, recorder: Recorder) -> T:
    """Watch one client in place.

    Args:
        client: An httpx or httpx2 client, sync or async, or an SDK object that holds one.
        recorder: Where its calls are recorded.

    Returns:
        The same object. Wrapping it again changes nothing.

    Raises:
        UnsupportedClient: There is no httpx or httpx2 client in it.
    """
    found = clients_in(client)
    if not found:
        raise UnsupportedClient(
            f"wrap() found no httpx or httpx2 client in {type(client).__name__}. Give it the client itself, or build "
            "your client with transport=obs.transport(inner). Calls that use neither library are not seen at the "
            "transport: see docs/what-is-captured.md."
        )
    for each in found:
        transports: dict[int, WatchedTransport] = {}
        each._transport = watched(each._transport, recorder, transports)
        for pattern, mounted in each._mounts.items():
            if mounted is not None:
                each._mounts[pattern] = watched(mounted, recorder, transports)
    return client


def watched(transport: Any, recorder: Recorder, made: dict[int, WatchedTransport]) -> WatchedTransport:
    if isinstance(transport, WatchedTransport):
        return transport
    if id(transport) not in made:
        made[id(transport)] = WatchedTransport(transport, recorder)
    return made[id(transport)]


def unwrap(client: T) -> T:
    """Undo :func:`wrap`; a client that is not wrapped stays as it is. Gives the same object."""
    for each in clients_in(client):
        if isinstance(each._transport, WatchedTransport):
            each._transport = each._transport.inner
        for pattern, mounted in each._mounts.items():
            if isinstance(mounted, WatchedTransport):
                each._mounts[pattern] = mounted.inner
    return client


@guarded("client")
def own_recorder(client: Any) -> Recorder | None:
    transport = getattr(client, "_transport", None)
    return transport.recorder if isinstance(transport, WatchedTransport) else None


def watch_send(original: Callable[..., Any]) -> Callable[..., Any]:
    """``Client.send`` that watches. It reads the body itself, as the original does, so that chunks are seen."""

    @functools.wraps(original)
    def send(self: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        call: Call | None = begin(request, own_recorder(self)) if _instrumented else None
        if call is None:
            return original(self, request, stream=stream, **options)
        try:
            response = original(self, request, stream=True, **options)
        except BaseException as error:
            failed(call, error)
            raise
        attach(response, call, is_async=False)
        if stream:
            return response
        try:
            response.read()
        except BaseException as error:
            failed(call, error)
            response.close()
            raise
        return response

    setattr(send, ORIGINAL, original)
    return send


def watch_async_send(original: Callable[..., Any]) -> Callable[..., Any]:
    """The same for ``AsyncClient.send``."""

    @functools.wraps(original)
    async def send(self: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        call: Call | None = begin(request, own_recorder(self)) if _instrumented else None
        if call is None:
            return await original(self, request, stream=stream, **options)
        try:
            response = await original(self, request, stream=True, **options)
        except BaseException as error:
            failed(call, error)
            raise
        attach(response, call, is_async=True)
        if stream:
            return response
        try:
            await response.aread()
        except BaseException as error:
            failed(call, error)
            await response.aclose()
            raise
        return response

    setattr(send, ORIGINAL, original)
    return send


_instrumented: set[str] = set()
_ours: dict[tuple[type[Any], str], Any] = {}  # what we put in place of the method of each class


def instrument() -> None:
    """Watch every client of the families that are loaded; two look-ups where there is nothing new."""
    for name in NAMES:
        module = sys.modules.get(name)
        if module is None or name in _instrumented or not hasattr(module, "AsyncClient"):
            continue
        _instrumented.add(name)
        # httpx2 can stand in for httpx under its name: one class, watched once
        if not hasattr(module.Client.send, ORIGINAL):
            put(module.Client, "send", watch_send(module.Client.send))
            put(module.AsyncClient, "send", watch_async_send(module.AsyncClient.send))
            for kind, method in HANDLES.items():
                own = own_method(getattr(module, kind, object))
                if own is not None:
                    put(getattr(module, kind), method, watch_handle(own, ORIGINAL))


def put(owner: type[Any], name: str, ours: Any) -> None:
    setattr(owner, name, ours)
    _ours[owner, name] = ours


def instrument_for(recorder: Recorder) -> None:
    """Watch every client where *recorder* is meant to; called again and again, for what was imported since."""
    if recorder.active and recorder.config.instrument == "auto":
        instrument()


def instrumented() -> bool:
    """Whether any family is watched."""
    return bool(_instrumented)


def uninstrument() -> None:
    """Put the original methods back; where somebody else has patched on top of ours, theirs stays."""
    for (owner, name), ours in list(_ours.items()):
        if owner.__dict__.get(name) is ours:
            setattr(owner, name, getattr(ours, ORIGINAL))
            del _ours[owner, name]
    _instrumented.clear()
