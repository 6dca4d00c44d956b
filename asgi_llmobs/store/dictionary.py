"""What bodies and details look like, for the compressor: short ones shrink to a third of what they would without it.

A text that was packed with a dictionary needs it for ever. So none here is ever changed; a better one gets a new
number beside it, and its own mark in :mod:`asgi_llmobs.store.values`.
"""

import json
from functools import cache
from typing import Any

__all__ = ["dictionary_1"]

# phrases of prompts and answers, the most frequent last: what stands later costs fewer bits to point at
PROSE = """
Translate the following text. Summarize the conversation. Write a short story. Explain step by step. Let's think.
What is the difference between ... How can I ... Could you please ... Please provide more information. Thank you!
I'm sorry, but I can't assist with that. As an AI language model, I don't have access to real-time information.
Here is an example: ```python\\n\\ndef main():\\n    import os\\n    return None\\n\\nif __name__ == "__main__":```
Here are some of the most important steps:\\n\\n1. **First**: \\n\\n2. **Second**: \\n\\n3. **Third**: \\n\\n- **Note**:
However, it is important to note that this depends on the specific use case. For example, in order to make sure that
Based on the provided context, answer the question. If you don't know the answer, say that you don't know. Do not use
any other information. Respond only with valid JSON. Use the following tools when they are needed: function arguments.
In summary, there are several different ways which would help the customer, the user, the company and their products.
You are a helpful assistant. You are an expert in the field of software, data, business, science and customer service.
You have access to the following: Your task is to read the text below and to give a short, clear and correct answer to
the question of the user. The first thing that you should know about this is that it can be used for many of the other
people who have been there before; they were not able to do so because of the time that it would take to get through.
and the of to in a is that for it with as was on be by this are from at or an have not which you but all can has their
"""


def chat() -> list[Any]:
    usage = {
        "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0,
                                      "rejected_prediction_tokens": 0},
    }  # fmt: skip
    call = {"id": "call_", "type": "function", "function": {"name": "get_weather", "arguments": '{"location":"'}}
    message = {"role": "assistant", "content": "The ", "tool_calls": [call], "refusal": None, "annotations": []}
    ends = {"service_tier": "default", "system_fingerprint": "fp_"}
    return [
        {"id": "chatcmpl-", "object": "chat.completion.chunk", "created": 1790000000, "model": "gpt-4o-2024-08-06",
         **ends, "choices": [{"index": 0, "delta": {"content": " the"}, "logprobs": None, "finish_reason": None}],
         "usage": None, "obfuscation": ""},
        {"model": "gpt-4o-mini", "messages": [{"role": "system", "content": "You are a helpful assistant."},
         {"role": "user", "content": "What is "}, {"role": "tool", "tool_call_id": "call_", "content": "{"}],
         "tools": [{"type": "function", "function": {"name": "search", "description": "Search the ", "parameters":
         {"type": "object", "properties": {"query": {"type": "string", "description": "The "}}, "required": ["query"],
          "additionalProperties": False}, "strict": True}}], "tool_choice": "auto", "response_format":
         {"type": "json_schema", "json_schema": {"name": "", "schema": {}}}, "temperature": 0.7, "max_tokens": 1024,
         "max_completion_tokens": 1024, "top_p": 1, "seed": 1, "n": 1, "user": "user-", "stream": True,
         "stream_options": {"include_usage": True}},
        {"id": "chatcmpl-", "object": "chat.completion", "created": 1790000000, "model": "gpt-4o-2024-08-06", "choices":
         [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}], "usage": usage, **ends},
    ]  # fmt: skip


def others() -> list[Any]:
    return [
        {"candidates": [{"content": {"parts": [{"text": "The "}], "role": "model"}, "finishReason": "STOP",
         "index": 0}], "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 50, "totalTokenCount": 150,
         "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 100}], "thoughtsTokenCount": 0},
         "modelVersion": "gemini-2.5-flash", "responseId": ""},
        {"contents": [{"role": "user", "parts": [{"text": "What is "}]}], "systemInstruction": {"parts":
         [{"text": ""}]}, "generationConfig": {"temperature": 0.7, "maxOutputTokens": 1024,
         "responseMimeType": "application/json"}},
        {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": "[1536 numbers]"}],
         "model": "text-embedding-3-small", "usage": {"prompt_tokens": 8, "total_tokens": 8}, "input": ["The "]},
        {"id": "resp_", "object": "response", "created_at": 1790000000, "status": "completed", "error": None,
         "incomplete_details": None, "instructions": None, "max_output_tokens": None, "model": "gpt-5-2025-08-07",
         "output": [{"id": "rs_", "type": "reasoning", "summary": []}, {"id": "msg_", "type": "message", "status":
         "completed", "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "The "}],
         "role": "assistant"}], "parallel_tool_calls": True, "previous_response_id": None, "reasoning":
         {"effort": "medium", "summary": None}, "store": True, "temperature": 1.0, "text": {"format": {"type": "text"},
         "verbosity": "medium"}, "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "usage":
         {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 50,
         "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 150}, "user": None, "metadata": {}},
        {"model": "claude-sonnet-4-5", "max_tokens": 1024, "system": [{"type": "text", "text": "You are ",
         "cache_control": {"type": "ephemeral"}}], "messages": [{"role": "user", "content": [{"type": "text",
         "text": ""}, {"type": "tool_result", "tool_use_id": "toolu_", "content": ""}]}], "tools": [{"name": "",
         "description": "", "input_schema": {"type": "object", "properties": {}}}], "stream": True},
        {"type": "message_start", "message": {"model": "claude-sonnet-4-5-20250929", "id": "msg_01", "type": "message",
         "role": "assistant", "content": [], "stop_reason": None, "stop_sequence": None}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "The "}},
        {"model": "claude-sonnet-4-5-20250929", "id": "msg_01", "type": "message", "role": "assistant", "content":
         [{"type": "text", "text": "The "}, {"type": "tool_use", "id": "toolu_", "name": "get_weather", "input": {}}],
         "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 100,
         "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation":
         {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}, "output_tokens": 50,
         "service_tier": "standard"}},
    ]  # fmt: skip


