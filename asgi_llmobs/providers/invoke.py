"""Amazon Bedrock's InvokeModel: the bodies are in the shape of whoever made the model, and are told apart by shape.

Reference: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
"""

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from asgi_llmobs.providers.anthropic import anthropic_message, anthropic_request, anthropic_stream
from asgi_llmobs.providers.base import Wire
from asgi_llmobs.providers.bodies import Chunk, answer_of, chunks, is_stream
from asgi_llmobs.providers.converse import aws_error, converse_answer, converse_events, converse_request
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.framing import parse_json
from asgi_llmobs.providers.messages import plain_message, plain_tools
from asgi_llmobs.providers.openai_usage import openai_usage
from asgi_llmobs.providers.values import array, as_text, blob, count, link, named, obj, plus, rest, string, warn
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["read_invoke", "request_side"]

METRICS = "amazon-bedrock-invocationMetrics"
NOVA_EVENTS = ("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata")
NOT_PARAMETERS = frozenset(
    "messages prompt message inputText texts inputs query documents images inputImage system tools model stream"
    " chat_history textGenerationConfig text_prompts taskType textToImageParams imageGenerationConfig preamble".split()
)
COUNTS = (  # by model maker: the keys of input and output
    ("inputTextTokenCount", "totalOutputTextTokenCount"),
    ("prompt_token_count", "generation_token_count"),
    ("prompt_tokens", "completion_tokens"),
    ("input_tokens", "output_tokens"),
)


def request_side(body: dict[str, Any], reading: Reading) -> None:
    """Fill in what a request says, whoever made the model."""
    first = obj(next(iter(array(body.get("messages"))), None))
    if "anthropic_version" in body:
        anthropic_request(body, reading)
        return
    content = obj(next(iter(array(first.get("content"))), None))
    if "inferenceConfig" in body or "schemaVersion" in body or (content and "type" not in content):
        converse_request(body, reading)
        return
    for message in map(obj, array(body.get("messages"))):
        reading.input.append(plain_message(message))
    for turn in map(obj, array(body.get("chat_history"))):
        role = "assistant" if turn.get("role") == "CHATBOT" else string(turn.get("role")).lower() or "user"
        reading.input.append(Message(role=role, parts=(Part(type="text", content=as_text(turn.get("message"))),)))
    texts = [body.get(name) for name in ("prompt", "message", "inputText", "query")]
    texts += array(body.get("texts")) + [obj(item).get("text") for item in array(body.get("text_prompts"))]
    texts.append(obj(body.get("textToImageParams")).get("text"))
    for text in texts:
        if isinstance(text, str) and text:
            reading.input.append(Message(role="user", parts=(Part(type="text", content=text),)))
    pictures = [body.get("inputImage"), body.get("image"), *array(body.get("images"))]
    parts = tuple(
        link(item) if item.startswith("data:") else blob(item, None, "image")
        for item in pictures
        if isinstance(item, str) and item
    )
    if parts:
        reading.input.append(Message(role="user", parts=parts))
    reading.tools = plain_tools(body.get("tools"))
    reading.parameters = {
        **rest(body, NOT_PARAMETERS | {"image"}),
        **rest(obj(body.get("textGenerationConfig")), ()),
        **rest(obj(body.get("imageGenerationConfig")), ()),
    }


