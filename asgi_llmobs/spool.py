"""Where finished calls wait for the writer: bounded in bytes, every loss counted by its reason."""

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from asgi_llmobs.records import Exchange, Span

__all__ = ["Counters", "Entry", "MemorySpool", "Spool"]

Entry = Exchange | Span


class Counters(NamedTuple):
    """The accounting identity: ``captured == stored + spooled + sum(dropped.values())``."""

    captured: int
    stored: int
    spooled: int
    dropped: dict[str, int]
    bodies_dropped: int
    spooled_bytes: int
    open: int


class Spool(Protocol):
    """What capture and the writer need of a spool, whether it lives in memory or in mapped files."""

    def begin(self, entry: Exchange) -> None:
        """Note that a call has started; it may never finish."""

    def put(self, entry: Entry) -> None:
        """Take over a finished call or span. Never blocks, never raises for lack of room: drops and counts."""

    def refuse(self, reason: str) -> None:
        """Something happened that is not taken over at all: count it as dropped for this *reason*."""

    def take(self, limit: int) -> Sequence[Entry]:
        """Up to *limit* entries, oldest first. They stay spooled until :meth:`done`."""

    def done(self, stored: int, dropped: dict[str, int]) -> None:
        """The entries last taken are in the store, or given up for the reasons counted in *dropped*."""

    def running(self, older_than_ns: int) -> Sequence[Exchange]:
        """Calls that began more than *older_than_ns* ago and are not finished, each given once."""

    def counters(self) -> Counters:
        """Exact numbers, at this moment."""


def weight(entry: Entry) -> int:
    """The bytes that an entry holds, roughly."""
    if isinstance(entry, Exchange):
        return 2_000 + entry.request_size + entry.response_size
    return 1_000 + len(entry.input or "") + len(entry.output or "")


def shed_bodies(entry: Entry) -> bool:
    """Give up the bodies of a waiting call, keep the rest; whether there were any."""
    if not isinstance(entry, Exchange) or not (entry.request_chunks or entry.response_chunks):
        return False
    entry.request_chunks = []
    entry.response_chunks = []
    entry.request_truncated = entry.response_truncated = True
    return True


class MemorySpool:
    """A bounded queue in memory.

    Args:
        budget: Bytes that may wait. Beyond, the bodies of the oldest calls go first, then the oldest calls.
        wake: Called after each :meth:`put`, to tell the writer.
    """

    MAX_ENTRIES = 100_000

    def __init__(self, budget: int, wake: Callable[[], None] = lambda: None) -> None:
        self._budget = budget
        self.wake = wake
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Entry, int]] = deque()
        self._taken: list[tuple[Entry, int]] = []
        self._open: dict[int, Exchange] = {}
        self._told: set[int] = set()
        self._bytes = 0
        self._bodies_kept_from = 0  # entries before this index of the queue have lost their bodies already
        self._captured = self._stored = self._bodies_dropped = 0
        self._dropped: Counter[str] = Counter()
        self._pid = os.getpid()

    def begin(self, entry: Exchange) -> None:
        """Note that a call has started."""
        self._open[id(entry)] = entry

    def forget(self, entry: Exchange) -> None:
        """The call that began is not to be recorded after all."""
        self._open.pop(id(entry), None)
        self._told.discard(id(entry))

    def put(self, entry: Entry) -> None:
        """Take over a finished call or span."""
        size = weight(entry)
        with self._lock:
            if isinstance(entry, Exchange):
                self._open.pop(id(entry), None)
                self._told.discard(id(entry))
            self._captured += 1
            self._waiting.append((entry, size))
            self._bytes += size
            if self._bytes > self._budget or len(self._waiting) > self.MAX_ENTRIES:
                self._make_room()
        self.wake()

    def _make_room(self) -> None:
        index = self._bodies_kept_from
        while self._bytes > self._budget and index < len(self._waiting):
            entry, size = self._waiting[index]
            if shed_bodies(entry):
                self._bodies_dropped += 1
                small = min(size, 2_000)
                self._waiting[index] = (entry, small)
                self._bytes -= size - small
            index += 1
        self._bodies_kept_from = index
        while self._waiting and (self._bytes > self._budget or len(self._waiting) > self.MAX_ENTRIES):
            self._bytes -= self._waiting.popleft()[1]
            self._bodies_kept_from = max(0, self._bodies_kept_from - 1)
            self._dropped["spool full"] += 1

    def take(self, limit: int) -> Sequence[Entry]:
        """Up to *limit* entries, oldest first; the same again until :meth:`done` is called."""
        with self._lock:
            if not self._taken:
                count = min(limit, len(self._waiting))
                self._taken = [self._waiting.popleft() for _ in range(count)]
                self._bodies_kept_from = max(0, self._bodies_kept_from - count)
            return [entry for entry, _ in self._taken]

    def done(self, stored: int, dropped: dict[str, int]) -> None:
        """The entries last taken are dealt with."""
        with self._lock:
            self._bytes -= sum(size for _, size in self._taken)
            self._taken = []
            self._stored += stored
            self._dropped.update(dropped)

    def running(self, older_than_ns: int) -> Sequence[Exchange]:
        """Calls under way for longer than that, each given once."""
        limit = time.monotonic_ns() - older_than_ns
        found = []
        for key, entry in list(self._open.items()):
            if entry.clock_ns <= limit and key not in self._told:
                self._told.add(key)
                found.append(entry)
        return found

    def refuse(self, reason: str) -> None:
        """Count something as captured and dropped for this *reason*."""
        with self._lock:
            self._captured += 1
            self._dropped[reason] += 1

    def empty(self) -> bool:
        """Whether nothing waits."""
        with self._lock:
            return not self._waiting and not self._taken

    def reset_after_fork(self) -> None:
        """A forked child starts with nothing: what waited belongs to the parent."""
        self.__init__(self._budget, self.wake)  # type: ignore[misc]

    def counters(self) -> Counters:
        """Exact numbers, at this moment."""
        with self._lock:
            return Counters(
                captured=self._captured,
                stored=self._stored,
                spooled=len(self._waiting) + len(self._taken),
                dropped=dict(self._dropped),
                bodies_dropped=self._bodies_dropped,
                spooled_bytes=self._bytes,
                open=len(self._open),
            )
