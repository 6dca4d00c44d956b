"""Calls that an OpenTelemetry span tells of: both bodies written in one form, and read again as any provider's are.

The span itself names its attributes in one of many dialects; ``asgi_llmobs.semconv`` turns those into a reading. What
is stored is the reading, in the shape of OpenTelemetry's GenAI message schema.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import orjson

from asgi_llmobs.providers.base import Dialect, Match, Provider, Route, Wire
from asgi_llmobs.providers.framing import parse_json
from asgi_llmobs.providers.values import array, count, named, number, obj, string, warn
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["ANY_HOST", "API", "METHOD", "OPERATIONS", "PROVIDERS", "bodies_of", "matched"]

API = "otel"
METHOD = "OTLP"  # in place of an HTTP method, so that no address is ever taken for one of these
OPERATIONS = ("chat", "text_completion", "embeddings", "rerank", "moderation", "image", "speech", "other")
PART_FIELDS = tuple(item.name for item in fields(Part))
COUNTS = tuple(item.name for item in fields(Usage) if item.name not in ("estimated", "seconds", "cost_usd"))


def bodies_of(reading: Reading) -> tuple[bytes, bytes]:
    """What was sent and what came back, as JSON; the second is empty where nothing did."""
    sent: dict[str, Any] = {
        "model": reading.request_model,
        "messages": [told(message) for message in reading.input],
        "tools": reading.tools,
        "parameters": reading.parameters,
        "details": reading.details,
        "user": reading.user,
        "stream": reading.stream_requested or None,
    }
    got: dict[str, Any] = {
        "id": reading.response_id,
        "model": reading.response_model,
        "messages": [told(message) for message in reading.output],
        "finish_reasons": reading.finish_reasons,
        "usage": None if reading.usage is None else filled(usage_values(reading.usage)),
        "usage_raw": reading.usage_raw,
        "service_tier": reading.service_tier,
        "stream": reading.stream or None,
    }
    return dumped(filled(sent)), dumped(filled(got)) if filled(got) else b""


def told(message: Message) -> dict[str, Any]:
    parts = [filled({name: getattr(part, name) for name in PART_FIELDS}) for part in message.parts]
    return {
        "role": message.role,
        **filled({"name": message.name, "finish_reason": message.finish_reason}),
        "parts": parts,
    }


def usage_values(usage: Usage) -> dict[str, Any]:
    return {item.name: getattr(usage, item.name) for item in fields(Usage) if item.name != "estimated"}


def filled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != [] and value != {}}


def dumped(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError):  # numbers of any length, lone surrogates
        return json.dumps(value, default=str, skipkeys=True).encode()


def matched(provider: str, operation: str) -> Match:
    """Who answered, in the dialect of this module."""
    return Match(provider, DIALECTS.get(operation, DIALECTS["other"]))


def read_otel(wire: Wire, reading: Reading) -> None:
    """Read what :func:`bodies_of` wrote."""
    sent, got = body_of(wire.request_body, reading, "request"), body_of(wire.response_body, reading, "response")
    reading.request_model = named(sent.get("model"))
    reading.input = [message_of(message) for message in array(sent.get("messages"))]
    reading.tools = [obj(tool) for tool in array(sent.get("tools"))]
    reading.parameters = obj(sent.get("parameters"))
    reading.details = obj(sent.get("details"))
    reading.user = named(sent.get("user"))
    reading.stream_requested = sent.get("stream") is True
    reading.response_id = named(got.get("id"))
    reading.response_model = named(got.get("model"))
    reading.output = [message_of(message) for message in array(got.get("messages"))]
    reading.finish_reasons = [reason for reason in array(got.get("finish_reasons")) if isinstance(reason, str)]
    reading.service_tier = named(got.get("service_tier"))
    reading.stream = got.get("stream") is True
    reading.content_offset = 1 if wire.response_body else None  # what times are known stand at the first byte
    reading.usage_raw = got.get("usage_raw")
    if "usage" in got:
        reading.usage = usage_of(obj(got["usage"]), reading)
    if reading.output:
        answered(reading, reading.output[0])


def body_of(content: bytes, reading: Reading, which: str) -> dict[str, Any]:
    value = parse_json(content) if content else None
    if content and not isinstance(value, dict):
        warn(reading, f"the {which} that the span told of is cut short")
    return obj(value)


def answered(reading: Reading, message: Message) -> None:
    """The first choice as texts and tool calls."""
    reading.text = texts(message, "text")
    reading.reasoning_text = texts(message, "reasoning")
    reading.refusal = texts(message, "refusal") or None
    reading.tool_calls = [
        {"id": part.id, "name": part.name, "arguments": part.arguments}
        for part in message.parts
        if part.type == "tool_call"
    ]


def texts(message: Message, kind: str) -> str:
    return "".join(part.content or "" for part in message.parts if part.type == kind)


def message_of(value: Any) -> Message:
    message = obj(value)
    return Message(
        role=string(message.get("role")) or "user",
        name=named(message.get("name")),
        finish_reason=named(message.get("finish_reason")),
        parts=tuple(part_of(part) for part in map(obj, array(message.get("parts")))),
    )


def part_of(value: Mapping[str, Any]) -> Part:
    found: dict[str, Any] = {name: named(value.get(name)) for name in PART_FIELDS if name not in ("arguments", "size")}
    size = value.get("size")
    found["content"] = value["content"] if isinstance(value.get("content"), str) else None
    return Part(
        **{**found, "type": found["type"] or "text"},
        arguments=value.get("arguments"),
        size=size if isinstance(size, int) else None,
    )


def usage_of(value: Mapping[str, Any], reading: Reading) -> Usage:
    counts: dict[str, Any] = {name: count(value.get(name), reading, name) for name in COUNTS}
    cost, seconds = (number(value.get(name), reading, name) for name in ("cost_usd", "seconds"))
    return Usage(**counts, cost_usd=cost, seconds=seconds)


DIALECTS = {operation: Dialect(API, operation, read_otel) for operation in OPERATIONS}
ANY_HOST = tuple(Route(METHOD, "", dialect) for dialect in DIALECTS.values())
PROVIDERS: tuple[Provider, ...] = ()
