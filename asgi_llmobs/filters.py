"""What a list is narrowed down to: one value that addresses, pages and queries share."""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Filter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which requests are meant. Values of one field are alternatives, fields are all required.

    Args:
        project: The isolation boundary; always applies, never comes from a query.
        model: Requested or answering model; ``*`` stands for anything.
        status: Outcomes (``ok`` … ``running``), HTTP status codes (``429``) or their classes (``4xx`` ``5xx``).
        properties: Pairs of name (any case) and value.
        text: Words that must all occur in input or output; ``"quoted words"`` as a phrase.
        since_ns: Inclusive, nanoseconds since 1970.
        until_ns: Exclusive, nanoseconds since 1970.
        since: What ``since_ns`` was written as (``24h``), so that the address keeps its meaning.
        until: What ``until_ns`` was written as.
        min_cost: In US dollars, like ``max_cost``.
        min_latency: In seconds, like ``max_latency``.
    """

    project: str = "default"
    model: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    operation: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    session: tuple[str, ...] = ()
    trace: tuple[str, ...] = ()
    route: tuple[str, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    text: str = ""
    since_ns: int | None = None
    until_ns: int | None = None
    since: str = ""
    until: str = ""
    min_cost: float | None = None
    max_cost: float | None = None
    min_latency: float | None = None
    max_latency: float | None = None

    @classmethod
    def from_query(
        cls, items: Iterable[tuple[str, str]], *, project: str = "default", now_ns: int | None = None
    ) -> "Filter":
        """The filter that a query string means.

        Args:
            items: Names and values in order, repeated names allowed: ``request.query_params.multi_items()`` less
                the names that are not the filter's (``cursor``, ``limit`` …).
            project: The project whose data may be seen.
            now_ns: What relative times count from; now unless given.

        Raises:
            FilterError: A name or a value is not understood; it names the field.
        """
        raise NotImplementedError

    def to_query(self) -> list[tuple[str, str]]:
        """Names and values that :meth:`from_query` turns into this filter again."""
        raise NotImplementedError

    def words(self) -> str:
        """The filter in words for people; empty where everything is meant."""
        raise NotImplementedError
