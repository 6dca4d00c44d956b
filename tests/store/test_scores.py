"""Scores as they are stored: once, the latest of an author counting, on the call that they mean."""

from dataclasses import replace
from typing import Any

import pytest

from asgi_llmobs import erasure, scores
from asgi_llmobs.errors import ScoreError
from asgi_llmobs.filters import Filter
from asgi_llmobs.limits import Retention
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.queries.scores import (
    list_names,
    scored,
    scores_of_session,
    scores_of_span,
    scores_of_trace,
)
from asgi_llmobs.queries.select import spans
from asgi_llmobs.records import Score
from asgi_llmobs.retention import prune
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.scores import give, take_back
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, START, request, span


def score(name: str = "helpful", value: Any = True, **given: Any) -> Score:
    """One that somebody gave to a span."""
    return scores.make_score(name, value, **{"target": "span", **given})


def current(found: Any) -> list[tuple[str, Any]]:
    return [(one.score.name, one.score.label or one.score.value) for one in found if one.current]


def test_latest_of_an_author_counts_and_the_history_stays(database: Database) -> None:
    """Of what one author says under one name the latest is current; another author's stands beside it."""
    call = request()
    Sink(database).write([call])
    first = score("quality", 0.2, target_id=call.id, author="ann", time_ns=START)
    later = score("quality", 0.9, target_id=call.id, author="ann", time_ns=START + 2)
    other = score("quality", 0.5, target_id=call.id, author="bob", time_ns=START + 1)
    give(database, later, first)  # the order of arrival says nothing
    give(database, other, replace(later, value=0.0))  # and what is there already stays as it is
    found = scores_of_span(database, "default", call.id)

    assert [(one.score.value, one.current) for one in found] == [(0.9, True), (0.5, True), (0.2, False)]
    assert {one.score.trace_id for one in found} == {call.trace_id}


def test_taken_back(database: Database) -> None:
    """Thumbs, tags and notes count no more once they are taken back, and are still to be seen."""
    call = request()
    Sink(database).write([call])
    given = [
        score("helpful", False, target_id=call.id, time_ns=START),
        score("urgent", True, kind="tag", target_id=call.id, time_ns=START),
        score("note", target_id=call.id, comment="see ticket 12", value=None),
        score("note", target_id=call.id, comment="and 13", value=None),
    ]
    give(database, *given)

    assert len(current(scores_of_span(database, "default", call.id))) == 4
    assert [take_back(database, "default", one.id) for one in given[:3]] == [True, True, True]
    assert take_back(database, "default", given[0].id) is False
    found = scores_of_span(database, "default", call.id)
    assert [one.score.comment for one in found if one.current] == ["and 13"]
    assert {one.id for one in given} <= {one.score.id for one in found}


def test_what_a_score_may_be() -> None:
    """The kind follows from the value; what cannot be understood is refused with the name of the field."""
    about: dict[str, Any] = {"target": "trace", "target_id": "a" * 32}
    kinds = {
        scores.make_score("x", value, comment=comment, **about).kind
        for value, comment in ((True, None), (3, None), (0.5, None), ("good", None), (None, "why"))
    }
    assert kinds == {"thumbs", "number", "label", "note"}
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("value", {"value": float("nan")}),
        ("value", {"value": 10**400}),
        ("value", {"value": None}),
        ("value", {"value": 2, "kind": "thumbs"}),
        ("value", {"value": "many", "kind": "number"}),
        ("kind", {"value": 1, "kind": "stars"}),
        ("comment", {"kind": "note"}),
        ("comment", {"value": 1, "comment": 5}),
        ("name", {"value": 1, "name": " "}),
        ("target", {"value": 1, "target": "user"}),
        ("target_id", {"value": 1, "target_id": ""}),
    ]
    for field, given in wrong:
        with pytest.raises(ScoreError) as refused:
            scores.make_score(**{"name": "x", **about, **given})
        assert refused.value.field == field, given


