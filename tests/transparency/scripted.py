"""A provider inside the process: a transport that does, chunk by chunk and await by await, what a script says."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Hop", "Log", "ScriptedTransport", "failure"]


@dataclass(frozen=True)
class Hop:
    """What is answered to one HTTP request."""

    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ((b"content-type", b"application/json"),)
    chunks: Sequence[bytes] = ()
    fails: str | None = None  # name of what is raised
    fails_after: int | None = None  # chunks; None: instead of an answer
    whole: bool = False  # the answer has its content already, as that of a mock or a cache
    close_fails: bool = False


class Log(list):
    """Everything that the upstream side saw, in order; and when to cancel."""

    def __init__(self, cancel_at: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.cancel_at = cancel_at
        self.awaits = 0

    async def checkpoint(self) -> None:
        """An await at which the task may be cancelled."""
        self.awaits += 1
        if self.awaits in self.cancel_at:
            raise asyncio.CancelledError(f"at await {self.awaits}")
        await asyncio.sleep(0)


def failure(family: Any, name: str) -> BaseException:
    """The exception called *name*, of the family or built in."""
    kinds = {"ValueError": ValueError, "OSError": OSError, "KeyboardInterrupt": KeyboardInterrupt}
    kind = kinds.get(name) or getattr(family, name)
    return kind(f"scripted {name}")


class Body:
    """The parts that the two kinds of stream share."""

    def __init__(self, family: Any, hop: Hop, log: Log) -> None:
        self.family, self.hop, self.log = family, hop, log

    def fail_at(self, index: int) -> None:
        if self.hop.fails and self.hop.fails_after == index:
            raise failure(self.family, self.hop.fails)

    def closing(self) -> None:
        self.log.append("closed")
        if self.hop.close_fails:
            raise failure(self.family, "CloseError")


def streams(family: Any) -> tuple[type, type]:
    """Stream classes of the family, which it insists on."""

    class Sync(Body, family.SyncByteStream):
        def __iter__(self):
            self.log.append("iterated")
            try:
                for index, chunk in enumerate(self.hop.chunks):
                    self.fail_at(index)
                    yield chunk
                self.fail_at(len(self.hop.chunks))
                self.log.append("exhausted")
            except GeneratorExit:
                self.log.append("generator closed")
                raise

        def close(self):
            self.closing()

    class Async(Body, family.AsyncByteStream):
        async def __aiter__(self):
            self.log.append("iterated")
            try:
                for index, chunk in enumerate(self.hop.chunks):
                    await self.log.checkpoint()
                    self.fail_at(index)
                    yield chunk
                await self.log.checkpoint()
                self.fail_at(len(self.hop.chunks))
                self.log.append("exhausted")
            except GeneratorExit:
                self.log.append("generator closed")
                raise
            except asyncio.CancelledError:
                self.log.append("stream cancelled")
                raise

        async def aclose(self):
            await self.log.checkpoint()
            self.closing()

    return Sync, Async


class ScriptedTransport:
    """Answers the n-th request with the n-th hop, the last one for ever. Like no class of httpx: ducks are welcome."""

    def __init__(self, family: Any, hops: Sequence[Hop], log: Log) -> None:
        self.family, self.hops, self.log = family, list(hops), log
        self.sync_stream, self.async_stream = streams(family)

    def next_hop(self, request: Any, body: list[bytes]) -> Hop:
        number = sum(1 for entry in self.log if entry[0] == "request")
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        extensions = sorted(set(request.extensions) - {"llmobs"})
        self.log.append(("request", request.method, str(request.url), headers, body, extensions))
        return self.hops[min(number, len(self.hops) - 1)]

    def answer(self, hop: Hop, stream: type) -> Any:
        extensions = {"http_version": b"HTTP/1.1", "reason_phrase": b"Fine"}
        if hop.whole:
            content = b"".join(hop.chunks)
            return self.family.Response(hop.status, headers=hop.headers, content=content, extensions=extensions)
        body = stream(self.family, hop, self.log)
        return self.family.Response(hop.status, headers=hop.headers, stream=body, extensions=extensions)

    def handle_request(self, request: Any) -> Any:
        hop = self.next_hop(request, list(request.stream))
        if hop.fails and hop.fails_after is None:
            raise failure(self.family, hop.fails)
        return self.answer(hop, self.sync_stream)

    async def handle_async_request(self, request: Any) -> Any:
        await self.log.checkpoint()
        hop = self.next_hop(request, [chunk async for chunk in request.stream])
        await self.log.checkpoint()
        if hop.fails and hop.fails_after is None:
            raise failure(self.family, hop.fails)
        return self.answer(hop, self.async_stream)

    def close(self) -> None:
        self.log.append("transport closed")

    async def aclose(self) -> None:
        self.log.append("transport closed")

    def __enter__(self) -> "ScriptedTransport":
        self.log.append("transport entered")
        return self

    def __exit__(self, *error: Any) -> None:
        self.log.append("transport left")

    async def __aenter__(self) -> "ScriptedTransport":
        self.log.append("transport entered")
        return self

    async def __aexit__(self, *error: Any) -> None:
        self.log.append("transport left")


@dataclass
class Uploaded:
    """A one-shot body: produced while it is sent, once."""

    pieces: Sequence[bytes]
    log: Log
    fails_after: int | None = None
    started: int = field(default=0)

    def sync(self):
        self.log.append("upload begun")
        try:
            for index, piece in enumerate(self.pieces):
                if index == self.fails_after:
                    raise ValueError("upload broke")
                yield piece
        finally:
            self.log.append("upload ended")

    async def asynchronous(self):
        self.log.append("upload begun")
        try:
            for index, piece in enumerate(self.pieces):
                if index == self.fails_after:
                    raise ValueError("upload broke")
                await asyncio.sleep(0)
                yield piece
        finally:
            self.log.append("upload ended")
