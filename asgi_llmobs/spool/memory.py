"""A spool in memory only: for stores in memory, for tests, and where no folder can be written."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from asgi_llmobs.records import Exchange, Span
from asgi_llmobs.spool.base import Counters, Entry, weight, without_bodies

__all__ = ["MemorySpool"]


class MemorySpool:
    """A bounded queue in memory.

    What arrives is put down without waiting for anybody and counted by whoever holds the lock next: a finalizer may put
    a call here while the same thread is inside, and must neither wait for itself nor find things half done.

    Args:
        budget: Bytes that may wait. Beyond, the bodies of the oldest calls go first, then the oldest calls.
        wake: Called after each :meth:`put`, to tell the writer.
    """

    MAX_ENTRIES = 100_000

    def __init__(self, budget: int, wake: Callable[[], None] = lambda: None) -> None:
        self._budget = budget
        self.wake = wake
        self._lock = threading.Lock()
        self._arrived: deque[Entry | str] = deque()  # not counted yet; a text is the reason of something refused
        self._waiting: deque[tuple[Entry, int, int]] = deque()  # with its size and the clock when it came
        self._taken: list[tuple[Entry, int, int]] = []
        self._open: dict[int, Exchange] = {}
        self._told: set[int] = set()
        self._begun = False
        self._bytes = 0
        self._bodies_kept_from = 0  # entries before this index of the queue have lost their bodies already
        self._captured = self._stored = self._bodies_dropped = 0
        self._dropped: Counter[str] = Counter()

    def begin(self, entry: Exchange) -> None:
        """Note that a call has started."""
        self._open[id(entry)] = entry
        if not self._begun:  # the writer tells of calls that run for long, so it has to be up by now
            self._begun = True
            self.wake()

    def progress(self, entry: Exchange) -> None:
        """More of an answer came in: the call itself has it."""

    def opened(self, id: str, tell: Callable[[], Span | None]) -> None:
        """Nothing outlives the process: what is complete will do."""

    def put(self, entry: Entry) -> None:
        """Take over a finished call or span."""
        if isinstance(entry, Exchange):
            self._open.pop(id(entry), None)
            self._told.discard(id(entry))
        self._arrive(entry)
        self.wake()

    def refuse(self, reason: str) -> None:
        """Count something as captured and dropped for this *reason*."""
        self._arrive(reason)

    def _arrive(self, entry: Entry | str) -> None:
        self._arrived.append(entry)
        while self._arrived and self._lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._lock.release()

    def _settle(self) -> None:
        """Count what has arrived. The lock is held."""
        while self._arrived:
            entry = self._arrived.popleft()
            self._captured += 1
            if isinstance(entry, str):
                self._dropped[entry] += 1
                continue
            size = weight(entry)
            self._waiting.append((entry, size, time.monotonic_ns()))
            self._bytes += size
            if self._bytes > self._budget or len(self._waiting) > self.MAX_ENTRIES:
                self._make_room()

    def _make_room(self) -> None:
        index = self._bodies_kept_from
        while self._bytes > self._budget and index < len(self._waiting):
            entry, size, clock = self._waiting[index]
            bare = without_bodies(entry)
            if bare is not None:
                self._bodies_dropped += 1
                self._waiting[index] = (bare, weight(bare), clock)
                self._bytes -= size - weight(bare)
            index += 1
        self._bodies_kept_from = index
        while self._waiting and (self._bytes > self._budget or len(self._waiting) > self.MAX_ENTRIES):
            self._bytes -= self._waiting.popleft()[1]
            self._bodies_kept_from = max(0, self._bodies_kept_from - 1)
            self._dropped["spool full"] += 1

    def take(self, limit: int) -> Sequence[Entry]:
        """Up to *limit* entries, oldest first; the same again until :meth:`done` is called.

        Fewer where they are large: what is taken cannot be given up any more while the store is away.
        """
        with self._lock:
            self._settle()
            if not self._taken:
                self._take(limit)
            return [entry for entry, _, _ in self._taken]

    def _take(self, limit: int) -> None:
        size = 0
        while self._waiting and len(self._taken) < limit and size < self._budget // 8:
            self._taken.append(self._waiting.popleft())
            size += self._taken[-1][1]
        self._bodies_kept_from = max(0, self._bodies_kept_from - len(self._taken))

    def done(self, stored: int, dropped: dict[str, int]) -> None:
        """The entries last taken are dealt with."""
        with self._lock:
            self._bytes -= sum(size for _, size, _ in self._taken)
            self._taken = []
            self._stored += stored
            self._dropped.update(dropped)

    def running(self, older_than_ns: int) -> Sequence[Exchange]:
        """Calls under way for longer than that, each given once."""
        limit = time.monotonic_ns() - older_than_ns
        found = []
        for entry in list(self._open.values()):
            if entry.clock_ns <= limit and id(entry) not in self._told:
                self._told.add(id(entry))
                found.append(entry)
        return found

    def empty(self) -> bool:
        """Whether nothing waits."""
        with self._lock:
            return not (self._arrived or self._waiting or self._taken)

    def waiting(self) -> int:
        """How many wait, about: nobody is waited for to tell."""
        return len(self._arrived) + len(self._waiting) + len(self._taken)

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
            self._settle()
            oldest = self._taken[0] if self._taken else self._waiting[0] if self._waiting else None
            return Counters(
                captured=self._captured,
                stored=self._stored,
                spooled=len(self._waiting) + len(self._taken),
                dropped=dict(self._dropped),
                bodies_dropped=self._bodies_dropped,
                spooled_bytes=self._bytes,
                open=len(self._open),
                oldest_clock_ns=oldest[2] if oldest is not None else None,
            )
