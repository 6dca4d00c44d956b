"""The files of one process: where records are appended, which of them are still needed, how much space they take."""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from asgi_llmobs.config import make_data_dir
from asgi_llmobs.safely import report, safely
from asgi_llmobs.spool.frames import frame_size
from asgi_llmobs.spool.segment import DONE, HEADER, MOVED, SUFFIX, Place, Segment

try:
    import fcntl
except ModuleNotFoundError:  # a system without flock: calls wait in memory
    fcntl = None  # type: ignore[assignment]
FLOCK = hasattr(fcntl, "flock")

__all__ = ["LOCK", "Journal", "available", "locked"]

logger = logging.getLogger("asgi_llmobs")
LOCK = "lock"
RETRY_SECONDS = 5.0
SMALL = 1024 * 1024  # so much is wiped at once (0.1 ms), so that few pages are used again and again


def available() -> bool:
    """Whether this system has what it takes."""
    return FLOCK and hasattr(os, "pwrite")


def locked(path: str, *, create: bool = False) -> int | None:
    """A descriptor of the file *path* that holds its lock, ``None`` where another process holds it.

    Raises:
        OSError: The file cannot be opened.
    """
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


class Journal:
    """The segments of this process, in a folder of its own whose lock it holds. The spool's lock guards it.

    Nothing is opened before the first record. Where no file can be made, records are not taken for a while.

    Args:
        root: The folder that all processes share.
        cap: Bytes of files at most.
        size: Bytes of one file.
        origin: Says which process this is.
    """

    def __init__(self, root: str, cap: int, size: int, origin: Callable[[], Mapping[str, Any]]) -> None:
        self.root = root
        self.cap = cap
        self.size = size
        self._origin = origin
        self.folder: str | None = None
        self._lock: int | None = None
        self._opening = threading.RLock()
        self._inode = 0
        self._numbers = count(1)
        self._sequence = 0
        self._active: Segment | None = None
        self._dense: Segment | None = None  # for what is written anew: among new records it would keep whole files
        self._spare: Segment | None = None
        self._full: list[Segment] = []  # nothing more fits, but something waits in it
        self._used: list[Segment] = []  # to be wiped
        self._retry_at = 0.0
        self._warned = False

    @property
    def total(self) -> int:
        """Bytes of files."""
        return sum(segment.size for segment in self._every())

    def _every(self) -> list[Segment]:
        heads = (self._active, self._dense, self._spare)
        return [*(segment for segment in heads if segment is not None), *self._full, *self._used]

    @property
    def working(self) -> bool:
        """Whether what is appended now goes to a file."""
        return self._active is not None

    @property
    def oldest(self) -> Segment | None:
        """The file that has been full for longest."""
        return self._full[0] if self._full else None

    def pressed(self) -> bool:
        """Whether the next file but one would be beyond the cap."""
        return self.total - len(self._used) * self.size + 2 * self.size > self.cap

    def append(self, kind: int, call: int, payload: bytes, *, anew: bool = False) -> Place | None:
        """Write a record; ``None`` where it cannot be done.

        Args:
            kind: What it tells.
            call: Number of the call that it belongs to.
            payload: Its bytes.
            anew: It takes the place of an earlier one: one more file than the cap allows may be made for it.
        """
        segment = self._dense if anew else self._active
        while True:
            self._sequence += 1
            at = segment.append(kind, call, self._sequence, payload) if segment is not None else None
            if at is not None and segment is not None:
                return segment, at
            segment = self._next(frame_size(len(payload)), anew=anew)
            if segment is None:
                return None

    def move(self, places: Sequence[Place]) -> list[Place] | None:
        """Write the records of one call anew, so that the files where they stand get empty; ``None``: it failed."""
        new: list[Place] = []
        for segment, at in places:
            frame = segment.read(at)
            place = None if frame is None else self.append(frame.kind, frame.call, frame.payload, anew=True)
            if place is None:
                self.release(new, MOVED)
                return None
            new.append(place)
        self.release(places, MOVED)
        return new

    def release(self, places: Sequence[Place], state: bytes = DONE) -> None:
        """Nothing waits in these records any more."""
        for segment, at in places:
            try:
                segment.mark(at, state)
            except (OSError, ValueError) as error:
                report("spool mark", error)
            if segment.live <= 0:
                segment.owner.emptied(segment)

    def emptied(self, segment: Segment) -> None:
        """One of ours is to be used again."""
        if segment is self._active:
            if segment.used - HEADER <= SMALL:
                segment.rewind()
        elif segment is self._dense:
            self._dense = None
            self._used.append(segment)
        elif segment in self._full:
            self._full.remove(segment)
            self._used.append(segment)
        elif segment is not self._spare and segment not in self._used:
            segment.close(remove=False)  # of a folder that was left

    def _next(self, needed: int, *, anew: bool) -> Segment | None:
        """Another file to append to."""
        size = max(self.size, -(-(needed + HEADER) // 4096) * 4096)
        room = self.total + size <= self.cap + (self.size if anew else 0)
        spare = self._spare
        if spare is not None and size <= spare.size:
            self._spare = None
        elif room and time.monotonic() >= self._retry_at:
            spare = self._make(size, touch=False)
        else:
            spare = None
        if spare is None:
            return None
        if anew:
            before, self._dense = self._dense, spare
        else:
            before, self._active = self._active, spare
        if before is not None:
            (self._full if before.live else self._used).append(before)
        return spare

    def _make(self, size: int, *, touch: bool) -> Segment | None:
        try:
            with self._opening:  # the app's side and the writer's may both be first
                folder = self.folder or self._open()
            path = os.path.join(folder, f"{next(self._numbers):06d}{SUFFIX}")
            segment = Segment.make(path, size, self._origin(), self, touch=touch)
        except (OSError, ValueError) as error:
            self._failed(error)
            return None
        self._warned = False
        return segment

    def _open(self) -> str:
        make_data_dir(os.path.dirname(self.root))
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        name = f"{time.time_ns():x}-{os.getpid()}-{secrets.token_hex(4)}"
        # locked under a name that nobody adopts, then given its own
        hidden, folder = os.path.join(self.root, f".{name}"), os.path.join(self.root, name)
        os.mkdir(hidden, 0o700)
        self._lock = locked(os.path.join(hidden, LOCK), create=True)
        os.rename(hidden, folder)
        self._inode = os.stat(folder).st_ino
        self.folder = folder
        return folder

    def _failed(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if not self._warned:
            self._warned = True
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            logger.warning(
                "asgi_llmobs: no file can be written in %s (%s): calls wait in memory, and are lost if the process is "
                "killed; the app is not affected",
                self.root,
                reason,
            )

    def prepare(self, lock: Any) -> None:
        """Make room for what comes: by the writer's thread, so that the app's side finds it made.

        Args:
            lock: The spool's lock, which is not held.
        """
        gone = self.folder is not None and not self._there()
        with lock:
            if gone:
                self.leave()  # somebody deleted the folder; what waits in it can still be read
            used, self._used = self._used, []
            active = self._active
            wanted = active is None or active.used > active.size // 2 or (not active.live and active.used > SMALL)
            wanted = wanted and self._spare is None and time.monotonic() >= self._retry_at
            wanted = wanted and self.total + self.size <= self.cap
        for segment in used:
            with safely("spool wipe"):
                if wanted and segment.size == self.size:
                    segment.wipe()
                    self._spare, wanted = segment, False
                else:
                    segment.close(remove=True)
        if wanted:
            self._spare = self._make(self.size, touch=True)
        with lock:
            active = self._active
            if active is None:
                self._active, self._spare = self._spare, None
            elif not active.live and active.used - HEADER > SMALL and self._spare is not None:
                self._used.append(active)
                self._active, self._spare = self._spare, None
            for segment in self._full:
                segment.detach()

    def _there(self) -> bool:
        try:
            return os.stat(self.folder or "").st_ino == self._inode
        except OSError:
            return False

    def leave(self) -> None:
        """Begin a new folder with the next record; what waits in the old one can still be read."""
        for segment in self._every():
            if segment.live:
                segment.detach()
            else:
                segment.close(remove=False)
        if self._lock is not None:
            os.close(self._lock)
        self._lock = self.folder = self._active = self._dense = self._spare = None
        self._full, self._used = [], []

    def remove(self) -> None:
        """Delete the folder, in which nothing waits."""
        folder = self.folder
        for segment in self._every():
            with safely("spool close"):
                segment.close(remove=True)
        self._active = self._dense = self._spare = self.folder = None
        self._full, self._used = [], []
        if folder is not None:
            with safely("spool close"):
                os.unlink(os.path.join(folder, LOCK))
                os.rmdir(folder)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def forsake(self) -> None:
        """Close everything and delete nothing: in a forked child, and where nobody needs the spool any more."""
        for segment in self._every():
            segment.close(remove=False)
        self._active = self._dense = self._spare = None
        self._full, self._used = [], []
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        with safely("spool close"):
            self.forsake()
