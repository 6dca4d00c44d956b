"""What a trace adds up to, against a model that is slow and plain to see."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.outline import Named, Outline
from asgi_llmobs.queries.timing import parallel_saving, self_time, work_of
from asgi_llmobs.queries.traces import get_trace, list_traces
from asgi_llmobs.records import Span
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.trees import Node
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, START, attempt, request, span
from tests.traces.conftest import Bench

COLUMNS = (
    "key", "id", "parent_id", "node_id", "is_request", "kind", "start_ns", "duration_ns", "outcome", "cost",
    "input_tokens", "output_tokens",
)  # fmt: skip
TRACE = "a" * 32


def fact(key: int, **given: Any) -> Named:
    """A row of the outline."""
    values = {
        "key": key, "id": f"s{key}", "parent_id": None, "node_id": None, "is_request": 0, "kind": "span",
        "start_ns": 0, "duration_ns": 1, "outcome": "ok", "cost": None, "input_tokens": None, "output_tokens": None,
        **given,
    }  # fmt: skip
    return tuple.__new__(Named, (*(values[name] for name in COLUMNS), 1, f"node {key}", None, None, None, None))


@st.composite
def outlines(draw: st.DrawFn) -> Outline:
    """Traces of all shapes: parents anywhere or nowhere, cycles, Node-Ids, running spans, clocks that differ."""
    count = draw(st.integers(1, 14))
    facts = []
    for key in range(count):
        outcome = draw(st.sampled_from(["ok", "ok", "ok", "error", "running", "cancelled"]))
        is_request = draw(st.integers(0, 1))
        facts.append(
            fact(
                key,
                parent_id=draw(st.sampled_from([None, "gone", *(f"s{n}" for n in range(count))])),
                node_id=draw(st.sampled_from([None, None, "a", "b", "a:b", "a:b:c", "b:c", "c:d", "x:y:z", "a::b"])),
                is_request=is_request,
                start_ns=draw(st.integers(0, 30)),
                duration_ns=None if outcome == "running" else draw(st.integers(0, 20)),
                outcome=outcome,
                cost=draw(st.none() | st.integers(0, 9)) if is_request else None,
                input_tokens=draw(st.none() | st.integers(0, 9)) if is_request else None,
            )
        )
    return Outline(sorted(facts, key=lambda each: (each.start_ns, each.key)), {}, truncated=False)


def covers(node: Node, moment: int, until: int) -> bool:
    """Whether any child of *node* is at work at *moment*; a virtual one is its children, a running one has no end."""
    return any(
        covers(child, moment, until)
        if child.fact is None
        else child.start_ns <= moment < (until if child.fact.duration_ns is None else end_of(child))
        for child in node.children
    )


def end_of(node: Node) -> int:
    assert node.fact is not None and node.fact.duration_ns is not None
    return node.fact.start_ns + node.fact.duration_ns


def all_below(node: Node) -> list[Node]:
    return [found for child in node.children for found in (child, *all_below(child))]


@given(outlines())
def test_T16_to_T20_against_a_model(outline: Outline) -> None:
    """Each span is drawn once; the five figures, self times, sums and savings are what counting by hand gives."""
    nodes, found = outline.nodes, outline.totals
    sent = [node for node in nodes if node.fact is not None]
    facts = [node.fact for node in sent if node.fact is not None]
    calls = [each for each in facts if each.is_request]

    assert sorted(each.key for each in facts) == list(range(len(facts)))
    for node in nodes:
        assert all(child.parent is node for child in node.children)
        assert node.depth == (1 if node.parent is None else node.parent.depth + 1)
        assert node.below == len(all_below(node))
        own = [each.fact.cost for each in (node, *all_below(node)) if each.fact and each.fact.cost is not None]
        assert node.cost == (sum(own) if own else None)
        assert node.failed == sum(bool(each.fact and each.fact.outcome == "error") for each in all_below(node))
    priced = [each.cost for each in calls if each.cost is not None]
    assert found.cost == (sum(priced) if priced else None)
    assert (found.requests, found.depth) == (len(calls), max(node.depth for node in nodes))
    done = [each for each in calls if each.outcome != "running"]
    if done:
        rate = Fraction(sum(each.outcome == "ok" for each in done), len(done))
        assert Fraction(found.succeeded, found.finished) == rate
    ends = [end_of(node) for node in sent if not node.children and node.fact and node.fact.duration_ns is not None]
    leaf_ends = [node.end_ns for node in nodes if not node.children and node.end_ns is not None]
    assert ends == leaf_ends
    assert found.duration_ns == (max(0, max(ends) - found.start_ns) if ends else None)
    for node in sent:
        if node.fact is not None and node.fact.duration_ns is not None:
            end = end_of(node)
            idle = sum(not covers(node, moment, end) for moment in range(node.start_ns, end))
            assert self_time(node) == idle
    leaves = [node for node in sent if not node.children and node.fact and node.fact.duration_ns]
    moments = {moment for node in leaves for moment in range(node.start_ns, end_of(node))}
    took = sum(node.fact.duration_ns or 0 for node in leaves if node.fact)
    assert parallel_saving(work_of(nodes)) == took - len(moments)


@given(outlines())
def test_T15_the_critical_path_is_a_path(outline: Outline) -> None:
    """It begins at a root, has no gap in its ancestry, and of siblings on it none overlap."""
    critical = [node for node in outline.nodes if node.critical]

    assert any(node.parent is None for node in critical)
    assert all(node.parent is None or node.parent.critical for node in critical)
    running = any(node.fact is not None and node.fact.outcome == "running" for node in outline.nodes)
    for node in outline.nodes:
        chosen = [child for child in node.children if child.critical and child.end_ns is not None]
        for one in chosen:
            for other in chosen:
                apart = one is other or one.end_ns <= other.start_ns or other.end_ns <= one.start_ns  # type: ignore[operator]
                assert apart or running


def test_T15_the_bottleneck(database: Database) -> None:
    """Of three at once the longest is on the critical path; waiting between attempts and time at once are named."""
    slow = request(id="slow", trace_id=TRACE, parent_id="root", start_ns=START + SECOND, duration_ns=6 * SECOND)
    twice = request(
        id="twice", trace_id=TRACE, parent_id="root", start_ns=START + 7 * SECOND, duration_ns=3 * SECOND, attempt=2
    )
    first = attempt(twice, 1, duration_ns=SECOND, outcome="error", status=429)
    second = attempt(twice, 2, start_ns=twice.start_ns + int(1.5 * SECOND), duration_ns=int(1.5 * SECOND))
    Sink(database).write([
        span(id="root", trace_id=TRACE, duration_ns=10 * SECOND), slow,
        request(id="fast", trace_id=TRACE, parent_id="root", start_ns=START + 2 * SECOND, duration_ns=2 * SECOND),
        replace(twice, attempts=(first, second)),
    ])  # fmt: skip
    tree = get_trace(database, TRACE, project="default")
    assert tree is not None
    nodes = {node.id: node for node in tree.nodes}

    assert {id for id, node in nodes.items() if node.critical} == {"root", "slow", "twice"}
    assert (nodes["root"].self_ns, tree.parallel_saving_ns) == (SECOND, 2 * SECOND)
    assert nodes["twice"].retry_wait_ns == tree.retry_wait_ns == SECOND // 2


def test_T20_equal_on_page_list_and_json(bench: Bench) -> None:
    """The five figures are one, wherever they stand."""
    bench.fake.script(when="fails", status=500, times=None)
    for node, said in (("t", "hello"), ("t:a", "hello"), ("t:b", "fails"), ("t:a:x", "hello")):
        try:
            bench.ask(node, said)
        except Exception as error:
            assert "500" in str(error)
    tree, (row,) = bench.tree(), bench.traces()
    twin = bench.twin(f"/traces/{tree.trace_id}")["trace"]
    (listed,) = bench.twin("/traces")["rows"]
    (again,) = list_traces(bench.obs.database, Filter()).rows

    for name in ("total_cost_usd", "duration_ns", "node_count", "max_depth", "success_rate"):
        value = getattr(tree, name)
        assert getattr(row, name) == getattr(again, name) == value
        assert listed[name] == twin[name] == (float(value) if name == "total_cost_usd" else value)
    assert (tree.node_count, tree.max_depth, tree.success_rate) == (4, 3, 0.75)
    page = bench.page(f"/traces/{tree.trace_id}")
    assert "75 %" in page and "Node count" in page and "Success rate" in page


def test_T17_a_clock_that_differs(database: Database) -> None:
    """A child that seems to start before its parent is drawn, and told of; no duration turns negative."""
    Sink(database).write([
        span(id="root", trace_id=TRACE, duration_ns=SECOND),
        span(id="early", trace_id=TRACE, parent_id="root", start_ns=START - SECOND // 2, duration_ns=SECOND // 4),
    ])  # fmt: skip
    tree = get_trace(database, TRACE, project="default")
    assert tree is not None
    root, early = tree.nodes

    assert (tree.duration_ns, root.self_ns, early.offset_ns) == (0, SECOND, -SECOND // 2)
    assert early.note == "starts 500 ms before its parent: their clocks differ"


def orphan(id: str, parent: str) -> Span:
    return span(id=id, trace_id=TRACE, parent_id=parent)


def test_N16_orphans_are_drawn_in_place(database: Database) -> None:
    """A span whose parent was never stored hangs below the root, marked."""
    Sink(database).write([span(id="root", trace_id=TRACE), orphan("lost", "never")])
    tree = get_trace(database, TRACE, project="default")
    assert tree is not None
    assert [(node.id, node.depth, node.orphan) for node in tree.nodes] == [("root", 1, False), ("lost", 2, True)]


def test_N16_a_session_without_a_root(bench: Bench) -> None:
    """Calls whose parents are all elsewhere make a session that is not empty."""
    Sink(bench.obs.database).write([
        request(trace_id=f"{n:032x}", parent_id="f" * 16, session_id="s", start_ns=START + n) for n in range(1, 4)
    ])  # fmt: skip
    twin = bench.twin("/sessions/s")
    assert (len(twin["steps"]), len(twin["traces"])) == (3, 3)
