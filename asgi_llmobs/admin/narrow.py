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
    items = [(name, value) for name, value in view.query if name not in PAGING and value.strip()]
    found = Filter.from_query(items, project=view.project)
    if found.text and not view.content:
        raise FilterError("text", "your role does not see prompts and answers, so it cannot search in them")
    return found


def limit_of(view: View) -> int:
    """How many rows a page has.

    Raises:
        FilterError: It is not a number from 1 to 200.
    """
    text = view.get("limit") or str(ROWS)
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= MOST_ROWS:
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
        "form": first_values(items),
        "links": {
            "next": with_cursor(items + limit, listing.next_cursor),
            "previous": with_cursor(items + limit, listing.previous_cursor),
        },
    }


def first_values(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What the fields of the form start with: several values of one field stand side by side, as they are read."""
    out: dict[str, str] = {}
    for name, value in items:
        out[name] = f"{out[name]},{value}" if name in out else value
    return out


def with_cursor(items: Items, cursor: str | None) -> Items | None:
    return None if cursor is None else [*items, ("cursor", cursor)]
