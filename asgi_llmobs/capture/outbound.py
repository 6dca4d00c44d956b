"""One LLM call under way: notes bytes and clocks on the caller's side, and ends as exactly one exchange."""

import asyncio
import hashlib
import sys
import threading
import time
from collections import deque
from typing import Any

from asgi_llmobs.capture import annotations
from asgi_llmobs.capture.caller import caller
from asgi_llmobs.capture.recorder import Recorder, active_recorder, otel_parent
from asgi_llmobs.capture.streams import family_of
from asgi_llmobs.context import current_place, new_span_id
from asgi_llmobs.providers import Match
from asgi_llmobs.records import Exchange, Outcome
from asgi_llmobs.safely import guarded, safely

__all__ = ["MARKER", "Call", "begin"]

MARKER = "llmobs"  # key in request.extensions: httpx copies them into the request of a redirect
RETRY_WITHIN_NS = 60_000_000_000
RETRYABLE = frozenset({408, 409, 425, 429})
CAPTURE_LIMIT = 16 * 1024 * 1024
MAX_CACHED = 4_096
GATEWAY_HOST = b"helicone.ai"  # the one peer that Helicone-* headers are meant for

_matches: dict[tuple[Any, ...], Match | None] = {}


class Retries:
    """Failed attempts that may be tried again: what is sent anew from the same place is the same request."""

    def __init__(self) -> None:
        self._failed: dict[tuple[Any, ...], deque[Exchange]] = {}
        self._lock = threading.Lock()

    def add(self, key: tuple[Any, ...], exchange: Exchange) -> None:
        with self._lock:
            self._forget_old()
            self._failed.setdefault(key, deque(maxlen=1_000)).append(exchange)

    def take(self, key: tuple[Any, ...], attempt: int | None) -> Exchange | None:
        """The failed attempt that this one repeats; *attempt* is its number where the client tells it."""
        if not self._failed:
            return None
        with self._lock:
            self._forget_old()
            for exchange in self._failed.get(key, ()):
                if attempt is None or exchange.attempt == attempt - 1:
                    self._failed[key].remove(exchange)
                    return exchange
        return None

    def _forget_old(self) -> None:
        limit = time.monotonic_ns() - RETRY_WITHIN_NS
        for key, waiting in list(self._failed.items()):
            while waiting and (waiting[0].end_clock_ns or 0) < limit:
                waiting.popleft()
            if not waiting:
                del self._failed[key]

    def __bool__(self) -> bool:
        return bool(self._failed)


retries = Retries()


