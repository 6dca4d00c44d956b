"""Anthropic: Messages and Text Completions, on its own hosts, on Azure and Vertex, and on gateways.

Reference: https://platform.claude.com/docs/en/api/messages and https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from collections.abc import Iterable
from typing import Any

from asgi_llmobs.providers.base import Dialect, Provider, Route, Wire, route
from asgi_llmobs.providers.bodies import Chunk, Pieces, answer_of, chunks, is_stream, request_of
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.values import array, as_text, blob, count, link, named, number, obj, plus, rest, string
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["ANY_HOST", "MESSAGES", "PROVIDERS", "anthropic_message", "anthropic_request", "anthropic_stream"]

NOT_PARAMETERS = frozenset("model messages system tools prompt stream anthropic_version metadata".split())


def input_part(block: Any) -> list[Part]:
    """The parts of one content block of a request; the images of a tool's result stand beside it."""
    if isinstance(block, str):
        return [Part(type="text", content=block)]
    block = obj(block)
    kind = string(block.get("type"))
    if kind == "text" or (not kind and "text" in block):
        return [Part(type="text", content=string(block.get("text")))]
    if kind == "thinking":
        return [Part(type="reasoning", content=string(block.get("thinking")))]
    if kind.endswith("tool_use"):
        return [
            Part(
                type="tool_call", id=named(block.get("id")), name=named(block.get("name")), arguments=block.get("input")
            )
        ]
    if kind.endswith("tool_result"):
        return tool_result(block)
    if kind in ("image", "document"):
        return [source_part(obj(block.get("source")), kind)]
    if kind == "container_upload":
        return [Part(type="file", id=named(block.get("file_id")))]
    return [Part(type=kind or "unknown", content=as_text(block.get("content")))]


def tool_result(block: dict[str, Any]) -> list[Part]:
    """A tool's result, and after it what it holds besides text."""
    content = block.get("content")
    media = [item for item in array(content) if obj(item).get("type") in ("image", "document")]
    if media:
        content = [item for item in array(content) if item not in media]
    response = Part(type="tool_call_response", id=named(block.get("tool_use_id")), content=as_text(content))
    return [response, *(part for item in media for part in input_part(item))]


def source_part(source: dict[str, Any], kind: str) -> Part:
    """An image or document by what it comes from: an address, a file, base64 or plain text."""
    modality = "image" if kind == "image" else "file"
    mime_type = named(source.get("media_type"))
    if source.get("type") == "url":
        return link(source.get("url"), modality, mime_type)
    if source.get("type") == "file":
        return Part(type="file", id=named(source.get("file_id")), modality=modality)
    if source.get("type") == "base64":
        return blob(source.get("data"), mime_type, modality)
    return Part(type="text", content=as_text(source.get("data", source.get("content"))))


def input_message(message: Any) -> Message:
    """One message of a request; a user message that holds nothing but tool results is the tool's."""
    message = obj(message)
    content = message.get("content")
    blocks = content if isinstance(content, list) else [content] if content is not None else []
    parts = [part for block in blocks for part in input_part(block)]
    role = named(message.get("role")) or "user"
    if role == "user" and parts and all(str(obj(block).get("type")).endswith("tool_result") for block in blocks):
        role = "tool"
    return Message(role=role, parts=tuple(parts))


def anthropic_request(body: dict[str, Any], reading: Reading) -> None:
    """Fill in what a Messages request says."""
    system = body.get("system")
    if system:
        blocks = system if isinstance(system, list) else [system]
        reading.input.append(Message(role="system", parts=tuple(part for item in blocks for part in input_part(item))))
    reading.input.extend(input_message(message) for message in array(body.get("messages")))
    reading.tools = [
        {
            "name": tool.get("name"),
            "description": tool.get("description"),
            "parameters": tool.get("input_schema"),
            "type": tool.get("type") or "custom",
        }
        for tool in map(obj, array(body.get("tools")))
    ]
    metadata = obj(body.get("metadata"))
    reading.user = named(metadata.get("user_id"))
    reading.parameters = rest(body, NOT_PARAMETERS)


