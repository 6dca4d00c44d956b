"""Records as OpenTelemetry's GenAI conventions have them: spans, and the two metrics of a client."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import orjson

from asgi_llmobs.otlp.protobuf import attributes, block, double, encoded, fixed64, varint
from asgi_llmobs.providers import PROVIDERS
from asgi_llmobs.records import Kind, Message, Outcome, Part, Request, Span

__all__ = ["DURATION", "TOKENS", "Emitted", "Point", "as_node", "emitted", "metrics_body", "points", "traces_body"]

SCOPE = "asgi_llmobs"
INTERNAL, SERVER, CLIENT = 1, 2, 3  # of span kinds on the wire
OK, ERROR = 1, 2
DURATION, TOKENS = "gen_ai.client.operation.duration", "gen_ai.client.token.usage"
UNITS = {DURATION: "s", TOKENS: "{token}"}
BOUNDS = {
    DURATION: tuple(0.01 * 2**power for power in range(14)),
    TOKENS: tuple(float(4**power) for power in range(14)),
}
OPERATIONS = {
    Kind.AGENT: "invoke_agent",
    Kind.TOOL: "execute_tool",
    Kind.RETRIEVER: "retrieval",
    Kind.CHAIN: "invoke_workflow",
}
NAMES = {
    Kind.AGENT: "gen_ai.agent.name",
    Kind.TOOL: "gen_ai.tool.name",
    Kind.CHAIN: "gen_ai.workflow.name",
}
PROVIDER_NAMES = {provider.name: provider.otel for provider in PROVIDERS if provider.otel}
PARAMETERS = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}


class Emitted(NamedTuple):
    """A span as it goes out."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    status: int
    message: str


class Point(NamedTuple):
    """One measurement."""

    metric: str
    value: float
    attributes: Mapping[str, Any]


def emitted(record: Span, *, content: bool) -> Emitted:
    """*record* as a span of the GenAI conventions.

    Args:
        record: A finished one.
        content: Whether prompts and answers go out.
    """
    kind = CLIENT if isinstance(record, Request) else SERVER if record.kind == Kind.HTTP else INTERNAL
    found = request_attributes(record, content) if isinstance(record, Request) else node_attributes(record, content)
    found |= {
        "gen_ai.conversation.id": record.session_id,
        "user.id": record.user_id,
        "error.type": record.error_type,
        **{f"llmobs.property.{name}": value for name, value in record.properties.items()},
    }
    failed = record.outcome == Outcome.ERROR
    return Emitted(
        record.trace_id,
        record.id,
        record.parent_id,
        record.name if not isinstance(record, Request) or record.api == "otel" else request_name(record),
        kind,
        record.start_ns,
        record.start_ns + (record.duration_ns or 0),
        {name: value for name, value in found.items() if value is not None},
        ERROR if failed else OK,
        (record.error_message or "") if failed and content else "",
    )


def as_node(record: Span) -> Span:
    """A call as a node of the tree alone."""
    return Span(**{item.name: getattr(record, item.name) for item in fields(Span)})


def request_name(request: Request) -> str:
    model = request.request_model or request.response_model
    return f"{operation_of(request)} {model}" if model else operation_of(request)


def operation_of(request: Request) -> str:
    return "generate_content" if request.api == "gemini.generate" else request.operation


def common(request: Request) -> dict[str, Any]:
    """What identifies a call, in spans and metrics alike."""
    return {
        "gen_ai.operation.name": operation_of(request),
        "gen_ai.provider.name": PROVIDER_NAMES.get(request.provider, request.provider),
        "gen_ai.request.model": request.request_model,
        "gen_ai.response.model": request.response_model,
    }


def request_attributes(request: Request, content: bool) -> dict[str, Any]:
    usage, first = request.usage, request.first_token_ns
    found: dict[str, Any] = {
        **common(request),
        "gen_ai.response.id": request.response_id,
        "gen_ai.response.finish_reasons": list(request.finish_reasons) or None,
        "gen_ai.response.time_to_first_chunk": None if first is None else first / 1e9,
        "gen_ai.request.stream": request.stream or None,
        "http.response.status_code": request.status,
        "openai.response.service_tier": request.service_tier,
        "llmobs.outcome": str(request.outcome),
        "llmobs.cost_usd": None if request.cost_usd is None else float(request.cost_usd),
        "code.function.name": request.caller,
    }
    for name, label in PARAMETERS.items():
        value = request.parameters.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[label] = value
    if usage is not None:
        found |= {
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cache_read,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
        }
    if content:
        system = [message for message in request.messages if message.role == "system"]
        said = [message for message in request.messages if message.role != "system"]
        found |= {
            "gen_ai.system_instructions": as_json([part for message in system for part in parts(message)]),
            "gen_ai.input.messages": as_json([told(message) for message in said]),
            "gen_ai.output.messages": as_json([told(message) for message in answers(request)]),
            "gen_ai.tool.definitions": as_json(list(request.tools)),
        }
    return found


