"""The traces: the list, and one as a tree with its waterfall."""

from typing import Any

from asgi_llmobs.admin.curtain import bare_row
from asgi_llmobs.admin.folding import ORDERS, Folding
from asgi_llmobs.admin.narrow import filter_of, limit_of, list_context
from asgi_llmobs.admin.page import NotFound, Page, Permission, View
from asgi_llmobs.queries.traces import get_trace, list_traces, where_of

__all__ = ["ROUTES"]


def load_list(view: View) -> dict[str, Any]:
    """A page of the list."""
    flt = filter_of(view)
    listing = list_traces(view.database, flt, cursor=view.get("cursor") or None, limit=limit_of(view))
    return list_context(view, flt, listing)


def load_one(view: View) -> dict[str, Any]:
    """One trace and the node that the address names; without one the first request, which is what most look for."""
    folding = Folding(view)
    tree = get_trace(view.database, view.params["id"], project=view.project, choose=folding)
    if tree is None:
        raise NotFound
    nodes = list(tree.nodes) if view.content else [bare_row(node) for node in tree.nodes]
    window = folding.window
    selected = next((node for node in nodes if node.id == folding.selected), None)
    sent = selected is not None and not selected.virtual
    return {
        "trace": {name: getattr(tree, name) for name in tree.__slots__ if name != "nodes"},
        "nodes": nodes[: window["stop"] - window["start"]],
        "selected": selected,
        "where": where_of(view.database, folding.selected or "", project=view.project) if sent else {},
        "window": window,
        "folded": folding.folded,
        "crumbs": folding.crumbs,
        "path": folding.path,
        "above": folding.above,
        "landmarks": folding.landmarks,
        "orders": list(ORDERS),
        "asked": {name: view.get(name) for name in ("at", "order", "q", "limit")},
        "span_ns": folding.span_ns,
    }


ROUTES = (
    Page(
        slug="traces",
        title="Traces",
        template="pages/traces.html",
        load=load_list,
        permission=Permission.VIEW,
        nav=True,
    ),
    Page(slug="traces/{id}", title="Trace", template="pages/trace.html", load=load_one, permission=Permission.VIEW),
)
