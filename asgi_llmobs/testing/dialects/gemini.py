"""Google's Gemini API: generate, stream (server-sent events or a JSON array), embed and count."""

import json
import re
from collections.abc import Iterator
from typing import Any

from asgi_llmobs.testing.answers import Answer, Question, Tool, Turn, embed, tokens_of
from asgi_llmobs.testing.dialects.base import Call, Dialect, Piece, Reply, fragments, json_reply, numbered, sse

__all__ = ["DIALECTS"]

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
FINISH = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


def error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "status": STATUSES.get(status, "INTERNAL")}}


def model_of(call: Call) -> str:
    return call.path.rsplit("/", 1)[-1].split(":")[0]


def text_of(content: Any) -> str:
    if not isinstance(content, dict):
        return str(content or "")
    return "\n".join(part["text"] for part in content.get("parts") or () if isinstance(part.get("text"), str))


def turns_of(content: dict[str, Any]) -> Iterator[Turn]:
    for part in content.get("parts") or ():
        if result := part.get("functionResponse"):
            yield Turn("tool", json.dumps(result.get("response"), ensure_ascii=False))
    said = text_of(content)
    if said:
        yield Turn("assistant" if content.get("role") == "model" else "user", said)


def read(call: Call) -> Question:
    body = call.body
    settings = body.get("generationConfig") or {}
    system = body.get("systemInstruction")
    turns = [Turn("system", text_of(system))] if system else []
    for content in body.get("contents") or ():
        turns += turns_of(content)
    tools = []
    for group in body.get("tools") or ():
        for item in group.get("functionDeclarations") or ():
            names = ("parameters", "parametersJsonSchema", "parameters_json_schema")  # Google reads both spellings
            schema: Any = next((item[name] for name in names if item.get(name)), {})
            tools.append(Tool(item["name"], item.get("description") or "", schema))
    mode = ((body.get("toolConfig") or {}).get("functionCallingConfig") or {}).get("mode", "AUTO")
    wants_json = settings.get("responseMimeType") == "application/json"
    schemas = ("responseSchema", "responseJsonSchema", "response_json_schema")
    schema = next((settings[name] for name in schemas if settings.get(name)), {})
    return Question(
        model=model_of(call),
        turns=turns,
        tools=tools,
        tool_choice=str(mode).lower(),
        schema=schema if wants_json else None,
        reasoning=bool(settings.get("thinkingConfig")),
        max_tokens=settings.get("maxOutputTokens"),
        stream=":stream" in call.path,
        choices=int(settings.get("candidateCount") or 1),
    )


def usage_of(answer: Answer) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "promptTokenCount": answer.input_tokens,
        "candidatesTokenCount": answer.output_tokens - answer.reasoning_tokens,
        "totalTokenCount": answer.input_tokens + answer.output_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": answer.input_tokens}],
    }
    if answer.cached_tokens:
        usage["cachedContentTokenCount"] = answer.cached_tokens
    if answer.reasoning_tokens:
        usage["thoughtsTokenCount"] = answer.reasoning_tokens
    return usage


def response(call: Call, question: Question, parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
    candidates = []
    for index in range(question.choices):
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
        if finish:
            candidate["finishReason"] = finish
        candidates.append(candidate)
    return {
        "candidates": candidates,
        "modelVersion": question.model,
        "responseId": numbered("", call.number),
    }


def parts_of(answer: Answer, call: Call) -> list[dict[str, Any]]:
    thinking = (call.body.get("generationConfig") or {}).get("thinkingConfig") or {}
    parts: list[dict[str, Any]] = []
    if answer.reasoning and (thinking.get("includeThoughts") or thinking.get("include_thoughts")):
        parts.append({"text": answer.reasoning, "thought": True})
    if answer.text or answer.refusal:
        parts.append({"text": answer.text or answer.refusal})
    for item in answer.tool_calls:
        parts.append({"functionCall": {"name": item.name, "args": dict(item.arguments)}})
    return parts


def reply(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    assert question is not None and answer is not None
    finish = FINISH.get(answer.finish, answer.finish)
    if not question.stream:
        whole = response(call, question, parts_of(answer, call), finish)
        return json_reply({**whole, "usageMetadata": usage_of(answer)})
    values = streamed(call, question, answer, finish)
    if call.query.get("alt") == "sse":
        pieces: Iterator[Piece] = (sse(value, content=True) for value in values)
        return Reply(pieces=pieces, content_type="text/event-stream")
    return Reply(pieces=array(values), content_type="application/json; charset=UTF-8")


def streamed(call: Call, question: Question, answer: Answer, finish: str) -> Iterator[dict[str, Any]]:
    """Each value of the stream: text in fragments, a function call whole, the finish reason and usage on the last."""
    pieces: list[dict[str, Any]] = []
    for part in parts_of(answer, call):
        if "text" in part:
            pieces += [{**part, "text": text} for text in fragments(part["text"], words=6)]
        else:
            pieces.append(part)
    for number, piece in enumerate(pieces, start=1):
        last = number == len(pieces)
        value = response(call, question, [piece], finish if last else None)
        yield {**value, "usageMetadata": usage_of(answer)} if last else value
    if not pieces:
        yield {**response(call, question, [], finish), "usageMetadata": usage_of(answer)}


def array(values: Iterator[dict[str, Any]]) -> Iterator[Piece]:
    for number, value in enumerate(values):
        opening = "," if number else "["
        yield Piece(f"{opening}{json.dumps(value, ensure_ascii=False)}\r\n".encode(), content=True)
    yield Piece(b"]")


def reply_embed(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    size = int(call.body.get("outputDimensionality") or 256)
    return json_reply({"embedding": {"values": embed(text_of(call.body.get("content")), size)}})


def reply_batch(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    vectors = []
    for item in call.body.get("requests") or ():
        size = int(item.get("outputDimensionality") or 256)
        vectors.append({"values": embed(text_of(item.get("content")), size)})
    return json_reply({"embeddings": vectors})


def reply_count(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    return json_reply({"totalTokens": sum(tokens_of(turn.text) for turn in read(call).turns)})


def dialect(operation: str, verb: str, reply: Any, read: Any = None) -> Dialect:
    """One row of the table below."""
    path = re.compile(rf"/models/[^/]+:{verb}$")
    return Dialect(provider="google", operation=operation, path=path, reply=reply, read=read, error=error)


DIALECTS: tuple[Dialect, ...] = (
    dialect("chat", "(?:generateContent|streamGenerateContent)", reply, read),
    dialect("embeddings", "embedContent", reply_embed),
    dialect("embeddings", "batchEmbedContents", reply_batch),
    dialect("count_tokens", "countTokens", reply_count),
)
