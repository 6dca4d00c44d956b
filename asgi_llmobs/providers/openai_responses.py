"""OpenAI's Responses, and the services that copy it (Azure, xAI, OpenRouter, Groq, vLLM, LM Studio …).

Reference: https://platform.openai.com/docs/api-reference/responses and …/responses-streaming
"""

from typing import Any

from asgi_llmobs.providers.base import Dialect, Wire
from asgi_llmobs.providers.bodies import Chunk, answer_of, chunks, is_stream, request_of
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.failures import error_of
from asgi_llmobs.providers.openai_messages import input_parts, path_model, role_of, text_of, tools_of
from asgi_llmobs.providers.openai_usage import openai_usage
from asgi_llmobs.providers.values import array, as_text, blob, count, named, obj, rest, string
from asgi_llmobs.records import Message, Part, Reading

__all__ = ["COUNT_TOKENS", "RESPONSES", "input_message", "read_responses"]

NOT_PARAMETERS = frozenset("model input instructions tools user stream".split())
TERMINAL = frozenset(("response.completed", "response.incomplete", "response.failed", "response.cancelled"))
CLIENT_CALLS = frozenset(("computer_call", "local_shell_call", "shell_call", "apply_patch_call"))
CALL_FIELDS = ("arguments", "input", "action", "operation", "actions")
# events that bring the next piece of an item: the field of the item it belongs to, and the kind of the piece
DELTAS = {
    "response.output_text.delta": ("content", "output_text"),
    "response.refusal.delta": ("content", "refusal"),
    "response.reasoning_text.delta": ("content", "reasoning_text"),
    "response.reasoning.delta": ("content", "reasoning_text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_text"),
    "response.reasoning_summary.delta": ("summary", "summary_text"),
    "response.audio.transcript.delta": ("content", "output_text"),
    "response.function_call_arguments.delta": ("arguments", "function_call"),
    "response.mcp_call_arguments.delta": ("arguments", "mcp_call"),
    "response.mcp_call.arguments.delta": ("arguments", "mcp_call"),
    "response.custom_tool_call_input.delta": ("input", "custom_tool_call"),
}


def input_message(item: Any) -> Message:
    """One input item: a message, an earlier call, its result, earlier reasoning."""
    if isinstance(item, str):
        return Message(role="user", parts=(Part(type="text", content=item),))
    item = obj(item)
    kind = string(item.get("type"))
    identity = named(item.get("call_id")) or named(item.get("id"))
    if kind in ("", "message") or ("role" in item and "content" in item):
        return Message(role=role_of(item.get("role")), parts=tuple(input_parts(item.get("content"))))
    if kind.endswith("_output"):
        output = item.get("output")
        media = [part for part in input_parts(array(output)) if part.type in ("uri", "blob")]
        response = Part(type="tool_call_response", id=identity, content=as_text(output))
        return Message(role="tool", parts=(response, *media))
    if kind == "reasoning":
        return Message(role="assistant", parts=(Part(type="reasoning", content=reasoning_of(item)),))
    if kind.endswith("_call"):
        arguments = next((item[name] for name in CALL_FIELDS if item.get(name) is not None), None)
        name = named(item.get("name")) or kind
        return Message(role="assistant", parts=(Part(type="tool_call", id=identity, name=name, arguments=arguments),))
    return Message(role=role_of(item.get("role")), parts=(Part(type=kind, id=identity),))


def reasoning_of(item: dict[str, Any]) -> str:
    """The text of a reasoning item: its content where that is given, else its summary."""
    return text_of(item.get("content")) or "\n\n".join(filter(None, map(text_of, array(item.get("summary")))))