def test_of_a_call_by_the_id_that_the_app_gave(database: Database) -> None:
    """A score may come before its call, and may name it as the app did."""
    call = request(request_id="order-17")
    give(database, score("early", True, target_id="order-17"))
    Sink(database).write([call])
    give(database, score("late", True, target_id="order-17"))

    by_both = [scores_of_span(database, "default", id) for id in (call.id, "order-17")]
    assert current(by_both[0]) == current(by_both[1]) == [("late", 1.0), ("early", 1.0)]


def test_of_traces_and_sessions(database: Database) -> None:
    """A trace shows what was said of its spans too, a session what was said of its traces."""
    call = request(session_id="s")
    other = request()
    Sink(database).write([call, other])
    give(
        database,
        score("a", 1, target_id=call.id),
        score("b", 1, target="trace", target_id=call.trace_id),
        score("c", 1, target="session", target_id="s"),
        score("d", 1, target_id=other.id),
    )

    assert {one.score.name for one in scores_of_trace(database, "default", call.trace_id)} == {"a", "b"}
    assert {one.score.name for one in scores_of_session(database, "default", "s")} == {"a", "b", "c"}
    assert scores_of_trace(database, "elsewhere", call.trace_id) == []


def test_through_the_spool_as_calls_do(database: Database) -> None:
    """What travels among spans arrives as it was given; a bad one is refused alone."""
    call = request()
    given = score("quality", 0.5, target_id=call.id, author="ann", comment="fair", time_ns=START)
    bad = replace(scores.carried(given), id="bad", attributes={"kind": "stars", "target": "span", "target_id": "x"})
    written = Sink(database).write([scores.carried(given), bad, call, scores.carried(given)])

    assert (written.stored, written.refused) == (3, 1)
    assert [one.score for one in scores_of_span(database, "default", call.id)] == [
        replace(given, trace_id=call.trace_id)
    ]


def test_scores_follow_a_call_that_is_merged(database: Database) -> None:
    """Where what was told and what was seen become one record, it has the scores of both."""
    seen = request(trace_id="c" * 32, parent_id="t" * 16)
    told = replace(seen, id="t" * 16, parent_id=None, api="otel", request_body=None, response_body=None)
    Sink(database).write([seen])
    give(database, score("seen", 1, target_id=seen.id))
    Sink(database).write([told])
    give(database, score("again", 1, target_id=seen.id))

    assert {one.score.name for one in scores_of_span(database, "default", told.id)} == {"seen", "again"}


def test_names_and_what_they_come_to(database: Database) -> None:
    """Only what is current counts, each kind by its own measure."""
    calls = [request() for _ in range(4)]
    Sink(database).write(calls)
    for at, call in enumerate(calls):
        give(
            database,
            score("helpful", at > 0, target_id=call.id),
            score("quality", at / 4, target_id=call.id, time_ns=START),
            score("topic", "billing" if at else "other", target_id=call.id),
        )
    give(database, score("quality", 1.0, target_id=calls[0].id, time_ns=START + 1))
    found = {one.name: one for one in list_names(database, Filter())}

    assert set(found) == {"helpful", "quality", "topic"}
    assert (found["helpful"].mean, found["helpful"].values) == (0.75, (("up", 3), ("down", 1)))
    quality = found["quality"]
    assert (quality.count, quality.least, quality.most, quality.mean) == (4, 0.25, 1.0, 0.625)
    assert [count for _, _, count in quality.bins if count] == [1, 1, 1, 1]
    assert found["topic"].values == [("billing", 3), ("other", 1)]
    assert list_names(database, Filter(until_ns=START + 1))[0].count == 3  # of the time of the scores


def test_condition_for_lists(database: Database) -> None:
    """A call is found by its own score, by that of its trace and by that of its session."""
    own, by_trace, by_session, none = calls = [request(session_id=f"s{at}") for at in range(4)]
    Sink(database).write(calls)
    give(
        database,
        score("quality", 0.9, target_id=own.id),
        score("quality", 0.8, target="trace", target_id=by_trace.trace_id),
        score("quality", 0.3, target="session", target_id="s2"),
        score("topic", "billing", target_id=none.id),
    )

    def ids(name: str, test: str, value: str) -> set[str]:
        with database.read() as connection:
            query = spans.select().with_only_columns(spans.c.id).where(scored("default", name, test, value))
            return set(connection.execute(query).scalars())

    assert ids("quality", ">", "0.5") == {own.id, by_trace.id}
    assert ids("quality", "=", "") == {own.id, by_trace.id, by_session.id}
    assert ids("topic", "=", "billing") == {none.id}
    assert ids("topic", "!=", "billing") == ids("topic", ">", "0") == set()


