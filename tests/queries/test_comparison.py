"""Two traces compared: aligned by names, kinds and order, whatever their ids, and bounded."""

import time
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from asgi_llmobs.queries.alignment import align
from asgi_llmobs.queries.comparison import Comparison, compare
from asgi_llmobs.records import Span
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.trees import Fact, Node, arrange
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, START, new_id, priced, request, span

A, B = "a" * 32, "b" * 32


def tree(trace: str, *below: Span) -> list[Span]:
    """A root with these spans below it, in this order."""
    root = span(id=new_id(), trace_id=trace, name="POST /chat", kind="http")
    return [
        root,
        *(
            replace(one, id=new_id(), trace_id=trace, parent_id=root.id, start_ns=START + n)
            for n, one in enumerate(below, 1)
        ),
    ]


def compared(database: Database, a: list[Span], b: list[Span], **given: Any) -> Comparison:
    Sink(database).write([*a, *b])
    found = compare(database, A, B, project="default", **given)
    assert found is not None
    return found


def test_the_same_twice(database: Database) -> None:
    """Two runs that did the same have no difference, though no id of theirs is the same."""
    parts = (span(name="search", kind="tool"), request("Hi", "Hello"))
    found = compared(database, tree(A, *parts), tree(B, *parts))

    assert found.nodes == [] and found.states == {"same": 3}
    everything = compare(database, A, B, project="default", alike=True)
    assert everything is not None and [node.name for node in everything.nodes] == [
        "POST /chat",
        "search",
        "chat gpt-4o",
    ]


def test_what_is_only_in_one_and_what_is_different(database: Database) -> None:
    """A step more, a step less, and every way in which the same step can differ; what lies above is shown too."""
    same = span(name="search", kind="tool")
    answer = request("Hi", "Hello", cost=priced("0.1"))
    other = replace(
        request("Hi", "Good day", cost=priced("0.2"), duration_ns=3 * SECOND, outcome="error", status=500),
        error_type="E", request_model="gpt-4o-mini", name="chat gpt-4o-mini", response_model=None,
    )  # fmt: skip
    found = compared(
        database, tree(A, span(name="plan"), same, answer), tree(B, same, other, span(name="guard", kind="guardrail"))
    )

    assert [(node.name, node.state) for node in found.nodes] == [
        ("POST /chat", "same"), ("plan", "only a"), ("chat gpt-4o-mini", "changed"), ("guard", "only b"),
    ]  # fmt: skip
    assert found.nodes[2].changes == ("duration", "cost", "outcome", "model", "error", "output")
    assert found.states == {"same": 2, "only a": 1, "changed": 1, "only b": 1}
    assert (found.a.total_cost_usd, found.b.total_cost_usd) != (None, None)


def test_a_repeat_more(database: Database) -> None:
    """Of steps that repeat, those with the same below them go together, and the one that is left over stands alone."""

    def loop(trace: str, tools: list[str]) -> list[Span]:
        made = tree(trace, *(span(name="step", kind="agent") for _ in tools))
        return [
            *made,
            *(
                span(trace_id=trace, parent_id=one.id, name=tool, kind="tool")
                for one, tool in zip(made[1:], tools, strict=True)
            ),
        ]

    found = compared(database, loop(A, ["find", "book"]), loop(B, ["find", "ask", "book"]))

    assert [(node.name, node.state) for node in found.nodes] == [
        ("POST /chat", "same"),
        ("step", "only b"),
        ("ask", "only b"),
    ]


def test_not_there(database: Database) -> None:
    """A trace that is not there, or another project's, is compared with nothing."""
    Sink(database).write(tree(A))

    assert compare(database, A, B, project="default") is None
    assert compare(database, A, A, project="other") is None


def test_small_differences_of_time_are_none(database: Database) -> None:
    """A duration counts as different from a fifth on."""
    found = compared(
        database, tree(A, span(name="x", duration_ns=100 * SECOND)), tree(B, span(name="x", duration_ns=119 * SECOND))
    )

    assert found.nodes == []


def nodes_of(shape: list[tuple[int, str]]) -> list[Node]:
    facts = [
        Fact(n, f"{n:x}", None if not n else f"{above % n:x}", None, 0, "span", n, 1, "ok", None, None, None)
        for n, (above, _) in enumerate(shape)
    ]
    return arrange(facts)


SHAPES = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), min_size=1, max_size=25)


@given(SHAPES, SHAPES)
def test_every_node_once(one: list[tuple[int, str]], other: list[tuple[int, str]]) -> None:
    """Whatever the trees, each of their nodes stands in the result once, below the pair that its parent stands in."""
    a, b = nodes_of(one), nodes_of(other)
    found = align(
        a, b, lambda node: ("span", one[int(node.id, 16)][1]), lambda node: ("span", other[int(node.id, 16)][1])
    )

    assert sorted(id(pair.a) for pair in found if pair.a) == sorted(map(id, a))
    assert sorted(id(pair.b) for pair in found if pair.b) == sorted(map(id, b))
    way: list[Any] = []
    for pair in found:
        del way[pair.depth - 1 :]
        above = way[-1] if way else None
        assert pair.a is None or pair.a.parent is (above.a if above else None)
        assert pair.b is None or pair.b.parent is (above.b if above else None)
        way.append(pair)


def test_many_siblings_are_aligned_in_time() -> None:
    """Thousands of siblings in another order are paired by name without a table of millions of cells."""
    one = [(0, "abc"[n % 3]) for n in range(8_000)]
    other = [(0, "abc"[(n * 7 + 1) % 3]) for n in range(8_000)]
    a, b = nodes_of(one), nodes_of(other)
    begin = time.process_time()
    found = align(
        a, b, lambda node: ("span", one[int(node.id, 16)][1]), lambda node: ("span", other[int(node.id, 16)][1])
    )

    assert time.process_time() - begin < 5
    assert sum(pair.a is not None and pair.b is not None for pair in found) > 7_900
