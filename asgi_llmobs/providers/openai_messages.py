"""The request's side of OpenAI's chat: messages, content parts, tools, parameters."""

from typing import Any

from asgi_llmobs.providers.base import Wire
from asgi_llmobs.providers.bodies import request_of
from asgi_llmobs.providers.values import array, as_text, blob, link, named, obj, rest, string
from asgi_llmobs.records import Message, Part, Reading

__all__ = ["chat_request", "input_part", "input_parts", "path_model", "role_of", "text_of", "tools_of"]

ROLES = {"developer": "system", "function": "tool", "model": "assistant", "human": "user", "ai": "assistant"}
# what stands before and after the model in a path
PATH_MODELS = (
    ("/deployments/", "/"),
    ("/engines/", "/"),
    ("/serving-endpoints/", "/invocations"),
    ("/ai/run/", ""),
    ("/hf-inference/models/", "/v1/"),
    ("/workers-ai/@", "/v1/"),
)
NOT_PARAMETERS = frozenset("model messages tools functions prompt user stream".split())


def role_of(value: Any) -> str:
    """The role in our four words; one that we do not know stays as it is."""
    role = named(value) or "user"
    return ROLES.get(role, role)


def text_of(value: Any) -> str:
    """All text in a string, or in nested lists of blocks: ``[{"type": "text", "text": "…"}]``."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return string(value.get("text")) or string(value.get("content"))
    return "".join(text_of(item) for item in array(value) if not isinstance(item, list))


def input_parts(content: Any) -> list[Part]:
    """The parts of a message's content: a string, or a list of parts."""
    if content is None:
        return []
    return [part for item in (content if isinstance(content, list) else [content]) for part in input_part(item)]


def input_part(item: Any) -> list[Part]:
    """One content part of a chat message or of a Responses message."""
    if isinstance(item, str):
        return [Part(type="text", content=item)]
    item = obj(item)
    kind = string(item.get("type"))
    if kind in ("text", "input_text", "output_text", "summary_text") or (not kind and "text" in item):
        return [Part(type="text", content=string(item.get("text")))]
    if kind == "refusal":
        return [Part(type="refusal", content=string(item.get("refusal")))]
    if kind in ("thinking", "reasoning", "reasoning_text"):
        content = item.get("thinking") or item.get("text") or item.get("summary")
        return [Part(type="reasoning", content=text_of(content))]
    return [media_part(item, kind)]


def media_part(item: dict[str, Any], kind: str) -> Part:
    """An image, audio, video or file part: an address, a file's id, or base64 by its size and hash."""
    for key, modality in (
        ("image_url", "image"),
        ("video_url", "video"),
        ("audio_url", "audio"),
        ("document_url", "file"),
        ("file_url", "file"),
    ):
        if item.get(key):
            return link(item[key] if isinstance(item[key], str) else obj(item[key]).get("url"), modality)
    audio = obj(item.get("input_audio") or item.get("audio"))
    if audio.get("data"):
        return blob(audio["data"], f"audio/{named(audio.get('format')) or 'unknown'}", "audio")
    file = obj(item.get("file")) or item
    if file.get("file_data"):
        data = string(file["file_data"])
        return link(data, "file") if data.startswith("data:") else blob(data, None, "file")
    if file.get("file_id") or audio.get("id"):
        return Part(
            type="file",
            id=named(file.get("file_id")) or named(audio.get("id")),
            modality="image" if "image" in kind else "audio" if audio else "file",
        )
    return Part(type=kind or "unknown", content=as_text(item.get("content")))


def call_part(call: Any) -> Part:
    """A tool call that an earlier answer made."""
    call = obj(call)
    function = obj(call.get("function")) or obj(call.get("custom")) or call
    arguments = function.get("arguments", function.get("input"))
    return Part(type="tool_call", id=named(call.get("id")), name=named(function.get("name")), arguments=arguments)


def input_message(message: Any) -> Message:
    """One message of a request."""
    if isinstance(message, str):
        return Message(role="user", parts=(Part(type="text", content=message),))
    message = obj(message)
    role = role_of(message.get("role"))
    content = message.get("content")
    if len(message) == 2 and "role" in message and type(content) is str and role != "tool":
        return Message(role=role, parts=(Part(type="text", content=content),))
    name = named(message.get("name"))
    if role == "tool":
        answered = named(message.get("tool_call_id"))
        part = Part(type="tool_call_response", id=answered, name=name, content=as_text(content))
        return Message(role=role, parts=(part,), name=name)
    parts: list[Part] = []
    reasoning = named(message.get("reasoning_content")) or named(message.get("reasoning"))
    if reasoning:
        parts.append(Part(type="reasoning", content=reasoning))
    parts.extend(input_parts(content))
    if named(message.get("refusal")):
        parts.append(Part(type="refusal", content=message["refusal"]))
    if obj(message.get("audio")).get("id"):
        parts.append(Part(type="file", id=named(message["audio"]["id"]), modality="audio"))
    parts.extend(call_part(call) for call in array(message.get("tool_calls")))
    if message.get("function_call"):
        parts.append(call_part(message["function_call"]))
    return Message(role=role, parts=tuple(parts), name=name)


def tools_of(value: Any) -> list[dict[str, Any]]:
    """Definitions of tools as ``{name, description, parameters, type}``."""
    tools = []
    for tool in map(obj, array(value)):
        kind = named(tool.get("type"))
        inner = obj(tool.get("function")) or obj(tool.get("custom")) or tool
        tools.append(
            {
                "name": named(inner.get("name")) or named(tool.get("server_label")) or kind,
                "description": inner.get("description"),
                "parameters": inner.get("parameters", inner.get("input_schema", inner.get("format"))),
                "type": kind or "function",
            }
        )
    return tools


def path_model(path: str) -> str | None:
    """The model that a path names, as those of Azure, Databricks, Hugging Face and Cloudflare do."""
    for mark, end in PATH_MODELS:
        _, found, tail = path.partition(mark)
        if found:
            model = tail.partition(end)[0] if end else tail
            return ("@" + model if mark.endswith("@") else model) or None
    return None


def chat_request(wire: Wire, reading: Reading) -> dict[str, Any]:
    """Fill in what the request of a chat or text completion says; its body."""
    body = request_of(wire, reading)
    reading.request_model = reading.request_model or path_model(wire.path)
    reading.input.extend(input_message(message) for message in array(body.get("messages")))
    if "messages" not in body:
        prompt_of(body.get("prompt"), reading)
    reading.tools = tools_of(body.get("tools")) or tools_of(body.get("functions"))
    reading.user = named(body.get("user"))
    reading.parameters = rest(body, NOT_PARAMETERS)
    return body


def prompt_of(prompt: Any, reading: Reading) -> None:
    """The prompt of a text completion: one or several texts, or token ids, of which only the number is kept."""
    if isinstance(prompt, str):
        reading.input.append(Message(role="user", parts=(Part(type="text", content=prompt),)))
    for item in array(prompt):
        if isinstance(item, str):
            reading.input.append(Message(role="user", parts=(Part(type="text", content=item),)))
    ids = [item for item in array(prompt) if isinstance(item, int)]
    ids += [token for item in array(prompt) for token in array(item)]
    if ids:
        reading.details["prompt_token_ids"] = len(ids)
