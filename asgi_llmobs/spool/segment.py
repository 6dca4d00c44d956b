"""One file of a spool: mapped into memory while it is written to, read with ordinary reads."""

import errno
import mmap
import os
import secrets
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from asgi_llmobs.spool.frames import HEAD, STATE, Frame, head, read_frame

__all__ = ["DONE", "MOVED", "SUFFIX", "VERSION", "Place", "Segment", "Unreadable"]

SUFFIX = ".seg"
VERSION = 1
MAGIC = b"LLMOBSSP"
FIXED = struct.Struct("<8sHHII")  # magic, version, bytes of origin, salt, checksum of the origin
HEADER = 1_024
DONE, MOVED = b"\xd5", b"\x2e"  # far apart: no flipped bit makes one of them
STEP = 256 * 1024
POPULATE = 23  # MADV_POPULATE_WRITE, of Linux 5.14: an error for a page that could not be written to
PAGE = -mmap.PAGESIZE
Probe = Callable[[int, int, int], None]
ZEROS = bytes(STEP)


class Unreadable(Exception):
    """A file that is no segment which this version reads; the text is the reason that it is counted under."""


class Segment:
    """A file of records, appended to through a mapping.

    Only that part of it is written to whose pages stand ready, so that who appends waits for no disk. Who appends holds
    the spool's lock; the rest is done by the one thread that looks after files.

    Args:
        path: Where it is.
        descriptor: Of the open file, which belongs to the segment from now on.
        size: Bytes of the file.
        salt: Of its checksums.
    """

    __slots__ = ("_map", "_probe", "_view", "descriptor", "limit", "live", "path", "salt", "size", "synced", "used")

    def __init__(self, path: str, descriptor: int, size: int, salt: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size = size
        self.salt = salt
        self.used = self.synced = HEADER
        self.limit = 0  # pages stand ready up to here
        self.live = 0  # records that something still waits in
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None
        self._probe: Probe | None = None

    @classmethod
    def make(cls, path: str, size: int, origin: Mapping[str, Any]) -> "Segment":
        """A new file that nobody else opens, its space taken, mapped.

        Args:
            path: Where; nothing may be there.
            size: Bytes.
            origin: Which process writes it.

        Raises:
            OSError: It cannot be made, or the disk is full.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(path, flags, 0o600)
        segment: Segment | None = None
        try:
            # a mapped page without space on the disk would kill the process when it is written
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
            else:
                blank(descriptor, 0, size)
            segment = cls(path, descriptor, size, secrets.randbits(32))
            os.pwrite(descriptor, header(origin, segment.salt), 0)
            segment.ready()
        except BaseException:
            if segment is not None:
                segment.close(remove=True)
            else:
                os.close(descriptor)
                os.unlink(path)
            raise
        return segment

    def ready(self) -> None:
        """Let the rest of it be written to: its pages are there, and as if written already.

        Nobody appends to it in the meantime.

        Raises:
            OSError: The disk is full, or somebody cut the file short.
        """
        if self._view is None:
            self._map = mmap.mmap(self.descriptor, self.size)
            self._view = memoryview(self._map)
            self._probe = probe(self._map)
        fill(self._view, self.used, self.size)
        self.limit = self.size

    def fits(self, size: int) -> bool:
        """Whether *size* bytes can be appended at once."""
        return self._view is not None and self.used + size <= self.limit

    def reaches(self, begin: int, end: int) -> bool:
        """Whether the file goes from *begin* to *end*: writing beyond its end would kill the process."""
        probe = self._probe
        if probe is not None:  # other than a look at its length this does not let go of the interpreter
            first = begin & PAGE
            try:
                probe(POPULATE, first, end - first)
                return True
            except OSError:
                return False
            except ValueError:  # let go of in this very moment
                pass
        return os.lseek(self.descriptor, 0, os.SEEK_END) >= self.size

    def reserve(self, size: int) -> int:
        """Take so many bytes, of which :meth:`fits` was true; where they begin."""
        # taken before it is written: a finalizer may append another one in the meantime
        at = self.used
        self.used = at + size
        self.live += 1
        return at

    def fill(self, at: int, kind: int, call: int, sequence: int, payload: bytes) -> None:
        """Write a record where room was taken for it. It is whole, or it is none."""
        view = self._view
        assert view is not None
        first = head(kind, call, sequence, payload, self.salt)
        begin = at + HEAD
        for start in range(0, len(payload), STEP):  # in steps: nobody waits for a large one
            view[begin + start : begin + min(start + STEP, len(payload))] = payload[start : start + STEP]
        view[at:begin] = first

    def append(self, kind: int, call: int, sequence: int, payload: bytes) -> int | None:
        """Write a record; where it begins, ``None`` where it does not fit. It is whole, or it is none.

        Raises:
            OSError: Somebody cut the file short.
        """
        view, size, at = self._view, (HEAD + len(payload) + 7) & -8, self.used
        if view is None or at + size > self.limit:
            return None
        if not self.reaches(at, at + size):
            self.limit = 0
            raise OSError(errno.EIO, "the file was cut short by somebody")
        self.used = at + size  # before it is written: a finalizer may append another one in the meantime
        self.live += 1
        begin = at + HEAD
        view[begin : begin + len(payload)] = payload
        view[at:begin] = head(kind, call, sequence, payload, self.salt)
        return at

    def mark(self, at: int, state: bytes = DONE) -> None:
        """Nothing waits in the record that begins there any more.

        Raises:
            OSError: The file cannot be written.
        """
        if not self.reaches(at, at + HEAD):
            return
        view = self._view
        if view is not None and at < self.limit:
            try:
                view[at + STATE : at + STATE + 1] = state
                return
            except ValueError:  # let go of in this very moment
                pass
        os.pwrite(self.descriptor, state, at + STATE)

    def detach(self) -> None:
        """Nothing more is appended: the memory is given back, what waits in it can still be read."""
        self.limit = 0
        self._probe = None
        view, self._view, mapped, self._map = self._view, None, self._map, None
        if view is not None:
            view.release()
        if mapped is not None:
            mapped.close()

    def read(self, at: int) -> Frame | None:
        """The record that begins there, ``None`` where it is damaged. From any thread."""
        data = os.pread(self.descriptor, 16 * 1024, at)
        if len(data) >= HEAD:
            wanted = HEAD + int.from_bytes(data[12:16], "little")
            if len(data) < wanted <= self.size:
                data += os.pread(self.descriptor, wanted - len(data), at + len(data))
        return read_frame(data, 0, self.salt, at)

    def sync(self) -> bool:
        """Bring to the disk what was appended since the last time; whether there was anything.

        Raises:
            OSError: It could not be written.
        """
        used = self.used
        if used == self.synced:
            return False
        getattr(os, "fdatasync", os.fsync)(self.descriptor)
        self.synced = used
        return True

    def rewind(self) -> None:
        """All of it is done with: no byte of it stays, and it is written from the beginning again.

        Raises:
            OSError: It cannot be written.
        """
        if self._view is not None:
            fill(self._view, HEADER, self.used)
        else:
            blank(self.descriptor, HEADER, self.used)
        self.used = self.synced = HEADER

    def close(self, *, remove: bool) -> None:
        """Let go of it, and of the file where *remove* says so."""
        self.detach()
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        if remove:
            os.unlink(self.path)


def probe(mapped: mmap.mmap) -> Probe | None:
    """What tells of its pages whether they can be written to, where the system has that."""
    advise: Probe | None = getattr(mapped, "madvise", None)
    if advise is None or not sys.platform.startswith("linux"):
        return None
    try:
        advise(POPULATE, 0, mmap.PAGESIZE)
    except OSError:
        return None
    return advise


def fill(view: memoryview, begin: int, end: int) -> None:
    """Write zeros.

    The kernel does it: a page that cannot be had is an error then and not a signal, and no other thread waits for it.
    """
    source = os.open("/dev/zero", os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        while begin < end:
            with view[begin:end] as piece:
                got = os.readv(source, [piece])
            if not got:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            begin += got  # less than all of it where a signal came
    finally:
        os.close(source)


def blank(descriptor: int, begin: int, end: int) -> None:
    for at in range(begin, end, STEP):
        piece = min(STEP, end - at)
        if os.pwrite(descriptor, ZEROS if piece == STEP else bytes(piece), at) != piece:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


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
