"""OpenTelemetry spans among ours: which is inside which, which are kept, and one record for one call."""

import asyncio
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import TracerProvider

from asgi_llmobs import LLMObs, LLMObsMiddleware, span, suppress, trace
from asgi_llmobs.queries.traces import get_trace
from asgi_llmobs.records import Request
from asgi_llmobs.testing import capture
from asgi_llmobs.testing.recording import Captured
from tests.calling import ask, ask_sync, drive

LLM = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o", "session.id": "s-9", "llm.token_count.prompt": 77}


@pytest.fixture
def llmobs() -> Iterator[Captured]:
    with capture() as found:
        yield found


@pytest.fixture
def tracer(llmobs: Captured) -> Any:
    """Of our own provider."""
    return llmobs.obs.tracer_provider.get_tracer("a.framework")


@pytest.fixture
def host(llmobs: Captured) -> Any:
    """Of a provider of the host that has our processor."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(llmobs.obs.span_processor())
    return provider.get_tracer("the.host")


def tree(found: Captured) -> dict[str, str | None]:
    """The name of each record's parent."""
    names = {record.id: record.name for record in found.spans}
    assert len({record.trace_id for record in found.spans}) == 1
    return {record.name: names.get(record.parent_id or "") for record in found.spans}


def test_nodes_around_a_captured_call(llmobs: Captured, tracer: Any) -> None:
    """Agent and tool are nodes; the call made inside hangs where it was made."""
    with tracer.start_as_current_span("agent", attributes={"openinference.span.kind": "AGENT"}):
        with tracer.start_as_current_span("tool", attributes={"openinference.span.kind": "TOOL"}):
            ask_sync()

    assert tree(llmobs) == {"agent": None, "tool": "agent", "chat gpt-4o": "tool"}
    assert [record.kind for record in llmobs.spans] == ["agent", "tool", "llm"]


def test_one_call_one_record(llmobs: Captured, tracer: Any) -> None:
    """N4: the framework's name and place, the wire's usage."""
    with tracer.start_as_current_span("agent", attributes={"openinference.span.kind": "AGENT"}):
        with tracer.start_as_current_span("ChatModel", attributes=LLM):
            ask_sync("hello")

    assert tree(llmobs) == {"agent": None, "ChatModel": "agent"}
    (call,) = llmobs.requests
    assert (call.input_tokens, call.text, call.api, call.session_id) == (3, "hello", "openai.chat", "s-9")


def test_layers_of_instrumentations(llmobs: Captured, tracer: Any) -> None:
    """Framework, SDK instrumentation and transport: the outermost name, one call."""
    with tracer.start_as_current_span("ChatModel", attributes=LLM):
        with tracer.start_as_current_span("chat gpt-4o", attributes={"gen_ai.operation.name": "chat"}):
            ask_sync()

    (call,) = llmobs.spans
    assert isinstance(call, Request) and (call.name, call.parent_id, call.input_tokens) == ("ChatModel", None, 3)


def test_two_calls_inside_one(llmobs: Captured, tracer: Any) -> None:
    """A fallback inside a span of a model: a node with two calls, its own tokens not counted."""
    with tracer.start_as_current_span("ChatModel", attributes=LLM):
        ask_sync("one")
        ask_sync("two")

    assert len(llmobs.requests) == 2
    (node,) = [record for record in llmobs.spans if not isinstance(record, Request)]
    assert (node.name, node.kind) == ("ChatModel", "llm")


def test_a_call_that_nobody_else_sees(llmobs: Captured, tracer: Any) -> None:
    """Of a client that is not watched, the span is the record."""
    with tracer.start_as_current_span("local model", attributes=LLM):
        pass

    (call,) = llmobs.requests
    assert (call.name, call.input_tokens, call.api) == ("local model", 77, "otel")


def test_inside_and_outside_of_our_spans(llmobs: Captured, tracer: Any) -> None:
    """Whichever began last is the inner one."""
    with span("ours"):
        with tracer.start_as_current_span("theirs", attributes={"traceloop.span.kind": "task"}):
            with span("ours again"):
                with tracer.start_as_current_span("theirs again", attributes={"traceloop.span.kind": "task"}):
                    ask_sync()
                ask_sync("second")

    names = {record.id: record.name for record in llmobs.spans}
    calls = [names[record.parent_id or ""] for record in llmobs.requests]
    assert calls == ["theirs again", "ours again"]
    nodes = {record.name: names.get(record.parent_id or "") for record in llmobs.spans if record.kind != "llm"}
    assert nodes == {"ours": None, "theirs": "ours", "ours again": "theirs", "theirs again": "ours again"}
    assert len({record.trace_id for record in llmobs.spans}) == 1


