"""Google Gemini: content generation, embeddings and token counts, as spoken by the Gemini API and by Vertex AI.

Reference: https://ai.google.dev/api/generate-content. The model stands in the path, never in the body.
"""

import re
from collections.abc import Mapping
from typing import Any

from asgi_llmobs.patterns import compiled
from asgi_llmobs.providers.base import Dialect, Provider, Route, Wire, route
from asgi_llmobs.providers.bodies import answer_of, chunks, is_stream, request_of
from asgi_llmobs.providers.decisions import GOOGLE_DECISIONS
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.framing import json_array_items, parse_json
from asgi_llmobs.providers.interactions import INTERACTIONS
from asgi_llmobs.providers.values import (
    array,
    as_text,
    blob,
    count,
    link,
    named,
    obj,
    place_at,
    plus,
    rest,
    string,
)
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["ANY_HOST", "COUNT_TOKENS", "EMBED", "GENERATE", "PROVIDERS", "gemini_usage", "model_of"]

MODEL = r"/(?:models/|((?:tunedModels|endpoints|dynamic)/))([^:]+):\w+$"
# the Vertex client for Python asks for enumerations as numbers
MODALITIES = {"IMAGE": 2, "AUDIO": 4}
SERVER_PARTS = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")
NOT_PARAMETERS = frozenset(
    "contents systemInstruction system_instruction tools generateContentRequest model content requests".split()
)


def model_of(path: str) -> str | None:
    """The model that a path names."""
    found = compiled(MODEL).search(path)
    return (found[1] or "") + found[2] if found else None


def either(data: Mapping[str, Any], name: str) -> Any:
    """A field by its camelCase *name*, which requests may also write in snake_case."""
    value = data.get(name)
    return data.get(re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name)) if value is None else value


def input_part(part: Any) -> Part:
    """One part of a content."""
    part = {"text": part} if isinstance(part, str) else obj(part)
    if isinstance(part.get("text"), str):
        return Part(type="reasoning" if part.get("thought") is True else "text", content=part["text"])
    inline, file = obj(either(part, "inlineData")), obj(either(part, "fileData"))
    if inline:
        return blob(inline.get("data"), named(either(inline, "mimeType")))
    if file:
        return link(either(file, "fileUri"), None, named(either(file, "mimeType")))
    call, response = obj(either(part, "functionCall")), obj(either(part, "functionResponse"))
    if call:
        return Part(
            type="tool_call", id=named(call.get("id")), name=named(call.get("name")), arguments=call.get("args")
        )
    if response:
        return Part(
            type="tool_call_response",
            id=named(response.get("id")),
            name=named(response.get("name")),
            content=as_text(response.get("response")),
        )
    kind = next((name for name in SERVER_PARTS if either(part, name)), "unknown")
    return server_part(kind, obj(either(part, kind)))


def server_part(kind: str, data: dict[str, Any]) -> Part:
    """A tool that Google ran: its call or its result."""
    if kind == "executableCode":
        return Part(type="tool_call", id=named(data.get("id")), name=kind, arguments=rest(data, ("id",)))
    if kind == "toolCall":
        return Part(
            type="tool_call", id=named(data.get("id")), name=named(data.get("toolType")), arguments=data.get("args")
        )
    name = named(data.get("toolType")) or kind
    return Part(type="tool_call_response", id=named(data.get("id")), name=name, content=as_text(rest(data, ("id",))))


def message_of(content: Any, role: str = "user") -> Message:
    """A content as a message; ``model`` is the assistant, a content of nothing but results is the tool's."""
    content = {"parts": [content]} if isinstance(content, str) else obj(content)
    role = named(content.get("role")) or role
    role = {"model": "assistant", "function": "tool"}.get(role, role)
    given = content.get("parts")
    parts = tuple(map(input_part, given if isinstance(given, list) else [given] if given else []))
    if role == "user" and parts and all(part.type == "tool_call_response" for part in parts):
        role = "tool"
    return Message(role=role, parts=parts)


def contents_of(body: dict[str, Any], reading: Reading) -> None:
    """Fill in the conversation that a request holds."""
    system = either(body, "systemInstruction")
    if system:
        reading.input.append(Message(role="system", parts=message_of(system).parts))
    contents = body.get("contents")
    reading.input.extend(map(message_of, contents if isinstance(contents, list) else [contents] if contents else []))


