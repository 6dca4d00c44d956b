"""Scores of one name: by when they were given, and by what was judged."""

from typing import Any

import pytest

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.judgements import days_of, score_groups, score_steps
from asgi_llmobs.scores import make_score
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.scores import give
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, request

DAY = 86_400 * SECOND
MIDNIGHT = 20_700 * DAY


def given(name: str, value: Any, target: str, id: str, day: int = 0, **more: Any) -> Any:
    made = make_score(name, value, target=target, target_id=id, **more)
    return type(made)(**{**{each: getattr(made, each) for each in made.__slots__}, "time_ns": MIDNIGHT + day * DAY})


def test_over_time_and_by_what_was_judged(database: Database) -> None:
    """A call, a trace and a session count for each model of the calls that they have."""
    calls = [
        request(request_model=model, session_id="s", properties={"Plan": plan}, start_ns=MIDNIGHT + place * SECOND)
        for place, (model, plan) in enumerate((("a", "pro"), ("b", "free"), ("b", "pro")))
    ]
    Sink(database).write(calls)
    give(
        database,
        given("good", True, "span", calls[0].id, 0),
        given("good", False, "trace", calls[1].trace_id, 2),
        given("good", True, "session", "s", 2),
        given("good", True, "span", "0" * 16, 2),
        given("precise", 0.5, "span", calls[0].id, 1),
        given("precise", 1.5, "span", calls[1].id, 1),
        given("tone", "warm", "span", calls[2].id, 1),
    )
    flt = Filter()

    steps = score_steps(database, flt, "good", "thumbs", days_of(MIDNIGHT, MIDNIGHT + 3 * DAY))
    assert [(one.count, one.values) for one in steps] == [
        (1, {"up": 1}),
        (0, {}),
        (3, {"up": 2, "down": 1}),
    ]
    groups, since = score_groups(database, flt, "good", "thumbs", "model")
    assert since is None
    assert {one.key: (one.count, one.mean) for one in groups} == {"a": (2, 1.0), "b": (2, 0.5), "": (1, 1.0)}
    (both,) = score_groups(database, flt, "precise", "number", "provider")[0]
    assert (both.count, both.mean, both.least, both.most) == (2, 1.0, 0.5, 1.5)
    (plans,) = score_groups(database, flt, "tone", "label", "property.plan")[0]
    assert (plans.key, plans.values) == ("pro", {"warm": 1})
    late = Filter(since_ns=MIDNIGHT + DAY)
    assert sum(one.count for one in score_groups(database, late, "good", "thumbs", "model")[0]) == 4
    with pytest.raises(FilterError, match="by"):
        score_groups(database, flt, "good", "thumbs", "nothing")


def test_a_short_range_is_told_by_the_hour() -> None:
    """Days make no chart of an afternoon, and hours none of a month."""
    assert days_of(MIDNIGHT, MIDNIGHT + DAY).step_ns == DAY // 24
    assert days_of(MIDNIGHT + 1, MIDNIGHT + 5 * DAY).starts() == range(MIDNIGHT, MIDNIGHT + 5 * DAY, DAY)
    assert days_of(MIDNIGHT, MIDNIGHT + 400 * DAY).step_ns >= 7 * DAY
