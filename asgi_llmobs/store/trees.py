"""How the spans of a trace form a tree, and what it adds up to. Pure: the write and the pages both ask here.

Parents come from two places: the span that a span was started in, and ``Node-Id`` paths such as ``a:b:c``, whose
parents may come later or never. Whatever is missing, doubled or circular, every span ends up in the tree once.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import NamedTuple

from asgi_llmobs.records import node_path

__all__ = ["Fact", "Node", "Totals", "arrange", "roll_up", "total", "totals", "totals_of"]


class Fact(NamedTuple):
    """What of a stored span the tree needs."""

    key: int
    id: str
    parent_id: str | None
    node_id: str | None
    is_request: int
    kind: str
    start_ns: int
    duration_ns: int | None
    outcome: str
    cost: int | None
    input_tokens: int | None
    output_tokens: int | None


# columns of thousands of facts, without a call of ours for each
KEY, NODE_ID, START, OUTCOME, COST, INPUT, OUTPUT = (
    Fact._fields.index(label)
    for label in ("key", "node_id", "start_ns", "outcome", "cost", "input_tokens", "output_tokens")
)


class Node:
    """A place in the tree; ``fact`` is ``None`` where it is virtual. :func:`roll_up` sets what counts all below."""

    __slots__ = (
        "below",
        "children",
        "cost",
        "critical",
        "depth",
        "end_ns",
        "fact",
        "failed",
        "id",
        "input_tokens",
        "note",
        "orphan",
        "output_tokens",
        "parent",
        "start_ns",
    )

    def __init__(self, id: str, fact: Fact | None, start_ns: int) -> None:
        self.id = id
        self.fact = fact
        self.start_ns = start_ns
        self.end_ns: int | None = None
        self.parent: Node | None = None
        self.children: Sequence[Node] = ()  # most nodes have none: thousands of empty lists are not made
        self.depth = 1
        self.orphan = False
        self.critical = False
        self.note: str | None = None
        self.below = self.failed = 0
        self.cost: int | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None


class Totals(NamedTuple):
    """What a tree adds up to. Money in picodollars."""

    root: Node | None
    start_ns: int
    duration_ns: int | None  # start of the root to the end of the last leaf
    outcome: str
    requests: int
    finished: int
    succeeded: int
    spans: int
    errors: int
    depth: int
    cost: int | None
    unpriced: int
    input_tokens: int | None
    output_tokens: int | None
    own_ns: int | None  # how long the root itself took
    waited_ns: int | None  # how much of that at least one request was under way


def arrange(facts: Iterable[Fact]) -> list[Node]:
    """All nodes of one trace in pre-order, siblings by their start."""
    ordered = sorted(facts, key=itemgetter(START, KEY))
    found = [Node(fact.id, fact, fact.start_ns) for fact in ordered]
    by_id: dict[str, Node] = {}
    for node in found:
        by_id.setdefault(node.id, node)
    nodes = found
    if any(map(itemgetter(NODE_ID), ordered)):
        nodes = found + link_paths(found, by_id)
    link_spans(nodes, by_id)
    return pre_order(nodes)


def order(node: Node) -> tuple[int, int]:
    return node.start_ns, node.fact.key if node.fact is not None else 0


def link_paths(found: Sequence[Node], by_id: dict[str, Node]) -> list[Node]:
    """Hang the requests that name a path below the node that the path names; returns the virtual nodes it took."""
    known: dict[tuple[str, ...], Node] = {}
    sent = [(path, node) for node in found if node.fact is not None and (path := node_path(node.fact.node_id))]
    for path, node in sent:
        known.setdefault(path, node)
    virtual: list[Node] = []
    for path, node in sorted(sent, key=lambda item: (len(item[0]), item[1].start_ns)):
        if len(path) < 2:
            continue
        chain: list[tuple[str, ...]] = []  # what has to be made up, innermost first
        above = path[:-1]
        host = None
        while above and (host := host_of(above, path, known, node)) is None:
            chain.append(above)
            above = above[:-1]
        for missing in reversed(chain):
            made = Node(":".join(missing), None, node.start_ns)
            virtual.append(made)
            known[missing] = made
            if host is not None:
                made.parent = host
            elif node.fact is not None and node.fact.parent_id in by_id:
                made.parent = by_id[node.fact.parent_id]
            host = made
        node.parent = host
    return virtual


def host_of(
    path: tuple[str, ...], full: tuple[str, ...], known: dict[tuple[str, ...], Node], child: Node
) -> Node | None:
    """The node that *path* names: itself, else one whose longer path ends in it."""
    if path in known:
        return known[path] if known[path] is not child else None
    size = len(path)
    longer = [other for other in known if len(other) > size and other[-size:] == path and other[: len(full)] != full]
    longer = [other for other in longer if known[other] is not child]
    if not longer:
        return None
    longer.sort(key=lambda other: (known[other].start_ns, other))
    if len(longer) > 1:
        places = ", ".join(":".join(other) for other in longer[:4])
        child.note = f"{':'.join(path)} may be any of {places}; shown under the first"
    return known[longer[0]]


def link_spans(nodes: Sequence[Node], by_id: dict[str, Node]) -> None:
    """Give every node that has none yet its parent; what is left without one is a root."""
    missing: list[Node] = []
    root: Node | None = None
    for node in nodes:
        if node.parent is None and node.fact is not None and node.fact.parent_id not in (None, node.id):
            parent = by_id.get(node.fact.parent_id or "")
            if parent is None:
                missing.append(node)
            else:
                node.parent = parent
    cut_cycles(nodes, missing)
    lost = {id(node) for node in missing}
    for node in nodes:
        if node.parent is None and id(node) not in lost and (root is None or better_root(node, root)):
            root = node
    if root is None and missing:
        # the trace began elsewhere: what came first here is the root as far as we can see
        root = missing.pop(0)
    for node in missing:
        node.parent, node.orphan = root, True
    for node in nodes:
        if node.parent is not None:
            if node.parent.children:
                node.parent.children.append(node)  # type: ignore[attr-defined]
            else:
                node.parent.children = [node]
    for node in nodes if nodes and nodes[-1].fact is None else ():  # without virtual ones they came in this order
        if len(node.children) > 1:
            node.children.sort(key=order)  # type: ignore[attr-defined]


def better_root(node: Node, than: Node) -> bool:
    """Spans before virtual nodes, then the earlier one."""
    return (node.fact is None, order(node)) < (than.fact is None, order(than))


def cut_cycles(nodes: Sequence[Node], missing: list[Node]) -> None:
    """A chain of parents that comes back to itself is cut at its earliest node, which then has lost its parent."""
    safe: set[int] = set()
    for start in nodes:
        if start.parent is None or id(start.parent) in safe:  # nearly always: parents start first
            safe.add(id(start))
            continue
        walk: list[Node] = []
        seen: set[int] = set()
        node: Node | None = start
        while node is not None and id(node) not in safe and id(node) not in seen:
            seen.add(id(node))
            walk.append(node)
            node = node.parent
        if node is not None and id(node) in seen:
            ring = walk[walk.index(node) :]
            first = min(ring, key=order)
            first.parent = None
            missing.append(first)
        safe.update(seen)


def pre_order(nodes: Sequence[Node]) -> list[Node]:
    """The nodes from the roots down, depth filled in, and ``end_ns``: the latest end at or below each."""
    out: list[Node] = []
    stack = sorted((node for node in nodes if node.parent is None), key=order, reverse=True)
    while stack:
        node = stack.pop()
        out.append(node)
        if node.parent is not None:
            node.depth = node.parent.depth + 1
        stack.extend(reversed(node.children))
    for node in reversed(out):
        fact = node.fact
        if fact is None:
            # one whose only child is its own ancestor has lost it
            node.start_ns = min([child.start_ns for child in node.children], default=node.start_ns)
        elif fact.duration_ns is not None:
            own = fact.start_ns + fact.duration_ns
            if node.end_ns is None or node.end_ns < own:
                node.end_ns = own
        parent = node.parent
        if parent is not None and node.end_ns is not None and (parent.end_ns is None or parent.end_ns < node.end_ns):
            parent.end_ns = node.end_ns
    return out


def roll_up(nodes: Sequence[Node]) -> None:
    """Add up what is below each node of a pre-order: how many, how many that failed, cost and tokens with its own."""
    for node in nodes:
        fact = node.fact
        node.below = node.failed = 0
        if fact is not None:
            node.cost, node.input_tokens, node.output_tokens = fact.cost, fact.input_tokens, fact.output_tokens
    for node in reversed(nodes):
        above = node.parent
        if above is None:
            continue
        above.below += node.below + 1
        above.failed += node.failed + (node.fact is not None and node.fact.outcome == "error")
        if node.cost is not None:
            above.cost = node.cost + (above.cost or 0)
        if node.input_tokens is not None:
            above.input_tokens = node.input_tokens + (above.input_tokens or 0)
        if node.output_tokens is not None:
            above.output_tokens = node.output_tokens + (above.output_tokens or 0)


def total(values: Iterable[int | None]) -> int | None:
    """The sum of what is known; ``None`` where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def totals_of(facts: Sequence[Fact]) -> Totals:
    """The figures of the tree that *facts* form."""
    if len(facts) > 1 or not facts or facts[0].node_id is not None:
        return totals(arrange(facts))
    (fact,) = facts  # half of all traces: no tree has to be made for it
    request, done = fact.is_request, fact.outcome != "running"
    return Totals(
        root=Node(fact.id, fact, fact.start_ns),
        start_ns=fact.start_ns,
        duration_ns=None if fact.duration_ns is None else max(0, fact.duration_ns),
        outcome=fact.outcome,
        requests=int(bool(request)),
        finished=int(bool(request and done)),
        succeeded=int(bool(request and fact.outcome == "ok")),
        spans=1,
        errors=int(fact.outcome == "error"),
        depth=1,
        cost=fact.cost if request else None,
        unpriced=int(bool(request and done and fact.cost is None)),
        input_tokens=fact.input_tokens if request else None,
        output_tokens=fact.output_tokens if request else None,
        own_ns=fact.duration_ns,
        waited_ns=waited(fact, facts[:1] if request else ()),
    )


