"""The calls around one, on both databases."""

from asgi_llmobs.queries.kin import find_in_trace, kin_of
from asgi_llmobs.queries.requests import request_with
from asgi_llmobs.queries.standing import standing_of
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, START, request


def test_around_one(database: Database) -> None:
    """Neighbours in session and trace, the previous call of the same step, those that follow, and repetitions."""
    common = {"session_id": "s", "caller": "app.py:1 ask"}
    calls = [request(start_ns=START + n // 2, trace_id=f"{n // 3 + 1:032x}", **common) for n in range(6)]
    again = request(start_ns=START + SECOND, properties={"Replay-Of": calls[2].id})
    Sink(database).write([*calls, again])
    kin = kin_of(database, calls[2])

    assert (kin.session_older, kin.session_newer) == (calls[1].id, calls[3].id)
    assert (kin.trace_older, kin.trace_newer) == (calls[1].id, None)
    assert (kin.previous_id, kin.relation) == (calls[1].id, "the same node, in this session")
    assert list(kin.after) == [call.id for call in calls[3:]]
    assert [each.id for each in kin.replays] == [again.id]
    assert find_in_trace(database, again.trace_id, project="default") == again.id
    assert find_in_trace(database, again.trace_id, project="other") is None
    assert request_with(database, calls[0].id, project="other") is None


def test_the_same_step_of_another_trace(database: Database) -> None:
    """Without session, the last call of the same line of code and model is the previous one; none without a line."""
    first = request(caller="app.py:1 ask", start_ns=START)
    second, other = request(caller="app.py:1 ask", start_ns=START + 1), request(caller="app.py:2", start_ns=START + 2)
    Sink(database).write([first, second, other, unknown := request(start_ns=START + 3)])

    assert kin_of(database, second).previous_id == first.id
    assert kin_of(database, other).previous_id is None
    assert kin_of(database, unknown).previous_id is None


def test_standing(database: Database) -> None:
    """Of a hundred calls the fiftieth is in the middle; calls of other models and of earlier weeks do not count."""
    calls = [request(start_ns=START + n, duration_ns=(n + 1) * SECOND // 10) for n in range(100)]
    others = [request(start_ns=START, duration_ns=1000, request_model="other") for _ in range(20)]
    old = [request(start_ns=START - 30 * 86_400 * SECOND, duration_ns=1000) for _ in range(20)]
    Sink(database).write([*calls, *others, *old])
    found = standing_of(database, calls[49])["duration_ns"]

    assert found.calls == 100
    assert abs(found.share - 0.5) < 0.04
    assert abs(found.median_ns - 5 * SECOND) < SECOND // 5
