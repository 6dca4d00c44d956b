"""Two traces beside each other: what is only in one of them, and what is different in both."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection

from asgi_llmobs.queries.alignment import Beside, align
from asgi_llmobs.queries.outline import Outline, read_outline, read_rows
from asgi_llmobs.queries.traces import TraceTree, tree_of
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.trees import Node
from asgi_llmobs.store.values import dollars

__all__ = ["Compared", "Comparison", "Side", "compare"]

MORE = ("status", "response_model", "request_model", "error_type", "input_preview", "output_preview")
NONE = (None,) * len(MORE)
SLOWER = 1.2  # times as long: less is nothing to speak of
MATTERS_NS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A node of one of the two."""

    id: str
    outcome: str
    status: int | None
    duration_ns: int | None
    cost_usd: Decimal | None
    input_tokens: int | None
    output_tokens: int | None
    model: str | None
    error_type: str | None
    input_preview: str | None
    output_preview: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A place in both trees. ``a`` or ``b`` is ``None`` where only the other has it."""

    name: str
    kind: str
    depth: int  # the root: 1
    a: Side | None
    b: Side | None
    state: str  # same, changed, only a, only b
    changes: Sequence[str]  # of duration, cost, tokens, outcome, model, error, input, output


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two traces, what each adds up to, and those of their aligned nodes that were asked for, parents first."""

    a: TraceTree
    b: TraceTree
    nodes: Sequence[Compared]
    count: int  # nodes that there are to ask for
    states: Mapping[str, int]  # how many nodes are in each state
    changes: Mapping[str, int]  # how many nodes have each change


class Found(NamedTuple):
    """Two nodes beside each other, before anything is made of them that is only shown."""

    pair: Beside
    state: str
    changes: tuple[str, ...]


def compare(
    db: Database, a: str, b: str, *, project: str, alike: bool = False, start: int = 0, limit: int = 100
) -> Comparison | None:
    """Two traces beside each other; ``None`` where the project has not both. Of huge ones the first 20,000 spans.

    Args:
        db: The store.
        a: Trace id of the one, 32 hex digits.
        b: Of the other.
        project: Whose traces they are.
        alike: Give nodes that are the same in both too; otherwise only those that are different, with what lies above.
        start: The place of the first node that is given.
        limit: How many of them.

    Raises:
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        left, right = read_outline(connection, project, a), read_outline(connection, project, b)
        if left is None or right is None:
            return None
        more = {**read_more(connection, project, a), **read_more(connection, project, b)}
    beside = align(left.nodes, right.nodes, lambda node: key_of(left, node), lambda node: key_of(right, node))
    every = [judged(pair, more) for pair in beside]
    wanted = every if alike else different(every)
    found = Comparison(
        a=tree_of(left, a),
        b=tree_of(right, b),
        nodes=[compared(each, left, right, more) for each in wanted[start : start + limit]],
        count=len(wanted),
        states=Counter(each.state for each in every),
        changes=Counter(change for each in every for change in each.changes),
    )
    left.dissolve()
    right.dissolve()
    return found


def judged(pair: Beside, more: Mapping[int, Sequence[Any]]) -> Found:
    if pair.a is None or pair.b is None:
        return Found(pair, "only b" if pair.a is None else "only a", ())
    changes = changes_of(pair.a, pair.b, more)
    return Found(pair, "changed" if changes else "same", changes)


def different(every: Sequence[Found]) -> list[Found]:
    """What is different, with all that lies above it."""
    kept: list[Found] = []
    above: list[Found] = []  # the way down to where we are, as far as it is not kept yet
    for each in every:
        while above and above[-1].pair.depth >= each.pair.depth:
            above.pop()
        if each.state == "same":
            above.append(each)
        else:
            kept += [*above, each]
            above = []
    return kept


def read_more(connection: Connection, project: str, trace_id: str) -> dict[int, Sequence[Any]]:
    """What is compared of each span beside its figures, by key: the values of ``MORE``."""
    return {row[0]: row[1:] for row in read_rows(connection, project, trace_id, ("key", *MORE))}


def key_of(outline: Outline, node: Node) -> tuple[str, str]:
    return ("" if node.fact is None else node.fact.kind, outline.name(node))


def compared(found: Found, left: Outline, right: Outline, more: Mapping[int, Sequence[Any]]) -> Compared:
    """What is shown of a pair."""
    a, b = found.pair.a, found.pair.b
    kind, label = key_of(right, b) if b is not None else key_of(left, a) if a is not None else ("", "")
    return Compared(
        name=label,
        kind=kind or "span",
        depth=found.pair.depth,
        a=side_of(a, more) if a is not None else None,
        b=side_of(b, more) if b is not None else None,
        state=found.state,
        changes=found.changes,
    )


def side_of(node: Node, more: Mapping[int, Sequence[Any]]) -> Side:
    fact = node.fact
    status, answered, asked, error_type, sent, got = more.get(fact.key, NONE) if fact is not None else NONE
    return Side(
        id=node.id,
        outcome=fact.outcome if fact is not None else "ok",
        status=status,
        duration_ns=fact.duration_ns if fact is not None else None,
        cost_usd=dollars(fact.cost) if fact is not None else None,
        input_tokens=fact.input_tokens if fact is not None else None,
        output_tokens=fact.output_tokens if fact is not None else None,
        model=answered or asked,
        error_type=error_type,
        input_preview=sent,
        output_preview=got,
    )


def changes_of(a: Node, b: Node, more: Mapping[int, Sequence[Any]]) -> tuple[str, ...]:
    """What is different, in one word each."""
    ours, theirs = a.fact, b.fact
    if ours is None or theirs is None:
        return () if ours is theirs else ("outcome",)
    found = ["duration"] if longer_or_shorter(ours.duration_ns, theirs.duration_ns) else []
    if ours.cost != theirs.cost:
        found.append("cost")
    if (ours.input_tokens, ours.output_tokens) != (theirs.input_tokens, theirs.output_tokens):
        found.append("tokens")
    one, other = more.get(ours.key, NONE), more.get(theirs.key, NONE)
    if ours.outcome != theirs.outcome or one[0] != other[0]:
        found.append("outcome")
    if one[1:] != other[1:]:
        found += ["model"] if (one[1] or one[2]) != (other[1] or other[2]) else []
        found += [word for word, place in (("error", 3), ("input", 4), ("output", 5)) if one[place] != other[place]]
    return tuple(found)


def longer_or_shorter(a: int | None, b: int | None) -> bool:
    """Whether two durations differ by a fifth of the shorter and by a millisecond at least."""
    if a is None or b is None:
        return a is not b
    low, high = sorted((a, b))
    return high - low >= MATTERS_NS and high >= low * SLOWER
