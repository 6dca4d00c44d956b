"""The files of one process: where records are appended, which of them are still needed, how much space they take."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from asgi_llmobs.safely import report, safely
from asgi_llmobs.spool.folder import Folder
from asgi_llmobs.spool.frames import frame_size
from asgi_llmobs.spool.segment import DONE, HEADER, MOVED, SUFFIX, Place, Segment

__all__ = ["Journal"]

logger = logging.getLogger("asgi_llmobs")
RETRY_SECONDS = 5.0
QUIET_SECONDS = 60.0  # between two lines in the log
SYNC_SECONDS = 1.0  # what a power failure may cost
BEHIND_SECONDS = 0.02  # a disk does what it is asked for in less, mostly
STALL_SECONDS = 0.5  # a disk that does not answer for so long is left alone
SPARES = 3  # that are kept ready where files fill quickly


class Journal:
    """The segments of this process, in a folder of its own whose lock it holds.

    Who appends finds a file ready: all that may wait for a disk is done by :meth:`look_after`, in a thread. Where no
    file can be made, records are not taken for a while.

    Args:
        root: The folder that all processes share.
        cap: Bytes of files at most.
        size: Bytes of one file.
        origin: Says which process this is.
        lock: The spool's, held by who appends.
        ring: Calls the thread that looks after the files.
    """

    def __init__(
        self,
        root: str,
        cap: int,
        size: int,
        origin: Callable[[], Mapping[str, Any]],
        lock: Any,
        ring: Callable[[], None],
    ) -> None:
        self.root = root
        self.cap = cap
        self.size = size
        self._origin = origin
        self._spool_lock = lock
        self._ring = ring
        self._folder: Folder | None = None
        self._opening = threading.RLock()
        self._numbers = count(1)
        self._sequence = 0
        self._active: Segment | None = None
        self._ready: list[Segment] = []  # to be appended to next
        self._dense: Segment | None = None  # for what is written anew: among new records it would keep whole files
        self._resting: list[Segment] = []  # no longer appended to, not yet looked at
        self._full: list[Segment] = []  # nothing more fits, but something waits in it
        self._left: list[Segment] = []  # deleted, cut short, or of a folder that is gone: read as long as possible
        self._filled = 0  # files since the last look
        self._begun = False  # a file was appended to
        self._short = False  # the last file that stood ready was taken
        self._retry_at = 0.0
        self._warned_at = -QUIET_SECONDS
        self._synced_at = 0.0
        self._busy_at = 0.0  # when the disk was asked for what it has not done yet
        self.trouble: str | None = None

    @property
    def folder(self) -> str | None:
        """Where the files are, once there are any."""
        return self._folder.path if self._folder is not None else None

    @property
    def total(self) -> int:
        """Bytes of files."""
        return sum(segment.size for segment in self._every())

    def _every(self) -> list[Segment]:
        heads = (self._active, self._dense)
        return [*(segment for segment in heads if segment is not None), *self._ready, *self._resting, *self._full]

    @property
    def working(self) -> bool:
        """Whether what is appended now goes to a file."""
        return self._active is not None and not self._stalled()

    @property
    def oldest(self) -> Segment | None:
        """The file that has been full for longest."""
        return self._full[0] if self._full else None

    @property
    def obstacle(self) -> str | None:
        """Why what is appended now does not go to a file."""
        if self.working or self._folder is None and self.trouble is None:
            return None
        return "the disk does not answer" if self._stalled() else self.trouble or "no file is ready yet"

    def behind(self) -> bool:
        """Whether the thread that looks after files does not get to run, as where the app computes on and on."""
        since = self._busy_at
        if not (since or self._short):
            return False
        waited = time.monotonic() - since if since else 0.0
        return waited <= STALL_SECONDS and (self._short or waited > BEHIND_SECONDS)

    def _stalled(self) -> bool:
        since = self._busy_at
        return since > 0.0 and time.monotonic() - since > STALL_SECONDS

    def pressed(self) -> bool:
        """Whether what comes next may need files beyond the cap."""
        taken = sum(segment.size for segment in (*self._full, *self._resting) if segment.live > 0)
        heads = (segment for segment in (self._active, self._dense, *self._ready) if segment is not None)
        taken += sum(segment.used for segment in heads if segment.live > 0)  # the rest of them can still be written to
        return taken + 4 * self.size > self.cap

    # on the side of the app, with the spool's lock

    def append(self, kind: int, call: int, payload: bytes) -> Place | None:
        """Write a record; ``None`` where it cannot be done without waiting."""
        segment = self._active
        while True:
            if self._busy_at and self._stalled():
                return None
            if segment is not None:
                self._sequence += 1
                try:
                    at = segment.append(kind, call, self._sequence, payload)
                except (OSError, ValueError) as error:
                    self._failed(error)
                    self._rest(None)
                    at = None
                if at is not None:
                    return segment, at
            segment = self._next(frame_size(len(payload)))
            if segment is None:
                return None

    def _next(self, needed: int) -> Segment | None:
        """Another file to append to."""
        ready = self._ready
        found = next((index for index, segment in enumerate(ready) if segment.fits(needed)), None)
        if found is not None:
            segment: Segment | None = ready.pop(found)
        elif not self._begun and self.trouble is None and self.size <= self.cap:
            segment = self._make(self.size)  # the only one that is made on the app's side
        else:
            self._ring()
            return None
        if segment is not None:
            self._begun = True
            self._rest(segment)
            self._filled += 1
        self._short = not ready
        self._ring()
        return segment

    def _rest(self, after: Segment | None) -> None:
        before, self._active = self._active, after
        if before is not None:
            self._resting.append(before)

    def release(self, places: Sequence[Place], state: bytes = DONE) -> None:
        """Nothing waits in these records any more."""
        for segment, at in places:
            try:
                segment.mark(at, state)
            except (OSError, ValueError) as error:
                report("spool mark", error)
        with self._spool_lock:
            for segment, _ in places:
                segment.live -= 1

    # in the thread that looks after files

    def write(self, kind: int, payload: bytes, *, call: int, beyond: bool = False) -> Place | None:
        """Write a record that may be large or takes the place of others; ``None`` where it cannot be done.

        Args:
            kind: What it tells.
            payload: Its bytes.
            call: Number of the call that it belongs to.
            beyond: One more file than the cap allows may be made for it.
        """
        needed = frame_size(len(payload))
        segment = self._dense
        if segment is None or not segment.fits(needed):
            size = max(2 * self.size, -(-(needed + HEADER) // 4096) * 4096)
            room = self.total + size <= self.cap + (size if beyond else 0)
            made = self._make(size) if room and time.monotonic() >= self._retry_at else None
            if made is None:
                return None
            with self._spool_lock:
                self._dense = made
                if segment is not None:
                    self._resting.append(segment)
            segment = made
        with self._spool_lock:
            self._sequence += 1
            sequence, at = self._sequence, segment.reserve(needed)
        try:
            if segment.reaches(at, at + needed):
                segment.fill(at, kind, call, sequence, payload)
                return segment, at
        except (OSError, ValueError) as error:
            self._failed(error)
        with self._spool_lock:
            segment.live -= 1
        return None

    def move(self, places: Sequence[Place]) -> list[Place] | None:
        """Write the records of one call anew, so that the files where they stand get empty; ``None``: it failed.

        The old ones are to be released as :data:`MOVED`, or the new ones.
        """
        new: list[Place] = []
        for segment, at in places:
            frame = segment.read(at)
            place = None if frame is None else self.write(frame.kind, frame.payload, call=frame.call, beyond=True)
            if place is None:
                self.release(new, MOVED)
                return None
            new.append(place)
        return new

    def look_after(self) -> list[Segment]:
        """Make room for what comes, bring to the disk what came, wipe what is done with; the files that are lost."""
        with safely("spool files"), self._disk():
            lost = self._lost()
            if self._ready:
                self._settle()
                self._stock()
            else:  # the app may need one before all else is done
                self._stock()
                self._settle()
            self._turn()
            return lost
        return []

    def make_free(self) -> None:
        """Delete files that nothing waits in any more, where there is too little room."""
        with self._disk():
            self._settle()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        self._busy_at = time.monotonic()
        try:
            yield
        finally:
            self._busy_at = 0.0

    def _still_busy(self) -> None:
        self._busy_at = time.monotonic()

    def _lost(self) -> list[Segment]:
        """Somebody deleted the folder or a file, or cut one short: what waits in it can mostly still be read."""
        folder = self._folder
        if folder is None:
            return []
        gone = not folder.there()
        lost = [segment for segment in self._every() if gone or not whole(segment)]
        if not lost and not gone:
            return []
        with self._spool_lock:
            self._active, self._dense = (None if one in lost else one for one in (self._active, self._dense))
            for group in (self._ready, self._resting, self._full):
                group[:] = [segment for segment in group if segment not in lost]
            self._left += lost
            if gone:
                self._folder = None
        if gone:
            folder.unlock()
        for segment in lost:
            segment.detach()
        logger.warning("asgi_llmobs: files in %s were deleted or cut short by somebody; new ones are made", self.root)
        return lost

    def _settle(self) -> None:
        """Files that are no longer appended to: synced, wiped where nothing waits in them, else read from only."""
        for segment in self._left:
            if segment.live <= 0:
                segment.close(remove=False)
        self._left = [segment for segment in self._left if segment.descriptor >= 0]
        with self._spool_lock:
            resting, self._resting = self._resting, []
            empty = [segment for segment in self._full if segment.live <= 0]
            self._full = [segment for segment in self._full if segment.live > 0]
        for segment in (*resting, *empty):
            if self._short:
                self._stock()
            self._still_busy()
            try:
                self._sort(segment)
            except (OSError, ValueError) as error:
                self._failed(error)
                segment.detach()
                with self._spool_lock:
                    self._full.append(segment)
        dense = self._dense
        if dense is not None and dense.live <= 0 and dense.used > HEADER:
            if dense.size <= 2 * self.size:
                dense.rewind()
            else:
                self._dense = None
                dense.close(remove=True)
        elif dense is not None and time.monotonic() - self._synced_at >= SYNC_SECONDS:
            dense.sync()

    def _sort(self, segment: Segment) -> None:
        if segment.live <= 0:
            if len(self._ready) < self._wanted() and segment.size == self.size:
                segment.rewind()
            else:
                segment.close(remove=True)
                return
        else:
            segment.sync()
        self._still_busy()
        if segment.size - segment.used > segment.size // 4 and len(self._ready) < SPARES:
            segment.ready()
            self._still_busy()
            with self._spool_lock:
                self._ready.append(segment)
        else:
            segment.detach()
            with self._spool_lock:
                self._full.append(segment)

    def _wanted(self) -> int:
        return min(1 + 2 * self._filled, SPARES)

    def _stock(self) -> None:
        """Have files ready: more of them where they fill quickly."""
        while len(self._ready) < self._wanted() and time.monotonic() >= self._retry_at:
            self._still_busy()
            segment = self._make(self.size) if self.total + self.size <= self.cap else None
            if segment is None:
                break
            with self._spool_lock:
                self._ready.append(segment)
        if len(self._ready) > self._wanted() and self._ready[-1].live <= 0:
            with self._spool_lock:
                extra = self._ready.pop() if self._ready else None
            if extra is not None:
                self._resting.append(extra)
        self._filled = 0
        self._short = False
        with self._spool_lock:
            if self._active is None and self._ready:
                self._begun = True
                self._active = self._ready.pop(0)

    def _turn(self) -> None:
        """Let another file take what comes, while this one is brought to the disk or wiped.

        A page that was brought to the disk costs who writes to it next a wait for the kernel.
        """
        due = time.monotonic() - self._synced_at >= SYNC_SECONDS
        with self._spool_lock:
            active = self._active
            if active is None or not self._ready or active.used == HEADER:
                return
            if active.live > 0 and not (due and active.used != active.synced):
                return
            self._rest(self._ready.pop(0))
        self._settle()
        if due:
            self._synced_at = time.monotonic()

    def _make(self, size: int) -> Segment | None:
        try:
            with self._opening:  # the app's side and the thread may both be first
                folder = self._folder = self._folder or Folder.make(self.root)
            path = os.path.join(folder.path, f"{next(self._numbers):06d}{SUFFIX}")
            segment = Segment.make(path, size, self._origin())
        except (OSError, ValueError) as error:
            self._failed(error)
            return None
        self.trouble = None
        return segment

    def _failed(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        reason = str(error.strerror) if isinstance(error, OSError) else type(error).__name__
        with self._opening:  # the app's side and the thread may both fail
            first = self.trouble is None and self._retry_at > self._warned_at + QUIET_SECONDS
            self.trouble = reason
            if first:
                self._warned_at = self._retry_at
        if first:
            logger.warning(
                "asgi_llmobs: no file can be written in %s (%s): calls wait in memory, and are lost if the process is "
                "killed; the app is not affected",
                self.root,
                reason,
            )

    # at the end

    def remove(self) -> None:
        """Delete the folder, in which nothing waits."""
        folder = self._folder
        for segment in self._every():
            with safely("spool close"):
                segment.close(remove=True)
        self._reset()
        if folder is not None:
            with safely("spool close"):
                folder.remove()

    def _reset(self) -> None:
        self._active = self._dense = self._folder = None
        self._ready, self._resting, self._full, self._left = [], [], [], []
        self._begun = False  # a file was appended to

    def forsake(self) -> None:
        """Close everything and delete nothing: in a forked child, and where nobody needs the spool any more."""
        for segment in (*self._every(), *self._left):
            segment.close(remove=False)
        folder = self._folder
        self._reset()
        if folder is not None:
            folder.unlock()

    def __del__(self) -> None:
        with safely("spool close"):
            self.forsake()


def whole(segment: Segment) -> bool:
    """Whether its file is still there, and as long as it was."""
    status = os.fstat(segment.descriptor)
    return status.st_nlink > 0 and status.st_size >= segment.size
