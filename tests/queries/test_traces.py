"""Trees: parents, paths of node ids, what is missing, and the five metrics."""

import itertools
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import event

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.traces import TraceTree, get_trace, list_traces
from asgi_llmobs.records import Cost, Span
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, START, priced, request, span

TRACE = "f" * 32


def node(id: str, parent: str | None = None, start: float = 0, length: float = 1, *, llm: bool = False, **more) -> Span:
    """A span of the one trace, its times in seconds."""
    times = {"start_ns": START + int(start * SECOND), "duration_ns": int(length * SECOND)}
    return (request if llm else span)(id=id, trace_id=TRACE, parent_id=parent, name=id, **times, **more)


def call(node_id: str, start: float = 0, parent: str | None = None, **more) -> Span:
    """A request with a Node-Id."""
    return node(f"{node_id}@{start}", parent, start, llm=True, node_id=node_id, **more)


def tree(database: Database, *records: Span) -> TraceTree:
    Sink(database).write(records)
    found = get_trace(database, TRACE, project="default")
    assert found is not None
    return found


def drawn(found: TraceTree) -> list[str]:
    """The tree as indented names; virtual nodes in brackets, orphans with a question mark."""
    return [
        "." * (one.depth - 1) + (f"({one.id})" if one.virtual else one.node_id or one.id) + ("?" if one.orphan else "")
        for one in found.nodes
    ]


def test_five_metrics(database: Database) -> None:
    """Cost, duration to the last leaf, requests, depth and success, in the tree and in the list alike."""
    found = tree(
        database,
        node("root", None, 0, 10, kind="http", route="/chat"),
        node("agent", "root", 1, 8, kind="agent"),
        node("one", "agent", 1, 2, llm=True),
        node("two", "agent", 3, 4, llm=True, outcome="error", cost=Cost(reason="no usage"), usage=None),
        node("tool", "agent", 7, 1, kind="tool"),
    )
    row = list_traces(database, Filter()).rows[0]

    assert drawn(found) == ["root", ".agent", "..one", "..two", "..tool"]
    assert (found.total_cost_usd, found.unpriced_count) == (Decimal("0.00015"), 1)
    assert (found.duration_ns, found.node_count, found.max_depth) == (8 * SECOND, 2, 3)
    assert (found.success_rate, found.error_count, found.span_count) == (0.5, 1, 5)
    assert (found.input_tokens, found.name) == (20, "root")
    for name in (
        "total_cost_usd", "duration_ns", "node_count", "max_depth", "success_rate", "error_count", "span_count",
        "unpriced_count", "input_tokens", "name", "start_ns",
    ):  # fmt: skip
        assert getattr(row, name) == getattr(found, name), name
    assert (row.kind, row.route, row.outcome) == ("http", "/chat", "ok")


def test_self_time_critical_path_and_sums(database: Database) -> None:
    """Time that children cover counts once, the critical path is what the end waited for, sums go up."""
    found = tree(
        database,
        node("root", None, 0, 10),
        node("slow", "root", 1, 6, llm=True),
        node("fast", "root", 2, 3, llm=True),
        node("after", "root", 8, 2, llm=True),
    )
    by_id = {one.id: one for one in found.nodes}

    assert by_id["root"].self_ns == 2 * SECOND
    assert {one.id for one in found.nodes if one.critical} == {"root", "slow", "after"}
    assert (by_id["root"].cost_usd, by_id["root"].total_cost_usd) == (None, Decimal("0.00045"))
    assert (by_id["root"].total_input_tokens, by_id["root"].child_count) == (60, 3)
    assert by_id["after"].offset_ns == 8 * SECOND


def test_missing_parent(database: Database) -> None:
    """A span whose parent never came hangs under the root, marked; the parent takes it when it comes."""
    lost, root = node("lost", "gone", 1), node("root", None, 0, 5)

    assert drawn(tree(database, lost, root)) == ["root", ".lost?"]
    assert drawn(tree(database, node("gone", "root", 0.5))) == ["root", ".gone", "..lost"]


def test_trace_that_began_elsewhere(database: Database) -> None:
    """Where every parent is elsewhere, the first span is the root and no orphan."""
    assert drawn(tree(database, node("b", "remote", 1), node("a", "remote", 0))) == ["a", ".b?"]


