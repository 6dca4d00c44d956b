"""Amazon Bedrock: Converse, InvokeModel in every maker's shape, agents."""

import base64

import pytest

HOST = "https://bedrock-runtime.us-east-1.amazonaws.com"
CONVERSE = HOST + "/model/us.amazon.nova-lite-v1%3A0/converse"
REQUEST = {"messages": [{"role": "user", "content": [{"text": "Hello"}]}], "inferenceConfig": {"maxTokens": 5}}
METRICS = {"inputTokenCount": 11, "outputTokenCount": 22, "invocationLatency": 5, "firstByteLatency": 1}


def test_converse(ask):
    """Text, reasoning, calls and counts; the input leaves out the cache and is added up."""
    content = [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
        {"text": "Hi"},
        {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1}}},
    ]
    body = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "tool_use",
        "usage": {
            "inputTokens": 10,
            "outputTokens": 5,
            "totalTokens": 125,
            "cacheReadInputTokens": 100,
            "cacheWriteInputTokens": 10,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 10}],
        },
        "metrics": {"latencyMs": 77},
        "serviceTier": {"type": "priority"},
    }
    got = ask(CONVERSE, REQUEST, body)
    assert (got.provider, got.api, got.request_model) == ("aws_bedrock", "bedrock.converse", "us.amazon.nova-lite-v1:0")
    assert (got.text, got.reasoning_text, got.finish_reasons) == ("Hi", "Hm.", ["tool_use"])
    assert got.tool_calls == [{"id": "t1", "name": "f", "arguments": {"a": 1}}]
    assert got.usage and (got.usage.input_tokens, got.usage.output_tokens, got.usage.total_reported) == (120, 5, 125)
    assert (got.usage.cache_read, got.usage.cache_write, got.usage.cache_write_1h) == (100, 10, 10)
    assert got.details["provider_latency_ms"] == 77 and got.service_tier == "priority"
    assert got.parameters == {"maxTokens": 5} and got.input[0].parts[0].content == "Hello"


def test_converse_stream(ask, eventstream):
    """Blocks are put together by index, the usage stands in the last event."""
    body = eventstream(
        [
            ("messageStart", {"role": "assistant", "p": "abc"}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm."}}}),
            ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "Hel"}}),
            ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "lo"}}),
            ("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "f"}}}),
            ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '{"a":'}}}),
            ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": " 1}"}}}),
            ("contentBlockStop", {"contentBlockIndex": 2}),
            ("messageStop", {"stopReason": "tool_use"}),
            (
                "metadata",
                {"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}, "metrics": {"latencyMs": 9}},
            ),
        ]
    )
    for headers in ({"content-type": "application/vnd.amazon.eventstream"}, {}):
        got = ask(CONVERSE + "-stream", REQUEST, body, headers=headers)
        assert (got.stream, got.stream_requested, got.framing, got.ended) == (True, True, "aws-eventstream", True)
        assert (got.text, got.reasoning_text) == ("Hello", "Hm.")
        assert got.tool_calls == [{"id": "t1", "name": "f", "arguments": {"a": 1}}]
        assert got.usage and got.usage.total_tokens == 7
    half = ask(CONVERSE + "-stream", REQUEST, body[: len(body) // 2], complete=False)
    assert half.text == "Hello" and not half.ended and half.usage is None


def test_an_exception_inside_a_stream(ask, eventstream):
    """An exception event is the error of a stream that began well."""
    body = eventstream([("messageStart", {"role": "assistant"}), ("throttlingException", {"message": "Slow down"})])
    got = ask(CONVERSE + "-stream", REQUEST, body)
    assert got.error == {"type": "throttlingException", "code": None, "message": "Slow down"} and got.ended


def test_an_error_answer(ask):
    """The type of an error stands in a header, its message in the body."""
    got = ask(
        CONVERSE,
        REQUEST,
        {"message": "Invalid model."},
        status=400,
        headers={"x-amzn-errortype": "ValidationException:http://x"},
    )
    assert got.error == {"type": "ValidationException", "code": None, "message": "Invalid model."}


def test_the_converse_request(ask):
    """System, media by reference, tools and results are read."""
    body = {
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"image": {"format": "png", "source": {"bytes": "aGVsbG8="}}},
                    {"document": {"format": "pdf", "name": "d", "source": {"s3Location": {"uri": "s3://b/d.pdf"}}}},
                ],
            },
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"json": {"r": 1}}]}}]},
        ],
        "toolConfig": {
            "tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}],
            "toolChoice": {"auto": {}},
        },
    }
    got = ask(CONVERSE, body, None, status=None)
    assert [item.role for item in got.input] == ["system", "user", "assistant", "tool"]
    picture, document = got.input[1].parts
    assert (picture.type, picture.mime_type, picture.size) == ("blob", "image/png", 5)
    assert (document.type, document.uri) == ("uri", "s3://b/d.pdf")
    assert got.input[3].parts[0].content == '{"r": 1}'
    assert got.tools[0]["parameters"] == {"type": "object"} and got.parameters == {"toolChoice": {"auto": {}}}


CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-3",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 11, "output_tokens": 22},
}
HEADERS = {"x-amzn-bedrock-input-token-count": "11", "x-amzn-bedrock-output-token-count": "22"}


@pytest.mark.parametrize(
    ("model", "request_body", "answer", "finish"),
    [
        (
            "anthropic.claude-3-haiku-20240307-v1:0",
            {"anthropic_version": "bedrock-2023-05-31", "messages": []},
            CLAUDE,
            "end_turn",
        ),
        ("anthropic.claude-v2", {"prompt": "x"}, {"completion": "Hi", "stop_reason": "stop_sequence"}, "stop_sequence"),
        (
            "amazon.titan-text-lite-v1",
            {"inputText": "x"},
            {
                "inputTextTokenCount": 11,
                "results": [{"tokenCount": 22, "outputText": "Hi", "completionReason": "FINISH"}],
            },
            "FINISH",
        ),
        (
            "amazon.nova-lite-v1:0",
            REQUEST,
            {
                "output": {"message": {"content": [{"text": "Hi"}]}},
                "stopReason": "end_turn",
                "usage": {"inputTokens": 11, "outputTokens": 22},
            },
            "end_turn",
        ),
        (
            "meta.llama3-8b-instruct-v1:0",
            {"prompt": "x"},
            {"generation": "Hi", "prompt_token_count": 11, "generation_token_count": 22, "stop_reason": "stop"},
            "stop",
        ),
        (
            "mistral.mistral-7b-instruct-v0:2",
            {"prompt": "x"},
            {"outputs": [{"text": "Hi", "stop_reason": "stop"}]},
            "stop",
        ),
        (
            "mistral.pixtral-large-2502-v1:0",
            {"messages": []},
            {"choices": [{"index": 0, "message": {"content": "Hi"}, "stop_reason": "stop"}]},
            "stop",
        ),
        (
            "cohere.command-text-v14",
            {"prompt": "x"},
            {"id": "g", "generations": [{"id": "a", "text": "Hi", "finish_reason": "COMPLETE"}]},
            "COMPLETE",
        ),
        (
            "cohere.command-r-v1:0",
            {"message": "x"},
            {"text": "Hi", "finish_reason": "COMPLETE", "chat_history": []},
            "COMPLETE",
        ),
        (
            "ai21.j2-ultra-v1",
            {"prompt": "x"},
            {"id": 1, "completions": [{"data": {"text": "Hi"}, "finishReason": {"reason": "endoftext"}}]},
            "endoftext",
        ),
        (
            "ai21.jamba-1-5-mini-v1:0",
            {"messages": []},
            {
                "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 11, "completion_tokens": 22},
            },
            "stop",
        ),
        ("deepseek.r1-v1:0", {"prompt": "x"}, {"choices": [{"text": "Hi", "stop_reason": "stop"}]}, "stop"),
        (
            "writer.palmyra-x5-v1:0",
            {"messages": []},
            {"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]},
            "stop",
        ),
        (
            "openai.gpt-oss-20b-1:0",
            {"messages": []},
            {
                "id": "c",
                "model": "openai.gpt-oss-20b-1:0",
                "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33},
            },
            "stop",
        ),
    ],
)
def test_what_the_makers_answer(ask, model, request_body, answer, finish):
    """Text, finish reason and counts are read out of each maker's shape, or out of the headers."""
    got = ask(f"{HOST}/model/{model}/invoke", request_body, answer, headers=HEADERS)
    assert (got.api, got.request_model, got.text, got.finish_reasons) == ("bedrock.invoke", model, "Hi", [finish])
    assert got.usage and (got.usage.input_tokens, got.usage.output_tokens) == (11, 22)
    assert not got.warnings and got.content_offset


@pytest.mark.parametrize(
    ("model", "objects"),
    [
        (
            "anthropic.claude-3",
            [
                {"type": "message_start", "message": {**CLAUDE, "content": [], "stop_reason": None}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
                {"type": "message_delta", "delta": {"stop_reason": "stop"}, "usage": {"output_tokens": 22}},
                {"type": "message_stop"},
            ],
        ),
        (
            "amazon.nova-lite-v1:0",
            [
                {"messageStart": {"role": "assistant"}},
                {"contentBlockDelta": {"delta": {"text": "Hel"}}},
                {"contentBlockDelta": {"delta": {"text": "lo"}}},
                {"messageStop": {"stopReason": "stop"}},
                {"metadata": {"usage": {"inputTokens": 11, "outputTokens": 22}}},
            ],
        ),
        (
            "amazon.titan-text-lite-v1",
            [
                {"outputText": "Hel", "index": 0, "completionReason": None, "inputTextTokenCount": 11},
                {"outputText": "lo", "index": 0, "completionReason": "stop", "totalOutputTextTokenCount": 22},
            ],
        ),
        (
            "meta.llama3-8b-instruct-v1:0",
            [
                {"generation": "Hel", "prompt_token_count": 11, "generation_token_count": 1, "stop_reason": None},
                {"generation": "lo", "prompt_token_count": None, "generation_token_count": 22, "stop_reason": "stop"},
            ],
        ),
        (
            "mistral.mistral-7b-instruct-v0:2",
            [{"outputs": [{"text": "Hel", "stop_reason": None}]}, {"outputs": [{"text": "lo", "stop_reason": "stop"}]}],
        ),
        (
            "cohere.command-r-v1:0",
            [
                {"event_type": "stream-start", "is_finished": False},
                {"event_type": "text-generation", "text": "Hel"},
                {"event_type": "text-generation", "text": "lo"},
                {
                    "event_type": "stream-end",
                    "is_finished": True,
                    "finish_reason": "stop",
                    "response": {"text": "Hello", "finish_reason": "stop"},
                },
            ],
        ),
        (
            "openai.gpt-oss-20b-1:0",
            [
                {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
                {"choices": [{"index": 0, "delta": {"content": "Hel"}}]},
                {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
            ],
        ),
    ],
)
def test_what_the_makers_stream(ask, invoked, model, objects):
    """The same in chunks, with the metrics of the last one where the maker counts nothing."""
    body = invoked(*objects[:-1], {**objects[-1], "amazon-bedrock-invocationMetrics": METRICS})
    got = ask(f"{HOST}/model/{model}/invoke-with-response-stream", {}, body)
    assert (got.text, got.finish_reasons, got.stream, got.ended) == ("Hello", ["stop"], True, True)
    assert got.usage and (got.usage.input_tokens, got.usage.output_tokens) == (11, 22)
    assert got.content_offset and got.content_offset < len(body)


def test_two_generations_are_two_choices(ask, invoked):
    """What two choices stream is not mixed."""
    body = invoked({"index": 0, "text": "a", "is_finished": False}, {"index": 1, "text": "b", "is_finished": False})
    got = ask(f"{HOST}/model/cohere.command-text-v14/invoke-with-response-stream", {"prompt": "x"}, body)
    assert (got.text, len(got.output)) == ("a", 2)


@pytest.mark.parametrize(
    ("model", "request_body", "answer", "operation"),
    [
        (
            "amazon.titan-embed-text-v2:0",
            {"inputText": "x"},
            {"embedding": [0.1, 0.2], "inputTextTokenCount": 11},
            "embeddings",
        ),
        ("cohere.embed-v4:0", {"texts": ["x"]}, {"id": "e", "embeddings": {"float": [[0.1, 0.2]]}}, "embeddings"),
        ("stability.sd3-5-large-v1:0", {"prompt": "x"}, {"images": ["aGVsbG8="], "finish_reasons": [None]}, "image"),
    ],
)
def test_vectors_and_images(ask, model, request_body, answer, operation):
    """What is no chat says so by its operation and keeps no data."""
    got = ask(f"{HOST}/model/{model}/invoke", request_body, answer, headers={"x-amzn-bedrock-input-token-count": "11"})
    assert got.operation == operation and got.usage and got.usage.input_tokens == 11 and got.usage.output_tokens is None
    assert got.details.get("dimensions") == (2 if operation == "embeddings" else None)
    assert "aGVsbG8=" not in repr(got)


def test_arn_of_a_profile(ask):
    """A model that is named by an ARN is that ARN, decoded."""
    arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"
    got = ask(f"{HOST}/model/{arn.replace(':', '%3A').replace('/', '%2F')}/converse", REQUEST, {})
    assert got.request_model == arn


def test_count_tokens(ask):
    """The number that is asked for is a detail, no usage."""
    got = ask(f"{HOST}/model/anthropic.claude-3/count-tokens", {"input": {"converse": REQUEST}}, {"inputTokens": 23})
    assert got.usage is None and got.details["token_count"] == 23 and got.input


AGENTS = "https://bedrock-agent-runtime.us-east-1.amazonaws.com"


def test_an_agent(ask, eventstream):
    """An agent's answer stands in chunks, and a call that it hands back is the client's to run."""
    body = eventstream(
        [
            ("trace", {"trace": {}}),
            ("chunk", {"bytes": base64.b64encode("Grüße".encode()).decode()}),
            (
                "returnControl",
                {
                    "invocationId": "i",
                    "invocationInputs": [
                        {
                            "functionInvocationInput": {
                                "actionGroup": "g",
                                "function": "f",
                                "parameters": [{"name": "a", "type": "string", "value": "1"}],
                            }
                        }
                    ],
                },
            ),
        ]
    )
    got = ask(f"{AGENTS}/agents/A/agentAliases/B/sessions/C/text", {"inputText": "Hello"}, body)
    assert (got.api, got.operation, got.text, got.stream) == ("bedrock.agent", "other", "Grüße", True)
    assert got.tool_calls == [{"id": "i", "name": "f", "arguments": {"a": "1"}}]
    assert got.input[0].parts[0].content == "Hello" and got.usage is None


def test_knowledge_bases_and_guardrails(ask):
    """Answers of the other runtime calls give their text."""
    got = ask(
        AGENTS + "/retrieveAndGenerate",
        {
            "input": {"text": "q"},
            "retrieveAndGenerateConfiguration": {"knowledgeBaseConfiguration": {"modelArn": "arn:x"}},
        },
        {"output": {"text": "a"}, "sessionId": "s"},
    )
    assert (got.text, got.request_model, got.input[0].parts[0].content) == ("a", "arn:x", "q")
    got = ask(
        HOST + "/guardrail/g/version/1/apply",
        {"source": "INPUT", "content": [{"text": {"text": "q"}}]},
        {"action": "GUARDRAIL_INTERVENED", "outputs": [{"text": "No."}]},
    )
    assert (got.text, got.details["action"], got.api) == ("No.", "GUARDRAIL_INTERVENED", "bedrock.agent")


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "https://bedrock.us-east-1.amazonaws.com/foundation-models"),
        ("POST", HOST + "/async-invoke"),
        ("GET", AGENTS + "/sessions/x"),
        ("POST", "https://s3.us-east-1.amazonaws.com/b/k"),
    ],
)
def test_what_is_not_recorded(recorded, method, url):
    """The control plane and other services of Amazon are left alone."""
    assert not recorded(method, url)


def test_usage_in_the_shape_of_openai(ask, invoked):
    """Makers who answer as OpenAI does say what was cached and reasoned; the stream's metrics do not."""
    usage = {
        "prompt_tokens": 11,
        "completion_tokens": 22,
        "total_tokens": 33,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    url = HOST + "/model/openai.gpt-oss-20b-1%3A0/"
    whole = ask(
        url + "invoke", {"messages": []}, {"id": "c", "choices": [{"message": {"content": "a"}}], "usage": usage}
    )
    last = {"choices": [], "amazon-bedrock-invocationMetrics": METRICS}
    body = invoked({"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"choices": [], "usage": usage}, last)
    stream = ask(url + "invoke-with-response-stream", {"messages": []}, body)

    for got in (whole, stream):
        assert (got.text, got.ended) == ("a", True)
        assert (got.usage.input_tokens, got.usage.cache_read, got.usage.reasoning) == (11, 3, 4)
        assert (got.usage.output_tokens, got.usage.total_reported) == (22, 33)


def test_ranks(ask):
    """A model that ranks documents does not chat."""
    url = HOST + "/model/cohere.rerank-v3-5%3A0/invoke"
    got = ask(url, {"query": "q", "documents": ["a"]}, {"results": [{"index": 0, "relevance_score": 0.5}]})

    assert (got.operation, got.details["results"]) == ("rerank", [{"index": 0, "relevance_score": 0.5}])


def test_the_id_of_a_streamed_chat_of_cohere(ask, invoked):
    """It stands in the answer that the last event repeats."""
    end = {"event_type": "stream-end", "is_finished": True, "response": {"response_id": "r", "text": "a"}}
    body = invoked({"event_type": "text-generation", "text": "a"}, end)
    got = ask(HOST + "/model/cohere.command-r-v1%3A0/invoke-with-response-stream", {"message": "x"}, body)

    assert (got.response_id, got.text) == ("r", "a")


def test_cited_text(ask):
    """The text of an answer with citations, and of one whose list of them is empty."""
    content = [{"citationsContent": {"content": []}}, {"citationsContent": {"content": [{"text": "a"}, {"text": "b"}]}}]
    got = ask(CONVERSE, REQUEST, {"output": {"message": {"content": content}}, "stopReason": "end_turn"})

    assert got.text == "ab"
