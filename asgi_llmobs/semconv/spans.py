"""From an OpenTelemetry span to what capture hands over: a call of a provider, or any other node of a trace."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from asgi_llmobs.providers.otel import METHOD, bodies_of, matched
from asgi_llmobs.providers.values import array, named, obj
from asgi_llmobs.records import Annotations, Exchange, Kind, Message, Outcome, Part, Reading, Span
from asgi_llmobs.redaction import safe_text
from asgi_llmobs.semconv.attributes import Attributes, as_json, listed
from asgi_llmobs.semconv.messages import decoded, messages_of, tool_definitions, unwrapped
from asgi_llmobs.semconv.names import DIALECTS, PROVIDER_NAMES, REQUEST_KINDS
from asgi_llmobs.semconv.told import ERROR, SERVER, Event, Told
from asgi_llmobs.semconv.usage import raw_usage, usage_of

__all__ = ["entry_of", "kind_of", "speaks"]

NOT_PARAMETERS = frozenset("model messages tools functions prompt input user stream stream_options".split())
EARLIEST_NS = 1_420_070_400 * 10**9  # 2015: before it there was nothing to observe
AHEAD_NS = 86_400 * 10**9  # a clock may be wrong by this much
LONGEST_NS = 30 * 86_400 * 10**9
MOST_ATTRIBUTES = 128  # kept of one span beside what has columns
LONGEST_VALUE = 2_000
LONGEST_TRACEBACK = 8_000  # its end, where the exception itself is
LONGEST_TEXT = 256 * 1024  # of an input or output of a node that is no call
MOST_PROPERTIES = 64
EMPTY = (None, "", "[]", "{}")
NOT_PROPERTIES = ("session_id", "user_id", "usage_object")
OPERATIONS = dict.fromkeys(("text_completion", "atext_completion", "completion"), "text_completion")
ENDED = {
    "CancelledError": Outcome.CANCELLED,
    "KeyboardInterrupt": Outcome.CANCELLED,
    "GeneratorExit": Outcome.ABANDONED,
}
# what LlamaIndex does before a call and OpenInference tells as if it were one
NO_CALLS = ("._prepare_chat_with_tools", "._prepare_chat_with_tools_compat")
PROMPT_EVENTS = ("gen_ai.content.prompt", "gen_ai.content.completion")
STACKTRACE = "exception.stacktrace"
CHOICE_EVENT = "gen_ai.choice"
DETAILS_EVENT = "gen_ai.client.inference.operation.details"
ROLE_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}


def kind_of(attributes: Mapping[str, Any]) -> Kind | None:
    """What a span is, as one of the dialects says it; ``None`` where it speaks none."""
    told: Kind | None = None
    for dialect in DIALECTS:
        for name in dialect.kind:
            value = attributes.get(name)
            if isinstance(value, str):
                kind = dialect.kinds.get(value.strip('"').lower(), Kind.SPAN)
                if kind is not Kind.SPAN:
                    return kind
                told = told or kind
    if told is None and ("gen_ai.request.model" in attributes or "llm.request.model" in attributes):
        return Kind.LLM
    return told


def speaks(attributes: Mapping[str, Any]) -> bool:
    """Whether a span says anything in one of the dialects."""
    return kind_of(attributes) is not None


def entry_of(told: Told, project: str, *, full: bool = True, now_ns: int | None = None) -> Exchange | Span:
    """What is recorded of a span.

    Args:
        told: It.
        project: What it belongs to.
        full: Whether texts may be kept.
        now_ns: The time now, by which implausible times are told.
    """
    given: dict[str, Any] = dict(told.attributes)
    for event in told.events:
        if event.name == DETAILS_EVENT:
            given = {**event.attributes, **given}
    attributes = Attributes(given)
    kind = kind_of(given) or (Kind.HTTP if told.kind == SERVER and is_http(given) else Kind.SPAN)
    if kind in REQUEST_KINDS and told.name.endswith(NO_CALLS):
        kind = Kind.SPAN
    clock = Clock(told, now_ns if now_ns is not None else time.time_ns())
    if kind in REQUEST_KINDS:
        return exchange_of(told, attributes, kind, project, clock, full)
    return span_of(told, attributes, kind, project, clock, full)


def is_http(given: Mapping[str, Any]) -> bool:
    return "http.request.method" in given or "http.method" in given


class Clock:
    """When a span began and how long it took, as far as that can be."""

    __slots__ = ("duration_ns", "skew", "start_ns")

    def __init__(self, told: Told, now_ns: int) -> None:
        latest = now_ns + AHEAD_NS
        start, end = told.start_ns, told.end_ns
        self.skew: str | None = None
        if not EARLIEST_NS <= start <= latest:
            plausible_end = EARLIEST_NS <= end <= latest
            self.skew = (
                f"said to have started at {start} ns; the time of its {'end' if plausible_end else 'arrival'} is shown"
            )
            start = end = end if plausible_end else now_ns
        elif end and (end < start or end > latest or end - start > LONGEST_NS):
            self.skew = f"said to have ended at {end} ns, which cannot be; no duration is shown"
            end = start
        self.start_ns = start
        self.duration_ns = end - start if end else None


def shared(told: Told, attributes: Attributes, project: str) -> dict[str, Any]:
    """What both kinds of records have."""
    return {
        "id": told.span_id,
        "trace_id": told.trace_id,
        "parent_id": told.parent_id if told.parent_id != told.span_id else None,
        "project": project,
        "session_id": attributes.text("session_id"),
        "user_id": attributes.text("user_id"),
        "properties": properties_of(attributes),
        "start_ns": 0,
    }


def properties_of(attributes: Attributes) -> dict[str, str]:
    """Metadata and tags; what has a column of its own is not said twice."""
    found: dict[str, str] = {}
    for name, value in attributes.merged("metadata").items():
        if len(found) >= MOST_PROPERTIES:
            break
        if name and value not in EMPTY and name not in NOT_PROPERTIES:
            text = value if isinstance(value, str) else as_json(value)
            found[str(name)[:200]] = safe_text(text[:LONGEST_VALUE])
    tags = decoded(attributes.first("tags"))
    texts = [tag for tag in array(listed(tags)) if isinstance(tag, str)] or ([tags] if isinstance(tags, str) else [])
    if texts:
        found["tags"] = safe_text(", ".join(texts)[:LONGEST_VALUE])
    return found


def origin_of(told: Told, attributes: Attributes) -> dict[str, Any] | None:
    """Which process it is from."""
    if told.resource is None:
        return None
    pid = told.resource.get("process.pid")
    return {
        "service": text_of(told.resource.get("service.name")),
        "release": text_of(told.resource.get("service.version")) or attributes.text("release"),
        "host": text_of(told.resource.get("host.name")),
        "pid": pid if isinstance(pid, int) and 0 <= pid < 2**31 else 0,
    }


def text_of(value: Any) -> str | None:
    return str(value)[:200] if isinstance(value, str | int) and value != "" else None


class Ending:
    """How a span ended."""

    __slots__ = ("error_type", "message", "outcome", "traceback")

    def __init__(self, told: Told, attributes: Attributes) -> None:
        raised: Mapping[str, Any] = next(
            (event.attributes for event in reversed(told.events) if event.name == "exception"), {}
        )
        kind = named(raised.get("exception.type"))
        failed = told.status_code == ERROR or attributes.text("level") == "ERROR"
        self.outcome, self.error_type, self.message = Outcome.OK, None, None
        self.traceback: str | None = None
        if failed or (kind and kind.rpartition(".")[2] in ENDED):
            self.error_type = (attributes.text("error_type") or kind or "error")[:200]
            self.outcome = ENDED.get(self.error_type.rpartition(".")[2], Outcome.ERROR)
            message = told.status_message or raised.get("exception.message") or attributes.text("message")
            self.message = str(message)[:LONGEST_VALUE] if message else None
            if trace := raised.get(STACKTRACE):
                self.traceback = str(trace)[-LONGEST_TRACEBACK:]


def span_of(told: Told, attributes: Attributes, kind: Kind, project: str, clock: Clock, full: bool) -> Span:
    """A node that is no call of a provider: tokens that it sums up are not counted again."""
    ending = Ending(told, attributes)
    sent, got = texts_of(attributes, kind)
    values = shared(told, attributes, project)
    status = attributes.count("status")
    rest = bounded(attributes.rest())
    if (total := raw_usage(attributes)) is not None:
        rest["usage"] = total
    for label in ("tool_description", "agent", "dimensions"):
        if (value := attributes.text(label)) is not None:
            rest[label] = value
    if clock.skew:
        rest["clock_skew"] = clock.skew
    if ending.traceback and full:
        rest[STACKTRACE] = ending.traceback
    return Span(
        **{
            **values,
            "start_ns": clock.start_ns,
            "kind": kind,
            "name": told.name[:LONGEST_VALUE] or attributes.text("tool_name") or str(kind),
            "duration_ns": clock.duration_ns,
            "outcome": ending.outcome if clock.duration_ns is not None else Outcome.RUNNING,
            "error_type": ending.error_type,
            "error_message": ending.message if full else None,
            "status": status if status is not None and status < 1_000 else None,
            "input": sent[:LONGEST_TEXT] if sent and full else None,
            "output": got[:LONGEST_TEXT] if got and full else None,
            "attributes": rest,
            **(origin_of(told, attributes) or {}),
        }
    )


def texts_of(attributes: Attributes, kind: Kind) -> tuple[str | None, str | None]:
    """What went into a node and what came out of it."""
    sent, got = None, None
    if kind is Kind.TOOL:
        sent, got = attributes.whole("tool_arguments"), attributes.whole("tool_result")
    sent = sent or attributes.whole("input") or attributes.whole("messages")
    if kind is Kind.RETRIEVER and (documents := documents_of(attributes)):
        got = as_json(documents)
    return sent, got or attributes.whole("output") or attributes.whole("answers")


def documents_of(attributes: Attributes) -> list[dict[str, Any]]:
    """What a retriever or reranker found."""
    told = attributes.first("documents")
    found = []
    for item in array(listed(decoded(told if told is not None else attributes.first("output")))):
        document = obj(unwrapped(decoded(item)))
        flat = {name.removeprefix("document."): value for name, value in document.items()}
        content = flat.get("content", flat.get("text", flat.get("page_content")))
        one = {
            "id": flat.get("id"),
            "content": content,
            "score": flat.get("score"),
            "metadata": decoded(flat.get("metadata")),
        }
        found.append({name: value for name, value in one.items() if value is not None} or document)
    return found


def bounded(rest: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in rest.items():
        if len(out) >= MOST_ATTRIBUTES:
            out["(more)"] = len(rest) - MOST_ATTRIBUTES
            break
        if isinstance(value, str):
            value = value[:LONGEST_VALUE]
        elif not isinstance(value, int | float):
            text = as_json(value)
            value = value if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE]
        out[name[:200]] = value
    return out


def exchange_of(told: Told, attributes: Attributes, kind: Kind, project: str, clock: Clock, full: bool) -> Exchange:
    """A call of a provider, in the form in which capture hands over those it saw itself."""
    reading = reading_of(told, attributes, kind)
    if clock.skew:
        reading.details["clock_skew"] = clock.skew
    ending = Ending(told, attributes)
    rest = bounded(attributes.rest())
    if ending.traceback and full:
        rest[STACKTRACE] = ending.traceback
    if rest:
        reading.details["attributes"] = rest
    sent, got = bodies_of(reading)
    start = clock.start_ns
    end = start + (clock.duration_ns or 0)
    first = first_token_at(attributes, start, end) if got else None
    status = attributes.count("status")
    values = shared(told, attributes, project)
    return Exchange(
        **{
            **values,
            "match": matched(reading.provider, reading.operation),
            "name": told.name[:LONGEST_VALUE] or None,
            "method": METHOD,
            "url": "",
            "start_ns": start,
            "clock_ns": start,
            "first_start_ns": start,
            "first_clock_ns": start,
            "end_clock_ns": end,
            "request_chunks": [sent],
            "request_size": len(sent),
            "response_chunks": [got[:1], got[1:]] if first is not None else [got] if got else [],
            "chunk_clocks": [first, end] if first is not None else [end] if got else [],
            "chunks": (2 if first is not None else 1) if got else 0,
            "response_size": len(got),
            "status": status if status is not None and 100 <= status < 600 else None,
            "outcome": ending.outcome,
            "eof": True,
            "error_type": ending.error_type,
            "error_message": ending.message if full else None,
            "annotations": Annotations(prompt_id=attributes.text("prompt_id")),
            "omit_request": not full,
            "omit_response": not full,
            "origin": origin_of(told, attributes),
        }
    )


def first_token_at(attributes: Attributes, start: int, end: int) -> int | None:
    """When the first token came, in nanoseconds since 1970."""
    seconds = attributes.amount("first_token_seconds")
    if seconds is not None and seconds < 86_400:
        return min(start + int(seconds * 1e9), end)
    text = attributes.text("first_token_at")
    if text is None:
        return None
    try:
        moment = int(datetime.fromisoformat(text.strip('"')).timestamp() * 1e9)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if start <= moment <= end else None


def reading_of(told: Told, attributes: Attributes, kind: Kind) -> Reading:
    """What a dialect of a provider would have read out of the exchange."""
    said = (attributes.text("operation") or "").lower()
    provider = (attributes.text("provider") or "unknown").lower()
    inputs, answer = attributes.mapping("input"), attributes.mapping("output")
    given = {**(inputs if "messages" in inputs else {}), **attributes.mapping("parameters")}
    streams = next((value for value in attributes.values("stream") if isinstance(value, bool)), None)
    if streams is None:
        streams = given.get("stream") is True
    reading = Reading(
        provider=PROVIDER_NAMES.get(provider, provider[:100]),
        operation=OPERATIONS.get(said, REQUEST_KINDS[kind]),
        request_model=attributes.text("request_model") or named(given.get("model")) or named(inputs.get("model")),
        response_model=attributes.text("response_model") or named(answer.get("model")),
        response_id=attributes.text("response_id") or named(answer.get("id")),
        service_tier=attributes.text("service_tier"),
        stream=streams or first_known(attributes),
        stream_requested=streams,
        usage=usage_of(attributes),
        usage_raw=raw_usage(attributes),
    )
    reading.parameters = {
        **{name: value for name, value in given.items() if name not in NOT_PARAMETERS and value is not None},
        **attributes.parameters(),
    }
    fill_messages(told.events, attributes, inputs, kind, reading)
    reading.tools = tools_of(attributes, inputs, given)
    if (dimensions := attributes.count("dimensions")) is not None:
        reading.details["dimensions"] = dimensions
    return reading


def first_known(attributes: Attributes) -> bool:
    return attributes.amount("first_token_seconds") is not None or attributes.text("first_token_at") is not None


def tools_of(attributes: Attributes, inputs: Mapping[str, Any], given: Mapping[str, Any]) -> list[dict[str, Any]]:
    for value in (*attributes.values("tools"), inputs.get("tools"), given.get("tools")):
        tools = tool_definitions(value)
        if tools:
            return tools
    return []


def fill_messages(
    events: Sequence[Event], attributes: Attributes, inputs: Mapping[str, Any], kind: Kind, reading: Reading
) -> None:
    """Input and output messages, from wherever the dialect has them."""
    reading.input = [
        *system_of(attributes),
        *(best(attributes.values("messages"), "user") or of_events(events) or embedded(attributes)),
    ]
    if len(reading.input) == 0:
        reading.input = messages_of(inputs if "messages" in inputs else attributes.first("input"), "user")
    output = best(attributes.values("answers"), "assistant") or choices_of(events)
    if not output and kind is Kind.LLM:
        output = messages_of(attributes.first("output"), "assistant")
    output = [message for message in output if message.parts or message.finish_reason]
    reasons = decoded(attributes.first("finish_reasons"))
    texts = [reason for reason in array(listed(reasons)) if isinstance(reason, str)] or (
        [reasons] if isinstance(reasons, str) else []
    )
    told = [message.finish_reason for message in output if message.finish_reason]
    reading.finish_reasons = texts or told
    reading.output = [
        Message(
            role=message.role,
            parts=message.parts,
            name=message.name,
            finish_reason=message.finish_reason or (texts[place] if place < len(texts) else None),
        )
        for place, message in enumerate(output)
    ]


def best(values: Any, role: str) -> list[Message]:
    return next((found for value in values if (found := messages_of(listed(value), role))), [])


def system_of(attributes: Attributes) -> list[Message]:
    value = decoded(attributes.first("system"))
    if value is None:
        return []
    parts = messages_of({"role": "system", "parts": value if isinstance(value, list) else [value]}, "system")
    return [message for message in parts if message.parts]


def embedded(attributes: Attributes) -> list[Message]:
    """The texts that were embedded; their vectors are not kept."""
    texts = [obj(unwrapped(item)) for item in array(attributes.first("embedded"))]
    found = [text.get("text", text.get("embedding.text")) for text in texts]
    return [Message(role="user", parts=(Part(type="text", content=text),)) for text in found if isinstance(text, str)]


def of_events(events: Sequence[Event]) -> list[Message]:
    """The input, where each message is an event of the span."""
    found: list[Message] = []
    for event in events:
        role = ROLE_EVENTS.get(event.name)
        if role is not None:
            found += messages_of(event_body(event, role), role)
        elif event.name == PROMPT_EVENTS[0]:
            found += messages_of(event.attributes.get("gen_ai.prompt"), "user")
    return found


def choices_of(events: Sequence[Event]) -> list[Message]:
    """The output, where each choice is an event of the span."""
    found: list[Message] = []
    for event in events:
        if event.name == CHOICE_EVENT:
            body = event_body(event, "assistant")
            inner = decoded(body.get("message"))
            if isinstance(inner, Mapping):
                body = {**inner, "role": inner.get("role") or "assistant", "finish_reason": body.get("finish_reason")}
            found += messages_of(body, "assistant")
        elif event.name == PROMPT_EVENTS[1]:
            found += messages_of(event.attributes.get("gen_ai.completion"), "assistant")
    return found


def event_body(event: Event, role: str) -> dict[str, Any]:
    body = obj(decoded(event.attributes.get("body")))
    values = {**body, **{name.removeprefix("gen_ai.event."): value for name, value in event.attributes.items()}}
    if "id" in values and role == "tool" and "tool_call_id" not in values:
        values["tool_call_id"] = values["id"]
    return {**values, "role": values.get("role") or role}
