"""Messages and tools as most services write them: a role, a text or blocks, tool calls with their results."""

from typing import Any

from asgi_llmobs.providers.values import array, as_text, link, named, obj
from asgi_llmobs.records import Message, Part

__all__ = ["plain_message", "plain_tools"]


def block_part(block: Any) -> Part | None:
    """One block of a message's content."""
    data = obj(block)
    address = data.get("image_url", data.get("image"))
    if isinstance(block, str):
        return Part(type="text", content=block)
    if address is not None:
        return link(obj(address).get("url", address), "image")
    if isinstance(data.get("text"), str):
        return Part(type="text", content=data["text"])
    if isinstance(data.get("thinking"), str):
        return Part(type="reasoning", content=data["thinking"])
    if data.get("document") is not None:
        return Part(type="text", content=as_text(obj(data["document"]).get("data", data["document"])))
    return None


def plain_message(given: Any) -> Message:
    """One message of a request."""
    message = obj(given)
    content = message.get("content")
    role = named(message.get("role")) or "user"
    thinking = message.get("thinking") or message.get("reasoning_content")
    parts = [Part(type="reasoning", content=thinking)] if isinstance(thinking, str) else []
    if role == "tool":
        blocks = [block_part(block) for block in array(content)]
        text = "\n".join(part.content for part in blocks if part is not None and part.content) or as_text(content)
        call = named(message.get("tool_call_id"))
        parts.append(Part(type="tool_call_response", id=call, name=named(message.get("tool_name")), content=text))
    else:
        found = map(block_part, content if isinstance(content, list) else [content])
        parts.extend(part for part in found if part is not None)
    for asked in map(obj, array(message.get("tool_calls"))):
        function = obj(asked.get("function")) or asked
        arguments = function.get("arguments", function.get("parameters"))
        name = named(function.get("name"))
        parts.append(Part(type="tool_call", id=named(asked.get("id")), name=name, arguments=arguments))
    return Message(role=role, parts=tuple(parts), name=named(message.get("name")))


def plain_tools(given: Any) -> list[dict[str, Any]]:
    """Tool definitions, with or without a ``function`` around them."""
    tools = []
    for tool in map(obj, array(given)):
        function = obj(tool.get("function")) or tool
        parameters = function.get("parameters") or function.get("parameter_definitions")
        tools.append(
            {
                "name": function.get("name"),
                "description": function.get("description"),
                "parameters": parameters,
                "type": tool.get("type") or "function",
            }
        )
    return tools
