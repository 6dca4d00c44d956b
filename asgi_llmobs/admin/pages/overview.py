"""The overview: what came in, what it cost, what failed, and the newest requests."""

from dataclasses import replace
from typing import Any

from asgi_llmobs.admin.curtain import bare_row
from asgi_llmobs.admin.page import Page, Permission, View
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.overview import totals
from asgi_llmobs.queries.requests import RequestRow, list_requests

__all__ = ["ROUTES"]

NEWEST = 12
PERIODS = ("24h", "7d")


def load(view: View) -> dict[str, Any]:
    """Totals of the last day, week and of all; rows only for those who may see rows."""
    ever = totals(view.database, Filter(project=view.project))
    periods = [{"period": period, "totals": totals(view.database, since(view, period))} for period in PERIODS]
    return {
        "periods": [*periods, {"period": None, "totals": ever}],
        "newest": newest(view, Filter(project=view.project), NEWEST),
        "failed": newest(view, replace(since(view, "24h"), status=("error",)), 5),
        "empty": ever.requests == 0,
    }


def since(view: View, period: str) -> Filter:
    return Filter.from_query([("since", period)], project=view.project)


def newest(view: View, flt: Filter, limit: int) -> list[RequestRow]:
    if not view.may(Permission.VIEW):
        return []
    rows = list_requests(view.database, flt, limit=limit).rows
    return [row if view.content else bare_row(row) for row in rows]


ROUTES = (
    Page(slug="", title="Overview", template="pages/overview.html", load=load, permission=Permission.METRICS, nav=True),
)
