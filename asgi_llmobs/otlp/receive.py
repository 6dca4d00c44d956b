"""Taking OTLP traces in: unpack, read, make records, store; then the answer, in the encoding of the request."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from asgi_llmobs import encodings
from asgi_llmobs.config import Config
from asgi_llmobs.context import suppress
from asgi_llmobs.errors import LLMObsError
from asgi_llmobs.otlp import json, protobuf
from asgi_llmobs.otlp.limits import Limits, Refused
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.records import Span
from asgi_llmobs.safely import safely
from asgi_llmobs.semconv import Log, Told, entries_of, entry_of
from asgi_llmobs.writer import Sink, write

__all__ = ["Answer", "Receiver"]

JSON, PROTOBUF = "application/json", "application/x-protobuf"
TYPES = {JSON: JSON, PROTOBUF: PROTOBUF, "application/protobuf": PROTOBUF}
CODINGS = ("gzip", "x-gzip", "deflate", "zstd")
PLAIN_RATIO = 1024 * 1024  # bytes that any body may unpack to
BATCH = 500
RETRY_SECONDS = 5
NO_IDS = "spans without a trace id of 16 bytes and a span id of 8"
REUSED = "spans with the id of another span in another trace"
UNREAD = "spans that could not be read"
WHOLE = "requests that were refused as a whole"
NO_EVENT = "log records that are no GenAI events of a span"
NOT_STORED = "spans that the store refused"
CODES = {400: 3, 413: 8, 415: 3, 503: 14}  # of gRPC, for a status in words


class Answer(NamedTuple):
    """What the sender is told."""

    status: int
    content: bytes
    media_type: str
    headers: Mapping[str, str] = {}


class Receiver:
    """Takes OTLP traces into the sinks. What it answered with success is stored, also if the process is then killed.

    Args:
        config: The engine's options: the project that all is stored in, and how much content is kept.
        pipeline: Prices and redacts.
        sinks: Gives where records go.
        limits: What one request may hold.
    """

    def __init__(
        self, config: Config, pipeline: Pipeline, sinks: Callable[[], Sequence[Sink]], limits: Limits | None = None
    ) -> None:
        self._config = config
        self._pipeline = pipeline
        self._sinks = sinks
        self.limits = limits or Limits()
        self.stored = 0
        self.rejected: Counter[str] = Counter()

    def counters(self) -> dict[str, Any]:
        """What was taken in, and what was not, by reason."""
        return {"ingested": self.stored, "refused": dict(self.rejected)}

    def traces(self, body: bytes, content_type: str, content_encoding: str) -> Answer:
        """Store what is in an ``ExportTraceServiceRequest``. Blocking: call it from a thread.

        Args:
            body: As it was sent.
            content_type: The header; JSON or protobuf.
            content_encoding: The header; gzip, deflate, zstd or none.
        """
        media_type = TYPES.get(content_type.partition(";")[0].strip().lower(), "")
        try:
            told = self._read(body, media_type, content_encoding)
            with suppress():  # what the sinks call is not recorded
                rejected = self._store(told)
        except Refused as refusal:
            self.rejected[WHOLE] += 1
            return failed(refusal.status, refusal.message, media_type)
        except LLMObsError:
            return failed(503, "the store cannot be written now; send it again", media_type, str(RETRY_SECONDS))
        self.rejected.update(rejected)
        self.stored += len(told) - sum(rejected.values())
        return succeeded(rejected, media_type)

    def logs(self, body: bytes, content_type: str, content_encoding: str) -> Answer:
        """Store what the GenAI events in an ``ExportLogsServiceRequest`` tell. Blocking: call it from a thread.

        Args:
            body: As it was sent.
            content_type: The header; JSON or protobuf.
            content_encoding: The header; gzip, deflate, zstd or none.
        """
        media_type = TYPES.get(content_type.partition(";")[0].strip().lower(), "")
        try:
            found = self._read_logs(body, media_type, content_encoding)
            full = self._config.capture == "full"
            entries, unknown = entries_of(checked_logs(found), self._config.project, full=full)
            with suppress():  # what the sinks call is not recorded
                records = [record for entry in entries if (record := self._made(entry)) is not None]
                refused = max((write(sink, records, patient=False) for sink in self._sinks()), default=0)
        except Refused as refusal:
            self.rejected[WHOLE] += 1
            return failed(refusal.status, refusal.message, media_type)
        except LLMObsError:
            return failed(503, "the store cannot be written now; send it again", media_type, str(RETRY_SECONDS))
        rejected = +Counter({NO_EVENT: unknown, NOT_STORED: refused, UNREAD: len(entries) - len(records)})
        self.rejected.update(rejected)
        self.stored += len(records) - refused
        return succeeded(rejected, media_type, "rejectedLogRecords")

    def _made(self, entry: Span) -> Span | None:
        with safely("otlp"):
            return self._pipeline.process(entry)
        return None

    def _read_logs(self, body: bytes, media_type: str, content_encoding: str) -> list[Log]:
        if not media_type:
            raise Refused(415, f"send {PROTOBUF} or {JSON}")
        content = self._unpacked(body, content_encoding.strip().lower())
        return list((protobuf if media_type == PROTOBUF else json).read_logs(content, self.limits))

    def _read(self, body: bytes, media_type: str, content_encoding: str) -> list[Told]:
        if not media_type:
            raise Refused(415, f"send {PROTOBUF} or {JSON}")
        content = self._unpacked(body, content_encoding.strip().lower())
        reader = protobuf.read_traces if media_type == PROTOBUF else json.read_traces
        return list(reader(content, self.limits))

    def _unpacked(self, body: bytes, coding: str) -> bytes:
        limits = self.limits
        if len(body) > limits.body:
            raise Refused(413, f"more than {limits.body:,} bytes in one request; send smaller batches")
        if coding in ("", "identity"):
            return body
        if coding not in CODINGS:
            raise Refused(415, f"content-encoding {coding[:40]!r} is not understood; send gzip, deflate, zstd or none")
        limit = min(limits.unpacked, max(PLAIN_RATIO, limits.ratio * len(body)))
        found = encodings.decode([body], coding, limit)
        if found.problem is None:
            return found.body
        if len(found.body) > limit:
            raise Refused(413, f"the body unpacks to more than {limit:,} bytes; send smaller batches")
        raise Refused(400, f"the body is no whole {coding}")

    def _store(self, told: Sequence[Told]) -> Counter[str]:
        rejected: Counter[str] = Counter()
        valid = list(checked(told, rejected))
        for start in range(0, len(valid), BATCH):
            records = [record for each in valid[start : start + BATCH] if (record := self._record(each)) is not None]
            rejected[UNREAD] += len(valid[start : start + BATCH]) - len(records)
            refused = [write(sink, records, patient=False) for sink in self._sinks()]
            rejected[NOT_STORED] += max(refused, default=0)
        return +rejected

    def _record(self, told: Told) -> Span | None:
        with safely("otlp"):
            full = self._config.capture == "full"
            return self._pipeline.process(entry_of(told, self._config.project, full=full))
        return None


def checked(told: Iterable[Told], rejected: Counter[str]) -> Iterable[Told]:
    """The spans with ids that can be stored; the others are counted."""
    traces: dict[str, str] = {}
    for each in told:
        if not (is_id(each.trace_id, 32) and is_id(each.span_id, 16)):
            rejected[NO_IDS] += 1
        elif traces.setdefault(each.span_id, each.trace_id) != each.trace_id:
            rejected[REUSED] += 1
        else:
            yield each


def checked_logs(logs: Iterable[Log]) -> Iterable[Log]:
    """The records, with no ids where theirs cannot be stored."""
    for log in logs:
        valid = is_id(log.trace_id, 32) and is_id(log.span_id, 16)
        yield log if valid else log._replace(trace_id="", span_id="")


HEX = frozenset("0123456789abcdef")


def is_id(text: str, length: int) -> bool:
    return len(text) == length and HEX.issuperset(text) and text.strip("0") != ""


def succeeded(rejected: Mapping[str, int], media_type: str, named: str = "rejectedSpans") -> Answer:
    """All was stored, or all but what is *rejected*."""
    count = sum(rejected.values())
    message = "; ".join(f"{number} {reason}" for reason, number in rejected.items())
    if media_type == JSON:
        partial = {"partialSuccess": {named: str(count), "errorMessage": message}} if count else {}
        return Answer(200, orjson.dumps(partial), JSON)
    content = protobuf.varint(1, count) + protobuf.block(2, message.encode()) if count else b""
    return Answer(200, protobuf.block(1, content) if count else b"", PROTOBUF)


def failed(status: int, message: str, media_type: str, retry_after: str | None = None) -> Answer:
    """Nothing was taken, for the reason in *message*."""
    headers = {"retry-after": retry_after} if retry_after else {}
    code = CODES.get(status, 2)
    if media_type == PROTOBUF:
        return Answer(status, protobuf.varint(1, code) + protobuf.block(2, message.encode()), PROTOBUF, headers)
    return Answer(status, orjson.dumps({"code": code, "message": message}), JSON, headers)
