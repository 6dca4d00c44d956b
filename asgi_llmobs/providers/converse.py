"""Amazon Bedrock's Converse format, which Amazon's Nova models also speak when they are invoked directly.

Reference: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from collections.abc import Iterable
from typing import Any

from asgi_llmobs.providers.bodies import Chunk
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.values import array, as_text, blob, count, link, named, obj, plus, rest, string
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["aws_error", "converse_answer", "converse_events", "converse_request", "converse_usage"]

NOT_PARAMETERS = frozenset("messages system toolConfig inferenceConfig modelId schemaVersion".split())
MEDIA = ("image", "video", "audio", "document")


def media_part(kind: str, media: dict[str, Any]) -> Part:
    """An image, video, audio or document by reference."""
    source = obj(media.get("source"))
    modality = "file" if kind == "document" else kind
    media_type = f"{kind if kind != 'document' else 'application'}/{media['format']}" if media.get("format") else None
    location = obj(source.get("s3Location"))
    if location:
        return link(location.get("uri"), modality, media_type)
    if named(source.get("text")):
        return Part(type="text", content=source["text"], name=named(media.get("name")))
    return blob(source.get("bytes"), media_type, modality)


def block_parts(block: Any) -> list[Part]:
    """The parts of one content block."""
    block = obj(block)
    for kind in MEDIA:
        if isinstance(block.get(kind), dict):
            return [media_part(kind, block[kind])]
    guard = obj(obj(block.get("guardContent")).get("text")).get("text")
    text = block.get("text") if guard is None else guard
    if isinstance(text, str):
        return [Part(type="text", content=text)]
    cited = obj(block.get("citationsContent"))
    if cited:
        texts = (string(obj(item).get("text")) for item in array(cited.get("content")))
        return [Part(type="text", content="".join(texts))]
    use, result = obj(block.get("toolUse")), obj(block.get("toolResult"))
    if use:
        return [
            Part(
                type="tool_call",
                id=named(use.get("toolUseId")),
                name=named(use.get("name")),
                arguments=use.get("input"),
            )
        ]
    if result:
        return result_parts(result)
    reasoning = obj(obj(block.get("reasoningContent")).get("reasoningText"))
    return [Part(type="reasoning", content=string(reasoning.get("text")))] if reasoning else []


def result_parts(result: dict[str, Any]) -> list[Part]:
    """A tool's result, and after it what it holds besides text."""
    content = [obj(item) for item in array(result.get("content"))]
    kept = [item.get("json", item) if "json" in item else item for item in content if not media_of(item)]
    text = as_text(kept[0] if len(kept) == 1 and "text" not in obj(kept[0]) else kept)
    response = Part(type="tool_call_response", id=named(result.get("toolUseId")), content=text)
    return [response, *(part for item in content if media_of(item) for part in block_parts(item))]


def media_of(block: dict[str, Any]) -> bool:
    """Whether a content block is an image, video, audio or document."""
    return any(kind in block for kind in MEDIA)


def converse_request(body: dict[str, Any], reading: Reading) -> None:
    """Fill in what a request says."""
    system = [part for block in array(body.get("system")) for part in block_parts(block)]
    if system:
        reading.input.append(Message(role="system", parts=tuple(system)))
    for message in map(obj, array(body.get("messages"))):
        blocks = array(message.get("content"))
        role = named(message.get("role")) or "user"
        if blocks and all("toolResult" in obj(block) for block in blocks):
            role = "tool"
        parts = tuple(part for block in blocks for part in block_parts(block))
        reading.input.append(Message(role=role, parts=parts))
    config = obj(body.get("toolConfig"))
    for tool in map(obj, array(config.get("tools"))):
        spec, system_tool = obj(tool.get("toolSpec")), obj(tool.get("systemTool"))
        if spec:
            reading.tools.append(
                {
                    "name": spec.get("name"),
                    "description": spec.get("description"),
                    "parameters": obj(spec.get("inputSchema")).get("json"),
                    "type": "toolSpec",
                }
            )
        elif system_tool:
            reading.tools.append(
                {"name": system_tool.get("name"), "description": None, "parameters": None, "type": "systemTool"}
            )
    reading.parameters = {
        **rest(body, NOT_PARAMETERS),
        **rest(obj(body.get("inferenceConfig")), ()),
        **rest(config, ("tools",)),
    }


