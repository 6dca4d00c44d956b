"""OTLP in: what comes in is stored once, whatever it is packed in; what cannot be is refused in words."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from backports import zstd
from opentelemetry.sdk.trace import TracerProvider

from asgi_llmobs import LLMObs
from asgi_llmobs.admin import Admin
from asgi_llmobs.config import Config
from asgi_llmobs.errors import StoreError
from asgi_llmobs.filters import Filter
from asgi_llmobs.otlp import Limits, Receiver
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.pricing import Pricer
from asgi_llmobs.queries.nodes import node_detail
from asgi_llmobs.queries.requests import get_request, list_requests
from asgi_llmobs.queries.traces import get_trace
from asgi_llmobs.records import Span, Written
from asgi_llmobs.semconv import Event, Told
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests import telling
from tests.admin.visiting import Visitor
from tests.databases import in_memory
from tests.otlp.sending import JSON, KINDS, PROTOBUF, in_json, partial, protobuf, reason

MB = 1024 * 1024


database = pytest.fixture(in_memory)


@pytest.fixture
def receiver(database: Database) -> Receiver:
    return receiving(Sink(database))


def receiving(*sinks: Any, limits: Limits | None = None, **options: Any) -> Receiver:
    config = Config(**options)
    return Receiver(config, Pipeline(config, Pricer()), lambda: sinks, limits)


class Away:
    def write(self, batch: Sequence[Span]) -> Written:
        raise StoreError("away")


class Kept:
    def __init__(self) -> None:
        self.records: list[Span] = []

    def write(self, batch: Sequence[Span]) -> Written:
        self.records += batch
        return Written(len(batch), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_T24_a_trace_comes_in(kind: str, database: Database, receiver: Receiver) -> None:
    """T24: it is a tree like any other, with its call priced, its texts readable and where it is from."""
    answer = receiver.traces(KINDS[kind](telling.tell("openinference")), kind, "")

    assert (answer.status, answer.media_type, partial(answer)) == (200, kind, (0, ""))
    tree = get_trace(database, telling.TRACE, project="default")
    assert tree is not None
    assert [(node.depth, node.kind, node.name) for node in tree.nodes] == [
        (1, "agent", "answer"), (2, "retriever", "search"), (3, "embedding", "embed"), (2, "tool", "baggage"),
        (2, "llm", "ask"),
    ]  # fmt: skip
    assert (tree.node_count, tree.max_depth, tree.session_id, tree.user_id) == (2, 3, "s-1", "ada")
    detail = get_request(database, telling.CHAT, project="default")
    assert detail is not None
    request = detail.request
    assert (request.text, request.service, request.host, request.pid) == (telling.ANSWER, "elsewhere", "box", 42)
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "tool"]
    assert request.cost_usd is not None and request.tools[0]["name"] == "baggage"


def test_T24_half_a_surrogate_takes_no_batch_with_it(database: Database, receiver: Receiver) -> None:
    """JavaScript cuts a text in the middle of an emoji and writes what is left as an escape; others write NaN."""
    first, *others = telling.tell("openinference")
    told = [replace(first, attributes={**first.attributes, "ratio": float("nan")}), *others]
    body = in_json(told).replace(b'"search"', b'"sear\\ud83d"')
    assert b"NaN" in body and b"ud83d" in body

    answer = receiver.traces(body, JSON, "")

    tree = get_trace(database, telling.TRACE, project="default")
    assert (answer.status, partial(answer)) == (200, (0, ""))
    assert tree is not None and [node.name for node in tree.nodes][:2] == ["answer", "sear?"]


@pytest.mark.parametrize("kind", KINDS)
def test_T24_tracebacks_come_along(kind: str, database: Database, receiver: Receiver) -> None:
    """Of what failed, call or not, bounded, without secrets; the page shows it, but not to who may not see content."""
    trace = "File app.py, line 3\n" * 1_000 + "ValueError: no beds for " + "sk-" + "a1B2c3D4" * 6
    event = Event("exception", 1, {"exception.type": "ValueError", "exception.stacktrace": trace})
    told = [
        replace(one, status_code=2, events=[event])
        for one in telling.tell("openinference")
        if one.span_id == telling.CHAT or one.parent_id is None
    ]
    receiver.traces(KINDS[kind](told), kind, "")

    for span in told:
        detail = node_detail(database, span.span_id, project="default")
        assert detail is not None and detail.traceback is not None
        assert "ValueError: no beds for" in detail.traceback and "a1B2" not in detail.traceback
        assert len(detail.traceback) <= 8_000
    for seen, roles in ((True, "reader"), (False, "viewer")):
        visitor = Visitor(Admin(database=database, auth=lambda request, role=roles: role, environ={}))
        for path in ("", ".json"):
            answer = visitor.get(f"/traces/{telling.TRACE}{path}?node={told[0].span_id}")
            assert ("no beds for" in answer.text) is seen


@pytest.mark.parametrize("kind", KINDS)
def test_T24_a_replay_changes_nothing(kind: str, database: Database, receiver: Receiver) -> None:
    """The same batch again, as exporters send it after a lost answer."""
    body = KINDS[kind](telling.tell("gen_ai"))

    answers = [receiver.traces(body, kind, "") for _ in range(3)]

    tree = get_trace(database, telling.TRACE, project="default")
    assert {answer.status for answer in answers} == {200}
    assert tree is not None and (tree.span_count, tree.node_count, tree.input_tokens) == (5, 2, 108)
    assert len(list_requests(database, Filter(project="default")).rows) == 2


@pytest.mark.parametrize("dialect", telling.DIALECTS)
def test_T24_every_dialect_gives_the_same_rows(dialect: str) -> None:
    """What the pages show does not depend on who instrumented the app."""
    shown = []
    for name in ("gen_ai", dialect):
        database = Database("sqlite://")
        receiving(Sink(database)).traces(protobuf(telling.tell(name)), PROTOBUF, "")
        tree = get_trace(database, telling.TRACE, project="default")
        shown.append((tree, list_requests(database, Filter(project="default"))))
        database.dispose()

    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstd.compress), ("identity", bytes), ("", bytes)],
)
@pytest.mark.parametrize("kind", KINDS)
def test_packed(kind: str, coding: str, pack: Any, receiver: Receiver) -> None:
    """As collectors pack it."""
    assert receiver.traces(pack(KINDS[kind](telling.tell("gen_ai"))), kind, coding).status == 200
    assert receiver.stored == 5


def bomb(pack: Any) -> bytes:
    return bytes(pack(b"\0" * (64 * MB)))


SPAN = telling.tell("gen_ai")[0]
TINY = b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b",".join([b"{}"] * 1_000_000) + b"]}]}]}"


@pytest.mark.parametrize(
    ("body", "kind", "coding", "status"),
    [
        (b"", "", "", 415),
        (b"{}", "text/plain", "", 415),
        (b"{}", "multipart/form-data; boundary=x", "", 415),
        (b"{}", JSON, "br", 415),
        (b"{}", JSON, "gzip, gzip", 415),
        (b"{}", JSON, "gzip", 400),
        (gzip.compress(b"{}")[:-4], JSON, "gzip", 400),
        (b"", JSON, "", 400),
        (b"[]", JSON, "", 400),
        (b"null", JSON, "", 400),
        (b'{"resourceSpans":{}}', JSON, "", 400),
        (b'{"resourceSpans":[7]}', JSON, "", 400),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":"x"}]}]}', JSON, "", 400),
        (b"[" * 100_000, JSON, "", 400),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, JSON, "", 400),
        (b"\x0a\xff", PROTOBUF, "", 400),
        (b"\x00", PROTOBUF, "", 400),
        (b"\xff" * 50, PROTOBUF, "", 400),
        (b"\x0b\x0b\x0b", PROTOBUF, "", 400),
        (b"{}", PROTOBUF, "", 400),
        (bomb(gzip.compress), PROTOBUF, "gzip", 413),
        (bomb(zlib.compress), JSON, "deflate", 413),
        (bomb(zstd.compress), PROTOBUF, "zstd", 413),
        (b" " * (9 * MB), JSON, "", 413),
        (gzip.compress(TINY), JSON, "gzip", 413),
        (b"\x0a\x84\x89\x7a\x12\x80\x89\x7a" + b"\x12\x00" * 1_000_000, PROTOBUF, "", 413),
        (gzip.compress(b"\x10\x00" * 16_000_000), PROTOBUF, "gzip", 413),
    ],
    ids=range(27),
)  # fmt: skip
def test_hostile(body: bytes, kind: str, coding: str, status: int) -> None:
    """Refused with a reason, never a failure of ours, and never with more memory than a good request takes."""
    kept = Kept()
    tracemalloc.start()
    try:
        answer = receiving(kept).traces(body, kind, coding)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (answer.status, kept.records) == (status, [])
    assert reason(answer) if status != 415 else True
    assert peak < 160 * MB


def test_what_is_empty_is_no_error(receiver: Receiver) -> None:
    """Exporters probe with empty requests."""
    assert receiver.traces(b"", PROTOBUF, "").status == 200
    assert receiver.traces(b"{}", JSON, "").status == 200
    assert receiver.traces(b'{"resourceSpans":[]}', "application/json; charset=utf-8", "").content == b"{}"


@pytest.mark.parametrize("kind", KINDS)
def test_bad_spans_among_good_ones(kind: str, database: Database, receiver: Receiver) -> None:
    """The good ones are stored, the others counted in the answer."""
    bad = [replace(SPAN, trace_id=""), replace(SPAN, span_id="ab"), replace(SPAN, trace_id="0" * 32)]
    other = replace(SPAN, trace_id="f" * 32)

    answer = receiver.traces(KINDS[kind]([*telling.tell("gen_ai"), *bad, other]), kind, "")

    count, why = partial(answer)
    assert (answer.status, count) == (200, 4)
    assert "3 spans without a trace id" in why and "1 spans with the id of another span" in why
    assert (receiver.stored, sum(receiver.rejected.values())) == (5, 4)


def test_a_stored_record_cannot_be_overwritten(database: Database, receiver: Receiver) -> None:
    """A38: whoever knows an id cannot change what is stored under it."""
    receiver.traces(protobuf(telling.tell("gen_ai")), PROTOBUF, "")
    forged = [replace(told, name="forged", end_ns=told.end_ns + 10**9) for told in telling.tell("openinference")]

    receiver.traces(protobuf(forged), PROTOBUF, "")

    tree = get_trace(database, telling.TRACE, project="default")
    assert tree is not None and "forged" not in {node.name for node in tree.nodes}


@pytest.mark.parametrize("kind", KINDS)
def test_the_store_is_away(kind: str) -> None:
    """The sender is asked to come again, and nothing is counted as stored."""
    away = receiving(Away())

    answer = away.traces(KINDS[kind](telling.tell("gen_ai")), kind, "")

    assert (answer.status, answer.headers["retry-after"], away.stored) == (503, "5", 0)
    assert "send it again" in reason(answer)


def test_cycles_and_strays(database: Database, receiver: Receiver) -> None:
    """Self-parents, circles and lost parents are drawn."""
    first, second = "a" * 16, "b" * 16
    spans = [
        Told(trace_id="1" * 32, span_id=first, parent_id=second, start_ns=telling.START, end_ns=telling.START),
        Told(trace_id="1" * 32, span_id=second, parent_id=first, start_ns=telling.START, end_ns=telling.START),
        Told(trace_id="1" * 32, span_id="c" * 16, parent_id="c" * 16, start_ns=telling.START, end_ns=telling.START),
        Told(trace_id="1" * 32, span_id="d" * 16, parent_id="e" * 16, start_ns=telling.START, end_ns=telling.START),
    ]

    assert receiver.traces(in_json(spans), JSON, "").status == 200

    tree = get_trace(database, "1" * 32, project="default")
    assert tree is not None and tree.span_count == 4


def test_giant_values(receiver: Receiver) -> None:
    """A text of many megabytes is cut, its neighbours are not."""
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.prompt": "x" * (6 * MB), "k" * 100_000: 1}
    kept = Kept()

    answer = receiving(kept).traces(
        protobuf([replace(SPAN, attributes=attributes), telling.tell("gen_ai")[1]]), PROTOBUF, ""
    )

    assert answer.status == 200 and len(kept.records) == 2
    assert len(json.dumps(repr(kept.records[0]))) < 6 * MB


def test_metadata_only() -> None:
    """With ``capture="metadata"`` no word of a prompt is stored."""
    kept = Kept()

    receiving(kept, capture="metadata").traces(protobuf(telling.tell("traceloop")), PROTOBUF, "")

    assert len(kept.records) == 5 and telling.QUESTION not in repr(kept.records)


def test_the_project_is_ours() -> None:
    """Whatever a sender says, it is stored in the project of the engine that it was sent to."""
    kept = Kept()
    span = replace(SPAN, attributes={**SPAN.attributes, "llmobs.project": "other", "project": "other"})

    receiving(kept, project="mine").traces(protobuf([span]), PROTOBUF, "")

    assert {record.project for record in kept.records} == {"mine"}


def test_what_comes_in_and_goes_out_is_counted() -> None:
    """In the counters of the engine and on the status page: how much, and what was not taken and why."""
    obs = LLMObs("sqlite://", instrument="off", export=TracerProvider())
    visitor = Visitor(obs.admin(auth=lambda request: "ingest"))
    sent = {"content-type": JSON}
    told = telling.tell("gen_ai")
    for body in (in_json(told), in_json([replace(told[0], trace_id="0" * 32)]), b"{"):
        visitor.ask("POST", "/v1/traces", sent, body)
    visitor.ask("POST", "/v1/trace/custom/log", sent, b"{}")
    obs.record_call("x", response="y", kind="tool")
    assert obs.flush() and obs.exported is not None
    obs._exporter.flush()
    stats = obs.stats()

    assert (stats.ingested, stats.exported, dict(stats.unexported)) == (len(told), 1, {})
    assert sum(stats.refused.values()) == 3 and len(stats.refused) == 3
    assert stats.captured == stats.stored == 1
    page = Visitor(obs.admin(auth=lambda request: "owner")).get("/status").text
    assert "taken in from other processes" in page and "requests that were refused as a whole" in page
    obs.close()