def responses_request(wire: Wire, reading: Reading) -> dict[str, Any]:
    """Fill in what the request says; its body."""
    body = request_of(wire, reading)
    reading.request_model = reading.request_model or path_model(wire.path)
    if body.get("instructions"):
        instructions = body["instructions"]
        if isinstance(instructions, str):
            reading.input.append(Message(role="system", parts=(Part(type="text", content=instructions),)))
        else:
            reading.input.extend(input_message(item) for item in array(instructions))
    given = body.get("input")
    items = given if isinstance(given, list) else [given] if isinstance(given, str) and given else []
    reading.input.extend(input_message(item) for item in items)
    reading.tools = tools_of(body.get("tools"))
    reading.user = named(body.get("user")) or named(body.get("safety_identifier"))
    reading.parameters = rest(body, NOT_PARAMETERS)
    return body


def take_item(item: dict[str, Any], draft: Draft, end: int, answered: frozenset[Any]) -> None:
    """Take in one output item; *answered* are the calls whose result the answer itself holds."""
    kind = string(item.get("type"))
    if kind in ("message", "") and item.get("content"):
        for part in map(obj, array(item["content"])):
            draft.write("text", part.get("text") or part.get("transcript"), end)
            draft.write("refusal", part.get("refusal"), end)
    elif kind == "reasoning":
        draft.write("reasoning", reasoning_of(item), end)
    elif kind in ("function_call", "custom_tool_call"):
        take_call(item, draft, end, named(item.get("name")))
    elif is_for_the_app(item, kind) and named(item.get("call_id")) not in answered:
        take_call(item, draft, end, kind)
    elif kind.endswith("_call") or kind == "mcp_list_tools":
        draft.reading.server_tools.append(kind)
        draft.seen(end)
        if named(item.get("result")) and kind == "image_generation_call":
            mime_type = f"image/{named(item.get('output_format')) or 'png'}"
            draft.add(blob(item["result"], mime_type, "image"), end)


def is_for_the_app(item: dict[str, Any], kind: str) -> bool:
    """Whether a call of a built-in tool is for the app to run."""
    return kind in CLIENT_CALLS or (kind == "tool_search_call" and item.get("execution") == "client")


def take_call(item: dict[str, Any], draft: Draft, end: int, name: str | None) -> None:
    """A tool call that the app must run."""
    arguments = next((item[field] for field in CALL_FIELDS if item.get(field) is not None), None)
    identity = named(item.get("call_id")) or named(item.get("id"))
    fragment = arguments if isinstance(arguments, str) else None
    draft.call(
        object(), end, id=identity, name=name, fragment=fragment, arguments=arguments if fragment is None else None
    )


class Items:
    """The output items of a stream while they arrive, by their place in the output."""

    def __init__(self) -> None:
        self.items: dict[Any, dict[str, Any]] = {}
        self.pieces: dict[Any, dict[tuple[str, str, Any], list[str]]] = {}
        self.done: set[Any] = set()

    def delta(self, data: dict[str, Any], field: str, kind: str) -> bool:
        """Take in the next piece of an item; whether it holds anything."""
        piece = data.get("delta")
        text = piece if isinstance(piece, str) else text_of(piece)
        if not text:
            return False
        index = data.get("content_index", data.get("summary_index", 0))
        place = field, kind, index if isinstance(index, int) else 0
        self.pieces.setdefault(key_of(data), {}).setdefault(place, []).append(text)
        return True

    def item(self, data: dict[str, Any], *, done: bool) -> bool:
        """Take in an item that begins or is whole; whether it holds content."""
        item = obj(data.get("item"))
        key = key_of(data)
        self.items[key] = item
        if done:
            self.done.add(key)
        texts = (*array(item.get("content")), *array(item.get("summary")))
        return bool(named(item.get("name")) or any(text_of(part) or obj(part).get("refusal") for part in texts))

    def whole(self) -> list[dict[str, Any]]:
        """All items, those that did not end put together from their pieces."""
        keys = {**self.items, **self.pieces}
        return [self.items[key] if key in self.done else self.grown(key) for key in sorted(keys, key=str_key)]

    def grown(self, key: Any) -> dict[str, Any]:
        began = self.items.get(key) or {}
        item = dict(began)
        for (field, kind, _), texts in self.pieces.get(key, {}).items():
            text = "".join(texts)
            if field in ("content", "summary"):
                item.setdefault("type", "message" if kind in ("output_text", "refusal") else "reasoning")
                part = {"type": kind, "refusal" if kind == "refusal" else "text": text}
                item[field] = item[field] if text_of(began.get(field)) else [*array(item.get(field)), part]
            else:
                item.setdefault("type", kind)
                item[field] = text
        return item


