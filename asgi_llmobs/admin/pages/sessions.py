"""The sessions: the list, and one as a conversation in which each turn shows what is new, a timeline, and its paths."""

import time
from collections.abc import Sequence
from typing import Any

from asgi_llmobs.admin.axis import Axis, Gap
from asgi_llmobs.admin.columns import headings, sorting_of
from asgi_llmobs.admin.judging import judged
from asgi_llmobs.admin.narrow import filter_of, limit_of, list_context
from asgi_llmobs.admin.page import NotFound, Page, Permission, View
from asgi_llmobs.admin.steps import IDLE_NS, LOOK_BACK, steps_of
from asgi_llmobs.errors import FilterError
from asgi_llmobs.queries.select import GROUP_RANKS
from asgi_llmobs.queries.sessions import (
    PathNode,
    get_session,
    list_sessions,
    parts_of,
    session_paths,
    session_traces,
)
from asgi_llmobs.queries.timing import idle
from asgi_llmobs.queries.traces import TraceRow

__all__ = ["ROUTES"]

PROJECTIONS = ("conversation", "timeline", "paths")
STEPS = 25  # requests of a conversation on one page
TRACES = 100  # traces of a timeline on one page


def load_list(view: View) -> dict[str, Any]:
    """A page of the list."""
    flt, ranks = filter_of(view), GROUP_RANKS["sessions"]
    sorting = sorting_of(view, ranks)
    listing = list_sessions(
        view.database, flt, cursor=view.get("cursor") or None, limit=limit_of(view),
        sort=sorting.by, lowest=sorting.lowest,
    )  # fmt: skip
    return {
        **list_context(view, flt, listing),
        "sort": sorting,
        "sorted_within": listing.sorted_within,
        "headings": headings(view, flt, ("time", *ranks), sorting, ranks),
        "now_ns": time.time_ns(),
    }


def load_one(view: View) -> dict[str, Any]:
    """One session: the page of it that the address names."""
    shown = view.get("view") or PROJECTIONS[0]
    if shown not in PROJECTIONS:
        raise FilterError("view", f"write one of {', '.join(PROJECTIONS)}")
    number = page_number(view)
    start = (number - 1) * STEPS if shown == "conversation" else 0
    path = "/".join(("", *parts_of(view.get("path")))) if parts_of(view.get("path")) else ""
    detail = get_session(
        view.database, view.params["id"], project=view.project, path=path, start=start,
        limit=STEPS if shown == "conversation" else 0, before=LOOK_BACK,
    )  # fmt: skip
    if detail is None:
        raise NotFound
    folders = session_paths(view.database, view.params["id"], project=view.project) if shown == "paths" or path else ()
    count, size = (detail.session.trace_count, TRACES) if shown == "timeline" else (detail.count, STEPS)
    pages = max(1, -(-count // size))
    if number > pages:
        raise FilterError("page", f"write a number from 1 to {pages}")
    traces, axis = detail.traces, None
    if shown == "timeline":
        traces = session_traces(
            view.database, view.params["id"], project=view.project, start=(number - 1) * TRACES, limit=TRACES
        )
        axis = axis_of(traces)
    return {
        "session": detail.session,
        "steps": steps_of(
            view, [row.id for row in detail.requests], before=[row.id for row in detail.before]
        ) if shown == "conversation" else (),
        "traces": traces,
        "axis": axis,
        "paths": folders,
        "path": path,
        "folder": folder_of(folders, path),
        "view": shown,
        "projections": list(PROJECTIONS),
        "page_number": number,
        "pages": pages,
        "start": start,
        "judged": judged(view, "session", detail.session.session_id),
    }  # fmt: skip


def page_number(view: View) -> int:
    text = view.get("page") or "1"
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 8 and int(text)):
        raise FilterError("page", "write a number from 1 on")
    return int(text)


def axis_of(traces: Sequence[TraceRow]) -> Axis:
    """The time of these traces, counted from the start of the first; long pauses are drawn short."""
    if not traces:
        return Axis(start_ns=0, end_ns=1)
    begin = traces[0].start_ns
    ends = [(trace.start_ns - begin, trace.start_ns - begin + (trace.duration_ns or 0)) for trace in traces]
    end = max(high for _, high in ends)
    gaps = [Gap(start_ns=low, end_ns=high) for low, high in idle(ends, 0, end, IDLE_NS)]
    return Axis(start_ns=0, end_ns=max(1, end), gaps=gaps)


def folder_of(folders: Sequence[PathNode], path: str) -> PathNode | None:
    return next((folder for folder in folders if folder.path == path), None) if path else None


ROUTES = (
    Page(
        slug="sessions",
        title="Sessions",
        template="pages/sessions.html",
        load=load_list,
        permission=Permission.VIEW,
        nav=True,
    ),
    Page(
        slug="sessions/{id}", title="Session", template="pages/session.html", load=load_one, permission=Permission.VIEW
    ),
)
