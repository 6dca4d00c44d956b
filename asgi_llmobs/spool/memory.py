"""A spool in memory only: for stores in memory, for tests, and where no folder can be written."""

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from asgi_llmobs.records import Exchange
from asgi_llmobs.spool.base import Counters, Entry, shed_bodies, weight

__all__ = ["MemorySpool"]


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
        self._lock = threading.RLock()  # a finalizer may end one call in the middle of another
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

    def progress(self, entry: Exchange) -> None:
        """More of an answer came in: the call itself has it."""

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

    def tend(self) -> None:
        """Nothing has to be looked after."""

    def close(self) -> None:
        """Nothing has to be closed."""

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
