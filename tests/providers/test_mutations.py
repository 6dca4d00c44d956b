"""Answers of each shape with every single value replaced by a wrong one, and cut at every byte: all are read."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

UNREAD = "this exchange could not be read in full"
WRONG = (None, True, -1, 1.5, float("nan"), 10**30, "x", "\ud800", [], [None], {}, {"a": [1]}, [[{"index": {}}]])
BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/"
ANTHROPIC_USAGE = {
    "input_tokens": 1,
    "output_tokens": 2,
    "cache_creation": {"ephemeral_5m_input_tokens": 1},
    "output_tokens_details": {"thinking_tokens": 1},
    "server_tool_use": {"web_search_requests": 1},
    "iterations": [{"type": "compaction", "input_tokens": 1, "output_tokens": 1}],
}
ANTHROPIC_BLOCKS = [
    {"type": "text", "text": "a"},
    {"type": "thinking", "thinking": "b"},
    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "s",
        "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}],
    },
    {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
]
ANTHROPIC = {
    "id": "m",
    "type": "message",
    "model": "c",
    "content": ANTHROPIC_BLOCKS,
    "stop_reason": "refusal",
    "stop_details": {"type": "refusal", "explanation": "no"},
    "usage": ANTHROPIC_USAGE,
}
ANTHROPIC_REQUEST = {
    "model": "c",
    "system": [{"type": "text", "text": "s"}],
    "metadata": {"user_id": "u"},
    "messages": [{"role": "user", "content": ANTHROPIC_BLOCKS}],
    "tools": [{"name": "f", "input_schema": {}}],
}
GEMINI_PARTS = [
    {"text": "a"},
    {"text": "b", "thought": True},
    {"functionCall": {"name": "f", "args": {"a": 1}}},
    {"functionCall": {"name": "g", "partialArgs": [{"jsonPath": "$.a[0].b", "stringValue": "x"}]}},
    {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
    {"toolCall": {"id": "t", "toolType": "X"}},
    {"functionResponse": {"name": "f", "response": {"a": 1}}},
    {"fileData": {"fileUri": "gs://x"}},
]
GEMINI_ANSWER = {
    "candidates": [
        {
            "index": 0,
            "content": {"parts": GEMINI_PARTS},
            "finishReason": "STOP",
            "groundingMetadata": {"webSearchQueries": ["q"]},
        }
    ],
    "promptFeedback": {"blockReason": "X"},
    "modelVersion": "g",
    "responseId": "r",
    "usageMetadata": {
        "promptTokenCount": 1,
        "candidatesTokenCount": 1,
        "thoughtsTokenCount": 1,
        "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 1}],
    },
}
GEMINI_REQUEST = {
    "systemInstruction": {"parts": [{"text": "s"}]},
    "contents": [{"role": "user", "parts": GEMINI_PARTS}],
    "tools": [{"functionDeclarations": [{"name": "f"}]}],
    "generationConfig": {"temperature": 1},
}
CONVERSE_BLOCKS = [
    {"text": "a"},
    {"reasoningContent": {"reasoningText": {"text": "b"}}},
    {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}},
    {
        "toolResult": {
            "toolUseId": "t",
            "content": [{"json": {}}, {"text": "x"}, {"image": {"format": "png", "source": {"bytes": "aGk="}}}],
        }
    },
    {"citationsContent": {"content": [{"text": "c"}]}},
]
CONVERSE = {
    "output": {"message": {"content": CONVERSE_BLOCKS}},
    "stopReason": "end_turn",
    "metrics": {"latencyMs": 1},
    "usage": {"inputTokens": 1, "outputTokens": 1, "cacheDetails": [{"ttl": "5m", "inputTokens": 1}]},
    "trace": {"promptRouter": {"invokedModelId": "m"}},
    "serviceTier": {"type": "x"},
}
CONVERSE_REQUEST = {
    "system": [{"text": "s"}],
    "messages": [{"role": "user", "content": CONVERSE_BLOCKS}],
    "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}]},
}
INVOKE = {
    "id": "i",
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {
                "content": "a",
                "tool_calls": [{"id": "c", "index": 0, "function": {"name": "f", "arguments": "{}"}}],
            },
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    "results": [{"outputText": "x", "tokenCount": 1}],
    "outputs": [{"text": "y", "stop_reason": "s"}],
    "completions": [{"data": {"text": "z"}, "finishReason": {"reason": "r"}}],
    "embeddings": {"float": [[0.5]]},
    "artifacts": [{"base64": "aGk=", "finishReason": "S"}],
    "images": ["aGk="],
}
INVOKE_REQUEST = {
    "prompt": "x",
    "texts": ["y"],
    "images": ["aGk="],
    "chat_history": [{"role": "USER", "message": "m"}],
    "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}],
    "tools": [{"function": {"name": "f", "parameters": {}}}],
    "textGenerationConfig": {"topP": 1},
}
STEPS = [
    {"type": "thought", "summary": [{"type": "text", "text": "t"}]},
    {
        "type": "model_output",
        "content": [{"type": "text", "text": "a"}, {"type": "image", "mime_type": "image/png", "data": "aGk="}],
    },
    {"type": "function_call", "id": "c", "name": "f", "arguments": {"a": 1}},
    {"type": "mcp_server_tool_result", "call_id": "c", "result": [{"type": "text", "text": "r"}]},
]
INTERACTION = {
    "id": "i",
    "status": "completed",
    "model": "m",
    "steps": STEPS,
    "usage": {
        "total_input_tokens": 1,
        "total_output_tokens": 1,
        "input_tokens_by_modality": [{"modality": "image", "tokens": 1}],
    },
}
INTERACTION_REQUEST = {
    "model": "m",
    "system_instruction": "s",
    "input": [{"role": "user", "content": STEPS}, *STEPS],
    "tools": [{"type": "function", "name": "f"}],
    "generation_config": {"seed": 1},
}
COHERE_META = {"billed_units": {"input_tokens": 1, "search_units": 1}, "tokens": {"input_tokens": 1}, "warnings": ["w"]}
COHERE = {
    "id": "i",
    "message": {
        "content": [{"type": "text", "text": "a"}, {"thinking": "b"}],
        "tool_plan": "p",
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
    },
    "finish_reason": "COMPLETE",
    "usage": COHERE_META,
    "text": "a",
    "meta": COHERE_META,
    "generations": [{"text": "g", "finish_reason": "C"}],
    "tool_calls": [{"name": "f", "parameters": {"a": 1}}],
    "embeddings": {"float": [[0.5]]},
    "results": [{"index": 0, "relevance_score": 0.5}],
    "response": {"text": "x", "meta": COHERE_META},
}
COHERE_REQUEST = {
    "model": "m",
    "message": "x",
    "preamble": "p",
    "chat_history": [{"role": "USER", "message": "h"}],
    "messages": [{"role": "tool", "tool_call_id": "c", "content": [{"document": {"data": "d"}}]}],
    "texts": ["t"],
    "images": ["data:image/png;base64,aGk="],
    "tool_results": [{"call": {"name": "f"}}],
    "inputs": [{"content": [{"type": "text", "text": "t"}]}],
    "documents": ["d"],
}
OLLAMA = {
    "model": "m",
    "message": {"content": "a", "thinking": "b", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
    "response": "r",
    "done": True,
    "done_reason": "stop",
    "eval_count": 1,
    "embeddings": [[0.5]],
    "prompt_eval_count": 1,
    "total_duration": 1,
}
OLLAMA_REQUEST = {
    "model": "m",
    "system": "s",
    "prompt": "p",
    "input": ["i"],
    "images": ["aGk="],
    "messages": [{"role": "user", "content": "x", "images": ["aGk="]}],
    "options": {"seed": 1},
}
WATSONX = {
    "model_id": "m",
    "results": [
        {
            "generated_text": "a",
            "generated_token_count": 1,
            "input_token_count": 1,
            "stop_reason": "s",
            "embedding": [0.5],
        }
    ],
    "system": {"warnings": [{"message": "w"}]},
    "errors": [{"code": "c", "message": "m"}],
    "input_token_count": 1,
    "choices": [{"message": {"content": "a"}}],
}
WATSONX_REQUEST = {
    "model_id": "m",
    "input": "x",
    "inputs": ["y"],
    "parameters": {"a": 1},
    "messages": [{"content": "x"}],
}
REPLICATE = {
    "id": "p",
    "model": "m",
    "status": "failed",
    "output": ["a", "https://x.test/y.png"],
    "error": "e",
    "metrics": {"predict_time": 1, "input_token_count": 1},
}
REPLICATE_REQUEST = {
    "version": "v",
    "input": {"prompt": "x", "system_prompt": "s", "image": "data:,x", "messages": [{"role": "user", "content": "x"}]},
}
PREDICTION = {
    "predictions": [
        {"embeddings": {"values": [0.5], "statistics": {"token_count": 1}}},
        {"bytesBase64Encoded": "aGk=", "mimeType": "image/png"},
        "text",
        {"content": "x"},
    ],
    "metadata": {"tokenMetadata": {"inputTokenCount": {"totalTokens": 1}}},
}
PREDICTION_REQUEST = {
    "instances": [{"content": "x"}, {"prompt": "y", "image": {"bytesBase64Encoded": "aGk="}}],
    "parameters": {"a": 1},
}
AGENT = {"output": {"text": "a"}, "outputs": [{"text": "b"}], "action": "NONE"}
AGENT_REQUEST = {
    "inputText": "x",
    "input": {"text": "y"},
    "content": [{"text": {"text": "z"}}],
    "inputs": [{"content": {"document": "d"}}],
    "retrieveAndGenerateConfiguration": {"knowledgeBaseConfiguration": {"modelArn": "m"}},
}

EXCHANGES = [
    ("https://api.anthropic.com/v1/messages", ANTHROPIC_REQUEST, ANTHROPIC),
    ("https://api.anthropic.com/v1/complete", {"model": "c", "prompt": "x"}, {"completion": "a", "stop_reason": "s"}),
    (GEMINI + "models/g:generateContent", GEMINI_REQUEST, GEMINI_ANSWER),
    (
        GEMINI + "models/g:batchEmbedContents",
        {"requests": [{"content": {"parts": [{"text": "x"}]}}]},
        {"embeddings": [{"values": [0.5]}], "usageMetadata": {"promptTokenCount": 1}},
    ),
    (GEMINI + "models/g:countTokens", {"generateContentRequest": GEMINI_REQUEST}, {"totalTokens": 1}),
    (GEMINI + "interactions", INTERACTION_REQUEST, INTERACTION),
    (GEMINI + "models/imagen:predict", PREDICTION_REQUEST, PREDICTION),
    (BEDROCK + "converse", CONVERSE_REQUEST, CONVERSE),
    (BEDROCK + "invoke", INVOKE_REQUEST, INVOKE),
    (BEDROCK + "count-tokens", {"input": {"converse": CONVERSE_REQUEST}}, {"inputTokens": 1}),
    ("https://bedrock-agent-runtime.us-east-1.amazonaws.com/retrieveAndGenerate", AGENT_REQUEST, AGENT),
    *(
        ("https://api.cohere.com/" + path, COHERE_REQUEST, COHERE)
        for path in ("v1/chat", "v2/chat", "v1/generate", "v2/embed", "v2/rerank")
    ),
    *(("http://localhost:11434/api/" + path, OLLAMA_REQUEST, OLLAMA) for path in ("chat", "generate", "embed")),
    *(
        ("https://us-south.ml.cloud.ibm.com/ml/v1/text/" + path, WATSONX_REQUEST, WATSONX)
        for path in ("generation", "chat", "embeddings")
    ),
    ("https://api.replicate.com/v1/predictions", REPLICATE_REQUEST, REPLICATE),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside *value*."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def mutants(value: Any) -> Iterator[Any]:
    """*value* with one place at a time replaced by each wrong value."""
    for path in places(value):
        for wrong in WRONG:
            if not path:
                yield wrong
                continue
            whole = copy.deepcopy(value)
            node = whole
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = wrong
            yield whole


@pytest.mark.parametrize(("url", "request_body", "answer"), EXCHANGES, ids=[item[0] for item in EXCHANGES])
def test_one_wrong_value(ask, url, request_body, answer):
    """A value of the wrong type costs at most itself."""
    assert UNREAD not in ask(url, request_body, answer).warnings
    for mutant in mutants(answer):
        assert UNREAD not in ask(url, request_body, mutant).warnings, mutant
    for mutant in mutants(request_body):
        assert UNREAD not in ask(url, mutant, answer).warnings, mutant


STREAMS = [
    (
        "https://api.anthropic.com/v1/messages",
        [
            {"type": "message_start", "message": {**ANTHROPIC, "content": []}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "a"}},
            {"type": "message_delta", "delta": {"stop_reason": "s"}, "usage": ANTHROPIC_USAGE},
            {"type": "error", "error": {"type": "t", "message": "m"}},
        ],
    ),
    (GEMINI + "models/g:streamGenerateContent", [GEMINI_ANSWER, {"error": {"code": 1, "message": "m"}}]),
    (
        GEMINI + "interactions",
        [
            {"event_type": "step.start", "index": 0, "step": STEPS[2]},
            {"event_type": "step.delta", "index": 0, "delta": {"type": "arguments_delta", "arguments": "{}"}},
            {"event_type": "step.delta", "index": 1, "delta": {"type": "thought_summary", "content": {"text": "t"}}},
            {"event_type": "interaction.completed", "interaction": INTERACTION},
            {"event_type": "error", "error": {"message": "m"}},
        ],
    ),
    (
        "https://api.cohere.com/v2/chat",
        [
            {"type": "message-start", "id": "i"},
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "a"}}}},
            {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": {"id": "c", "function": {}}}}},
            {"type": "message-end", "delta": {"finish_reason": "C", "usage": COHERE_META}},
        ],
    ),
    (
        "https://api.cohere.com/v1/chat",
        [
            {"event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0, "name": "f", "parameters": "{"}},
            {"event_type": "stream-end", "is_finished": True, "response": {"text": "x", "meta": COHERE_META}},
        ],
    ),
    ("http://localhost:11434/api/chat", [OLLAMA, OLLAMA, {"error": "e"}]),
    ("https://us-south.ml.cloud.ibm.com/ml/v1/text/generation_stream", [WATSONX, WATSONX]),
]


@pytest.mark.parametrize(("url", "events"), STREAMS, ids=[item[0] for item in STREAMS])
def test_one_wrong_value_in_a_stream(ask, sse, url, events):
    """The same for each event of a stream, and a stream that is cut at every byte."""
    body = sse(*events)
    assert ask(url, {}, body).stream
    for mutant in mutants(events):
        if isinstance(mutant, list):
            assert UNREAD not in ask(url, {}, sse(*mutant)).warnings, mutant
    for cut in range(len(body)):
        assert UNREAD not in ask(url, {}, body[:cut], complete=False).warnings, cut


def test_one_wrong_value_in_an_event_stream(ask, eventstream, invoked):
    """The same for Amazon's binary frames."""
    events = [
        ["contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}}],
        ["contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}}],
        ["contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "a"}}],
        ["metadata", {"usage": CONVERSE["usage"], "trace": CONVERSE["trace"], "serviceTier": {"type": "x"}}],
    ]
    for number, (kind, data) in enumerate(events):
        for mutant in mutants(data):
            body = eventstream([*events[:number], (kind, mutant), *events[number + 1 :]])
            assert UNREAD not in ask(BEDROCK + "converse-stream", {}, body).warnings, mutant
    frames = eventstream(events)
    for cut in range(len(frames)):
        assert UNREAD not in ask(BEDROCK + "converse-stream", {}, frames[:cut], complete=False).warnings, cut
    for data in (INVOKE, json.loads(json.dumps(ANTHROPIC)), {"text": "a", "index": 0, "is_finished": True}):
        for mutant in mutants(data):
            url = BEDROCK + "invoke-with-response-stream"
            assert UNREAD not in ask(url, {}, invoked(mutant)).warnings, mutant