def request_side(wire: Wire, reading: Reading) -> dict[str, Any]:
    """Fill in what a request says; gives its body."""
    body = request_of(wire, reading)
    reading.request_model = model_of(wire.path) or named(body.get("model"))
    contents_of(body, reading)
    config = obj(either(body, "generationConfig"))
    reading.parameters = {**rest(body, NOT_PARAMETERS | {"generationConfig", "generation_config"}), **rest(config, ())}
    for tool in map(obj, array(body.get("tools"))):
        for function in map(obj, array(either(tool, "functionDeclarations"))):
            parameters = function.get("parameters") or either(function, "parametersJsonSchema")
            reading.tools.append(
                {
                    "name": function.get("name"),
                    "description": function.get("description"),
                    "parameters": parameters,
                    "type": "function",
                }
            )
        for kind in rest(tool, ("functionDeclarations", "function_declarations")):
            reading.tools.append({"name": kind, "description": None, "parameters": tool[kind], "type": kind})
    return body


def modality(details: Any, name: str, reading: Reading) -> int | None:
    """The tokens of one modality in a list by modality."""
    known = [item for item in map(obj, array(details)) if item.get("modality") in (name, MODALITIES[name])]
    return plus(*(count(item.get("tokenCount"), reading, "tokenCount") for item in known))


def gemini_usage(usage: dict[str, Any], reading: Reading) -> Usage:
    """Tokens of a ``usageMetadata``, whose candidates leave out thoughts and whose prompt leaves out tool use."""

    def get(name: str) -> int | None:
        return count(usage.get(name), reading, name)

    prompt, output = get("promptTokenCount"), get("candidatesTokenCount")
    if output is None:
        output = get("responseTokenCount")
    thoughts, tool_use = get("thoughtsTokenCount"), get("toolUsePromptTokenCount")
    reading.usage_raw = usage
    reading.service_tier = named(usage.get("serviceTier")) or reading.service_tier
    if tool_use:
        reading.details["tool_use_input"] = tool_use
    if usage.get("trafficType"):
        reading.details["traffic_type"] = usage["trafficType"]
    prompts = usage.get("promptTokensDetails")
    outputs = usage.get("candidatesTokensDetails") or usage.get("responseTokensDetails")
    return Usage(
        input_tokens=plus(prompt, tool_use),
        output_tokens=plus(output, thoughts),
        cache_read=get("cachedContentTokenCount"),
        reasoning=thoughts,
        audio_input=modality(prompts, "AUDIO", reading),
        audio_output=modality(outputs, "AUDIO", reading),
        image_input=modality(prompts, "IMAGE", reading),
        image_output=modality(outputs, "IMAGE", reading),
        input_raw=prompt,
        output_raw=output,
        total_reported=get("totalTokenCount"),
    )


def tokens_said(usage: dict[str, Any]) -> bool:
    """Whether a usage object counts anything: the first ones of a stream may name nothing but the traffic type."""
    return any(name.endswith("TokenCount") for name in usage)


class Candidates:
    """The candidates of an answer, put together from one object or many."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.drafts: dict[int, Draft] = {}
        self.calls = 0

    def take(self, data: dict[str, Any], end: int) -> None:
        """Take in one answer object that ends at *end*."""
        reading = self.reading
        reading.response_model = named(data.get("modelVersion")) or reading.response_model
        reading.response_id = named(data.get("responseId")) or reading.response_id
        usage = obj(data.get("usageMetadata"))
        if tokens_said(usage):
            reading.usage = gemini_usage(usage, reading)
        if isinstance(data.get("error"), dict | str):
            reading.error = error_of(data["error"])
            reading.ended = True
        feedback = obj(data.get("promptFeedback"))
        if feedback.get("blockReason"):
            reading.details["block_reason"] = feedback["blockReason"]
            reading.refusal = named(feedback.get("blockReasonMessage")) or str(feedback["blockReason"])
            reading.ended = True
        for place, candidate in enumerate(map(obj, array(data.get("candidates")))):
            self.candidate(candidate, place, end)

    def candidate(self, candidate: dict[str, Any], place: int, end: int) -> None:
        """Take in a candidate or the next piece of it."""
        index = candidate.get("index")
        draft = self.drafts.setdefault(index if isinstance(index, int) else place, Draft(self.reading))
        for part in map(obj, array(obj(candidate.get("content")).get("parts"))):
            self.part(draft, part, end)
        reason = candidate.get("finishReason")
        if reason:
            draft.finish_reason = reason
            self.reading.ended = True
        if candidate.get("finishMessage"):
            self.reading.details["finish_message"] = candidate["finishMessage"]
        if candidate.get("groundingMetadata"):
            queries = array(obj(candidate["groundingMetadata"]).get("webSearchQueries"))
            if queries:
                self.reading.details["web_searches"] = queries

    def part(self, draft: Draft, part: dict[str, Any], end: int) -> None:
        """Take in a part of a candidate."""
        spoken = obj(part.get("audioTranscription")).get("text")
        draft.write("reasoning" if part.get("thought") is True else "text", part.get("text") or spoken, end)
        call = obj(part.get("functionCall"))
        if call:
            self.call(draft, call, end)
        for kind in SERVER_PARTS:
            if isinstance(part.get(kind), dict):
                self.reading.server_tools.append(kind)
                draft.add(server_part(kind, part[kind]), end)
        if isinstance(part.get("inlineData"), dict) or isinstance(part.get("fileData"), dict):
            draft.add(input_part(rest(part, ("text", "thought"))), end)

    def call(self, draft: Draft, call: dict[str, Any], end: int) -> None:
        """Take in a function call, whole or the next piece of its arguments (``partialArgs``)."""
        if named(call.get("name")) or not self.calls:
            self.calls += 1
        draft.call(self.calls, end, id=call.get("id"), name=call.get("name"), arguments=call.get("args"))
        block = draft.block("tool_call", self.calls)
        for item in map(obj, array(call.get("partialArgs"))):
            if not isinstance(block.arguments, dict):
                block.arguments = {}
            place_at(block.arguments, string(item.get("jsonPath")), item)
            draft.seen(end)

    def publish(self) -> None:
        """Put the candidates into the reading, in the order of their numbers."""
        for place, index in enumerate(sorted(self.drafts)):
            self.drafts[index].publish(first=place == 0)


def error_of(error: Any) -> dict[str, Any]:
    """Google's error object."""
    data = obj(error)
    return {
        "type": named(data.get("status")),
        "code": data.get("code"),
        "message": named(data.get("message")) or as_text(error),
    }


