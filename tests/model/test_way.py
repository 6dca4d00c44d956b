"""Spool, writer and store together against a simple model: calls come, crash, are adopted, and the store goes away."""

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asgi_llmobs.config import Config
from asgi_llmobs.errors import StoreError
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.records import Exchange, Span, Written
from asgi_llmobs.spool import MemorySpool
from asgi_llmobs.spool.durable import DurableSpool
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from asgi_llmobs.writer import Writer
from tests.examples import some
from tests.spool.calls import call, finish, span, stream

SIZES = st.sampled_from([0, 1, 300, 5_000, 40_000])
BUDGET, CAP, SEGMENT = 2_000_000, 8_000_000, 64 * 1024


class Store:
    """A database that can be away, and can lose the answer to a commit."""

    def __init__(self, database: Database) -> None:
        self.sink = Sink(database)
        self.away = False
        self.deaf = False

    def write(self, batch: Sequence[Span]) -> Written:
        """Store it, if it is there."""
        if self.away:
            raise StoreError("away")
        written = self.sink.write(batch)
        if self.deaf:
            raise StoreError("the answer was lost")
        return written


class Way(RuleBasedStateMachine):
    """The model: which ids must be stored in the end, and which of those as interrupted."""

    durable = True

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(f"sqlite:///{os.path.join(self.folder.name, 'llmobs.db')}")
        self.store = Store(self.database)
        self.opened: dict[str, Exchange] = {}
        self.finished: set[str] = set()
        self.interrupted: set[str] = set()
        self.lost: set[str] = set()
        self.left: set[str] = set()  # of earlier processes: it is adopted in its own time
        self.start()

    def start(self) -> None:
        root = os.path.join(self.folder.name, "spool")
        spool: Any = DurableSpool(root, BUDGET, CAP, segment=SEGMENT) if self.durable else MemorySpool(BUDGET)
        self.spool = spool
        self.writer = Writer(spool, Pipeline(Config()), lambda: (self.store,))

    @rule(size=SIZES)
    def begin(self, size: int) -> None:
        entry = call(b"q" * size)
        self.spool.begin(entry)
        self.opened[entry.id] = entry

    @precondition(lambda self: self.opened)
    @rule(size=SIZES, pick=st.integers(0))
    def progress(self, size: int, pick: int) -> None:
        entry = self.picked(pick)
        stream(entry, b"c" * (size + 1))
        self.spool.progress(entry)

    def picked(self, pick: int) -> Exchange:
        return self.opened[sorted(self.opened)[pick % len(self.opened)]]

    @precondition(lambda self: self.opened)
    @rule(size=SIZES, pick=st.integers(0))
    def end(self, size: int, pick: int) -> None:
        entry = self.picked(pick)
        del self.opened[entry.id]
        self.spool.put(finish(entry, b"e" * size))
        self.finished.add(entry.id)

    @rule(size=SIZES, count=st.integers(1, 5))
    def put(self, size: int, count: int) -> None:
        for _ in range(count):
            entry = finish(call(b"q" * size), b"f" * size)
            self.spool.put(entry)
            self.finished.add(entry.id)

    @rule()
    def put_span(self) -> None:
        entry = span(input="x" * 100)
        self.spool.put(entry)
        self.finished.add(entry.id)

    @rule()
    def goes_away(self) -> None:
        self.store.away = True

    @rule()
    def goes_deaf(self) -> None:
        self.store.deaf = True

    @rule()
    def comes_back(self) -> None:
        self.store.away = self.store.deaf = False

    @rule()
    def drain(self) -> None:
        """The writer's turn, as its thread would take it."""
        reachable = not self.store.away and not self.store.deaf
        self.writer.flush(20.0 if reachable else 0.0)
        if reachable:
            assert self.spool.empty() and self.missing() <= self.left

    @rule()
    def tend(self) -> None:
        self.spool.tend()

    @rule()
    def stop(self) -> None:
        """An orderly end, and the next start: what could not be stored waits in files, or is lost with the memory."""
        thread = self.writer._thread
        self.writer.close(0.1)
        if thread is not None:
            thread.join(40)  # a process that is over has none that goes on
        self.died(self.spool.counters().spooled == 0)

    @rule()
    def crash(self) -> None:
        self.halt()
        self.died(False)

    def halt(self) -> None:
        """The thread ends without a word, between two batches."""
        assert self.writer.pause()
        self.writer._stop.set()
        self.writer.resume()
        thread = self.writer._thread
        if thread is not None:
            thread.join(40)

    def died(self, clean: bool) -> None:
        if self.durable:
            self.spool.forsake()
            self.interrupted |= set(self.opened)
            self.left = set(self.finished)
        elif not clean:
            self.lost |= self.finished
        self.opened = {}
        self.start()

    def rows(self) -> dict[str, str]:
        with self.database.read() as connection:
            found = connection.exec_driver_sql("SELECT id, outcome FROM llmobs_spans").all()
        rows = {row[0]: row[1] for row in found}
        assert len(rows) == len(found), "nothing twice"
        return rows

    def missing(self) -> set[str]:
        """What is finished and not in the store, though it should be."""
        return self.finished - set(self.rows()) - self.lost

    @invariant()
    def adds_up(self) -> None:
        counters = self.spool.counters()
        assert counters.captured == counters.stored + counters.spooled + sum(counters.dropped.values())
        assert not counters.dropped and counters.open == len(self.opened)

    def teardown(self) -> None:
        """The store is there, the last process has everything: it is stored once, and as what it was."""
        self.comes_back()
        self.stop()
        if self.durable:
            self.spool._upkeep.adopt_at = 0.0
            self.spool.tend()
        assert self.writer.flush(40)
        rows = self.rows()
        assert self.missing() == set()
        assert {rows[id] for id in self.interrupted if id in rows} <= {"interrupted"}
        assert {rows[id] for id in self.finished if id in rows} <= {"ok"}
        if self.durable:
            assert self.interrupted <= set(rows)
        assert set(rows) <= self.finished | self.interrupted
        self.writer.close()
        self.database.dispose()
        self.folder.cleanup()


class InMemory(Way):
    """The same, where a crash takes what waits with it."""

    durable = False


SETTINGS = settings(max_examples=some(0.3), stateful_step_count=25)
TestDurable = Way.TestCase
TestDurable.settings = SETTINGS
TestInMemory = InMemory.TestCase
TestInMemory.settings = SETTINGS


@pytest.mark.long
@pytest.mark.timeout(900)
class TestDurableForLong(Way.TestCase):
    """More of the same."""

    settings = settings(SETTINGS, max_examples=200, stateful_step_count=50)
