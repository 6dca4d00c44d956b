"""How two trees lie beside each other: by the names, kinds and order of their nodes, never by ids. Pure.

Siblings are aligned like two texts are: what is called the same and has the same below it belongs together, then what
is called the same, then what is of the same kind. Where there are too many of them for that, the first of a name goes
with the first of that name, the second with the second.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from asgi_llmobs.store.trees import Node

__all__ = ["Beside", "align"]

MOST_CELLS = 250_000  # of all tables together
SAME, ALIKE, KIND = 8, 5, 1  # what it is worth to put two nodes beside each other

Key = tuple[str, str]  # kind and name


class Beside(NamedTuple):
    """A node of the one tree, of the other, or of both; the order is that of a tree, parents first."""

    a: Node | None
    b: Node | None
    depth: int  # the root: 1


def align(
    a: Sequence[Node], b: Sequence[Node], key_a: Callable[[Node], Key], key_b: Callable[[Node], Key]
) -> list[Beside]:
    """The nodes of two trees, each once.

    Args:
        a: The nodes of the one in pre-order.
        b: Those of the other.
        key_a: Kind and name of a node of the one.
        key_b: Of the other.
    """
    keys = {id(node): key_a(node) for node in a} | {id(node): key_b(node) for node in b}
    work = Work(keys, shapes(a, keys) | shapes(b, keys))
    found: list[Beside] = []
    stack = [
        Beside(left, right, 1)
        for left, right in reversed(work.pairs([n for n in a if n.parent is None], [n for n in b if n.parent is None]))
    ]
    while stack:
        pair = stack.pop()
        found.append(pair)
        ours, theirs = pair.a.children if pair.a else (), pair.b.children if pair.b else ()
        below = work.pairs(ours, theirs) if ours or theirs else ()
        stack.extend(Beside(left, right, pair.depth + 1) for left, right in reversed(below))
    return found


def shapes(nodes: Sequence[Node], keys: dict[int, Key]) -> dict[int, Hashable]:
    """One value for each node, the same for nodes that are called the same and have the same below them."""
    found: dict[int, Hashable] = {}
    for node in reversed(nodes):
        found[id(node)] = hash((keys[id(node)], tuple(found[id(child)] for child in node.children)))
    return found


class Work:
    """The alignment of siblings, with a bound on how much of it is done thoroughly."""

    def __init__(self, keys: dict[int, Key], shapes: dict[int, Hashable]) -> None:
        self.keys = keys
        self.shapes = shapes
        self.cells = MOST_CELLS

    def worth(self, left: Node, right: Node) -> int:
        if self.shapes[id(left)] == self.shapes[id(right)]:
            return SAME
        ours, theirs = self.keys[id(left)], self.keys[id(right)]
        return ALIKE if ours == theirs else KIND if ours[0] == theirs[0] else 0

    def pairs(self, a: Sequence[Node], b: Sequence[Node]) -> list[tuple[Node | None, Node | None]]:
        """Two lists of siblings as one."""
        begin = 0
        while begin < min(len(a), len(b)) and self.worth(a[begin], b[begin]) == SAME:
            begin += 1
        end = 0
        while end < min(len(a), len(b)) - begin and self.worth(a[-1 - end], b[-1 - end]) == SAME:
            end += 1
        left, right = a[begin : len(a) - end], b[begin : len(b) - end]
        self.cells -= len(left) * len(right)
        middle = self.thorough(left, right) if self.cells >= 0 else self.by_count(left, right)
        head = list(zip(a[:begin], b[:begin], strict=True))
        tail = list(zip(a[len(a) - end :], b[len(b) - end :], strict=True))
        return [*head, *middle, *tail]

    def thorough(self, a: Sequence[Node], b: Sequence[Node]) -> list[tuple[Node | None, Node | None]]:
        """The best of all alignments that keep the order of both."""
        best = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i in range(len(a) - 1, -1, -1):
            for j in range(len(b) - 1, -1, -1):
                worth = self.worth(a[i], b[j])
                together = best[i + 1][j + 1] + worth if worth else 0
                best[i][j] = max(together, best[i + 1][j], best[i][j + 1])
        found: list[tuple[Node | None, Node | None]] = []
        i = j = 0
        while i < len(a) and j < len(b):
            worth = self.worth(a[i], b[j])
            if worth and best[i][j] == best[i + 1][j + 1] + worth:
                found.append((a[i], b[j]))
                i, j = i + 1, j + 1
            elif best[i][j] == best[i + 1][j]:
                found.append((a[i], None))
                i += 1
            else:
                found.append((None, b[j]))
                j += 1
        return [*found, *((node, None) for node in a[i:]), *((None, node) for node in b[j:])]

    def by_count(self, a: Sequence[Node], b: Sequence[Node]) -> list[tuple[Node | None, Node | None]]:
        """The first of a name beside the first of that name, and so on; what is left over comes behind."""
        waiting: dict[Key, deque[Node]] = defaultdict(deque)
        for node in b:
            waiting[self.keys[id(node)]].append(node)
        found: list[tuple[Node | None, Node | None]] = []
        taken: set[int] = set()
        for node in a:
            queue = waiting[self.keys[id(node)]]
            other = queue.popleft() if queue else None
            if other is not None:
                taken.add(id(other))
            found.append((node, other))
        return [*found, *((None, node) for node in b if id(node) not in taken)]
