"""Tokens and money as a span tells them, in our buckets.

The conventions differ: those of OpenTelemetry and OpenInference count cached tokens inside the input, Anthropic's own
and Langfuse's beside it. Which of the two a span means is told by what adds up, and only where both do by its dialect.
"""

from collections.abc import Mapping
from typing import Any

from asgi_llmobs.records import Usage
from asgi_llmobs.semconv.attributes import Attributes, amount_of, count_of

__all__ = ["raw_usage", "usage_of"]

# keys of a usage object, as Langfuse, MLflow, OpenAI and Anthropic name them
KEYS: Mapping[str, tuple[str, ...]] = {
    "input_tokens": ("input_tokens", "prompt_tokens", "input", "promptTokens"),
    "output_tokens": ("output_tokens", "completion_tokens", "output", "completionTokens"),
    "total_tokens": ("total_tokens", "total", "totalTokens"),
    "cache_read": (
        "cache_read_input_tokens", "input_cached_tokens", "input_cache_read", "cache_read", "cached_tokens",
        "input_cache_read_tokens",
    ),
    "cache_write": (
        "cache_creation_input_tokens", "input_cache_creation", "cache_write_input_tokens", "cache_write",
        "input_cache_write",
    ),
    "reasoning": ("reasoning_tokens", "output_reasoning_tokens", "output_reasoning", "reasoning"),
    "audio_input": ("input_audio_tokens", "input_audio", "audio_input"),
    "audio_output": ("output_audio_tokens", "output_audio", "audio_output"),
    "image_input": ("input_image_tokens", "input_image"),
    "image_output": ("output_image_tokens", "output_image"),
}  # fmt: skip
COLUMNS = tuple(KEYS)


def counted(attributes: Attributes, column: str, given: Mapping[str, Any]) -> int | None:
    found = attributes.count(column)
    if found is not None:
        return found
    return next((count for key in KEYS[column] if (count := count_of(given.get(key))) is not None), None)


def usage_of(attributes: Attributes) -> Usage | None:
    """The usage; ``None`` where a span says nothing of it."""
    given = attributes.mapping("usage")
    found: dict[str, Any] = {column: counted(attributes, column, given) for column in COLUMNS}
    total = found.pop("total_tokens")
    sent, got = found["input_tokens"], found["output_tokens"]
    cost = cost_of(attributes)
    if sent is None and got is None and total is None:
        return None if cost is None else Usage(cost_usd=cost)
    exclusive = beside(found, total, attributes.first("input_tokens") is None and "input" in given)
    if sent is not None:
        found["input_tokens"] = sent + exclusive
    elif got is not None and total is not None and total >= got:
        found["input_tokens"] = total - got
    return Usage(**found, total_reported=total, cost_usd=cost)


def beside(found: Mapping[str, int | None], total: int | None, langfuse: bool) -> int:
    """The cached tokens that are not inside the input tokens."""
    sent, got = found["input_tokens"], found["output_tokens"] or 0
    cached = (found["cache_read"] or 0) + (found["cache_write"] or 0)
    if sent is None or not cached:
        return 0
    if cached > sent:
        return cached
    if total is not None and total in (sent + got, sent + got + cached):
        return total - sent - got
    return cached if langfuse else 0


def cost_of(attributes: Attributes) -> float | None:
    """What the call cost in US dollars, as the span says."""
    told = attributes.amount("cost")
    if told is not None:
        return told
    parts = [amount for value in attributes.values("cost_parts") if (amount := amount_of(value)) is not None]
    if parts:
        return sum(parts)
    costs = attributes.mapping("costs")
    for key in ("total", "total_cost"):
        if (whole := amount_of(costs.get(key))) is not None:
            return whole
    each = [amount for value in costs.values() if (amount := amount_of(value)) is not None]
    return sum(each) if each else None


def raw_usage(attributes: Attributes) -> dict[str, Any] | None:
    """The attributes that tell tokens and money, as they were."""
    found = {
        name: value
        for name, value in attributes.given.items()
        if name.startswith(("gen_ai.usage.", "llm.token_count.", "llm.cost.", "llm.usage."))
        or name in ("langfuse.observation.usage_details", "langfuse.observation.cost_details", "operation.cost")
        or name in ("mlflow.chat.tokenUsage", "mlflow.llm.cost")
    }
    return found or None