def anthropic_usage(usage: dict[str, Any], reading: Reading) -> Usage:
    """Tokens of a usage object, whose ``input_tokens`` leave out what was read from and written to the cache."""

    def get(name: str) -> int | None:
        return count(usage.get(name), reading, name)

    creation = obj(usage.get("cache_creation"))
    five, hour = (
        count(creation.get(name), reading, name) for name in ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
    )
    raw, read, output = get("input_tokens"), get("cache_read_input_tokens"), get("output_tokens")
    write = get("cache_creation_input_tokens")
    write = plus(five, hour) if write is None else write
    details = obj(usage.get("output_tokens_details"))
    for name, value in obj(usage.get("server_tool_use")).items():
        if isinstance(value, int) and value:
            reading.details[name] = value
    for name in ("speed", "inference_geo", "iterations"):
        if usage.get(name):
            reading.details[name] = usage[name]
    reading.notes.extend(beside_totals(usage, reading))
    reading.usage_raw = usage
    reading.service_tier = named(usage.get("service_tier")) or reading.service_tier
    return Usage(
        input_tokens=None if raw is None else plus(raw, read, write),
        output_tokens=output,
        cache_read=read,
        cache_write=write,
        cache_write_5m=five,
        cache_write_1h=hour,
        reasoning=count(details.get("thinking_tokens"), reading, "thinking_tokens"),
        input_raw=raw,
        output_raw=output,
        cost_usd=number(usage.get("cost"), reading, "cost"),  # OpenRouter's
    )


def beside_totals(usage: dict[str, Any], reading: Reading) -> list[str]:
    """A line for each iteration that is billed but not in the two main numbers."""
    lines = []
    for item in map(obj, array(usage.get("iterations"))):
        if item.get("type") not in ("compaction", "advisor_message"):
            continue
        tokens = plus(
            *(
                count(item.get(name), reading, name)
                for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
            )
        )
        output = count(item.get("output_tokens"), reading, "output_tokens")
        lines.append(f"{item['type']}: {tokens or 0} input and {output or 0} output tokens beside the totals")
    return lines


def start_block(draft: Draft, index: Any, block: dict[str, Any], end: int, reading: Reading) -> None:
    """Take in a content block, whole or at its start."""
    kind = string(block.get("type"))
    if kind in ("text", "thinking"):
        draft.write("reasoning" if kind == "thinking" else "text", block.get(kind), end, index)
    elif kind.endswith("tool_use"):
        server = kind != "tool_use"
        if server:
            reading.server_tools.append(kind)
        # a stream opens with an empty input and sends the real one in fragments
        draft.call(index, end, id=block.get("id"), name=block.get("name"), server=server)
        draft.block("tool_call", index).arguments = block.get("input")
    elif kind.endswith("tool_result"):
        reading.server_tools.append(kind)
        for part in tool_result(block):
            draft.add(part, end)
    elif kind == "container_upload":
        draft.add(Part(type="file", id=named(block.get("file_id"))), end)
    elif kind == "fallback":
        origin, target = (named(obj(block.get(name)).get("model")) for name in ("from", "to"))
        reading.notes.append(f"fallback from {origin} to {target}")


def stop(message: dict[str, Any], draft: Draft, reading: Reading) -> None:
    """Take in why the answer ended and what it ran in."""
    draft.finish_reason = named(message.get("stop_reason")) or draft.finish_reason
    details = obj(message.get("stop_details"))
    if details.get("type") == "refusal":
        reading.refusal = named(details.get("explanation")) or named(details.get("category")) or reading.refusal
    for name in ("stop_sequence", "stop_details", "container", "context_management"):
        if message.get(name):
            reading.details[name] = message[name]


def anthropic_message(message: dict[str, Any], reading: Reading, size: int) -> None:
    """Fill in what a whole Messages answer of *size* bytes says."""
    reading.response_model = named(message.get("model"))
    reading.response_id = named(message.get("id")) if message.get("type") != "error" else None
    draft = Draft(reading, parse=True)
    content = message.get("content")
    if isinstance(content, str):
        draft.write("text", content, size)
    for index, block in enumerate(map(obj, array(content))):
        start_block(draft, index, block, size, reading)
    stop(message, draft, reading)
    if isinstance(message.get("usage"), dict):
        reading.usage = anthropic_usage(message["usage"], reading)
    draft.publish()


def adds_piece(data: dict[str, Any]) -> bool:
    """Whether an event says nothing but a piece of a block."""
    delta = data.get("delta")
    return data.get("type") == "content_block_delta" and isinstance(delta, dict) and len(delta) == 2


DELTA = Pieces.of(adds_piece, "text", "thinking", "partial_json")
DELTAS = {"text_delta": ("text", "text"), "thinking_delta": ("reasoning", "thinking")}