def test_our_span_inside_theirs_alone(llmobs: Captured, tracer: Any) -> None:
    """The trace is theirs, and ours hangs in it."""
    with tracer.start_as_current_span("theirs") as outer:
        with span("ours"):
            pass

    assert tree(llmobs) == {"theirs": None, "ours": "theirs"}
    assert llmobs.spans[0].trace_id == f"{outer.get_span_context().trace_id:032x}"


def test_in_an_incoming_request(llmobs: Captured, tracer: Any) -> None:
    """It is the root; session and user of the request hold for spans too."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with tracer.start_as_current_span("chain", attributes={"openinference.span.kind": "CHAIN"}):
            await asyncio.gather(ask("one"), ask("two"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    drive(LLMObsMiddleware(app, obs=llmobs.obs, admin=None))

    assert [record.kind for record in llmobs.spans] == ["http", "chain", "llm", "llm"]
    root, chain, *calls = llmobs.spans
    assert chain.parent_id == root.id and {call.parent_id for call in calls} == {chain.id}
    assert len({record.trace_id for record in llmobs.spans}) == 1


def test_the_host_s_spans(llmobs: Captured, host: Any) -> None:
    """Of a pipeline that holds everything only what has to do with models is taken in, and what stands above it."""
    with host.start_as_current_span("GET /"):
        with host.start_as_current_span("SELECT 1"):
            pass
        with host.start_as_current_span("business"):
            ask_sync()
    with host.start_as_current_span("GET /health"):
        pass

    assert tree(llmobs) == {"GET /": None, "business": "GET /", "chat gpt-4o": "business"}


def test_nothing_global(llmobs: Captured, tracer: Any) -> None:
    """P5: the global provider is as it was."""
    before = otel.get_tracer_provider()

    with tracer.start_as_current_span("agent", attributes={"openinference.span.kind": "AGENT"}):
        pass

    assert otel.get_tracer_provider() is before
    assert llmobs.obs.tracer_provider is llmobs.obs.tracer_provider
    assert llmobs.obs.tracer_provider is not before


def test_suppressed(llmobs: Captured, tracer: Any) -> None:
    """What is not to be recorded is not, told or seen."""
    with suppress(), tracer.start_as_current_span("ChatModel", attributes=LLM):
        ask_sync()

    assert llmobs.spans == []


def test_many_attributes(llmobs: Captured, tracer: Any) -> None:
    """A long conversation is one attribute a field: none is lost to OpenTelemetry's limit of 128."""
    attributes = {**LLM}
    for number in range(200):
        attributes[f"llm.input_messages.{number}.message.role"] = "user"
        attributes[f"llm.input_messages.{number}.message.content"] = f"message {number}"
    with tracer.start_as_current_span("ChatModel", attributes=attributes):
        pass

    (call,) = llmobs.requests
    assert len(call.messages) == 200


def test_an_exception_passes(llmobs: Captured, tracer: Any) -> None:
    """It is recorded and goes on as it was."""
    with pytest.raises(ValueError, match="mine"):
        with tracer.start_as_current_span("chain", attributes={"openinference.span.kind": "CHAIN"}):
            raise ValueError("mine")

    (node,) = llmobs.spans
    assert (node.outcome, node.error_type, node.error_message) == ("error", "ValueError", "ValueError: mine")