class Answer:
    """An answer in any of the makers' shapes, from one object or the objects of a stream."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.drafts: dict[int, Draft] = {}
        self.counts: dict[str, int] = {}
        self.usage: dict[str, Any] = {}  # in OpenAI's shape

    def draft(self, item: dict[str, Any], place: int = 0) -> Draft:
        """The choice that *item* belongs to."""
        index = item.get("index")
        key = int(index) if isinstance(index, int | float) and index == index and abs(index) < 1000 else place
        return self.drafts.setdefault(key, Draft(self.reading))

    def take(self, data: dict[str, Any], end: int) -> None:
        """Take in one object that ends at *end*."""
        reading = self.reading
        if isinstance(data.get("response"), dict) and data.get("event_type"):
            data = {**rest(data["response"], ("text", "chat_history")), **rest(data, ("response",))}
        reading.response_id = named(data.get("response_id")) or named(data.get("id")) or reading.response_id
        reading.response_model = named(data.get("model")) or reading.response_model
        self.count(data)
        usage = obj(data.get("usage"))
        self.count(usage)
        if usage.get("prompt_tokens") is not None:
            self.usage = usage
        for key in ("outputText", "generation", "completion", "text", "message"):
            if isinstance(data.get(key), str):
                self.piece(data, data[key], end)
                break
        else:
            if self.reason(data):
                self.draft(data).finish_reason = self.reason(data)
        for key in ("results", "outputs", "generations", "completions"):
            for place, item in enumerate(map(obj, array(data.get(key)))):
                self.listed(item, place, end)
        for place, choice in enumerate(map(obj, array(data.get("choices")))):
            self.choice(choice, self.draft(choice, place), end)
        for call in map(obj, array(data.get("tool_calls"))):
            self.draft(data).call(
                len(self.draft(data).blocks), end, name=call.get("name"), arguments=call.get("parameters")
            )
        self.media(data, end)

    def count(self, data: dict[str, Any]) -> None:
        """Note the counts that *data* holds; those of a stream add nothing up, the last counts."""
        for keys in COUNTS:
            for place, key in zip(("input", "output"), keys, strict=True):
                found = count(data.get(key), self.reading, key)
                if found is not None:
                    self.counts[place] = found
        listed = [count(obj(item).get("tokenCount"), self.reading, "tokenCount") for item in array(data.get("results"))]
        if plus(*listed) is not None:
            self.counts["output"] = plus(*listed) or 0

    def reason(self, item: dict[str, Any]) -> str | None:
        """Why a choice ended."""
        names = ("stop_reason", "finish_reason", "completionReason", "finishReason")
        given = next((item[name] for name in names if item.get(name)), None)
        return named(obj(given).get("reason") if isinstance(given, dict) else given)

    def piece(self, item: dict[str, Any], text: Any, end: int, place: int = 0) -> None:
        """Take in a text of a choice."""
        draft = self.draft(item, place)
        draft.write("text", text, end)
        draft.finish_reason = self.reason(item) or draft.finish_reason

    def listed(self, item: dict[str, Any], place: int, end: int) -> None:
        """Take in an item of a list of answers."""
        text = next((item[key] for key in ("outputText", "text") if isinstance(item.get(key), str)), None)
        self.piece(item, obj(item.get("data")).get("text") if text is None else text, end, place)

    def choice(self, choice: dict[str, Any], draft: Draft, end: int) -> None:
        """Take in a choice as OpenAI and those who copy it write it, whole or a piece of it."""
        message = obj(choice.get("message")) or obj(choice.get("delta"))
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        draft.write("reasoning", reasoning, end)
        content = message.get("content", choice.get("text"))
        draft.write("text", as_text(content) if isinstance(content, list) else content, end)
        for place, call in enumerate(map(obj, array(message.get("tool_calls")))):
            function = obj(call.get("function"))
            index = call.get("index")
            key = index if isinstance(index, int) else place
            given = function.get("arguments")
            draft.call(
                key,
                end,
                id=call.get("id"),
                name=function.get("name"),
                fragment=given,
                arguments=None if isinstance(given, str) else given,
            )
        draft.finish_reason = self.reason(choice) or draft.finish_reason

    def media(self, data: dict[str, Any], end: int) -> None:
        """Take in images, vectors and ranks."""
        reading = self.reading
        ranks = [item for item in map(obj, array(data.get("results"))) if "relevance_score" in item]
        if ranks:
            reading.operation = "rerank"
            reading.details["results"] = [rest(item, ("document",)) for item in ranks[:100]]
        pictures = [item for item in array(data.get("images")) if isinstance(item, str)]
        pictures += [item["base64"] for item in map(obj, array(data.get("artifacts"))) if named(item.get("base64"))]
        for picture in pictures:
            self.draft({}).add(blob(picture, None, "image"), end)
        for item in map(obj, array(data.get("artifacts"))):
            self.draft({}).finish_reason = self.reason(item)
        if pictures:
            reading.operation = "image"
        by_type = obj(data.get("embeddings"))
        vectors = array(data.get("embeddings")) or next((array(item) for item in by_type.values() if item), [])
        vector = data.get("embedding") or (vectors[0] if vectors else None)
        if isinstance(vector, dict):
            vector = vector.get("embedding")
        if isinstance(vector, list):
            reading.operation = "embeddings"
            reading.details["dimensions"] = len(vector)

    def publish(self) -> None:
        """Put the choices into the reading, in the order of their numbers."""
        for place, index in enumerate(sorted(self.drafts)):
            self.drafts[index].publish(first=place == 0)
        if self.usage:
            self.reading.usage = openai_usage(self.usage, self.reading)


def invoked(wire: Wire, reading: Reading) -> Iterator[Chunk]:
    """The makers' objects inside the events, which hold them as base64 in ``bytes``."""
    for event in chunks(wire, reading):
        if event.type.endswith(("Exception", "Error")):
            reading.error = aws_error(event.type, event.data)
            reading.ended = True
            continue
        if not isinstance(event.data.get("bytes"), str):
            yield event
            continue
        try:
            inner = parse_json(base64.b64decode(event.data["bytes"]))
        except (binascii.Error, ValueError):
            inner = None
        if isinstance(inner, dict):
            kind = next((name for name in NOVA_EVENTS if isinstance(inner.get(name), dict)), event.type)
            yield Chunk(kind, inner, event.end)
        else:
            warn(reading, "a chunk holds no JSON object")


