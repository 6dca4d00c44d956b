"""The models: cost, speed, what was cut off, what has no price; and one of them with a dashboard of its own."""

from typing import Any

from asgi_llmobs.admin.board import board, picks, rates, span_of, without
from asgi_llmobs.admin.curtain import bare_row
from asgi_llmobs.admin.formats import reference
from asgi_llmobs.admin.narrow import filter_of
from asgi_llmobs.admin.page import NotFound, Page, Permission, View
from asgi_llmobs.admin.saved import cell_saved
from asgi_llmobs.filters import Filter
from asgi_llmobs.pricing import Pricer, catalogued
from asgi_llmobs.queries.figures import edges, figures
from asgi_llmobs.queries.models import models_seen, unpriced_reasons
from asgi_llmobs.queries.overview import Cell
from asgi_llmobs.queries.requests import newest_requests

__all__ = ["ROUTES"]

NEWEST = 12
MOST = 200


def load_list(view: View) -> dict[str, Any]:
    """The models that were asked in a range of time."""
    flt = filter_of(without(view))
    span = span_of(flt, *edges(view.database, view.project))
    found = figures(
        view.database, flt, since_ns=span.since_ns, until_ns=span.until_ns, by=("model", "provider"), compared=False,
        top=0, shares=(0.5, 0.95, 0.99),
    )  # fmt: skip
    cells = found.groups[:MOST]
    seen = models_seen(view.database, view.project, dict.fromkeys(str(cell.key[0]) for cell in cells))
    length = found.window.until_ns - found.window.since_ns
    items, pricer = flt.to_query(), Pricer(view.config.prices)
    return {
        "slug": "models",
        "window": found.window,
        "span": {"word": span.word, "chosen": span.chosen},
        "picks": picks([pair for pair in items if pair[0] not in ("since", "until")], []),
        "filter": items,
        "time": [pair for pair in items if pair[0] in ("since", "until")],
        "words": flt.words(),
        "partial_since_ns": found.partial_since_ns,
        "total": found.total,
        "rows": [
            {
                **row(cell, length, seen.get(str(cell.key[0]))),
                "saved_usd": cell_saved(pricer, cell, str(cell.key[1]), str(cell.key[0]), found.window.until_ns),
            }
            for cell in cells
        ],
        "more": len(found.groups) - len(cells),
    }


def row(cell: Cell, length_ns: int, seen: Any) -> dict[str, Any]:
    model, provider = str(cell.key[0]), str(cell.key[1])
    known = catalogued(provider, model) if model else None
    return {
        "model": model,
        "provider": provider,
        "figures": cell,
        "rates": rates(cell, length_ns),
        "first_ns": seen.first_ns if seen else None,
        "last_ns": seen.last_ns if seen else None,
        "known": known is not None,
        "deprecated": known is not None and known.deprecated,
    }


def load_one(view: View) -> dict[str, Any]:
    """One model, by the name that it was asked for."""
    model = view.params["model"]
    seen = models_seen(view.database, view.project, [model]).get(model)
    if seen is None:
        raise NotFound
    found = board(
        view, f"models/{reference(model)}", fixed=[("model", model)], by=("route",), seen=(seen.first_ns, seen.last_ns)
    )
    window, total = found["window"], found["total"]
    reasons = []
    if total.unpriced_count:
        reasons = unpriced_reasons(
            view.database, view.project, model, since_ns=window.since_ns, until_ns=window.until_ns
        )  # fmt: skip
    newest = newest_requests(view.database, Filter(project=view.project, model=(model,)), limit=NEWEST)
    providers = dict.fromkeys(one.provider for one in newest)
    return {
        **found,
        "model": model,
        "seen": seen,
        "providers": {provider: catalogued(provider, model) for provider in providers},
        "unpriced": reasons,
        "price_missing": any(one.reason.startswith("no price") for one in reasons),
        "newest": [one if view.content else bare_row(one) for one in newest],
    }


ROUTES = (
    Page(
        slug="models", title="Models", template="pages/models.html", load=load_list, permission=Permission.VIEW,
        nav=True,
    ),
    Page(slug="models/{model}", title="Model", template="pages/model.html", load=load_one, permission=Permission.VIEW),
)  # fmt: skip
