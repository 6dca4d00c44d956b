"""OpenAI: chat, completions, responses, embeddings, images, moderations, audio and the list of models."""

import base64
import json
import re
import struct
from collections.abc import Iterator
from typing import Any

from asgi_llmobs.testing.answers import Answer, Question, Tool, ToolCall, Turn, embed, tokens_of
from asgi_llmobs.testing.dialects.base import Call, Dialect, Piece, Reply, as_text, fragments, json_reply, numbered, sse

__all__ = ["DIALECTS"]

CREATED = 1_767_225_600  # 2026-01-01: answers are the same in every run
DATED = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "o3": "o3-2025-04-16",
    "o4-mini": "o4-mini-2025-04-16",
}
ERRORS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("server_error", "overloaded"),
}
# the smallest PNG there is: one transparent point
PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63fcffff3f03000"
        "8fc02feb2a5f6a90000000049454e44ae426082"
    )
).decode()


def error(status: int, message: str) -> dict[str, Any]:
    kind, code = ERRORS.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def tools_of(body: dict[str, Any]) -> list[Tool]:
    tools = []
    for item in body.get("tools") or ():
        function = item.get("function", item)
        if item.get("type", "function") == "function" and function.get("name"):
            tools.append(Tool(function["name"], function.get("description") or "", function.get("parameters") or {}))
    return tools


def choice_of(value: Any) -> str:
    if isinstance(value, dict):
        return str((value.get("function") or value).get("name") or value.get("type") or "auto")
    return str(value or "auto")


def schema_of(asked: Any) -> Any:
    """The JSON schema of ``response_format`` or ``text.format``, ``{}`` for any JSON, ``None`` for text."""
    if not isinstance(asked, dict) or asked.get("type") not in ("json_object", "json_schema"):
        return None
    inner = asked.get("json_schema") or asked
    return inner.get("schema") or {}


def read_chat(call: Call) -> Question:
    body = call.body
    turns = []
    for message in body.get("messages") or ():
        role = {"developer": "system", "function": "tool"}.get(message.get("role"), message.get("role"))
        turns.append(Turn(role or "user", as_text(message.get("content"))))
    return Question(
        model=str(body.get("model") or "gpt-4o-mini"),
        turns=turns,
        tools=tools_of(body),
        tool_choice=choice_of(body.get("tool_choice")),
        schema=schema_of(body.get("response_format")),
        reasoning="reasoning_effort" in body,
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        stream=bool(body.get("stream")),
        choices=int(body.get("n") or 1),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
    )


def chat_usage(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": answer.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def function_call(item: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(item.arguments, ensure_ascii=False)
    return {"id": f"call_{item.id}", "type": "function", "function": {"name": item.name, "arguments": arguments}}


def head(call: Call, question: Question, kind: str) -> dict[str, Any]:
    return {
        "id": numbered("chatcmpl-" if kind.startswith("chat") else "cmpl-", call.number),
        "object": kind,
        "created": CREATED,
        "model": DATED.get(question.model, question.model),
        "service_tier": "default",
        "system_fingerprint": "fp_0000000000",
    }


def reply_chat(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    assert question is not None and answer is not None
    if question.stream:
        return Reply(pieces=stream_chat(call, question, answer), content_type="text/event-stream; charset=utf-8")
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text or None,
        "refusal": answer.refusal,
        "annotations": [],
    }
    if answer.tool_calls:
        message["tool_calls"] = [function_call(item) for item in answer.tool_calls]
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": answer.finish}
        for index in range(question.choices)
    ]
    return json_reply(
        {**head(call, question, "chat.completion"), "choices": choices, "usage": chat_usage(answer)},
    )


def stream_chat(call: Call, question: Question, answer: Answer) -> Iterator[Piece]:
    base = head(call, question, "chat.completion.chunk")
    if question.include_usage:
        base["usage"] = None

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None, *, content: bool = False) -> Piece:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse({**base, "choices": [choice]}, content=content)

    for index in range(question.choices):
        yield chunk(index, {"role": "assistant", "content": None if answer.tool_calls else "", "refusal": None})
        for text in fragments(answer.text):
            yield chunk(index, {"content": text}, content=True)
        if answer.refusal:
            yield chunk(index, {"refusal": answer.refusal}, content=True)
        for number, item in enumerate(answer.tool_calls):
            whole = function_call(item)
            arguments = whole["function"]["arguments"]
            opening = {**whole, "index": number, "function": {"name": item.name, "arguments": ""}}
            yield chunk(index, {"tool_calls": [opening]}, content=True)
            for start in range(0, len(arguments), 12):
                part = {"index": number, "function": {"arguments": arguments[start : start + 12]}}
                yield chunk(index, {"tool_calls": [part]}, content=True)
        yield chunk(index, {}, answer.finish)
    if question.include_usage:
        yield sse({**base, "choices": [], "usage": chat_usage(answer)})
    yield sse("[DONE]")


