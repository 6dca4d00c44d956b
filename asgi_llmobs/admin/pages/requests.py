"""The requests, as a list."""

from typing import Any

from asgi_llmobs.admin.curtain import bare_row
from asgi_llmobs.admin.narrow import filter_of, limit_of, list_context
from asgi_llmobs.admin.page import Page, Permission, View
from asgi_llmobs.queries.requests import list_requests

__all__ = ["ROUTES"]


def load_list(view: View) -> dict[str, Any]:
    """A page of the list."""
    flt = filter_of(view)
    listing = list_requests(view.database, flt, cursor=view.get("cursor") or None, limit=limit_of(view))
    context = list_context(view, flt, listing)
    if not view.content:
        context["rows"] = [bare_row(row) for row in listing.rows]
    return context


ROUTES = (
    Page(
        slug="requests",
        title="Requests",
        template="pages/requests.html",
        load=load_list,
        permission=Permission.VIEW,
        nav=True,
    ),
)
