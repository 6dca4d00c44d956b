"""Anthropic's Messages, Text Completions and token counts."""

import pytest

URL = "https://api.anthropic.com/v1/messages"
REQUEST = {"model": "claude-sonnet-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}


def message(*content, **more):
    usage = {"input_tokens": 10, "output_tokens": 5}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": list(content),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
        **more,
    }


def test_a_whole_answer(ask):
    """Text, ids, model, finish reason and counts of a plain answer are read."""
    got = ask(URL, REQUEST, message({"type": "text", "text": "Hi"}))
    assert (got.provider, got.api, got.operation, got.framing) == ("anthropic", "anthropic.messages", "chat", "json")
    assert (got.request_model, got.response_model) == ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929")
    assert (got.response_id, got.text, got.finish_reasons) == ("msg_1", "Hi", ["end_turn"])
    assert got.usage and (got.usage.input_tokens, got.usage.output_tokens) == (10, 5)
    assert got.parameters == {"max_tokens": 100}
    assert got.input[0].parts[0].content == "Hello" and got.output[0].parts[0].content == "Hi"
    assert got.content_offset is not None and not got.warnings


def test_cache_counts_are_added_to_the_input(ask):
    """What was read from and written to the cache is inside the total and beside it."""
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 40},
        "server_tool_use": {"web_search_requests": 2},
        "service_tier": "priority",
    }
    got = ask(URL, REQUEST, message(usage=usage))
    assert got.usage and got.usage.buckets() == {
        "input_uncached": 10,
        "cache_read": 1000,
        "cache_write_5m": 100,
        "cache_write_1h": 200,
        "output_text": 10,
        "reasoning": 40,
    }
    assert (got.usage.input_tokens, got.usage.input_raw, got.service_tier) == (1310, 10, "priority")
    assert got.details["web_search_requests"] == 2


def test_blocks_of_every_kind(ask):
    """Thinking, client tools and server tools are told apart."""
    got = ask(
        URL,
        REQUEST,
        message(
            {"type": "thinking", "thinking": "Let me see.", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xyz"},
            {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "q"}},
            {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [{"type": "web_search_result"}]},
            {"type": "mcp_tool_use", "id": "mcp_1", "name": "lookup", "server_name": "s", "input": {}},
            {"type": "text", "text": "One. "},
            {"type": "text", "text": "Two.", "citations": []},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
            stop_reason="tool_use",
        ),
    )
    assert (got.text, got.reasoning_text) == ("One. Two.", "Let me see.")
    assert got.tool_calls == [{"id": "toolu_1", "name": "weather", "arguments": {"city": "Rome"}}]
    assert got.server_tools == ["server_tool_use", "web_search_tool_result", "mcp_tool_use"]
    assert [part.type for part in got.output[0].parts] == [
        "reasoning",
        "tool_call",
        "tool_call_response",
        "tool_call",
        "text",
        "text",
        "tool_call",
    ]


def stream(sse, *middle, start=None, end=None):
    opening = {
        "type": "message_start",
        "message": message(
            stop_reason=None, usage=start or {"input_tokens": 20, "output_tokens": 1, "cache_read_input_tokens": 7}
        ),
    }
    closing = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": end or {"output_tokens": 30}}
    return sse(*((item["type"], item) for item in (opening, *middle, closing, {"type": "message_stop"})))


def start(index, **block):
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index, **piece):
    return {"type": "content_block_delta", "index": index, "delta": piece}


