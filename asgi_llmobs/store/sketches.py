"""Sketches of durations: how many fell into which of a row of bins, each 3.8 % wider than the one before.

Any percentile is within 1.9 % of the exact one, and sketches can be added up and taken from each other. One is a whole
number of 64 bits a bin, so that adding two is one addition; what is stored are the bins from the first to the last that
is not empty, in as few bytes each as the fullest needs.
"""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import exp, log

__all__ = ["BINS", "bin_of", "changed", "packed", "percentiles", "standing", "summed", "unpacked"]

LEAST_NS = 10_000  # what is quicker is in the first bin
STEP = log(1.038)
OFFSET = log(LEAST_NS)
BINS = 640  # the last holds what takes longer than two and a half days
LANE = 64
HEAD = 3  # bytes before the counts
MASK = (1 << LANE) - 1
# the duration in nanoseconds that stands for all of a bin
MIDDLES = [int(exp(OFFSET + (place + 0.5) * STEP)) for place in range(BINS)]


def bin_of(duration_ns: int) -> int:
    """The bin that a duration falls into."""
    if duration_ns <= LEAST_NS:
        return 0
    place = int((log(duration_ns) - OFFSET) / STEP)
    return place if place < BINS else BINS - 1


def changed(stored: bytes, bins: Mapping[int, int]) -> bytes:
    """A stored sketch with so many more in each of *bins*, or fewer; none holds less than nothing."""
    if not bins:
        return stored
    size, first = (stored[0], stored[1] | stored[2] << 8) if stored else (1, 0)
    counts, most = bytearray(stored), 1 << 8 * size
    for place, count in bins.items():
        at = HEAD + (place - first) * size
        value = int.from_bytes(counts[at : at + size], "little") + count if HEAD <= at < len(counts) else -1
        if not 0 <= value < most:
            return packed(summed(unpacked(stored), bins))
        counts[at : at + size] = value.to_bytes(size, "little")
    return bytes(counts)


def summed(sketch: int, bins: Mapping[int, int]) -> int:
    """:func:`changed` for a sketch as a number."""
    for place, count in bins.items():
        shift = place * LANE
        if count < 0:
            count = -min(-count, sketch >> shift & MASK)
        sketch += count << shift
    return sketch


def packed(sketch: int) -> bytes:
    """*sketch* as it is stored: bytes a bin, the first bin, and the counts."""
    if not sketch:
        return b""
    first = ((sketch & -sketch).bit_length() - 1) // LANE
    sketch >>= first * LANE
    raw = sketch.to_bytes((sketch.bit_length() + LANE - 1) // LANE * 8, "little")
    size = (max(lanes(raw)).bit_length() + 7) // 8
    narrow = bytearray(len(raw) // 8 * size)
    for byte in range(size):
        narrow[byte::size] = raw[byte::8]
    return bytes((size,)) + first.to_bytes(2, "little") + narrow


def unpacked(stored: bytes) -> int:
    """What :func:`packed` was given; sums of such numbers are the sketches of all of them together."""
    if not stored:
        return 0
    size, first = stored[0], stored[1] | stored[2] << 8
    wide = bytearray((len(stored) - HEAD) // size * 8)
    for byte in range(size):
        wide[byte::8] = stored[HEAD + byte :: size]
    return int.from_bytes(wide, "little") << first * LANE


def lanes(raw: bytes) -> Sequence[int]:
    """The count in each bin."""
    counts = array("Q", raw)
    if sys.byteorder == "big":
        counts.byteswap()
    return counts


def percentiles(sketch: int, shares: Sequence[float]) -> list[int | None]:
    """The durations in nanoseconds that so large shares (0.0 to 1.0) stay within; ``None`` of an empty sketch."""
    if not sketch:
        return [None for _ in shares]
    first = ((sketch & -sketch).bit_length() - 1) // LANE
    sketch >>= first * LANE
    seen = list(accumulate(lanes(sketch.to_bytes((sketch.bit_length() + LANE - 1) // LANE * 8, "little"))))
    whole, last = seen[-1], len(seen) - 1
    return [MIDDLES[first + min(bisect_left(seen, max(1, share * whole)), last)] for share in shares]


def standing(sketch: int, duration_ns: int) -> tuple[float, int]:
    """The share of the durations of *sketch* that are shorter, those in the same bin counted by half, and how many
    there are."""
    if not sketch:
        return 0.0, 0
    place = bin_of(duration_ns)
    counts = lanes(sketch.to_bytes(BINS * LANE // 8, "little"))
    whole = sum(counts)
    return (sum(counts[:place]) + counts[place] / 2) / whole, whole
