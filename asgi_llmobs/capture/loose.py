"""Spans of OpenTelemetry that nobody makes the current one, and which of them a call is inside all the same.

OpenInference's instrumentation of LangChain begins its spans in callbacks, which for async code run in other threads.
What it can tell is which chain, tool or node of a graph runs; a model's own span is looked for below that.
"""

import sys
import threading
from collections.abc import Mapping
from typing import Any

from asgi_llmobs.capture.retries import task_key
from asgi_llmobs.context import Place
from asgi_llmobs.safely import safely

__all__ = ["Known", "begun", "ended", "innermost", "is_loose", "same"]

LANGCHAIN = "openinference.instrumentation.langchain"
Point = tuple[str, str | None] | None
Task = tuple[int, int]
MOST = 64  # spans beside each other that are looked at
ELSEWHERE = "asyncio_"  # names of the threads in which an event loop runs what must not block it


class Known:
    """A span of OpenTelemetry and its place among ours."""

    __slots__ = ("above", "around", "id", "inside", "parent_id", "place", "task", "trace_id", "wanted")

    def __init__(self, id: str, trace_id: str, parent_id: str | None, place: Place | None, above: "Known | None"):
        self.id = id
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.place = place  # that was current when it began
        self.above = above
        self.wanted = False  # something is recorded below it
        self.task: Task | None = None  # that began it, where that can be told
        self.inside: dict[str, Known] = {}  # loose spans under way directly below
        self.around: dict[str, Known] | None = None  # where a loose one stands itself, while it is under way

    def want(self) -> None:
        """Something below is recorded: so is this, and all above."""
        node: Known | None = self
        while node is not None and not node.wanted:
            node.wanted = True
            node = node.above


_tops: dict[Point, dict[str, Known]] = {}  # loose spans under way that are directly below a place
_under_way: dict[str, Known] = {}


def same(one: Place | None, other: Place | None) -> bool:
    """Whether two places are the same point of a trace."""
    if one is None or other is None:
        return one is other
    return one is other or (one.trace is other.trace and one.span_id == other.span_id)


def is_loose(span: Any) -> bool:
    """Whether a span is of an instrumentation that does not make its spans current."""
    scope = span.instrumentation_scope
    return scope is not None and scope.name == LANGCHAIN


def point(place: Place | None) -> Point:
    return None if place is None else (place.trace.id, place.span_id)


def begun(entry: Known) -> None:
    """A loose span has begun."""
    entry.task = None if threading.current_thread().name.startswith(ELSEWHERE) else task_key()
    above = entry.above
    if above is not None and above.id == entry.parent_id:
        entry.around = above.inside
    else:
        entry.around = _tops.setdefault(point(entry.place), {})
    entry.around[entry.id] = _under_way[entry.id] = entry


def ended(entry: Known) -> None:
    """A span has ended; what is still under way inside it is looked for where it was itself."""
    _under_way.pop(entry.id, None)
    around, entry.around = entry.around, None
    if around is None:
        return
    around.pop(entry.id, None)
    for inner in entry.inside.values():
        inner.around = around
        around[inner.id] = inner
    entry.inside = {}
    top = point(entry.place)
    if not around and _tops.get(top) is around:
        del _tops[top]


def innermost(found: Known | None, here: Place | None, known: Mapping[int, Known]) -> Known | None:
    """The loose span that runs in this task inside of *found*, or of *here*; *found* where there is none.

    Where several tasks run beside each other and nothing tells which of them this is, their common parent.

    Args:
        found: The span that is current.
        here: Our own place.
        known: Spans under way.
    """
    if not _under_way:
        return found
    said = current_run(known)
    if said is not None and same(said.place, here) and not is_above(said, found):
        found = said
    around = found.inside if found is not None else _tops.get(point(here))
    task = task_key()
    while around and len(around) <= MOST:
        entries = list(around.values())
        own = [entry for entry in entries if entry.task == task]
        maybe = [entry for entry in entries if entry.task is None]
        if not own and len(maybe) != 1:
            break
        found = (own or maybe)[-1]
        around = found.inside
    return found


def current_run(known: Mapping[int, Known]) -> Known | None:
    """The span of the chain, tool or node that LangChain says it is running here."""
    module = sys.modules.get(LANGCHAIN)
    if module is None:
        return None
    with safely("langchain"):
        span = module.get_current_span()
        return known.get(span.get_span_context().span_id) if span is not None else None
    return None


def is_above(entry: Known, other: Known | None) -> bool:
    """Whether *other* is *entry*, or is somewhere below it."""
    while other is not None and other is not entry:
        other = other.above
    return other is not None
