"""Cohere in both versions."""

import json

import pytest

HOST = "https://api.cohere.com"
USAGE = {
    "billed_units": {"input_tokens": 60, "output_tokens": 27},
    "tokens": {"input_tokens": 1496, "output_tokens": 56, "reasoning_tokens": 8, "image_tokens": 3},
    "cached_tokens": 480,
}


def test_chat_of_version_2(ask):
    """Text, thinking, calls; processed and billed tokens are kept apart."""
    message = {
        "role": "assistant",
        "tool_plan": "I will look.",
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hi"}],
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
    }
    got = ask(
        HOST + "/v2/chat",
        {"model": "command-a-03-2025", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.3},
        {"id": "r", "message": message, "finish_reason": "TOOL_CALL", "usage": USAGE},
    )
    assert (got.provider, got.api, got.response_id) == ("cohere", "cohere.v2.chat", "r")
    assert (got.text, got.reasoning_text, got.finish_reasons) == ("Hi", "Hm.", ["TOOL_CALL"])
    assert got.tool_calls == [{"id": "c", "name": "f", "arguments": '{"a":1}'}]
    assert got.usage and (got.usage.input_tokens, got.usage.output_tokens) == (1496, 56)
    assert (got.usage.billed_input, got.usage.billed_output, got.usage.cache_read) == (60, 27, 480)
    assert (got.usage.reasoning, got.usage.image_input) == (8, 3)
    assert got.details["tool_plan"] == "I will look." and got.parameters == {"temperature": 0.3}


def test_stream_of_version_2(ask, sse):
    """Pieces of content and of calls are put together by index."""

    def event(kind, index=None, message=None, **more):
        delta = {} if message is None else {"delta": {"message": message}}
        data = {"type": kind, "index": index, **delta, **more}
        return kind, data

    body = sse(
        event("message-start", id="r", message={"role": "assistant", "content": []}),
        event("tool-plan-delta", message={"tool_plan": "I "}),
        event("content-start", 0, {"content": {"type": "thinking", "thinking": ""}}),
        event("content-delta", 0, {"content": {"thinking": "Hm."}}),
        event("content-start", 1, {"content": {"type": "text", "text": ""}}),
        event("content-delta", 1, {"content": {"text": "Hel"}}),
        event("content-delta", 1, {"content": {"text": "lo"}}),
        event("tool-call-start", 0, {"tool_calls": {"id": "c", "function": {"name": "f", "arguments": ""}}}),
        event("tool-call-delta", 0, {"tool_calls": {"function": {"arguments": '{"a":'}}}),
        event("tool-call-delta", 0, {"tool_calls": {"function": {"arguments": "1}"}}}),
        event("message-end", delta={"finish_reason": "COMPLETE", "usage": USAGE}),
        ("", "[DONE]"),
    )
    got = ask(HOST + "/v2/chat", {"model": "m", "messages": [], "stream": True}, body)
    assert (got.text, got.reasoning_text, got.finish_reasons, got.ended) == ("Hello", "Hm.", ["COMPLETE"], True)
    assert got.tool_calls == [{"id": "c", "name": "f", "arguments": '{"a":1}'}]
    assert got.response_id == "r" and got.usage and got.usage.total_tokens == 1552


V1 = {
    "response_id": "r",
    "generation_id": "g",
    "text": "Hello",
    "finish_reason": "COMPLETE",
    "chat_history": [],
    "tool_calls": [{"name": "f", "parameters": {"a": 1}}],
    "meta": {**USAGE, "warnings": ["deprecated"]},
}
V1_REQUEST = {
    "model": "command-r",
    "message": "Hello",
    "preamble": "Be brief.",
    "chat_history": [{"role": "CHATBOT", "message": "Yes?"}],
}


def test_chat_of_version_1(ask):
    """The older shape, with its history and preamble."""
    got = ask(HOST + "/v1/chat", V1_REQUEST, V1)
    assert (got.api, got.text, got.response_id, got.finish_reasons) == ("cohere.v1.chat", "Hello", "g", ["COMPLETE"])
    assert got.tool_calls == [{"id": None, "name": "f", "arguments": {"a": 1}}] and got.notes == ["deprecated"]
    assert [(item.role, item.parts[0].content) for item in got.input] == [
        ("system", "Be brief."),
        ("assistant", "Yes?"),
        ("user", "Hello"),
    ]
    assert got.usage and got.usage.billed_input == 60


