"""The sessions: the list, and one as a conversation in which each turn shows only what is new."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asgi_llmobs.admin.conversation import Turn, fresh_turns
from asgi_llmobs.admin.curtain import bare_row
from asgi_llmobs.admin.narrow import filter_of, limit_of, list_context
from asgi_llmobs.admin.page import NotFound, Page, Permission, View
from asgi_llmobs.errors import FilterError
from asgi_llmobs.queries.requests import RequestRow, get_request
from asgi_llmobs.queries.sessions import get_session, list_sessions

__all__ = ["ROUTES", "Step"]

IDLE_NS = 300_000_000_000  # from this on a pause is shown
STEPS = 40  # requests of a session on one page


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request of the session."""

    row: RequestRow
    idle_ns: int | None  # the pause before it, where it is a long one
    known: int  # messages at its beginning that an earlier request had already
    turns: Sequence[Turn]


def load_list(view: View) -> dict[str, Any]:
    """A page of the list."""
    flt = filter_of(view)
    listing = list_sessions(view.database, flt, cursor=view.get("cursor") or None, limit=limit_of(view))
    return list_context(view, flt, listing)


def load_one(view: View) -> dict[str, Any]:
    """One session."""
    detail = get_session(view.database, view.params["id"], project=view.project)
    if detail is None:
        raise NotFound
    rows = [row if view.content else bare_row(row) for row in detail.requests]
    page, pages = page_of(view, len(rows))
    return {
        "session": detail.session,
        "steps": steps(view, rows, (page - 1) * STEPS),
        "page_number": page,
        "pages": pages,
        "traces": detail.traces,
        "paths": detail.paths if any(node.path != "/" for node in detail.paths) else [],
        "truncated": detail.truncated,
    }


def page_of(view: View, count: int) -> tuple[int, int]:
    pages = max(1, -(-count // STEPS))
    text = view.get("page") or "1"
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= pages):
        raise FilterError("page", f"write a number from 1 to {pages}")
    return int(text), pages


def steps(view: View, rows: Sequence[RequestRow], start: int) -> list[Step]:
    seen: set[str] = set()
    found, latest_end = [], None
    for place, row in enumerate(rows[: start + STEPS]):
        idle = row.start_ns - latest_end if latest_end is not None else 0
        latest_end = max(latest_end or 0, row.start_ns + (row.duration_ns or 0))
        if place < start - 1:
            continue
        turns, known = turns_of(view, row, seen)
        if place >= start:
            found.append(Step(row=row, idle_ns=idle if idle >= IDLE_NS else None, known=known, turns=turns))
    return found


def turns_of(view: View, row: RequestRow, seen: set[str]) -> tuple[list[Turn], int]:
    detail = get_request(view.database, row.id, project=view.project) if view.content else None
    if detail is None:
        return [], 0
    return fresh_turns(detail.request.messages, detail.request.output_messages, seen)


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
