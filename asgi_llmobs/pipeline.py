"""One finished exchange becomes one record: decode, read, price, redact. Runs in the writer thread."""

import hashlib
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from asgi_llmobs import bodies, encodings
from asgi_llmobs.config import Config
from asgi_llmobs.providers import Wire, read
from asgi_llmobs.records import Attempt, Body, Cost, Exchange, Kind, Outcome, Reading, Request, Span, Usage
from asgi_llmobs.redaction import Redactor, safe_headers, safe_text, safe_url
from asgi_llmobs.safely import safely
from asgi_llmobs.spool import Entry

__all__ = ["Pipeline"]

DECODE_LIMIT = 64 * 1024 * 1024
MAX_CHUNK_TIMES = 400
CHARACTERS_PER_TOKEN = 4
KINDS = {
    "embeddings": Kind.EMBEDDING,
    "rerank": Kind.RERANKER,
    "moderation": Kind.GUARDRAIL,
}
PROVIDER_REQUEST_IDS = (
    "x-request-id",
    "request-id",
    "x-amzn-requestid",
    "x-goog-request-id",
    "apim-request-id",
    "cf-ray",
)


class Prices(Protocol):
    """What the pipeline needs of :class:`asgi_llmobs.pricing.Pricer`."""

    def price(self, reading: Reading, start_ns: int, url: str) -> Cost:
        """The cost of one reading."""


class Side(NamedTuple):
    """One direction of an exchange: what may be read, and what is stored of it."""

    content: bytes
    body: Body | None
    changed: bool  # by redaction: the text has to be read again


