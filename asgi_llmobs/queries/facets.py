"""What a list has in common: how often each value occurs among its newest rows."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.select import newest_by_column
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.rows import fold_name
from asgi_llmobs.store.tables import SpanRow

__all__ = ["Facet", "facets"]

ROWS = 1_000  # that are counted
MOST_VALUES = 6
MOST_PROPERTIES = 4
spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
# the key of a search, and the column that tells its value
FIELDS: Mapping[str, Any] = {
    "status": spans.c.outcome,
    "model": spans.c.request_model,
    "provider": spans.c.provider,
    "operation": spans.c.operation,
    "route": spans.c.route,
    "user": spans.c.user_id,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """One key and its most frequent values. ``more`` is how many others there are."""

    key: str
    label: str  # of a property its name
    values: Sequence[tuple[str, int]]
    more: int


def facets(db: Database, flt: Filter) -> tuple[list[Facet], int]:
    """The facets of what *flt* means, and how many of the newest rows were counted.

    What is chosen within one facet does not take its other values away: they are alternatives.

    Raises:
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        *counted, texts = newest_by_column(connection, flt, (*FIELDS.values(), spans.c.properties), limit=ROWS)
        found = [facet(key, "", counts_of(values)) for key, values in zip(FIELDS, counted, strict=True)]
        properties = property_counts(texts)
        for place, key in enumerate(FIELDS):
            if getattr(flt, key):
                others: dict[str, Any] = {key: ()}
                (alone,) = newest_by_column(connection, replace(flt, **others), (FIELDS[key],), limit=ROWS)
                found[place] = facet(key, "", counts_of(alone))
        for label in {fold_name(label) for label, _ in flt.properties}:
            left = tuple(pair for pair in flt.properties if fold_name(pair[0]) != label)
            (alone,) = newest_by_column(connection, replace(flt, properties=left), (spans.c.properties,), limit=ROWS)
            own = property_counts(alone)
            properties.update({key: counts for key, counts in own.items() if fold_name(key) == label})
    named = {fold_name(label) for label, _ in flt.properties}
    ranked = sorted(properties.items(), key=lambda item: (fold_name(item[0]) not in named, -item[1].total(), item[0]))
    found += [facet("property", label, counts) for label, counts in ranked[:MOST_PROPERTIES]]
    return [one for one in found if one.values], len(texts)


def facet(key: str, label: str, counts: "Counter[str]") -> Facet:
    best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Facet(key=key, label=label, values=best[:MOST_VALUES], more=max(0, len(best) - MOST_VALUES))


def counts_of(values: Sequence[str | None]) -> "Counter[str]":
    counts = Counter(values)
    del counts[None]
    return counts  # type: ignore[return-value]


def property_counts(texts: Sequence[str | None]) -> "dict[str, Counter[str]]":
    """How often each value of each property occurs, by the name as it was written first."""
    folded: dict[str, str] = {}
    written: dict[str, str] = {}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text, times in Counter(text for text in texts if text).items():
        for label, value in orjson.loads(text).items():
            known = folded.get(label)
            if known is None:
                known = folded[label] = written.setdefault(fold_name(label), label)
            counts[known][value] += times
    return counts
