"""The user's own prices: what is written, checked and read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from asgi_llmobs.errors import ConfigError

__all__ = ["OWN", "Override", "read_overrides"]

# the names of an override, and what a bucket falls back to
OWN: Mapping[str, tuple[str, ...]] = {
    "input_uncached": ("input",),
    "cache_read": ("cache_read", "input"),
    "cache_write": ("cache_write", "input"),
    "cache_write_5m": ("cache_write_5m", "cache_write", "input"),
    "cache_write_1h": ("cache_write_1h", "cache_write", "input"),
    "audio_input": ("audio_input", "input"),
    "image_input": ("image_input", "input"),
    "output_text": ("output",),
    "reasoning": ("reasoning", "output"),
    "audio_output": ("audio_output", "output"),
    "image_output": ("image_output", "output"),
}
OWN_NAMES = tuple(dict.fromkeys(label for labels in OWN.values() for label in labels))


@dataclass(frozen=True, slots=True)
class Override:
    """One price of the user's own."""

    pattern: re.Pattern[str]
    name: str
    provider: str | None
    since: date
    prices: Mapping[str, Decimal]


def read_overrides(prices: Mapping[str, Any]) -> list[Override]:
    """The user's prices, the longest pattern and the latest date first."""
    if not isinstance(prices, Mapping):
        raise ConfigError("prices", 'give a mapping such as {"my-model*": {"input": 1.0, "output": 2.0}}')
    found = [
        read_override(pattern, one)
        for pattern, given in prices.items()
        for one in (given if isinstance(given, list | tuple) else [given])
    ]
    found.sort(key=lambda override: (len(override.name), override.provider is not None, override.since), reverse=True)
    return found


def read_override(pattern: Any, given: Any) -> Override:
    if not isinstance(pattern, str) or not pattern.strip():
        raise ConfigError("prices", f"{pattern!r} is no model pattern; write a name such as gpt-4o or my-model*")
    if not isinstance(given, Mapping):
        raise ConfigError("prices", f'{pattern}: give a mapping such as {{"input": 1.0, "output": 2.0}}')
    values = dict(given)
    since = values.pop("from", None)
    provider = values.pop("provider", None)
    if provider is not None and not isinstance(provider, str):
        raise ConfigError("prices", f"{pattern}: provider is a name such as openai, not {provider!r}")
    for label in values:
        if label not in OWN_NAMES:
            known = ", ".join(OWN_NAMES)
            raise ConfigError("prices", f"{pattern}: there is no {label!r}; write {known}, from or provider")
    if not values:
        raise ConfigError("prices", f"{pattern}: name at least one price, e.g. input or output")
    text = ".*".join(re.escape(part) for part in pattern.strip().lower().split("*"))
    return Override(
        re.compile(text, re.DOTALL),
        pattern.strip(),
        provider,
        read_date(pattern, since),
        {label: read_price(pattern, label, value) for label, value in values.items()},
    )


def read_date(pattern: str, value: Any) -> date:
    if value is None:
        return date.min
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ConfigError("prices", f"{pattern}: from is a date such as 2026-01-31, not {value!r}") from None


def read_price(pattern: str, label: str, value: Any) -> Decimal:
    try:
        price = Decimal(str(value)) if not isinstance(value, bool) else Decimal("NaN")
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite() or price < 0:
        raise ConfigError("prices", f"{pattern}: {label} is dollars per million tokens, at least 0, not {value!r}")
    return price
