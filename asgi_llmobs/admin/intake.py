"""Addresses that take data in: read to a limit off the event loop's back, handed to the engine, answered as it says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar
from starlette.requests import Request
from starlette.responses import Response

from asgi_llmobs.admin.answers import GUARD, INERT, plain
from asgi_llmobs.admin.page import Permission, Route
from asgi_llmobs.admin.sent import Refused, content_type, read

__all__ = ["INTAKES", "Ingest", "Intake", "Sent", "is_exporter", "take"]

THREADS = 2  # of each event loop: what is taken in never takes those of the pages
WAITING = 16  # requests that are read or worked on at a time
MACHINE_TYPES = ("application/x-protobuf", "application/protobuf", "application/json")


class Taken(Protocol):
    """What the sender is told."""

    @property
    def status(self) -> int: ...
    @property
    def content(self) -> bytes: ...
    @property
    def media_type(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


class Ingest(Protocol):
    """What takes data in, on the other side of the house."""

    @property
    def limits(self) -> Any:
        """``limits.body``: bytes of one request at most."""

    def traces(self, body: bytes, content_type: str, content_encoding: str) -> Taken:
        """Take OTLP traces in. Blocking."""

    def logs(self, body: bytes, content_type: str, content_encoding: str) -> Taken:
        """Take OTLP logs in. Blocking."""

    def custom_log(
        self, body: bytes, content_encoding: str, headers: Sequence[tuple[bytes, bytes]], *, typed: bool
    ) -> Taken:
        """Take one entry of the custom trace log in. Blocking."""


class Sent(NamedTuple):
    """A request that has arrived."""

    body: bytes
    content_type: str
    content_encoding: str
    headers: Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, kw_only=True)
class Intake(Route):
    """An address that takes data in by POST; ``load`` gets the engine's ingest and what was sent."""

    load: Callable[..., Taken]


def traces(ingest: Ingest, sent: Sent) -> Taken:
    return ingest.traces(sent.body, sent.content_type, sent.content_encoding)


def logs(ingest: Ingest, sent: Sent) -> Taken:
    return ingest.logs(sent.body, sent.content_type, sent.content_encoding)


def custom_log(ingest: Ingest, sent: Sent, *, typed: bool = False) -> Taken:
    return ingest.custom_log(sent.body, sent.content_encoding, sent.headers, typed=typed)


LOADS: Mapping[Callable[..., Taken], Sequence[str]] = {
    traces: ("v1/traces", "v1/trace/log", "v1/trace/log-python"),
    logs: ("v1/logs",),
    custom_log: ("v1/trace/custom/log", "v1/trace/custom/v1/log", "custom/v1/log"),
    partial(custom_log, typed=True): ("v1/trace/custom/log/typed",),
}
INTAKES: tuple[Intake, ...] = tuple(
    Intake(slug=slug, load=load, permission=Permission.INGEST) for load, slugs in LOADS.items() for slug in slugs
)

_limiter: RunVar[tuple[anyio.CapacityLimiter, list[int]]] = RunVar("llmobs_intake_limiter")


def is_exporter(request: Request) -> bool:
    """Whether a program sends this: no page of another site can, unasked, with these content types."""
    headers = request.headers
    return "origin" not in headers and "sec-fetch-site" not in headers and content_type(request) in MACHINE_TYPES


async def take(intake: Intake, ingest: Ingest, request: Request) -> Response:
    """Read the request and let *intake* work on it in a thread."""
    try:
        limiter, waiting = _limiter.get()
    except LookupError:
        limiter, waiting = anyio.CapacityLimiter(THREADS), [0]
        _limiter.set((limiter, waiting))
    if waiting[0] >= WAITING:
        return plain(429, headers={"retry-after": "1"})
    waiting[0] += 1
    try:
        try:
            body = await read(request, ingest.limits.body)
        except Refused as refused:
            return plain(refused.status, headers={"connection": "close"})
        headers = request.headers
        sent = Sent(body, headers.get("content-type", ""), headers.get("content-encoding", ""), headers.raw)
        taken = await anyio.to_thread.run_sync(intake.load, ingest, sent, limiter=limiter)
    finally:
        waiting[0] -= 1
    more = {"content-type": taken.media_type, "content-security-policy": INERT, **taken.headers}
    return Response(taken.content, taken.status, {**GUARD, **more})
