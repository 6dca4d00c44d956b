"""The overview: what came in, what it cost, what failed, over time and by anything; and the newest requests."""

from dataclasses import replace
from typing import Any

from asgi_llmobs.admin.board import board, without
from asgi_llmobs.admin.curtain import bare_row
from asgi_llmobs.admin.narrow import filter_of
from asgi_llmobs.admin.page import Page, Permission, View
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import RequestRow, newest_requests

__all__ = ["ROUTES"]

NEWEST = 12
FAILED = 5


def load(view: View) -> dict[str, Any]:
    """The dashboard of all requests, or of those that the address means; rows only for those who may see rows."""
    found = board(view, "")
    flt = filter_of(without(view))
    window = found["window"]
    failed = replace(flt, status=("error",), since_ns=window.since_ns, until_ns=window.until_ns)
    return {
        **found,
        "newest": rows(view, flt, NEWEST),
        "failed": rows(view, failed, FAILED) if found["total"].errors and not flt.status else [],
    }


def rows(view: View, flt: Filter, limit: int) -> list[RequestRow]:
    if not view.may(Permission.VIEW):
        return []
    found = newest_requests(view.database, flt, limit=limit)
    return [row if view.content else bare_row(row) for row in found]


ROUTES = (
    Page(slug="", title="Overview", template="pages/overview.html", load=load, permission=Permission.METRICS, nav=True),
)
