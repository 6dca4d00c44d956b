"""A spool in files that outlive the process: what was captured is there before the call returns to the caller."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any
from weakref import WeakSet

from asgi_llmobs.records import Exchange, Span
from asgi_llmobs.safely import report, safely
from asgi_llmobs.spool import serial
from asgi_llmobs.spool.adoption import Estate, Left, estates
from asgi_llmobs.spool.base import Counters, Entry, weight, without_bodies
from asgi_llmobs.spool.frames import Kind
from asgi_llmobs.spool.journal import Journal
from asgi_llmobs.spool.queue import WAITING, Item, Queue
from asgi_llmobs.spool.segment import Place

__all__ = ["DurableSpool", "SEGMENT"]

SEGMENT = 4 * 1024 * 1024
ADOPT_SECONDS = 5.0
TAKE_BYTES = 4 * 1024 * 1024  # of one batch
MAX_ROOTS = 10_000
ROOM_SECONDS = 0.2  # that making room takes at a time
GROWING: Any = bytearray  # pieces that very many chunks are put together into


class Open:
    """A call under way."""

    __slots__ = ("call", "entry", "index", "places", "secrets", "size", "told")

    def __init__(self, entry: Exchange, call: int) -> None:
        self.entry = entry
        self.call = call
        self.secrets = serial.secrets_in(entry)
        self.places: list[Place] = []
        self.index = 0  # chunks of its answer that stand in records
        self.size = 0  # bytes of its request that do
        self.told = False  # so do the response headers


class DurableSpool:
    """A queue whose entries stand in files too.

    Args:
        root: The folder that all processes share.
        budget: Bytes of memory that may wait; beyond, entries wait in files only.
        cap: Bytes of files. Beyond, the bodies of the oldest calls go first, then the oldest calls.
        origin: Says which process this is.
        providers: Those that the app added.
        full: Whether the texts of spans are kept.
        wake: Called after each :meth:`put`, to tell the writer.
        segment: Bytes of one file.
    """

    def __init__(
        self,
        root: str,
        budget: int,
        cap: int,
        *,
        origin: Callable[[], Mapping[str, Any]] = dict,
        providers: Sequence[Any] = (),
        full: bool = True,
        wake: Callable[[], None] = lambda: None,
        segment: int = SEGMENT,
    ) -> None:
        self.root = root
        self.wake = wake
        self._given = (budget, cap, origin, providers, full, segment)
        self._full = full
        self._resolve = serial.resolver(tuple(providers))
        self._journal = Journal(root, cap, segment, origin)
        self._lock = threading.RLock()  # a finalizer may end one call in the middle of another
        # what is mapped, and what is being worked on, takes the other half
        self._queue = Queue(budget // 2, self._journal.release)
        self._taken: list[Item] = []
        self._open: dict[int, Open] = {}
        self._roots: dict[str, tuple[int, Place]] = {}
        self._told: set[int] = set()
        self._inherited: dict[int, Exchange] = {}
        self._calls = count(1)
        self._captured = self._stored = self._adopted = 0
        self._damaged: Counter[str] = Counter()
        self._estates: WeakSet[Estate] = WeakSet()
        self._strange: set[str] = set()  # folders that are not ours to take
        self._adopt_at = 0.0
        self._begun = False
        self._pid = os.getpid()

    # on the side of the app

    def begin(self, entry: Exchange) -> None:
        """Note that a call has started: from here on it is not lost with the process."""
        if self._pid != os.getpid():
            self.reset_after_fork()
        if not self._begun:  # the writer tells of calls that run for long, so it has to be up by now
            self._begun = True
            self.wake()
        with self._lock:
            state = self._open[id(entry)] = Open(entry, next(self._calls))
            try:
                place = self._journal.append(Kind.START, state.call, serial.start(entry, state.secrets))
                if place is not None:
                    state.places.append(place)
                    state.size = entry.request_size
            except Exception as error:  # noqa: BLE001 - hot path: a guard object would cost more than the work
                report("spool start", error)
            trace = entry.trace
            if trace is not None and not trace.root_spooled:
                trace.root_spooled = True
                with safely("spool root"):
                    self._begin_root(trace.open_root())

    def _begin_root(self, root: Span | None) -> None:
        """A trace whose process dies still has its root."""
        if root is None:
            return
        call = next(self._calls)
        place = self._journal.append(Kind.ROOT, call, serial.span(root, full=self._full))
        if place is None:
            return
        if len(self._roots) >= MAX_ROOTS:
            oldest = next(iter(self._roots))
            self._journal.release([self._roots.pop(oldest)[1]])
        self._roots[root.id] = call, place

    def progress(self, entry: Exchange) -> None:
        """More of an answer came in."""
        with self._lock:
            state = self._open.get(id(entry))
            if state is not None:
                self._progress(state)

    def _progress(self, state: Open) -> None:
        entry = state.entry
        if not state.places or entry.response_truncated:
            return
        stop = min(len(entry.response_chunks), len(entry.chunk_clocks))
        if stop and isinstance(entry.response_chunks[stop - 1], GROWING):
            stop -= 1  # it still grows
        if stop <= state.index and (state.told or entry.status is None):
            return
        place = self._journal.append(Kind.PART, state.call, serial.part(entry, state.secrets, state.index, stop))
        if place is not None:
            state.places.append(place)
            state.index, state.told = max(stop, state.index), True

    def put(self, entry: Entry) -> None:
        """Take over a finished call or span."""
        if self._pid != os.getpid():
            self.reset_after_fork()
        with self._lock:
            if isinstance(entry, Exchange):
                if self._inherited.pop(id(entry), None) is not None:
                    return  # the process that made the call ends it too
                places = self._end(entry)
            else:
                places = self._span(entry)
            item = Item(entry, weight(entry), places)
            self._captured += 1
            self._queue.add(item)
        self.wake()

    def _end(self, entry: Exchange) -> list[Place]:
        self._told.discard(id(entry))
        state = self._open.pop(id(entry), None) or Open(entry, next(self._calls))
        started = bool(state.places) and state.size == entry.request_size
        index = 0 if entry.response_truncated or not state.places else state.index
        place = None
        try:
            place = self._journal.append(Kind.END, state.call, serial.end(entry, state.secrets, index, started=started))
        except Exception as error:  # noqa: BLE001 - as above; what cannot be written waits in memory
            report("spool end", error)
        if place is None:  # what stands in files is not the whole: then none of it counts
            self._journal.release(state.places)
            return []
        return [*state.places, place]

    def _span(self, entry: Span) -> list[Place]:
        call, *before = self._roots.pop(entry.id, None) or (next(self._calls),)
        place = None
        with safely("spool span"):
            place = self._journal.append(Kind.SPAN, call, serial.span(entry, full=self._full))
        if place is None:
            self._journal.release(before)
            return []
        return [*before, place]

    def refuse(self, reason: str) -> None:
        """Count something as captured and dropped for this *reason*."""
        with self._lock:
            self._captured += 1
            self._queue.dropped[reason] += 1

    # on the side of the writer

    def take(self, limit: int) -> Sequence[Entry]:
        """Up to *limit* entries, oldest first; the same again until :meth:`done` is called."""
        if not self._taken:
            with self._lock:
                self._taken = self._queue.take(limit, TAKE_BYTES)
            for item in list(self._taken):
                self._load(item)
        entries = [item.entry for item in self._taken if item.entry is not None]
        return entries if entries or self.empty() else self.take(limit)

    def _load(self, item: Item) -> None:
        """Read what waits in files only."""
        if item.entry is not None:
            return
        entry = None
        with safely("spool read"):
            entry = self._read(item)
        with self._lock:
            if entry is None:
                self._taken.remove(item)
                self._queue.drop(item, "spool damaged")
            else:
                self._queue.resize(item, entry=entry)

    def _read(self, item: Item) -> Entry | None:
        frames = [frame for segment, at in item.places if (frame := segment.read(at)) is not None]
        by_kind = {frame.kind: frame.payload for frame in frames}
        origin = item.origin if item.adopted else None
        if Kind.SPAN in by_kind:
            return serial.span_of(by_kind[Kind.SPAN], origin)
        if Kind.ROOT in by_kind:
            return serial.root_of(by_kind[Kind.ROOT], origin)
        return serial.exchange_of([(frame.kind, frame.payload) for frame in frames], self._resolve, origin)

    def done(self, stored: int, dropped: dict[str, int]) -> None:
        """The entries last taken are dealt with."""
        with self._lock:
            taken, self._taken = self._taken, []
            for item in taken:
                self._queue.forget(item)
            self._stored += stored
            self._queue.dropped.update(dropped)
        for item in taken:  # one after the other: the app's side never waits for all of them
            with self._lock:
                self._journal.release(item.places)

    def running(self, older_than_ns: int) -> Sequence[Exchange]:
        """Calls under way for longer than that, each given once."""
        limit = time.monotonic_ns() - older_than_ns
        found = []
        for key, state in list(self._open.items()):
            if state.entry.clock_ns <= limit and key not in self._told:
                self._told.add(key)
                found.append(state.entry)
        return found

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._queue.spooled

    def counters(self) -> Counters:
        """Exact numbers, at this moment."""
        with self._lock:
            oldest = self._taken[0] if self._taken else self._queue.oldest()
            return Counters(
                captured=self._captured,
                stored=self._stored,
                spooled=self._queue.spooled,
                dropped=dict(self._queue.dropped),
                bodies_dropped=self._queue.bodies_dropped,
                spooled_bytes=self._queue.bytes,
                open=len(self._open),
                adopted=self._adopted,
                damaged=dict(self._damaged),
                durable=self._journal.working,
                oldest_clock_ns=oldest.clock_ns if oldest is not None else None,
            )

    def tend(self) -> None:
        """Prepare files, note what streams slowly, make room, and take over what dead processes left."""
        with safely("spool files"):
            self._journal.prepare(self._lock)
        with safely("spool parts"):
            self._note_open()
        with safely("spool room"):
            self._make_room()
        if time.monotonic() >= self._adopt_at:
            with safely("spool adoption"):
                self._adopt()
            self._adopt_at = time.monotonic() + ADOPT_SECONDS

    def _note_open(self) -> None:
        """What streamed last, also where no further chunk comes; long calls leave files that are otherwise empty."""
        for key, state in list(self._open.items()):
            with self._lock:
                if self._open.get(key) is state:
                    self._progress(state)
                    if self._pins(state.places):
                        state.places = self._journal.move(state.places) or state.places
        for span_id, (call, place) in list(self._roots.items()):
            with self._lock:
                if span_id in self._roots and self._pins([place]):
                    moved = self._journal.move([place])
                    self._roots[span_id] = call, (moved or [place])[0]

    def _pins(self, places: Sequence[Place]) -> bool:
        """Whether only what is under way keeps the file where it stands from being used again."""
        oldest = self._journal.oldest
        if oldest is None or oldest.live > 2 * (len(self._open) + len(self._roots)):
            return False
        return any(segment is oldest for segment, _ in places)

    def _make_room(self) -> None:
        """The files are near their cap: the oldest calls give up their bodies, then the oldest calls go."""
        until = time.monotonic() + ROOM_SECONDS
        while time.monotonic() < until:
            with self._lock:
                if not self._journal.pressed():
                    return
                item = self._queue.fattest()
                if item is None:
                    self._queue.drop_oldest()
            if item is not None:
                self._thin(item)
            time.sleep(0.0002)  # who waits for the lock gets it

    def _thin(self, item: Item) -> None:
        entry = item.entry or self._read(item)
        bare = without_bodies(entry) if entry is not None else None
        if bare is None:
            return
        if isinstance(bare, Exchange):
            kind, payload = Kind.END, serial.end(bare, serial.secrets_in(bare), 0, started=False)
        else:
            kind, payload = Kind.SPAN, serial.span(bare, full=self._full)
        with self._lock:
            if item.state != WAITING:
                return
            # under a new number: the old one is dealt with
            place = self._journal.append(kind, next(self._calls), payload, anew=True)
            if place is None:
                self._queue.drop(item)
                return
            self._queue.bodies_dropped += 1
            before, item.places = item.places, [place]
            self._queue.resize(item, entry=None, size=weight(bare))
            self._journal.release(before)

    def _adopt(self) -> None:
        for estate in estates(self.root, self._journal.folder, self._strange):
            self._estates.add(estate)
            try:
                found = estate.open()
            except OSError as error:
                self._strange.add(estate.folder)
                report("spool adoption", error)
                estate.close()
                continue
            self._take_over(estate, found)

    def _take_over(self, estate: Estate, found: Sequence[Left]) -> None:
        for left in found:
            item = Item(None, left.size + 2_000, left.places)
            item.adopted, item.origin = True, left.origin
            with self._lock:
                self._captured += 1
                self._adopted += 1
                self._queue.add(item)
        with self._lock:
            self._damaged.update(estate.damaged)
            if estate.foreign:
                self._strange.add(estate.folder)
            estate.settle()

    def close(self) -> None:
        """Delete this process's files where nothing waits in them; the next call makes new ones."""
        with self._lock, safely("spool close"):
            if self.empty() and not self._open and not self._roots:
                self._journal.remove()

    def forsake(self) -> None:
        """Close every file and delete none, as the end of the process would."""
        self._journal.forsake()
        for estate in list(self._estates):
            estate.forsake()

    def reset_after_fork(self) -> None:
        """A forked child opens files of its own: what waits, and what is under way, belongs to the parent."""
        inherited = {**self._inherited, **{key: state.entry for key, state in self._open.items()}}
        self.forsake()
        budget, cap, origin, providers, full, segment = self._given
        self.__init__(  # type: ignore[misc]
            self.root, budget, cap, origin=origin, providers=providers, full=full, wake=self.wake, segment=segment
        )
        self._inherited = inherited