def read_completion(call: Call) -> Question:
    body = call.body
    prompt = body.get("prompt") or ""
    return Question(
        model=str(body.get("model") or "gpt-3.5-turbo-instruct"),
        turns=[Turn("user", prompt if isinstance(prompt, str) else "\n".join(map(str, prompt)))],
        max_tokens=body.get("max_tokens"),
        stream=bool(body.get("stream")),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
    )


def reply_completion(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    assert question is not None and answer is not None
    base = head(call, question, "text_completion")
    usage = {key: value for key, value in chat_usage(answer).items() if key.endswith("_tokens")}

    def choices(text: str, finish: str | None) -> list[dict[str, Any]]:
        return [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]

    def stream() -> Iterator[Piece]:
        for text in fragments(answer.text):
            yield sse({**base, "choices": choices(text, None)}, content=True)
        yield sse({**base, "choices": choices("", answer.finish)})
        if question.include_usage:
            yield sse({**base, "choices": [], "usage": usage})
        yield sse("[DONE]")

    if question.stream:
        return Reply(pieces=stream(), content_type="text/event-stream; charset=utf-8")
    return json_reply({**base, "choices": choices(answer.text, answer.finish), "usage": usage})


def reply_embeddings(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    body = call.body
    given = body.get("input") or ""
    texts = [given] if isinstance(given, str) else [item if isinstance(item, str) else str(item) for item in given]
    size = int(body.get("dimensions") or 256)
    data = []
    for index, text in enumerate(texts):
        vector: Any = embed(text, size)
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    used = sum(tokens_of(text) for text in texts)
    return json_reply(
        {
            "object": "list",
            "data": data,
            "model": body.get("model") or "text-embedding-3-small",
            "usage": {"prompt_tokens": used, "total_tokens": used},
        }
    )


def reply_images(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    prompt = tokens_of(str(call.body.get("prompt") or ""))
    usage = {
        "input_tokens": prompt,
        "output_tokens": 272,
        "total_tokens": prompt + 272,
        "input_tokens_details": {"text_tokens": prompt, "image_tokens": 0},
    }
    images = [{"b64_json": PNG} for _ in range(int(call.body.get("n") or 1))]
    return json_reply({"created": CREATED, "data": images, "usage": usage})


def reply_moderations(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    names = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence")
    given = call.body.get("input") or ""
    results = []
    for text in [given] if isinstance(given, str) else given:
        flagged = "kill" in as_text([text]).lower()
        categories = {name: flagged and name == "violence" for name in names}
        scores = {name: 0.97 if flag else 0.01 for name, flag in categories.items()}
        results.append({"flagged": flagged, "categories": categories, "category_scores": scores})
    model = call.body.get("model") or "omni-moderation-latest"
    return json_reply({"id": numbered("modr-", call.number), "model": model, "results": results})


def reply_speech(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    samples = bytes(1600)  # a tenth of a second of silence at 8 kHz, 16 bit
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 1600
    )
    return Reply(body=header + samples, content_type="audio/wav")


def reply_transcription(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    usage = {
        "type": "tokens",
        "input_tokens": 14,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
        "output_tokens": 11,
        "total_tokens": 25,
    }
    return json_reply({"text": "I would like to change my flight to Lisbon to Friday.", "usage": usage})


def reply_models(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "openai"} for name in DATED]
    return json_reply({"object": "list", "data": data})


def dialect(operation: str, ending: str, reply: Any, read: Any = None, method: str = "POST") -> Dialect:
    """One row of the table below."""
    return Dialect(
        provider="openai",
        operation=operation,
        path=re.compile(rf"/{ending}$"),
        reply=reply,
        read=read,
        error=error,
        method=method,
    )


DIALECTS: tuple[Dialect, ...] = (
    dialect("chat", "chat/completions", reply_chat, read_chat),
    dialect("completion", "completions", reply_completion, read_completion),
    dialect("embeddings", "embeddings", reply_embeddings),
    dialect("image", "images/generations", reply_images),
    dialect("moderation", "moderations", reply_moderations),
    dialect("speech", "audio/speech", reply_speech),
    dialect("transcription", "audio/(?:transcriptions|translations)", reply_transcription),
    dialect("models", "models", reply_models, method="GET"),
)