def test_retention_keeps_what_was_judged(database: Database) -> None:
    """A current score keeps its trace, unless it says that it does not; the scores of what goes go with it."""
    calls = [request(session_id=f"s{at}", request_id=f"r{at}") for at in range(6)]
    Sink(database).write(calls[:5])
    back = score("helpful", True, target_id=calls[4].id, time_ns=START)
    give(
        database,
        score("helpful", True, target_id=calls[0].id),
        score("helpful", True, target="session", target_id="s1"),
        score("helpful", True, target_id="r5"),
        score("auto", 0.5, target_id=calls[2].id, keep=False),
        score("auto", 0.5, target="session", target_id="s2", keep=False),
        back,
    )
    take_back(database, "default", back.id)
    Sink(database).write(calls[5:])
    prune(database, Retention(age_ns=SECOND), project="default", now_ns=START + 100 * SECOND)

    with database.read() as connection:
        left = connection.exec_driver_sql("SELECT id FROM llmobs_spans").scalars().all()
        judged = connection.exec_driver_sql("SELECT name, target_id FROM llmobs_scores").all()
    assert set(left) == {calls[0].id, calls[1].id, calls[5].id}
    assert {name for name, _ in judged} == {"helpful"} and len(judged) == 3


def test_retention_takes_what_judges_nothing(database: Database) -> None:
    """Old scores of spans, traces and sessions that never came go; young ones may still be early."""
    call = request(session_id="s")
    Sink(database).write([call])
    late = START + 99 * SECOND
    give(
        database,
        *(score("old", True, target=target, target_id="e" * 32, time_ns=START) for target in scores.TARGETS),
        *(score("young", True, target=target, target_id="e" * 32, time_ns=late) for target in scores.TARGETS),
        score("own", True, target_id=call.id, time_ns=START),
        score("own", True, target="trace", target_id=call.trace_id, time_ns=START),
        score("own", True, target="session", target_id="s", time_ns=START),
    )
    prune(database, Retention(age_ns=10 * SECOND), project="default", now_ns=START + 100 * SECOND)

    with database.read() as connection:
        left = connection.exec_driver_sql("SELECT name FROM llmobs_scores").scalars().all()
    assert sorted(left) == ["own"] * 3 + ["young"] * 3


def test_erasure_takes_the_scores_along(database: Database) -> None:
    """Of what is erased no judgement is left, and of a user none that they gave."""
    calls = [request(user_id="ann", session_id="s"), request(), span()]
    Sink(database).write(calls)
    secret = "my name is Ann"
    give(
        database,
        score("note", None, target_id=calls[0].id, comment=secret),
        score("note", None, target="session", target_id="s", comment=secret),
        score("note", None, target_id=calls[1].id, comment=secret, author="ann"),
        score("note", None, target_id=calls[2].id, comment=secret),
    )
    erasure.erase(database, project="default", user="ann", session="s")
    erasure.erase(database, project="default", id=calls[2].id)

    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM llmobs_scores").scalar() == 0


def test_has_score(database: Database) -> None:
    """Whatever a request is judged by, itself, with its trace or with its session; taken back is not judged."""
    calls = [request(session_id=f"s{number}") for number in range(4)]
    Sink(database).write(calls)
    given = [
        score("quality", 0.2, target_id=calls[0].id),
        score("liked", True, target="trace", target_id=calls[1].trace_id),
        score("note", None, kind="note", comment="odd", target="session", target_id="s2"),
    ]
    give(database, *given)

    def found(search: str) -> set[str]:
        flt = Filter.from_query([("q", search)])
        return {row.id for row in list_requests(database, flt).rows}

    assert found("has:score") == {call.id for call in calls[:3]}
    assert found("-has:score") == {calls[3].id}
    take_back(database, "default", given[0].id)
    assert found("has:score") == {call.id for call in calls[1:3]}