def test_cycles_and_self_parents(database: Database) -> None:
    """Spans that are their own ancestors are all drawn, once."""
    found = tree(
        database,
        *(node("a", "c", 0), node("b", "a", 1), node("c", "b", 2)),
        *(node("self", "self", 3), node("root", None, 4)),
    )

    assert sorted(one.id for one in found.nodes) == ["a", "b", "c", "root", "self"]
    assert next(one for one in found.nodes if one.id == "a").orphan


def test_example_of_four_nodes(database: Database) -> None:
    """A parent, two children and a grandchild by Node-Id: four nodes, three levels."""
    sent = ["trip", "trip:flights", "trip:hotels", "trip:hotels:rooms"]
    found = tree(database, *(call(node_id, start) for start, node_id in enumerate(sent)))

    assert drawn(found) == ["trip", ".trip:flights", ".trip:hotels", "..trip:hotels:rooms"]
    assert (found.node_count, found.max_depth, found.span_count) == (4, 3, 4)


def test_order_of_arrival_does_not_matter(database: Database) -> None:
    """Whatever comes first, the tree is the same."""
    calls = [call("a", 0), call("a:b", 1), call("a:b:c", 2), call("a:d", 3)]
    seen = set()
    for number, order in enumerate(itertools.permutations(calls)):
        trace = f"{number + 1:032x}"
        for one in order:
            Sink(database).write([replace(one, trace_id=trace, id=f"{number}{one.id}")])
        found = get_trace(database, trace, project="default")
        assert found is not None
        seen.add(tuple(drawn(found)))

    assert seen == {("a", ".a:b", "..a:b:c", ".a:d")}


def test_virtual_parents(database: Database) -> None:
    """Parents that were never sent are shown with what is below them and count for no request."""
    root = node("http", None, 0, 9, kind="http")
    found = tree(database, root, call("agent:plan", 1, "http"), call("agent:act:search", 2, "http"))
    virtual = {one.id: one for one in found.nodes if one.virtual}

    assert drawn(found) == ["http", ".(agent)", "..agent:plan", "..(agent:act)", "...agent:act:search"]
    assert found.node_count == 2
    assert virtual["agent"].total_cost_usd == Decimal("0.0003")
    assert (virtual["agent"].cost_usd, virtual["agent"].is_request, virtual["agent"].name) == (None, False, "agent")
    assert drawn(tree(database, call("agent", 0.5, "http")))[1] == ".agent"


def test_short_id_of_a_known_child(database: Database) -> None:
    """``child:grand`` finds its parent where that is itself a child."""
    found = tree(database, call("top", 0), call("top:child", 1), call("child:grand", 2), call("grand:leaf", 3))

    assert drawn(found) == ["top", ".top:child", "..child:grand", "...grand:leaf"]


def test_ambiguous_short_id_is_reported(database: Database) -> None:
    """Where two nodes could be meant, the first is taken and the node says so."""
    found = tree(database, call("a:x", 0), call("b:x", 1), call("x:y", 2))
    last = next(one for one in found.nodes if one.node_id == "x:y")

    assert drawn(found) == ["(a)", ".a:x", "..x:y", "(b)", ".b:x"]
    assert last.note == "x may be any of a:x, b:x; shown under the first"


def test_odd_node_ids(database: Database) -> None:
    """Empty segments count for nothing, and a repeated id is two nodes."""
    found = tree(database, call(":a::", 0), call("a: b", 1), call("a:b", 2), call("a:b:c", 3), call("::", 4))

    assert drawn(found) == [":a::", ".a: b", "..a:b:c", ".a:b", "::"]


def test_deep_and_wide(database: Database) -> None:
    """Thousands of levels and thousands of siblings are no recursion."""
    chain = [node(f"{number:016x}", f"{number - 1:016x}" if number else None, number / 1000) for number in range(3_000)]
    found = tree(database, *chain, *(node(f"w{number}", "0" * 16, 5) for number in range(2_000)))

    assert (found.max_depth, len(found.nodes)) == (3_000, 5_000)


