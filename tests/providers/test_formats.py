"""What single services add to, leave out of or repeat in the formats that they copy, each by its documentation."""

import json

import pytest


def sse_of(*events, done=True):
    """Events of objects, text or ``(name, object)`` pairs."""
    out = []
    for event in events:
        name, data = event if isinstance(event, tuple) else ("", event)
        text = data if isinstance(data, str) else json.dumps(data)
        out.append((f"event: {name}\n" if name else "") + f"data: {text}\n\n")
    return ("".join(out) + ("data: [DONE]\n\n" if done else "")).encode()


def lines_of(*objects):
    return b"".join(json.dumps(item).encode() + b"\n" for item in objects)


def chunk(*choices, **more):
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": list(choices), **more}


def said(reading):
    """A reading as the names that the tables below expect."""
    usage = reading.usage
    counts = {name: getattr(usage, name) for name in usage.__dataclass_fields__} if usage is not None else {}
    calls = [(call["id"], call["name"], call["arguments"]) for call in reading.tool_calls]
    return {
        **counts,
        **{name: getattr(reading, name) for name in reading.__dataclass_fields__},
        "calls": calls,
        "message": (reading.error or {}).get("message"),
    }


TOKENS = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
CALL = {"name": "f", "arguments": "{}"}
DEFAULTS = ({"model": "m", "messages": []}, {})  # what is sent, and its headers, where a case names none
CASES = {
    "together: a stream says each piece in the choice and in its delta": (
        "https://api.together.xyz/v1/chat/completions",
        sse_of(
            chunk({"index": 0, "text": "Hi", "delta": {"role": "assistant", "content": "Hi", "tool_calls": None}}),
            chunk({"index": 0, "text": " you", "delta": {"content": " you"}}),
            chunk({"index": 0, "text": "", "finish_reason": "stop", "delta": {"content": ""}}, usage=TOKENS),
        ),
        {"text": "Hi you", "finish_reasons": ["stop"], "input_tokens": 5},
    ),
    "perplexity: an empty delta stands beside the message of a whole answer": (
        "https://api.perplexity.ai/chat/completions",
        {
            "id": "p",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "yes"},
                    "delta": {"role": "assistant", "content": ""},
                    "finish_reason": "stop",
                }
            ],
            "usage": {**TOKENS, "cost": {"input_tokens_cost": 0.1, "total_cost": 0.25}},
        },
        {"text": "yes", "cost_usd": 0.25},
    ),
    "perplexity: a stream of one event": (
        "https://api.perplexity.ai/chat/completions",
        sse_of(
            chunk({"index": 0, "message": {"content": "yes"}, "delta": {"content": ""}, "finish_reason": "stop"}),
            done=False,
        ),
        {"text": "yes", "ended": True},
    ),
    "openrouter: how long the cache is kept stands beside the details": (
        "https://openrouter.ai/api/v1/chat/completions",
        {
            "choices": [],
            "usage": {
                **TOKENS,
                "prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 3},
                "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
                "service_tier": "priority",
            },
        },
        {"cache_write": 3, "cache_write_5m": 1, "cache_write_1h": 2, "service_tier": "priority"},
    ),
    "openrouter: what a message costs": (
        "https://openrouter.ai/api/v1/messages",
        {"type": "message", "content": [], "usage": {"input_tokens": 5, "output_tokens": 2, "cost": 0.01}},
        {"input_tokens": 5, "cost_usd": 0.01},
    ),
    "groq: why a stream was stopped stands in x_groq": (
        "https://api.groq.com/openai/v1/chat/completions",
        sse_of(chunk({"index": 0, "delta": {"content": "a"}}), chunk(x_groq={"id": "r", "error": "over capacity"})),
        {"text": "a", "message": "over capacity"},
    ),
    "groq: beside the usage stands how much of the cache was where": (
        "https://api.groq.com/openai/v1/chat/completions",
        {
            "choices": [],
            "usage": TOKENS,
            "x_groq": {"id": "r", "usage": {"dram_cached_tokens": 3, "sram_cached_tokens": 0}},
        },
        {"input_tokens": 5, "output_tokens": 2},
    ),
    "mistral: calls of a whole answer that all have the id null": (
        "https://api.mistral.ai/v1/chat/completions",
        {
            "choices": [
                {"message": {"tool_calls": [{"id": "null", "function": CALL}, {"id": "null", "function": CALL}]}}
            ]
        },
        {"calls": [("null", "f", "{}"), ("null", "f", "{}")]},
    ),
    "calls of a stream with the same id under two indexes": (
        "https://gateway.test/v1/chat/completions",
        sse_of(
            chunk({"delta": {"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": "1"}}]}}),
            chunk({"delta": {"tool_calls": [{"index": 1, "id": "x", "function": {"name": "g", "arguments": ""}}]}}),
            chunk({"delta": {"tool_calls": [{"index": 1, "function": {"arguments": "2"}}]}}),
        ),
        {"calls": [("x", "f", "1"), ("x", "g", "2")]},
    ),
    "mistral: the tier and the length of the sound stand in the usage": (
        "https://api.mistral.ai/v1/chat/completions",
        {"choices": [], "usage": {**TOKENS, "prompt_audio_seconds": 12, "service_tier": "priority"}},
        {"seconds": 12, "service_tier": "priority", "input_tokens": 5},
    ),
    "mistral: there was no sound": (
        "https://api.mistral.ai/v1/chat/completions",
        {"choices": [], "usage": {**TOKENS, "prompt_audio_seconds": {}}},
        {"seconds": None, "input_tokens": 5, "warnings": []},
    ),
    "mistral: what connectors brought into the prompt stands in the total alone": (
        "https://api.mistral.ai/v1/conversations",
        {
            "conversation_id": "c",
            "outputs": [{"type": "message.output", "content": "a"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 107, "connector_tokens": 100},
        },
        {"input_tokens": 105, "input_raw": 5, "output_tokens": 2},
    ),
    "mistral: a stream of a transcription": (
        "https://api.mistral.ai/v1/audio/transcriptions",
        sse_of(
            ("transcription.language", {"type": "transcription.language", "audio_language": "en"}),
            ("transcription.text.delta", {"type": "transcription.text.delta", "text": "Hi"}),
            (
                "transcription.done",
                {"type": "transcription.done", "model": "v", "text": "Hi you", "usage": TOKENS},
            ),
            done=False,
        ),
        {"text": "Hi you", "input_tokens": 5, "ended": True, "response_model": "v"},
    ),
    "snowflake: a call in the list of contents": (
        "https://x.snowflakecomputing.com/api/v2/cortex/inference:complete",
        {
            "choices": [
                {
                    "message": {
                        "content": "Let me",
                        "content_list": [
                            {"type": "text", "text": "Let me"},
                            {"type": "tool_use", "tool_use": {"tool_use_id": "t", "name": "f", "input": {"a": 1}}},
                        ],
                    }
                }
            ]
        },
        {"text": "Let me", "calls": [("t", "f", {"a": 1})]},
    ),
    "snowflake: a stream ends with its usage": (
        "https://x.snowflakecomputing.com/api/v2/cortex/inference:complete",
        sse_of(
            chunk(
                {"delta": {"type": "text", "content": "a", "content_list": [{"type": "text", "text": "a"}]}}, usage={}
            ),
            chunk({"delta": {"type": "text", "content": "b"}}, usage=TOKENS),
            done=False,
        ),
        {"text": "ab", "ended": True, "input_tokens": 5},
    ),
    "databricks: an agent is asked and answers as the Responses API": (
        "https://x.databricks.com/serving-endpoints/agent/invocations",
        {"object": "response", "output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]},
        {"text": "hi", "api": "openai.responses", "operation": "chat", "request_model": "agent"},
        {"input": [{"role": "user", "content": "x"}]},
    ),
    "cohere: the event that gathers the calls repeats the plan": (
        "https://api.cohere.com/v1/chat",
        lines_of(
            {"event_type": "stream-start", "generation_id": "g", "is_finished": False},
            {"event_type": "tool-calls-chunk", "text": "I will"},
            {"event_type": "tool-calls-chunk", "text": " look"},
            {"event_type": "tool-calls-chunk", "tool_call_delta": {"name": "f", "index": 0}},
            {
                "event_type": "tool-calls-generation",
                "text": "I will look",
                "tool_calls": [{"name": "f", "parameters": {"a": 1}}],
            },
            {
                "event_type": "stream-end",
                "is_finished": True,
                "finish_reason": "COMPLETE",
                "response": {"text": "I will look", "tool_calls": [{"name": "f", "parameters": {"a": 1}}]},
            },
        ),
        {"text": "I will look", "calls": [(None, "f", {"a": 1})]},
    ),
    "cohere: a generation that fails while it streams": (
        "https://api.cohere.com/v1/generate",
        lines_of(
            {"text": "a", "is_finished": False, "event_type": "text-generation"},
            {"event_type": "stream-error", "is_finished": True, "finish_reason": "ERROR", "err": "boom"},
        ),
        {"text": "a", "message": "boom", "ended": True},
    ),
    "gemini: sound with its transcription": (
        "https://generativelanguage.googleapis.com/v1beta/models/g:generateContent",
        {
            "candidates": [
                {"content": {"parts": [{"inlineData": {"data": "aGk="}, "audioTranscription": {"text": "hi"}}]}}
            ]
        },
        {"text": "hi"},
    ),
    "interactions: a thought without a summary, and counts beside the state": (
        "https://generativelanguage.googleapis.com/v1beta/interactions",
        sse_of(
            {"event_type": "step.start", "index": 0, "step": {"type": "thought", "summary": []}},
            {"event_type": "step.start", "index": 1, "step": {"type": "model_output", "content": []}},
            {"event_type": "step.delta", "index": 1, "delta": {"type": "text", "text": "a"}},
            {
                "event_type": "interaction.status_update",
                "interaction_id": "i",
                "status": "completed",
                "usage": {"total_input_tokens": 5, "total_output_tokens": 2},
            },
            ("done", "[DONE]"),
            done=False,
        ),
        {"text": "a", "reasoning_text": "", "input_tokens": 5, "finish_reasons": ["completed"], "ended": True},
    ),
    "openai: decisions": (
        "https://api.openai.com/v1/decisions",
        {
            "model": "gpt-6-luna",
            "answers": [{"type": "choice", "name": "tone", "choice": "kind", "confidence": 0.9}],
            "usage": {
                "input_tokens": 5,
                "output_tokens": 2,
                "total_tokens": 7,
                "input_tokens_details": {"cached_tokens": 3},
            },
        },
        {
            "operation": "decision",
            "input_tokens": 5,
            "cache_read": 3,
            "details": {"answers": [{"type": "choice", "name": "tone", "choice": "kind", "confidence": 0.9}]},
            "parameters": {"questions": [{"type": "choice"}]},
            "response_model": "gpt-6-luna",
        },
        {"model": "gpt-6-luna", "input": "Thank you!", "questions": [{"type": "choice"}]},
    ),
    "google: decisions": (
        "https://generativelanguage.googleapis.com/v1beta/decisions",
        {
            "answers": {"tone": {"type": "choice", "choice": "kind"}},
            "usage": {"total_input_tokens": 5, "total_output_tokens": 2, "total_cached_tokens": 3},
        },
        {
            "operation": "decision",
            "input_tokens": 5,
            "cache_read": 3,
            "details": {"answers": {"tone": {"type": "choice", "choice": "kind"}}},
            "request_model": "gemini-x",
        },
        {"model": "models/gemini-x", "input": "Thank you!", "questions": {"tone": {"type": "choice"}}},
    ),
    "openai: the order of a video": (
        "https://api.openai.com/v1/videos",
        {"id": "v", "object": "video", "model": "sora-2", "status": "queued", "seconds": "4", "error": None},
        {
            "operation": "video",
            "response_id": "v",
            "response_model": "sora-2",
            "parameters": {"seconds": "4"},
            "details": {"status": "queued", "seconds": "4"},
            "error": None,
        },
        {"model": "sora-2", "prompt": "x", "seconds": "4"},
    ),
    "a stream that broke off keeps every part of an item": (
        "https://api.openai.com/v1/responses",
        sse_of(
            {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "one "},
            {"type": "response.output_text.delta", "output_index": 0, "content_index": 1, "delta": "two"},
            {"type": "response.refusal.delta", "output_index": 0, "content_index": 2, "delta": "no"},
            done=False,
        ),
        {"text": "one two", "refusal": "no", "ended": False},
    ),
    "elevenlabs: model and text have names of their own": (
        "https://api.elevenlabs.io/v1/text-to-speech/voice/with-timestamps",
        {"audio_base64": "aGk=", "alignment": None},
        {"request_model": "eleven_v3", "framing": "json", "content_offset": 43},
        {"model_id": "eleven_v3", "text": "hi"},
    ),
    "gemini: whole calls of the same function, without an id and all under index 0": (
        "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        sse_of(
            chunk(
                {"delta": {"tool_calls": [{"index": 0, "id": "", "function": {"name": "f", "arguments": '{"a":1}'}}]}}
            ),
            chunk(
                {"delta": {"tool_calls": [{"index": 0, "id": "", "function": {"name": "f", "arguments": '{"a":2}'}}]}}
            ),
        ),
        {"calls": [(None, "f", '{"a":1}'), (None, "f", '{"a":2}')]},
    ),
    "a call that repeats its name with every fragment": (
        "https://gateway.test/v1/chat/completions",
        sse_of(
            chunk({"delta": {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a":'}}]}}),
            chunk({"delta": {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "1}"}}]}}),
            chunk({"delta": {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}}),
        ),
        {"calls": [(None, "f", '{"a":1}')]},
    ),
    "a stream of completions of two prompts": (
        "https://gateway.test/v1/completions",
        sse_of(
            {"choices": [{"index": 1, "text": "y"}]},
            {"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]},
            {"choices": [{"index": 1, "text": "", "finish_reason": "length"}]},
        ),
        {"text": "x", "finish_reasons": ["stop", "length"]},
        {"prompt": ["a", "b"]},
    ),
    "cloudflare: an image": (
        "https://api.cloudflare.com/client/v4/accounts/a/ai/run/@cf/black-forest-labs/flux-1-schnell",
        {"result": {"image": "aGk="}, "success": True, "errors": []},
        {"operation": "image", "request_model": "@cf/black-forest-labs/flux-1-schnell", "content_offset": 60},
        {"prompt": "x"},
    ),
    "cloudflare: a transcription of a file that is the whole body": (
        "https://api.cloudflare.com/client/v4/accounts/a/ai/run/@cf/openai/whisper",
        {"result": {"text": "hi", "word_count": 1}, "success": True},
        {"operation": "transcription", "text": "hi", "warnings": []},
        b"ID3",
        {"content-type": "audio/mpeg"},
    ),
    "hugging face: a model of no organisation": (
        "https://api-inference.huggingface.co/models/gpt2/generate",
        {"generated_text": "a"},
        {"request_model": "gpt2", "text": "a"},
        {"inputs": "x"},
    ),
    "hugging face: a model that transcribes": (
        "https://router.huggingface.co/hf-inference/models/openai/whisper-large-v3",
        {"text": "hi"},
        {"request_model": "openai/whisper-large-v3", "text": "hi", "warnings": []},
        b"ID3",
        {"content-type": "audio/mpeg"},
    ),
    "llama.cpp: a failure while it streams": (
        "http://localhost:8080/completion",
        sse_of({"content": "a", "stop": False}, done=False) + b'error: {"code":500,"message":"out of memory"}\n\n',
        {"text": "a", "error": {"type": None, "code": 500, "message": "out of memory"}, "ended": True},
        {"prompt": "x"},
    ),
    "hugging face: a model that summarizes": (
        "https://router.huggingface.co/hf-inference/models/facebook/bart-large-cnn",
        [{"summary_text": "short"}],
        {"request_model": "facebook/bart-large-cnn", "text": "short", "warnings": []},
        {"inputs": "long"},
    ),
    "hugging face: vectors without an envelope": (
        "https://router.huggingface.co/hf-inference/models/a/b/pipeline/feature-extraction",
        [[0.5, 0.25], [0.5, 0.5]],
        {"operation": "embeddings", "details": {"input_count": 2, "vectors": 2, "dimensions": 2}},
        {"inputs": ["x", "y"]},
    ),
    "replicate: behind a gateway": (
        "https://router.huggingface.co/replicate/v1/models/black-forest-labs/flux-schnell/predictions",
        {"id": "p", "status": "succeeded", "output": ["https://x.test/y.png"]},
        {"api": "replicate", "request_model": "black-forest-labs/flux-schnell", "response_id": "p"},
        {"input": {"prompt": "x"}},
    ),
    "nvidia: rankings": (
        "https://ai.api.nvidia.com/v1/retrieval/nvidia/reranking",
        {"rankings": [{"index": 1, "logit": 0.5}], "usage": {"prompt_tokens": 3, "total_tokens": 3}},
        {"input_tokens": 3, "operation": "rerank", "request_model": "m"},
    ),
    "zhipu: a failure of status 200": (
        "https://open.bigmodel.cn/api/paas/v4/chat/completions",
        {"code": 500, "msg": "404 NOT_FOUND", "success": False},
        {"message": "404 NOT_FOUND"},
    ),
    "minimax: a failure of status 200": (
        "https://api.minimax.io/v1/chat/completions",
        {"choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}},
        {"error": {"type": None, "code": 1004, "message": "login fail"}},
    ),
    "minimax: what says that all is well is no failure": (
        "https://api.minimax.io/v1/chat/completions",
        {"choices": [], "base_resp": {"status_code": 0, "status_msg": ""}},
        {"error": None},
    ),
    "fastchat: a failure of status 200": (
        "https://gateway.test/v1/chat/completions",
        {"object": "error", "message": "too long", "code": 40303},
        {"error": {"type": None, "code": 40303, "message": "too long"}},
    ),
    "a proxy's error in plain words inside a stream": (
        "https://gateway.test/v1/chat/completions",
        sse_of(chunk({"delta": {"content": "a"}}), ("error", "upstream reset"), done=False),
        {"text": "a", "message": "upstream reset", "ended": True, "warnings": []},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_a_service_says_in_its_own_way(ask, case):
    """The answer of each is read as its documentation has it."""
    url, answer, expected, request, headers = (*case, *DEFAULTS[len(case) - 3 :])
    reading = said(ask(url, request, answer, request_headers=headers))

    assert {name: reading[name] for name in expected} == expected


def test_the_name_of_an_aws_error_is_without_its_namespace(ask):
    """``__type`` holds both."""
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse"
    body = {"__type": "com.amazon.coral.validate#ValidationException", "message": "x"}

    assert ask(url, {}, body, status=400).error == {"type": "ValidationException", "code": None, "message": "x"}