def detail() -> dict[str, Any]:
    """What we write ourselves, with the headers that clients and providers send."""
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150, "prompt_tokens_details":
             {"cached_tokens": 0, "audio_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0,
             "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}}  # fmt: skip
    sent = ("accept application/json", "accept-encoding gzip, deflate, br, zstd", "content-type application/json",
            "user-agent AsyncOpenAI/Python 2.8.0", "x-stainless-lang python", "x-stainless-package-version 2.8.0",
            "x-stainless-os Linux", "x-stainless-arch x64", "x-stainless-runtime CPython",
            "x-stainless-runtime-version 3.12.8", "x-stainless-async async:asyncio", "x-stainless-retry-count 0",
            "x-stainless-read-timeout 600", "anthropic-version 2023-06-01", "content-length 1024")  # fmt: skip
    got = ("date Sat, 21 Nov 2026 06:00:00 GMT", "content-type application/json", "transfer-encoding chunked",
           "connection keep-alive", "access-control-expose-headers X-Request-ID", "openai-organization user-",
           "openai-processing-ms 512", "openai-project proj_", "openai-version 2020-10-01",
           "x-envoy-upstream-service-time 520", "x-ratelimit-limit-requests 10000", "x-ratelimit-limit-tokens 30000000",
           "x-ratelimit-remaining-requests 9999", "x-ratelimit-remaining-tokens 29999000",
           "x-ratelimit-reset-requests 6ms", "x-ratelimit-reset-tokens 0s", "x-request-id req_",
           "x-openai-proxy-wasm v0.1", "cf-cache-status DYNAMIC",
           "strict-transport-security max-age=31536000; includeSubDomains; preload", "x-content-type-options nosniff",
           "server cloudflare", "cf-ray ", "alt-svc h3=\":443\"; ma=86400", "content-encoding gzip",
           "content-type text/event-stream; charset=utf-8")  # fmt: skip
    return {
        "method": "POST", "url": "https://api.openai.com/v1/chat/completions", "host": "", "pid": 1000,
        "attributes": {}, "stream_requested": True, "finish_reasons": ["stop"], "usage_raw": usage,
        "service_tier": "default", "parameters": {"temperature": 0.7, "max_tokens": 1024},
        "details": {"system_fingerprint": "fp_"}, "headers_ns": 500000000, "first_chunk_ns": 500000000,
        "last_chunk_ns": 500000000, "chunks": 1, "request_headers": [line.split(" ", 1) for line in sent],
        "response_headers": [line.split(" ", 1) for line in got], "framing": "json",
        "usage": {"input_tokens": 100, "output_tokens": 50, "cache_read": 0, "reasoning": 0, "audio_input": 0,
                  "audio_output": 0, "input_raw": 100, "output_raw": 50, "total_reported": 150},
        "cost": {"amount": "0.001", "lines": [["input_uncached", 100, "2.5", "0.0001"], ["cache_read", 100, "1.25",
                 "0.0001"], ["reasoning", 50, "10", "0.0005"], ["output_text", 50, "10", "0.0005"]],
                 "source": "genai-prices 0.2", "price_date": None, "reason": None},
    }  # fmt: skip


@cache
def dictionary_1() -> bytes:
    """The first dictionary. A test holds every byte of it."""
    pretty = [json.dumps(value, indent=2, ensure_ascii=False) for value in (others()[7], chat()[2])]
    spaced = [json.dumps(value, ensure_ascii=False) for value in (*others(), *chat())]
    compact = [json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in (*others(), *chat(), detail())]
    streamed = f"event: message\ndata: {compact[5]}\n\ndata: {compact[8]}\n\ndata: [DONE]\n\n"
    return "\n".join((*pretty, *spaced, PROSE.strip().replace("\n", " "), streamed, *compact)).encode()
