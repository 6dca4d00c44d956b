"""What the providers' caches saved, of sums by provider and model."""

from collections.abc import Iterable
from decimal import Decimal

from asgi_llmobs.pricing import Pricer, saved_by_cache
from asgi_llmobs.queries.overview import Cell

__all__ = ["cell_saved", "saved_in_all"]


def cell_saved(pricer: Pricer, cell: Cell, provider: str, model: str, at_ns: int) -> Decimal | None:
    """Dollars saved at the list prices of a moment; ``None`` where nothing was cached or a price is not known."""
    if not (cell.cache_read or cell.cache_write):
        return None
    counts = {"cache_read": cell.cache_read, "cache_write": cell.cache_write}
    return saved_by_cache(pricer.rates(provider, model, at_ns), counts)


def saved_in_all(pricer: Pricer, cells: Iterable[Cell], at_ns: int) -> Decimal | None:
    """The sum over cells whose key is provider and model; ``None`` where none of them saved a known amount."""
    each = [cell_saved(pricer, cell, str(cell.key[0]), str(cell.key[1]), at_ns) for cell in cells]
    known = [amount for amount in each if amount is not None]
    return sum(known, Decimal(0)) if known else None
