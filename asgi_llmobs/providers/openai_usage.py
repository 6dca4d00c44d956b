"""Tokens as OpenAI reports them, and as the many services report them that copy its API, each with its own extras."""

from dataclasses import replace
from typing import Any

from asgi_llmobs.providers.values import count, named, number, obj
from asgi_llmobs.records import Reading, Usage

__all__ = ["openai_usage"]

INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details", "prompt_token_details")
OUTPUT_DETAILS = (
    "completion_tokens_details",
    "output_tokens_details",
    "output_token_details",
    "completion_token_details",
)
TICKS_PER_DOLLAR = 10**10  # xAI's cost_in_usd_ticks


def first_count(reading: Reading, places: tuple[dict[str, Any], ...], *names: str) -> int | None:
    """The count under the first of *names* that one of the *places* holds."""
    for place in places:
        if place:
            for name in names:
                value = place.get(name)
                if value is not None:
                    return count(value, reading, name)
    return None


def openai_usage(usage: dict[str, Any], reading: Reading) -> Usage | None:
    """Tokens of a usage object in the naming of Chat Completions or of Responses; ``None`` where it holds no number."""
    inputs = obj(next((usage[name] for name in INPUT_DETAILS if usage.get(name)), None))
    outputs = obj(next((usage[name] for name in OUTPUT_DETAILS if usage.get(name)), None))
    lifetimes = obj(
        inputs.get("cache_creation") or inputs.get("cache_creation_token_details") or usage.get("cache_creation")
    )
    top, into, out, both = (usage,), (inputs,), (outputs,), (inputs, usage)
    input_raw = first_count(reading, top, "prompt_tokens", "input_tokens")
    output_raw = first_count(reading, top, "completion_tokens", "output_tokens")
    found: dict[str, Any] = {
        "input_tokens": input_raw,
        "output_tokens": output_raw,
        "cache_read": first_count(
            reading, both,
            "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "num_cached_tokens",
        ),
        "cache_write": first_count(
            reading, both, "cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens"
        ),
        "cache_write_5m": first_count(reading, (lifetimes,), "ephemeral_5m_input_tokens"),
        "cache_write_1h": first_count(reading, (lifetimes,), "ephemeral_1h_input_tokens"),
        "reasoning": first_count(reading, (outputs, usage), "reasoning_tokens"),
        "audio_input": first_count(reading, into, "audio_tokens"),
        "audio_output": first_count(reading, out, "audio_tokens"),
        "image_input": first_count(reading, into, "image_tokens"),
        "image_output": first_count(reading, out, "image_tokens"),
        "input_raw": input_raw,
        "output_raw": output_raw,
        "total_reported": first_count(reading, top, "total_tokens"),
        "seconds": seconds_of(usage, reading),
        "cost_usd": cost_of(usage, reading),
    }  # fmt: skip
    reading.usage_raw = usage
    reading.service_tier = named(usage.get("service_tier")) or reading.service_tier
    if all(value is None for value in found.values()):
        return None
    return closed(Usage(**found), first_count(reading, top, "connector_tokens"), reading)


def seconds_of(usage: dict[str, Any], reading: Reading) -> float | None:
    """The length of the sound that is billed (OpenAI, Mistral)."""
    name = "seconds" if usage.get("seconds") is not None else "prompt_audio_seconds"
    given = usage.get(name)
    return None if given == {} else number(given, reading, name)  # so Mistral writes that there was no sound


def cost_of(usage: dict[str, Any], reading: Reading) -> float | None:
    """The price in US dollars where the service states it (OpenRouter, Perplexity, xAI, DeepInfra)."""
    cost = usage.get("cost")
    if isinstance(cost, dict):
        cost = cost.get("total_cost")
    if cost is None:
        cost = usage.get("estimated_cost")
    if cost is None and usage.get("cost_in_usd_ticks") is not None:
        ticks = number(usage["cost_in_usd_ticks"], reading, "cost_in_usd_ticks")
        return None if ticks is None else ticks / TICKS_PER_DOLLAR
    return number(cost, reading, "cost")


def closed(usage: Usage, connectors: int | None, reading: Reading) -> Usage:
    """*usage* with a part that stands beside the two main numbers, in the total only, added to the one it belongs to.

    xAI leaves reasoning out of ``completion_tokens``, audio models leave audio out, Mistral leaves out what its
    *connectors* (web search, code) brought into the prompt; the total tells.
    """
    into, out, total = usage.input_tokens, usage.output_tokens, usage.total_reported
    if into is None or out is None or total is None or total <= into + out:
        return usage
    gap = total - into - out
    cache = (usage.cache_read or 0) + (usage.cache_write or 0)
    for name, part, side in (
        ("reasoning", usage.reasoning, "output_tokens"),
        ("audio output", usage.audio_output, "output_tokens"),
        ("audio input", usage.audio_input, "input_tokens"),
        ("cached tokens", cache, "input_tokens"),
        ("connector tokens", connectors, "input_tokens"),
    ):
        if part == gap:
            reading.notes.append(f"{name}: counted only in the total")
            return replace(usage, **{side: getattr(usage, side) + gap})
    reading.notes.append(f"the total has {gap} tokens more than input and output")
    return usage