def answers(request: Request) -> Sequence[Message]:
    if request.output_messages or not request.text:
        return request.output_messages
    reason = request.finish_reasons[0] if request.finish_reasons else None
    return [Message(role="assistant", parts=(Part(type="text", content=request.text),), finish_reason=reason)]


def node_attributes(span: Span, content: bool) -> dict[str, Any]:
    kind = Kind(span.kind) if span.kind in tuple(Kind) else Kind.SPAN
    found: dict[str, Any] = {
        "gen_ai.operation.name": OPERATIONS.get(kind),
        NAMES.get(kind, "llmobs.kind"): span.name if kind in NAMES else str(kind),
        "http.request.method": span.method if kind is Kind.HTTP else None,
        "http.route": span.route,
        "url.path": span.url if kind is Kind.HTTP else None,
        "http.response.status_code": span.status,
        "code.function.name": span.caller,
    }
    if content:
        names = ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result") if kind is Kind.TOOL else ("input", "output")
        found |= {names[0]: span.input, names[1]: span.output}
    return found


def as_json(value: Sequence[Any]) -> str | None:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode() if value else None


def told(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role, "parts": parts(message)}
    if message.finish_reason:
        found["finish_reason"] = message.finish_reason
    return found


def parts(message: Message) -> list[dict[str, Any]]:
    return [part_of(part) for part in message.parts]


def part_of(part: Part) -> dict[str, Any]:
    if part.type == "tool_call":
        return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": part.arguments}
    if part.type == "tool_call_response":
        return {"type": "tool_call_response", "id": part.id, "response": part.content}
    labels = ("content", "id", "mime_type", "modality", "uri", "size", "sha256")
    more = {label: value for label in labels if (value := getattr(part, label)) is not None}
    return {"type": part.type, **more}


def points(record: Span) -> list[Point]:
    """The measurements of a call."""
    if not isinstance(record, Request) or record.duration_ns is None:
        return []
    shared = {name: value for name, value in common(record).items() if value is not None}
    failure = {"error.type": record.error_type} if record.error_type else {}
    found = [Point(DURATION, record.duration_ns / 1e9, {**shared, **failure})]
    for kind, count in (("input", record.input_tokens), ("output", record.output_tokens)):
        if count is not None:
            found.append(Point(TOKENS, float(count), {**shared, "gen_ai.token.type": kind}))
    return found


def traces_body(spans: Sequence[Emitted], resource: Mapping[str, Any]) -> bytes:
    """An ``ExportTraceServiceRequest`` in protobuf."""
    scope = block(1, block(1, encoded(SCOPE))) + b"".join(block(2, span_bytes(span)) for span in spans)
    return block(1, block(1, b"".join(attributes(1, resource))) + block(2, scope))


def span_bytes(span: Emitted) -> bytes:
    return b"".join(
        (
            block(1, bytes.fromhex(span.trace_id)),
            block(2, bytes.fromhex(span.span_id)),
            block(4, bytes.fromhex(span.parent_id)) if span.parent_id else b"",
            block(5, encoded(span.name)),
            varint(6, span.kind),
            fixed64(7, span.start_ns),
            fixed64(8, span.end_ns),
            *attributes(9, span.attributes),
            block(15, (block(2, encoded(span.message)) if span.message else b"") + varint(3, span.status)),
        )
    )


def metrics_body(measured: Sequence[Point], resource: Mapping[str, Any], start_ns: int, end_ns: int) -> bytes:
    """An ``ExportMetricsServiceRequest`` in protobuf: histograms of what was measured between two moments."""
    series: dict[str, dict[str, tuple[Mapping[str, Any], list[float]]]] = {}
    for point in measured:
        key = orjson.dumps(sorted(point.attributes.items()), default=str).decode()
        series.setdefault(point.metric, {}).setdefault(key, (point.attributes, []))[1].append(point.value)
    metrics = b""
    for metric, found in series.items():
        data = b"".join(block(1, histogram(metric, *one, start_ns, end_ns)) for one in found.values())
        delta = data + varint(2, 1)
        metrics += block(2, block(1, encoded(metric)) + block(3, encoded(UNITS[metric])) + block(9, delta))
    scope = block(1, block(1, encoded(SCOPE))) + metrics
    return block(1, block(1, b"".join(attributes(1, resource))) + block(2, scope))


def histogram(metric: str, labels: Mapping[str, Any], values: Sequence[float], start_ns: int, end_ns: int) -> bytes:
    bounds = BOUNDS[metric]
    counts = [0] * (len(bounds) + 1)
    for value in values:
        counts[next((place for place, bound in enumerate(bounds) if value <= bound), len(bounds))] += 1
    packed_counts = b"".join(count.to_bytes(8, "little") for count in counts)
    packed_bounds = b"".join(double(0, bound)[1:] for bound in bounds)
    return b"".join(
        (
            fixed64(2, start_ns),
            fixed64(3, end_ns),
            fixed64(4, len(values)),
            double(5, sum(values)),
            block(6, packed_counts),
            block(7, packed_bounds),
            *attributes(9, labels),
            double(11, min(values)),
            double(12, max(values)),
        )
    )
