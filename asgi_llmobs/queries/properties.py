"""The properties: their names, how many requests carry each, its values, and what these requests cost."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.figures import MOST_ROWS, rows_of
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.rows import fold_name
from asgi_llmobs.store.tables import SpanRow
from asgi_llmobs.store.values import dollars

__all__ = ["PropertyRow", "list_properties"]

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertyRow:
    """What requests that carry a property add up to. ``label`` is the name as it was written last."""

    name: str
    label: str
    requests: int
    values: int
    largest: Sequence[tuple[str, int]]  # the most frequent values, and how many requests have each
    errors: int
    total_cost_usd: Decimal | None
    unpriced_count: int
    last_ns: int


def list_properties(
    db: Database, flt: Filter, *, since_ns: int, until_ns: int
) -> tuple[list[PropertyRow], int, int | None]:
    """The properties of the requests that *flt* means, those that most carry first.

    Args:
        db: The store.
        flt: Which requests; its own times do not count.
        since_ns: Inclusive, nanoseconds since 1970.
        until_ns: Exclusive.

    Returns:
        The properties; how many requests were looked at; and since when, where older ones were not.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = (spans.c.properties, spans.c.cost, spans.c.outcome, spans.c.start_ns, spans.c.key)
    with db.read() as connection:
        found, edge = rows_of(connection, replace(flt, since_ns=since_ns, until_ns=until_ns), columns)
    texts, costs, outcomes, starts, keys = found
    properties: dict[str, Sums] = defaultdict(Sums)
    for text, cost, outcome, start, key in zip(texts, costs, outcomes, starts, keys, strict=True):
        for folded, label, value in carried(text or "{}"):
            properties[folded].add(label, value, cost, outcome, (start, key))
    rows = [own.row(folded) for folded, own in properties.items()]
    rows.sort(key=lambda one: (-one.requests, one.name))
    return rows, min(len(texts), MOST_ROWS), edge


@lru_cache(maxsize=4096)
def carried(text: str) -> tuple[tuple[str, str, str], ...]:
    """Folded name, name and value of each property of a row; of those with one folded name the last."""
    found = {fold_name(label): (label, value) for label, value in orjson.loads(text).items()}
    return tuple((folded, *own) for folded, own in found.items())


class Sums:
    """What the requests with a property add up to so far."""

    __slots__ = ("cost", "errors", "label", "last", "priced", "requests", "unpriced", "values")

    def __init__(self) -> None:
        self.values: Counter[str] = Counter()
        self.last = (0, 0)
        self.label = ""
        self.requests = self.errors = self.priced = self.unpriced = self.cost = 0

    def add(self, label: str, value: str, cost: int | None, outcome: str, at: tuple[int, int]) -> None:
        self.values[value] += 1
        self.requests += 1
        if cost is not None:
            self.priced += 1
            self.cost += cost
        elif outcome != "running":
            self.unpriced += 1
        if outcome == "error":
            self.errors += 1
        if at >= self.last:
            self.last, self.label = at, label

    def row(self, folded: str) -> PropertyRow:
        return PropertyRow(
            name=folded,
            label=self.label,
            requests=self.requests,
            values=len(self.values),
            largest=self.values.most_common(5),
            errors=self.errors,
            total_cost_usd=dollars(self.cost if self.priced else None),
            unpriced_count=self.unpriced,
            last_ns=self.last[0],
        )
