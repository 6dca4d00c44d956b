"""Which nodes of a trace a page shows: a large tree is folded, and every part of it is one link away."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from asgi_llmobs.admin.axis import Gap
from asgi_llmobs.admin.place import Place, whole_number
from asgi_llmobs.queries.outline import Outline
from asgi_llmobs.queries.timing import self_time
from asgi_llmobs.store.trees import Node

__all__ = ["Folding"]

ENDS = 3  # names of a long path that are shown from its beginning, and from its end


def own_time(node: Node) -> int:
    return -(self_time(node) or 0)


def whole_time(node: Node) -> int:
    return -((node.fact.duration_ns if node.fact is not None else None) or 0)


def own_cost(node: Node) -> int:
    return -((node.fact.cost if node.fact is not None else None) or 0)


SORTS: Mapping[str, Callable[[Node], int]] = {
    "start": attrgetter("start_ns"),
    "self": own_time,
    "duration": whole_time,
    "cost": own_cost,
}


@dataclass(slots=True)
class Folding:
    """What a place asks to see of a tree: called with the outline, it chooses the nodes, and notes how."""

    place: Place
    selected: str | None = None
    window: dict[str, int] = field(default_factory=dict)
    crumbs: Sequence[dict[str, str | None]] = ()  # from the root to the branch that is shown
    path: Sequence[dict[str, str | None]] = ()  # from the root to the selected node
    folded: Sequence[str] = ()  # nodes whose children are not among the rows
    landmarks: dict[str, str] = field(default_factory=dict)  # slowest, dearest and next failed node
    above: int = 0  # levels above the branch
    span_ns: int = 0
    gaps: Sequence[Gap] = ()  # when no leaf was at work

    def __call__(self, outline: Outline) -> Sequence[Node]:
        """The rows of this page, and behind them the selected node where it is none of them."""
        nodes = outline.nodes
        wanted = find(nodes, self.place.node)
        branch = find(nodes, self.place.at)
        rows = self._page(self._rows(outline, branch, wanted), wanted)
        chosen = wanted or next((node for node in rows if node.fact is not None and node.fact.is_request), None)
        if chosen is None and rows:
            chosen = rows[0]
        self.selected = chosen.id if chosen is not None else None
        self.crumbs, self.path = crumbs(outline, branch), crumbs(outline, chosen)
        self.above = branch.depth - 1 if branch is not None else 0
        self.landmarks = landmarks(nodes, chosen)
        start = outline.totals.start_ns
        self.span_ns = max([node.end_ns or node.start_ns for node in nodes], default=start) - start
        self.gaps = [Gap(start_ns=low - start, end_ns=high - start) for low, high in outline.idle_gaps]
        return rows if chosen is None or chosen in rows else [*rows, chosen]

    def _rows(self, outline: Outline, branch: Node | None, wanted: Node | None) -> Sequence[Node]:
        order = self.place.sorted_by
        nodes: Sequence[Node] = outline.nodes
        if branch is not None:
            place = next(place for place, node in enumerate(nodes) if node is branch)
            nodes = nodes[place : place + branch.below + 1]
        if self.place.view == "messages":
            nodes = [node for node in nodes if node.fact is not None and node.fact.is_request]
        words = self.place.find.casefold().split()
        if words:
            nodes = [node for node in nodes if all(word in outline.words(node) for word in words)]
        if order in SORTS:
            return sorted(nodes, key=SORTS[order])
        return nodes if words else self._unfolded(nodes, wanted)

    def _unfolded(self, nodes: Sequence[Node], wanted: Node | None) -> Sequence[Node]:
        """The tree, or of a large one the upper levels, as many as fit on a page but the first two at least.

        What the address opens is open, what it shuts is shut, and the way to the selected node is open.
        """
        opened = {id(node) for node in nodes if node.id in self.place.opened}
        if len(nodes) <= self.place.rows:
            opened.update(map(id, nodes))
        else:
            sizes = Counter(node.depth for node in nodes)
            deepest = nodes[0].depth + 1
            room = self.place.rows - sizes[nodes[0].depth] - sizes[nodes[0].depth + 1]
            while (room := room - sizes[deepest + 1]) >= 0 and sizes[deepest + 1]:
                deepest += 1
            opened.update(id(node) for node in nodes if node.depth < deepest)
        if self.place.shut:
            opened.difference_update(id(node) for node in nodes if node.id in self.place.shut)
        node = wanted.parent if wanted is not None else None
        while node is not None:
            opened.add(id(node))
            node = node.parent
        rows: list[Node] = []
        shown: set[int] = set()
        for node in nodes:
            above = node.parent
            if node.depth == nodes[0].depth or (above is not None and id(above) in shown and id(above) in opened):
                rows.append(node)
                shown.add(id(node))
        self.folded = [node.id for node in rows if node.children and id(node) not in opened]
        return rows

    def _page(self, rows: Sequence[Node], wanted: Node | None) -> Sequence[Node]:
        """One page of the rows: by default the one with the selected node in it."""
        limit = self.place.rows
        at = next((place for place, node in enumerate(rows) if node is wanted), None)
        if at is None:  # what is not among the rows is stood for by what hangs below it
            at = next((place for place, node in enumerate(rows) if wanted is not None and node.parent is wanted), 0)
        start = whole_number("from", self.place.start, 0, max(0, len(rows) - 1), at // limit * limit)
        stop = min(start + limit, len(rows))
        self.window = {"start": start, "stop": stop, "rows": len(rows), "limit": limit}
        return rows[start:stop]


def find(nodes: Sequence[Node], id: str) -> Node | None:
    return next((node for node in nodes if node.id == id), None) if id else None


def crumbs(outline: Outline, node: Node | None) -> list[dict[str, str | None]]:
    """The names from the root to *node*; of a long path its beginning and its end, with a gap that has no id."""
    path: list[Node] = []
    while node is not None:
        path.append(node)
        node = node.parent
    path.reverse()
    named: list[dict[str, str | None]] = [{"id": each.id, "name": outline.name(each)} for each in path]
    if len(named) > 2 * ENDS:
        named[ENDS:-ENDS] = [{"id": None, "name": f"{len(named) - 2 * ENDS} more"}]
    return named


def landmarks(nodes: Sequence[Node], selected: Node | None) -> dict[str, str]:
    """Where to look first: the node with the longest time of its own, the dearest request, the next failure."""
    found: dict[str, str] = {}
    longest = dearest = 0
    failed: list[int] = []
    for place, node in enumerate(nodes):
        fact = node.fact
        if fact is None:
            continue
        # its whole duration is quick to tell, and its own never more
        if (fact.duration_ns or 0) > longest and (own := self_time(node) or 0) > longest:
            longest, found["slowest"] = own, node.id
        if (fact.cost or 0) > dearest:
            dearest, found["dearest"] = fact.cost or 0, node.id
        if fact.outcome == "error":
            failed.append(place)
    if failed:
        here = next((place for place, node in enumerate(nodes) if node is selected), -1)
        found["failed"] = nodes[next((place for place in failed if place > here), failed[0])].id
    return found
