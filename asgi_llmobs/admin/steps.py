"""Requests as the steps of a conversation: each shows only what is new, and the pause before it."""

from collections.abc import Sequence
from dataclasses import dataclass

from asgi_llmobs.admin.conversation import Turn, fresh_turns
from asgi_llmobs.admin.curtain import bare_row
from asgi_llmobs.admin.page import View
from asgi_llmobs.queries.requests import RequestRow
from asgi_llmobs.queries.turns import read_turns

__all__ = ["IDLE_NS", "LOOK_BACK", "Step", "steps_of"]

IDLE_NS = 300_000_000_000  # from this on a pause is shown
LOOK_BACK = 3  # requests before a page that its first ones may repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request among others."""

    row: RequestRow
    idle_ns: int | None  # the pause before it, where it is a long one
    known: int  # messages at its beginning that an earlier request had already
    turns: Sequence[Turn]
    unread: bool  # its messages are too many for this page


def steps_of(view: View, ids: Sequence[str], *, before: Sequence[str] = ()) -> list[Step]:
    """The requests with these span ids, in the order of their start.

    Args:
        view: Who looks: who may not see content gets the rows alone.
        ids: Span ids.
        before: Span ids of requests that came before them: what they said is not new.
    """
    seen: set[str] = set()
    found: list[Step] = []
    latest_end: int | None = None
    wanted = set(ids)
    for each in read_turns(view.database, [*before, *ids], project=view.project, content=view.content):
        row, request = each.row, each.request
        idle = row.start_ns - latest_end if latest_end is not None else 0
        latest_end = max(latest_end or 0, row.start_ns + (row.duration_ns or 0))
        turns, known = fresh_turns(request.messages, request.output_messages, seen) if request is not None else ([], 0)
        if row.id in wanted:
            found.append(
                Step(
                    row=row if view.content else bare_row(row),
                    idle_ns=idle if idle >= IDLE_NS else None,
                    known=known,
                    turns=turns,
                    unread=view.content and request is None,
                )
            )
    return found
