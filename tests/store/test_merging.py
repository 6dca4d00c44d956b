"""N4: one call, one record, however many layers tell of it, and in whatever order they come."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import func, select

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.queries.traces import TraceTree, get_trace
from asgi_llmobs.records import Request, Span
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.removal import remove
from asgi_llmobs.store.tables import AliasRow
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, START, attempt, request

TRACE = "7" * 32
AGENT = Span(id="a" * 16, trace_id=TRACE, kind="agent", name="agent", start_ns=START, duration_ns=9 * SECOND)
TOLD = request(
    id="b" * 16, trace_id=TRACE, parent_id=AGENT.id, name="ChatModel", api="otel", properties={"tier": "gold"},
    session_id="s-1", response_id=None,
)  # fmt: skip
SEEN = request(id="c" * 16, trace_id=TRACE, parent_id=TOLD.id)
BELOW = Span(id="d" * 16, trace_id=TRACE, parent_id=TOLD.id, name="below", start_ns=START, duration_ns=1)
RUNNING = replace(SEEN, outcome="running", duration_ns=None, request_body=None, response_body=None)


def stored(database: Database, *batches: list[Span]) -> TraceTree:
    """The trace after all of *batches*, each given twice."""
    sink = Sink(database)
    for _ in range(2):
        for batch in batches:
            assert sink.write(batch).refused == 0
    found = get_trace(database, TRACE, project="default")
    assert found is not None
    return found


def shape(found: TraceTree) -> list[tuple[int, str, bool]]:
    return [(node.depth, node.name, node.is_request) for node in found.nodes]


@pytest.mark.parametrize(
    "batches",
    [[[SEEN, TOLD, BELOW, AGENT]], [[TOLD, BELOW, SEEN, AGENT]], [[RUNNING], [TOLD], [SEEN, BELOW], [AGENT]],
     [[RUNNING], [SEEN, TOLD], [BELOW, AGENT]], [[RUNNING, TOLD], [SEEN], [BELOW, AGENT]],
     *([[one], [two], [three], [AGENT]] for one, two, three in permutations([SEEN, TOLD, BELOW]))],
)  # fmt: skip
def test_whichever_comes_first(database: Database, batches: list[list[Span]]) -> None:
    """The framework's name and place, the wire's usage; counted once, and replays change nothing."""
    found = stored(database, *batches)

    assert shape(found) == [(1, "agent", False), (2, "ChatModel", True), (3, "below", False)]
    assert {node.outcome for node in found.nodes} == {"ok"}
    assert (found.node_count, found.input_tokens, found.total_cost_usd) == (1, 20, SEEN.cost_usd)
    (row,) = list_requests(database, Filter(project="default")).rows
    assert (row.session_id, dict(row.properties), row.api) == ("s-1", {"tier": "gold"}, "openai.chat")
    assert len(list_requests(database, Filter(project="default", session=("s-1",))).rows) == 1


def test_layers() -> None:
    """Framework, instrumentation of the SDK, transport, in every order: the outermost name and one record."""
    inner = replace(TOLD, id="e" * 16, parent_id=TOLD.id, name="chat gpt-4o")
    seen = replace(SEEN, parent_id=inner.id)
    for order in permutations([TOLD, inner, seen]):
        fresh = Database("sqlite://")

        found = stored(fresh, *([one] for one in order), [AGENT])

        assert shape(found) == [(1, "agent", False), (2, "ChatModel", True)], [one.name for one in order]
        assert found.input_tokens == 20
        fresh.dispose()


def test_a_retry(database: Database) -> None:
    """Attempts of the wire come one by one, before and after the instrumentation."""
    first = replace(
        SEEN,
        outcome="error",
        status=429,
        cost=replace(SEEN.cost, amount=None, lines=()),
        usage=None,
        response_body=None,
    )
    first = replace(first, attempts=(attempt(first, 1, outcome="error", status=429),))
    second = replace(SEEN, attempt=2, attempts=(attempt(SEEN, 2),))

    found = stored(database, [first], [TOLD], [second], [AGENT])

    assert shape(found) == [(1, "agent", False), (2, "ChatModel", True)]
    (node,) = [node for node in found.nodes if node.is_request]
    assert (node.attempts, node.outcome) == (2, "ok")


def test_parts_of_one(database: Database) -> None:
    """Two calls inside what is told as one: both are counted, and what holds them is a node."""
    other = replace(SEEN, id="f" * 16, response_id="other", start_ns=SEEN.start_ns + SECOND // 2)

    found = stored(database, [SEEN], [other, TOLD], [AGENT])

    assert shape(found) == [
        (1, "agent", False), (2, "ChatModel", False), (3, "chat gpt-4o", True), (3, "chat gpt-4o", True),
    ]  # fmt: skip
    assert found.node_count == 2


@pytest.mark.parametrize(
    ("told", "one"),
    [
        ({"response_id": SEEN.response_id, "start_ns": START + 5 * SECOND}, True),
        ({"start_ns": START + SECOND // 20}, True),
        ({"start_ns": START + 2 * SECOND}, False),
        ({"request_model": "gpt-5", "response_model": None}, False),
        ({"operation": "embeddings", "kind": "embedding"}, False),
        ({"response_id": "another"}, False),
    ],
)
def test_beside_each_other(database: Database, told: dict[str, Any], one: bool) -> None:
    """A callback that reports afterwards: by the provider's id, else by place, model and time."""
    seen = replace(SEEN, parent_id=AGENT.id)

    found = stored(database, [AGENT], [seen], [replace(TOLD, **told)])

    assert found.node_count == (1 if one else 2)


