"""Streams that pass on what they carry, chunk by chunk and at once, and tell a call about it.

``httpx`` and ``httpx2`` each insist on their own byte stream classes, so the thin shells are made once for each family.
"""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from asgi_llmobs.safely import guarded, report, safely

__all__ = ["Family", "Watch", "attach", "families", "family_of", "unwatched"]

NAMES = ("httpx", "httpx2")
ATTACHING = safely("attach")


class Watch(Protocol):
    """What a stream tells: implemented by :class:`asgi_llmobs.capture.outbound.Call`."""

    done: bool

    def sent(self, data: bytes) -> None: ...
    def resend(self) -> None: ...
    def answered(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...
    def received(self, data: bytes) -> None: ...
    def begins_with(self, data: bytes) -> bool: ...
    def finish(self, outcome: str = ..., error: BaseException | None = None, *, eof: bool = False) -> None: ...
    def fail(self, error: BaseException) -> None: ...
    def closed(self) -> None: ...
    def read_already(self, content: bytes) -> None: ...


@guarded("end of call")
def ended(call: Watch) -> None:
    """The body has come in whole."""
    call.finish(eof=True)


@guarded("failed call")
def failed(call: Watch, error: BaseException) -> None:
    """Reading the body ended with *error*."""
    call.fail(error)


@guarded("closed call")
def closed(call: Watch) -> None:
    """The body is read no further."""
    call.closed()


class Again:
    """Takes the chunks of a body that is iterated once more before its end, as the OpenAI SDK does to drain it.

    A connection goes on where it was; a stream in memory begins anew, and what was noted already is not noted twice.
    """

    __slots__ = ("_call", "_repeats")

    def __init__(self, call: Watch) -> None:
        self._call = call
        self._repeats: bool | None = None

    def __call__(self, chunk: bytes) -> None:
        if self._repeats is None:
            self._repeats = self._call.begins_with(chunk)
        if not self._repeats:
            self._call.received(chunk)


class SyncChunks:
    """Iterates over *inner* and tells the call of each chunk, of the end, and of what goes wrong."""

    __slots__ = ("_call", "_inner", "_received")

    def __init__(self, inner: Iterator[bytes], call: Watch, received: Callable[[bytes], None]) -> None:
        self._inner = inner
        self._call = call
        self._received = received

    def __iter__(self) -> "SyncChunks":
        return self

    def __next__(self) -> bytes:
        try:
            chunk = next(self._inner)
        except StopIteration:
            ended(self._call)
            raise
        except BaseException as error:
            failed(self._call, error)
            raise
        try:
            self._received(chunk)
        except Exception as error:  # noqa: BLE001 - hot path: a guard object would cost more than the work
            report("chunk", error)
        return chunk

    def close(self) -> None:
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()


class AsyncChunks:
    """The same for asynchronous streams."""

    __slots__ = ("_call", "_inner", "_received")

    def __init__(self, inner: AsyncIterator[bytes], call: Watch, received: Callable[[bytes], None]) -> None:
        self._inner = inner
        self._call = call
        self._received = received

    def __aiter__(self) -> "AsyncChunks":
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._inner.__anext__()
        except StopAsyncIteration:
            ended(self._call)
            raise
        except BaseException as error:
            failed(self._call, error)
            raise
        try:
            self._received(chunk)
        except Exception as error:  # noqa: BLE001 - hot path: a guard object would cost more than the work
            report("chunk", error)
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


class Shell:
    """Around a stream of the app: has the attributes of that one."""

    def __init__(self, inner: Any, call: Watch) -> None:
        self._llmobs_inner = inner
        self._llmobs_call = call

    def __getattr__(self, name: str) -> Any:
        if name in ("_llmobs_inner", "_llmobs_call"):
            raise AttributeError(name)
        return getattr(self._llmobs_inner, name)


def make_family(module: ModuleType) -> Family:
    class ResponseShell(Shell):
        _llmobs_begun = False

        def _llmobs_received(self) -> Callable[[bytes], None]:
            call, begun = self._llmobs_call, self._llmobs_begun
            self._llmobs_begun = True
            return Again(call) if begun else call.received

        def __del__(self) -> None:
            # not by __dict__: it would be made now, and what it refers to survive the collection that has found it
            call = getattr(self, "_llmobs_call", None)
            # at the end of the process threads stop where they are, locks in hand
            if call is not None and not call.done and not sys.is_finalizing():
                with safely("collected"):
                    call.finish("abandoned")

    class SyncResponse(ResponseShell, module.SyncByteStream):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[bytes]:
            return SyncChunks(iter(self._llmobs_inner), self._llmobs_call, self._llmobs_received())

        def close(self) -> None:
            closed(self._llmobs_call)
            self._llmobs_inner.close()

    class AsyncResponse(ResponseShell, module.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __aiter__(self) -> AsyncIterator[bytes]:
            inner = self._llmobs_inner.__aiter__()
            chunks = AsyncGeneratorChunks if hasattr(inner, "asend") else AsyncChunks
            return chunks(inner, self._llmobs_call, self._llmobs_received())

        async def aclose(self) -> None:
            closed(self._llmobs_call)
            await self._llmobs_inner.aclose()

    class SyncRequest(Shell, module.SyncByteStream):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[bytes]:
            with safely("request body"):
                self._llmobs_call.resend()
            for chunk in self._llmobs_inner:
                with safely("request body"):
                    self._llmobs_call.sent(chunk)
                yield chunk

        def close(self) -> None:
            self._llmobs_inner.close()

    class AsyncRequest(Shell, module.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            with safely("request body"):
                self._llmobs_call.resend()
            async for chunk in self._llmobs_inner:
                with safely("request body"):
                    self._llmobs_call.sent(chunk)
                yield chunk

        async def aclose(self) -> None:
            await self._llmobs_inner.aclose()

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


def unwatched(stream: Any) -> Any:
    """The request body stream of the app, where an earlier attempt put ours around it."""
    while isinstance(stream, Shell):
        stream = stream._llmobs_inner
    return stream


def attach(response: Any, call: Watch, *, is_async: bool) -> None:
    """Watch a response from here on. One that was read already (mocks, caches) is finished at once."""
    with ATTACHING:
        watch(response, call, is_async=is_async)
        return
    with ATTACHING:  # ours has failed: what is known by now is recorded
        call.finish("abandoned")


def watch(response: Any, call: Watch, *, is_async: bool) -> None:
    call.answered(response.status_code, response.headers.raw)
    content = getattr(response, "_content", None)
    if content is not None or response.is_closed:
        call.read_already(content or b"")
        return
    family = family_of(response)
    shell = family.async_response if is_async else family.sync_response
    wanted = family.module.AsyncByteStream if is_async else family.module.SyncByteStream
    if isinstance(response.stream, wanted):
        response.stream = shell(response.stream, call)
    else:
        call.finish("abandoned")  # the client will refuse this response, and is to do it as ever
