"""One finished exchange becomes one record: decode, read, price, redact. Runs in the writer thread."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from asgi_llmobs.config import Config
from asgi_llmobs.credentials import MARK, holds_credentials, is_secret_property
from asgi_llmobs.pipeline.sides import Sides, wire_of
from asgi_llmobs.pipeline.verdict import (
    Verdict,
    chunk_times,
    estimate,
    first_token,
    judge,
    retold,
    since,
    unread,
    without_answer,
)
from asgi_llmobs.providers import read
from asgi_llmobs.providers.framing import parse_json
from asgi_llmobs.providers.otel import dumped
from asgi_llmobs.records import Attempt, Cost, Exchange, Kind, Outcome, Reading, Request, Span, Usage
from asgi_llmobs.redaction import Redactor, safe_text, safe_url
from asgi_llmobs.safely import safely
from asgi_llmobs.scores import is_score
from asgi_llmobs.spool import Entry

__all__ = ["Pipeline"]

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
NAMED = ("name", "session_id", "session_name", "session_path", "user_id", "node_id", "error_type", "properties")
ACROSS_PIECES = "the stream's bytes are withheld: what redaction takes out is spread over several of its pieces"
UNREADABLE = "this call could not be worked on; what is known without its bodies is kept"


class Prices(Protocol):
    """What the pipeline needs of :class:`asgi_llmobs.pricing.Pricer`."""

    def price(self, reading: Reading, start_ns: int, url: str) -> Cost:
        """The cost of one reading."""


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
        self._redactor.next_record()
        if not isinstance(entry, Exchange):
            return self._score(entry) if is_score(entry) else self._span(entry)
        with safely("pipeline"):
            return self._request(entry)
        return self._bare(entry)

    def running(self, exchange: Exchange) -> Request:
        """The record of a call that is still under way: what is known of it so far."""
        wire = wire_of(exchange, {}, {}, b"".join(list(exchange.request_chunks)), b"")
        reading = read(replace(wire, status=None), exchange.match)
        return Request(
            **self._identity(exchange, reading),
            outcome=Outcome.RUNNING,
            request_model=reading.request_model,
            stream_requested=reading.stream_requested,
            attempt=exchange.attempt,
            cost=Cost(reason="still running"),
        )

    def _score(self, score: Span) -> Span:
        """A score under way: what it says is kept wherever content is not, for that is what it was given for."""
        label = score.attributes.get("label")
        return replace(
            score,
            input=self._redactor.text(score.input) if score.input else None,
            attributes={**score.attributes, "label": self._redactor.text(label)} if label else score.attributes,
        )

    def _span(self, span: Span) -> Span:
        full = self.config.capture == "full"
        return replace(
            span,
            **nameable({name: getattr(span, name) for name in NAMED}),
            input=self._redactor.text(span.input) if span.input and full else None,
            output=self._redactor.text(span.output) if span.output and full else None,
            error_message=self._redactor.text(span.error_message) if span.error_message and full else None,
            attributes=self._attributes(span.attributes, full) if span.attributes else span.attributes,
            # what another process left behind says itself where it is from
            **(self._resource() if span.pid is None else {}),
        )

    def _attributes(self, attributes: Mapping[str, Any], full: bool) -> Mapping[str, Any]:
        """Attributes as they may be stored: only numbers where no content is."""
        if not full:
            return {name: value for name, value in attributes.items() if isinstance(value, bool | int | float)}
        raw = dumped(attributes)
        safe = self._redactor.body(raw)
        if safe == raw:
            return attributes
        found = parse_json(safe)
        return found if isinstance(found, dict) else {}

    def _request(self, exchange: Exchange) -> Request:
        sides = Sides(exchange, self._redactor, self.config.max_body)
        facts = read(sides.wire(), exchange.match)
        verdict = judge(exchange, facts, sides.decoded)
        guess = estimate(exchange, facts) if self.config.estimate_tokens else None
        cost = self._cost(facts, guess, exchange)
        sides.warnings += unread(facts, sides.got.content, exchange.status)
        reading = self._tellable(facts, sides)
        message = self._message(verdict, reading, sides)
        if exchange.omit_response:
            reading, message = without_answer(reading), None
        if exchange.omit_request:
            reading = replace(reading, input=[], tools=[])
            message = None if reading.error else message
        base = exchange.first_clock_ns
        clocks, ends = exchange.chunk_clocks, sides.decoded.ends
        attempt = self._attempt(exchange, verdict, message, sides.response_headers, facts, cost)
        return Request(
            **self._identity(exchange, reading),
            duration_ns=since(end_of(exchange, verdict), base),
            outcome=verdict.outcome,
            error_type=verdict.error_type,
            error_message=message,
            status=exchange.status,
            **answer(reading),
            estimate=guess,
            cost=cost,
            stages=attempt.stages,
            headers_ns=since(exchange.headers_clock_ns, base),
            first_chunk_ns=since(clocks[0], base) if clocks else None,
            first_token_ns=first_token(exchange, facts, ends),
            last_chunk_ns=since(clocks[-1], base) if clocks else None,
            chunks=exchange.chunks,
            chunk_times=chunk_times(clocks, ends, base) if reading.stream else (),
            attempt=exchange.attempt,
            attempts=(attempt,),
            retry_after=attempt.retry_after,
            provider_request_id=attempt.provider_request_id,
            request_headers=sides.kept_request_headers,
            response_headers=sides.kept_response_headers,
            request_body=None if exchange.omit_request else sides.sent.body,
            response_body=None if exchange.omit_response else sides.got.body,
            warnings=(*reading.warnings, *sides.warnings),
        )

    def _bare(self, exchange: Exchange) -> Request:
        """The record of a call on which our own code failed: nothing of its bodies, everything else."""
        match = exchange.match
        reading = Reading(provider=match.provider, api=match.dialect.api, operation=match.dialect.operation)
        exchange.url = safe_url(exchange.url)
        refused = exchange.status is not None and exchange.status >= 300
        outcome = Outcome.ERROR if refused and exchange.outcome == Outcome.OK else exchange.outcome
        verdict = Verdict(outcome, exchange.error_type or (f"HTTP {exchange.status}" if refused else None))
        attempt = self._attempt(exchange, verdict, None, {}, reading, Cost())
        return Request(
            **self._identity(exchange, reading),
            duration_ns=since(exchange.end_clock_ns or exchange.clock_ns, exchange.first_clock_ns),
            outcome=outcome,
            error_type=verdict.error_type,
            status=exchange.status,
            cost=Cost(reason="the answer could not be read"),
            chunks=exchange.chunks,
            attempt=exchange.attempt,
            attempts=(attempt,),
            warnings=(UNREADABLE,),
        )

    def _identity(self, exchange: Exchange, reading: Reading) -> dict[str, Any]:
        exchange.inherit()  # what was annotated after the call ended
        said = exchange.annotations
        named = {
            "session_id": exchange.session_id,
            "session_name": exchange.session_name,
            "session_path": exchange.session_path,
            "user_id": exchange.user_id or reading.user,
            "node_id": said.node_id,
            "prompt_id": said.prompt_id,
            "properties": dict(exchange.properties),
            "name": exchange.name or name_of(reading),
        }
        return {
            **(exchange.origin or self._resource()),
            "id": exchange.id,
            "trace_id": exchange.trace_id,
            "parent_id": exchange.parent_id,
            "project": exchange.project,
            "kind": KINDS.get(reading.operation, Kind.LLM),
            "start_ns": exchange.first_start_ns,
            **nameable(named),
            "request_id": said.request_id,
            "provider": reading.provider,
            "api": reading.api,
            "operation": reading.operation,
            "method": exchange.method,
            "url": safe_url(exchange.url),
            "route": exchange.route,
            "caller": exchange.caller,
        }

    def _attempt(
        self,
        exchange: Exchange,
        verdict: Verdict,
        message: str | None,
        headers: Mapping[str, str],
        facts: Reading,
        cost: Cost,
    ) -> Attempt:
        return Attempt(
            request_id=exchange.id,
            number=exchange.attempt,
            start_ns=exchange.start_ns,
            duration_ns=since(end_of(exchange, verdict), exchange.clock_ns),
            outcome=verdict.outcome,
            status=exchange.status,
            error_type=verdict.error_type,
            error_message=message,
            retry_after=headers.get("retry-after"),
            provider_request_id=next((headers[name] for name in PROVIDER_REQUEST_IDS if name in headers), None),
            cost_usd=cost.amount,
            input_tokens=facts.usage.input_tokens if facts.usage else None,
            output_tokens=facts.usage.output_tokens if facts.usage else None,
            stages={name: clock - exchange.clock_ns for name, clock in (exchange.stages or {}).items()},
        )

    def _tellable(self, facts: Reading, sides: Sides) -> Reading:
        """The facts as they were read, with every text read again from what redaction left over."""
        reading = facts
        if sides.changed:
            safe = read(sides.wire(safe=True), sides.exchange.match)
            reading = replace(
                facts,
                text=safe.text,
                reasoning_text=safe.reasoning_text,
                tool_calls=safe.tool_calls,
                refusal=safe.refusal,
                error=safe.error if facts.error else None,
                user=safe.user if facts.user is not None else None,
                input=safe.input,
                output=safe.output,
                parameters=safe.parameters,
                tools=safe.tools,
                details=safe.details,
                warnings=list(dict.fromkeys((*facts.warnings, *safe.warnings))),
            )
        if reading.stream:
            whole = retold(reading, lambda text: self._redactor.text(text, sides.secrets))
            if whole is not reading:
                sides.withhold_response(ACROSS_PIECES)
                reading = whole
        override = sides.exchange.annotations.model_override
        if override:
            reading.details = {**reading.details, "model_override": override}
        return reading

    def _message(self, verdict: Verdict, reading: Reading, sides: Sides) -> str | None:
        if verdict.told:
            message = (reading.error or {}).get("message")
            if not message:
                return None
            # the body is clean already; what it wrote in escapes shows only now
            raw = str(message).encode("utf-8", "surrogatepass")
            return self._redactor.patterns(raw, sides.secrets).decode("utf-8", "replace")
        return self._redactor.text(verdict.message, sides.secrets) if verdict.message else None

    def _cost(self, reading: Reading, guess: Usage | None, exchange: Exchange) -> Cost:
        if self._prices is None:
            return Cost(reason="prices are switched off")
        model = exchange.annotations.model_override
        priced = replace(reading, usage=guess) if guess is not None else reading
        if model:
            priced = replace(priced, request_model=model, response_model=None)
        with safely("price"):
            return self._prices.price(priced, exchange.first_start_ns, exchange.url)
        return Cost(reason="the price could not be worked out")


def nameable(said: dict[str, Any]) -> dict[str, Any]:
    """What the app said of a span, by field, without credentials that were taken for names or properties."""
    properties: Mapping[str, str] = said.get("properties") or {}
    texts = [text for text in (*said.values(), *properties, *properties.values()) if isinstance(text, str)]
    whole = "\n".join(texts).encode("utf-8", "replace")  # one look at all of them instead of one at each
    if not any(map(is_secret_property, properties)) and not holds_credentials(whole, repeats=False):
        return said
    safe = {name: safe_text(value) if isinstance(value, str) else value for name, value in said.items()}
    if properties:
        safe["properties"] = {
            safe_text(name): MARK if is_secret_property(name) else safe_text(str(value))
            for name, value in properties.items()
        }
    return safe


def answer(reading: Reading) -> dict[str, Any]:
    """Those fields of a record that are what was read."""
    return {
        "request_model": reading.request_model,
        "response_model": reading.response_model,
        "response_id": reading.response_id,
        "stream": reading.stream,
        "stream_requested": reading.stream_requested,
        "framing": reading.framing,
        "finish_reasons": tuple(reading.finish_reasons),
        "text": reading.text,
        "reasoning_text": reading.reasoning_text,
        "tool_calls": tuple(reading.tool_calls),
        "server_tools": tuple(reading.server_tools),
        "refusal": reading.refusal,
        "error": reading.error,
        "usage": reading.usage,
        "usage_raw": reading.usage_raw,
        "service_tier": reading.service_tier,
        "messages": tuple(reading.input),
        "output_messages": tuple(reading.output),
        "parameters": reading.parameters,
        "tools": tuple(reading.tools),
        "details": reading.details,
        "notes": tuple(reading.notes),
    }


def name_of(reading: Reading) -> str:
    """``chat gpt-4o``: the span name of the OpenTelemetry GenAI conventions."""
    model = reading.request_model or reading.response_model
    return f"{reading.operation} {model}" if model else reading.operation


def end_of(exchange: Exchange, verdict: Verdict) -> int:
    """When an attempt ended. An answer that had said all ended then, not when the app let go of it."""
    if verdict.outcome == Outcome.OK and not exchange.eof and exchange.chunk_clocks:
        return exchange.chunk_clocks[-1]
    return exchange.end_clock_ns or exchange.clock_ns
