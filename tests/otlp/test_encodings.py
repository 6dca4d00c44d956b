"""Protobuf and JSON of OTLP: what OpenTelemetry's own classes write is read; what nobody writes breaks nothing."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from asgi_llmobs.otlp import Limits
from asgi_llmobs.otlp import json as otlp_json
from asgi_llmobs.otlp import protobuf as otlp_protobuf
from asgi_llmobs.otlp.limits import Refused
from asgi_llmobs.semconv import Event, Told
from tests import telling
from tests.otlp.sending import RESOURCE, in_json, pairs, protobuf

TEXTS = st.text(max_size=40)
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=10
)
ATTRIBUTES = st.dictionaries(TEXTS, VALUES, max_size=6)
TIMES = st.integers(0, 2**64 - 1)
SPANS = st.builds(
    Told,
    trace_id=st.binary(min_size=16, max_size=16).map(bytes.hex),
    span_id=st.binary(min_size=8, max_size=8).map(bytes.hex),
    parent_id=st.none() | st.binary(min_size=8, max_size=8).map(bytes.hex),
    name=TEXTS,
    kind=st.integers(0, 5),
    start_ns=TIMES,
    end_ns=TIMES,
    attributes=ATTRIBUTES,
    events=st.lists(st.builds(Event, TEXTS, TIMES, ATTRIBUTES), max_size=3),
    status_code=st.integers(0, 2),
    status_message=TEXTS,
    resource=st.just(RESOURCE),
    scope=st.just("a.library"),
)


@pytest.mark.slow
@given(told=st.lists(SPANS, max_size=4))
def test_what_opentelemetry_writes_is_read(told: list[Told]) -> None:
    """Field by field, in both encodings."""
    assert list(otlp_protobuf.read_traces(protobuf(told), Limits())) == told
    assert list(otlp_json.read_traces(in_json(told), Limits())) == told


@given(values=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES, max_size=6))
def test_what_we_write_opentelemetry_reads(values: dict[str, Any]) -> None:
    """Our attributes are its attributes."""
    written = b"".join(otlp_protobuf.attributes(2, values))

    budget = otlp_protobuf.Budget(Limits())
    found = [KeyValue.FromString(bytes(inner)) for inner in otlp_protobuf.messages(memoryview(written), 2, budget)]

    assert found == pairs(values)


def test_fields_of_later_versions_are_passed_over() -> None:
    """Unknown fields of any wire type, at any place."""
    unknown = otlp_protobuf.varint(900, 7) + otlp_protobuf.block(901, b"x") + otlp_protobuf.fixed64(902, 1)
    unknown += bytes([0xBD, 0x38, 1, 2, 3, 4])  # a field of 32 bits
    told = telling.tell("gen_ai")

    assert len(list(otlp_protobuf.read_traces(unknown + protobuf(told) + unknown, Limits()))) == len(told)


def test_json_as_others_write_it() -> None:
    """Numbers as numbers, enumerations by name, snake case, missing parts."""
    span = {
        "trace_id": "1" * 32, "span_id": "2" * 16, "start_time_unix_nano": 5, "end_time_unix_nano": 6.0,
        "kind": "SPAN_KIND_CLIENT", "status": {"code": "STATUS_CODE_ERROR"},
        "attributes": [{"key": "n", "value": {"int_value": 3}}, {"key": "f", "value": {"doubleValue": "NaN"}},
                       {"key": "b", "value": {"bytesValue": "aGk="}}, {"key": "none"}],
    }  # fmt: skip
    body = json.dumps({"resource_spans": [{"scope_spans": [{"spans": [span]}]}]}).encode()

    (found,) = otlp_json.read_traces(body, Limits())

    assert (found.trace_id, found.start_ns, found.end_ns, found.kind, found.status_code) == ("1" * 32, 5, 6, 3, 2)
    assert found.attributes["n"] == 3 and found.attributes["b"] == "<2 bytes>" and found.attributes["none"] is None
    assert math.isnan(found.attributes["f"])


def deep(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("write", [protobuf, in_json])
@pytest.mark.parametrize(
    ("attributes", "limits", "status"),
    [
        ({"a": deep(33)}, Limits(), 400),
        ({"a": list(range(100))}, Limits(values=50), 413),
        ({f"a{number}": 1 for number in range(100)}, Limits(values=50), 413),
    ],
)
def test_too_much_in_one_request(
    write: Callable[[list[Told]], bytes], attributes: dict[str, Any], limits: Limits, status: int
) -> None:
    """Depth and numbers are bounded, with a word on which."""
    body = write([Told(trace_id="1" * 32, span_id="2" * 16, attributes=attributes)])

    with pytest.raises(Refused) as refusal:
        list((otlp_protobuf if write is protobuf else otlp_json).read_traces(body, limits))

    assert refusal.value.status == status and refusal.value.message


@pytest.mark.parametrize("write", [protobuf, in_json])
def test_too_much_in_one_span(write: Callable[[list[Told]], bytes]) -> None:
    """What is beyond the limits of one span is left out; the span is taken."""
    events = [Event("e", 1, {}) for _ in range(9)]
    attributes = {**{f"a{number}": 1 for number in range(9)}, "a0": "long " * 100}
    body = write([Told(trace_id="1" * 32, span_id="2" * 16, attributes=attributes, events=events)])

    limits = Limits(attributes=5, events=3, value=20)
    (found,) = (otlp_protobuf if write is protobuf else otlp_json).read_traces(body, limits)

    assert (len(found.attributes), len(found.events), len(found.attributes["a0"])) == (
        5,
        3,
        20 + len("… [500 bytes]"),
    ) or (len(found.attributes["a0"]) == 20 + len("… [500 characters]"))


@given(data=st.data())
def test_fuzzed_protobuf(data: st.DataObject) -> None:
    """Any bytes, and any damage to a good request, are read or refused in words."""
    good = protobuf(telling.tell(data.draw(st.sampled_from(sorted(telling.DIALECTS)))))
    body = bytearray(data.draw(st.just(good) | st.binary(max_size=300)))
    for _ in range(data.draw(st.integers(0, 6))):
        if body:
            place = data.draw(st.integers(0, len(body) - 1))
            body[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))

    survives(otlp_protobuf, bytes(body))


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["resourceSpans", "scopeSpans", "spans", "resource", "scope", "attributes", "key", "value", "events",
                 "stringValue", "arrayValue", "kvlistValue", "values", "traceId", "spanId", "status", "code", "name",
                 "intValue", "doubleValue", "startTimeUnixNano", "kind", "bytesValue"]
            ),
            inner, max_size=4,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@given(value=JSONS, cut=st.none() | st.integers(0, 200))
def test_fuzzed_json(value: Any, cut: int | None) -> None:
    """Any JSON, whole or cut, is read or refused in words; so is any value in any place of a request."""
    request = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "1", "attributes": value}, value]}, value]}]}

    for body in (json.dumps(value).encode(), json.dumps(request).encode()):
        survives(otlp_json, body[:cut])


def survives(module: Any, body: bytes) -> None:
    try:
        list(module.read_traces(body, Limits()))
    except Refused as refusal:
        assert refusal.status in (400, 413) and refusal.message
