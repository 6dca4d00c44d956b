"""One attempt under way: notes bytes and clocks on the caller's side, and ends as exactly one exchange."""

import asyncio
import hashlib
import sys
from collections import deque
from collections.abc import MutableSequence
from time import monotonic_ns
from typing import Any

from asgi_llmobs.capture.recorder import Recorder
from asgi_llmobs.capture.retries import Past, retries, retry_key, retryable, task_key
from asgi_llmobs.records import Exchange, Outcome
from asgi_llmobs.safely import message_of, safely

__all__ = ["Call", "is_cancelled", "outcome_of"]

CAPTURE_BODIES = 8  # times max_body: what is held of one body until it was read; a JSON body is cut only beyond
MANY_CHUNKS = 8_192  # so many keep their own time; further ones are put together into pieces
PIECE = 16 * 1024
PART_NS = 250_000_000  # what streams for longer than this, or more than a piece, is noted on the way
EVENT_STREAM = b"text/event-stream"
LAST_EVENT = b'"message_stop"'  # Anthropic's
LAST = 96  # bytes in which the last event of a stream is looked for: it may be padded with blanks
FAMILIES = ("httpx", "httpx2")
FINISHING, REMEMBERING = safely("finish"), safely("retries")


class Call:
    """One attempt under way. Every method is cheap, synchronous and safe to call twice."""

    __slots__ = (
        "_ambient",
        "_hash",
        "_limit",
        "_part_clock",
        "_part_size",
        "_request_tail",
        "_streams",
        "_tail",
        "_tail_clocks",
        "_tail_size",
        "content",
        "done",
        "exchange",
        "past",
        "recorder",
    )

    def __init__(self, exchange: Exchange, recorder: Recorder) -> None:
        self.exchange: Exchange | None = exchange  # until it is handed over
        self.recorder = recorder
        self.done = False
        self.past: Past | None = None  # what is left of it afterwards
        self.content = b""  # a request body that was in memory from the start
        self._limit = CAPTURE_BODIES * recorder.config.max_body
        self._part_clock, self._part_size = exchange.clock_ns + PART_NS, PIECE
        self._tail: deque[Any] | None = None  # these are made for what is very long only
        self._tail_clocks: deque[int] | None = None
        self._tail_size = 0
        self._request_tail: deque[Any] | None = None
        self._hash: Any = None
        self._streams = False
        self._ambient = id(sys.exc_info()[1])  # a call may be made while an older exception is being handled

    def sent(self, data: bytes) -> None:
        """A piece of the request body goes out."""
        exchange = self.exchange
        if exchange is None:
            return
        limit = self._limit
        exchange.request_size += len(data)
        if exchange.request_size <= limit:
            if exchange.request_chunks and len(exchange.request_chunks) >= MANY_CHUNKS:
                put_together(exchange.request_chunks, data)
            else:
                exchange.request_chunks.append(data)
            return
        if not exchange.request_truncated:
            exchange.request_truncated = True
            if not exchange.request_chunks:
                exchange.request_chunks.append(data[: limit // 8])
        tail = self._request_tail
        if tail is None:
            tail = self._request_tail = deque()
        put_together(tail, data[-(limit // 8) :])
        while len(tail) > 1 and sum(map(len, tail)) > limit // 4:
            tail.popleft()

    def resend(self) -> None:
        """The request body is iterated anew: a redirect or an auth flow sends it again."""
        exchange = self.exchange
        if exchange is not None:
            exchange.request_chunks = []
            exchange.request_size = 0
            exchange.request_truncated = False
            self._request_tail = None

    def answered(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The response headers are here."""
        exchange = self.exchange
        if exchange is not None:
            exchange.status = status
            exchange.response_headers = headers
            exchange.headers_clock_ns = monotonic_ns()
            self._streams = EVENT_STREAM in b"\n".join([value for _, value in headers])

    def received(self, data: bytes) -> None:
        """A piece of the response body came in."""
        exchange = self.exchange
        if exchange is None:
            return
        if type(data) is not bytes:
            data = bytes(data)  # a transport may use its buffer again
        exchange.chunks = chunks = exchange.chunks + 1
        exchange.response_size = size = exchange.response_size + len(data)
        if size > self._limit:
            self._keep_tail(exchange, data)
            return
        clock = monotonic_ns()
        if chunks <= MANY_CHUNKS:
            exchange.response_chunks.append(data)
            exchange.chunk_clocks.append(clock)
        else:
            put_together(exchange.response_chunks, data, exchange.chunk_clocks)
        if size > self._part_size or clock > self._part_clock:
            self._part_clock = clock + PART_NS
            self._part_size = size + PIECE
            self.recorder.progress(exchange)
        if self._streams and data.find(LAST_EVENT, -LAST) >= 0 and is_last(data):
            self.finish(
                Outcome.ABANDONED
            )  # the dialect will tell that it is complete; litellm reads no further and closes nothing

    def begins_with(self, data: bytes) -> bool:
        """Whether the response came with *data* as its first piece."""
        chunks = self.exchange.response_chunks if self.exchange is not None else ()
        return len(data) > 0 and len(chunks) > 0 and chunks[0] == data

    def _keep_tail(self, exchange: Exchange, data: bytes) -> None:
        """Beyond the limit: the newest bytes replace older ones, so that usage at the end is still found."""
        if self._hash is None:
            self._cut(exchange)
        self._hash.update(data)
        tail, clocks = self._tail, self._tail_clocks
        if tail is None or clocks is None:
            tail, clocks = self._tail, self._tail_clocks = deque(), deque()
        self._tail_size += len(data)
        put_together(tail, data, clocks)
        while self._tail_size - len(tail[0]) > self._limit // 4:
            self._tail_size -= len(tail.popleft())
            clocks.popleft()

    def _cut(self, exchange: Exchange) -> None:
        """Half of what was kept makes room for the tail; the hash goes on over everything."""
        exchange.response_truncated = True
        self._hash = hashlib.sha256()
        kept = 0
        keep = 0
        for chunk in exchange.response_chunks:
            self._hash.update(chunk)
            kept += len(chunk)
            keep += kept <= self._limit // 2
        del exchange.response_chunks[keep:], exchange.chunk_clocks[keep:]

    def finish(self, outcome: str = Outcome.OK, error: BaseException | None = None, *, eof: bool = False) -> None:
        """The call is over; only the first time counts."""
        exchange = self.exchange
        if self.done or exchange is None:
            return
        self.done, self.exchange = True, None
        if sys.is_finalizing():  # see Recorder
            return
        exchange.end_clock_ns = monotonic_ns()
        exchange.outcome = outcome
        exchange.eof = eof
        if self._request_tail is not None:
            exchange.request_chunks.extend(self._request_tail)
        if self._tail is not None and self._tail_clocks is not None:
            exchange.response_chunks.extend(self._tail)
            exchange.chunk_clocks.extend(self._tail_clocks)
            self._tail = self._tail_clocks = None
        if error is not None:
            exchange.error_type = type(error).__name__
            exchange.error_message = message_of(error)
        with FINISHING:
            if self._hash is not None:
                exchange.response_sha256 = self._hash.hexdigest()
            self._inherit(exchange)
        with REMEMBERING:
            self._remember(exchange)
        self.recorder.finish(exchange)

    def _inherit(self, exchange: Exchange) -> None:
        trace = exchange.trace
        if trace is None:
            return
        exchange.inherit()
        exchange.properties = {**trace.properties, **exchange.properties}
        exchange.route = trace.route()

    def _remember(self, exchange: Exchange) -> None:
        """What the next attempt has to know; the bodies are not held on to."""
        status, content = exchange.status, self.content
        again = exchange.outcome == Outcome.ERROR or (status is not None and retryable(status))
        task = task_key() if again else (0, 0)
        self.content = b""
        self.past = Past(
            id=exchange.id,
            trace_id=exchange.trace_id,
            parent_id=exchange.parent_id,
            trace=exchange.trace,
            attempt=exchange.attempt,
            first_start_ns=exchange.first_start_ns,
            first_clock_ns=exchange.first_clock_ns,
            end_clock_ns=exchange.end_clock_ns or 0,
            match=exchange.match,
            annotations=exchange.annotations,
            failed=exchange.outcome == Outcome.ERROR or (status or 0) >= 300,
            key=retry_key(exchange, content, task) if again else (),
            task=task,
        )
        if again:
            retries.add(self.past)

    def read_already(self, content: bytes) -> None:
        """The response was complete before we saw it (mocks, caches): its content is decoded."""
        if self.exchange is not None:
            self.exchange.decoded = True
        if content:
            self.received(content)
        self.finish(eof=True)

    def fail(self, error: BaseException) -> None:
        """The call ended with an exception, which goes on to the caller as it is."""
        self.finish(outcome_of(error), error)

    def closed(self) -> None:
        """The response was closed before its end: whether that is an early close, the dialect will tell.

        What is being handled at this moment says whether it is because the task was cancelled, or because what came
        could not be decoded.
        """
        error = sys.exc_info()[1]
        if error is not None and id(error) != self._ambient and (is_cancelled(error) or of_family(error)):
            self.fail(error)
        else:
            self.finish(Outcome.ABANDONED)


def is_last(data: bytes) -> bool:
    """Whether a piece of an event stream ends with Anthropic's last event, after which nothing comes."""
    line = data[-LAST:].rstrip().rpartition(b"\n")[2]
    return line.startswith(b"data:") and line.endswith(b"}")


def put_together(chunks: MutableSequence[Any], data: bytes, clocks: MutableSequence[int] | None = None) -> None:
    """Append *data* to the piece that is last, or begin a new one where that is large; its time is the newest."""
    last = chunks[-1] if chunks else None
    if type(last) is bytearray and len(last) < PIECE:
        last += data
        if clocks is not None:
            clocks[-1] = monotonic_ns()
        return
    chunks.append(bytearray(data))
    if clocks is not None:
        clocks.append(monotonic_ns())


def of_family(error: BaseException) -> bool:
    """Whether the HTTP client itself failed: an error about the status is what the app made of a good answer."""
    return type(error).__module__.partition(".")[0] in FAMILIES and not hasattr(error, "response")


def is_cancelled(error: BaseException) -> bool:
    """Whether *error* says that the task, or the whole process, is to stop."""
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
