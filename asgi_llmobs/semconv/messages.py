"""Messages and tools, in whatever form an instrumentation writes them, as ours. Nothing raises for what it is given."""

from collections.abc import Mapping
from typing import Any

from asgi_llmobs.providers.framing import parse_json
from asgi_llmobs.providers.openai_messages import role_of, tools_of
from asgi_llmobs.providers.values import array, as_text, blob, link, modality_of, named, obj, parsed_arguments, string
from asgi_llmobs.records import Message, Part

__all__ = ["decoded", "messages_of", "tool_definitions", "unwrapped"]

MAX_MESSAGES = 10_000
MAX_NESTED = 8
# OpenInference puts each thing into an object that names what it is
WRAPPERS = frozenset(
    "message message_content tool_call tool document embedding prompt completion image audio video".split()
)


def decoded(value: Any) -> Any:
    """*value*, or what it stands for where it is JSON text of an object or a list."""
    if isinstance(value, str) and value[:1] in ("{", "[", '"'):
        found = parse_json(value)
        return value if found is None else found
    return value


def unwrapped(value: Any) -> Any:
    """*value* without the objects around it that only name what it is."""
    for _ in range(MAX_NESTED):
        if not (isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in WRAPPERS):
            break
        value = next(iter(value.values()))
    return value


def messages_of(value: Any, role: str = "user", depth: int = 0) -> list[Message]:
    """The messages in *value*: JSON text, a list, an object that holds them, one message, or plain text.

    Args:
        value: Anything.
        role: Whose a text is that names nobody.
    """
    value = unwrapped(decoded(value))
    if value is None or value == "" or depth > MAX_NESTED:
        return []
    if isinstance(value, list):
        return [message for item in value[:MAX_MESSAGES] for message in messages_of(item, role, depth + 1)]
    if not isinstance(value, Mapping):
        return [Message(role=role, parts=(Part(type="text", content=str(value)),))]
    if "role" in value or "parts" in value:
        return [message_of(value, role)]
    for name in ("messages", "choices", "candidates", "contents", "generations", "prompts"):
        if isinstance(value.get(name), list):
            before = messages_of(value.get("system"), "system", depth + 1)
            return before + messages_of(value[name], "assistant" if name in ANSWERS else role, depth + 1)
    for name in ("message", "input", "output", "prompt", "query", "text", "content"):
        inner = value.get(name)
        if isinstance(inner, Mapping | list) or (isinstance(inner, str) and inner):
            return with_reason(messages_of(inner, role, depth + 1), value)
    return [Message(role=role, parts=(Part(type="text", content=as_text(dict(value))),))]


ANSWERS = ("choices", "candidates", "generations")


def with_reason(messages: list[Message], choice: Mapping[str, Any]) -> list[Message]:
    """The messages of a choice, the last with the reason why it ended."""
    reason = named(choice.get("finish_reason")) or named(choice.get("finishReason"))
    if not messages or reason is None:
        return messages
    last = messages[-1]
    return [*messages[:-1], Message(role=last.role, parts=last.parts, name=last.name, finish_reason=reason)]


def message_of(value: Mapping[str, Any], role: str) -> Message:
    """One message, of OpenAI's, Anthropic's, Google's, OpenInference's or the GenAI conventions' form."""
    role = role_of(string(value.get("role")).lower() or role)
    parts: list[Part] = []
    thought = named(value.get("reasoning_content")) or named(value.get("reasoning"))
    if thought:
        parts.append(Part(type="reasoning", content=thought))
    answered = named(value.get("tool_call_id"))
    content = value.get("parts", value.get("contents", value.get("content")))
    if content is None and isinstance(value.get("message"), Mapping):
        return message_of({**value["message"], "finish_reason": value.get("finish_reason")}, role)
    if role == "tool" and not has_responses(decoded(content)):
        parts.append(Part(type="tool_call_response", id=answered or named(value.get("id")), content=result_of(content)))
    else:
        parts.extend(parts_of(content))
    parts.extend(call_of(unwrapped(call)) for call in array(decoded(value.get("tool_calls"))))
    if value.get("function_call"):
        parts.append(call_of(obj(value["function_call"])))
    if named(value.get("refusal")):
        parts.append(Part(type="refusal", content=value["refusal"]))
    reason = named(value.get("finish_reason")) or named(value.get("finishReason"))
    return Message(role=role, parts=tuple(parts), name=named(value.get("name")), finish_reason=reason)


def has_responses(content: Any) -> bool:
    return any(obj(unwrapped(block)).get("type") in RESPONSES for block in array(content))


