"""The writer: what it takes arrives in every sink, through failures, restarts and forks, and nothing twice."""

import os
import signal
import threading
import time
from dataclasses import replace

import pytest

from asgi_llmobs import writer as module
from asgi_llmobs.config import Config
from asgi_llmobs.errors import StoreError, Trouble
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.records import Span, Written
from asgi_llmobs.safely import failures
from asgi_llmobs.spool import MemorySpool
from asgi_llmobs.writer import BATCH, Bell, Writer


class Sink:
    """Keeps what it gets; fails as often as it is told."""

    def __init__(self, failures=(), refuse=()):
        self.got, self.times, self.failures, self.refuse = [], [], list(failures), set(refuse)

    def write(self, batch):
        self.times.append(time.monotonic())
        if self.failures:
            raise self.failures.pop(0)
        kept = [record for record in batch if record.id not in self.refuse]
        self.got += [record.id for record in kept]
        return Written(len(kept), len(batch) - len(kept))


@pytest.fixture
def made(monkeypatch):
    """Makes a spool and its writer; ends them."""
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.03, 0.3))
    writers = []

    def make(*sinks, pipeline=None, budget=1_000_000):
        spool = MemorySpool(budget)
        writer = Writer(spool, pipeline or Pipeline(Config()), lambda: sinks)
        spool.wake = writer.woken
        writers.append(writer)
        return spool, writer

    yield make
    for writer in writers:
        writer.close(0.1)


def span(number):
    return Span(id=f"{number:016x}", trace_id="1" * 32)


def adds_up(spool):
    counters = spool.counters()
    return counters.captured == counters.stored + counters.spooled + sum(counters.dropped.values())


IDS = [span(number).id for number in range(500)]


def test_everything_arrives_in_order(made):
    """In every sink."""
    sinks = Sink(), Sink()
    spool, writer = made(*sinks)
    for number in range(500):
        spool.put(span(number))

    assert writer.flush() and spool.counters().stored == 500
    assert sinks[0].got == sinks[1].got == IDS


def test_a_sink_that_is_away_is_tried_again(made):
    """With growing pauses, nothing lost, nothing doubled, and it adds up all the while."""
    sink = Sink([StoreError("away")] * 4)
    spool, writer = made(sink)
    for number in range(500):
        spool.put(span(number))
        assert adds_up(spool)
    deadline = time.monotonic() + 40
    while writer.last_error is None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert (spool.counters().stored, spool.counters().spooled) == (0, 500)
    assert writer.last_error is not None and "cannot be reached" in writer.last_error
    assert writer.flush(40)

    assert (sink.got, writer.last_error, adds_up(spool)) == (IDS, None, True)
    pauses = [after - before for before, after in zip(sink.times, sink.times[1:5], strict=False)]
    assert pauses[-1] > pauses[0]


def test_a_batch_is_worked_on_once(made):
    """However often storing it is tried."""

    class Counting(Pipeline):
        calls = 0

        def process(self, entry):
            type(self).calls += 1
            return super().process(entry)

    spool, writer = made(Sink([StoreError("away")] * 3), pipeline=Counting(Config()))
    for number in range(20):
        spool.put(span(number))

    assert writer.flush(40) and Counting.calls == 20


def test_what_comes_while_a_batch_is_written_gathers_again(made):
    """A batch costs as much as ten calls do, however small it is: one is not written for each that trickles in."""

    class Slow(Sink):
        def write(self, batch):
            time.sleep(0.01)
            return super().write(batch)

    sink = Slow()
    spool, writer = made(sink)
    begun = time.monotonic()
    for number in range(150):
        spool.put(span(number))
        time.sleep(0.004)
    took = time.monotonic() - begun
    assert writer.flush(40)
    assert len(sink.got) == 150
    assert len(sink.times) <= took / module.GATHER_SECONDS + 4


def test_refused_and_unreadable_records_are_counted(made):
    """Each by its reason; their neighbours are stored."""

    class Broken(Pipeline):
        def process(self, entry):
            if entry.id == span(3).id:
                raise RuntimeError("ours")
            return super().process(entry)

    sink = Sink(refuse=[span(5).id])
    spool, writer = made(sink, pipeline=Broken(Config()))
    for number in range(10):
        spool.put(span(number))

    assert writer.flush() and adds_up(spool)
    assert spool.counters().dropped == {"unreadable": 1, "refused": 1}
    assert sink.got == [one for one in IDS[:10] if one not in (span(3).id, span(5).id)]


