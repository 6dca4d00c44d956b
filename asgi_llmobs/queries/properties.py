"""The properties: their names, how many requests carry each, its values, and what these requests cost."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
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
        looked, edge = rows_of(connection, replace(flt, since_ns=since_ns, until_ns=until_ns), columns)
        rows = sorted(looked, key=lambda row: (row.start_ns, row.key), reverse=True)
    members: dict[str, list[Any]] = defaultdict(list)
    values: dict[str, Counter[str]] = defaultdict(Counter)
    labels: dict[str, str] = {}
    for row in rows:
        carried = {fold_name(label): (label, value) for label, value in orjson.loads(row.properties or "{}").items()}
        for folded, (label, value) in carried.items():
            labels.setdefault(folded, label)
            members[folded].append(row)
            values[folded][value] += 1
    found = [summed(folded, labels[folded], own, values[folded]) for folded, own in members.items()]
    found.sort(key=lambda one: (-one.requests, one.name))
    return found, min(len(rows), MOST_ROWS), edge


def summed(folded: str, label: str, rows: Sequence[Any], values: Counter[str]) -> PropertyRow:
    costs = [row.cost for row in rows if row.cost is not None]
    return PropertyRow(
        name=folded,
        label=label,
        requests=len(rows),
        values=len(values),
        largest=values.most_common(5),
        errors=sum(row.outcome == "error" for row in rows),
        total_cost_usd=dollars(sum(costs) if costs else None),
        unpriced_count=sum(row.cost is None and row.outcome != "running" for row in rows),
        last_ns=rows[0].start_ns,
    )