def totals(nodes: Sequence[Node]) -> Totals:
    """The figures of a tree that :func:`arrange` made."""
    facts = [node.fact for node in nodes if node.fact is not None]
    requests = [fact for fact in facts if fact.is_request]
    costs = list(map(itemgetter(COST), requests))
    root = root_of(nodes)
    start = root.start_ns if root is not None else 0
    leaf_ends = [node.end_ns for node in nodes if not node.children and node.end_ns is not None]
    outcomes = list(map(itemgetter(OUTCOME), facts))
    results = list(map(itemgetter(OUTCOME), requests))
    outcome = root.fact.outcome if root is not None and root.fact is not None else "ok"
    return Totals(
        root=root,
        start_ns=start,
        duration_ns=max(0, max(leaf_ends) - start) if leaf_ends else None,
        outcome="running" if "running" in outcomes else outcome,
        requests=len(requests),
        finished=len(results) - results.count("running"),
        succeeded=results.count("ok"),
        spans=len(facts),
        errors=outcomes.count("error"),
        depth=max(map(attrgetter("depth"), nodes), default=0),
        cost=total(costs),
        unpriced=sum([cost is None and result != "running" for cost, result in zip(costs, results, strict=True)]),
        input_tokens=total(map(itemgetter(INPUT), requests)),
        output_tokens=total(map(itemgetter(OUTPUT), requests)),
        own_ns=root.fact.duration_ns if root is not None and root.fact is not None else None,
        waited_ns=waited(root.fact, requests) if root is not None and root.fact is not None else None,
    )


def waited(root: Fact, requests: Iterable[Fact]) -> int | None:
    """How long of *root*'s own time at least one of *requests* was under way."""
    if root.duration_ns is None:
        return None
    at, end, found = root.start_ns, root.start_ns + root.duration_ns, 0
    for start, duration in sorted([(fact.start_ns, fact.duration_ns or 0) for fact in requests]):
        stop = min(start + duration, end)
        if stop > max(start, at):
            found += stop - max(start, at)
            at = stop
    return found


def root_of(nodes: Sequence[Node]) -> Node | None:
    """The span that names the trace: the earliest without a parent, else the first that is no virtual node."""
    sent = [node for node in nodes if node.parent is None and node.fact is not None]
    return min(sent, key=order) if sent else next((node for node in nodes if node.fact is not None), None)
