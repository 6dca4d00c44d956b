"""Where in a trace the reader is: the one value behind every address of its page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from asgi_llmobs.admin.page import View
from asgi_llmobs.errors import FilterError
from asgi_llmobs.queries.outline import MAX_NODES

__all__ = ["ORDERS", "PROJECTIONS", "Place", "whole_number"]

PROJECTIONS = ("tree", "timeline", "messages", "log")
ORDERS = ("tree", "start", "self", "duration", "cost")
ROWS = {"messages": 20}  # of a page, unless the address says otherwise
MOST_NAMED = 200  # nodes that an address opens or shuts
MILLISECOND = 1_000_000
FURTHEST_MS = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What of a trace is shown, and how.

    Args:
        view: One of :data:`PROJECTIONS`.
        node: The node that is selected; it stays selected from one projection to the next.
        at: The node whose branch is shown, without the rest of the tree.
        find: Words that a node is to be named by.
        order: One of :data:`ORDERS`; empty for that of the projection.
        opened: Nodes whose children are shown although the tree is large.
        shut: Nodes whose children are not shown.
        gaps: ``cut`` where times in which nothing ran are drawn short.
        zoom: Milliseconds from and to which time is drawn, as ``from-to``.
        start: The place of the first row.
        limit: Rows of a page.
    """

    view: str = "tree"
    node: str = ""
    at: str = ""
    find: str = ""
    order: str = ""
    opened: tuple[str, ...] = ()
    shut: tuple[str, ...] = ()
    gaps: str = ""
    zoom: str = ""
    start: str = ""
    limit: str = ""

    @classmethod
    def read(cls, view: View) -> "Place":
        """The place that an address names.

        Raises:
            FilterError: A value is none that it can have.
        """
        found = cls(
            view=one_of(view, "view", PROJECTIONS) or "tree",
            node=view.get("node"),
            at=view.get("at"),
            find=view.get("find").strip(),
            order=one_of(view, "order", ORDERS),
            opened=named(view, "open"),
            shut=named(view, "shut"),
            gaps=one_of(view, "gaps", ("cut",)),
            zoom=view.get("zoom"),
            start=view.get("from"),
            limit=view.get("limit"),
        )
        if found.zoom:
            found.range_ns()
        whole_number("limit", found.limit, 1, MAX_NODES, 1)
        return found

    @property
    def rows(self) -> int:
        """How many rows a page has."""
        return int(self.limit) if self.limit else ROWS.get(self.view, 100)

    @property
    def sorted_by(self) -> str:
        """One of :data:`ORDERS`."""
        return self.order or ("tree" if self.view == "tree" else "start")

    def range_ns(self) -> tuple[int, int] | None:
        """The time that is drawn, in nanoseconds from the start of the trace; ``None`` for all of it.

        Raises:
            FilterError: It is no range.
        """
        if not self.zoom:
            return None
        low, _, high = self.zoom.partition("-")
        try:
            start, end = float(low), float(high)
        except ValueError:
            start, end = 0.0, 0.0
        if not 0 <= start < end <= FURTHEST_MS:
            raise FilterError("zoom", "write two numbers of milliseconds with a dash between them: 250-900.5")
        return int(start * MILLISECOND), max(int(end * MILLISECOND), int(start * MILLISECOND) + 1)

    def to(self, **changes: Any) -> list[tuple[str, str]]:
        """The query of a link from here: what does not change stays, but for the place of the first row."""
        there = replace(self, **{"start": "", **changes})
        single = (
            ("view", there.view if there.view != "tree" else ""), ("node", there.node), ("at", there.at),
            ("find", there.find), ("order", there.order), ("gaps", there.gaps), ("zoom", there.zoom),
            ("from", there.start), ("limit", there.limit),
        )  # fmt: skip
        several = (("open", there.opened), ("shut", there.shut))
        return [pair for pair in single if pair[1]] + [(name, id) for name, ids in several for id in ids]

    def opening(self, id: str) -> list[tuple[str, str]]:
        """The query that shows the children of a node too."""
        return self.to(node=id, opened=added(self.opened, id), shut=without(self.shut, id))

    def shutting(self, id: str) -> list[tuple[str, str]]:
        """The query that shows the children of a node no longer."""
        return self.to(node=id, opened=without(self.opened, id), shut=added(self.shut, id))


def one_of(view: View, name: str, known: Sequence[str]) -> str:
    text = view.get(name)
    if text and text not in known:
        raise FilterError(name, f"write one of {', '.join(known)}" if len(known) > 1 else f"write {known[0]}")
    return text


def named(view: View, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for key, value in view.query if key == name and value))[-MOST_NAMED:]


def added(ids: tuple[str, ...], id: str) -> tuple[str, ...]:
    return (*without(ids, id), id)[-MOST_NAMED:]


def without(ids: tuple[str, ...], id: str) -> tuple[str, ...]:
    return tuple(each for each in ids if each != id)


def whole_number(name: str, text: str, low: int, high: int, default: int) -> int:
    """A parameter of the address that counts something.

    Raises:
        FilterError: It is no number from *low* to *high*.
    """
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise FilterError(name, f"write a number from {low} to {high}")
    return int(text)
