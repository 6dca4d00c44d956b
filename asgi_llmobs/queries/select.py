"""The only place where a filter becomes SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["COUNT_LIMIT", "Listing"]

COUNT_LIMIT = 10_001

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[Row]):
    """One page of a list, newest first.

    ``partial`` is true where the search stopped before the page was full although older rows exist;
    ``next_cursor`` then searches further back. ``count`` counts at most 10,001 rows; ``count_capped`` says that
    there are, or may be, more.
    """

    rows: Sequence[Row]
    next_cursor: str | None = None
    previous_cursor: str | None = None
    count: int = 0
    count_capped: bool = False
    partial: bool = False