def read_invoke(wire: Wire, reading: Reading) -> None:
    """Fill in what the answer of an invocation says."""
    answer = Answer(reading)
    metrics: dict[str, Any] = {}
    if is_stream(reading):
        events = list(invoked(wire, reading))
        failed = reading.error is not None
        metrics = next((obj(item.data[METRICS]) for item in reversed(events) if METRICS in item.data), {})
        read_events(events, answer, reading)
        reading.ended = failed or bool(metrics) or reading.ended
    else:
        body = answer_of(wire, reading)
        size = len(wire.response_body)
        if body.get("type") == "message" and isinstance(body.get("content"), list):
            anthropic_message(body, reading, size)
        elif isinstance(obj(body.get("output")).get("message"), dict):
            converse_answer(body, reading, size)
        elif wire.status is not None and wire.status < 400:
            answer.take(body, size)
    answer.publish()
    if reading.usage is None:
        reading.usage = other_usage(answer.counts, metrics, wire, reading)


def read_events(events: list[Chunk], answer: Answer, reading: Reading) -> None:
    """Fill in what the events of a streamed invocation say."""
    if any(event.type in NOVA_EVENTS for event in events):
        converse_events([Chunk(kind, obj(data.get(kind)), end) for kind, data, end in events], reading)
    elif any(event.data.get("type") == "message_start" for event in events):
        anthropic_stream(events, reading)
    else:
        reading.ended = False
        for event in events:
            answer.take(event.data, event.end)
            reading.ended = reading.ended or any(draft.finish_reason for draft in answer.drafts.values())


def other_usage(counts: dict[str, int], metrics: dict[str, Any], wire: Wire, reading: Reading) -> Usage | None:
    """Tokens that the body does not state as a usage object: metrics of the last chunk, headers, counts in the body."""
    if metrics:
        found = {
            name: metrics.get(key)
            for name, key in (
                ("input", "inputTokenCount"),
                ("output", "outputTokenCount"),
                ("read", "cacheReadInputTokenCount"),
                ("write", "cacheWriteInputTokenCount"),
            )
        }
        reading.notes.append("usage from invocationMetrics")
    else:
        found = {
            name: header_count(wire, key)
            for name, key in (
                ("input", "input"),
                ("output", "output"),
                ("read", "cache-read-input"),
                ("write", "cache-write-input"),
            )
        }
        if not counts and any(value is not None for value in found.values()):
            reading.notes.append("usage from response headers")
    numbers = {name: count(value, reading, name) for name, value in found.items()}
    raw = numbers["input"] if numbers["input"] is not None else counts.get("input")
    output = numbers["output"] if numbers["output"] is not None else counts.get("output")
    if raw is None and output is None:
        return None
    reading.usage_raw = metrics or counts or found
    return Usage(
        input_tokens=None if raw is None else plus(raw, numbers["read"], numbers["write"]),
        output_tokens=output,
        cache_read=numbers["read"],
        cache_write=numbers["write"],
        input_raw=raw,
        output_raw=output,
    )


def header_count(wire: Wire, name: str) -> int | None:
    """A count of the response headers."""
    value = wire.response_headers.get(f"x-amzn-bedrock-{name}-token-count", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else None
