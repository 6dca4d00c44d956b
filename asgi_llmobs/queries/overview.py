"""The totals: how many requests a filter means, how many of them failed, and what they cost."""

from dataclasses import dataclass
from decimal import Decimal

from asgi_llmobs.filters import Filter
from asgi_llmobs.store.database import Database

__all__ = ["Totals", "totals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over requests. What is unknown is not in the sums and is counted beside them."""

    requests: int
    errors: int  # outcome other than ok and running
    total_cost_usd: Decimal | None  # None where no request has a price
    unpriced_count: int
    input_tokens: int | None
    output_tokens: int | None
    cache_read: int | None


def totals(db: Database, flt: Filter) -> Totals:
    """The totals of the requests that *flt* means."""
    raise NotImplementedError
