"""One thing that waits in the durable spool: with its object, or as the few bytes that say where it stands in files."""

import struct
import time
from collections.abc import Mapping
from itertools import count
from typing import Any, Generic, TypeVar

from asgi_llmobs.spool.base import Entry
from asgi_llmobs.spool.segment import Place, Segment

__all__ = ["GONE", "OVERHEAD", "TAKEN", "WAITING", "Item", "Packing", "Row", "Stretch", "clock_of"]

WAITING, TAKEN, GONE = range(3)
HEAD = struct.Struct("<3QI")  # clock, number of the call, size, number of the origin or 0
OVERHEAD = 48  # bytes of Python's own, for what is packed
Thing = TypeVar("Thing")


class Item:
    """Something that waits: as an object, as records, mostly both."""

    __slots__ = (
        "busy", "call", "clock_ns", "entry", "held", "index", "late", "origin", "places", "recorded", "size", "state",
        "stretch",
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
        self.busy = False  # somebody is working on it
        self.origin: Mapping[str, Any] | None = None  # which process it is from, where that is not this one
        self.stretch: Stretch | None = None  # of the queue, where it waits
        self.index = 0  # where in there, or before


Row = Item | bytes | None  # packed, or gone


class Stretch:
    """Some that wait one after the other."""

    __slots__ = ("first", "live", "rows", "thinned")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.live = 0  # of them that are not gone
        self.first = 0  # all before this one are
        self.thinned = 0  # those before this one were looked through for bodies


class Numbers(Generic[Thing]):
    """Numbers that stand for things, as long as anything has them."""

    def __init__(self) -> None:
        self._next = count(1)
        self._numbers: dict[int, int] = {}  # by id
        self._things: dict[int, Thing] = {}
        self._uses: dict[int, int] = {}

    def __getitem__(self, number: int) -> Thing:
        return self._things[number]

    def take(self, thing: Thing) -> int:
        """The number of this one, which something has from now on."""
        key, uses = id(thing), self._uses
        number = self._numbers.get(key) or next(self._next)
        if number not in uses:  # no function is called from here on: a finalizer might come in between
            self._numbers[key], self._things[number], uses[number] = number, thing, 0
        uses[number] += 1
        return number

    def leave(self, number: int) -> None:
        """Something does not have it any more."""
        uses, things = self._uses, self._things
        uses[number] -= 1
        if not uses[number]:
            thing = things[number]
            del uses[number], things[number]
            self._numbers.pop(id(thing), None)


class Packing:
    """Items that stand in files only as bytes, and back: an item costs 0.5 KB, its bytes a tenth of that or two."""

    def __init__(self) -> None:
        self._segments: Numbers[Segment] = Numbers()
        self._origins: Numbers[Mapping[str, Any]] = Numbers()

    def pack(self, item: Item) -> bytes:
        """What of *item* cannot be read in the files."""
        origin = 0 if item.origin is None else self._origins.take(item.origin)
        places = [number for segment, at in item.places for number in (self._segments.take(segment), at)]
        return HEAD.pack(item.clock_ns, item.call, item.size, origin) + struct.pack(f"<{len(places)}I", *places)

    def unpack(self, packed: bytes) -> Item:
        """The item again."""
        clock_ns, call, size, origin = HEAD.unpack_from(packed)
        item = Item(None, size, self.places(packed), call)
        item.clock_ns = clock_ns
        if origin:
            item.origin = self._origins[origin]
        return item

    def leave(self, packed: bytes) -> None:
        """Nobody needs these bytes any more."""
        origin = HEAD.unpack_from(packed)[-1]
        if origin:
            self._origins.leave(origin)
        for number, _ in numbered(packed):
            self._segments.leave(number)

    def places(self, packed: bytes) -> list[Place]:
        """Where it stands."""
        return [(self._segments[number], at) for number, at in numbered(packed)]


def numbered(packed: bytes) -> list[tuple[int, int]]:
    """Numbers of segments, and where in them."""
    return list(struct.iter_unpack("<2I", packed[HEAD.size :]))


def clock_of(row: Item | bytes) -> int:
    """When it came, on the monotonic clock."""
    return row.clock_ns if isinstance(row, Item) else int(HEAD.unpack_from(row)[0])
