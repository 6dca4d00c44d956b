"""The JSON encoding of OTLP traces: ids in hex digits, 64-bit integers as texts, bytes in base64."""

import base64
import binascii
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from asgi_llmobs.otlp.limits import Limits, Refused
from asgi_llmobs.otlp.protobuf import Budget
from asgi_llmobs.patterns import compiled
from asgi_llmobs.providers.framing import STRINGS, too_deep
from asgi_llmobs.semconv import Event, Log, Told

__all__ = ["containers", "read_logs", "read_traces"]

BROKEN = "the body is no OTLP request in JSON"
KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUSES = ("UNSET", "OK", "ERROR")


def read_traces(body: bytes, limits: Limits) -> Iterator[Told]:
    """The spans of an ``ExportTraceServiceRequest``.

    Raises:
        Refused: The body is no JSON or holds too much; while it is iterated, where it is no such request.
    """
    return spans(loaded(body, limits), Budget(limits))


def read_logs(body: bytes, limits: Limits) -> Iterator[Log]:
    """The records of an ``ExportLogsServiceRequest``.

    Raises:
        Refused: The body is no JSON or holds too much; while it is iterated, where it is no such request.
    """
    return logs(loaded(body, limits), Budget(limits))


def loaded(body: bytes, limits: Limits) -> dict[str, Any]:
    if len(body) > limits.unpacked_json:
        raise Refused(413, f"more than {limits.unpacked_json:,} bytes of JSON in one request; send smaller batches")
    if containers(body, limits.containers) > limits.containers:
        raise Refused(413, f"more than {limits.containers:,} JSON objects in one request; send smaller batches")
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        request = lenient(body)
    if not isinstance(request, dict):
        raise Refused(400, BROKEN)
    return request


def lenient(body: bytes) -> Any:
    """JSON with half of a surrogate pair in it, as JavaScript writes a text that was cut, or with a bare ``NaN``.

    One such value must not take a batch with it.

    Raises:
        Refused: It is no JSON all the same.
    """
    if too_deep(body):
        raise Refused(400, BROKEN)
    try:
        # OTLP has "NaN" as a text; what no encoding takes becomes a question mark
        found = json.loads(body.decode(), parse_constant=str)
        return orjson.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise Refused(400, BROKEN) from None


def containers(body: bytes, limit: int) -> int:
    """How many objects and lists *body* holds, each of which takes a multiple of its bytes; exact beyond *limit*."""
    most = body.count(b"{") + body.count(b"[")
    if most <= limit:
        return most
    bare = compiled(STRINGS).sub(b"", body)  # a text may hold JSON itself
    return bare.count(b"{") + bare.count(b"[")


def listed(holder: Mapping[str, Any], *names: str) -> list[Any]:
    """The list by one of these names; none where it is not there.

    Raises:
        Refused: It is something else.
    """
    for name in names:
        value = holder.get(name)
        if value is not None:
            if not isinstance(value, list):
                raise Refused(400, f"{name} is no list")
            return value
    return []


