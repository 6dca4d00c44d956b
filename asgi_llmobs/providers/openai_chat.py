"""OpenAI's Chat Completions and Completions, and every service that copies them.

Reference: https://platform.openai.com/docs/api-reference/chat and …/completions. The copies differ in where they put
reasoning, usage and errors; each place is named where it is read.
"""

import json
from collections.abc import Hashable
from typing import Any

from asgi_llmobs.providers.base import Dialect, Wire
from asgi_llmobs.providers.bodies import Pieces, answer_of, chunks, is_stream
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.failures import error_of
from asgi_llmobs.providers.framing import parse_json
from asgi_llmobs.providers.openai_messages import chat_request, input_part, text_of
from asgi_llmobs.providers.openai_usage import openai_usage
from asgi_llmobs.providers.values import array, blob, named, obj, string
from asgi_llmobs.records import Part, Reading

__all__ = ["CHAT", "COMPLETIONS", "read_chat"]

REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
# all members that a chunk may have which adds nothing but text, those of its only choice, and those of its delta
ENVELOPE = ("id", "model", "service_tier", "system_fingerprint")
TEXT_CHUNK = frozenset((*ENVELOPE, "object", "created", "choices", "usage", "obfuscation"))
TEXT_CHOICE = frozenset(("index", "delta", "finish_reason", "logprobs"))
TEXT_DELTA = frozenset(("role", "content"))
DETAIL_FIELDS = ("system_fingerprint", "citations", "search_results", "finish_details", "native_finish_reason")


class CallPlaces:
    """Which tool call a fragment belongs to: index, id or both may be missing, repeated or wrong."""

    def __init__(self) -> None:
        self.ids: list[str | None] = []  # of each call, in the order in which they began
        self.names: list[str | None] = []
        self.indexes: dict[int, int] = {}  # the call that is open under each index
        self.places: dict[str, int] = {}  # of the calls whose id is known

    def place(self, index: Any, identity: str | None, name: str | None) -> int:
        """The place of the call that a fragment with these three belongs to."""
        given = index if isinstance(index, int) and not isinstance(index, bool) else None
        found = self.find(given, identity, name)
        if found is None:
            found = self.begin(given)
        if identity is not None and self.ids[found] is None:
            self.ids[found] = identity
            self.places[identity] = found
        self.names[found] = self.names[found] or name
        if given is not None:
            self.indexes[given] = found
        return found

    def begin(self, index: Any) -> int:
        """The place of a new call."""
        self.ids.append(None)
        self.names.append(None)
        if type(index) is int:
            self.indexes[index] = len(self.ids) - 1
        return len(self.ids) - 1

    def find(self, index: int | None, identity: str | None, name: str | None) -> int | None:
        """The place of a call that has begun, ``None`` where a new one begins."""
        if identity in self.places:
            found = self.places[identity]
            other = name is not None and self.names[found] not in (None, name)
            return None if other and index is not None and index not in self.indexes else found
        last = len(self.ids) - 1 if self.ids else None
        known = self.indexes.get(index) if index is not None else last
        if known is None:
            return last if identity is None and name is None else None
        if name is None:  # an id that changes with every fragment says nothing where an index does
            return known if identity is None or index is not None or self.ids[known] is None else None
        same = self.names[known] in (None, name) and (identity is None or self.ids[known] is None)
        return known if same and (index is not None or self.names[known] is None) else None