def test_our_mistakes_are_ours(
    llmobs: Captured, tracer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure of ours is counted, and the app does not notice."""
    monkeypatch.setattr("asgi_llmobs.capture.spans.entry_of", lambda *args, **kwargs: 1 / 0)

    with tracer.start_as_current_span("ChatModel", attributes=LLM):
        ask_sync()

    assert len(llmobs.requests) == 1
    assert llmobs.obs.stats().failures["otel span"] >= 1


@pytest.mark.slow
def test_nothing_is_loaded_before_it_is_used() -> None:
    """P2, A32: the package itself does not load OpenTelemetry, and prints nothing."""
    code = """
        import sys
        import asgi_llmobs
        obs = asgi_llmobs.LLMObs("sqlite://")
        assert not [name for name in sys.modules if name.startswith("opentelemetry")]
        obs.tracer_provider.get_tracer("t").start_span("s").end()
        obs.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=50,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_as_the_engine_stores_it() -> None:
    """Through spool, writer and store of a real engine."""

    obs = LLMObs("sqlite://")
    tracer = obs.tracer_provider.get_tracer("t")
    with trace("job") as job, tracer.start_as_current_span("ChatModel", attributes=LLM):
        ask_sync()
        assert obs.flush()  # the call is stored before the span around it ends
    assert obs.flush()

    found = get_trace(obs.database, job.trace_id or "", project="default")
    assert found is not None
    assert [(node.depth, node.name) for node in found.nodes] == [(1, "job"), (2, "ChatModel")]
    assert (found.node_count, found.input_tokens) == (1, 3)
    obs.close()


def begun(tracer: Any, name: str, parent: Any = None, **attributes: str) -> Any:
    """A span that nobody makes current, as a callback begins it."""
    return tracer.start_span(name, context=otel.set_span_in_context(parent) if parent else None, attributes=attributes)


@pytest.fixture
def loose(llmobs: Captured) -> Any:
    """Of the instrumentation that leaves the context alone."""
    return llmobs.obs.tracer_provider.get_tracer("openinference.instrumentation.langchain")


def test_spans_that_nobody_makes_current(llmobs: Captured, loose: Any, tracer: Any) -> None:
    """T25: what runs while one is under way is inside it, whoever tells of it; what comes later is not."""
    chain = begun(loose, "chain")
    model = begun(loose, "ChatModel", chain, **{"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o"})
    with tracer.start_as_current_span("chat gpt-4o", attributes={"gen_ai.operation.name": "chat"}):
        ask_sync()
    model.end()
    tool = begun(loose, "tool", chain)
    with span("ours"):
        pass
    chain.end()
    with span("in the tool that goes on"):
        pass
    tool.end()
    with trace("later"):
        ask_sync()

    names = {record.id: record.name for record in llmobs.spans}
    assert [(record.name, names.get(record.parent_id or "")) for record in llmobs.spans] == [
        ("chain", None), ("ChatModel", "chain"), ("tool", "chain"), ("ours", "tool"),
        ("in the tool that goes on", "tool"), ("later", None), ("chat gpt-4o", "later"),
    ]  # fmt: skip
    assert len(llmobs.requests) == 2


def test_tasks_beside_each_other(llmobs: Captured, loose: Any) -> None:
    """Begun in threads, as async callbacks are: four at once are still one record each."""

    async def branch(number: int) -> None:
        told = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o"}
        model = await asyncio.to_thread(begun, loose, f"ChatModel {number}", **told)
        await ask(str(number))
        await asyncio.to_thread(model.end)

    async def work() -> None:
        with trace("work"):
            await asyncio.gather(*map(branch, range(4)))

    asyncio.run(work())

    assert tree(llmobs) == {"work": None} | {f"ChatModel {number}": "work" for number in range(4)}
    assert {record.text for record in llmobs.requests} == {"0", "1", "2", "3"}


def test_two_frameworks_tell_of_one_call(llmobs: Captured, tracer: Any) -> None:
    """N4: on branches of their own, and the call made in neither or in one of them: one record at the outer place."""
    told = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o"}
    with tracer.start_as_current_span("agent"):
        step = tracer.start_span("step")
        first = begun(tracer, "Model.call", step, **told)
        with tracer.start_as_current_span("task"), tracer.start_as_current_span("openai.chat", attributes=told):
            ask_sync()
        first.end()
        step.end()

    found = tree(llmobs)
    assert len(llmobs.requests) == 1 and len(found) == 4
    assert found["task"] == found["step"] == "agent"


def test_two_calls_of_one_instrumentation_are_two(llmobs: Captured, tracer: Any) -> None:
    """What it tells twice by the same name are two calls, also if only one was seen on the wire."""
    told = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o"}
    with tracer.start_as_current_span("agent"):
        one, other = begun(tracer, "Model.call", **told), begun(tracer, "Model.call", **told)
        ask_sync()
        one.end()
        other.end()

    assert len(llmobs.requests) == 2


def test_a_session_that_a_framework_makes_up(llmobs: Captured, tracer: Any) -> None:
    """An id of a conversation is the session where the app names none."""
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": "c-1"}
    for session in ("s-1", None):
        with trace("job", session=session), tracer.start_as_current_span("agent", attributes=said):
            pass

    assert [record.session_id for record in llmobs.spans if record.name == "agent"] == ["s-1", "c-1"]


def test_what_llama_index_does_before_a_call(llmobs: Captured, tracer: Any) -> None:
    """It is told as a call of a model, and is none."""
    with tracer.start_as_current_span("OpenAI._prepare_chat_with_tools", attributes=LLM):
        pass

    assert [record.kind for record in llmobs.spans] == ["span"]
    assert llmobs.requests == []


def test_a_stream_that_is_sent_when_it_is_read(llmobs: Captured, tracer: Any) -> None:
    """What tells of making a stream, and of no tokens, is the call that follows; the next one is the next call."""
    told = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o"}
    with tracer.start_as_current_span("agent"):
        for _ in range(2):
            begun(tracer, "OpenAI.stream_chat", **told).end()
            time.sleep(0.03)
            ask_sync()

    assert [record.name for record in llmobs.requests] == ["OpenAI.stream_chat"] * 2
    assert len(llmobs.spans) == 3
