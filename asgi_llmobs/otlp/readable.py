"""Our spans as finished spans of OpenTelemetry's SDK, for the processors of a provider of the app."""

from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from asgi_llmobs.otlp.emit import ERROR, SCOPE, Emitted

__all__ = ["readable"]

SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def readable(span: Emitted, resource: Resource) -> ReadableSpan:
    """*span* with its own ids and times."""
    trace_id = int(span.trace_id, 16)
    parent = None
    if span.parent_id:
        parent = SpanContext(trace_id, int(span.parent_id, 16), is_remote=False, trace_flags=SAMPLED)
    values: Any = span.attributes
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace_id, int(span.span_id, 16), is_remote=False, trace_flags=SAMPLED),
        parent=parent,
        resource=resource,
        attributes=values,
        kind=SpanKind(span.kind - 1),  # the wire counts from "unspecified"
        status=Status(StatusCode.ERROR, span.message) if span.status == ERROR else Status(StatusCode.OK),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=InstrumentationScope(SCOPE),
    )