class Choice:
    """One choice of an answer while it is put together."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.draft = Draft(reading)
        self.audio: list[str] = []
        self.calls = CallPlaces()

    def take(self, choice: dict[str, Any], end: int) -> None:
        """Take in a whole choice or the next piece of it."""
        whole, piece = obj(choice.get("message")), obj(choice.get("delta"))
        if not is_stream(self.reading):  # Perplexity has an empty delta beside the message
            self.message(whole or piece, choice, end)
        else:
            self.message(piece, choice, end)
            if whole and not self.draft.blocks:  # a service that streams no deltas, or all in one event
                self.message(whole, choice, end)
        self.finish(choice)

    def message(self, piece: dict[str, Any], choice: dict[str, Any], end: int) -> None:
        """Take in a message or the next piece of it."""
        self.reasoning(piece, end)
        self.content(piece.get("content"), end)
        if not isinstance(piece.get("content"), str):  # Together gives the same text in both places
            self.draft.write("text", choice.get("text"), end)
        self.draft.write("refusal", piece.get("refusal"), end)
        self.sound(obj(piece.get("audio")), end)
        for image in array(piece.get("images")):
            for part in input_part(image):
                self.draft.add(part, end)
        calls = piece.get("tool_calls")
        for call in calls if isinstance(calls, list) else [calls]:
            self.tool_call(obj(call), end)
        self.listed_calls(array(piece.get("content_list")), end)
        function = obj(piece.get("function_call"))
        if function:
            self.call("function_call", function, None, end)
        if piece.get("type") == "tool_use":  # Snowflake's inference:complete
            self.tool_call({"id": piece.get("tool_use_id"), "function": piece}, end)

    def listed_calls(self, items: list[Any], end: int) -> None:
        """Tool calls of a whole answer of Snowflake, which stand beside the text in a list of contents."""
        for use in (obj(obj(item).get("tool_use")) for item in items):
            if use:
                self.tool_call({"id": use.get("tool_use_id"), "function": use}, end)

    def finish(self, choice: dict[str, Any]) -> None:
        reason = choice.get("finish_reason")
        if reason is None:
            reason = obj(choice.get("finish_details")).get("type")
        if isinstance(reason, str | int) and reason != "":
            self.draft.finish_reason = reason

    def reasoning(self, piece: dict[str, Any], end: int) -> None:
        """Reasoning, which some services repeat under several names."""
        for name in REASONING_FIELDS:
            given = piece.get(name)
            text = text_of(given) if given else ""
            if text:
                self.draft.write("reasoning", text, end)
                return
        for detail in map(obj, array(piece.get("reasoning_details"))):
            self.draft.write("reasoning", detail.get("text") or detail.get("summary"), end)

    def content(self, content: Any, end: int) -> None:
        """Content as text, as a list of parts (Mistral, Databricks), or as the object that a schema asked for."""
        if isinstance(content, dict):
            self.draft.write("text", json.dumps(content, ensure_ascii=False, separators=(",", ":")), end)
            return
        self.draft.write("text", content, end)
        for item in array(content):
            for part in input_part(item):
                if part.type in ("text", "reasoning", "refusal"):
                    self.draft.write(part.type, part.content, end)
                elif part.type in ("uri", "blob", "file"):
                    self.draft.add(part, end)

    def sound(self, audio: dict[str, Any], end: int) -> None:
        """Spoken output: its transcript is the text, its data is kept by size and hash."""
        transcript = named(audio.get("transcript"))
        if transcript:
            self.draft.write("text", transcript, end)
            if "text is the audio transcript" not in self.reading.notes:
                self.reading.notes.append("text is the audio transcript")
        if named(audio.get("data")):
            self.audio.append(audio["data"])
            self.draft.seen(end)

    def tool_call(self, call: dict[str, Any], end: int) -> None:
        """A whole tool call or the next fragment of one."""
        if call:
            function = obj(call.get("function")) or obj(call.get("custom")) or call
            identity = named(call.get("id"))
            if is_stream(self.reading):
                name = named(function.get("name"))
                place = self.calls.place(call.get("index"), identity, name)
                if identity is None and name is not None and self.is_whole(place) and function.get("arguments"):
                    place = self.calls.begin(call.get("index"))  # Gemini's, whole and without a number of its own
            else:
                place = len(self.draft.by_key)  # each is whole, whatever its id says
            self.call(place, function, identity, end)

    def is_whole(self, place: int) -> bool:
        """Whether the arguments of a call are a whole object: then a name does not go on with it."""
        known = self.draft.by_key.get(("tool_call", place))
        return known is not None and isinstance(parse_json("".join(known.fragments)), dict)

    def call(self, key: Hashable, function: dict[str, Any], identity: str | None, end: int) -> None:
        arguments = function.get("arguments", function.get("input"))
        fragment = arguments if isinstance(arguments, str) else None
        whole = arguments if isinstance(arguments, dict | list) else None
        self.draft.call(key, end, id=identity, name=function.get("name"), fragment=fragment, arguments=whole)

    def publish(self, mime_type: str, *, first: bool) -> None:
        """Put the choice into the reading."""
        if self.audio:
            self.draft.blocks.insert(0, media_block(blob("".join(self.audio), mime_type, "audio"), self.draft))
        self.draft.publish(first=first)


def media_block(part: Part, draft: Draft) -> Any:
    """A block of *draft* that holds *part*."""
    draft.add(part, 0)
    return draft.blocks.pop()


class Answer:
    """All choices of an answer, with what stands beside them.

    Args:
        reading: What is filled in.
        single: Whether one choice was asked for. Some servers count tokens, not choices, in the index of a stream.
    """

    def __init__(self, reading: Reading, *, single: bool) -> None:
        self.reading = reading
        self.single = single
        self.choices: dict[int, Choice] = {}
        self.usage: dict[str, Any] = {}
        self.envelope: list[Any] = []  # of the last chunk that was taken in whole

    def choice(self, index: Any, default: int) -> Choice:
        place = index if isinstance(index, int) and not isinstance(index, bool) else default
        if place not in self.choices:
            self.choices[place] = Choice(self.reading)
        return self.choices[place]

    def goes_on(self, data: dict[str, Any], end: int) -> bool:
        """Take in a chunk that adds a piece of text to what the one before said, as nearly all of a stream do.

        Returns:
            ``False`` where it says anything else: then it is to be taken in whole.
        """
        if not adds_text(data) or self.envelope != [data.get(name) for name in ENVELOPE]:
            return False
        choice = data["choices"][0]
        index = 0 if self.single else choice.get("index")
        known = self.choices.get(index) if type(index) is int else None
        if known is None:
            return False
        known.draft.write("text", choice["delta"].get("content"), end)
        return True

    def take(self, data: dict[str, Any], end: int) -> None:
        """Take in a whole answer or one chunk of a stream."""
        data = unwrapped(data)
        reading = self.reading
        self.envelope = [data.get(name) for name in ENVELOPE]
        reading.response_id = reading.response_id or named(data.get("id"))
        reading.response_model = named(data.get("model")) or reading.response_model
        reading.service_tier = named(data.get("service_tier")) or reading.service_tier
        if named(data.get("provider")):
            reading.details["upstream_provider"] = data["provider"]
        for name in DETAIL_FIELDS:
            if data.get(name):
                reading.details[name] = data[name]
        choices = data.get("choices")
        items = choices if isinstance(choices, list) else [choices]
        for place, item in enumerate(items):
            if isinstance(item, dict):
                index = 0 if self.single and len(items) == 1 else item.get("index")
                self.choice(index, 0 if is_stream(reading) else place).take(item, end)
                self.note(item, data)
        if not choices:
            self.bare(data, end)
        groq = obj(data.get("x_groq"))
        if "prompt_tokens" in obj(groq.get("usage")):  # else it says nothing but how the cache was built
            self.count(groq["usage"])
        self.count(data.get("usage"))
        if groq.get("error"):
            reading.error = error_of({"error": groq["error"]})
            reading.ended = True

    def note(self, item: dict[str, Any], data: dict[str, Any]) -> None:
        """What else a choice may hold: usage (Moonshot), an error (OpenRouter), tools that the service ran (Groq)."""
        self.count(item.get("usage"))
        if item.get("error"):
            self.reading.error = error_of({"error": item["error"]})
        message = obj(item.get("delta")) or obj(item.get("message"))
        for tool in map(obj, array(message.get("executed_tools"))):
            if named(tool.get("type")):
                self.reading.server_tools.append(tool["type"])

    def bare(self, data: dict[str, Any], end: int) -> None:
        """Answers without choices: Workers AI's ``response``, the ``value`` that Writer streams."""
        name = next((name for name in ("response", "value") if isinstance(data.get(name), str | dict)), None)
        if name is None and not data.get("tool_calls"):
            return
        piece = {"content": data.get(name) if name else None, "tool_calls": data.get("tool_calls")}
        self.choice(0, 0).take({"delta": piece, "finish_reason": data.get("finish_reason")}, end)

    def count(self, usage: Any) -> None:
        """Keep the last usage that says anything."""
        if any(value is not None for value in obj(usage).values()):
            self.usage = usage

    def publish(self, mime_type: str) -> None:
        for place, index in enumerate(sorted(self.choices)):
            self.choices[index].publish(mime_type, first=place == 0)
        if self.usage:
            self.reading.usage = openai_usage(self.usage, self.reading)

    @property
    def finished(self) -> bool:
        """Whether every choice has its finish reason."""
        return bool(self.choices) and all(item.draft.finish_reason is not None for item in self.choices.values())


