"""The endpoints: what a request to the app costs, and how much of its time models were waited for."""

from collections.abc import Sequence
from typing import Any

from asgi_llmobs.admin.board import picks, span_of, without
from asgi_llmobs.admin.charts import Chart, Line
from asgi_llmobs.admin.narrow import filter_of
from asgi_llmobs.admin.page import Page, Permission, View
from asgi_llmobs.queries.endpoints import Endpoint, endpoints
from asgi_llmobs.queries.figures import edges

__all__ = ["ROUTES"]

TIMES = ("since", "until")


def load(view: View) -> dict[str, Any]:
    """All routes of the app, or those that the address means."""
    flt = filter_of(without(view))
    oldest, newest = edges(view.database, view.project)
    span = span_of(flt, oldest, newest)
    found = endpoints(view.database, flt, since_ns=span.since_ns, until_ns=span.until_ns)
    items = flt.to_query()
    rest = [pair for pair in items if pair[0] not in TIMES]
    return {
        "slug": "endpoints",
        "window": found.window,
        "span": {"word": span.word, "chosen": span.chosen},
        "picks": picks(rest, []),
        "filter": items,
        "rest": rest,
        "words": " ".join(flt.route),
        "total": found.total,
        "routes": found.routes,
        "steps": found.steps,
        "charts": charts(found.steps),
        "partial_since_ns": found.partial_since_ns,
        "wasted": [one for one in found.routes if one.gone_cost_usd or one.failed_cost_usd],
    }


def charts(steps: Sequence[Endpoint]) -> list[Chart]:
    """What is drawn over time."""
    return [
        Chart(title="Time of an answer", unit="duration", kind="bars", note="on average", lines=[
            Line(label="Models", mark="c1", values=[each(one.waited_ns, one) for one in steps]),
            Line(label="Own code", mark="c2", values=[each(one.own_ns - one.waited_ns, one) for one in steps]),
        ]),
        Chart(title="Requests to the app", unit="count", kind="bars", lines=[
            Line(label="OK", mark="ok", values=[one.succeeded for one in steps]),
            Line(label="Gone", mark="gone", values=[one.gone for one in steps]),
            Line(label="Failed", mark="bad", values=[one.failed for one in steps]),
        ]),
        Chart(title="Cost of one that ended well", unit="money", kind="lines", lines=[
            Line(label="Cost", mark="c1", values=[one.cost_per_success_usd for one in steps]),
        ]),
        Chart(title="Spent for nothing", unit="money", kind="bars", lines=[
            Line(label="Gone", mark="gone", values=[one.gone_cost_usd for one in steps]),
            Line(label="Failed", mark="bad", values=[one.failed_cost_usd for one in steps]),
        ]),
    ]  # fmt: skip


def each(ns: int, one: Endpoint) -> int | None:
    """The average over the requests that have a duration."""
    ended = one.requests - one.running
    return ns // ended if ended else None


ROUTES = (
    Page(
        slug="endpoints", title="Endpoints", template="pages/endpoints.html", load=load, permission=Permission.VIEW,
        nav=True,
    ),
)  # fmt: skip
