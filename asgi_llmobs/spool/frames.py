"""The form of a record in a segment file: how one is written, and how those that are whole are found again."""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

__all__ = ["HEAD", "STATE", "Frame", "Kind", "frame_size", "head", "read_frame", "scan"]

MAGIC = b"\xf5LO\x1e"
FIRST = struct.Struct("<4sIB")  # magic, checksum, state: not 0 once the record is dealt with
REST = struct.Struct("<BHIQQ")  # kind, reserved, bytes of payload, number of the call, sequence number
HEAD = FIRST.size + REST.size
STATE = 8  # where in the head the state stands: the only byte that changes, so no checksum covers it
ALIGNED = 8
PIECE, LARGE = 5_000, 64 * 1024  # bytes


class Kind(IntEnum):
    """What a record tells."""

    START = 1  # a call has begun
    PART = 2  # a piece of its answer
    END = 3  # it is over
    SPAN = 4  # a span that is complete
    ROOT = 5  # a span that is still open


class Frame(NamedTuple):
    """A record that was found whole."""

    kind: int
    state: bytes  # b"" while something waits in it
    call: int
    sequence: int
    offset: int
    length: int
    payload: bytes


def frame_size(payload: int) -> int:
    """Bytes that a record takes whose payload has so many."""
    return (HEAD + payload + ALIGNED - 1) // ALIGNED * ALIGNED


def head(kind: int, call: int, sequence: int, payload: bytes, salt: int) -> bytes:
    """What stands before *payload*. The checksum is salted: nobody's prompt can hold a record that counts."""
    rest = REST.pack(kind, 0, len(payload), call, sequence)
    return FIRST.pack(MAGIC, checksum(payload, zlib.crc32(rest, salt)), 0) + rest


def checksum(payload: bytes, start: int) -> int:
    """That of *payload*, going on from *start*.

    Beyond five kilobytes zlib lets go of the interpreter, and the app's side would have to wait for it: what that side
    writes is taken in pieces.
    """
    if not PIECE < len(payload) <= LARGE:
        return zlib.crc32(payload, start)
    view = memoryview(payload)
    for at in range(0, len(payload), PIECE):
        start = zlib.crc32(view[at : at + PIECE], start)
    return start


def read_frame(data: bytes, at: int, salt: int, offset: int = 0) -> Frame | None:
    """The record at this place of *data*, ``None`` where there is none that is whole.

    Args:
        data: A piece of a segment.
        at: Where in it the record begins.
        salt: The segment's.
        offset: Where in the segment the piece begins.
    """
    if len(data) - at < HEAD:
        return None
    magic, checksum, state = FIRST.unpack_from(data, at)
    kind, _, length, call, sequence = REST.unpack_from(data, at + FIRST.size)
    if magic != MAGIC or length > len(data) - at - HEAD:
        return None
    payload = data[at + HEAD : at + HEAD + length]
    rest = data[at + FIRST.size : at + HEAD]
    if zlib.crc32(payload, zlib.crc32(rest, salt)) != checksum:
        return None
    return Frame(kind, bytes((state,)) if state else b"", call, sequence, offset + at, length, payload)


def scan(data: bytes, start: int, salt: int, damaged: "Counter[str]") -> Iterator[Frame]:
    """Every whole record of *data* from *start* on; each stretch that is none is counted in *damaged*."""
    at, lost = start, False
    while at < len(data):
        found = data.find(MAGIC, at)
        skipped = data[at:] if found < 0 else data[at:found]
        lost = lost or bool(skipped.strip(b"\0"))
        if found < 0:
            break
        frame = read_frame(data, found, salt)
        if frame is None:
            at, lost = found + 1, True
            continue
        if lost:
            damaged["checksum"] += 1
            lost = False
        yield frame
        at = found + frame_size(frame.length)
    if lost:
        damaged["checksum"] += 1
