"""What a provider's cache saved: what is read from it is cheaper, what is written into it may be dearer."""

from collections.abc import Mapping
from decimal import Decimal

from asgi_llmobs.pricing.rates import Rate, Rates

__all__ = ["saved_by_cache"]

MILLION = Decimal(1_000_000)
WRITES = ("cache_write", "cache_write_5m", "cache_write_1h")


def saved_by_cache(rates: Rates, buckets: Mapping[str, int], input_tokens: int = 0) -> Decimal | None:
    """Dollars that the same tokens would have cost more without a cache; below 0 where writing it cost more.

    Args:
        rates: Of the model.
        buckets: Tokens by bucket: ``cache_read``, ``cache_write``, ``cache_write_5m``, ``cache_write_1h`` count.
        input_tokens: Of a single request, all of them: which tier its rates are of. 0 for the lowest.

    Returns:
        ``None`` where the price of input, or of what was read or written, is not known.
    """
    plain = rates.rates.get("input_uncached")
    saved = Decimal(0)
    for bucket in ("cache_read", *WRITES):
        if tokens := buckets.get(bucket, 0):
            rate: Rate | None = rates.rates.get(bucket)
            if plain is None or rate is None:
                return None
            saved += tokens * (plain.at(input_tokens) - rate.at(input_tokens)) / MILLION
    return saved