def test_a_value_that_breaks_the_sink_is_found(made):
    """An error that no patience helps against costs the one record that causes it."""

    class Picky(Sink):
        def write(self, batch):
            if any(record.id == span(7).id for record in batch):
                raise TypeError("cannot")
            return super().write(batch)

    sink = Picky()
    spool, writer = made(sink)
    for number in range(20):
        spool.put(span(number))

    assert writer.flush(40) and spool.counters().dropped == {"refused": 1}
    assert sorted(sink.got) == [one for one in IDS[:20] if one != span(7).id]


def test_flush_waits_no_longer_than_told(made):
    """A sink that hangs holds up nobody but the writer."""
    release = threading.Event()

    class Hanging(Sink):
        def write(self, batch):
            release.wait(50)
            return super().write(batch)

    sink = Hanging()
    spool, writer = made(sink)
    spool.put(span(1))
    started = time.monotonic()
    assert not writer.flush(0.1) and time.monotonic() - started < 25
    for number in range(2, 1_000):
        spool.put(span(number))
    assert time.monotonic() - started < 25 and adds_up(spool)
    release.set()

    assert writer.flush() and len(sink.got) == 999


def test_it_starts_again_after_close(made):
    """With the next thing that happens."""
    others = alive()
    sink = Sink()
    spool, writer = made(sink)
    spool.put(span(1))
    writer.close()
    assert sink.got == [span(1).id] and alive() <= others
    spool.put(span(2))

    assert writer.flush() and sink.got == [span(1).id, span(2).id]


def alive():
    return {thread for thread in threading.enumerate() if thread.name == "llmobs-writer"}