RESPONSES = ("tool_call_response", "tool_result")


def parts_of(content: Any) -> list[Part]:
    content = decoded(content) if isinstance(content, str) and content[:2] in ("[{", '["') else content
    blocks = content if isinstance(content, list) else [] if content is None or content == "" else [content]
    return [part for block in blocks[:MAX_MESSAGES] if (part := part_of(unwrapped(block))) is not None]


def part_of(block: Any) -> Part | None:
    """One block of a message's content."""
    if not isinstance(block, Mapping):
        return None if block is None else Part(type="text", content=str(block))
    kind = string(block.get("type"))
    if kind in ("tool_call", "tool_use", "function_call") or "functionCall" in block:
        return call_of(obj(block.get("functionCall")) or block)
    if kind in RESPONSES or "functionResponse" in block:
        return response_of(obj(block.get("functionResponse")) or block)
    if kind in ("reasoning", "thinking"):
        return Part(type="reasoning", content=text_in(block, "content", "text", "thinking", "reasoning"))
    if kind == "refusal":
        return Part(type="refusal", content=text_in(block, "refusal", "content"))
    if kind == "blob":
        mime = named(block.get("mime_type"))
        return blob(block.get("content", block.get("data")), mime, named(block.get("modality")))
    if kind == "uri":
        return link(block.get("uri"), named(block.get("modality")), named(block.get("mime_type")))
    if kind == "file" and (block.get("file_id") or block.get("id")):
        return Part(
            type="file", id=named(block.get("file_id")) or named(block.get("id")), modality=named(block.get("modality"))
        )
    return media_of(block, kind) or text_part(block)


def text_part(block: Mapping[str, Any]) -> Part | None:
    text = text_in(block, "text", "content")
    if text is None:
        text = as_text(dict(block))
    return Part(type="text", content=text) if text else None


def text_in(block: Mapping[str, Any], *names: str) -> str | None:
    """The first of the values by these names that is a text."""
    return next((block[name] for name in names if isinstance(block.get(name), str)), None)


def media_of(block: Mapping[str, Any], kind: str) -> Part | None:
    """An image, sound or file, by reference."""
    source = obj(block.get("source"))
    if source:
        mime = named(source.get("media_type"))
        if source.get("data") is not None:
            return blob(source["data"], mime, modality_of(mime) or kind or None)
        return link(source.get("url"), kind or modality_of(mime), mime)
    inline = obj(block.get("inlineData") or block.get("inline_data"))
    if inline:
        return blob(inline.get("data"), named(inline.get("mimeType")) or named(inline.get("mime_type")))
    sound = obj(block.get("input_audio"))
    if sound:
        return blob(sound.get("data"), f"audio/{sound.get('format') or 'wav'}", "audio")
    for name, modality in (("image_url", "image"), ("image", "image"), ("audio", "audio"), ("video", "video")):
        address = unwrapped(block.get(name))
        address = obj(address).get("url", address)
        if isinstance(address, str) and address:
            return link(address, modality)
    return None


def call_of(call: Any) -> Part:
    """A tool call."""
    call = obj(call)
    function = obj(call.get("function")) or call
    arguments = next((function[name] for name in ("arguments", "input", "args") if name in function), None)
    if isinstance(arguments, str):
        arguments = parsed_arguments(arguments)
    return Part(
        type="tool_call",
        id=named(call.get("id")) or named(call.get("call_id")),
        name=named(function.get("name")),
        arguments=arguments,
    )


def response_of(block: Mapping[str, Any]) -> Part:
    """The result of a tool call."""
    content = next((block[name] for name in ("response", "result", "content", "output") if name in block), None)
    return Part(
        type="tool_call_response",
        id=named(block.get("id")) or named(block.get("tool_use_id")) or named(block.get("call_id")),
        name=named(block.get("name")),
        content=result_of(content),
    )


def result_of(content: Any) -> str | None:
    return as_text([unwrapped(item) for item in content] if isinstance(content, list) else content)


def tool_definitions(value: Any) -> list[dict[str, Any]]:
    """Definitions of tools as ``{name, description, parameters, type}``."""
    tools = []
    for item in array(decoded(value))[:MAX_MESSAGES]:
        tool = unwrapped(decoded(unwrapped(item)))
        if isinstance(tool, Mapping) and "json_schema" in tool:
            tool = decoded(tool["json_schema"])
        tool = {name: decoded(part) if name == "parameters" else part for name, part in obj(tool).items()}
        tools += tools_of([tool]) if tool else []
    return tools