def test_different_traces(database: Database) -> None:
    """Calls of other traces are other calls, whatever else is the same."""
    other = replace(TOLD, trace_id="8" * 32, response_id=SEEN.response_id)

    assert stored(database, [replace(SEEN, parent_id=AGENT.id), AGENT], [other]).node_count == 1
    assert len(list_requests(database, Filter(project="default")).rows) == 2


def test_nothing_is_left_of_a_trace(database: Database) -> None:
    """The note of the other id goes with its trace."""
    stored(database, [SEEN, TOLD, AGENT])
    table = AliasRow.__table__  # type: ignore[attr-defined]

    with database.write() as connection:
        assert connection.execute(select(func.count()).select_from(table)).scalar() == 1
        remove(connection, "default", [TRACE], limit=100)
        assert connection.execute(select(func.count()).select_from(table)).scalar() == 0


def test_a_call_is_a_request() -> None:
    """What the tests above give the store is what capture gives it."""
    assert isinstance(TOLD, Request) and isinstance(SEEN, Request)


def test_a_second_framework_from_further_in() -> None:
    """N4: layers that stand beside each other, told one after the other; what hangs below them stays in the tree."""
    task = Span(id="1" * 16, trace_id=TRACE, parent_id=AGENT.id, name="task", start_ns=START, duration_ns=9 * SECOND)
    outer = replace(TOLD, start_ns=SEEN.start_ns - 2, duration_ns=(SEEN.duration_ns or 0) + 4)
    inner = replace(outer, id="e" * 16, parent_id=task.id, name="openai.chat", start_ns=SEEN.start_ns - 1)
    seen = replace(SEEN, parent_id=task.id)
    below = replace(BELOW, parent_id=inner.id)
    for order in permutations([outer, inner, seen, below]):
        fresh = Database("sqlite://")

        found = stored(fresh, *([one] for one in order), [task], [AGENT])

        assert (found.node_count, found.input_tokens) == (1, 20), [one.name for one in order]
        assert [node.name for node in found.nodes if node.orphan] == []
        assert {"below", "task"} < {node.name for node in found.nodes}
        fresh.dispose()


def test_what_is_told_outside_any_trace(database: Database) -> None:
    """P19: litellm calls back from a thread of its own: the provider's id leads into the trace."""
    seen = replace(SEEN, parent_id=AGENT.id)
    stray = replace(TOLD, trace_id="8" * 32, parent_id=None, name="litellm_request", response_id=SEEN.response_id)
    below = replace(BELOW, trace_id=stray.trace_id)

    found = stored(database, [seen], [stray, below], [AGENT])

    assert shape(found) == [(1, "agent", False), (2, "litellm_request", True), (3, "below", False)]
    assert get_trace(database, stray.trace_id, project="default") is None


@pytest.mark.parametrize(("id", "count"), [("chatcmpl-made-up", 1), ("msg_another", 2)])
def test_an_id_that_litellm_makes_up(database: Database, id: str, count: int) -> None:
    """It has OpenAI's form, whoever answered: that says nothing against one call."""
    seen = replace(SEEN, parent_id=AGENT.id, response_id="msg_1")

    assert stored(database, [AGENT], [seen], [replace(TOLD, response_id=id)]).node_count == count
