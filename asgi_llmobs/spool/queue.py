"""What waits in the durable spool: in which order, how much memory it takes, and what goes first."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asgi_llmobs.records import Exchange
from asgi_llmobs.spool.base import Entry, weight, without_bodies
from asgi_llmobs.spool.segment import Place

__all__ = ["GONE", "SWEPT", "WAITING", "Item", "Queue"]

MAX_ENTRIES = 100_000
SWEPT = 1_000  # those that are over may stay in a queue until they are so many, or as many as wait
WAITING, TAKEN, GONE = range(3)


class Item:
    """Something that waits: as an object, as records, mostly both."""

    __slots__ = (
        "adopted", "call", "clock_ns", "entry", "held", "late", "origin", "places", "recorded", "size", "state",
    )  # fmt: skip

    def __init__(self, entry: Entry | None, size: int, places: list[Place], call: int = 0) -> None:
        self.clock_ns = time.monotonic_ns()
        self.entry = entry
        self.size = size
        self.held = size if entry is not None else 0  # bytes of memory
        self.places = places
        self.call = call  # its number in the records
        self.recorded = bool(places)  # it is there without the object, too
        self.late = False  # what is in the object and not yet in the records is still to be written
        self.state = WAITING
        self.adopted = False
        self.origin: Mapping[str, Any] | None = None


class Queue:
    """Items, oldest first. The spool's lock guards it.

    Args:
        budget: Bytes of memory; beyond, what stands in files waits there only.
        release: Told which records nothing waits in any more.
    """

    def __init__(self, budget: int, release: Callable[[Sequence[Place]], None]) -> None:
        self.budget = budget
        self._release = release
        self._waiting: deque[Item] = deque()
        self._held: deque[Item] = deque()  # those with an object
        self._fat: deque[Item] = deque()  # those that may still have bodies
        self.memory = self.bytes = self.spooled = self.bodies_dropped = 0
        self.dropped: Counter[str] = Counter()

    def add(self, item: Item) -> None:
        """The newest one."""
        if item.recorded and not item.late and item.held and self.memory + item.held > self.budget:
            item.entry, item.held = None, 0
        if max(len(self._waiting), len(self._fat), len(self._held)) > 2 * self.spooled + SWEPT:
            self._sweep()
        self._waiting.append(item)
        self._fat.append(item)
        self.spooled += 1
        self.bytes += item.size
        if item.held:
            self.memory += item.held
            self._held.append(item)
        if self.memory > self.budget:
            self.relieve()
        while self.spooled > MAX_ENTRIES and self._waiting:
            self.drop_oldest()

    def relieve(self) -> None:
        """There is too much in memory: objects that stand in files go, then bodies, then the oldest calls."""
        bare: deque[Item] = deque()
        while self.memory > self.budget and self._held:
            item = self._held.popleft()
            if item.state != WAITING or not item.held:
                continue
            if item.recorded:
                self.bodies_dropped += item.late and has_bodies(item.entry)
                item.late = False
                self.resize(item, entry=None)
            else:
                self._shed(item)
                bare.append(item)
        self._held.extendleft(reversed(bare))
        while self.memory > self.budget and self._held:
            item = self._held.popleft()
            if item.state == WAITING and not item.recorded:
                self.drop(item)

    def _sweep(self) -> None:
        """Let go of those that are over: as long as the writer cannot store what it took, nothing else does."""
        # into new ones: a finalizer may add one more meanwhile
        waiting, self._waiting = self._waiting, deque()
        fat, self._fat = self._fat, deque()
        held, self._held = self._held, deque()
        for item in waiting:
            if item.state == WAITING:
                self._waiting.append(item)
        for item in fat:
            if item.state == WAITING:
                self._fat.append(item)
        for item in held:
            if item.state == WAITING and item.held:
                self._held.append(item)

    def every(self) -> list[Item]:
        """All that wait, but for those that are taken."""
        return [item for item in self._waiting if item.state == WAITING]

    def _shed(self, item: Item) -> None:
        """Give up the bodies of one that is held in memory only."""
        bare = without_bodies(item.entry) if item.entry is not None else None
        if bare is not None:
            self.bodies_dropped += 1
            self.resize(item, entry=bare, size=weight(bare))

    def resize(self, item: Item, *, entry: Entry | None, size: int | None = None) -> None:
        """*item* is this object now, or stands in files only, and has this size."""
        size = item.size if size is None else size
        held = size if entry is not None else 0
        self.memory += held - item.held
        self.bytes += size - item.size
        item.entry, item.held, item.size = entry, held, size

    def drop(self, item: Item, reason: str = "spool full") -> None:
        """Give one up, counted by the *reason*."""
        self.forget(item)
        self.dropped[reason] += 1
        self._release(item.places)

    def drop_oldest(self) -> None:
        """Give up the one that has waited for longest."""
        while self._waiting:
            item = self._waiting.popleft()
            if item.state == WAITING:
                self.drop(item)
                return

    def forget(self, item: Item) -> None:
        """One does not wait any more; the other queues pass it over."""
        item.state = GONE
        self.spooled -= 1
        self.memory -= item.held
        self.bytes -= item.size
        item.entry, item.held, item.size = None, 0, 0

    def take(self, limit: int, size: int) -> list[Item]:
        """The oldest ones, up to *limit* of them or about *size* bytes."""
        taken: list[Item] = []
        while self._waiting and len(taken) < limit and size > 0:
            item = self._waiting.popleft()
            if item.state == WAITING:
                item.state = TAKEN
                size -= item.size
                taken.append(item)
        for items in (self._fat, self._held):
            while items and items[0].state != WAITING:
                items.popleft()
        return taken

    def oldest(self) -> Item | None:
        """The one that waits for longest, of those that are not taken."""
        while self._waiting and self._waiting[0].state != WAITING:
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None

    def fattest(self) -> Item | None:
        """The oldest that may have bodies in files; it is not given again."""
        while self._fat:
            item = self._fat.popleft()
            if item.state == WAITING and item.places:
                return item
        return None


def has_bodies(entry: Entry | None) -> bool:
    if isinstance(entry, Exchange):
        return bool(entry.request_chunks or entry.response_chunks)
    return entry is not None and bool(entry.input or entry.output)
