"""One file of a spool: mapped into memory while it is written to, read with ordinary reads."""

import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from asgi_llmobs.spool.frames import HEAD, STATE, Frame, frame_size, head, read_frame

__all__ = ["DONE", "MOVED", "SUFFIX", "VERSION", "Owner", "Place", "Segment", "Unreadable"]

SUFFIX = ".seg"
VERSION = 1
MAGIC = b"LLMOBSSP"
FIXED = struct.Struct("<8sHHII")  # magic, version, bytes of origin, salt, checksum of the origin
HEADER = 1_024
DONE, MOVED = b"\xd5", b"\x2e"  # far apart: no flipped bit makes one of them
STEP = 256 * 1024
POPULATE_WRITE = 23  # MADV_POPULATE_WRITE of Linux 5.14; MAP_POPULATE maps for reading, which makes writing slower
ZEROS = bytes(STEP)


class Unreadable(Exception):
    """A file that is no segment which this version reads; the text is the reason that it is counted under."""


class Owner(Protocol):
    """Whom a segment belongs to."""

    def emptied(self, segment: "Segment") -> None:
        """Nothing that waits is in *segment* any more."""


class Segment:
    """A file of records, appended to through a mapping. Every method but :meth:`read` is called under a lock.

    Args:
        path: Where it is.
        descriptor: Of the open file, which belongs to the segment from now on.
        size: Bytes of the file.
        salt: Of its checksums.
        owner: Told when it is empty.
    """

    __slots__ = ("_map", "descriptor", "live", "owner", "path", "salt", "size", "used")

    def __init__(self, path: str, descriptor: int, size: int, salt: int, owner: Owner) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size = size
        self.salt = salt
        self.owner = owner
        self.used = HEADER
        self.live = 0  # records that something still waits in
        self._map: mmap.mmap | None = None

    @classmethod
    def make(cls, path: str, size: int, origin: Mapping[str, Any], owner: Owner, *, touch: bool) -> "Segment":
        """A new file that nobody else opens, its space taken, mapped.

        Args:
            path: Where; nothing may be there.
            size: Bytes.
            origin: Which process writes it.
            owner: Told when it is empty.
            touch: Write all of it once, so that no later write has to wait for a page: not on the side of the app.

        Raises:
            OSError: It cannot be made, or the disk is full.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            # a mapped page without space on the disk would kill the process when it is written
            if touch or not hasattr(os, "posix_fallocate"):
                blank(descriptor, 0, size)
            else:
                os.posix_fallocate(descriptor, 0, size)
            segment = cls(path, descriptor, size, secrets.randbits(32), owner)
            os.pwrite(descriptor, header(origin, segment.salt), 0)
            segment.attach(touch=touch)
        except BaseException:
            os.close(descriptor)
            os.unlink(path)
            raise
        return segment

    def attach(self, *, touch: bool = True) -> None:
        """Map it, to be written to; *touch* makes its pages writable at once."""
        self._map = mmap.mmap(self.descriptor, self.size)
        for at in range(0, self.size if touch else 0, STEP):
            try:
                self._map.madvise(POPULATE_WRITE, at, min(STEP, self.size - at))
            except (OSError, AttributeError):  # an older kernel: each page waits for its first write
                break

    def detach(self) -> None:
        """Nothing more is appended: the memory is given back, what waits in it can still be read."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def append(self, kind: int, call: int, sequence: int, payload: bytes) -> int | None:
        """Write a record; where it begins, ``None`` where it does not fit. It is whole, or it is none."""
        mapped, size, at = self._map, frame_size(len(payload)), self.used
        if mapped is None or at + size > self.size:
            return None
        # taken before it is written: a finalizer may append another one in the meantime
        self.used = at + size
        self.live += 1
        mapped[at : at + HEAD + len(payload)] = head(kind, call, sequence, payload, self.salt) + payload
        return at

    def mark(self, at: int, state: bytes = DONE) -> None:
        """Nothing waits in the record that begins there any more."""
        self.live -= 1
        if self._map is not None:
            self._map[at + STATE : at + STATE + 1] = state
        else:
            os.pwrite(self.descriptor, state, at + STATE)

    def read(self, at: int) -> Frame | None:
        """The record that begins there, ``None`` where it is damaged. From any thread."""
        data = os.pread(self.descriptor, 16 * 1024, at)
        if len(data) >= HEAD:
            wanted = HEAD + int.from_bytes(data[12:16], "little")
            if len(data) < wanted <= self.size:
                data += os.pread(self.descriptor, wanted - len(data), at + len(data))
        return read_frame(data, 0, self.salt, at)

    def rewind(self) -> None:
        """All of it is done with: no byte of it stays, and it is written from the beginning again."""
        if self._map is not None:
            self._map[HEADER : self.used] = bytes(self.used - HEADER)
        else:
            blank(self.descriptor, HEADER, self.used)
            self.attach()
        self.used = HEADER

    def wipe(self) -> None:
        """As :meth:`rewind`, for a large one that nobody appends to."""
        self.detach()
        self.rewind()

    def close(self, *, remove: bool) -> None:
        """Let go of it, and of the file where *remove* says so."""
        self.detach()
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        if remove:
            os.unlink(self.path)


def blank(descriptor: int, begin: int, end: int) -> None:
    for at in range(begin, end, STEP):
        piece = min(STEP, end - at)
        if os.pwrite(descriptor, ZEROS if piece == STEP else bytes(piece), at) != piece:
            raise OSError(28, "No space left on device")


def header(origin: Mapping[str, Any], salt: int) -> bytes:
    text = orjson.dumps(dict(origin))
    if len(text) > HEADER - FIXED.size:
        text = orjson.dumps({"pid": origin.get("pid")})
    return FIXED.pack(MAGIC, VERSION, len(text), salt, zlib.crc32(text)) + text


def read_header(data: bytes) -> tuple[int, Mapping[str, Any]]:
    """Salt and origin of a segment.

    Raises:
        Unreadable: It is none of ours.
    """
    if len(data) < HEADER or data[: len(MAGIC)] != MAGIC:
        raise Unreadable("no segment")
    _, version, length, salt, checksum = FIXED.unpack_from(data)
    if version != VERSION:
        raise Unreadable("version")
    text = data[FIXED.size : FIXED.size + length]
    if zlib.crc32(text) != checksum:
        return salt, {}
    origin = orjson.loads(text)
    return salt, origin if isinstance(origin, dict) else {}


Place = tuple[Segment, int]
