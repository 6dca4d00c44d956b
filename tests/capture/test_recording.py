"""``record_call``: what nothing could watch is told afterwards, and looks as if it had been seen."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from asgi_llmobs import LLMObs, annotate, record_call, score, span, suppress, trace
from asgi_llmobs.testing import capture

SENT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Capital of France?"}]}
GOT = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
}
URL = "https://api.openai.com/v1/chat/completions"


def test_a_call_as_if_it_had_been_seen(llmobs: Any) -> None:
    """Messages, tokens, cost, times and caller; below the open span, with its session and properties."""
    with trace("job", session="s", user="ann", tier="gold"), span("agent") as agent:
        record_call("x", kind="tool", headers={"LLMObs-Session-Id": "other"})
        id = record_call(
            SENT,
            response=GOT,
            url=URL,
            start=1_700_000_000.5,
            duration=2.0,
            first_token=0.5,
            properties={"step": "ask"},
        )
    (call,) = llmobs.requests
    tool = next(one for one in llmobs.spans if one.kind == "tool")

    assert (tool.session_id, tool.session_name, tool.user_id) == ("other", None, "ann")
    assert (call.status, call.id, call.parent_id, call.trace_id) == (200, id, agent.id, agent.trace_id)
    assert (call.text, call.input_tokens, call.cost_usd) == ("Paris", 1000, Decimal("0.00021"))
    assert (call.provider, call.api, call.messages[0].parts[0].content) == (
        "openai",
        "openai.chat",
        "Capital of France?",
    )
    assert (call.start_ns, call.duration_ns, call.first_token_ns) == (1_700_000_000_500_000_000, 2 * 10**9, 5 * 10**8)
    assert (call.session_id, call.user_id, dict(call.properties)) == ("s", "ann", {"tier": "gold", "step": "ask"})
    assert "test_recording.py" in (call.caller or "")


def test_models_texts_and_streams(llmobs: Any) -> None:
    """What came back may be a model, a text, bytes or a stream as it came."""

    class Answer(BaseModel):
        id: str = "chatcmpl-2"
        choices: list[dict[str, Any]] = GOT["choices"]  # type: ignore[assignment]
        usage: dict[str, int] = GOT["usage"]  # type: ignore[assignment]

    stream = 'data: {"choices":[{"index":0,"delta":{"content":"Paris"}}]}\n\ndata: [DONE]\n\n'
    for response in (Answer(), stream, stream.encode()):
        record_call(SENT, response=response, provider="openai")

    assert [(call.text, call.provider) for call in llmobs.requests] == [("Paris", "openai")] * 3
    assert [call.stream for call in llmobs.requests] == [False, True, True]


def test_what_failed(llmobs: Any) -> None:
    """An exception with no answer, and an answer that is an error."""
    record_call(SENT, url=URL, error=TimeoutError("too slow"))
    record_call(SENT, url=URL, status=429, response={"error": {"type": "rate_limit_error", "message": "slow down"}})

    first, second = llmobs.requests
    assert (first.outcome, first.error_type, first.error_message, first.status) == (
        "error",
        "TimeoutError",
        "too slow",
        None,
    )
    assert (second.outcome, second.status, second.error_message) == ("error", 429, "slow down")


def test_steps(llmobs: Any) -> None:
    """A step is a node of its kind and no request; it can be judged by the id that comes back."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    id = record_call({"query": "bags"}, response=[1, 2], kind="retriever", name="guide", start=start, duration=0.5)
    score("relevant", True, span=id)
    (step,) = llmobs.spans

    assert (step.id, step.kind, step.name, step.input, step.output) == (
        id,
        "retriever",
        "guide",
        '{"query":"bags"}',
        "[1,2]",
    )
    assert (step.start_ns, step.duration_ns) == (int(start.timestamp()) * 10**9, 5 * 10**8)
    assert step.status is None
    assert llmobs.requests == [] and llmobs.scores[0].target_id == id


def test_headers_say_where_it_belongs(llmobs: Any) -> None:
    """Every header that a call understands; what is omitted is nowhere."""
    headers = {"Helicone-Node-Id": "trip:plan", "LLMObs-Omit-Response": "true", "LLMObs-Request-Id": "order-1"}
    record_call(SENT, response=GOT, url=URL, headers=headers)
    record_call("x", response="y", kind="tool", name="hotels", headers={"LLMObs-Node-Id": "trip:hotels"})
    call, tool = llmobs.spans

    assert (call.node_id, call.request_id, call.text) == ("trip:plan", "order-1", "")
    assert (tool.trace_id, tool.node_id, tool.output) == (call.trace_id, "trip:hotels", "y")


def test_never_in_the_way(llmobs: Any) -> None:
    """Wrong arguments are counted; nothing is recorded where nothing is to be."""

    class Odd:
        def model_dump(self, **_: Any) -> Any:
            raise RuntimeError("no")

    before = llmobs.obs.stats().failures.get("record_call", 0)
    assert record_call(SENT, response=Odd()) is None
    assert record_call(SENT, kind="party") is None
    assert record_call(SENT, start="once upon a time") is None
    assert llmobs.obs.stats().failures["record_call"] == before + 3
    with suppress():
        assert record_call(SENT) is None
    with capture(sample=0.0) as none, trace("job"):
        assert record_call(SENT, response=GOT) is None
    assert none.spans == llmobs.spans == []


def test_survives_and_is_counted() -> None:
    """By an engine of one's own, through the spool into the store; secrets are taken out."""
    obs = LLMObs("sqlite://")
    secret = "sk-proj-" + "a" * 40
    with trace("job"):
        annotate(user="ann")
        obs.record_call({**SENT, "api_key": secret}, response=GOT, url=URL)
    assert obs.flush()
    stats = obs.stats()

    assert stats.captured == stats.stored == 2
    with obs.database.read() as connection:
        user, tokens = connection.exec_driver_sql(
            "SELECT user_id, input_tokens FROM llmobs_spans WHERE is_request = 1"
        ).one()
    assert (user, tokens) == ("ann", 1000)
    obs.close()


@pytest.mark.parametrize("mode", ["full", "metadata"])
def test_without_content(mode: str) -> None:
    """Where no content is kept, tokens and cost are."""
    with capture(capture=mode) as recorded:
        record_call(SENT, response=GOT, url=URL)
        record_call("secret question", response="secret answer", kind="tool")
    call, tool = recorded.spans

    assert call.input_tokens == 1000
    assert (call.request_body is not None, tool.input is not None) == ((mode == "full"),) * 2
