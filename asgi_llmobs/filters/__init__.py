"""What a list is narrowed down to: the search language, and the one value that addresses, pages and queries share."""

from asgi_llmobs.filters.filter import Condition, Filter

__all__ = ["Condition", "Filter"]
