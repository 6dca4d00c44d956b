"""Records as rows: what goes into which column, and what must not be stored at all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from asgi_llmobs.records import Body, Cost, Message, Outcome, Part, Request, Span, Usage
from asgi_llmobs.store.attempts import attempt_row, attempts_of, sums, worth_keeping
from asgi_llmobs.store.contents import Words, packed_content
from asgi_llmobs.store.fingerprints import fingerprints
from asgi_llmobs.store.marks import marks_of
from asgi_llmobs.store.values import bounded, clean, integer, json_bytes, name

__all__ = ["Rows", "encode", "fold_name", "property_rows", "without_content"]

PREVIEW = 200
MESSAGE = 2_000  # characters of an error message, and of a property's value
INDEXED = 16_384  # characters of each side that can be searched for
KEPT_TEXT = 8_192  # characters of a part, where the body itself had to be cut
PREVIEW_GUESS = PREVIEW + 30  # characters that mostly hold a preview
PREVIEW_SCAN = 4 * PREVIEW
USAGE_FIELDS = tuple(item.name for item in fields(Usage) if item.name != "estimated")
NO_USAGE = Usage()
PLAIN_PARAMETERS = {"reasoning_effort", "tool_choice", "service_tier", "encoding_format", "size", "quality", "voice"}


@dataclass(slots=True)
class Rows:
    """All rows of one record."""

    record: Span
    span: tuple[Any, ...]
    content: tuple[int, bytes]
    attempts: list[tuple[Any, ...]]
    properties: list[tuple[Any, ...]]
    words: tuple[int, str, str] | None


def fold_name(text: str) -> str:
    """A property name as it is matched."""
    return name(text.strip().casefold()) or ""


def encode(record: Span, key: int) -> Rows:
    """The rows of *record* under the row key *key*."""
    if isinstance(record, Request):
        return encode_request(without_content(record), key)
    return encode_span(record, key)


def encode_span(span: Span, key: int) -> Rows:
    start = integer(span.start_ns) or 0
    properties = clean_properties(span.properties)
    sent, got = clean(span.input), clean(span.output)
    bodies = {
        part: Body(content=text.encode(), media_type="text/plain", size=len(text.encode()))
        for part, text in (("input", sent), ("output", got))
        if text
    }
    words = words_of(sent, got, span.outcome)
    row = (
        *shared_columns(span, key, 0, start, properties),
        preview(sent), preview(got),
        None, None, None, None, None, None, None, None,
        0, None, None, None, None, None, None, None, None, None, None, 0, None, None, 1, 1, 0, 0,
        None, None, None, None, None, name(span.release),
    )  # fmt: skip
    return Rows(
        span, row, (key, packed_content(shared_detail(span), bodies, words)), [],
        property_rows(span.project, properties, start, key), None if words is None else (key, *words),
    )  # fmt: skip


def shared_columns(span: Span, key: int, request: int, start: int, properties: dict[str, str]) -> tuple[Any, ...]:
    return (
        key,
        name(span.id) or "",
        name(span.trace_id) or "",
        name(span.parent_id),
        name(span.project) or "",
        name(span.kind) or "",
        request,
        bounded(span.name, MESSAGE) or "",
        start,
        integer(span.duration_ns),
        str(span.outcome),
        integer(span.status),
        bounded(span.error_type, PREVIEW),
        bounded(span.error_message, MESSAGE),
        name(span.session_id),
        name(span.session_name),
        bounded(span.session_path, MESSAGE),
        name(span.user_id),
        bounded(span.node_id, MESSAGE),
        name(span.route),
        bounded(span.caller, PREVIEW * 2),
        json_bytes(properties).decode() if properties else None,
    )


def shared_detail(span: Span) -> dict[str, Any]:
    return {
        label: value
        for label in ("method", "url", "service", "release", "host", "pid", "attributes")
        if (value := getattr(span, label))
    }


def encode_request(request: Request, key: int) -> Rows:
    start = integer(request.start_ns) or 0
    properties = clean_properties(request.properties)
    counted = request.counted or NO_USAGE
    attempts = attempts_of(request)
    spent, sent_tokens, got_tokens = sums(request, attempts)
    sent, got = input_text(request.messages), output_text(request)
    row = (
        *shared_columns(request, key, 1, start, properties),
        preview(input_preview(request.messages)),
        preview(got),
        name(request.provider),
        name(request.api),
        name(request.operation),
        name(request.request_model),
        name(request.response_model),
        name(request.request_id),
        name(request.response_id),
        name(request.provider_request_id),
        int(request.stream),
        integer(request.first_token_ns),
        sent_tokens,
        got_tokens,
        integer(counted.cache_read),
        integer(counted.cache_write),
        integer(counted.reasoning),
        integer(counted.audio_input),
        integer(counted.audio_output),
        integer(counted.image_input),
        integer(counted.image_output),
        int(counted.estimated),
        spent,
        bounded(request.cost.reason, PREVIEW) if spent is None else None,
        integer(request.attempt) or 1,
        max([request.attempt, *(attempt.number for attempt in attempts)]),
        int(request.truncated),
        int(request.calls_tools),
        *fingerprints(request),
        marks_of(request),
        bounded(",".join(dict.fromkeys(reason for reason in request.finish_reasons if reason)), PREVIEW) or None,
        name(request.release),
    )
    bodies = {
        part: body
        for part, body in (("request", request.request_body), ("response", request.response_body))
        if body is not None
    }
    words = words_of(sent, got, request.outcome)
    return Rows(
        request,
        row,
        (key, packed_content(request_detail(request), bodies, words)),
        [attempt_row(key, attempt) for attempt in attempts] if worth_keeping(attempts) else [],
        property_rows(request.project, properties, start, key),
        None if words is None else (key, *words),
    )


def request_detail(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = shared_detail(request)
    for label in (
        "prompt_id", "stream_requested", "finish_reasons", "server_tools", "error", "usage_raw", "service_tier",
        "parameters", "details", "stages", "headers_ns", "first_chunk_ns", "last_chunk_ns", "chunks", "retry_after",
        "request_headers", "response_headers", "warnings", "notes",
    ):  # fmt: skip
        value = getattr(request, label)
        if value is not None and value != () and value != {}:
            found[label] = value
    if request.framing != "none":
        found["framing"] = request.framing
    for label, usage in (("usage", request.usage), ("estimate", request.estimate)):
        if usage is not None:
            found[label] = usage_detail(usage)
    found["cost"] = cost_detail(request.cost)
    if request.chunk_times:
        found["chunk_times"] = steps(request.chunk_times)
    if request.request_body is not None and request.request_body.truncated:
        found["messages"] = [message_detail(message) for message in request.messages[-200:]]
        found["tools"] = request.tools
    if request.response_body is not None and request.response_body.truncated:
        found["output"] = [message_detail(message) for message in request.output_messages]
        found["text"], found["reasoning_text"] = request.text[:KEPT_TEXT], request.reasoning_text[:KEPT_TEXT]
        found["tool_calls"] = request.tool_calls
    return found


def usage_detail(usage: Usage) -> dict[str, Any]:
    return {label: value for label in USAGE_FIELDS if (value := getattr(usage, label)) is not None}


def cost_detail(cost: Cost) -> dict[str, Any]:
    return {
        "amount": None if cost.amount is None else str(cost.amount),
        "lines": [[line.bucket, line.tokens, str(line.per_million), str(line.amount)] for line in cost.lines],
        "source": cost.source,
        "price_date": cost.price_date,
        "reason": cost.reason,
    }


def message_detail(message: Message) -> dict[str, Any]:
    parts = []
    for part in message.parts:
        found = {item.name: value for item in fields(Part) if (value := getattr(part, item.name)) is not None}
        if isinstance(found.get("content"), str):
            found["content"] = bounded(found["content"], KEPT_TEXT)
        parts.append(found)
    return {"role": message.role, "name": message.name, "finish_reason": message.finish_reason, "parts": parts}


def steps(points: Iterable[tuple[int, int]]) -> list[int]:
    """Pairs that only grow, as differences in one flat list: a third of the digits."""
    out: list[int] = []
    time = size = 0
    for point_time, point_size in points:
        out += (point_time - time, point_size - size)
        time, size = point_time, point_size
    return out


def without_content(request: Request) -> Request:
    """*request* without a word of the bodies that are not to be stored."""
    no_request = request.request_body is None and (request.method or "POST").upper() not in ("GET", "HEAD", "DELETE")
    no_response = request.response_body is None
    if not no_request and not no_response:
        return request
    changes: dict[str, Any] = {}
    if no_request:
        changes.update(messages=(), tools=(), parameters=plain_parameters(request.parameters))
    if no_response:
        changes.update(text="", reasoning_text="", tool_calls=(), output_messages=(), refusal=None)
    if request.error:
        # an error of the provider may quote either side
        changes.update(error={**request.error, "message": None}, error_message=None)
        changes["attempts"] = tuple(
            attempt if attempt.number != request.attempt else replace(attempt, error_message=None)
            for attempt in request.attempts
        )
    if no_request and request.outcome != Outcome.RUNNING:
        changes.update(warnings=(), notes=(), details=plain_parameters(request.details))
    return replace(request, **changes)


def plain_parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """What of parameters cannot hold content: numbers, switches, and words of a few named ones."""
    return {
        label: value
        for label, value in values.items()
        if isinstance(value, bool | int | float) or label in PLAIN_PARAMETERS and isinstance(value, str)
    }


def clean_properties(properties: Mapping[str, str]) -> dict[str, str]:
    return {name(str(label)) or "": bounded(str(value), MESSAGE) or "" for label, value in properties.items()}


def property_rows(project: str, properties: Mapping[str, str], start_ns: int, key: int) -> list[tuple[Any, ...]]:
    """The entries of the property index; the later of two names that differ in case only wins."""
    folded = {fold_name(label): name(value) for label, value in properties.items()}
    return [(name(project), label, value, start_ns, key) for label, value in folded.items() if label]


def part_text(part: Part) -> str:
    if part.type == "tool_call":
        return f"{part.name or ''} {part.arguments if isinstance(part.arguments, str) else json_text(part.arguments)}"
    return part.content or ""


def json_text(value: Any) -> str:
    return "" if value is None else json_bytes(value).decode("utf-8", "replace")


def input_text(messages: tuple[Message, ...]) -> str:
    """What can be searched of the input: the newest first, because it is what the next one repeats."""
    found: list[str] = []
    left = INDEXED
    for message in reversed(messages):
        for part in reversed(message.parts):
            text = part_text(part)
            if text:
                found.append(text[:left])
                left -= len(text)
            if left <= 0:
                return clean("\n".join(found)) or ""
    return clean("\n".join(found)) or ""


def output_text(request: Request) -> str:
    """What can be searched of the output: answer, refusal, tool calls, reasoning."""
    found = [request.text or "", request.refusal or ""]
    for call in request.tool_calls:
        arguments = call.get("arguments")
        found.append(f"{call.get('name')} {arguments if isinstance(arguments, str) else json_text(arguments)}")
    found.append(request.reasoning_text or "")
    return clean("\n".join(text[:INDEXED] for text in found if text)[:INDEXED]) or ""


def input_preview(messages: tuple[Message, ...]) -> str:
    """The last thing a user said, else the last text of anybody."""
    for role in ("user", None):
        for message in reversed(messages):
            if role is None or message.role == role:
                for part in reversed(message.parts):
                    if part.content:
                        return part.content
    return ""


def preview(text: str | None) -> str | None:
    """The beginning of *text* on one line."""
    if not text:
        return None
    line = " ".join(text[:PREVIEW_GUESS].split())
    if len(line) <= PREVIEW < len(text):  # many blanks
        line = " ".join(text[:PREVIEW_SCAN].split())
    return bounded(line + " " if len(text) > PREVIEW_SCAN and len(line) <= PREVIEW else line, PREVIEW) or None


def words_of(sent: str | None, got: str | None, outcome: str) -> Words | None:
    """What can be searched of a span; a running one is found once it has ended."""
    if outcome == Outcome.RUNNING or not (sent or got):
        return None
    return Words((sent or "")[:INDEXED], (got or "")[:INDEXED])
