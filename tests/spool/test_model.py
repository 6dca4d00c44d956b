"""The spool against a simple model: any order of calls, writer's turns, crashes, damage and adoption."""

import os
import tempfile
from pathlib import Path
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asgi_llmobs.records import Exchange, Outcome
from asgi_llmobs.spool import Entry
from asgi_llmobs.spool.durable import DurableSpool
from asgi_llmobs.spool.segment import HEADER
from tests.spool.calls import call, finish, span, stream

SIZES = st.sampled_from([0, 1, 40, 900, 9_000, 70_000])


class Model(RuleBasedStateMachine):
    """What is expected to come out: by id the text that a finished call has, or that an open one has at least."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.spool = self.another()
        self.opened: dict[str, tuple[Exchange, bytes]] = {}
        self.finished: dict[str, bytes] = {}
        self.interrupted: dict[str, bytes] = {}
        self.stored: set[str] = set()
        self.flips = 0  # records that may have been hit
        self.torn = False
        self.given_up = 0  # for lack of room
        self.taken: list[Entry] = []

    def another(self) -> DurableSpool:
        root = os.path.join(self.folder.name, "data", "spool")
        return DurableSpool(root, 200_000, 4_000_000, segment=64 * 1024)

    @initialize()
    def first(self) -> None:
        self.finish_at_once(40)

    @rule(size=SIZES)
    def begin(self, size: int) -> None:
        entry = call(b"q" * size)
        self.spool.begin(entry)
        self.spool.tend()
        self.opened[entry.id] = entry, b""

    @precondition(lambda self: self.opened)
    @rule(size=SIZES, note=st.booleans(), pick=st.integers(0))
    def chunk(self, size: int, note: bool, pick: int) -> None:
        id = sorted(self.opened)[pick % len(self.opened)]
        entry, noted = self.opened[id]
        stream(entry, b"c" * size + b"\n")
        if note:
            self.spool.progress(entry)
            self.spool.tend()
            noted = b"".join(entry.response_chunks)
        self.opened[id] = entry, noted

    @precondition(lambda self: self.opened)
    @rule(size=SIZES, pick=st.integers(0))
    def end(self, size: int, pick: int) -> None:
        id = sorted(self.opened)[pick % len(self.opened)]
        entry, _ = self.opened.pop(id)
        self.spool.put(finish(entry, b"e" * size))
        self.spool.tend()  # or a file may be full, and no other one ready
        self.finished[id] = b"".join(entry.response_chunks)

    @rule(size=SIZES)
    def finish_at_once(self, size: int) -> None:
        entry = finish(call(), b"f" * size)
        self.spool.put(entry)
        self.spool.tend()
        self.finished[entry.id] = b"".join(entry.response_chunks)

    @rule()
    def put_span(self) -> None:
        entry = span(input="x" * 100)
        self.spool.put(entry)
        self.spool.tend()
        self.finished[entry.id] = b""

    @rule(limit=st.integers(1, 20))
    def take(self, limit: int) -> None:
        taken = list(self.spool.take(limit))
        if self.taken:
            assert [entry.id for entry in taken] == [entry.id for entry in self.taken]  # the store was away
        self.taken = taken
        for entry in taken:
            self.check(entry)

    def check(self, entry: Entry) -> None:
        """What comes out is what went in."""
        sure = not self.flips and not self.torn
        assert entry.id in self.finished or entry.id in self.interrupted or not sure
        if not isinstance(entry, Exchange):
            return
        text = b"".join(entry.response_chunks)
        if entry.outcome == Outcome.OK and not entry.response_truncated:
            known = self.finished.get(entry.id)
            assert known is None and not sure or text == known
        elif entry.outcome == Outcome.INTERRUPTED and sure:
            assert len(text) >= len(self.interrupted[entry.id])

    @rule()
    def done(self) -> None:
        if not self.taken:
            return
        self.spool.done(len(self.taken), {})
        for entry in self.taken:
            assert entry.id not in self.stored or self.flips or self.torn
            self.stored.add(entry.id)
            self.finished.pop(entry.id, None)
            self.interrupted.pop(entry.id, None)
        self.taken = []

    @rule(limit=st.integers(1, 5))
    def store(self, limit: int) -> None:
        self.take(limit)
        self.done()

    @rule(count=st.integers(2, 8), size=SIZES)
    def several(self, count: int, size: int) -> None:
        for _ in range(count):
            self.finish_at_once(size)

    @rule()
    def tend(self) -> None:
        self.spool.tend()

    @rule(adopt=st.booleans())
    def crash(self, adopt: bool) -> None:
        self.given_up += sum(self.spool.counters().dropped.values())
        self.spool.forsake()
        for id, (_, noted) in self.opened.items():
            self.interrupted[id] = noted
        self.opened, self.taken = {}, []
        self.spool = self.another()
        if adopt:
            self.spool.tend()

    def dead_file(self, pick: int) -> Path | None:
        """A file of no living process, some of which may be wiped or empty."""
        own = self.spool.journal.folder
        folder = Path(self.folder.name, "data", "spool")
        known = {estate.folder for estate in self.spool._upkeep._estates}
        found = [path for path in sorted(folder.rglob("*.seg")) if str(path.parent) not in {own, *known}]
        return found[pick % len(found)] if found else None

    @rule(pick=st.integers(0), seed=st.integers(0))
    def flip(self, pick: int, seed: int) -> None:
        path = self.dead_file(pick)
        used = len(path.read_bytes().rstrip(b"\0")) if path is not None else 0
        if path is None or used <= HEADER:
            return
        with path.open("r+b") as file:
            at = Random(seed).randrange(HEADER, used)
            file.seek(at)
            before = file.read(1)[0]
            file.seek(at)
            file.write(bytes([before ^ (1 << seed % 8)]))
        self.flips += 1

    @rule(pick=st.integers(0), size=st.integers(0, 70_000))
    def truncate(self, pick: int, size: int) -> None:
        path = self.dead_file(pick)
        if path is not None and size < path.stat().st_size:
            os.truncate(path, size)
            self.torn = True

    @invariant()
    def adds_up(self) -> None:
        counters = self.spool.counters()
        assert counters.captured == counters.stored + counters.spooled + sum(counters.dropped.values())
        assert counters.open == len(self.opened)
        assert self.spool.queue.memory >= 0 and self.spool.queue.bytes >= 0

    def teardown(self) -> None:
        """In the end everything has come out, but for what was damaged."""
        self.done()
        self.spool._upkeep.adopt_at = 0.0
        self.spool.tend()
        while True:
            self.take(20)
            if not self.taken:
                break
            self.done()
        missing = {**self.finished, **self.interrupted}
        counters = self.spool.counters()
        if not self.torn:
            assert len(missing) <= self.flips + self.given_up + sum(counters.dropped.values())
        assert counters.spooled == 0
        self.spool.forsake()
        self.folder.cleanup()


TestModel = Model.TestCase
TestModel.settings = settings(stateful_step_count=40)
