"""Turns what a record says was used into dollars."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from asgi_llmobs.pricing.catalogue import PROVIDERS, library_rates, other_places
from asgi_llmobs.pricing.overrides import OWN, read_overrides
from asgi_llmobs.pricing.rates import Offer, Rate, Rates, by_bucket
from asgi_llmobs.records import Cost, CostLine, Reading, Usage

__all__ = ["Pricer"]

MILLION = Decimal(1_000_000)
SLOT = 900  # seconds: some prices change with the time of day, on quarters of an hour

# who makes a model that an unknown host serves: its list price is not known to hold there
UNKNOWN = frozenset(("unknown", ""))
TIERS = {"auto": "default", "standard": "default", "standard_only": "default"}


class Pricer:
    """Turns usage into dollars.

    Args:
        prices: Own prices by model pattern (``*`` stands for anything), in dollars per million tokens:
            ``{"my-model*": {"input": 1.0, "output": 2.0, "cache_read": 0.1, "from": "2026-01-01",
            "provider": "openai"}}``; several prices of one pattern as a list. The latest ``from`` that has come
            holds, and of several patterns the longest.

    Raises:
        ConfigError: A price cannot work; it names what to write instead.
    """

    def __init__(self, prices: Mapping[str, Any] | None = None) -> None:
        self._overrides = read_overrides(prices or {})

    def price(self, reading: Reading, start_ns: int, url_or_provider: str | None = None) -> Cost:
        """The price of what *reading* says.

        Args:
            reading: Provider, models, usage and service tier of an answer.
            start_ns: When the request began: prices change.
            url_or_provider: Its address, or the provider's name; helps where the reading names no provider.

        Returns:
            The amount with its lines, or no amount and the reason.
        """
        usage = reading.usage
        if usage is None:
            return Cost(reason="no usage")
        if usage.cost_usd is not None:
            return reported(usage)
        if usage.total_tokens is None:
            return Cost(reason=unpriced_units(usage))
        moment = slot(max(0, min(start_ns, 2**62)) // (SLOT * 1_000_000_000))
        models = [model for model in (reading.response_model, reading.request_model) if model]
        if not models:
            return Cost(reason="no model is named")
        own = self._own(reading, moment.date())
        if own is not None:
            return priced(usage, own)
        tier = tier_of(reading)
        place = provider_of(reading, url_or_provider)
        found = Rates({}, reason="no model is named")
        for model in models:
            found = library_rates(place, model, moment, tier)
            if found.reason is None:
                return priced(usage, found)
        return Cost(reason=found.reason)

    def rates(self, provider: str, model: str, time_ns: int) -> Rates:
        """The rates by bucket that hold for *model* at *provider*, or the reason why none are known.

        Args:
            provider: As in a record.
            model: As it was asked for.
            time_ns: When.
        """
        moment = slot(max(0, min(time_ns, 2**62)) // (SLOT * 1_000_000_000))
        reading = Reading(provider=provider, request_model=model)
        own = self._own(reading, moment.date())
        return own if own is not None else library_rates(provider_of(reading, None), model, moment, "default")

    def offers(self, provider: str, model: str, time_ns: int) -> list[Offer]:
        """Who else sells the very model that *provider* serves under the name *model*: for prices of the library only.

        The name must be the same to the letter, apart from the maker's name before a slash. Who resells what others
        serve, or sells it with a subscription, is left out.
        """
        moment = slot(max(0, min(time_ns, 2**62)) // (SLOT * 1_000_000_000))
        reading = Reading(provider=provider, request_model=model)
        if self._own(reading, moment.date()) is not None:
            return []
        return other_places(provider_of(reading, None), model, moment)

    def _own(self, reading: Reading, day: date) -> Rates | None:
        if not self._overrides:
            return None
        models = [model.lower() for model in (reading.request_model, reading.response_model) if model]
        for override in self._overrides:
            if override.since > day or override.provider not in (None, reading.provider):
                continue
            if any(override.pattern.fullmatch(model) for model in models):
                rates = by_bucket({label: Rate(price) for label, price in override.prices.items()}, OWN)
                since = override.since.isoformat() if override.since > date.min else None
                return Rates(rates, source="override", price_date=since)
        return None


@lru_cache(maxsize=64)
def slot(number: int) -> datetime:
    """The start of the slot of time with that number."""
    return datetime.fromtimestamp(number * SLOT, UTC)


def reported(usage: Usage) -> Cost:
    """The price that the provider itself names."""
    amount = Decimal(repr(usage.cost_usd))
    if not amount.is_finite() or amount < 0:
        return Cost(reason="the provider reports a cost that is no amount")
    return Cost(amount=amount, source="provider")


def unpriced_units(usage: Usage) -> str:
    if usage.search_units is not None:
        return "billed by search units, which have no price here"
    if usage.seconds is not None:
        return "billed by seconds, which have no price here"
    return "no usage"


def charged(usage: Usage) -> Usage:
    """What of *usage* is charged: Cohere counts the prompt that it wraps around the given one, and gives it away."""
    if usage.billed_input is None and usage.billed_output is None:
        return usage
    return Usage(input_tokens=usage.billed_input, output_tokens=usage.billed_output)


def priced(usage: Usage, found: Rates) -> Cost:
    """Each bucket of what is charged at its rate; the amount is exactly the sum of the lines."""
    usage = charged(usage)
    lines = []
    whole = Decimal(0)
    size = usage.input_tokens or 0
    for bucket, tokens in usage.buckets().items():
        rate = found.rates.get(bucket)
        if rate is None:
            return Cost(reason=f"no price for {bucket} tokens", source=found.source)
        per_million = rate.at(size) if rate.tiers else rate.base
        amount = tokens * per_million / MILLION
        whole += amount
        lines.append(CostLine(bucket=bucket, tokens=tokens, per_million=per_million, amount=amount))
    if found.fee is not None:
        amount = found.fee / 1_000
        whole += amount
        lines.append(CostLine(bucket="request", tokens=1, per_million=found.fee * 1_000, amount=amount))
    return Cost(amount=whole, lines=tuple(lines), source=found.source, price_date=found.price_date)


def tier_of(reading: Reading) -> str:
    tier = (reading.service_tier or "default").lower()
    return TIERS.get(tier, tier)


def provider_of(reading: Reading, url_or_provider: str | None) -> str:
    """The price library's name for who answers: its id, or the address for it to know."""
    if reading.provider == "huggingface" and url_or_provider:
        return url_or_provider  # its address names who serves the model
    if reading.provider not in UNKNOWN:
        return PROVIDERS.get(reading.provider, reading.provider)
    return url_or_provider or ""