def converse_usage(usage: dict[str, Any], reading: Reading) -> Usage:
    """Tokens of a usage object, whose ``inputTokens`` leave out what was read from and written to the cache."""

    def get(*names: str) -> int | None:
        return next((found for name in names if (found := count(usage.get(name), reading, name)) is not None), None)

    raw, output = get("inputTokens"), get("outputTokens")
    read = get("cacheReadInputTokens", "cacheReadInputTokenCount")
    write = get("cacheWriteInputTokens", "cacheWriteInputTokenCount")
    written = [obj(item) for item in array(usage.get("cacheDetails"))]
    five, hour = (
        plus(*(count(item.get("inputTokens"), reading, "cacheDetails") for item in written if item.get("ttl") == ttl))
        for ttl in ("5m", "1h")
    )
    reading.usage_raw = usage
    if usage.get("serverToolUsage"):
        reading.details["server_tool_usage"] = usage["serverToolUsage"]
    return Usage(
        input_tokens=None if raw is None else plus(raw, read, write),
        output_tokens=output,
        cache_read=read,
        cache_write=write,
        cache_write_5m=five,
        cache_write_1h=hour,
        input_raw=raw,
        output_raw=output,
        total_reported=get("totalTokens"),
    )


def take_metadata(data: dict[str, Any], reading: Reading) -> None:
    """Take in what stands beside the message: usage, tier, guardrail trace."""
    if isinstance(data.get("usage"), dict) and data["usage"]:
        reading.usage = converse_usage(data["usage"], reading)
    reading.service_tier = named(obj(data.get("serviceTier")).get("type")) or reading.service_tier
    for name, key in (("trace", "trace"), ("additionalModelResponseFields", "additional_fields")):
        if data.get(name):
            reading.details[key] = data[name]
    latency = obj(data.get("metrics")).get("latencyMs")
    if isinstance(latency, int):
        reading.details["provider_latency_ms"] = latency
    routed = named(obj(obj(data.get("trace")).get("promptRouter")).get("invokedModelId"))
    if routed:
        reading.response_model = routed


def take_block(block: dict[str, Any], key: Any, end: int, draft: Draft, reading: Reading) -> None:
    """Take in a content block of the answer, whole or at its start."""
    use = obj(block.get("toolUse"))
    if use:
        server = use.get("type") == "server_tool_use"
        if server:
            reading.server_tools.append("server_tool_use")
        draft.call(key, end, id=use.get("toolUseId"), name=use.get("name"), arguments=use.get("input"), server=server)
    elif isinstance(block.get("toolResult"), dict):
        reading.server_tools.append("toolResult")
        for part in block_parts(block):
            draft.add(part, end)
    elif media_of(block):
        for part in block_parts(block):
            draft.add(part, end)
    else:
        for part in block_parts(block):
            draft.write(part.type, part.content, end)


def converse_answer(answer: dict[str, Any], reading: Reading, size: int) -> None:
    """Fill in what a whole answer of *size* bytes says."""
    draft = Draft(reading, parse=True)
    for key, block in enumerate(array(obj(obj(answer.get("output")).get("message")).get("content"))):
        take_block(obj(block), key, size, draft, reading)
    draft.finish_reason = named(answer.get("stopReason"))
    take_metadata(answer, reading)
    draft.publish()


def converse_events(events: Iterable[Chunk], reading: Reading) -> None:
    """Fill in what the events of a streamed answer say."""
    draft = Draft(reading, parse=True)
    reading.ended = False
    for kind, data, end in events:
        index = data.get("contentBlockIndex")
        key = index if isinstance(index, int) else 0
        if kind == "contentBlockStart":
            take_block(obj(data.get("start")), key, end, draft, reading)
        elif kind == "contentBlockDelta":
            take_delta(obj(data.get("delta")), key, end, draft, reading)
        elif kind == "messageStop":
            draft.finish_reason = named(data.get("stopReason")) or draft.finish_reason
            take_metadata(data, reading)
            reading.ended = True
        elif kind == "metadata":
            take_metadata(data, reading)
        elif kind.endswith(("Exception", "Error")):
            reading.error = aws_error(kind, data)
            reading.ended = True
    draft.publish()


def take_delta(delta: dict[str, Any], key: int, end: int, draft: Draft, reading: Reading) -> None:
    """Take in the next piece of a content block."""
    use = delta.get("toolUse")
    if isinstance(use, dict):
        given = use.get("input")
        if isinstance(given, str):
            draft.call(key, end, fragment=given)
        elif given is not None:
            draft.call(key, end, arguments=given)
    elif isinstance(delta.get("reasoningContent"), dict):
        draft.write("reasoning", delta["reasoningContent"].get("text"), end, key)
    elif isinstance(delta.get("text"), str):
        draft.write("text", delta["text"], end, key)
    elif media_of(delta):
        take_block(delta, key, end, draft, reading)


def aws_error(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """An exception that came as an event of a stream."""
    message = named(data.get("message")) or named(data.get("Message")) or named(data.get("originalMessage"))
    return {"type": kind, "code": data.get("originalStatusCode"), "message": message or as_text(data)}
