"""What a request cost: reported by the provider, priced by the user, or by the price library."""

from collections.abc import Mapping
from typing import Any

from asgi_llmobs.records import Cost, Reading

__all__ = ["Pricer"]


class Pricer:
    """Turns usage into dollars.

    Args:
        prices: Own prices by model pattern, see the option ``prices``.

    Raises:
        ConfigError: A price cannot work.
    """

    def __init__(self, prices: Mapping[str, Any] | None = None) -> None:
        raise NotImplementedError

    def price(self, reading: Reading, start_ns: int, url_or_provider: str | None = None) -> Cost:
        """The price of what *reading* says, at the time *start_ns*; without an amount it gives the reason."""
        raise NotImplementedError
