"""Records on their way out: a sink with a queue and a thread of its own, so that a slow collector delays nobody."""

import atexit
import os
import random
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from asgi_llmobs.config import without_password
from asgi_llmobs.context import suppress
from asgi_llmobs.errors import ConfigError
from asgi_llmobs.otlp import emit
from asgi_llmobs.otlp.limits import Limits, Refused
from asgi_llmobs.otlp.once import Once
from asgi_llmobs.otlp.protobuf import BYTES, VARINT, Budget, fields
from asgi_llmobs.records import Outcome, Request, Span, Written
from asgi_llmobs.safely import report, safely
from asgi_llmobs.scores import is_score

__all__ = ["Exporter", "Exported", "targets_of"]

BATCH = 512
GATHER_SECONDS = 1.0
LINGER_NS = 5_000_000_000  # that a failed attempt waits for the next one, so that a call goes out once
MOST_WAITING = 10_000
PATIENCE_SECONDS = 300.0  # that one batch is tried for
LONGEST_PAUSE = 30.0
SEND_SECONDS = 10.0
AGAIN = frozenset((408, 429, 500, 502, 503, 504))
CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
YES = frozenset(("true", "1", "yes", "span_only", "span_and_event"))


class Exported(NamedTuple):
    """What became of what was to go out; every record taken in is in one of the three."""

    sent: int
    waiting: int
    dropped: Mapping[str, int]
    last_error: str | None


class Later(Exception):
    """It cannot be taken now. ``seconds``: when to try again, ``None`` where that was not said."""

    def __init__(self, why: str, seconds: float | None = None) -> None:
        super().__init__(why)
        self.seconds = seconds


class Target(Protocol):
    """Where spans and measurements go."""

    def send(self, spans: Sequence[emit.Emitted], points: Sequence[emit.Point]) -> int:
        """Send them; how many spans were refused.

        Raises:
            Later: Try again.
        """


class Collector:
    """An OTLP endpoint over HTTP, in protobuf.

    Args:
        url: Its address; ``/v1/traces`` and ``/v1/metrics`` are added unless it ends in the former.
        resource: Attributes of this process.
        environ: Where ``OTEL_EXPORTER_OTLP_HEADERS`` is looked up.
    """

    def __init__(self, url: str, resource: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                "export", f"{without_password(url)!r} is no address; write https://collector.example:4318"
            )
        base = parts.path.rstrip("/").removesuffix("/v1/traces")
        self.traces, self.metrics = (
            urlunsplit((parts.scheme, parts.netloc, f"{base}/v1/{kind}", parts.query, ""))
            for kind in ("traces", "metrics")
        )
        self.resource = {name: value for name, value in resource.items() if value is not None}
        self.headers = {"content-type": "application/x-protobuf", **headers_of(environ)}
        self._client: Any = None
        self._since = time.time_ns()

    def send(self, spans: Sequence[emit.Emitted], points: Sequence[emit.Point]) -> int:
        refused = rejected(self._post(self.traces, emit.traces_body(spans, self.resource)), len(spans))
        if points:
            now = time.time_ns()
            with safely("export metrics"):  # a collector without metrics takes the spans all the same
                self._post(self.metrics, emit.metrics_body(points, self.resource, self._since, now))
            self._since = now
        return refused

    def _post(self, url: str, body: bytes) -> Any:
        import httpx  # only where something goes out

        if self._client is None:
            self._client = httpx.Client(timeout=SEND_SECONDS)
        try:
            response = self._client.post(url, content=body, headers=self.headers)
        except httpx.TransportError as error:
            raise Later(type(error).__name__) from None
        if response.status_code in AGAIN:
            after = response.headers.get("retry-after", "")
            raise Later(f"HTTP {response.status_code}", float(after) if after.isdecimal() and len(after) < 5 else None)
        return response


def rejected(response: Any, count: int) -> int:
    """How many of *count* spans the other side has refused."""
    if response.status_code >= 300:
        return count
    budget = Budget(Limits())
    try:
        for number, wire, partial in fields(memoryview(response.content), budget):
            if number == 1 and wire == BYTES:
                return int(
                    next((value for inner, kind, value in fields(partial, budget) if (inner, kind) == (1, VARINT)), 0)
                )
    except Refused:
        return 0
    return 0


def headers_of(environ: Mapping[str, str]) -> dict[str, str]:
    text = environ.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or environ.get("OTEL_EXPORTER_OTLP_HEADERS") or ""
    pairs = (entry.partition("=") for entry in text.split(",") if "=" in entry)
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}


