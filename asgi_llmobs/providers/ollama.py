"""Ollama's own API: chat, generation and embeddings, whole or as JSON lines.

Reference: https://docs.ollama.com/api. It streams unless the request says otherwise.
"""

from typing import Any

from asgi_llmobs.providers.base import Dialect, Provider, Route, Wire, route
from asgi_llmobs.providers.bodies import answer_of, chunks, is_stream, request_of
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.messages import plain_message, plain_tools
from asgi_llmobs.providers.values import array, as_text, blob, count, named, obj, rest
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["ANY_HOST", "PROVIDERS"]

NOT_PARAMETERS = frozenset("model messages prompt suffix system images input tools stream context options".split())
DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def images_of(given: Any) -> tuple[Part, ...]:
    """Images by reference."""
    return tuple(blob(image, None, "image") for image in array(given))


def request_side(wire: Wire, reading: Reading) -> None:
    """Fill in what a request says."""
    body = request_of(wire, reading)
    reading.stream_requested = bool(body) and body.get("stream") is not False and "/api/embed" not in wire.path
    if named(body.get("system")):
        reading.input.append(Message(role="system", parts=(Part(type="text", content=body["system"]),)))
    for item in array(body.get("messages")):
        message = plain_message(item)
        parts = (*message.parts, *images_of(obj(item).get("images")))
        reading.input.append(Message(role=message.role, parts=parts, name=message.name))
    given = body.get("input")
    for text in [body.get("prompt"), *(given if isinstance(given, list) else [given])]:
        if named(text):
            parts = (Part(type="text", content=text), *images_of(body.get("images")))
            reading.input.append(Message(role="user", parts=parts))
    reading.tools = plain_tools(body.get("tools"))
    reading.parameters = {**rest(body, NOT_PARAMETERS), **rest(obj(body.get("options")), ())}


def take(data: dict[str, Any], end: int, draft: Draft, reading: Reading) -> None:
    """Take in an answer or the next line of it."""
    message = obj(data.get("message")) or {"content": data.get("response"), "thinking": data.get("thinking")}
    reading.response_model = named(data.get("model")) or reading.response_model
    draft.write("reasoning", message.get("thinking"), end)
    draft.write("text", message.get("content"), end)
    for call in map(obj, array(message.get("tool_calls"))):
        function = obj(call.get("function"))
        # one line holds whole calls; their index, where there is one, starts anew in each line
        key = len(draft.by_key)
        draft.call(key, end, id=call.get("id"), name=function.get("name"), arguments=function.get("arguments"))
    picture = data.get("image")
    if isinstance(picture, str) and picture:
        draft.add(blob(picture, None, "image"), end)
    if data.get("done") is True:
        draft.finish_reason = named(data.get("done_reason"))
        reading.ended = True
        reading.usage = ollama_usage(data, reading)
    if data.get("error"):
        if not reading.error:
            reading.error = {"type": None, "code": None, "message": as_text(data["error"])}
        reading.ended = True


def ollama_usage(data: dict[str, Any], reading: Reading) -> Usage | None:
    """Tokens of the last object; a prompt that was cached whole has no count."""
    prompt, output = (count(data.get(name), reading, name) for name in ("prompt_eval_count", "eval_count"))
    reading.details.update({name: data[name] for name in DURATIONS if isinstance(data.get(name), int)})
    if prompt is None and output is None:
        return None
    reading.usage_raw = {name: data[name] for name in ("prompt_eval_count", "eval_count") if name in data}
    return Usage(input_tokens=prompt, output_tokens=output, input_raw=prompt, output_raw=output)


def read_answer(wire: Wire, reading: Reading) -> None:
    """``/api/chat`` and ``/api/generate``."""
    request_side(wire, reading)
    draft = Draft(reading)
    if is_stream(reading):
        reading.ended = False
        for event in chunks(wire, reading):
            take(event.data, event.end, draft, reading)
    else:
        take(answer_of(wire, reading), len(wire.response_body), draft, reading)
    draft.publish()


def read_embed(wire: Wire, reading: Reading) -> None:
    """``/api/embed`` and the older ``/api/embeddings``."""
    request_side(wire, reading)
    answer = answer_of(wire, reading)
    reading.response_model = named(answer.get("model"))
    vector = next(iter(array(answer.get("embeddings"))), answer.get("embedding"))
    reading.details.update(input_count=len(reading.input), dimensions=len(array(vector)) or None)
    reading.usage = ollama_usage(answer, reading)


CHAT = Dialect("ollama.chat", "chat", read_answer)
GENERATE = Dialect("ollama.generate", "text_completion", read_answer)
EMBED = Dialect("ollama.embed", "embeddings", read_embed)

ANY_HOST: tuple[Route, ...] = (
    route("POST", r"/api/chat$", CHAT),
    route("POST", r"/api/generate$", GENERATE),
    route("POST", r"/api/(embed|embeddings)$", EMBED),
)

PROVIDERS: tuple[Provider, ...] = (
    Provider(name="ollama", label="Ollama", hosts=(r"(www\.|api\.)?ollama\.com", r".+:11434"), routes=ANY_HOST),
)
