"""The filter of a list page: from the address to a filter, and back to its form, its chips and its next page."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from asgi_llmobs.admin.page import View
from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.select import Listing

__all__ = ["Chip", "chips", "filter_of", "limit_of", "list_context"]

PAGING = ("cursor", "limit")
SEVERAL = ("model", "provider", "status", "operation")
FIELDS = (*SEVERAL, "user", "session", "route", "q", "since", "until", "min_cost", "min_latency")
ROWS = 50
MOST_ROWS = 200

Items = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One condition in force, and the query without it."""

    name: str
    value: str
    without: Items


def filter_of(view: View) -> Filter:
    """What the address narrows the list down to; empty fields of the form do not count.

    Raises:
        FilterError: A name or value is not understood, or the visitor may not search in texts.
    """
    items = [pair for name, value in view.query if name not in PAGING and value.strip() for pair in pairs(name, value)]
    found = Filter.from_query(items, project=view.project)
    if "text" in found.keys and not view.content:
        raise FilterError("q", "your role does not see prompts and answers, so it cannot search in them")
    return found


def pairs(name: str, value: str) -> Items:
    """What a field of the form stands for: one value, several with commas between, or ``name=value``."""
    if name in SEVERAL:
        return [(name, part.strip()) for part in value.split(",") if part.strip()]
    if name != "property":
        return [(name, value)]
    label, equals, text = value.partition("=" if "=" in value else ":")
    if not equals or not label.strip():
        raise FilterError("property", "write name=value")
    return [(f"property.{label.strip()}", text.strip())]


def limit_of(view: View) -> int:
    """How many rows a page has.

    Raises:
        FilterError: It is not a number from 1 to 200.
    """
    text = view.get("limit") or str(ROWS)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST_ROWS):
        raise FilterError("limit", f"write a number from 1 to {MOST_ROWS}")
    return int(text)


def chips(items: Items) -> list[Chip]:
    """The conditions, each with what remains when it is taken away."""
    return [
        Chip(name=name, value=value, without=items[:place] + items[place + 1 :])
        for place, (name, value) in enumerate(items)
    ]


def list_context(view: View, flt: Filter, listing: Listing[Any]) -> dict[str, Any]:
    """What every list page shows beside its rows."""
    items = flt.to_query()
    limit = [("limit", view.get("limit"))] if view.get("limit") else []
    return {
        "rows": listing.rows,
        "count": listing.count,
        "count_capped": listing.count_capped,
        "partial": listing.partial,
        "next_cursor": listing.next_cursor,
        "previous_cursor": listing.previous_cursor,
        "filter": items,
        "words": flt.words(),
        "form": fields_of(items),
        "chips": chips(items),
        "links": {
            "next": with_cursor(items + limit, listing.next_cursor),
            "previous": with_cursor(items + limit, listing.previous_cursor),
        },
    }


def fields_of(items: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What the fields of the form start with; what has no field (left) is ``hidden`` and sent along."""
    fields: dict[str, str] = {}
    hidden: Items = []
    for name, value in items:
        if name.startswith("property.") and "property" not in fields:
            fields["property"] = f"{name.removeprefix('property.')}={value}"
        elif name in SEVERAL and name in fields:
            fields[name] += f", {value}"
        elif name in FIELDS and name not in fields:
            fields[name] = value
        else:
            hidden.append((name, value))
    return {"fields": fields, "hidden": hidden}


def with_cursor(items: Items, cursor: str | None) -> Items | None:
    return None if cursor is None else [*items, ("cursor", cursor)]