def test_a_stream(ask, sse):
    """Deltas are put together by index; the counts of the end replace those of the start."""
    body = stream(
        sse,
        start(0, type="thinking", thinking="", signature=""),
        {"type": "ping"},
        delta(0, type="thinking_delta", thinking="Hm"),
        delta(0, type="signature_delta", signature="abc"),
        start(1, type="text", text=""),
        delta(1, type="text_delta", text="Hel"),
        delta(1, type="text_delta", text="lo"),
        start(2, type="tool_use", id="t1", name="add", input={}),
        start(3, type="tool_use", id="t2", name="add", input={}),
        delta(3, type="input_json_delta", partial_json='{"b":'),
        delta(2, type="input_json_delta", partial_json='{"a": 1}'),
        delta(3, type="input_json_delta", partial_json=" 2}"),
        {"type": "an_event_of_tomorrow"},
    )
    got = ask(URL, {**REQUEST, "stream": True}, body)
    assert (got.stream, got.stream_requested, got.framing, got.ended) == (True, True, "sse", True)
    assert (got.text, got.reasoning_text, got.finish_reasons) == ("Hello", "Hm", ["end_turn"])
    assert got.tool_calls == [
        {"id": "t1", "name": "add", "arguments": {"a": 1}},
        {"id": "t2", "name": "add", "arguments": {"b": 2}},
    ]
    assert got.usage and (got.usage.input_tokens, got.usage.output_tokens, got.usage.cache_read) == (27, 30, 7)
    assert got.content_offset == body.index(b'"Hm"') + len(b'"Hm"}}\n\n')


def test_counts_of_the_end_win(ask, sse):
    """A server tool's results are input that only the last event counts."""
    got = ask(
        URL, REQUEST, stream(sse, end={"input_tokens": 500, "cache_creation_input_tokens": 9, "output_tokens": 30})
    )
    assert got.usage and (got.usage.input_tokens, got.usage.input_raw, got.usage.cache_write) == (516, 500, 9)


def test_a_stream_that_breaks_off(ask, sse):
    """What had come is kept; the placeholder count of the start is no output count."""
    body = stream(sse, start(0, type="text", text=""), delta(0, type="text_delta", text="Hel"))
    got = ask(URL, REQUEST, body[: body.index(b"event: message_delta") + 60], complete=False)
    assert (got.text, got.ended, got.finish_reasons, got.warnings) == ("Hel", False, [], [])
    assert got.usage and (got.usage.input_tokens, got.usage.output_tokens) == (27, None)


