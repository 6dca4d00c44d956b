"""Anthropic's Messages API, whole and streamed, with prompt caching and thinking."""

import json
import re
from collections.abc import Iterator
from typing import Any

from asgi_llmobs.testing.answers import Answer, Question, Tool, Turn, tokens_of
from asgi_llmobs.testing.dialects.base import Call, Dialect, Piece, Reply, as_text, fragments, json_reply, numbered, sse

__all__ = ["DIALECTS"]

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def error(status: int, message: str) -> dict[str, Any]:
    kind = ERRORS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_000000000000000000000000"}


def turns_of(message: dict[str, Any]) -> Iterator[Turn]:
    """A message as turns: the results of tools come inside a message of the user."""
    content = message.get("content")
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
    for block in blocks:
        if block.get("type") == "tool_result":
            yield Turn("tool", as_text(block.get("content")))
    said = [block for block in blocks if block.get("type") == "text"]
    if said or message.get("role") == "assistant":
        yield Turn(message.get("role") or "user", as_text(said))


def read(call: Call) -> Question:
    body = call.body
    turns = [Turn("system", as_text(body["system"]))] if body.get("system") else []
    for message in body.get("messages") or ():
        turns += turns_of(message)
    choice = body.get("tool_choice") or {}
    return Question(
        model=str(body.get("model") or "claude-haiku-4-5"),
        turns=turns,
        tools=[
            Tool(item["name"], item.get("description") or "", item.get("input_schema") or {})
            for item in body.get("tools") or ()
            if item.get("type", "custom") == "custom" and item.get("name")
        ],
        tool_choice=str(choice.get("name") or choice.get("type") or "auto"),
        reasoning=(body.get("thinking") or {}).get("type") in ("enabled", "adaptive"),
        max_tokens=body.get("max_tokens"),
        stream=bool(body.get("stream")),
    )


def blocks_of(answer: Answer) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if answer.reasoning:
        blocks.append({"type": "thinking", "thinking": answer.reasoning, "signature": "c2lnbmF0dXJl"})
    if answer.text or answer.refusal:
        blocks.append({"type": "text", "text": answer.text or answer.refusal})
    for item in answer.tool_calls:
        blocks.append({"type": "tool_use", "id": f"toolu_{item.id}", "name": item.name, "input": dict(item.arguments)})
    return blocks


def usage_of(answer: Answer, output: int) -> dict[str, Any]:
    """The usage as Anthropic counts: ``input_tokens`` is what was neither read from nor written to the cache."""
    fresh = answer.input_tokens - answer.cached_tokens - answer.cache_write_tokens
    return {
        "input_tokens": fresh,
        "cache_creation_input_tokens": answer.cache_write_tokens,
        "cache_read_input_tokens": answer.cached_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": answer.cache_write_tokens, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output,
        "service_tier": "standard",
    }


def message_of(call: Call, question: Question, answer: Answer, *, done: bool) -> dict[str, Any]:
    return {
        "id": numbered("msg_", call.number),
        "type": "message",
        "role": "assistant",
        "model": question.model,
        "content": blocks_of(answer) if done else [],
        "stop_reason": STOP_REASONS.get(answer.finish, answer.finish) if done else None,
        "stop_sequence": None,
        "usage": usage_of(answer, answer.output_tokens if done else 1),
    }


def reply(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    assert question is not None and answer is not None
    if question.stream:
        return Reply(pieces=stream(call, question, answer), content_type="text/event-stream; charset=utf-8")
    return json_reply(message_of(call, question, answer, done=True))


def stream(call: Call, question: Question, answer: Answer) -> Iterator[Piece]:
    def event(kind: str, content: bool = False, **fields: Any) -> Piece:
        return sse({"type": kind, **fields}, kind, content=content)

    yield event("message_start", message=message_of(call, question, answer, done=False))
    for index, block in enumerate(blocks_of(answer)):
        opening, deltas = opened(block)
        yield event("content_block_start", index=index, content_block=opening)
        if index == 0:
            yield event("ping")
        for delta in deltas:
            yield event("content_block_delta", delta["type"] != "signature_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    reason = STOP_REASONS.get(answer.finish, answer.finish)
    usage = {key: value for key, value in usage_of(answer, answer.output_tokens).items() if key.endswith("_tokens")}
    yield event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage)
    yield event("message_stop")


def opened(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as its stream sends it: how it opens, and the deltas that fill it."""
    match block["type"]:
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": text} for text in fragments(block["thinking"])]
            signature = {"type": "signature_delta", "signature": block["signature"]}
            return {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signature]
        case "tool_use":
            whole = json.dumps(block["input"], ensure_ascii=False)
            parts = ["", *(whole[start : start + 12] for start in range(0, len(whole), 12))]
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": text} for text in fragments(block["text"])]


def reply_count(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    asked = read(call)
    return json_reply({"input_tokens": sum(tokens_of(turn.text) + 4 for turn in asked.turns)})


DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        provider="anthropic", operation="chat", path=re.compile(r"/v1/messages$"), reply=reply, read=read, error=error
    ),
    Dialect(
        provider="anthropic",
        operation="count_tokens",
        path=re.compile(r"/v1/messages/count_tokens$"),
        reply=reply_count,
        error=error,
    ),
)
