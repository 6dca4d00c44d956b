"""What a durable spool knows: which calls and spans wait, which are under way, and in which records they stand."""

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable
from itertools import accumulate, count
from typing import Any
from weakref import WeakMethod

from asgi_llmobs.records import Exchange, Span
from asgi_llmobs.spool import revival, serial
from asgi_llmobs.spool.base import Entry
from asgi_llmobs.spool.frames import Kind
from asgi_llmobs.spool.item import GONE, Item
from asgi_llmobs.spool.journal import Journal
from asgi_llmobs.spool.queue import Queue
from asgi_llmobs.spool.segment import Place

__all__ = ["Ledger", "Open"]

GROWING: Any = bytearray  # pieces that very many chunks are put together into


class Open:
    """A call under way."""

    __slots__ = ("call", "entry", "index", "places", "secrets", "size", "told")

    def __init__(self, entry: Exchange, call: int) -> None:
        self.entry = entry
        self.call = call
        self.secrets: tuple[bytes, ...] | None = None
        self.places: list[Place] = []
        self.index = 0  # chunks of its answer that stand in records
        self.size = -1  # bytes of its request that do
        self.told = False  # so do the response headers

    def known(self) -> tuple[bytes, ...]:
        """The credentials that it carries."""
        if self.secrets is None:
            self.secrets = serial.secrets_in(self.entry)
        return self.secrets


class Ledger:
    """What the side of the app, the writer's and the thread that looks after the files have in common.

    Args:
        journal: The files.
        queue: What waits.
        lock: Held by who changes anything.
        resolve: Finds again who answered a call.
        inline: Bytes of a body that are copied at once.
    """

    wake: Callable[[], None]

    def __init__(self, journal: Journal, queue: Queue, lock: Any, resolve: revival.Resolve, inline: int) -> None:
        self.journal = journal
        self.queue = queue
        self.lock = lock
        self.inline = inline
        self.held_back = False  # nothing of a body is written before the app's own rules were asked
        self.late: deque[Item] = deque()  # to be written as soon as that can be done
        self.open: dict[int, Open] = {}
        self.roots: dict[str, tuple[int, Place]] = {}  # spans that are not complete
        self.spans: dict[str, tuple[int, WeakMethod[Callable[[], Span | None]]]] = {}  # since when, and who tells it
        self.captured = self.adopted = 0
        self.damaged: Counter[str] = Counter()
        self._resolve = resolve
        self._calls = count(1)

    def number(self) -> int:
        """That of another call."""
        return next(self._calls)

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self.queue.spooled

    def waiting(self) -> int:
        """How many wait."""
        return self.queue.spooled

    def postpone(self, item: Item) -> None:
        """Have it written as soon as that can be done; perhaps it cannot for days, and many are given up meanwhile."""
        self.late.append(item)
        if self.queue.crowded(self.late):
            late, self.late = self.late, deque()
            for item in list(late):  # at once: they are being written meanwhile
                if item.state != GONE and item.late:
                    self.late.append(item)

    def note(self, state: Open) -> None:
        """Write down what came in of an answer that goes on, in pieces that cost little; a large one is left."""
        entry = state.entry
        stop = self.reached(state)
        while state.places and (state.index < stop or (entry.status is not None and not state.told)):
            sizes = list(accumulate(map(len, entry.response_chunks[state.index : stop])))
            end = state.index + bisect_right(sizes, self.inline)
            if end < stop:
                end = serial.border(entry, state.index, end)
            if end <= state.index and state.told:
                return
            place = self.journal.append(Kind.PART, state.call, serial.part(entry, state.known(), state.index, end))
            if place is None:
                return
            state.places.append(place)
            state.index, state.told = end, True

    def reached(self, state: Open) -> int:
        """How many chunks of an answer that goes on may be written down by now."""
        entry = state.entry
        if self.held_back or entry.response_truncated:
            return state.index
        stop = min(len(entry.response_chunks), len(entry.chunk_clocks))
        if stop and isinstance(entry.response_chunks[stop - 1], GROWING):
            stop -= 1  # it still grows
        return max(state.index, serial.border(entry, state.index, stop))

    def read(self, item: Item) -> Entry | None:
        """What stands in the records of something that waits."""
        frames = [frame for segment, at in item.places if (frame := segment.read(at)) is not None]
        by_kind = {frame.kind: frame.payload for frame in frames}
        origin = item.origin
        if Kind.SPAN in by_kind:
            return revival.span_of(by_kind[Kind.SPAN], origin)
        if Kind.ROOT in by_kind:
            return revival.root_of(by_kind[Kind.ROOT], origin)
        return revival.exchange_of([(frame.kind, frame.payload) for frame in frames], self._resolve, origin)

    def found(self, item: Item) -> None:
        """Something that a dead process left behind waits from now on."""
        with self.lock:
            self.captured += 1
            self.adopted += 1
            self.queue.add(item)
