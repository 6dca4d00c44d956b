"""Two traces beside each other: what is only in one, what is different in both, and what is alike left out."""

from dataclasses import replace
from typing import Any

from asgi_llmobs.admin.curtain import bare_row
from asgi_llmobs.admin.page import Page, Permission, View
from asgi_llmobs.admin.place import whole_number
from asgi_llmobs.errors import FilterError
from asgi_llmobs.queries.comparison import Compared, compare
from asgi_llmobs.queries.traces import TraceTree

__all__ = ["ROUTES"]

ROWS = 100
MOST = 100_000
SHOWN = ("differences", "all")
FIGURES = (
    "total_cost_usd", "unpriced_count", "duration_ns", "node_count", "span_count", "max_depth", "success_rate",
    "error_count", "input_tokens", "output_tokens",
)  # fmt: skip


def load(view: View) -> dict[str, Any]:
    """The comparison of the traces ``a`` and ``b``; without them the form that asks for them."""
    a, b = view.get("a").strip(), view.get("b").strip()
    shown = view.get("show") or SHOWN[0]
    if shown not in SHOWN:
        raise FilterError("show", f"write one of {', '.join(SHOWN)}")
    start = whole_number("from", view.get("from"), 0, MOST, 0)
    found = None
    if a and b:
        found = compare(view.database, a, b, project=view.project, alike=shown == "all", start=start, limit=ROWS)
        if found is None:
            raise FilterError("a", "there is no such pair of traces here: one may be erased, or of another project")
    page = found.nodes if found is not None else ()
    return {
        "asked": {"a": a, "b": b, "show": shown},
        "a": figures(found.a) if found is not None else None,
        "b": figures(found.b) if found is not None else None,
        "states": dict(found.states) if found is not None else {},
        "changes": dict(found.changes) if found is not None else {},
        "truncated": found is not None and (found.a.truncated or found.b.truncated),
        "nodes": page if view.content else [bare(node) for node in page],
        "window": {
            "start": start,
            "stop": start + len(page),
            "rows": found.count if found is not None else 0,
            "limit": ROWS,
        },
    }


def figures(tree: TraceTree) -> dict[str, Any]:
    names = ("trace_id", "name", "start_ns", "outcome", *FIGURES)
    return {name: getattr(tree, name) for name in names}


def bare(node: Compared) -> Compared:
    """A node without the texts of either side; that they differ is told by ``changes``."""
    a, b = (bare_row(side) if side is not None else None for side in (node.a, node.b))
    return replace(node, a=a, b=b)


ROUTES = (
    Page(
        slug="traces/compare",
        title="Two traces compared",
        template="pages/comparison.html",
        load=load,
        permission=Permission.VIEW,
    ),
)
