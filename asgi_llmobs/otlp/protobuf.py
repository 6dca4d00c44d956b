"""The protobuf encoding of OTLP traces, read and written by hand.

The few messages of it take less code than a generated module takes to load, need no package, and every bound is ours:
a reader that meets the limit of anything stops there, before memory was taken for it.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from asgi_llmobs.otlp.limits import Limits, Refused
from asgi_llmobs.semconv import Event, Log, Told

__all__ = [
    "BYTES",
    "VARINT",
    "Budget",
    "attributes",
    "block",
    "double",
    "encoded",
    "fields",
    "fixed64",
    "read_logs",
    "read_traces",
    "varint",
]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DOUBLE, FIXED, SHORT = struct.Struct("<d"), struct.Struct("<Q"), struct.Struct("<I")
BROKEN = "the body is no OTLP traces request in protobuf"
Field = tuple[int, int, Any]


class Budget:
    """What of the limits is left while a request is read."""

    __slots__ = ("fields", "limits", "spans", "values")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.spans = self.values = 0
        self.fields = limits.fields  # that may still come

    def value(self) -> None:
        """One more value."""
        self.values += 1
        if self.values > self.limits.values:
            raise Refused(413, f"more than {self.limits.values:,} attributes in one request; send smaller batches")

    def span(self) -> None:
        """One more span."""
        self.spans += 1
        if self.spans > self.limits.spans:
            raise Refused(413, f"more than {self.limits.spans:,} spans in one request; send smaller batches")


def broken() -> Refused:
    return Refused(400, BROKEN)


def fields(data: memoryview, budget: Budget) -> Iterator[Field]:
    """The fields of a message: number, wire type and value (bytes as a view of *data*).

    Raises:
        Refused: It is cut short or no protobuf, or there are too many.
    """
    at, size = 0, len(data)
    while at < size:
        budget.fields -= 1
        if budget.fields < 0:
            raise Refused(413, f"more than {budget.limits.fields:,} fields in one request; send smaller batches")
        key = data[at]
        if key < 0x80:  # nearly all are
            at += 1
        else:
            key, at = read_varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise broken()
        value: Any
        if wire == BYTES:
            length, at = read_varint(data, at)
            if length > size - at:
                raise broken()
            value, at = data[at : at + length], at + length
        elif wire == VARINT:
            value, at = read_varint(data, at)
        elif wire in (FIXED64, FIXED32):
            form = FIXED if wire == FIXED64 else SHORT
            if form.size > size - at:
                raise broken()
            (value,), at = form.unpack_from(data, at), at + form.size
        else:
            raise broken()
        yield number, wire, value


def read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(at, min(at + 10, len(data))):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place + 1
        shift += 7
    raise broken()


def messages(data: memoryview, number: int, budget: Budget) -> Iterator[memoryview]:
    """The inner messages with that field number."""
    for field, wire, value in fields(data, budget):
        if field == number and wire == BYTES:
            yield value


def read_traces(body: bytes, limits: Limits) -> Iterator[Told]:
    """The spans of an ``ExportTraceServiceRequest``, read one by one.

    Raises:
        Refused: While it is iterated, where the body is no such request or holds too much.
    """
    return spans(memoryview(body), Budget(limits))


def spans(body: memoryview, budget: Budget) -> Iterator[Told]:
    for resource_spans in messages(body, 1, budget):
        resource: dict[str, Any] = {}
        for number, wire, value in fields(resource_spans, budget):  # what they are from comes before them
            if number == 1 and wire == BYTES:
                resource = attributes_of(value, 1, budget)
            elif number in (2, 1000) and wire == BYTES:
                yield from scoped(value, resource, budget)


def scoped(scope_spans: memoryview, resource: Mapping[str, Any], budget: Budget) -> Iterator[Told]:
    scope = ""
    for number, wire, value in fields(scope_spans, budget):
        if number == 1 and wire == BYTES:
            scope = next((text(name, budget) for name in messages(value, 1, budget)), "")
        elif number == 2 and wire == BYTES:
            budget.span()
            yield span_of(value, resource, scope, budget)


def span_of(data: memoryview, resource: Mapping[str, Any], scope: str, budget: Budget) -> Told:
    found: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    events: list[Event] = []
    for number, wire, value in fields(data, budget):
        if number in IDS and wire == BYTES:
            found[IDS[number]] = bytes(value[:64]).hex()
        elif number == 5 and wire == BYTES:
            found["name"] = text(value, budget)
        elif number in NUMBERS and wire != BYTES:
            found[NUMBERS[number]] = value
        elif number == 9 and wire == BYTES:
            pair(value, attributes, budget)
        elif number == 11 and wire == BYTES and len(events) < budget.limits.events:
            events.append(event_of(value, budget))
        elif number == 15 and wire == BYTES:
            for inner, kind, said in fields(value, budget):
                if inner == 2 and kind == BYTES:
                    found["status_message"] = text(said, budget)
                elif inner == 3 and kind == VARINT:
                    found["status_code"] = said
    return Told(
        **{"trace_id": "", "span_id": "", **found}, attributes=attributes, events=events, resource=resource, scope=scope
    )


IDS = {1: "trace_id", 2: "span_id", 4: "parent_id"}
NUMBERS = {6: "kind", 7: "start_ns", 8: "end_ns"}


def event_of(data: memoryview, budget: Budget) -> Event:
    name, time_ns = "", 0
    attributes: dict[str, Any] = {}
    for number, wire, value in fields(data, budget):
        if number == 1 and wire == FIXED64:
            time_ns = value
        elif number == 2 and wire == BYTES:
            name = text(value, budget)
        elif number == 3 and wire == BYTES:
            pair(value, attributes, budget)
    return Event(name, time_ns, attributes)


def read_logs(body: bytes, limits: Limits) -> Iterator[Log]:
    """The records of an ``ExportLogsServiceRequest``, read one by one.

    Raises:
        Refused: While it is iterated, where the body is no such request or holds too much.
    """
    budget = Budget(limits)
    for resource_logs in messages(memoryview(body), 1, budget):
        resource: dict[str, Any] = {}
        for number, wire, value in fields(resource_logs, budget):
            if number == 1 and wire == BYTES:
                resource = attributes_of(value, 1, budget)
            elif number == 2 and wire == BYTES:
                for record in messages(value, 2, budget):
                    budget.span()
                    yield log_of(record, resource, budget)


def log_of(data: memoryview, resource: Mapping[str, Any], budget: Budget) -> Log:
    found: dict[str, Any] = {"name": "", "trace_id": "", "span_id": "", "body": None}
    times: dict[int, int] = {}
    attributes: dict[str, Any] = {}
    for number, wire, value in fields(data, budget):
        if number in (1, 11) and wire == FIXED64:
            times[number] = value
        elif number == 5 and wire == BYTES:
            found["body"] = value_of(value, budget, 0)
        elif number == 6 and wire == BYTES:
            pair(value, attributes, budget)
        elif number in (9, 10) and wire == BYTES:
            found["trace_id" if number == 9 else "span_id"] = bytes(value[:64]).hex()
        elif number == 12 and wire == BYTES:
            found["name"] = text(value, budget)
    return Log(**found, time_ns=times.get(1) or times.get(11) or 0, attributes=attributes, resource=resource)


def attributes_of(data: memoryview, number: int, budget: Budget) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for inner in messages(data, number, budget):
        pair(inner, found, budget)
    return found


def pair(data: memoryview, into: dict[str, Any], budget: Budget, depth: int = 0) -> None:
    """A ``KeyValue``; beyond the number of attributes that may be, it is left out."""
    key, value = "", None
    for number, wire, inner in fields(data, budget):
        if number == 1 and wire == BYTES:
            key = text(inner, budget)
        elif number == 2 and wire == BYTES:
            value = value_of(inner, budget, depth)
    budget.value()
    if len(into) < budget.limits.attributes:
        into[key[:1_000]] = value


def value_of(data: memoryview, budget: Budget, depth: int) -> Any:
    """An ``AnyValue``."""
    if depth > budget.limits.depth:
        raise Refused(400, f"values lie in values more than {budget.limits.depth} levels deep")
    found: Any = None
    for number, wire, value in fields(data, budget):
        if number == 1 and wire == BYTES:
            found = text(value, budget)
        elif number == 2 and wire == VARINT:
            found = value != 0
        elif number == 3 and wire == VARINT:
            found = value - (1 << 64) if value >> 63 else value
        elif number == 4 and wire == FIXED64:
            (found,) = DOUBLE.unpack(FIXED.pack(value))
        elif number == 5 and wire == BYTES:
            found = []
            for item in messages(value, 1, budget):
                budget.value()
                found.append(value_of(item, budget, depth + 1))
        elif number == 6 and wire == BYTES:
            found = {}
            for item in messages(value, 1, budget):
                pair(item, found, budget, depth + 1)
        elif number == 7 and wire == BYTES:
            found = f"<{len(value)} bytes>"
    return found


def text(data: memoryview, budget: Budget) -> str:
    limit = budget.limits.value
    whole = str(data[:limit], "utf-8", "replace")
    return whole if len(data) <= limit else whole + f"… [{len(data)} bytes]"


# -- writing ---------------------------------------------------------------------------------------------------------


def varint(number: int, value: int) -> bytes:
    """A field with an integer."""
    return packed_varint(number << 3 | VARINT) + packed_varint(value & 0xFFFFFFFFFFFFFFFF)


def packed_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def block(number: int, content: bytes) -> bytes:
    """A field with bytes, a text or an inner message."""
    return packed_varint(number << 3 | BYTES) + packed_varint(len(content)) + content


def fixed64(number: int, value: int) -> bytes:
    """A field with a number of 64 bits."""
    return packed_varint(number << 3 | FIXED64) + FIXED.pack(max(0, min(value, 2**64 - 1)))


def double(number: int, value: float) -> bytes:
    """A field with a floating-point number."""
    return packed_varint(number << 3 | FIXED64) + DOUBLE.pack(value)


def attribute(number: int, name: str, value: Any) -> bytes:
    """A field with a ``KeyValue``."""
    return block(number, block(1, encoded(name)) + block(2, any_value(value)))


def any_value(value: Any) -> bytes:
    """An ``AnyValue``."""
    if isinstance(value, bool):
        return varint(2, value)
    if isinstance(value, int):
        return varint(3, max(-(2**63), min(value, 2**63 - 1)))
    if isinstance(value, float):
        return double(4, value)
    if isinstance(value, list | tuple):
        return block(5, b"".join(block(1, any_value(item)) for item in value))
    if isinstance(value, Mapping):
        return block(6, b"".join(attribute(1, str(name), item) for name, item in value.items()))
    return block(1, encoded(str(value)))


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def attributes(number: int, values: Mapping[str, Any]) -> Iterable[bytes]:
    """A ``KeyValue`` for each of *values* that is something."""
    return (attribute(number, name, value) for name, value in values.items() if value is not None)