def key_of(data: dict[str, Any]) -> Any:
    """Where in the output an event belongs."""
    index = data.get("output_index")
    return index if isinstance(index, int) else named(data.get("item_id")) or 0


def str_key(key: Any) -> tuple[int, str]:
    return (key, "") if isinstance(key, int) else (1 << 30, str(key))


class Answer:
    """A response object, whole or from a stream's events."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.draft = Draft(reading)
        self.response: dict[str, Any] = {}
        self.items = Items()

    def take(self, response: Any) -> None:
        """Take in a response object; a later one replaces what an earlier one said."""
        response = obj(response)
        reading = self.reading
        self.response.update((key, value) for key, value in response.items() if value is not None)
        reading.response_id = named(response.get("id")) or reading.response_id
        reading.response_model = named(response.get("model")) or reading.response_model
        reading.service_tier = named(response.get("service_tier")) or reading.service_tier

    def event(self, chunk: Chunk) -> None:
        """Take in one event of a stream."""
        data = chunk.data
        kind = named(data.get("type")) or chunk.type
        filled = False
        if kind in DELTAS:
            filled = self.items.delta(data, *DELTAS[kind])
        elif kind in ("response.output_item.added", "response.output_item.done"):
            filled = self.items.item(data, done=kind.endswith("done"))
        elif kind == "error" or (data.get("error") and "response" not in data):
            self.reading.error = error_of(data if data.get("error") else {**data, "type": None})
            self.reading.ended = True
        elif "response" in data:
            self.take(data["response"])
        elif data.get("object") == "response":
            self.take(data)
        if kind in TERMINAL or kind == "[DONE]":
            self.reading.ended = True
        if filled:
            self.draft.seen(chunk.end)

    def publish(self, end: int) -> None:
        """Put everything into the reading."""
        reading, response = self.reading, self.response
        output = array(response.get("output")) or self.items.whole()
        items = [obj(item) for item in output]
        answered = frozenset(
            named(item.get("call_id")) for item in items if string(item.get("type")).endswith("_output")
        )
        for item in items:
            take_item(item, self.draft, end, answered)
        status = named(response.get("status"))
        if status == "incomplete":
            status = named(obj(response.get("incomplete_details")).get("reason")) or status
        if status is not None and (reading.ended or status != "in_progress"):
            self.draft.finish_reason = status
        if response.get("error"):
            reading.error = reading.error or error_of({"error": response["error"]})
        usage = obj(response.get("usage"))
        if usage:
            reading.usage = openai_usage(usage, reading)
        self.draft.publish()


def read_responses(wire: Wire, reading: Reading) -> None:
    """The Responses API."""
    responses_request(wire, reading)
    answer = Answer(reading)
    if is_stream(reading):
        reading.ended = False
        end = len(wire.response_body)
        for chunk in chunks(wire, reading):
            answer.event(chunk)
            end = chunk.end
        answer.publish(end)
        return
    data = answer_of(wire, reading)
    if reading.error is None or "output" in data:
        answer.take(data)
    answer.publish(len(wire.response_body))


def read_count_tokens(wire: Wire, reading: Reading) -> None:
    """Counting the tokens of a request without running it; the answer is no usage."""
    responses_request(wire, reading)
    counted = count(answer_of(wire, reading).get("input_tokens"), reading, "input_tokens")
    if counted is not None:
        reading.details["token_count"] = counted
        reading.notes.append("token count answer, not usage")


RESPONSES = Dialect("openai.responses", "chat", read_responses)
COUNT_TOKENS = Dialect("openai.count_tokens", "count_tokens", read_count_tokens)