def adds_text(data: dict[str, Any]) -> bool:
    """Whether a chunk may say nothing but a piece of text, of one choice."""
    choices = data.get("choices")
    if type(choices) is not list or len(choices) != 1 or data.get("usage") or not TEXT_CHUNK.issuperset(data):
        return False
    choice = choices[0]
    if type(choice) is not dict or choice.get("finish_reason") is not None or not TEXT_CHOICE.issuperset(choice):
        return False
    piece = choice.get("delta")
    if type(piece) is not dict or not TEXT_DELTA.issuperset(piece):
        return False
    text = piece.get("content")
    return text is None or type(text) is str


TEXT = Pieces.of(adds_text, "content")


def unwrapped(data: dict[str, Any]) -> dict[str, Any]:
    """What is inside Cloudflare's ``{"result": …, "success": …, "errors": […]}``."""
    result = data.get("result")
    if "choices" in data or not isinstance(result, dict | str) or not ("success" in data or "errors" in data):
        return data
    return result if isinstance(result, dict) else {"response": result}


def read_chat(wire: Wire, reading: Reading) -> None:
    """A chat or text completion: its request, and the answer whole or as server-sent events."""
    body = chat_request(wire, reading)
    prompts = [item for item in array(body.get("prompt")) if not isinstance(item, int)]
    answer = Answer(reading, single=body.get("n") in (None, 1) and len(prompts) < 2)
    if is_stream(reading):
        reading.ended = False
        for chunk in chunks(wire, reading, TEXT):
            if chunk.type == "[DONE]":
                reading.ended = True
            elif chunk.type == "error" or chunk.data.get("error"):
                reading.error = error_of(chunk.data)
                reading.ended = True
            elif answer.goes_on(chunk.data, chunk.end):
                continue
            answer.take(chunk.data, chunk.end)
        reading.ended = reading.ended or answer.finished
    else:
        answer.take(answer_of(wire, reading), len(wire.response_body))
    answer.publish(f"audio/{string(obj(body.get('audio')).get('format')) or 'unknown'}")


CHAT = Dialect("openai.chat", "chat", read_chat)
COMPLETIONS = Dialect("openai.completions", "text_completion", read_chat)
