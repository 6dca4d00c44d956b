"""OpenAI's Responses API, whole and streamed."""

import json
import re
from collections.abc import Iterator
from typing import Any

from asgi_llmobs.testing.answers import Answer, Question, Turn
from asgi_llmobs.testing.dialects.base import Call, Dialect, Piece, Reply, as_text, fragments, json_reply, numbered, sse
from asgi_llmobs.testing.dialects.openai import CREATED, DATED, choice_of, error, schema_of, tools_of

__all__ = ["DIALECTS"]


def turn_of(item: Any) -> Turn | None:
    """One item of ``input`` as a turn; what says nothing (a call, a reasoning item) is none."""
    match item.get("type", "message"):
        case "function_call_output":
            return Turn("tool", as_text(item.get("output")))
        case "message":
            role = "system" if item.get("role") == "developer" else item.get("role") or "user"
            return Turn(role, as_text(item.get("content")))
    return None


def read(call: Call) -> Question:
    body = call.body
    given = body.get("input") or ""
    turns = [Turn("system", body["instructions"])] if body.get("instructions") else []
    if isinstance(given, str):
        turns.append(Turn("user", given))
    else:
        turns += [turn for item in given if (turn := turn_of(item))]
    return Question(
        model=str(body.get("model") or "gpt-4o-mini"),
        turns=turns,
        tools=tools_of(body),
        tool_choice=choice_of(body.get("tool_choice")),
        schema=schema_of((body.get("text") or {}).get("format")),
        reasoning=bool(body.get("reasoning")),
        max_tokens=body.get("max_output_tokens"),
        stream=bool(body.get("stream")),
    )


def items_of(call: Call, answer: Answer) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if answer.reasoning:
        items.append({"id": numbered("rs_", call.number), "type": "reasoning", "summary": []})
    for number, item in enumerate(answer.tool_calls):
        items.append(
            {
                "id": numbered("fc_", call.number * 16 + number),
                "type": "function_call",
                "status": "completed",
                "call_id": f"call_{item.id}",
                "name": item.name,
                "arguments": json.dumps(item.arguments, ensure_ascii=False),
            }
        )
    if answer.text or answer.refusal:
        said: dict[str, Any] = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        if answer.refusal:
            said = {"type": "refusal", "refusal": answer.refusal}
        items.append(
            {
                "id": numbered("msg_", call.number),
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [said],
            }
        )
    return items


def response_of(call: Call, question: Question, answer: Answer, *, done: bool) -> dict[str, Any]:
    body = call.body
    status = "in_progress" if not done else "incomplete" if answer.finish == "length" else "completed"
    usage = {
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {"cached_tokens": answer.cached_tokens},
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }
    return {
        "id": numbered("resp_", call.number),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": DATED.get(question.model, question.model),
        "output": items_of(call, answer) if done else [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": usage if done else None,
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def reply(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    assert question is not None and answer is not None
    if question.stream:
        return Reply(pieces=stream(call, question, answer), content_type="text/event-stream; charset=utf-8")
    return json_reply(response_of(call, question, answer, done=True))


def stream(call: Call, question: Question, answer: Answer) -> Iterator[Piece]:
    for number, (kind, fields, content) in enumerate(events(call, question, answer)):
        yield sse({"type": kind, "sequence_number": number, **fields}, kind, content=content)


def events(call: Call, question: Question, answer: Answer) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Each event as (type, fields, whether it carries content)."""
    opening = response_of(call, question, answer, done=False)
    yield "response.created", {"response": opening}, False
    yield "response.in_progress", {"response": opening}, False
    for index, item in enumerate(items_of(call, answer)):
        started = {**item, "status": "in_progress"}
        started.update({"content": []} if "content" in item else {})
        started.update({"arguments": ""} if "arguments" in item else {})
        yield "response.output_item.added", {"output_index": index, "item": started}, False
        at = {"item_id": item["id"], "output_index": index}
        if item["type"] == "function_call":
            arguments = item["arguments"]
            for start in range(0, len(arguments), 12):
                delta = {**at, "delta": arguments[start : start + 12]}
                yield "response.function_call_arguments.delta", delta, True
            finished = {**at, "name": item["name"], "arguments": arguments}
            yield "response.function_call_arguments.done", finished, False
        elif item["type"] == "message":
            yield from message_events({**at, "content_index": 0}, item["content"][0])
        yield "response.output_item.done", {"output_index": index, "item": item}, False
    closing = response_of(call, question, answer, done=True)
    yield f"response.{closing['status']}", {"response": closing}, False


def message_events(at: dict[str, Any], part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    name, key = ("refusal", "refusal") if part["type"] == "refusal" else ("output_text", "text")
    extra: dict[str, Any] = {"logprobs": []} if name == "output_text" else {}
    yield "response.content_part.added", {**at, "part": {**part, key: ""}}, False
    for text in fragments(part[key]):
        yield f"response.{name}.delta", {**at, "delta": text, **extra}, True
    yield f"response.{name}.done", {**at, key: part[key], **extra}, False
    yield "response.content_part.done", {**at, "part": part}, False


DIALECTS: tuple[Dialect, ...] = (
    Dialect(provider="openai", operation="chat", path=re.compile(r"/responses$"), reply=reply, read=read, error=error),
)