class SpansTo:
    """A tracer provider of the app: what its processors get are finished spans with our ids."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider

    def send(self, spans: Sequence[emit.Emitted], points: Sequence[emit.Point]) -> int:
        from asgi_llmobs.otlp.readable import readable  # loads OpenTelemetry's SDK, only where it is used

        for span in spans:
            # the public way would make ids of its own, and with them another tree
            self.provider._active_span_processor.on_end(readable(span, self.provider.resource))
        return 0


class MetricsTo:
    """A meter provider of the app."""

    def __init__(self, provider: Any) -> None:
        meter = provider.get_meter(emit.SCOPE)
        self._histograms = {name: meter.create_histogram(name, unit=unit) for name, unit in emit.UNITS.items()}

    def send(self, spans: Sequence[emit.Emitted], points: Sequence[emit.Point]) -> int:
        for point in points:
            self._histograms[point.metric].record(point.value, attributes=point.attributes)
        return 0


def targets_of(export: Any, resource: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> list[Target]:
    """Where *export*, the option, says that records go.

    Raises:
        ConfigError: It is no address, tracer provider or meter provider, nor a list of these.
    """
    environ = os.environ if environ is None else environ
    found: list[Target] = []
    for one in export if isinstance(export, list | tuple) else [export]:
        if isinstance(one, str):
            found.append(Collector(one, resource, environ))
        elif hasattr(one, "_active_span_processor") and hasattr(one, "resource"):
            found.append(SpansTo(one))
        elif hasattr(one, "get_meter"):
            found.append(MetricsTo(one))
        else:
            raise ConfigError(
                "export", "give the address of an OTLP endpoint, or a tracer or meter provider of the SDK"
            )
    return found


class Exporter:
    """A sink that sends records on. What it is given is taken over at once; it never waits and never fails.

    Args:
        targets: Where they go.
        content: Whether prompts and answers go out; what ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` says
            unless given.
    """

    def __init__(self, targets: Sequence[Target], *, content: bool | None = None) -> None:
        self._targets = targets
        self._content = asked(os.environ) if content is None else content
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Condition()
        self._waiting: OrderedDict[str, tuple[Span, int]] = OrderedDict()  # with when it may go
        self._once = Once()
        self._thread: threading.Thread | None = None
        self._taken = self._sent = self._sending = 0
        self._dropped: Counter[str] = Counter()
        self._error: str | None = None
        self._hurry = False

    def reset_after_fork(self) -> None:
        """A forked child has sent nothing yet, and has no thread."""
        self._reset()

    def write(self, batch: Sequence[Span]) -> Written:
        """Take *batch* over."""
        now = time.monotonic_ns()
        with self._lock:
            for record in batch:
                if record.outcome != Outcome.RUNNING and not is_score(record):
                    self._take(record, now)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="llmobs-export", daemon=True)
                self._thread.start()
                atexit.register(self.flush, 2.0)
            self._lock.notify_all()
        return Written(len(batch), 0)

    def _take(self, record: Span, now: int) -> None:
        before = self._waiting.pop(record.id, None)
        if before is None:
            self._taken += 1
        failed = isinstance(record, Request) and record.outcome == Outcome.ERROR
        self._waiting[record.id] = (record, now + LINGER_NS if failed else now)
        self._once.note(record)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popitem(last=False)
            self._dropped["export queue full"] += 1

    def stats(self) -> Exported:
        """What became of everything so far."""
        with self._lock:
            return Exported(self._sent, len(self._waiting) + self._sending, dict(self._dropped), self._error)

    def counters(self) -> dict[str, Any]:
        """What went out, and what did not, by reason."""
        sent, _, dropped, _ = self.stats()
        return {"exported": sent, "unexported": dropped}

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all that waits has gone out, *timeout* seconds at most; whether it has."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self._hurry = True
            self._lock.notify_all()
            while self._waiting or self._sending:
                left = deadline - time.monotonic()
                if left <= 0 or self._thread is None:
                    break
                self._lock.wait(min(left, 0.1))
            self._hurry = False
            return not (self._waiting or self._sending)

    def _run(self) -> None:
        with suppress():  # what is sent out is not recorded
            while True:
                batch = self._next()
                if batch:
                    with safely("export"):
                        self._deliver(batch)
                    with self._lock:
                        self._sending = 0
                        self._lock.notify_all()

    def _next(self) -> list[Span]:
        """The records that may go, when there are some."""
        with self._lock:
            if not self._waiting or (len(self._waiting) < BATCH and not self._hurry):
                self._lock.wait(GATHER_SECONDS)
            now = time.monotonic_ns()
            ready = [id for id, (_, due) in self._waiting.items() if due <= now or self._hurry][:BATCH]
            batch = [self._waiting.pop(id)[0] for id in ready]
            self._sending = len(batch)
            return batch

    def _deliver(self, batch: Sequence[Span]) -> None:
        with self._lock:
            doubles = {record.id for record in batch if isinstance(record, Request) and not self._once.counts(record)}
        spans, points = [], []
        for record in batch:
            double = record.id in doubles
            spans.append(emit.emitted(emit.as_node(record) if double else record, content=self._content))
            points += [] if double else emit.points(record)
        refused = max([self._send(target, spans, points) for target in self._targets], default=0)
        with self._lock:
            self._sent += len(batch) - refused

    def _send(self, target: Target, spans: Sequence[emit.Emitted], points: Sequence[emit.Point]) -> int:
        until = time.monotonic() + PATIENCE_SECONDS
        pause = 0.5
        while True:
            try:
                refused = target.send(spans, points)
                self._note(None, "export refused", refused)
                return refused
            except Later as later:
                pause = min(LONGEST_PAUSE, max(later.seconds or 0.0, 2 * pause * random.uniform(0.75, 1.0)))
                self._note(str(later))
                if time.monotonic() + pause > until:
                    self._note(str(later), "export gave up", len(spans))
                    return len(spans)
            except Exception as error:  # noqa: BLE001 - a processor or exporter of the app
                report("export", error)
                self._note(type(error).__name__, "export failed", len(spans))
                return len(spans)
            self._rest(pause)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._lock:
            while (left := until - time.monotonic()) > 0:
                self._lock.wait(left)

    def _note(self, error: str | None, reason: str = "", count: int = 0) -> None:
        with self._lock:
            self._error = error
            if count:
                self._dropped[reason] += count


def asked(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own variable asks for content."""
    return environ.get(CONTENT_VARIABLE, "").strip().lower() in YES
