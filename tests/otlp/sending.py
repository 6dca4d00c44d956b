"""OTLP requests for the tests: in protobuf made by OpenTelemetry's own classes, in JSON as its specification has it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from asgi_llmobs.semconv import Told

PROTOBUF, JSON = "application/x-protobuf", "application/json"
RESOURCE = {"service.name": "elsewhere", "service.version": "7", "host.name": "box", "process.pid": 42}
KINDS = {PROTOBUF: lambda told: protobuf(told), JSON: lambda told: in_json(told)}


def any_value(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case list() | tuple():
            return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))
        case Mapping():
            return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
        case None:
            return AnyValue()
        case _:
            return AnyValue(string_value=value)


def pairs(values: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=any_value(value)) for name, value in values.items()]


def protobuf(told: Iterable[Told]) -> bytes:
    """A request in protobuf."""
    spans = [
        Span(
            trace_id=bytes.fromhex(one.trace_id),
            span_id=bytes.fromhex(one.span_id),
            parent_span_id=bytes.fromhex(one.parent_id or ""),
            name=one.name,
            kind=one.kind,  # type: ignore[arg-type]
            start_time_unix_nano=one.start_ns,
            end_time_unix_nano=one.end_ns,
            attributes=pairs(one.attributes),
            events=[
                Span.Event(name=event.name, time_unix_nano=event.time_ns, attributes=pairs(event.attributes))
                for event in one.events
            ],
            status=Status(code=one.status_code, message=one.status_message),  # type: ignore[arg-type]
        )
        for one in told
    ]
    scope = ScopeSpans(spans=spans)
    scope.scope.name = "a.library"
    resource = ResourceSpans(scope_spans=[scope])
    resource.resource.attributes.extend(pairs(RESOURCE))
    return ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString()


def json_value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list() | tuple():
            return {"arrayValue": {"values": [json_value(item) for item in value]}}
        case Mapping():
            return {"kvlistValue": {"values": json_pairs(value)}}
        case None:
            return {}
        case _:
            return {"stringValue": value}


def json_pairs(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": json_value(value)} for name, value in values.items()]


def in_json(told: Iterable[Told]) -> bytes:
    """The same in JSON."""
    spans = [
        {
            "traceId": one.trace_id.upper(),  # either case is allowed
            "spanId": one.span_id,
            "parentSpanId": one.parent_id or "",
            "name": one.name,
            "kind": one.kind,
            "startTimeUnixNano": str(one.start_ns),
            "endTimeUnixNano": str(one.end_ns),
            "attributes": json_pairs(one.attributes),
            "events": [
                {"name": event.name, "timeUnixNano": str(event.time_ns), "attributes": json_pairs(event.attributes)}
                for event in one.events
            ],
            "status": {"code": one.status_code, "message": one.status_message},
        }
        for one in told
    ]
    scope = {"scope": {"name": "a.library"}, "spans": spans}
    request = {"resourceSpans": [{"resource": {"attributes": json_pairs(RESOURCE)}, "scopeSpans": [scope]}]}
    return json.dumps(request).encode()


def partial(answer: Any) -> tuple[int, str]:
    """How many spans were rejected, and why."""
    if answer.media_type == JSON:
        found = json.loads(answer.content).get("partialSuccess", {})
        return int(found.get("rejectedSpans", "0")), found.get("errorMessage", "")
    parsed = ExportTraceServiceResponse.FromString(answer.content)
    return parsed.partial_success.rejected_spans, parsed.partial_success.error_message


def reason(answer: Any) -> str:
    """What a refusal says."""
    if answer.media_type == JSON:
        return str(json.loads(answer.content)["message"])
    # google.rpc.Status, of which the message is field 2
    from google.rpc.status_pb2 import Status as RpcStatus

    return str(RpcStatus.FromString(answer.content).message)