class Pipeline:
    """Turns what capture spooled into records.

    Args:
        config: The engine's options.
        prices: Knows what tokens cost; ``None`` prices nothing.
        resource: ``service``, ``release``, ``host`` and ``pid`` for every record.
    """

    def __init__(
        self, config: Config, prices: Prices | None = None, resource: Callable[[], Mapping[str, Any]] = dict
    ) -> None:
        self.config = config
        self._prices = prices
        self._resource = resource
        self._redactor = Redactor(config.redact)

    def process(self, entry: Entry) -> Span:
        """The record of one entry; a span that is complete already passes with its texts redacted."""
        if isinstance(entry, Exchange):
            return self._request(entry)
        return self._span(entry)

    def _span(self, span: Span) -> Span:
        full = self.config.capture == "full"
        return replace(
            span,
            input=self._redactor.text(span.input) if span.input and full else None,
            output=self._redactor.text(span.output) if span.output and full else None,
            error_message=self._redactor.text(span.error_message) if span.error_message and full else None,
            **self._resource(),
        )

    def running(self, exchange: Exchange) -> Request:
        """The record of a call that is still under way: what is known of it so far."""
        said = exchange.annotations
        wire = self._wire(exchange, {}, {}, b"".join(list(exchange.request_chunks)), b"", status=None)
        reading = read(wire, exchange.match)
        return Request(
            **self._identity(exchange, reading),
            **self._resource(),
            name=name_of(reading),
            outcome=Outcome.RUNNING,
            request_id=said.request_id,
            provider=reading.provider,
            api=reading.api,
            operation=reading.operation,
            request_model=reading.request_model,
            stream_requested=reading.stream_requested,
            attempt=exchange.attempt,
            cost=Cost(reason="still running"),
        )

    def _request(self, exchange: Exchange) -> Request:
        said = exchange.annotations
        request_headers = lower(exchange.request_headers)
        response_headers = lower(exchange.response_headers)
        sent = self._side(exchange, request_headers, response=False)
        decoded = self._decode(exchange, response_headers)
        got = self._side(exchange, response_headers, response=True, decoded=decoded)
        wire = self._wire(
            exchange, request_headers, response_headers, sent.content, got.content, status=exchange.status
        )
        reading = read(wire, exchange.match)
        if said.model_override:
            reading.details["model_override"] = said.model_override
        problem = decoded.problem
        warnings = [*reading.warnings, *([problem] if problem else [])]
        outcome, error_type, error_message = self._outcome(exchange, reading)
        estimate = self._estimate(exchange, reading, outcome)
        cost = self._cost(reading, estimate, exchange, said.model_override)
        if sent.changed or got.changed:
            reading = self._read_redacted(exchange, request_headers, response_headers, sent, got, reading)
        if error_message:
            error_message = self._redactor.text(safe_text(error_message))
        if reading.error and reading.error.get("message"):
            reading.error = {**reading.error, "message": self._redactor.text(str(reading.error["message"]))}
        if exchange.omit_response:
            hide_response(reading)
            error_message = None
        if exchange.omit_request:
            reading.input, reading.tools = [], []
            error_message = None if reading.error else error_message
        base = exchange.first_clock_ns
        end = exchange.end_clock_ns or exchange.clock_ns
        first_token = self._first_token(exchange, reading, decoded.ends)
        attempt = Attempt(
            request_id=exchange.id,
            number=exchange.attempt,
            start_ns=exchange.start_ns,
            duration_ns=end - exchange.clock_ns,
            outcome=outcome,
            status=exchange.status,
            error_type=error_type,
            error_message=error_message,
            retry_after=response_headers.get("retry-after"),
            provider_request_id=first_of(response_headers, PROVIDER_REQUEST_IDS),
            cost_usd=cost.amount,
            input_tokens=reading.usage.input_tokens if reading.usage else None,
            output_tokens=reading.usage.output_tokens if reading.usage else None,
        )
        return Request(
            **self._identity(exchange, reading),
            **self._resource(),
            name=name_of(reading),
            duration_ns=end - base,
            outcome=outcome,
            error_type=error_type,
            error_message=error_message,
            status=exchange.status,
            request_id=said.request_id,
            prompt_id=said.prompt_id,
            provider=reading.provider,
            api=reading.api,
            operation=reading.operation,
            request_model=reading.request_model,
            response_model=reading.response_model,
            response_id=reading.response_id,
            stream=reading.stream,
            stream_requested=reading.stream_requested,
            framing=reading.framing,
            finish_reasons=tuple(reading.finish_reasons),
            text=reading.text,
            reasoning_text=reading.reasoning_text,
            tool_calls=tuple(reading.tool_calls),
            server_tools=tuple(reading.server_tools),
            refusal=reading.refusal,
            error=reading.error,
            usage=reading.usage,
            estimate=estimate,
            usage_raw=reading.usage_raw,
            service_tier=reading.service_tier,
            cost=cost,
            messages=tuple(reading.input),
            output_messages=tuple(reading.output),
            parameters=reading.parameters,
            tools=tuple(reading.tools),
            details=reading.details,
            headers_ns=since(exchange.headers_clock_ns, base),
            first_chunk_ns=since(exchange.chunk_clocks[0], base) if exchange.chunk_clocks else None,
            first_token_ns=first_token,
            last_chunk_ns=since(exchange.chunk_clocks[-1], base) if exchange.chunk_clocks else None,
            chunks=exchange.chunks,
            chunk_times=chunk_times(exchange.chunk_clocks, decoded.ends, base) if reading.stream else (),
            attempt=exchange.attempt,
            attempts=(attempt,),
            retry_after=attempt.retry_after,
            provider_request_id=attempt.provider_request_id,
            request_headers=safe_headers(exchange.request_headers, response=False),
            response_headers=safe_headers(exchange.response_headers, response=True),
            request_body=None if exchange.omit_request else sent.body,
            response_body=None if exchange.omit_response else got.body,
            warnings=tuple(warnings),
            notes=tuple(reading.notes),
        )

    def _identity(self, exchange: Exchange, reading: Reading) -> dict[str, Any]:
        # what was annotated after the call began, if the trace is still at hand
        trace, said = exchange.trace, exchange.annotations
        return {
            "id": exchange.id,
            "trace_id": exchange.trace_id,
            "parent_id": exchange.parent_id,
            "project": exchange.project,
            "kind": KINDS.get(reading.operation, Kind.LLM),
            "start_ns": exchange.first_start_ns,
            "session_id": exchange.session_id or getattr(trace, "session_id", None),
            "session_name": exchange.session_name or getattr(trace, "session_name", None),
            "session_path": exchange.session_path or getattr(trace, "session_path", None),
            "user_id": exchange.user_id or getattr(trace, "user_id", None) or reading.user,
            "node_id": said.node_id,
            "properties": dict(exchange.properties),
            "method": exchange.method,
            "url": safe_url(exchange.url),
            "route": exchange.route,
            "caller": exchange.caller,
        }

    def _wire(
        self,
        exchange: Exchange,
        request_headers: dict[str, str],
        response_headers: dict[str, str],
        request_body: bytes,
        response_body: bytes,
        *,
        status: int | None,
    ) -> Wire:
        parts = urlsplit(exchange.url)
        return Wire(
            method=exchange.method,
            url=exchange.url,
            host=parts.hostname or "",
            path=unquote(parts.path),
            query=parts.query,
            request_headers=request_headers,
            request_body=request_body,
            status=status,
            response_headers=response_headers,
            response_body=response_body,
            complete=exchange.eof and not exchange.response_truncated,
        )

    def _decode(self, exchange: Exchange, headers: dict[str, str]) -> encodings.Decoded:
        encoding = "" if exchange.decoded else headers.get("content-encoding", "")
        decoded = encodings.decode(exchange.response_chunks, encoding, DECODE_LIMIT)
        if exchange.response_truncated and not decoded.problem:
            return decoded._replace(problem=f"body of {exchange.response_size} bytes: only head and tail were kept")
        return decoded

    def _side(
        self,
        exchange: Exchange,
        headers: dict[str, str],
        *,
        response: bool,
        decoded: encodings.Decoded | None = None,
    ) -> Side:
        """What can be read of one direction, and the body that is stored of it."""
        if decoded is None:
            decoded = encodings.decode(exchange.request_chunks, headers.get("content-encoding", ""), DECODE_LIMIT)
        content = decoded.body
        truncated = exchange.response_truncated if response else exchange.request_truncated
        wire_size = exchange.response_size if response else exchange.request_size
        if not content:
            return Side(b"", Body(content=b"", size=wire_size, truncated=True) if truncated else None, False)
        media_type = headers.get("content-type", "")
        size = wire_size if truncated else len(content)
        sha256 = exchange.response_sha256 if response and truncated else hashlib.sha256(content).hexdigest()
        stored, slimmed = content, False
        if media_type.startswith("multipart/"):
            stored, slimmed = bodies.multipart_summary(content, media_type, size), True
        elif not bodies.is_text(media_type, content) and "amazon.eventstream" not in media_type:
            stored, slimmed = b"", True
        elif response and exchange.match.dialect.operation == "embeddings":
            stored, slimmed = bodies.without_vectors(content)
        else:
            stored, slimmed = bodies.slim(content)
        safe = self._redactor.body(stored)
        body = bodies.keep(
            safe,
            limit=self.config.max_body,
            media_type=media_type or None,
            size=size,
            sha256=sha256,
            truncated=truncated,
            slimmed=slimmed,
        )
        return Side(content, body, safe is not stored and safe != stored)

    def _read_redacted(
        self,
        exchange: Exchange,
        request_headers: dict[str, str],
        response_headers: dict[str, str],
        sent: Side,
        got: Side,
        facts: Reading,
    ) -> Reading:
        """The facts as they were read, with every text read again from what redaction left over."""
        request_body = sent.body.content if sent.body and sent.changed else sent.content
        response_body = got.body.content if got.body and got.changed else got.content
        wire = self._wire(
            exchange, request_headers, response_headers, request_body, response_body, status=exchange.status
        )
        safe = read(wire, exchange.match)
        return replace(
            facts,
            text=safe.text,
            reasoning_text=safe.reasoning_text,
            tool_calls=safe.tool_calls,
            refusal=safe.refusal,
            error=safe.error,
            user=safe.user if facts.user is not None else None,
            input=safe.input,
            output=safe.output,
            parameters=safe.parameters,
            tools=safe.tools,
            details=safe.details,
        )

    def _outcome(self, exchange: Exchange, reading: Reading) -> tuple[str, str | None, str | None]:
        status = exchange.status
        if exchange.outcome == Outcome.ERROR:
            return Outcome.ERROR, exchange.error_type, exchange.error_message
        if status is not None and status >= 300 or reading.error:
            said = reading.error or {}
            kind = said.get("type") or said.get("code") or (f"HTTP {status}" if status and status >= 300 else "error")
            message = said.get("message")
            return Outcome.ERROR, str(kind), str(message) if message else None
        complete = reading.ended and reading.framing != "none"
        if exchange.outcome in (Outcome.CANCELLED, Outcome.ABANDONED) and not complete:
            gone = exchange.trace is not None and exchange.trace.client_gone
            outcome = Outcome.CANCELLED if gone else exchange.outcome
            return outcome, exchange.error_type, exchange.error_message
        if reading.stream and exchange.eof and not reading.ended:
            return Outcome.ERROR, "IncompleteStream", "the stream ended without the terminal event of its dialect"
        return Outcome.OK, None, None

    def _estimate(self, exchange: Exchange, reading: Reading, outcome: str) -> Usage | None:
        """Tokens from the length of the texts, for an answered call that tells no usage."""
        usage = reading.usage
        if usage is not None and usage.total_tokens is not None or not self.config.estimate_tokens:
            return None
        if exchange.status is None or exchange.status >= 300 or reading.operation not in ("chat", "text_completion"):
            return None
        said = sum(len(part.content or "") for message in reading.input for part in message.parts)
        answered = len(reading.text) + len(reading.reasoning_text)
        answered += sum(len(str(call.get("arguments") or "")) for call in reading.tool_calls)
        if not answered:
            return None
        return Usage(
            input_tokens=math.ceil(said / CHARACTERS_PER_TOKEN) or None,
            output_tokens=math.ceil(answered / CHARACTERS_PER_TOKEN),
            estimated=True,
        )

    def _cost(self, reading: Reading, estimate: Usage | None, exchange: Exchange, model: str | None) -> Cost:
        if self._prices is None:
            return Cost(reason="prices are switched off")
        priced = reading
        if model or (estimate is not None):
            priced = replace(reading, usage=estimate or reading.usage)
            if model:
                priced = replace(priced, request_model=model, response_model=None)
        with safely("price"):
            return self._prices.price(priced, exchange.first_start_ns, exchange.url)
        return Cost(reason="the price could not be worked out")

    def _first_token(self, exchange: Exchange, reading: Reading, ends: list[int]) -> int | None:
        if not reading.stream or reading.content_offset is None or not ends:
            return None
        index = bisect_left(ends, reading.content_offset)
        clocks = exchange.chunk_clocks
        return since(clocks[min(index, len(clocks) - 1)], exchange.first_clock_ns) if clocks else None


def hide_response(reading: Reading) -> None:
    reading.text = reading.reasoning_text = ""
    reading.tool_calls, reading.output, reading.refusal = [], [], None
    if reading.error:
        reading.error = {**reading.error, "message": None}


def lower(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def first_of(headers: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((headers[name] for name in names if name in headers), None)


def since(clock: int | None, base: int) -> int | None:
    return None if clock is None else max(0, clock - base)


def chunk_times(clocks: list[int], ends: list[int], base: int) -> tuple[tuple[int, int], ...]:
    """At most a few hundred points of how the stream grew."""
    points = list(zip(clocks, ends, strict=False))
    step = max(1, math.ceil(len(points) / MAX_CHUNK_TIMES))
    return tuple((clock - base, end) for clock, end in points[::step])


def name_of(reading: Reading) -> str:
    """``chat gpt-4o``: the span name of the OpenTelemetry GenAI conventions."""
    model = reading.request_model or reading.response_model
    return f"{reading.operation} {model}" if model else reading.operation
