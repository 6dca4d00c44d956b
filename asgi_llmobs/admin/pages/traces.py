"""The traces: the list, and one as a tree with its waterfall."""

from collections.abc import Sequence
from typing import Any

from asgi_llmobs.admin.curtain import bare_row
from asgi_llmobs.admin.narrow import filter_of, limit_of, list_context
from asgi_llmobs.admin.page import NotFound, Page, Permission, View
from asgi_llmobs.errors import FilterError
from asgi_llmobs.queries.traces import TraceNode, get_trace, list_traces

__all__ = ["ROUTES"]

NODES = 500  # of a tree on one page


def load_list(view: View) -> dict[str, Any]:
    """A page of the list."""
    flt = filter_of(view)
    listing = list_traces(view.database, flt, cursor=view.get("cursor") or None, limit=limit_of(view))
    return list_context(view, flt, listing)


def load_one(view: View) -> dict[str, Any]:
    """One trace and the node that the address names; without one the first request, which is what most look for."""
    tree = get_trace(view.database, view.params["id"], project=view.project)
    if tree is None:
        raise NotFound
    nodes = tree.nodes if view.content else [bare_row(node) for node in tree.nodes]
    wanted = view.get("node")
    selected = next((node for node in nodes if node.id == wanted), None)
    if selected is None:
        selected = next((node for node in nodes if node.is_request), nodes[0] if nodes else None)
    return {
        "trace": {name: getattr(tree, name) for name in tree.__slots__ if name != "nodes"},
        "nodes": nodes,
        "selected": selected,
        "window": window(view, nodes, selected),
        "span_ns": max((node.offset_ns + (node.duration_ns or 0) for node in nodes), default=0),
    }


def window(view: View, nodes: Sequence[TraceNode], selected: TraceNode | None) -> dict[str, int]:
    """Which nodes the page draws: a large tree comes in pieces, by default the one with the selected node in it."""
    text = view.get("from")
    if text and not (text.isascii() and text.isdigit() and int(text[:9]) < max(1, len(nodes))):
        raise FilterError("from", f"write a number from 0 to {max(0, len(nodes) - 1)}")
    place = int(text[:9]) if text else next((place for place, node in enumerate(nodes) if node is selected), 0)
    start = place // NODES * NODES
    return {"start": start, "stop": min(start + NODES, len(nodes))}


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
