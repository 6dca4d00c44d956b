"""A spool in files that outlive the process: what was captured is there before the call returns to the caller."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakMethod

from asgi_llmobs.pace import PAUSE_SECONDS
from asgi_llmobs.records import Exchange, Span
from asgi_llmobs.redaction import Redactor
from asgi_llmobs.safely import report, safely
from asgi_llmobs.spool import revival, serial
from asgi_llmobs.spool.base import Counters, Entry, weight
from asgi_llmobs.spool.frames import Kind
from asgi_llmobs.spool.item import GONE, Item
from asgi_llmobs.spool.journal import Journal
from asgi_llmobs.spool.keeper import Keeper
from asgi_llmobs.spool.ledger import Ledger, Open
from asgi_llmobs.spool.queue import Queue
from asgi_llmobs.spool.upkeep import Upkeep

__all__ = ["DurableSpool", "SEGMENT"]

SEGMENT = 2 * 1024 * 1024
INLINE = 64 * 1024  # bytes of bodies that are copied on the side of the app: 0.1 ms; larger ones follow at once
TAKE_BYTES = 4 * 1024 * 1024  # of one batch
MAX_ROOTS = 10_000


class DurableSpool(Ledger):
    """A queue whose entries stand in files too.

    On the side of the app a record is copied to where its place is ready, and nothing is waited for. What is large, and
    what the app's own rules are to be asked about first, is written by the thread that looks after the files.

    Args:
        root: The folder that all processes share.
        budget: Bytes of memory that may wait; beyond, entries wait in files only.
        cap: Bytes of files. Beyond, the bodies of the oldest calls go first, then the oldest calls.
        origin: Says which process this is.
        providers: Those that the app added.
        full: Whether the texts of spans are kept.
        redactor: The app's rules, where it has any: no body and no text stands in a file before they were asked.
        wake: Called after each :meth:`put`, to tell the writer.
        segment: Bytes of one file.
        thread: Whether a thread of its own looks after the files; else who calls :meth:`tend` does.
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
        redactor: Redactor | None = None,
        wake: Callable[[], None] = lambda: None,
        segment: int = SEGMENT,
        thread: bool = False,
    ) -> None:
        self._given = {
            "root": root, "budget": budget, "cap": cap, "origin": origin, "providers": providers, "full": full,
            "redactor": redactor, "segment": segment, "thread": thread,
        }  # fmt: skip
        lock = threading.RLock()  # a finalizer may end one call in the middle of another
        self.keeper = Keeper(self.look_after) if thread else None
        ring = self.keeper.ring if self.keeper is not None else nobody
        self.root = root
        journal = Journal(root, cap, segment, origin, lock, ring)
        # what is mapped, and what is being worked on, takes the other half
        queue = Queue(budget // 2, journal.release)
        super().__init__(journal, queue, lock, revival.resolver(tuple(providers)), min(INLINE, segment // 4))
        self.wake = wake
        self.held_back = redactor is not None
        self._full = full and redactor is None
        self._taken: list[Item] = []
        self._told: set[int] = set()
        self._inherited: dict[int, Exchange] = {}
        self._stored = 0
        self._begun = False
        self._pid = os.getpid()
        self._upkeep = Upkeep(self, redactor, full=full)

    # on the side of the app

    def begin(self, entry: Exchange) -> None:
        """Note that a call has started: from here on it is not lost with the process."""
        if self._pid != os.getpid():
            self.reset_after_fork()
        if not self._begun:
            self._start()
        with self.lock:
            state = self.open[id(entry)] = Open(entry, next(self._calls))
            try:
                place = self.journal.append(Kind.START, state.call, serial.start(entry))
                if place is not None:
                    state.places.append(place)
            except Exception as error:  # noqa: BLE001 - hot path: a guard object would cost more than the work
                report("spool start", error)
            trace = entry.trace
            if trace is not None and not trace.root_spooled:
                trace.root_spooled = True
                with safely("spool root"):
                    root = trace.open_root()
                    if root is not None:
                        self._opened(root)

    def _start(self) -> None:
        self._begun = True
        if self.keeper is not None:
            self.keeper.running()
        self.wake()  # the writer tells of calls that run for long, so it has to be up by now

    def opened(self, id: str, tell: Callable[[], Span | None]) -> None:
        """A span has begun: where it lasts, it comes back although its process dies."""
        if self._pid != os.getpid():
            self.reset_after_fork()
        if len(self.spans) < MAX_ROOTS:
            self.spans[id] = time.monotonic_ns(), WeakMethod(tell)

    def _opened(self, span: Span) -> None:
        call = next(self._calls)
        place = self.journal.append(Kind.ROOT, call, serial.span(span, full=self._full))
        if place is None:
            return
        if len(self.roots) >= MAX_ROOTS:
            oldest = next(iter(self.roots))
            self.journal.release([self.roots.pop(oldest)[1]])
        self.roots[span.id] = call, place

    def progress(self, entry: Exchange) -> None:
        """More of an answer came in."""
        with self.lock:
            state = self.open.get(id(entry))
            if state is not None:
                self.note(state)

    def put(self, entry: Entry) -> None:
        """Take over a finished call or span."""
        if self._pid != os.getpid():
            self.reset_after_fork()
        if not self._begun:
            self._start()
        with self.lock:
            if isinstance(entry, Exchange):
                if self._inherited.pop(id(entry), None) is not None:
                    return  # the process that made the call ends it too
                item = self._end(entry)
            else:
                item = self._span(entry)
            if item.late:
                self.postpone(item)
            self.captured += 1
            waiting, added = self.queue.spooled, False
            try:
                self.queue.add(item)
                added = True
            finally:  # whatever fails in there, it is counted
                if not added and self.queue.spooled == waiting:
                    self.queue.dropped["failed"] += 1
        if self.keeper is not None:
            if item.late:
                self.keeper.ring()
            if self.journal.behind():
                time.sleep(PAUSE_SECONDS)
        self.wake()

    def _end(self, entry: Exchange) -> Item:
        self._told.discard(id(entry))
        state = self.open.pop(id(entry), None) or Open(entry, next(self._calls))
        size = weight(entry)
        started = state.size == entry.request_size
        index = 0 if entry.response_truncated or not state.places else state.index
        left = sum(map(len, entry.response_chunks[index:])) + (0 if started else entry.request_size)
        bodies = not self.held_back and left <= self.inline
        item = Item(entry, size, state.places, state.call)
        place = None
        try:
            payload = serial.end(
                entry, state.known(), index, started=started, bodies=bodies, message=not self.held_back
            )
            place = self.journal.append(Kind.END, state.call, payload)
        except Exception as error:  # noqa: BLE001 - as above; what cannot be written waits in memory
            report("spool end", error)
        if place is not None:
            item.places.append(place)
        item.recorded = place is not None
        item.late = place is None or not bodies
        return item

    def _span(self, entry: Span) -> Item:
        self.spans.pop(entry.id, None)
        call, *before = self.roots.pop(entry.id, None) or (next(self._calls),)
        item = Item(entry, weight(entry), before, call)
        small = item.size <= self.inline
        place = None
        with safely("spool span"):
            place = self.journal.append(Kind.SPAN, call, serial.span(entry, full=self._full and small))
        if place is not None:
            item.places.append(place)
        item.recorded = place is not None
        item.late = place is None or not small or (self.held_back and serial.has_texts(entry))
        return item

    def refuse(self, reason: str) -> None:
        """Count something as captured and dropped for this *reason*."""
        with self.lock:
            self.captured += 1
            self.queue.dropped[reason] += 1

    # on the side of the writer

    def take(self, limit: int) -> Sequence[Entry]:
        """Up to *limit* entries, oldest first; the same again until :meth:`done` is called."""
        while not self.empty():
            if not self._taken:
                with self.lock:
                    self._taken = self.queue.take(limit, TAKE_BYTES)
                if not self._taken:
                    break
            for item in list(self._taken):  # also those whose reading failed the last time
                self._load(item)
            entries = [item.entry for item in self._taken if item.entry is not None]
            if entries:
                return entries
        return []

    def _load(self, item: Item) -> None:
        """Read what waits in files only."""
        if item.entry is not None:
            return
        entry = None
        with safely("spool read"):
            entry = self.read(item)
        with self.lock:
            if entry is None:
                self._taken.remove(item)
                self.queue.drop(item, "spool damaged")
            else:
                self.queue.resize(item, entry=entry)

    def done(self, stored: int, dropped: dict[str, int]) -> None:
        """The entries last taken are dealt with."""
        with self.lock:
            taken, self._taken = self._taken, []
            places = [place for item in taken for place in item.places]
            try:
                for item in taken:
                    self.queue.forget(item)
            except BaseException:  # the others are stored once more, which changes nothing
                self._taken = [item for item in taken if item.state != GONE]
                self._stored += len(taken) - len(self._taken)
                raise
            self._stored += stored
            self.queue.dropped.update(dropped)
        self.journal.release(places)

    def running(self, older_than_ns: int) -> Sequence[Exchange]:
        """Calls under way for longer than that, each given once."""
        limit = time.monotonic_ns() - older_than_ns
        found = []
        for key, state in list(self.open.items()):
            if state.entry.clock_ns <= limit and key not in self._told:
                self._told.add(key)
                found.append(state.entry)
        return found

    def counters(self) -> Counters:
        """Exact numbers, at this moment."""
        with self.lock:
            return Counters(
                captured=self.captured,
                stored=self._stored,
                spooled=self.queue.spooled,
                dropped=dict(self.queue.dropped),
                bodies_dropped=self.queue.bodies_dropped,
                spooled_bytes=self.queue.bytes,
                open=len(self.open),
                adopted=self.adopted,
                damaged=dict(self.damaged),
                durable=self.journal.working,
                trouble=self.journal.obstacle,
                oldest_clock_ns=self._taken[0].clock_ns if self._taken else self.queue.oldest_clock_ns(),
            )

    # of the files

    def tend(self) -> None:
        """Have the files looked after: by the thread for that, which is started, or else right now."""
        if self.keeper is None or not self.keeper.running():
            self.look_after()

    @property
    def adopt_at(self) -> float:
        """When it is looked again for what dead processes left; 0 before the first time."""
        return self._upkeep.adopt_at

    def look_after(self) -> float:
        """One look at the files; the seconds until the next one."""
        self._upkeep.look()
        return self._upkeep.pause()

    def close(self) -> None:
        """Delete this process's files where nothing waits in them; the next call makes new ones."""
        self._begun = False
        if self.keeper is not None:
            self.keeper.stop()
        with safely("spool close"):
            self._upkeep.close()
        with self.lock, safely("spool close"):
            if self.empty() and not self.open and not self.roots:
                self.journal.remove()

    def forsake(self) -> None:
        """Close every file and delete none, as the end of the process would."""
        if self.keeper is not None:
            self.keeper.stop()
        self.journal.forsake()
        self._upkeep.forsake()

    def reset_after_fork(self) -> None:
        """A forked child opens files of its own: what waits, and what is under way, belongs to the parent."""
        inherited = {**self._inherited, **{key: state.entry for key, state in self.open.items()}}
        wake, self.keeper = self.wake, None  # the thread stayed behind
        self.forsake()
        self.__init__(wake=wake, **self._given)  # type: ignore[misc]
        self._inherited = inherited


def nobody() -> None:
    """Whom to ring for where there is no thread."""