def anthropic_stream(events: Iterable[Chunk], reading: Reading) -> None:
    """Fill in what a streamed Messages answer says; the counts of ``message_delta`` replace those of the start."""
    draft = Draft(reading, parse=True)
    usage: dict[str, Any] = {}
    final = False
    reading.ended = False
    for event in events:
        data, index = event.data, event.data.get("index")
        index = index if isinstance(index, int) else 0
        match string(data.get("type")) or event.type:
            case "message_start":
                message = obj(data.get("message"))
                reading.response_id = named(message.get("id"))
                reading.response_model = named(message.get("model"))
                usage.update(rest(obj(message.get("usage")), ()))
                stop(message, draft, reading)
                for place, block in enumerate(map(obj, array(message.get("content")))):
                    start_block(draft, place, block, event.end, reading)
            case "content_block_start":
                start_block(draft, index, obj(data.get("content_block")), event.end, reading)
            case "content_block_delta":
                delta = obj(data.get("delta"))
                kind = string(delta.get("type"))
                if kind in DELTAS:
                    draft.write(DELTAS[kind][0], delta.get(DELTAS[kind][1]), event.end, index)
                elif kind == "input_json_delta":
                    draft.call(index, event.end, fragment=delta.get("partial_json"))
            case "message_delta":
                stop(obj(data.get("delta")), draft, reading)
                stop(rest(data, ("delta", "usage")), draft, reading)
                final = final or bool(obj(data.get("usage")))
                usage.update(rest(obj(data.get("usage")), ()))
            case "message_stop" | "[DONE]":
                reading.ended = True
            case "error":
                stream_error(data, reading)
    if usage:
        if not final and not reading.ended:
            usage.pop("output_tokens", None)  # of the start: what is written by then, not what the answer cost
        reading.usage = anthropic_usage(usage, reading)
    draft.publish()


def stream_error(data: dict[str, Any], reading: Reading) -> None:
    """An ``error`` event inside a stream that began well."""
    error = obj(data.get("error"))
    reading.error = {
        "type": named(error.get("type")),
        "code": error.get("code"),
        "message": named(error.get("message")) or as_text(data.get("error")),
    }
    reading.ended = True


def read_messages(wire: Wire, reading: Reading) -> None:
    """The Messages API."""
    anthropic_request(request_of(wire, reading), reading)
    if is_stream(reading):
        anthropic_stream(chunks(wire, reading, DELTA), reading)
    else:
        anthropic_message(answer_of(wire, reading), reading, len(wire.response_body))


def read_complete(wire: Wire, reading: Reading) -> None:
    """The Text Completions API of Claude 2."""
    body = request_of(wire, reading)
    if named(body.get("prompt")):
        reading.input.append(Message(role="user", parts=(Part(type="text", content=body["prompt"]),)))
    reading.user = named(obj(body.get("metadata")).get("user_id"))
    reading.parameters = rest(body, NOT_PARAMETERS)
    draft = Draft(reading)
    if is_stream(reading):
        reading.ended = False
        for event in chunks(wire, reading):
            if event.type == "error" or event.data.get("type") == "error":
                stream_error(event.data, reading)
            completion(event.data, draft, event.end, reading)
    else:
        completion(answer_of(wire, reading), draft, len(wire.response_body), reading)
    draft.publish()


def completion(data: dict[str, Any], draft: Draft, end: int, reading: Reading) -> None:
    """Take in one completion object, which in a stream holds the next piece."""
    draft.write("text", data.get("completion"), end)
    reading.response_model = named(data.get("model")) or reading.response_model
    if data.get("type") != "error" and not is_stream(reading):
        reading.response_id = named(data.get("id"))
    if named(data.get("stop_reason")):
        draft.finish_reason = data["stop_reason"]
        reading.ended = True


def read_count_tokens(wire: Wire, reading: Reading) -> None:
    """Counting the tokens of a request without sending it; the answer is no usage."""
    anthropic_request(request_of(wire, reading), reading)
    counted = count(answer_of(wire, reading).get("input_tokens"), reading, "input_tokens")
    if counted is not None:
        reading.details["token_count"] = counted
        reading.notes.append("token count answer, not usage")


MESSAGES = Dialect("anthropic.messages", "chat", read_messages)
COMPLETE = Dialect("anthropic.complete", "text_completion", read_complete)
COUNT_TOKENS = Dialect("anthropic.count_tokens", "count_tokens", read_count_tokens)

ROUTES: tuple[Route, ...] = (
    route("POST", r"/v1/messages/?$", MESSAGES),
    route("POST", r"/v1/messages/count_tokens$", COUNT_TOKENS),
    route("POST", r"/v1/complete$", COMPLETE),
)

ANY_HOST: tuple[Route, ...] = ROUTES[:2]

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="anthropic",
        otel="anthropic",
        label="Anthropic",
        hosts=(
            r"api(-staging)?\.anthropic\.com",
            r"claude\.googleapis\.com",
            r"aws-external-anthropic\.[\w-]+\.api\.aws",
        ),
        routes=ROUTES,
    ),
)
