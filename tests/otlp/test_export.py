"""Records on their way out: as OpenTelemetry reads them, once each, and never in the way of anybody."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import permutations
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from asgi_llmobs import LLMObs, LLMObsError, trace
from asgi_llmobs.otlp import Limits, export
from asgi_llmobs.otlp import protobuf as otlp_protobuf
from asgi_llmobs.otlp.export import Collector, Exporter
from asgi_llmobs.records import Request, Usage
from asgi_llmobs.semconv import entry_of
from tests.calling import ask_sync
from tests.making import START, request, span

SECRET_WORDS = ("What is the capital of France?", "Paris, of course.")


class Endpoint:
    """A collector that answers as told and keeps what came."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.hold = threading.Event()
        self.hold.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.hold.wait(50)
                status = outer.statuses.pop(0) if outer.statuses else 200
                if status == 200:
                    outer.posts.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self) -> list[Any]:
        """Every span that came, as OpenTelemetry's classes read them."""
        found = []
        for path, _, body in self.posts:
            if path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    found += [one for scope in resource.scope_spans for one in scope.spans]
        return found


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.hold.set()
    made.server.shutdown()
    made.server.server_close()


def exporter(endpoint: Endpoint, content: bool = False, **environ: str) -> Exporter:
    return Exporter([Collector(endpoint.url, {"service.name": "mine"}, environ)], content=content)


def attributes(one: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in one.attributes}


def test_a_call_as_opentelemetry_reads_it(endpoint: Endpoint) -> None:
    """Ids, times, names and numbers of the GenAI conventions; no word of content unasked."""
    out = exporter(endpoint, OTEL_EXPORTER_OTLP_HEADERS="x-key=a%20b")
    call = request(parent_id="d" * 16, session_id="s-1", properties={"tier": "gold"})

    out.write([call, span(id="d" * 16, trace_id=call.trace_id, kind="agent", name="planner", input="secret words")])

    assert out.flush() and out.stats().sent == 2
    sent, agent = endpoint.spans()
    found = attributes(sent)
    assert (sent.span_id.hex(), sent.trace_id.hex(), sent.parent_span_id.hex()) == (call.id, call.trace_id, "d" * 16)
    assert (sent.name, sent.kind, sent.start_time_unix_nano) == ("chat gpt-4o", 3, START)
    assert found["gen_ai.provider.name"] == "openai" and found["gen_ai.usage.input_tokens"] == 20
    assert (found["gen_ai.conversation.id"], found["llmobs.property.tier"]) == ("s-1", "gold")
    assert attributes(agent)["gen_ai.operation.name"] == "invoke_agent"
    assert not [word for word in (*SECRET_WORDS, "secret words") if word in str(endpoint.posts)]
    assert endpoint.posts[0][1]["x-key"] == "a b"


def test_content_when_asked(endpoint: Endpoint) -> None:
    """And what goes out comes in again as the same call."""
    out = exporter(endpoint, content=True)
    call = request()
    out.write([call])
    assert out.flush()

    (told,) = otlp_protobuf.read_traces(endpoint.posts[0][2], Limits())
    again: Any = entry_of(told, "default")

    assert all(word in str(endpoint.posts) for word in SECRET_WORDS)
    assert (again.id, again.trace_id, again.first_start_ns, again.name) == (call.id, call.trace_id, START, call.name)


def test_the_metrics(endpoint: Endpoint) -> None:
    """Duration and tokens as histograms with the bounds of the conventions."""
    out = exporter(endpoint)
    out.write([request(), request(), span()])
    assert out.flush()

    (body,) = [body for path, _, body in endpoint.posts if path == "/v1/metrics"]
    metrics = ExportMetricsServiceRequest.FromString(body).resource_metrics[0].scope_metrics[0].metrics
    by_name = {metric.name: metric for metric in metrics}
    (duration,) = by_name["gen_ai.client.operation.duration"].histogram.data_points
    assert (duration.count, duration.sum, duration.min, duration.max) == (2, 2.0, 1.0, 1.0)
    assert list(duration.explicit_bounds)[:2] == [0.01, 0.02] and sum(duration.bucket_counts) == 2
    tokens = {
        attributes(point)["gen_ai.token.type"]: point.sum
        for point in by_name["gen_ai.client.token.usage"].histogram.data_points
    }
    assert tokens == {"input": 40.0, "output": 20.0}


def test_a_retried_call_goes_out_once(endpoint: Endpoint) -> None:
    """A failed attempt waits for the one that follows; one that runs does not go out."""
    out = exporter(endpoint)
    failed = request(outcome="error", status=429, error_type="rate_limit")
    out.write([replace(failed, outcome="running", duration_ns=None), failed])
    time.sleep(1.3)
    assert endpoint.posts == []

    out.write([replace(failed, outcome="ok", status=200, attempt=2)])

    assert out.flush() and out.stats().sent == 1
    (sent,) = endpoint.spans()
    assert sent.status.code == 1


