"""The properties: which there are, and what requests cost by the values of one, or of a pair."""

from dataclasses import replace
from typing import Any

from asgi_llmobs.admin.board import EVER, board, picks, span_of, without
from asgi_llmobs.admin.formats import reference
from asgi_llmobs.admin.narrow import filter_of
from asgi_llmobs.admin.page import Page, Permission, View
from asgi_llmobs.queries.figures import edges
from asgi_llmobs.queries.properties import list_properties

__all__ = ["ROUTES"]


def load_list(view: View) -> dict[str, Any]:
    """The properties of the requests in a range."""
    flt = filter_of(without(view))
    span = span_of(flt, *edges(view.database, view.project))
    rows, count, edge = list_properties(view.database, flt, since_ns=span.since_ns, until_ns=span.until_ns)
    items = flt.to_query()
    return {
        "slug": "properties",
        "span": {"word": span.word, "chosen": span.chosen},
        "picks": picks([pair for pair in items if pair[0] not in ("since", "until")], []),
        "filter": items,
        "words": flt.words(),
        "rows": rows,
        "count": count,
        "partial_since_ns": edge,
        "ever": EVER,
    }


def load_one(view: View) -> dict[str, Any]:
    """One property: requests by its values."""
    name = view.params["name"]
    by = tuple(value for key, value in view.query if key == "and" and value.strip())
    own = tuple(pair for pair in view.query if pair[0] not in ("by", "and"))
    asked = (("by", f"property.{name}"), *(("and", value) for value in by[:1]))
    found = board(replace(view, query=(*own, *asked)), f"properties/{reference(name)}")
    return {**found, "name": name, "kept": [("and", value) for value in by[:1]]}


ROUTES = (
    Page(
        slug="properties", title="Properties", template="pages/properties.html", load=load_list,
        permission=Permission.VIEW, nav=True,
    ),
    Page(
        slug="properties/{name}", title="Property", template="pages/property.html", load=load_one,
        permission=Permission.VIEW,
    ),
)  # fmt: skip
