"""Where the time of a trace went: critical path, self time, what running at once saved. Pure, over arranged nodes.

Nodes that are virtual do nothing themselves: what is below them counts as if it hung one level higher. A node that
still runs has no end; it takes all the time that its parent has left.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from asgi_llmobs.store.trees import Node

__all__ = [
    "Work",
    "covered",
    "idle",
    "idle_gaps",
    "mark_critical",
    "note_skew",
    "parallel_saving",
    "self_time",
    "work_of",
]

SKEW_NS = 1_000_000  # clocks of two hosts, or two clocks of one, differ a little: not worth a note


def own_end(node: Node) -> int | None:
    """When the node itself ended, whatever went on below it; ``None`` while it runs and where it is virtual."""
    fact = node.fact
    return None if fact is None or fact.duration_ns is None else fact.start_ns + fact.duration_ns


def covered(intervals: Iterable[tuple[int, int]], start: int, end: int) -> int:
    """How much of the time from *start* to *end* lies in any of *intervals*, in nanoseconds."""
    found, at = 0, start
    for low, high in sorted(intervals):
        low, high = max(low, at), min(high, end)
        if high > low:
            found += high - low
            at = high
    return found


def self_time(node: Node) -> int | None:
    """The duration of a node less the time in which any of its children was at work; ``None`` while it runs."""
    end = own_end(node)
    if node.fact is None or end is None:
        return None
    if not node.children:
        return node.fact.duration_ns
    children: list[tuple[int, int]] = []
    stack = list(node.children)
    while stack:
        child = stack.pop()
        if child.fact is None:
            stack.extend(child.children)
        else:
            until = own_end(child)
            children.append((child.start_ns, end if until is None else until))
    return end - node.start_ns - covered(children, node.start_ns, end)


def mark_critical(nodes: Sequence[Node]) -> None:
    """Mark the chain that the end of the trace waited for: from the end back, always the child that ended last.

    What still runs ends last of all.
    """
    roots = [node for node in nodes if node.parent is None]
    if not roots:
        return
    latest = max(node.end_ns or node.start_ns for node in nodes)
    running = {id(node) for node in nodes if node.fact is not None and node.fact.outcome == "running"}
    for node in reversed(nodes):
        if id(node) in running and node.parent is not None:
            running.add(id(node.parent))

    def end(node: Node) -> int:
        return latest if id(node) in running else node.end_ns if node.end_ns is not None else node.start_ns

    stack = [max(roots, key=end)]
    while stack:
        node = stack.pop()
        node.critical = True
        until = end(node)
        for child in sorted(node.children, key=end, reverse=True):
            if child.start_ns <= end(child) <= until:
                stack.append(child)
                until = child.start_ns


class Work(NamedTuple):
    """When the leaves of a trace were at work, in nanoseconds since 1970, each in the order of its start."""

    ended: Sequence[tuple[int, int]]
    running: Sequence[int]  # starts of those that have no end yet


def work_of(nodes: Sequence[Node]) -> Work:
    """The work of a trace is that of its leaves."""
    leaves = [node.fact for node in nodes if not node.children and node.fact is not None]
    ended = [(fact.start_ns, fact.start_ns + fact.duration_ns) for fact in leaves if fact.duration_ns is not None]
    return Work(sorted(ended), sorted([fact.start_ns for fact in leaves if fact.duration_ns is None]))


def parallel_saving(work: Work) -> int:
    """How much longer the work would have taken one after the other, in nanoseconds.

    That is what it took together less the time in which any of it was done; what still runs does not count yet.
    """
    saved, at = 0, work.ended[0][0] if work.ended else 0
    for low, high in work.ended:
        if low < at:
            saved += max(0, min(at, high) - low)
        at = max(at, high)
    return saved


def idle(intervals: Iterable[tuple[int, int]], start: int, end: int, at_least: int) -> list[tuple[int, int]]:
    """The stretches from *start* to *end* of *at_least* nanoseconds that none of *intervals* touches, in order."""
    found, at = [], start
    for low, high in (*sorted(intervals), (end, end)):
        if low - at >= at_least:
            found.append((at, low))
        at = max(at, high)
    return found


def idle_gaps(nodes: Sequence[Node], work: Work) -> list[tuple[int, int]]:
    """When no leaf was at work for long: a twentieth of the whole time or more, in nanoseconds since 1970."""
    if not nodes:
        return []
    start = min(map(attrgetter("start_ns"), nodes))
    end = max([node.end_ns or node.start_ns for node in nodes])
    return idle([*work.ended, *((low, end) for low in work.running)], start, end, max(1, (end - start) // 20))


def note_skew(nodes: Sequence[Node]) -> None:
    """Say it where a node starts before the one that started it: their clocks differ."""
    for node in nodes:
        above = node.parent
        if above is None or node.orphan or node.fact is None or above.fact is None or node.note is not None:
            continue
        early = above.start_ns - node.start_ns
        # the parent that a Node-Id names need not have begun first
        if early > SKEW_NS and node.fact.parent_id == above.id:
            node.note = f"starts {early / 1e6:,.0f} ms before its parent: their clocks differ"
