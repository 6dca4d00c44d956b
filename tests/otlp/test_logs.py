"""OTLP logs in: the events of the GenAI conventions, in both encodings; everything else is told apart and counted."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from asgi_llmobs import LLMObs
from asgi_llmobs.queries.scores import scores_of_span
from asgi_llmobs.queries.traces import get_trace
from tests import telling
from tests.admin.visiting import Visitor
from tests.making import START
from tests.otlp.sending import JSON, PROTOBUF, RESOURCE, any_value, in_json, json_pairs, json_value, pairs

TRACE, SPAN = "a" * 32, "b" * 16
ASKED = [{"role": "user", "parts": [{"type": "text", "content": "Capital of France?"}]}]
ANSWERED = [{"role": "assistant", "parts": [{"type": "text", "content": "Paris"}], "finish_reason": "stop"}]
DETAILS = ("gen_ai.client.inference.operation.details", {
    "gen_ai.operation.name": "chat", "gen_ai.system_instructions": [{"type": "text", "content": "Be brief."}],
    "gen_ai.input.messages": ASKED, "gen_ai.output.messages": ANSWERED,
}, None)  # fmt: skip
OLDER = [
    ("gen_ai.system.message", {}, {"content": "Be brief."}),
    ("gen_ai.user.message", {}, {"content": "Capital of France?"}),
    ("gen_ai.choice", {}, {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris"}}),
]
JUDGED = ("gen_ai.evaluation.result", {
    "gen_ai.evaluation.name": "Relevance", "gen_ai.evaluation.score.value": 0.8,
    "gen_ai.evaluation.score.label": "good", "gen_ai.evaluation.explanation": "to the point",
}, None)  # fmt: skip
Event = tuple[str, dict[str, Any], Any]


def in_protobuf(events: list[Event], trace: str = TRACE, span: str = SPAN) -> bytes:
    """Log records as OpenTelemetry's own classes write them."""
    records = [
        LogRecord(
            time_unix_nano=START, event_name=name, attributes=pairs(values), body=any_value(body),
            trace_id=bytes.fromhex(trace), span_id=bytes.fromhex(span),
        )
        for name, values, body in events
    ]  # fmt: skip
    resource = ResourceLogs(scope_logs=[ScopeLogs(log_records=records)])
    resource.resource.attributes.extend(pairs(RESOURCE))
    return ExportLogsServiceRequest(resource_logs=[resource]).SerializeToString()


def as_json(events: list[Event], trace: str = TRACE, span: str = SPAN) -> bytes:
    """The same in JSON, the name of the event where older senders have it."""
    records = [
        {
            "timeUnixNano": str(START), "traceId": trace, "spanId": span, "body": json_value(body),
            "attributes": json_pairs({"event.name": name, **values}),
        }
        for name, values, body in events
    ]  # fmt: skip
    resource = {"attributes": json_pairs(RESOURCE)}
    return json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}).encode()


FORMS = {PROTOBUF: in_protobuf, JSON: as_json}


@pytest.fixture
def obs() -> Iterator[LLMObs]:
    made = LLMObs("sqlite://", instrument="off")
    yield made
    made.close()


def send(obs: LLMObs, body: bytes, kind: str, path: str = "/v1/logs", **headers: str) -> Any:
    visitor = Visitor(obs.admin(auth=lambda request: "ingest"))
    sent = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return visitor.ask("POST", path, sent, body)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("events", [[DETAILS], OLDER], ids=["current", "older"])
def test_T24_what_was_said_becomes_a_node_of_its_call(events: list[Event], kind: str, obs: LLMObs) -> None:
    """T24: instructions, input and output, whichever comes first, the call or its events; sent again it is one."""
    for _ in range(2):
        assert send(obs, gzip.compress(FORMS[kind](events)), kind, content_encoding="gzip").status == 200
    tree = get_trace(obs.database, TRACE, project="default")
    assert tree is not None
    (node,) = tree.nodes

    assert (node.kind, node.name, node.parent_id, node.is_request) == ("prompt", "messages", None, False)
    sent, got = node.input_preview or "", node.output_preview or ""
    assert "Be brief." in sent and "Capital of France?" in sent and "Paris" in got


@pytest.mark.parametrize("kind", FORMS)
def test_T24_an_evaluation_becomes_a_score(kind: str, obs: LLMObs) -> None:
    """T24: of its span, by the service that tells it; sent again it is one."""
    call = next(one for one in telling.tell("gen_ai") if one.parent_id)
    send(obs, in_json([call]), JSON, "/v1/traces")
    for _ in range(2):
        answer = send(obs, FORMS[kind]([JUDGED], call.trace_id, call.span_id), kind)
        assert answer.status == 200 and answer.content in (b"", b"{}")
    (given,) = scores_of_span(obs.database, "default", call.span_id)

    said = given.score
    assert (said.name, said.kind, said.value, said.author) == ("Relevance", "number", 0.8, "elsewhere")
    assert (said.comment, said.trace_id) == ("good: to the point", call.trace_id)


def test_T24_other_log_records(obs: LLMObs) -> None:
    """T24: they are counted in the answer, by its own name in each encoding; nothing of them is stored."""
    events: list[Event] = [("", {}, "disk is full"), ("app.started", {}, None), JUDGED]
    answer = send(obs, in_protobuf(events), PROTOBUF)
    said = ExportLogsServiceResponse.FromString(answer.content).partial_success
    assert said.rejected_log_records == 2 and "no GenAI events" in said.error_message
    partial = send(obs, as_json(events), JSON).json["partialSuccess"]
    assert partial["rejectedLogRecords"] == "2"
    without_ids = send(obs, as_json([DETAILS], "", ""), JSON).json["partialSuccess"]

    assert without_ids["rejectedLogRecords"] == "1"
    assert get_trace(obs.database, TRACE, project="default") is None


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("body", [b"{", b"\xff" * 40, b'{"resourceLogs":5}', b"\x0a\xff\xff\xff\xff\x7f"])
def test_T24_garbage(body: bytes, kind: str, obs: LLMObs) -> None:
    """T24: it is refused in words; nothing breaks."""
    assert 400 <= send(obs, body, kind).status < 500
    assert obs.stats().failures.get("otlp", 0) == 0


def test_without_content() -> None:
    """Where content is not kept, events of content leave nothing."""
    obs = LLMObs("sqlite://", instrument="off", capture="metadata")
    assert send(obs, as_json([DETAILS]), JSON).status == 200
    assert get_trace(obs.database, TRACE, project="default") is None
    obs.close()
