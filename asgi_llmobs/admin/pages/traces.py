"""The traces: the list, and one in four projections of one selection: tree, timeline, messages, log."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from asgi_llmobs.admin.axis import Axis
from asgi_llmobs.admin.columns import headings, sorting_of
from asgi_llmobs.admin.conversation import Turn, conversation
from asgi_llmobs.admin.curtain import bare_row
from asgi_llmobs.admin.folding import Folding
from asgi_llmobs.admin.judging import Judged, judged
from asgi_llmobs.admin.narrow import filter_of, limit_of, list_context
from asgi_llmobs.admin.page import NotFound, Page, Permission, View
from asgi_llmobs.admin.place import ORDERS, PROJECTIONS, Place
from asgi_llmobs.admin.steps import Step, steps_of
from asgi_llmobs.queries.nodes import NodeDetail, around, attempts_by_id, node_detail
from asgi_llmobs.queries.select import GROUP_RANKS
from asgi_llmobs.queries.traces import TraceNode, get_trace, list_traces
from asgi_llmobs.records import Attempt

__all__ = ["ROUTES"]

PREVIEWED = 3  # messages of a request that are shown beside the tree


def load_list(view: View) -> dict[str, Any]:
    """A page of the list."""
    flt, ranks = filter_of(view), GROUP_RANKS["traces"]
    sorting = sorting_of(view, ranks)
    listing = list_traces(
        view.database, flt, cursor=view.get("cursor") or None, limit=limit_of(view),
        sort=sorting.by, lowest=sorting.lowest,
    )  # fmt: skip
    if not view.content:
        listing = replace(listing, rows=[bare_row(row) for row in listing.rows])
    longest = max([row.duration_ns or 0 for row in listing.rows], default=0)
    return {
        **list_context(view, flt, listing),
        "sort": sorting,
        "sorted_within": listing.sorted_within,
        "headings": headings(view, flt, ("time", *ranks), sorting, ranks),
        "longest_ns": longest,
        "now_ns": time.time_ns(),
    }


def load_one(view: View) -> dict[str, Any]:
    """One trace and the node that the address names; without one the first request, which is what most look for."""
    place = Place.read(view)
    folding = Folding(place)
    tree = get_trace(view.database, view.params["id"], project=view.project, choose=folding)
    if tree is None:
        raise NotFound
    nodes = list(tree.nodes) if view.content else [bare_row(node) for node in tree.nodes]
    window = folding.window
    rows = nodes[: window["stop"] - window["start"]]
    selected = next((node for node in nodes if node.id == folding.selected), None)
    low, high = place.range_ns() or (0, folding.span_ns)
    return {
        "trace": {name: getattr(tree, name) for name in tree.__slots__ if name != "nodes"},
        "nodes": rows,
        "selected": selected,
        "detail": detail_of(view, selected),
        "attempts": attempts_of(view, rows),
        "steps": steps(view, rows) if place.view == "messages" else (),
        "around": around(view.database, tree.trace_id, project=view.project),
        "axis": Axis(start_ns=low, end_ns=high, gaps=folding.gaps if place.gaps else ()),
        "gaps": folding.gaps,
        "window": window,
        "folded": folding.folded,
        "crumbs": folding.crumbs,
        "path": folding.path,
        "above": folding.above,
        "landmarks": folding.landmarks,
        "orders": list(ORDERS),
        "projections": list(PROJECTIONS),
        "place": place,
        "span_ns": folding.span_ns,
        "judged": judged_of(view, tree.trace_id, tree.session_id, selected),
    }


def judged_of(view: View, trace_id: str, session_id: str | None, selected: TraceNode | None) -> Judged:
    """The judgements of the trace and all in it; the selected node can be judged too."""
    if selected is None or selected.virtual:
        return judged(view, "trace", trace_id, session_id=session_id)
    return judged(view, "trace", trace_id, ("span", selected.id, selected.name), session_id=session_id)


def steps(view: View, rows: Sequence[TraceNode]) -> list[Step]:
    return steps_of(view, [node.id for node in rows])


def attempts_of(view: View, rows: Sequence[TraceNode]) -> dict[str, list[Attempt]]:
    """The attempts of the shown requests that needed several."""
    again = [node.id for node in rows if node.attempts > 1]
    found = attempts_by_id(view.database, again, project=view.project) if again else {}
    return found if view.content else {id: [bare_row(each) for each in made] for id, made in found.items()}


def detail_of(view: View, selected: TraceNode | None) -> dict[str, Any]:
    """What is shown of the selected node beside its figures; of content nothing to who may not see it."""
    empty: dict[str, Any] = {"where": {}, "turns": [], "earlier": 0, "input": None, "output": None, "documents": ()}
    if selected is None or selected.virtual:
        return {**empty, "traceback": None}
    found = node_detail(view.database, selected.id, project=view.project)
    if found is None or not view.content:
        return {**empty, "where": found.where if found is not None else {}, "traceback": None}
    turns, earlier = preview(found)
    return {
        "where": found.where,
        "turns": turns,
        "earlier": earlier,
        "input": found.input,
        "output": found.output,
        "documents": found.documents,
        "traceback": found.traceback,
    }


def preview(found: NodeDetail) -> tuple[list[Turn], int]:
    """The last messages of a request with its answer, and how many come before them."""
    if found.request is None:
        return [], 0
    turns = conversation(found.request.messages, found.request.output_messages)
    answers = sum(turn.answer for turn in turns)
    shown = max(answers + 1, PREVIEWED)
    return turns[-shown:], max(0, len(turns) - shown)


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