def known(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(400, f"{what} is no object")
    return value


def spans(request: dict[str, Any], budget: Budget) -> Iterator[Told]:
    for item in listed(request, "resourceSpans", "resource_spans"):
        resource_spans = known(item, "an entry of resourceSpans")
        resource = attributes_of(known(resource_spans.get("resource") or {}, "resource"), budget)
        for inner in listed(resource_spans, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"):
            scope_spans = known(inner, "an entry of scopeSpans")
            scope = text(known(scope_spans.get("scope") or {}, "scope").get("name"), budget)
            for span in listed(scope_spans, "spans"):
                budget.span()
                yield span_of(known(span, "a span"), resource, scope, budget)


def logs(request: dict[str, Any], budget: Budget) -> Iterator[Log]:
    for item in listed(request, "resourceLogs", "resource_logs"):
        resource_logs = known(item, "an entry of resourceLogs")
        resource = attributes_of(known(resource_logs.get("resource") or {}, "resource"), budget)
        for inner in listed(resource_logs, "scopeLogs", "scope_logs"):
            for record in listed(known(inner, "an entry of scopeLogs"), "logRecords", "log_records"):
                budget.span()
                yield log_of(known(record, "a log record"), resource, budget)


def log_of(record: dict[str, Any], resource: Mapping[str, Any], budget: Budget) -> Log:
    times = [whole(record.get(name)) for name in ("timeUnixNano", "time_unix_nano", "observedTimeUnixNano")]
    return Log(
        name=text(record.get("eventName", record.get("event_name")), budget),
        time_ns=next((time for time in times if time), 0),
        trace_id=identifier(record, "traceId", "trace_id"),
        span_id=identifier(record, "spanId", "span_id"),
        attributes=attributes_of(record, budget),
        body=value_of(record.get("body"), budget, 0),
        resource=resource,
    )


def span_of(span: dict[str, Any], resource: Mapping[str, Any], scope: str, budget: Budget) -> Told:
    status = known(span.get("status") or {}, "status")
    return Told(
        trace_id=identifier(span, "traceId", "trace_id"),
        span_id=identifier(span, "spanId", "span_id"),
        parent_id=identifier(span, "parentSpanId", "parent_span_id") or None,
        name=text(span.get("name"), budget),
        kind=enumerated(span.get("kind"), "SPAN_KIND_", KINDS),
        start_ns=whole(span.get("startTimeUnixNano", span.get("start_time_unix_nano"))),
        end_ns=whole(span.get("endTimeUnixNano", span.get("end_time_unix_nano"))),
        attributes=attributes_of(span, budget),
        events=[event_of(known(item, "an event"), budget) for item in listed(span, "events")[: budget.limits.events]],
        status_code=enumerated(status.get("code"), "STATUS_CODE_", STATUSES),
        status_message=text(status.get("message"), budget),
        resource=resource,
        scope=scope,
    )


def identifier(span: dict[str, Any], *names: str) -> str:
    value = next((span[name] for name in names if span.get(name) is not None), "")
    return value[:64].lower() if isinstance(value, str) else ""


def enumerated(value: Any, prefix: str, names: tuple[str, ...]) -> int:
    if isinstance(value, str):
        name = value.removeprefix(prefix)
        return names.index(name) if name in names else 0
    return value if isinstance(value, int) and 0 <= value < len(names) else 0


def whole(value: Any) -> int:
    """A 64-bit integer, as text or as number; 0 where it is none."""
    if isinstance(value, str) and len(value) <= 20 and value.lstrip("-").isdecimal():
        value = int(value)
    if isinstance(value, float) and math.isfinite(value):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**64 else 0


def event_of(event: dict[str, Any], budget: Budget) -> Event:
    time_ns = whole(event.get("timeUnixNano", event.get("time_unix_nano")))
    return Event(text(event.get("name"), budget), time_ns, attributes_of(event, budget))


def attributes_of(holder: dict[str, Any], budget: Budget) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in listed(holder, "attributes"):
        pair(item, found, budget, 0)
    return found


def pair(item: Any, into: dict[str, Any], budget: Budget, depth: int) -> None:
    entry = known(item, "an attribute")
    budget.value()
    if len(into) < budget.limits.attributes:
        into[text(entry.get("key"), budget)[:1_000]] = value_of(entry.get("value"), budget, depth)


def value_of(value: Any, budget: Budget, depth: int) -> Any:
    """An ``AnyValue``."""
    if depth > budget.limits.depth:
        raise Refused(400, f"values lie in values more than {budget.limits.depth} levels deep")
    if value is None:
        return None
    held = {name.replace("_v", "V"): inner for name, inner in known(value, "a value").items()}
    if "stringValue" in held:
        return text(held["stringValue"], budget)
    if "boolValue" in held:
        return held["boolValue"] is True
    if "intValue" in held:
        return whole(held["intValue"])
    if "doubleValue" in held:
        return doubled(held["doubleValue"])
    if "arrayValue" in held:
        items = listed(known(held["arrayValue"] or {}, "arrayValue"), "values")
        return [counted(item, budget, depth) for item in items]
    if "kvlistValue" in held:
        found: dict[str, Any] = {}
        for item in listed(known(held["kvlistValue"] or {}, "kvlistValue"), "values"):
            pair(item, found, budget, depth + 1)
        return found
    if "bytesValue" in held:
        return sized(held["bytesValue"])
    return None


def counted(item: Any, budget: Budget, depth: int) -> Any:
    budget.value()
    return value_of(item, budget, depth + 1)


def doubled(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None


def sized(value: Any) -> str:
    try:
        return f"<{len(base64.b64decode(value))} bytes>"
    except (TypeError, ValueError, binascii.Error):
        return "<bytes>"


def text(value: Any, budget: Budget) -> str:
    if not isinstance(value, str):
        return ""
    limit = budget.limits.value
    return value if len(value) <= limit else value[:limit] + f"… [{len(value)} characters]"
