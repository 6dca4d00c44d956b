"""Streams that pass on what they carry, chunk by chunk and at once, and tell a call about it.

``httpx`` and ``httpx2`` each insist on their own byte stream classes, so the thin shells are made once for each family.
"""

import sys
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from asgi_llmobs.safely import safely

__all__ = ["Family", "Watch", "attach", "families", "family_of"]

NAMES = ("httpx", "httpx2")


class Watch(Protocol):
    """What a stream tells: implemented by :class:`asgi_llmobs.capture.outbound.Call`."""

    def sent(self, data: bytes) -> None: ...
    def resend(self) -> None: ...
    def answered(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...
    def received(self, data: bytes) -> None: ...
    def finish(self, outcome: str = ..., error: BaseException | None = None, *, eof: bool = False) -> None: ...
    def fail(self, error: BaseException) -> None: ...
    def closed(self) -> None: ...
    def read_already(self, content: bytes) -> None: ...


class SyncChunks:
    """Iterates over *inner* and tells the call of each chunk, of the end, and of what goes wrong."""

    __slots__ = ("_call", "_inner")

    def __init__(self, inner: Iterator[bytes], call: Watch) -> None:
        self._inner = inner
        self._call = call

    def __iter__(self) -> "SyncChunks":
        return self

    def __next__(self) -> bytes:
        try:
            chunk = next(self._inner)
        except StopIteration:
            self._call.finish(eof=True)
            raise
        except BaseException as error:
            self._call.fail(error)
            raise
        try:
            self._call.received(chunk)
        except Exception:  # noqa: BLE001, S110 - hot path: a guard object would cost more than the work
            pass
        return chunk

    def close(self) -> None:
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()


class AsyncChunks:
    """The same for asynchronous streams."""

    __slots__ = ("_call", "_inner")

    def __init__(self, inner: AsyncIterator[bytes], call: Watch) -> None:
        self._inner = inner
        self._call = call

    def __aiter__(self) -> "AsyncChunks":
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._inner.__anext__()
        except StopAsyncIteration:
            self._call.finish(eof=True)
            raise
        except BaseException as error:
            self._call.fail(error)
            raise
        try:
            self._call.received(chunk)
        except Exception:  # noqa: BLE001, S110 - hot path: a guard object would cost more than the work
            pass
        return chunk


class AsyncGeneratorChunks(AsyncChunks):
    """:class:`AsyncChunks` over an async generator: one itself, so that it is closed as the inner one would be."""

    __slots__ = ()
    _inner: Any

    async def asend(self, value: Any) -> bytes:
        return await self._inner.asend(value)  # type: ignore[no-any-return]

    async def athrow(self, *error: Any) -> bytes:
        return await self._inner.athrow(*error)  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        await self._inner.aclose()


class Family(NamedTuple):
    """One of the two client libraries, with our shells around its stream classes."""

    module: ModuleType
    sync_response: type[Any]
    async_response: type[Any]
    request: type[Any]

    def watch_request(self, stream: Any, call: Watch) -> Any:
        """A request body stream that notes what goes out."""
        return self.request(stream, call)


def make_family(module: ModuleType) -> Family:
    class Shell:
        def __init__(self, inner: Any, call: Watch) -> None:
            self._inner = inner
            self._call = call

        def __getattr__(self, name: str) -> Any:
            if name in ("_inner", "_call"):
                raise AttributeError(name)
            return getattr(self._inner, name)

    class ResponseShell(Shell):
        def __del__(self) -> None:
            call = self.__dict__.get("_call")
            if call is not None and not call.done:
                with safely("collected"):
                    call.finish("abandoned")

    class SyncResponse(ResponseShell, module.SyncByteStream):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[bytes]:
            return SyncChunks(iter(self._inner), self._call)

        def close(self) -> None:
            self._call.closed()
            self._inner.close()

    class AsyncResponse(ResponseShell, module.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __aiter__(self) -> AsyncIterator[bytes]:
            inner = self._inner.__aiter__()
            return (AsyncGeneratorChunks if hasattr(inner, "asend") else AsyncChunks)(inner, self._call)

        async def aclose(self) -> None:
            self._call.closed()
            await self._inner.aclose()

    class SyncRequest(Shell, module.SyncByteStream):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[bytes]:
            self._call.resend()
            for chunk in self._inner:
                with safely("request body"):
                    self._call.sent(chunk)
                yield chunk

        def close(self) -> None:
            self._inner.close()

    class AsyncRequest(Shell, module.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            self._call.resend()
            async for chunk in self._inner:
                with safely("request body"):
                    self._call.sent(chunk)
                yield chunk

        async def aclose(self) -> None:
            await self._inner.aclose()

    class BothRequest(SyncRequest, AsyncRequest):
        pass

    def request_shell(stream: Any, call: Watch) -> Any:
        is_sync = isinstance(stream, module.SyncByteStream)
        is_async = isinstance(stream, module.AsyncByteStream)
        shell = BothRequest if is_sync and is_async else AsyncRequest if is_async else SyncRequest
        return shell(stream, call)

    return Family(module, SyncResponse, AsyncResponse, request_shell)  # type: ignore[arg-type]


families: dict[str, Family] = {}


def family_named(name: str) -> Family:
    if name not in families:
        families[name] = make_family(sys.modules[name])
    return families[name]


def family_of(thing: Any) -> Family:
    """The family that a request, response or client belongs to, whatever subclass it is."""
    for base in type(thing).__mro__:
        name = base.__module__.partition(".")[0]
        if name in NAMES:
            return family_named(name)
    raise TypeError(f"{type(thing).__name__} belongs neither to httpx nor to httpx2")


def attach(response: Any, call: Watch, *, is_async: bool) -> None:
    """Watch a response from here on. One that was read already (mocks, caches) is finished at once."""
    with safely("attach"):
        call.answered(response.status_code, list(response.headers.raw))
        content = getattr(response, "_content", None)
        if content is not None or response.is_closed:
            call.read_already(content or b"")
            return
        family = family_of(response)
        shell = family.async_response if is_async else family.sync_response
        response.stream = shell(response.stream, call)