def test_there_is_one_thread(made):
    """However many start it at once."""
    others = alive()
    spool, writer = made(Sink())
    threads = [threading.Thread(target=writer.start) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(alive() - others) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork(made):
    """The child begins with nothing, and writes what is its own; the parent keeps what is its."""
    sink = Sink([StoreError("away")] * 3)
    spool, writer = made(sink)
    spool.put(span(1))
    writer.pause()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            spool.reset_after_fork()
            writer.reset_after_fork()
            sink.failures, sink.got = [], []
            spool.put(span(2))
            status = 0 if writer.flush() and sink.got == [span(2).id] else 2
        finally:
            os._exit(status)
    writer.resume()

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert writer.flush() and sink.got == [span(1).id]


class Slow(Pipeline):
    """Takes its time for each record."""

    def __init__(self, config):
        super().__init__(config)
        self.begun = threading.Event()

    def process(self, entry):
        self.begun.set()
        time.sleep(0.004)
        return super().process(entry)


def test_a_fork_waits_for_no_batch(made):
    """It goes between two records of one that would take seconds; what was being made of them is stored once."""
    sink, pipeline = Sink(), Slow(Config())
    spool, writer = made(sink, pipeline=pipeline)
    for number in range(BATCH):
        spool.put(span(number))
    assert pipeline.begun.wait(40)
    for _ in range(3):
        assert writer.pause(1.0) and sink.got == []
        writer.resume()

    assert writer.flush(40) and sink.got == [span(number).id for number in range(BATCH)]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signals here")
def test_a_fork_that_is_given_up(made):
    """Who is interrupted while he waits for a batch leaves the writer free to go on."""
    begun, gate = threading.Event(), threading.Event()

    class Held(Sink):
        def write(self, batch):
            begun.set()
            assert gate.wait(40)
            return super().write(batch)

    def interrupt(*_):
        raise KeyboardInterrupt

    sink = Held()
    spool, writer = made(sink)
    spool.put(span(1))
    assert begun.wait(40)
    before = signal.signal(signal.SIGUSR1, interrupt)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    with pytest.raises(KeyboardInterrupt):
        writer.pause(40)
    signal.signal(signal.SIGUSR1, before)
    gate.set()

    assert writer.flush(40)
    spool.put(span(2))
    assert writer.flush(40) and sink.got == [span(1).id, span(2).id]


@pytest.mark.parametrize("trouble", list(Trouble))
def test_it_says_what_is_wrong(made, caplog, trouble):
    """Each kind of trouble in its own words, in the counters and once in the log; then it goes on."""
    sink = Sink([StoreError("no", trouble)] * 2)
    spool, writer = made(sink)
    spool.put(span(1))
    deadline = time.monotonic() + 40
    while writer.last_error is None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert writer.last_error == f"{module.SAYS[trouble]} (StoreError)"
    assert writer.flush(40) and writer.last_error is None and sink.got == [span(1).id]

    assert [record.message.split(" (")[0] for record in caplog.records] == [f"asgi_llmobs: {module.SAYS[trouble]}"]
    assert failures() == {f"store ({trouble})": 2} and len(set(module.SAYS.values())) == len(Trouble)


def test_a_full_disk_costs_content_last(made):
    """What waits keeps its content as long as the spool has room; then records are stored without."""

    class Full(Sink):
        room = False

        def write(self, batch):
            if not self.room and any(record.input for record in batch):
                raise StoreError("full", Trouble.FULL)
            self.inputs = [*getattr(self, "inputs", []), *(record.input for record in batch)]
            return super().write(batch)

    sink = Full()
    spool, writer = made(sink, budget=60_000)
    fat = [replace(span(number), input="x" * 20_000) for number in range(8)]
    for entry in fat[:2]:
        spool.put(entry)
    assert not writer.flush(0.3) and sink.got == [] and spool.counters().bodies_dropped == 0
    for entry in fat[2:]:
        spool.put(entry)
    deadline = time.monotonic() + 40
    while not sink.got and time.monotonic() < deadline:
        assert not writer.flush(0.1) and adds_up(spool)
    assert sink.inputs[0] is None and writer.bodies_dropped == 1
    sink.room = True

    assert writer.flush(40) and sorted(sink.got) == [entry.id for entry in fat] and adds_up(spool)
    assert sink.inputs.count(None) == spool.counters().bodies_dropped + 1 < len(fat)


def test_what_fails_around_a_batch_ends_nothing(made, monkeypatch):
    """An error of our own anywhere in the thread is waited out; a thread that died all the same is replaced."""
    sink = Sink()
    spool, writer = made(sink)
    monkeypatch.setattr(spool, "tend", fails)
    spool.put(span(1))
    assert not writer.flush(0.3) and writer._thread.is_alive()
    monkeypatch.undo()
    assert writer.flush(40) and sink.got == [span(1).id]

    monkeypatch.setattr(writer, "_round", ends)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    spool.put(span(2))
    writer._thread.join(40)
    assert not writer._thread.is_alive()
    monkeypatch.undo()
    spool.put(span(3))
    assert writer.flush(40) and sink.got == [span(number).id for number in (1, 2, 3)]


def fails():
    raise MemoryError


def ends(_):
    raise SystemExit


def test_no_thread_can_be_started(made, monkeypatch):
    """What is captured waits, and it is tried again, but not with every call."""
    tried = []

    def refuse(self):
        tried.append(self)
        raise RuntimeError("can't start new thread")

    sink = Sink()
    spool, writer = made(sink)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for number in range(100):
        spool.put(span(number))
    assert len(tried) == 1 and spool.counters().spooled == 100
    monkeypatch.undo()
    monkeypatch.setattr(writer, "_no_thread_until", 0.0)

    assert writer.flush(40) and len(sink.got) == 100


@pytest.mark.slow
def test_the_end_does_not_wait_for_a_sink_that_hangs(made):
    """It gives up long before the sink does."""
    release = threading.Event()

    class Hanging(Sink):
        def write(self, batch):
            release.wait(50)
            return super().write(batch)

    spool, writer = made(Hanging())
    spool.put(span(1))
    started = time.monotonic()
    writer.close()

    assert time.monotonic() - started < 25
    release.set()


def test_the_bell():
    """Rung before it is waited for, it does not wait; silenced, it does."""
    bell = Bell()
    bell.ring()
    bell.ring()
    started = time.monotonic()
    bell.wait(50)
    assert time.monotonic() - started < 25
    bell.ring()
    bell.silence()
    bell.wait(0.05)

    assert 0.05 <= time.monotonic() - started < 25