def test_running_trace(database: Database) -> None:
    """While anything runs the trace does, and what runs is neither success nor failure."""
    found = tree(database, node("root", None, 0, 5), node("now", "root", 1, llm=True, outcome="running"))
    row = list_traces(database, Filter()).rows[0]

    assert (row.outcome, found.success_rate, found.unpriced_count) == ("running", None, 0)


def test_unpriced_is_no_cost(database: Database) -> None:
    """A trace none of whose requests has a price has none itself."""
    found = tree(database, node("a", None, llm=True, cost=Cost(reason="unknown model")))

    assert (found.total_cost_usd, found.unpriced_count) == (None, 1)


def test_no_such_trace(database: Database) -> None:
    """A trace that is not there is none."""
    assert get_trace(database, "0" * 32, project="default") is None


def test_errors_in_the_list(database: Database) -> None:
    """A trace with failures is listed with what one of them is called, the others with nothing."""
    bad = span(trace_id="a" * 32, outcome="error", error_type="TimeoutError", error_message="too slow")
    Sink(database).write([bad, span(trace_id="a" * 32, parent_id=bad.id), span(trace_id="b" * 32)])
    rows = {row.trace_id: row for row in list_traces(database, Filter()).rows}

    assert (rows["a" * 32].error_type, rows["a" * 32].error_message) == ("TimeoutError", "too slow")
    assert (rows["b" * 32].error_type, rows["b" * 32].error_message) == (None, None)


def test_a_list_by_outcome_looks_at_each_trace_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where many requests failed, a trace is asked for its own, not all failures for each trace."""
    database = Database("sqlite://")
    Sink(database).write([request(outcome="error") for _ in range(3)])
    monkeypatch.setattr("asgi_llmobs.queries.select.FEW", 0)
    plans: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "EXISTS" in statement:
            cursor.execute("EXPLAIN QUERY PLAN " + statement, parameters)
            plans.extend(row[3] for row in cursor.fetchall())

    with database.read() as connection:
        engine = connection.engine
    event.listen(engine, "before_cursor_execute", explain)
    for condition in ({"status": ("error",)}, {"model": ("gpt-4o",)}, {"user": ("nobody",)}):
        list_traces(database, Filter(**condition))  # type: ignore[arg-type]
    database.dispose()

    used = {plan for plan in plans if "llmobs_spans" in plan}
    assert used == {"SEARCH llmobs_spans USING INDEX llmobs_spans_trace (project=? AND trace_id=?)"}


@pytest.mark.parametrize("lowest", [False, True])
@pytest.mark.parametrize(
    ("sort", "figure"), [("cost", "total_cost_usd"), ("duration", "duration_ns"), ("requests", "node_count")]
)
def test_the_list_in_another_order(database: Database, sort: str, figure: str, lowest: bool) -> None:
    """Page by page, forward and back, every trace once in the order that is asked for; what is unknown comes last."""
    made: list[Span] = []
    for n in range(12):
        trace = f"{n:032x}"
        cost = Cost(reason="unknown") if n == 5 else priced(f"0.{n * 7 % 10}1")
        made += [
            request(trace_id=trace, start_ns=START + n, duration_ns=(n * 5 % 11 + 1) * SECOND, cost=cost)
            for _ in range(n % 3 + 1)
        ]
    Sink(database).write(made)
    everything = list_traces(database, Filter()).rows
    pages, cursor = [], None
    while True:
        page = list_traces(database, Filter(), sort=sort, lowest=lowest, cursor=cursor, limit=5)
        pages.append(page)
        cursor = page.next_cursor
        if cursor is None:
            break
    rows = [row for page in pages for row in page.rows]
    values = [getattr(row, figure) for row in rows]
    known = [value for value in values if value is not None]

    assert {row.trace_id for row in rows} == {row.trace_id for row in everything} and len(rows) == len(everything)
    assert known == sorted(known, reverse=not lowest) and values[len(known) :] == [None] * (len(values) - len(known))
    back = list_traces(database, Filter(), sort=sort, lowest=lowest, cursor=pages[1].previous_cursor, limit=5)
    assert [row.trace_id for row in back.rows] == [row.trace_id for row in pages[0].rows]