class Call:
    """One attempt under way. Every method is cheap, synchronous and safe to call twice."""

    __slots__ = ("_hash", "_limit", "_tail", "_tail_size", "content", "done", "exchange", "recorder")

    def __init__(self, exchange: Exchange, recorder: Recorder) -> None:
        self.exchange = exchange
        self.recorder = recorder
        self.done = False
        self.content = b""  # a request body that was in memory from the start
        self._limit = CAPTURE_LIMIT
        self._tail: deque[bytes] | None = None
        self._tail_size = 0
        self._hash: Any = None

    def sent(self, data: bytes) -> None:
        """A piece of the request body goes out."""
        exchange = self.exchange
        exchange.request_size += len(data)
        if exchange.request_size <= self._limit:
            exchange.request_chunks.append(data)
        else:
            exchange.request_truncated = True

    def resend(self) -> None:
        """The request body is iterated anew: a redirect or an auth flow sends it again."""
        exchange = self.exchange
        exchange.request_chunks = []
        exchange.request_size = 0

    def answered(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The response headers are here."""
        exchange = self.exchange
        exchange.status = status
        exchange.response_headers = headers
        exchange.headers_clock_ns = time.monotonic_ns()

    def received(self, data: bytes) -> None:
        """A piece of the response body came in."""
        exchange = self.exchange
        exchange.response_size += len(data)
        if exchange.response_size <= self._limit:
            exchange.response_chunks.append(data)
            exchange.chunk_clocks.append(time.monotonic_ns())
        else:
            self._keep_tail(data)

    def _keep_tail(self, data: bytes) -> None:
        """Beyond the limit: the newest bytes replace older ones, so that usage at the end is still found."""
        exchange = self.exchange
        if self._tail is None:
            self._tail = deque()
            exchange.response_truncated = True
            # half of what was kept makes room for the tail; the hash goes on over everything
            self._hash = hashlib.sha256(b"".join(exchange.response_chunks))
            kept = 0
            for index, chunk in enumerate(exchange.response_chunks):
                kept += len(chunk)
                if kept > self._limit // 2:
                    del exchange.response_chunks[index + 1 :]
                    break
        self._hash.update(data)
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail and self._tail_size - len(self._tail[0]) > self._limit // 4:
            self._tail_size -= len(self._tail.popleft())

    def finish(self, outcome: str = Outcome.OK, error: BaseException | None = None, *, eof: bool = False) -> None:
        """The call is over; only the first time counts."""
        if self.done:
            return
        self.done = True
        with safely("finish"):
            self._finish(outcome, error, eof)

    def _finish(self, outcome: str, error: BaseException | None, eof: bool) -> None:
        exchange = self.exchange
        exchange.end_clock_ns = time.monotonic_ns()
        exchange.outcome = outcome
        exchange.eof = eof
        if error is not None:
            exchange.error_type = type(error).__name__
            with safely("error text"):
                exchange.error_message = str(error)[:2_000]
        if self._tail is not None:
            exchange.response_chunks.extend(self._tail)
            exchange.response_sha256 = self._hash.hexdigest()
        if outcome == Outcome.ERROR or (exchange.status is not None and retryable(exchange.status)):
            retries.add(retry_key(exchange, self.content), exchange)
        trace = exchange.trace
        if trace is not None:
            exchange.session_id = exchange.session_id or trace.session_id
            exchange.session_name = exchange.session_name or trace.session_name
            exchange.session_path = exchange.session_path or trace.session_path
            exchange.user_id = exchange.user_id or trace.user_id
            exchange.properties = {**trace.properties, **exchange.properties}
            if trace.route_of is not None:
                exchange.route = trace.route_of()
        self.recorder.finish(exchange)

    def read_already(self, content: bytes) -> None:
        """The response was complete before we saw it (mocks, caches): its content is decoded."""
        self.exchange.decoded = True
        if content:
            self.received(content)
        self.finish(eof=True)

    def fail(self, error: BaseException) -> None:
        """The call ended with an exception, which goes on to the caller as it is."""
        self.finish(outcome_of(error), error)

    def closed(self) -> None:
        """The response was closed before its end: whether that is an early close, the dialect will tell.

        What is being handled at this moment says whether it is because the task was cancelled.
        """
        error = sys.exc_info()[1]
        if error is not None and is_cancelled(error):
            self.finish(Outcome.CANCELLED, error)
        else:
            self.finish(Outcome.ABANDONED)


def is_cancelled(error: BaseException) -> bool:
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
        return True
    trio = sys.modules.get("trio")
    return trio is not None and isinstance(error, trio.Cancelled)


def outcome_of(error: BaseException) -> Outcome:
    """How a call ended that ended with *error*."""
    if is_cancelled(error):
        return Outcome.CANCELLED
    if isinstance(error, GeneratorExit):
        return Outcome.ABANDONED
    return Outcome.ERROR


def retryable(status: int) -> bool:
    return status >= 500 or status in RETRYABLE


def task_key() -> tuple[int, int]:
    """Who runs this: SDKs retry in the task or thread that failed."""
    task = 0
    if "asyncio" in sys.modules:
        try:
            current = asyncio.current_task()
            task = id(current) if current is not None else 0
        except RuntimeError:
            pass
    return threading.get_ident(), task


def retry_key(exchange: Exchange, content: bytes) -> tuple[Any, ...]:
    """Same place, same address, same body (bodies that are produced while they are sent are taken as the same)."""
    here = (exchange.trace_id, exchange.parent_id) if exchange.parent_id else task_key()
    return (here, exchange.method, exchange.url, len(content), hash(content))


def find_match(recorder: Recorder, request: Any) -> Match | None:
    """Who answers *request*. Cached: of most calls of an app it is asked again and again."""
    url = request.url
    raw_path = url.raw_path.partition(b"?")[0]
    key = (recorder.config.providers and id(recorder), request.method, url.raw_host, url.port, raw_path)
    if key in _matches:
        found = _matches[key]
    else:
        found = recorder.match(request.method, url.host, url.port, url.path)
        if len(_matches) >= MAX_CACHED:
            _matches.clear()
        _matches[key] = found
    if recorder.config.record is not None:
        wanted = recorder.config.record(request.method, str(url))
        if wanted is False:
            return None
        if wanted and found is None:
            return recorder.match_any(url.path)
    return found


@guarded("begin call")
def begin(request: Any, own: Recorder | None = None) -> Call | None:
    """Look at a request on its way out; a :class:`Call` where it is an LLM call that is to be recorded.

    Our own headers are taken out whatever it is. A request that an outer layer watches already is let through.

    Args:
        request: An ``httpx`` or ``httpx2`` request.
        own: The recorder of the transport that was wrapped; the one in force otherwise.
    """
    marker = request.extensions.get(MARKER)
    if marker is not None and not marker.done:
        return None
    said = take_annotations(request)
    place = current_place()
    recorder = active_recorder(place.trace if place is not None else None, own)
    if recorder is None:
        return None
    found = find_match(recorder, request)
    if found is None:
        return None
    if marker is not None and said is annotations.NONE:
        said = marker.exchange.annotations  # the same request object is sent again
    call = Call(make_exchange(request, recorder, found, said), recorder)
    if not call.exchange.trace.admit():
        return None
    read_body(call, request)
    join_retry(call, request, marker)
    request.extensions[MARKER] = call
    recorder.begin(call.exchange)
    return call


def take_annotations(request: Any) -> annotations.Annotations:
    headers = request.headers.raw
    ours = [name for name, _ in headers if annotations.is_ours(name)]
    if not ours or request.url.raw_host.endswith(GATEWAY_HOST):
        return annotations.NONE
    said = annotations.read(headers)
    for name in {name.lower() for name in ours}:
        del request.headers[name.decode("latin-1")]
    return said


def make_exchange(request: Any, recorder: Recorder, found: Match, said: annotations.Annotations) -> Exchange:
    place = current_place()
    parent_id: str | None
    properties: dict[str, str] = {}
    if place is None:
        joined = otel_parent()
        trace = recorder.new_trace(joined[0] if joined else None)
        parent_id = joined[1] if joined else None
    else:
        trace, parent_id = place.trace, place.span_id
        properties.update(place.properties)
    if said.session_id and trace.session_id is None:
        trace.session_id, trace.session_name = said.session_id, said.session_name
    if said.user_id and trace.user_id is None:
        trace.user_id = said.user_id
    properties.update(said.properties)
    config = recorder.config
    clock, now = time.monotonic_ns(), time.time_ns()
    return Exchange(
        id=new_span_id(),
        trace_id=trace.id,
        parent_id=parent_id,
        match=found,
        method=request.method,
        url=str(request.url),
        start_ns=now,
        clock_ns=clock,
        first_start_ns=now,
        first_clock_ns=clock,
        request_headers=list(request.headers.raw),
        annotations=said,
        properties=properties,
        project=said.project or trace.project,
        session_id=said.session_id,
        session_name=said.session_name,
        session_path=said.session_path,
        user_id=said.user_id,
        caller=caller(),
        omit_request=said.omit_request or config.capture == "metadata",
        omit_response=said.omit_response or config.capture == "metadata",
        trace=trace,
    )


def read_body(call: Call, request: Any) -> None:
    """Note a body that is in memory already; one that is produced while it is sent is watched on its way."""
    content = getattr(request, "_content", None)
    if content is not None:
        if content:
            call.content = content
            call.sent(content)
        return
    with safely("watch request body"):
        request.stream = family_of(request).watch_request(request.stream, call)


def join_retry(call: Call, request: Any, marker: Call | None) -> None:
    """Make this attempt part of the request that it repeats.

    *marker* is the attempt that the same request object, or the one it was redirected from, made before.
    """
    exchange = call.exchange
    before: Exchange | None = None
    if marker is not None:
        before = marker.exchange
        retries.take(retry_key(before, marker.content), None)
    else:
        told = request.headers.get("x-stainless-retry-count")
        if not retries or told == "0":
            return
        attempt = int(told) + 1 if told is not None and told.isdigit() else None
        before = retries.take(retry_key(exchange, call.content), attempt)
    if before is None or not (before.outcome == Outcome.ERROR or (before.status or 0) >= 300):
        return
    exchange.id, exchange.trace_id, exchange.parent_id = before.id, before.trace_id, before.parent_id
    exchange.attempt = before.attempt + 1
    exchange.first_start_ns, exchange.first_clock_ns = before.first_start_ns, before.first_clock_ns
    exchange.trace = before.trace