def test_an_error_inside_a_stream(ask, sse):
    """An overloaded provider says so in a stream that began with status 200."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    got = ask(URL, REQUEST, sse(("error", error)))
    assert got.error == {"type": "overloaded_error", "code": None, "message": "Overloaded"} and got.ended


def test_an_error_answer(ask):
    """Type and message of an error body are read, and nothing else is."""
    body = {"type": "error", "error": {"type": "not_found_error", "message": "model: x"}, "request_id": "req_1"}
    got = ask(URL, REQUEST, body, status=404)
    assert got.error == {"type": "not_found_error", "code": None, "message": "model: x"}
    assert (got.text, got.usage, got.response_id, got.finish_reasons) == ("", None, None, [])


def test_a_refusal(ask):
    """Why the model refused stands in the refusal, and that another model took over in the notes."""
    got = ask(
        URL,
        REQUEST,
        message(
            {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
            stop_reason="refusal",
            stop_details={"type": "refusal", "category": "cyber", "explanation": "No."},
        ),
    )
    assert got.refusal == "No." and got.finish_reasons == ["refusal"] and got.notes == ["fallback from a to b"]


def test_compaction_is_told(ask):
    """Tokens that are billed beside the two main numbers are noted, not lost."""
    iterations = [
        {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500},
        {"type": "message", "input_tokens": 10, "output_tokens": 5},
    ]
    got = ask(URL, REQUEST, message(usage={"input_tokens": 10, "output_tokens": 5, "iterations": iterations}))
    assert got.usage and got.usage.input_tokens == 10
    assert got.notes == ["compaction: 180000 input and 3500 output tokens beside the totals"]


def test_the_request(ask):
    """System, images by reference, tool calls and results, tools, user and parameters are read."""
    body = {
        "model": "claude-haiku-4-5",
        "max_tokens": 5,
        "temperature": 0.5,
        "tool_choice": {"type": "any"},
        "metadata": {"user_id": "u-7"},
        "system": [{"type": "text", "text": "Be brief."}],
        "tools": [
            {"name": "f", "description": "d", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}},
                    {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
                    {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
                ],
            },
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [
                            {"type": "text", "text": "42"},
                            {
                                "type": "image",
                                "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="},
                            },
                        ],
                    }
                ],
            },
        ],
    }
    got = ask(URL, body, None, status=None)
    assert [item.role for item in got.input] == ["system", "user", "assistant", "tool"]
    blob, uri, file = got.input[1].parts
    assert (blob.type, blob.size, blob.mime_type, blob.content) == ("blob", 5, "image/png", None)
    assert blob.sha256 == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert (uri.uri, file.id) == ("https://x.test/a.png", "file_1")
    assert got.input[2].parts[0].arguments == {"a": 1}
    assert [part.type for part in got.input[3].parts] == ["tool_call_response", "blob"]
    assert got.input[3].parts[0].content == "42"
    assert [tool["type"] for tool in got.tools] == ["custom", "web_search_20250305"]
    assert got.parameters == {"max_tokens": 5, "temperature": 0.5, "tool_choice": {"type": "any"}}
    assert got.user == "u-7" and got.usage is None and got.framing == "none"


def test_text_completions(ask, sse):
    """The legacy API is read whole and streamed."""
    url, request = "https://api.anthropic.com/v1/complete", {"model": "claude-2.1", "prompt": "Human: hi"}
    whole = {
        "type": "completion",
        "id": "compl_1",
        "completion": " Hi",
        "stop_reason": "stop_sequence",
        "model": "claude-2.1",
    }
    got = ask(url, request, whole)
    assert (got.text, got.response_id, got.finish_reasons, got.usage) == (" Hi", "compl_1", ["stop_sequence"], None)
    pieces = [
        ("completion", {**whole, "completion": text, "stop_reason": reason})
        for text, reason in ((" H", None), ("i", None), ("", "max_tokens"))
    ]
    got = ask(url, {**request, "stream": True}, sse(*pieces))
    assert (got.text, got.finish_reasons, got.ended, got.operation) == (" Hi", ["max_tokens"], True, "text_completion")


def test_counting_tokens_is_no_usage(ask):
    """The number that is asked for is kept as a detail."""
    got = ask(URL + "/count_tokens", REQUEST, {"input_tokens": 16})
    assert got.usage is None and got.details["token_count"] == 16


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.anthropic.com/v1/messages?beta=true", "anthropic"),
        ("https://aws-external-anthropic.us-east-1.api.aws/v1/messages", "anthropic"),
        ("https://claude.googleapis.com/v1/projects/p/locations/l/anthropic/v1/messages", "anthropic"),
        ("https://gateway.test/anthropic/v1/messages", "unknown"),
        ("http://localhost:4000/v1/messages", "unknown"),
        ("https://bedrock-mantle.us-east-1.api.aws/anthropic/v1/messages", "aws_bedrock"),
    ],
)
def test_where_it_is_spoken(ask, url, provider):
    """The dialect is found by the end of the path on hosts of every kind."""
    got = ask(url, REQUEST, message({"type": "text", "text": "Hi"}))
    assert (got.api, got.provider, got.text) == ("anthropic.messages", provider, "Hi")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/messages/batches"), ("POST", "/v1/files"), ("GET", "/v1/models"), ("GET", "/v1/messages/batches/1")],
)
def test_what_is_not_recorded(recorded, method, path):
    """Batches, files and lists of models are no LLM calls."""
    assert not recorded(method, "https://api.anthropic.com" + path)


@pytest.mark.parametrize("value", [-1, True, float("nan"), float("inf"), "12", 10**30, [1], {"a": 1}, 1.5])
def test_counts_that_are_none(ask, value):
    """A count that cannot be one is unknown and a warning, never a number."""
    got = ask(URL, REQUEST, message(usage={"input_tokens": value, "output_tokens": 3}))
    assert got.usage and (got.usage.input_tokens, got.usage.output_tokens) == (None, 3)
    assert got.warnings == ["input_tokens is no count"]
