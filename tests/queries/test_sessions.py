"""Sessions: totals against a hand computation, and the tree of paths."""

from dataclasses import replace
from decimal import Decimal

import pytest

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.sessions import (
    PathNode,
    SessionDetail,
    get_session,
    list_sessions,
    session_paths,
    session_traces,
)
from asgi_llmobs.records import Cost, Request
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, START, priced, request


def session(database: Database, *records: Request) -> SessionDetail:
    Sink(database).write([replace(record, session_id="s") for record in records])
    found = get_session(database, "s", project="default")
    assert found is not None
    return found


def paths(database: Database, *records: Request) -> list[PathNode]:
    session(database, *records)
    return list(session_paths(database, "s", project="default"))


def test_totals_equal_a_hand_computation(database: Database) -> None:
    """Cost is the sum, duration runs from the first start to the last end, unknown stays unknown."""
    trace = "a" * 32
    first = request(start_ns=START, duration_ns=20 * SECOND, cost=priced("0.1"), trace_id=trace, session_name="Talk")
    second = request(
        start_ns=START + 5 * SECOND, duration_ns=SECOND, cost=priced("0.02"), trace_id=trace, user_id="ann"
    )
    third = request(
        start_ns=START + 9 * SECOND, duration_ns=SECOND, outcome="error", cost=Cost(reason="no usage"), usage=None
    )
    found = session(database, third, first)
    found = session(database, second)
    row = found.session

    assert (row.total_cost_usd, row.unpriced_count, row.duration_ns) == (Decimal("0.12"), 1, 20 * SECOND)
    assert (row.request_count, row.trace_count, row.error_count) == (3, 2, 1)
    assert (row.input_tokens, row.output_tokens, row.name, row.user_id) == (40, 20, "Talk", "ann")
    assert [one.id for one in found.requests] == [first.id, second.id, third.id]
    assert {one.trace_id for one in found.traces} == {trace, third.trace_id}
    assert list_sessions(database, Filter()).rows == [row]


def test_request_that_moves_to_another_session(database: Database) -> None:
    """Where the end of a call names another session, the first one no longer counts it."""
    done = request(session_id="new")
    Sink(database).write([replace(done, session_id="old", outcome="running")])
    Sink(database).write([done])

    assert get_session(database, "old", project="default") is None
    found = get_session(database, "new", project="default")
    assert found is not None and (found.session.request_count, found.session.trace_count) == (1, 1)


def test_paths_make_a_tree(database: Database) -> None:
    """Folders with their requests and rolled-up totals; those never sent are virtual."""
    sent = ["/analyze", "/analyze/summary", "/a/b/c", "/analyze/summary"]
    found = paths(database, *(request(session_path=path, start_ns=START + place) for place, path in enumerate(sent)))

    assert [(one.path, one.depth, one.virtual, one.request_count, len(one.request_ids)) for one in found] == [
        ("/", 0, True, 4, 0),
        ("/analyze", 1, False, 3, 1),
        ("/analyze/summary", 2, False, 2, 2),
        ("/a", 1, True, 1, 0),
        ("/a/b", 2, True, 1, 0),
        ("/a/b/c", 3, False, 1, 1),
    ]
    assert found[0].total_cost_usd == Decimal("0.0006")
    assert found[1].total_cost_usd == Decimal("0.00045")


@pytest.mark.parametrize("path", ["/a/b", "a/b", "/a//b", "//a/b/", " /a / b "])
def test_slashes_lose_nothing(database: Database, path: str) -> None:
    """However the slashes stand, it is the same folder."""
    found = paths(database, request(session_path="/a/b"), request(session_path=path))

    assert [(one.path, one.request_count) for one in found] == [("/", 2), ("/a", 2), ("/a/b", 2)]


def test_without_a_path(database: Database) -> None:
    """Requests that name no path are in the root."""
    found = paths(database, request(), request(session_path="/"), request(session_path="x"))

    assert [(one.name, one.virtual, len(one.request_ids)) for one in found] == [("/", False, 2), ("x", False, 1)]


def test_most_recently_active_first(database: Database) -> None:
    """The list is in the order of the last activity, not of the first."""
    Sink(database).write([
        request(session_id="long", start_ns=START, duration_ns=99 * SECOND),
        request(session_id="later", start_ns=START + 50 * SECOND),
    ])  # fmt: skip

    assert [row.session_id for row in list_sessions(database, Filter()).rows] == ["long", "later"]


def test_very_long_session(database: Database) -> None:
    """Any part of a session with thousands of requests is read by itself, and all are counted."""
    made = [
        request(start_ns=START + number, session_path="/even" if number % 2 == 0 else None) for number in range(2_050)
    ]
    session(database, *made)
    found = get_session(database, "s", project="default", start=2_030, limit=30, before=3)
    assert found is not None

    assert [row.id for row in found.requests] == [each.id for each in made[2_030:]]
    assert [row.id for row in found.before] == [each.id for each in made[2_027:2_030]]
    assert (found.count, found.session.request_count, len(found.traces)) == (2_050, 2_050, 20)
    later = session_traces(database, "s", project="default", start=2_000, limit=10)
    assert [trace.trace_id for trace in later] == [each.trace_id for each in made[2_000:2_010]]


def test_one_folder(database: Database) -> None:
    """Only what is in a folder and below it, however its path was written."""
    written = ["/a/b", "a//b/c", "/ab", None, "/a"]
    made = [request(start_ns=START + n, session_path=path) for n, path in enumerate(written)]
    session(database, *made)
    found = get_session(database, "s", project="default", path="a/b/")
    assert found is not None

    assert [row.id for row in found.requests] == [made[0].id, made[1].id]
    assert (found.count, found.session.request_count) == (2, 5)