def test_streams_of_version_1(ask, sse, ndjson):
    """JSON lines and server-sent events alike; the last event repeats the whole and doubles nothing."""
    events = [
        {"event_type": "stream-start", "generation_id": "g", "is_finished": False},
        {"event_type": "text-generation", "text": "Hel", "is_finished": False},
        {"event_type": "text-generation", "text": "lo", "is_finished": False},
        {"event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0, "name": "f", "parameters": '{"a":'}},
        {"event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0, "parameters": "1}"}},
        {"event_type": "stream-end", "is_finished": True, "finish_reason": "COMPLETE", "response": V1},
    ]
    for body, framing in ((ndjson(*events), "ndjson"), (sse(*events), "sse")):
        got = ask(HOST + "/v1/chat", {**V1_REQUEST, "stream": True}, body)
        assert (got.text, got.response_id, got.framing, got.ended) == ("Hello", "g", framing, True)
        assert got.tool_calls == [{"id": None, "name": "f", "arguments": {"a": 1}}]
        assert got.finish_reasons == ["COMPLETE"] and got.usage and got.usage.input_tokens == 1496
    cut = ask(HOST + "/v1/chat", V1_REQUEST, ndjson(*events[:3]), complete=False)
    assert cut.text == "Hello" and not cut.ended and cut.usage is None


def test_generate(ask):
    """Several generations are several choices."""
    got = ask(
        "https://api.cohere.ai/v1/generate",
        {"model": "command", "prompt": "x", "num_generations": 2},
        {
            "id": "r",
            "generations": [{"text": "a", "finish_reason": "COMPLETE"}, {"text": "b", "finish_reason": "MAX_TOKENS"}],
            "meta": {"billed_units": {"input_tokens": 5, "output_tokens": 57}},
        },
    )
    assert (got.text, got.finish_reasons, got.operation) == ("a", ["COMPLETE", "MAX_TOKENS"], "text_completion")
    assert got.usage and (got.usage.input_tokens, got.usage.input_raw) == (5, None)


@pytest.mark.parametrize("embeddings", [[[0.1, 0.2]], {"float": [[0.1, 0.2]]}])
def test_embed(ask, embeddings):
    """Vectors of both shapes are measured, not kept."""
    got = ask(
        HOST + "/v2/embed",
        {"model": "embed-v4.0", "texts": ["x"], "input_type": "search_query"},
        {"id": "e", "embeddings": embeddings, "meta": {"billed_units": {"input_tokens": 2}}},
    )
    assert (got.api, got.details["dimensions"], got.details["input_count"]) == ("cohere.embed", 2, 1)
    assert got.usage and (got.usage.input_tokens, got.usage.billed_input) == (2, 2) and "0.1" not in repr(got)


@pytest.mark.parametrize(
    ("url", "provider", "answer", "tokens", "units"),
    [
        (
            HOST + "/v2/rerank",
            "cohere",
            {
                "id": "r",
                "results": [{"index": 0, "relevance_score": 0.5}],
                "meta": {"billed_units": {"search_units": 1}},
            },
            None,
            1,
        ),
        (
            "http://localhost:8000/v1/rerank",
            "unknown",
            {
                "model": "m",
                "results": [{"index": 0, "relevance_score": 0.5, "document": {"text": "long"}}],
                "usage": {"total_tokens": 9},
            },
            9,
            None,
        ),
    ],
)
def test_rerank(ask, url, provider, answer, tokens, units):
    """Search units or tokens, whichever the service counts."""
    got = ask(url, {"model": "m", "query": "q", "documents": ["d1", "d2"]}, answer)
    assert (got.api, got.provider, got.operation) == ("cohere.rerank", provider, "rerank")
    assert got.details == {"input_count": 2, "results": [{"index": 0, "relevance_score": 0.5}]}
    assert got.usage and (got.usage.input_tokens, got.usage.search_units) == (tokens, units)
    assert [item.parts[0].content for item in got.input] == ["q"]


def test_an_error(ask):
    """A message on its own is the error."""
    got = ask(HOST + "/v2/chat", {"model": "m"}, json.dumps({"id": "x", "message": "too many tokens"}), status=400)
    assert got.error and got.error["message"] == "too many tokens" and got.response_id is None


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/tokenize"), ("GET", "/v1/models"), ("POST", "/v1/datasets")]
)
def test_what_is_not_recorded(recorded, method, path):
    """Tokens, models and data sets are no LLM calls."""
    assert not recorded(method, HOST + path)
