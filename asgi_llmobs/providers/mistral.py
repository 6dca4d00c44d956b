"""Mistral's own API beside the one it shares with OpenAI: conversations and agents.

Reference: https://docs.mistral.ai/api (Conversations) and https://docs.mistral.ai/agents
"""

from typing import Any

from asgi_llmobs.providers.base import Dialect, Provider, Route, Wire, route
from asgi_llmobs.providers.bodies import Chunk, answer_of, chunks, is_stream, request_of
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.failures import error_of
from asgi_llmobs.providers.openai import ROUTES
from asgi_llmobs.providers.openai_chat import CHAT, COMPLETIONS
from asgi_llmobs.providers.openai_media import MODERATIONS
from asgi_llmobs.providers.openai_messages import input_part, input_parts, role_of, tools_of
from asgi_llmobs.providers.openai_usage import openai_usage
from asgi_llmobs.providers.values import array, as_text, named, obj, rest, string
from asgi_llmobs.records import Message, Part, Reading

__all__ = ["ANY_HOST", "PROVIDERS"]

NOT_PARAMETERS = frozenset("model agent_id inputs instructions tools stream completion_args".split())


def input_entry(entry: Any) -> Message:
    """One entry of a conversation: a message, a tool call, its result."""
    entry = obj(entry)
    kind = string(entry.get("type"))
    if kind == "function.result":
        result = as_text(entry.get("result"))
        part = Part(type="tool_call_response", id=named(entry.get("tool_call_id")), content=result)
        return Message(role="tool", parts=(part,))
    if kind == "function.call":
        part = Part(
            type="tool_call",
            id=named(entry.get("tool_call_id")),
            name=named(entry.get("name")),
            arguments=entry.get("arguments"),
        )
        return Message(role="assistant", parts=(part,))
    role = "assistant" if kind == "message.output" else role_of(entry.get("role"))
    return Message(role=role, parts=tuple(input_parts(entry.get("content"))))


def conversation_request(wire: Wire, reading: Reading) -> None:
    """Fill in what the request says."""
    body = request_of(wire, reading)
    if named(body.get("instructions")):
        reading.input.append(Message(role="system", parts=(Part(type="text", content=body["instructions"]),)))
    inputs = body.get("inputs")
    if isinstance(inputs, str) and inputs:
        reading.input.append(Message(role="user", parts=(Part(type="text", content=inputs),)))
    reading.input.extend(input_entry(entry) for entry in array(inputs))
    reading.tools = tools_of(body.get("tools"))
    reading.parameters = {**rest(body, NOT_PARAMETERS), **rest(obj(body.get("completion_args")), ())}
    if named(body.get("agent_id")):
        reading.details["agent_id"] = body["agent_id"]


def take_entry(entry: dict[str, Any], key: Any, end: int, draft: Draft) -> None:
    """Take in one output entry, or the next piece of it."""
    kind = string(entry.get("type"))
    reading = draft.reading
    reading.response_model = named(entry.get("model")) or reading.response_model
    if kind.startswith("message.output"):
        content = entry.get("content")
        for item in content if isinstance(content, list) else [content]:
            for part in input_part(item):
                if part.type in ("text", "reasoning"):
                    draft.write(part.type, part.content, end)
                elif part.type == "file":
                    draft.add(part, end)
    elif kind.startswith("function.call"):
        arguments = entry.get("arguments")
        fragment = arguments if isinstance(arguments, str) else None
        draft.call(
            key,
            end,
            id=entry.get("tool_call_id"),
            name=entry.get("name"),
            fragment=fragment,
            arguments=None if fragment is not None else arguments,
        )
    elif kind in ("tool.execution", "tool.execution.started"):
        reading.server_tools.append(named(entry.get("name")) or kind)


def take_event(chunk: Chunk, draft: Draft) -> dict[str, Any]:
    """Take in one event of a stream; the usage that it holds."""
    reading, data = draft.reading, chunk.data
    kind = named(data.get("type")) or chunk.type
    reading.response_id = named(data.get("conversation_id")) or reading.response_id
    if kind == "conversation.response.error" or data.get("error"):
        reading.error = error_of(data if data.get("error") else {**data, "type": None})
        reading.ended = True
    elif kind == "conversation.response.done" or kind == "[DONE]":
        reading.ended = True
    else:
        take_entry(data, (data.get("output_index"), named(data.get("tool_call_id"))), chunk.end, draft)
    return obj(data.get("usage"))


def read_conversation(wire: Wire, reading: Reading) -> None:
    """Starting, continuing and restarting a conversation."""
    conversation_request(wire, reading)
    draft = Draft(reading)
    usage: dict[str, Any] = {}
    if is_stream(reading):
        reading.ended = False
        for chunk in chunks(wire, reading):
            usage = take_event(chunk, draft) or usage
    else:
        answer = answer_of(wire, reading)
        reading.response_id = named(answer.get("conversation_id"))
        for place, entry in enumerate(array(answer.get("outputs"))):
            take_entry(obj(entry), place, len(wire.response_body), draft)
        usage = obj(answer.get("usage"))
    if usage:
        reading.usage = openai_usage(usage, reading)
    draft.publish()


CONVERSATION = Dialect("mistral.conversations", "chat", read_conversation)

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="mistral",
        otel="mistral_ai",
        label="Mistral AI",
        hosts=(r"(api|codestral)\.mistral\.ai",),
        routes=(
            route("POST", r"/v1/conversations(/[^/]+(/restart)?)?$", CONVERSATION),
            route("POST", r"/fim/completions/?$", COMPLETIONS),
            route("POST", r"/agents/completions/?$", CHAT),
            route("POST", r"/(chat/)?(moderations|classifications)/?$", MODERATIONS),
            *ROUTES,
        ),
    ),
)

ANY_HOST: tuple[Route, ...] = ()