@pytest.mark.slow
def test_a_collector_that_comes_back(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, and nothing is lost or doubled."""
    endpoint.statuses = [503, 429]
    out = exporter(endpoint)

    out.write([request()])

    assert out.flush(40)
    assert len(endpoint.spans()) == 1 and out.stats()[:3] == (1, 0, {})


def test_a_collector_that_refuses(endpoint: Endpoint) -> None:
    """It is told once, and counted."""
    endpoint.statuses = [400]
    out = exporter(endpoint)

    out.write([request(), request()])

    assert out.flush() and out.stats()[:3] == (0, 0, {"export refused": 2})


@pytest.mark.slow
def test_nobody_waits_for_it(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that hangs delays neither the store nor the end; what is too much is dropped and counted."""
    monkeypatch.setattr(export, "MOST_WAITING", 50)
    endpoint.hold.clear()
    out = exporter(endpoint)
    obs = LLMObs("sqlite://", instrument="off")
    obs._exporter = out

    started = time.monotonic()
    out.write([request() for _ in range(10)])
    time.sleep(1.2)  # the first are on their way
    out.write([request() for _ in range(80)])
    obs.close()

    assert time.monotonic() - started < 25
    sent, waiting, dropped, _ = out.stats()
    assert sent + waiting + sum(dropped.values()) == 90 and dropped == {"export queue full": 30}


def test_to_providers_of_the_app() -> None:
    """Finished spans with our ids reach its processors, measurements its meters; its tree is as we have it."""
    kept, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider([reader], shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(kept))
    obs = LLMObs("sqlite://", export=[tracers, meters])

    with trace("job") as job:
        ask_sync("hello there")
    assert obs.flush() and obs._exporter.flush()

    spans = {one.name: one for one in kept.get_finished_spans()}
    assert set(spans) == {"job", "chat gpt-4o"}
    call, root = spans["chat gpt-4o"], spans["job"]
    assert f"{call.context.trace_id:032x}" == job.trace_id and call.parent.span_id == root.context.span_id
    assert call.attributes["gen_ai.usage.input_tokens"] == 3 and "hello there" not in str(dict(call.attributes))
    data = reader.get_metrics_data()
    names = {metric.name for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert names == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
    assert obs.exported.sent == 2
    obs.close()


def test_our_own_requests_are_not_recorded(endpoint: Endpoint) -> None:
    """What goes out does not come back as a call."""
    obs = LLMObs("sqlite://", export=endpoint.url, record=lambda method, url: True)
    ask_sync()
    assert obs.flush() and obs._exporter.flush()

    assert obs.stats().captured == 1 and len(endpoint.spans()) == 1
    obs.close()


@pytest.mark.parametrize("wrong", ["collector:4318", "ftp://x", 7, object(), [object()]])
def test_what_cannot_work_is_told_at_once(wrong: Any) -> None:
    """With what to write instead."""
    with pytest.raises(LLMObsError, match="export"):
        LLMObs("sqlite://", export=wrong)


def told_of(call: Request, **given: Any) -> Request:
    """What an instrumentation says of *call*: around it, unless *given* says otherwise."""
    return replace(call, id="e" * 16, parent_id=None, api="otel", request_body=None, response_body=None, **given)


INNER = request(parent_id="e" * 16, trace_id="c" * 32)
BESIDE = request(parent_id="f" * 16, trace_id="c" * 32)
FIRST = request(id="1" * 16, parent_id="e" * 16, trace_id="c" * 32)
OUTER = replace(told_of(INNER), id="d" * 16)
DOUBLES: dict[str, tuple[list[Request], int]] = {
    "told around the call": ([INNER, told_of(INNER)], 1),
    "told beside the call": ([BESIDE, replace(told_of(BESIDE), parent_id="f" * 16)], 1),
    "told twice": ([INNER, replace(told_of(INNER), parent_id="d" * 16), OUTER], 1),
    "told around two calls": ([INNER, FIRST, told_of(INNER, usage=Usage(input_tokens=40, output_tokens=20))], 2),
}


@pytest.mark.parametrize("apart", [False, True], ids=["together", "one after the other"])
@pytest.mark.parametrize("shape", DOUBLES)
def test_tokens_go_out_once_in_any_order(shape: str, apart: bool) -> None:
    """A call that was seen and told of counts once, whichever comes first, and also where the first is gone by then."""
    records, calls = DOUBLES[shape]
    for order in permutations(records):
        provider, reader = TracerProvider(), InMemoryMetricReader()
        memory = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(memory))
        out = Exporter(export.targets_of([provider, MeterProvider([reader])], {}), content=False)
        for batch in [[one] for one in order] if apart else [list(order)]:
            out.write(batch)
            assert not apart or out.flush()
        assert out.flush() and out.stats().sent == len(records)

        tokens = [dict(one.attributes or {}).get("gen_ai.usage.input_tokens", 0) for one in memory.get_finished_spans()]
        assert sum(tokens) == 20 * calls, [one.id for one in order]  # type: ignore[arg-type]
        data = reader.get_metrics_data()
        assert data is not None
        metrics = {one.name: one for one in data.resource_metrics[0].scope_metrics[0].metrics}
        points = metrics["gen_ai.client.token.usage"].data.data_points
        counted = sum(point.sum for point in points if (point.attributes or {})["gen_ai.token.type"] == "input")  # type: ignore[union-attr]
        assert counted == 20 * calls, [one.id for one in order]
