"""What waits in the durable spool: in which order, how much memory it takes, and what goes first."""

from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from asgi_llmobs.records import Exchange
from asgi_llmobs.spool.base import Entry, weight, without_bodies
from asgi_llmobs.spool.item import GONE, OVERHEAD, TAKEN, WAITING, Item, Packing, Stretch, clock_of
from asgi_llmobs.spool.segment import Place, Segment

__all__ = ["Queue"]

SWEPT = 1_000  # those that are over may stay in a list until they are so many, or as many as wait
STRETCH = 256  # items


class Queue:
    """Items, oldest first. The spool's lock guards it; a finalizer may add one in the middle of everything else.

    Args:
        budget: Bytes of memory; beyond, what stands in files waits there only.
        release: Told which records nothing waits in any more.
    """

    def __init__(self, budget: int, release: Callable[[Sequence[Place]], None]) -> None:
        self.budget = budget
        self._release = release
        self._stretches = deque([Stretch()])  # never without one: the last is added to
        self._packing = Packing()
        self._held: deque[Item] = deque()  # those with an object
        self.memory = self.bytes = self.spooled = self.bodies_dropped = 0
        self.packed = 0  # bytes of memory that are taken by those without an object
        self.dropped: Counter[str] = Counter()

    def add(self, item: Item) -> None:
        """The newest one."""
        cold = item.recorded and not item.late and (not item.held or self.memory + item.held > self.budget)
        if cold:
            item.entry, item.held = None, 0
        if self.crowded(self._held):
            self._sweep()
        self._append(item)
        if cold:
            self._pack(item)
        else:
            self._held.append(item)
        if self.memory > self.budget:
            self.relieve()

    def _append(self, item: Item) -> None:
        stretch = self._stretches[-1]
        stretch.live += 1  # at once: an empty one may be let go of
        size, held, rows = item.size, item.held, stretch.rows
        self.spooled += 1
        self.bytes += size
        self.memory += held
        item.stretch, item.index = stretch, len(rows)
        try:
            rows.append(item)
            while item.state == WAITING and rows[item.index] is not item:  # a finalizer has come first
                item.index += 1
        except BaseException:
            stretch.live -= 1
            self.spooled -= 1
            self.bytes -= size
            self.memory -= held
            raise
        if len(rows) >= STRETCH and stretch is self._stretches[-1]:
            self._stretches.append(Stretch())

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
                self._pack(item)
            else:
                self._shed(item)
                bare.append(item)
        self._held.extendleft(reversed(bare))
        while self.memory > self.budget and self._held:
            item = self._held.popleft()
            if item.state == WAITING and not item.recorded:
                self.drop(item)
        while self.packed > self.budget and self.drop_oldest():
            pass

    def crowded(self, items: Collection[Item]) -> bool:
        """Whether most of *items* must be over, of which those that wait have an object."""
        return len(items) > self.memory // 500 + SWEPT  # the least one counts as a thousand bytes

    def _sweep(self) -> None:
        """Let go of those that are over: as long as the writer cannot store what it took, nothing else does."""
        held, self._held = self._held, deque()  # into a new one: a finalizer may add one more meanwhile
        for item in held:
            if item.state == WAITING and item.held:
                self._held.append(item)

    # as bytes, and back

    def _pack(self, item: Item) -> None:
        """Of one that stands in files only, bytes will do."""
        stretch = item.stretch
        if stretch is None or item.busy or item.late or item.held or not item.recorded or item.state != WAITING:
            return
        packed = self._packing.pack(item)
        size = len(packed) + OVERHEAD
        if item.state != WAITING:  # a finalizer has needed its room
            self._packing.leave(packed)
            return
        stretch.rows[item.index], item.state = packed, GONE
        self.packed += size
        self.memory += size

    def _unpack(self, stretch: Stretch, index: int) -> Item | None:
        """The one at this place, which is an item there from now on."""
        row = stretch.rows[index]
        if not isinstance(row, bytes):
            return row
        item, size = self._packing.unpack(row), len(row) + OVERHEAD
        item.stretch, item.index = stretch, index
        if stretch.rows[index] is not row:  # a finalizer has needed its room
            return None
        stretch.rows[index] = item
        self.packed -= size
        self.memory -= size
        self._packing.leave(row)
        return item

    def _seize(self, stretch: Stretch, index: int) -> Item | None:
        """The one at this place, which stays an item while it is worked on."""
        item = self._unpack(stretch, index)
        if item is not None:
            item.busy = True
        return item

    def settle(self, item: Item) -> None:
        """Nobody works on this one any more."""
        item.busy = False
        self._pack(item)

    def stretches(self) -> Sequence[Stretch]:
        """All that wait are in these, oldest first."""
        return list(self._stretches)

    def standing_in(self, segments: Collection[Segment], stretch: Stretch) -> list[Item]:
        """Those of a stretch that stand in one of these files, each to be settled."""
        found = []
        for index, row in enumerate(list(stretch.rows)):
            if row is None:
                continue
            places = row.places if isinstance(row, Item) else self._packing.places(row)
            if any(place[0] in segments for place in places):
                item = self._seize(stretch, index)
                found += [item] if item is not None else []
        return found

    def _shed(self, item: Item) -> None:
        """Give up the bodies of one that is held in memory only."""
        bare = without_bodies(item.entry) if item.entry is not None else None
        if bare is not None:
            self.bodies_dropped += 1
            self.resize(item, entry=bare, size=weight(bare))

    def hold(self, item: Item, entry: Entry) -> None:
        """One that stood in files only has its object again."""
        if not item.held:
            self._held.append(item)
        self.resize(item, entry=entry)

    def resize(self, item: Item, *, entry: Entry | None, size: int | None = None) -> None:
        """*item* is this object now, or stands in files only, and has this size."""
        size = item.size if size is None else size
        held = size if entry is not None else 0
        self.memory += held - item.held
        self.bytes += size - item.size
        item.entry, item.held, item.size = entry, held, size

    def drop(self, item: Item, reason: str = "spool full") -> None:
        """Give one up, counted by the *reason*."""
        if item.state != GONE:  # a finalizer may have needed its room
            self.forget(item)
            self.dropped[reason] += 1
            self._release(item.places)

    def drop_oldest(self) -> bool:
        """Give up the one that has waited for longest; whether there was one."""
        item = self._next()
        if item is not None:
            self.drop(item)
        return item is not None

    def forget(self, item: Item) -> None:
        """One does not wait any more."""
        stretch, item.stretch, item.state = item.stretch, None, GONE
        if stretch is not None:
            stretch.rows[item.index] = None
            stretch.live -= 1
            self._tidy(stretch)
        self.spooled -= 1
        self.memory -= item.held
        self.bytes -= item.size
        item.entry, item.held, item.size = None, 0, 0

    def take(self, limit: int, size: int) -> list[Item]:
        """The oldest ones, up to *limit* of them or about *size* bytes."""
        taken: list[Item] = []
        while len(taken) < limit and size > 0 and (item := self._next()) is not None:
            size -= item.size
            taken.append(item)
        while self._held and self._held[0].state != WAITING:
            self._held.popleft()
        return taken

    def _next(self) -> Item | None:
        """The oldest one; it is taken."""
        while (place := self._oldest()) is not None:
            stretch, index = place
            item = self._unpack(stretch, index)
            if item is None or stretch.rows[index] is not item:  # a finalizer has needed its room
                continue
            stretch.rows[index], stretch.first = None, index + 1
            stretch.live -= 1
            item.stretch, item.state = None, TAKEN
            self._tidy(stretch)
            return item
        return None

    def _tidy(self, stretch: Stretch) -> None:
        """Let go of one that is empty, and not to be added to."""
        if not stretch.live and stretch is not self._stretches[-1]:
            with suppress(ValueError):  # a finalizer has done so
                self._stretches.remove(stretch)

    def _oldest(self) -> tuple[Stretch, int] | None:
        while not self._stretches[0].live and self._stretches[0] is not self._stretches[-1]:
            self._stretches.popleft()
        stretch = self._stretches[0]
        for index in range(stretch.first, len(stretch.rows)):
            if stretch.rows[index] is not None:
                return stretch, index
        return None

    def oldest_clock_ns(self) -> int | None:
        """When the one came that waits for longest, of those that are not taken."""
        place = self._oldest()
        row = place[0].rows[place[1]] if place is not None else None
        return clock_of(row) if row is not None else None

    def fattest(self) -> Item | None:
        """The oldest that may have bodies in files; it is not given again, and to be settled."""
        for stretch in list(self._stretches):
            while stretch.thinned < len(stretch.rows):
                index = stretch.thinned
                stretch.thinned = index + 1
                item = self._seize(stretch, index)
                if item is not None and item.places:
                    return item
                if item is not None:
                    item.busy = False
        return None


def has_bodies(entry: Entry | None) -> bool:
    if isinstance(entry, Exchange):
        return bool(entry.request_chunks or entry.response_chunks)
    return entry is not None and bool(entry.input or entry.output)
