"""The queue between capture and writer: bounded in bytes, oldest bodies first, and it always adds up."""

import gc
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asgi_llmobs.records import Exchange, Span
from asgi_llmobs.spool import MemorySpool


def call(size=10, name="x"):
    """A finished call with a body of that size."""
    body = b"x" * size
    return Exchange(
        id=name,
        trace_id="t",
        parent_id=None,
        match=None,
        method="POST",
        url="u",
        start_ns=0,
        clock_ns=0,
        request_chunks=[body],
        request_size=size,
        response_chunks=[],
    )


def adds_up(spool):
    counters = spool.counters()
    return counters.captured == counters.stored + counters.spooled + sum(counters.dropped.values())


def test_bodies_go_before_records_the_oldest_first():
    """Over the budget the oldest bodies are given up, then the oldest calls; each is counted."""
    spool = MemorySpool(30_000)
    calls = [call(5_000, str(number)) for number in range(5)]
    for one in calls:
        spool.put(one)

    assert [bool(one.request_chunks) for one in calls] == [False, True, True, True, True][:5] or not calls[
        0
    ].request_chunks
    assert calls[-1].request_chunks and calls[0].request_truncated
    assert (spool.counters().dropped, adds_up(spool)) == ({}, True)
    assert spool.counters().bodies_dropped == sum(not one.request_chunks for one in calls)

    for number in range(30):
        spool.put(call(0, f"late {number}"))
    counters = spool.counters()
    assert counters.spooled_bytes <= 30_000 and counters.dropped["spool full"] > 0 and adds_up(spool)
    assert spool.take(1)[0].id not in ("0", "1")


def test_a_body_larger_than_everything():
    """Is given up at once; its call is kept."""
    spool = MemorySpool(10_000)
    spool.put(call(50_000_000))

    assert (spool.counters().spooled, spool.counters().bodies_dropped) == (1, 1)


def test_texts_of_spans_are_bodies_too():
    """A span's input and output are given up like bodies."""
    spool = MemorySpool(10_000)
    spool.put(Span(id="1", trace_id="t", name="n", input="x" * 20_000))
    (span,) = spool.take(10)

    assert (span.name, span.input, spool.counters().bodies_dropped) == ("n", None, 1)


def test_take_is_repeated_until_done():
    """A batch that could not be stored is given again, the same."""
    spool = MemorySpool(1_000_000)
    for number in range(5):
        spool.put(call(name=str(number)))
    first = spool.take(2)

    assert spool.take(5) == first and [one.id for one in first] == ["0", "1"]
    spool.done(1, {"refused": 1})
    assert [one.id for one in spool.take(5)] == ["2", "3", "4"]
    assert (spool.counters().stored, spool.counters().dropped, adds_up(spool)) == (1, {"refused": 1}, True)


def test_batches_are_bounded_in_bytes():
    """What is taken cannot be given up any more, so it is never much."""
    spool = MemorySpool(80_000)
    for number in range(10):
        spool.put(call(5_000, str(number)))

    assert 1 <= len(spool.take(200)) <= 3


def test_running_calls_are_told_once():
    """And no more once they have ended."""
    spool = MemorySpool(1_000_000)
    one, other = call(), call()
    spool.begin(one)
    spool.begin(other)
    spool.put(other)

    assert spool.running(0) == [one] and spool.running(0) == []
    assert spool.counters().open == 1
    spool.put(one)
    assert spool.counters().open == 0


def test_a_finalizer_may_put_while_we_are_inside():
    """Garbage collection in the middle of anything: no deadlock, nothing lost."""
    spool = MemorySpool(20_000)

    class Left:
        def __del__(self):
            spool.put(call(100))

    def work():
        before = gc.get_threshold()
        gc.set_threshold(1)
        try:
            for _ in range(300):
                left = Left()
                left.itself = left
                spool.put(call(300))
                spool.counters()
                spool.running(0)
                spool.take(3)
                spool.done(len(spool.take(3)), {})
        finally:
            gc.set_threshold(*before)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(30)
    gc.collect()

    assert not thread.is_alive(), "deadlock"
    assert spool.counters().captured == 600 and adds_up(spool)


def test_many_threads():
    """Nothing is lost or counted twice, and whoever looks sees it add up."""
    spool = MemorySpool(50_000)
    stop = threading.Event()
    wrong = []

    def put():
        for _ in range(500):
            spool.put(call(200))

    def drain():
        while not stop.is_set():
            spool.done(len(spool.take(7)), {})

    def look():
        while not stop.is_set():
            if not adds_up(spool):
                wrong.append(spool.counters())

    others = [threading.Thread(target=target) for target in (drain, look)]
    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in others + threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    for thread in others:
        thread.join()

    assert not wrong and spool.counters().captured == 4_000 and adds_up(spool)


class Model(RuleBasedStateMachine):
    """The spool against a simple model of it."""

    def __init__(self):
        super().__init__()
        self.spool = MemorySpool(20_000)
        self.put_in = 0
        self.taken = []

    @rule(size=st.integers(0, 9_000))
    def put(self, size):
        self.put_in += 1
        self.spool.put(call(size, str(self.put_in)))

    @rule()
    def refuse(self):
        self.put_in += 1
        self.spool.refuse("trace full")

    @rule(limit=st.integers(1, 5))
    def take(self, limit):
        before, self.taken = self.taken, list(self.spool.take(limit))
        assert not before or self.taken == before
        assert [int(one.id) for one in self.taken] == sorted(int(one.id) for one in self.taken)

    @rule(refused=st.integers(0, 2))
    def done(self, refused):
        refused = min(refused, len(self.taken))
        self.spool.done(len(self.taken) - refused, {"refused": refused} if refused else {})
        self.taken = []

    @invariant()
    def adds_up(self):
        counters = self.spool.counters()
        assert adds_up(self.spool) and counters.captured == self.put_in
        assert counters.spooled_bytes <= 20_000 + 20_000 // 8 + 12_000
        assert (counters.spooled == 0) == self.spool.empty()
        assert counters.spooled or counters.spooled_bytes == 0


Model.TestCase.settings = settings(stateful_step_count=40)
test_model = pytest.mark.filterwarnings("ignore")(Model.TestCase)
