"""What a bucket of tokens costs for a million of them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

__all__ = ["Offer", "Rate", "Rates", "by_bucket"]


class Rate(NamedTuple):
    """The price of a bucket per million tokens, and from how many input tokens on it is another."""

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()

    def at(self, input_tokens: int) -> Decimal:
        """The rate that holds for a request of so many input tokens."""
        rate = self.base
        for start, price in self.tiers:
            if input_tokens > start:
                rate = price
        return rate


class Rates(NamedTuple):
    """All a model's rates by bucket, or the reason why there are none."""

    rates: Mapping[str, Rate]
    fee: Decimal | None = None  # for a thousand requests
    source: str | None = None
    price_date: str | None = None
    reason: str | None = None


class Offer(NamedTuple):
    """A model at another provider."""

    provider: str
    model: str
    rates: Rates


def by_bucket(rates: Mapping[str, Rate], keys: Mapping[str, tuple[str, ...]]) -> dict[str, Rate]:
    """The rate of each bucket that has one, from *rates* under the names that *keys* gives, the first that is known."""
    found = {bucket: next((rates[key] for key in names if key in rates), None) for bucket, names in keys.items()}
    return {bucket: rate for bucket, rate in found.items() if rate is not None}
