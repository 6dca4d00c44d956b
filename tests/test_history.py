"""The days before a demo: the same calls at other times, told apart by their ids, still one tree each."""

from dataclasses import replace

from asgi_llmobs.cli.history import DAYS, earlier
from asgi_llmobs.records import Kind, Outcome
from asgi_llmobs.scores import carried, make_score
from tests.making import SECOND, START, attempt, request, span

DAY = 86_400 * SECOND


def test_what_was_recorded_happens_again_on_the_days_before() -> None:
    """Parents, attempts and scores follow their calls; nothing of now, and nothing under way, is repeated as it is."""
    root = span(kind=Kind.HTTP, session_id="s", duration_ns=4 * SECOND)
    call = request(trace_id=root.trace_id, parent_id=root.id, start_ns=START + SECOND, first_token_ns=SECOND // 2)
    call = replace(call, attempts=(attempt(call, 1, outcome="error"), attempt(call, 2)))
    judged = carried(make_score("good", True, target="trace", target_id=root.trace_id, trace_id=root.trace_id))
    running = replace(span(), outcome=Outcome.RUNNING)

    rounds = [batch for batch in earlier([root, call, judged, running], now_ns=START) if batch]

    assert len(rounds) > DAYS / 2
    assert len({record.id for batch in rounds for record in batch}) == 3 * len(rounds)
    for top, below, score in rounds:
        assert START - (DAYS + 1) * DAY < top.start_ns < START
        assert below.parent_id == top.id and below.trace_id == top.trace_id == score.trace_id
        assert score.attributes["target_id"] == top.trace_id
        assert {each.request_id for each in below.attempts} == {below.id}
        assert abs(below.first_token_ns * 2 - below.duration_ns) < 3
        assert top.session_id != root.session_id
    assert list(earlier([root, call], now_ns=START)) == list(earlier([root, call], now_ns=START))
