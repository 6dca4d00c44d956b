"""The filter of a list page: from the address to a filter, and back to its search bar, its chips and its next page."""

from dataclasses import dataclass, replace
from typing import Any

from asgi_llmobs.admin.page import View
from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.filters.expression import written
from asgi_llmobs.queries.paging import Listing

__all__ = ["Chip", "Items", "chips", "filter_of", "kept", "limit_of", "list_context"]

SHOWN = ("columns", "sort", "order", "limit")  # how a list is shown: goes along with every link
OTHERS = ("cursor", "after", "open", *SHOWN)
SEVERAL = ("model", "provider", "status", "operation")
ROWS = 50
MOST_ROWS = 200

Items = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One condition in force as it is written in a search, and the query without it."""

    text: str
    without: Items


def filter_of(view: View) -> Filter:
    """What the address narrows the list down to; empty fields of the form do not count.

    Raises:
        FilterError: A name or value is not understood, or the visitor may not search in texts.
    """
    items = [pair for name, value in view.query if name not in OTHERS and value.strip() for pair in pairs(name, value)]
    found = Filter.from_query(items, project=view.project)
    if "text" in found.keys and not view.content:
        raise FilterError("q", "your role does not see prompts and answers, so it cannot search in them")
    return found


def pairs(name: str, value: str) -> Items:
    """What a field of an address stands for: one value, several with commas between, or ``name=value``."""
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


def kept(view: View) -> Items:
    """What the address says of how the list is shown."""
    said = [(name, ",".join(view.all(name)) if name == "columns" else view.get(name)) for name in SHOWN]
    return [(name, value) for name, value in said if value]


def chips(flt: Filter, more: Items) -> list[Chip]:
    """The conditions, each with what remains when it is taken away; *more* stays in any case."""
    found = [
        Chip(text=written(condition.item), without=condition.without.to_query() + more)
        for condition in flt.conditions()
    ]
    for name in ("since", "until"):
        said = next((value for key, value in flt.to_query() if key == name), None)
        if said is not None:
            changes: dict[str, Any] = {name: "", f"{name}_ns": None}
            found.append(Chip(text=f"{name}:{said}", without=replace(flt, **changes).to_query() + more))
    return found


def list_context(view: View, flt: Filter, listing: Listing[Any]) -> dict[str, Any]:
    """What every list page shows beside its rows."""
    items, more = flt.to_query(), kept(view)
    return {
        "rows": listing.rows,
        "count": listing.count,
        "count_capped": listing.count_capped,
        "partial": listing.partial,
        "next_cursor": listing.next_cursor,
        "previous_cursor": listing.previous_cursor,
        "filter": items,
        "search": flt.search,
        "words": flt.words(),
        "form": {"search": flt.search, **dict(item for item in items if item[0] in ("since", "until")), "kept": more},
        "chips": chips(flt, more),
        "links": {
            "next": with_cursor(items + more, listing.next_cursor),
            "previous": with_cursor(items + more, listing.previous_cursor),
        },
    }


def with_cursor(items: Items, cursor: str | None) -> Items | None:
    return None if cursor is None else [*items, ("cursor", cursor)]