def read_generate(wire: Wire, reading: Reading) -> None:
    """``generateContent`` and ``streamGenerateContent``; without ``alt=sse`` the latter is one growing JSON array."""
    request_side(wire, reading)
    reading.stream_requested = ":streamGenerateContent" in wire.path
    candidates = Candidates(reading)
    if not is_stream(reading) and wire.response_body.lstrip()[:1] == b"[":
        first = next(json_array_items(wire.response_body), None)
        if first is not None and "error" not in obj(parse_json(first.data)):
            reading.framing, reading.stream = "json-array-stream", True
    if is_stream(reading):
        reading.ended = False
        for event in chunks(wire, reading):
            candidates.take(event.data, event.end)
    else:
        candidates.take(answer_of(wire, reading), len(wire.response_body))
    candidates.publish()


def read_embed(wire: Wire, reading: Reading) -> None:
    """``embedContent`` and ``batchEmbedContents``."""
    body = request_side(wire, reading)
    requests = [obj(item) for item in array(body.get("requests"))] or [body]
    for item in requests:
        if item.get("content"):
            reading.input.append(message_of(item["content"]))
        reading.parameters.update(rest(item, NOT_PARAMETERS))
    answer = answer_of(wire, reading)
    vectors = [obj(item) for item in array(answer.get("embeddings"))] or [obj(answer.get("embedding"))]
    reading.details.update(input_count=len(requests), dimensions=len(array(vectors[0].get("values"))) or None)
    usage = obj(answer.get("usageMetadata"))
    if tokens_said(usage):
        reading.usage = gemini_usage(usage, reading)


def read_count_tokens(wire: Wire, reading: Reading) -> None:
    """``countTokens``; the answer is no usage."""
    body = request_side(wire, reading)
    contents_of(obj(either(body, "generateContentRequest")), reading)
    counted = count(answer_of(wire, reading).get("totalTokens"), reading, "totalTokens")
    if counted is not None:
        reading.details["token_count"] = counted
        reading.notes.append("token count answer, not usage")


GENERATE = Dialect("gemini.generate", "chat", read_generate)
EMBED = Dialect("gemini.embed", "embeddings", read_embed)
COUNT_TOKENS = Dialect("gemini.count_tokens", "count_tokens", read_count_tokens)

ANY_HOST: tuple[Route, ...] = (
    route("POST", r":(generateContent|streamGenerateContent)$", GENERATE),
    route("POST", r":(embedContent|batchEmbedContents)$", EMBED),
    route("POST", r"/models/[^/]+:countTokens$", COUNT_TOKENS),
)

ROUTES: tuple[Route, ...] = (
    *ANY_HOST,
    route("POST", r"/interactions$", INTERACTIONS),
    route("POST", r"/v\d+\w*/decisions$", GOOGLE_DECISIONS),
)

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="google",
        otel="gcp.gemini",
        label="Google Gemini",
        hosts=(r"(\w+-)?generativelanguage\.googleapis\.com",),
        routes=ROUTES,
    ),
)
