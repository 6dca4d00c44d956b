"""Who takes over what a dead process left: a living one within ten seconds, else whoever starts next; once."""

import time

import pytest

from asgi_llmobs import LLMObs
from tests.crash.conftest import Place
from tests.crash.identity import adopt
from tests.crash.test_kill import BACKENDS, compare, killed, loaded

pytestmark = pytest.mark.slow
ADOPTED_SECONDS = 10.0


@pytest.mark.parametrize("place", BACKENDS, indirect=True)
def test_f2_a_living_process_takes_over(place: Place) -> None:
    """It need not make a call of its own, nor be told."""
    engine = LLMObs(place.url, data_dir=place.folder, instrument="off")
    engine.start()
    story = killed(loaded(place), 0.2)
    died = time.monotonic()
    while engine.stats().adopted == 0 and time.monotonic() - died < 2 * ADOPTED_SECONDS:
        time.sleep(0.02)
    took = time.monotonic() - died
    assert engine.flush(30)
    stats = engine.stats()
    engine.close()

    assert took <= ADOPTED_SECONDS
    assert stats.captured == stats.adopted == stats.stored
    compare(place, story)


def test_two_that_start_at_once_share_without_doubling(place: Place) -> None:
    """Each folder goes to one of them."""
    stories = [killed(loaded(place), 0.1) for _ in range(2)]
    heirs = [LLMObs(place.url, data_dir=place.folder, instrument="off") for _ in range(2)]
    for heir in heirs:
        heir.start()
    for heir in heirs:
        until = time.monotonic() + 20
        while heir.spool.adopt_at == 0 and time.monotonic() < until:  # type: ignore[attr-defined]
            time.sleep(0.02)
        assert heir.flush(30)
    counters = [heir.stats() for heir in heirs]
    for heir in heirs:
        heir.close()

    assert sum(one.stored for one in counters) == sum(one.adopted for one in counters)
    told = [name for story in stories for name in story.finished]
    assert sum(one.stored for one in counters) <= len(told) + 10 + 2 * 5
    adopt(place.url, place.folder)  # nothing is left for a third one
