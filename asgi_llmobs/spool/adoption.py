"""What processes that died left behind: found by a lock that nobody holds, and taken over call by call."""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from asgi_llmobs.safely import report, safely
from asgi_llmobs.spool.folder import LOCK, locked
from asgi_llmobs.spool.frames import Frame, Kind, scan
from asgi_llmobs.spool.segment import DONE, HEADER, MOVED, SUFFIX, Place, Segment, Unreadable, read_header

__all__ = ["Estate", "Left", "estates"]

HIDDEN_SECONDS = 3600.0  # a folder that never got its name belongs to a process that died while it made it


class Left(NamedTuple):
    """One call or span that waits, or an open one that was interrupted."""

    places: list[Place]
    size: int
    origin: Mapping[str, Any]
    call: int  # its number in the records


class Estate:
    """The folder of a process that died, held by its lock until nothing waits in it any more.

    Args:
        folder: It.
        lock: The descriptor that holds its lock.
    """

    def __init__(self, folder: str, lock: int) -> None:
        self.folder = folder
        self.damaged: Counter[str] = Counter()
        self._lock = lock
        self._segments: list[Segment] = []
        self.foreign = False  # holds a file that another version may read

    def open(self) -> list[Left]:
        """Everything that waits, oldest first. What is damaged is passed over and counted.

        Raises:
            OSError: The files cannot be opened for writing.
        """
        frames: list[tuple[Frame, Segment]] = []
        origins: dict[int, Mapping[str, Any]] = {}
        for name in sorted(os.listdir(self.folder)):
            if name.endswith(SUFFIX):
                segment, origin, found = self._read(os.path.join(self.folder, name))
                if segment is not None:
                    origins[id(segment)] = origin
                    frames += [(frame, segment) for frame in found]
        frames.sort(key=lambda pair: pair[0].sequence)
        return list(self._left(frames, origins))

    def _read(self, path: str) -> tuple[Segment | None, Mapping[str, Any], list[Frame]]:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read()
        try:
            salt, origin = read_header(data)
        except Unreadable as error:
            os.close(descriptor)
            if data.strip(b"\0"):
                self.damaged[str(error)] += 1
                self.foreign = self.foreign or str(error) == "version"
            return None, {}, []
        segment = Segment(path, descriptor, len(data), salt)
        self._segments.append(segment)
        # the bytes of each record are read again when its turn comes
        found = [frame._replace(payload=b"") for frame in scan(data, HEADER, salt, self.damaged)]
        return segment, origin, found

    def _left(self, frames: list[tuple[Frame, Segment]], origins: Mapping[int, Mapping[str, Any]]) -> Iterator[Left]:
        calls: dict[int, list[tuple[Frame, Segment]]] = {}
        finished = set()
        for frame, segment in frames:
            if frame.state == DONE and frame.kind != Kind.PART:
                finished.add(frame.call)
            elif frame.state != MOVED:
                calls.setdefault(frame.call, []).append((frame, segment))
        for call, records in calls.items():
            kinds = {frame.kind for frame, _ in records}
            if call in finished or kinds == {Kind.PART}:
                continue  # dealt with, or the start of it was damaged
            if Kind.SPAN in kinds:  # it is complete: what was written while it was open says nothing more
                records = [pair for pair in records if pair[0].kind == Kind.SPAN]
            for _, segment in records:
                segment.live += 1
            places = [(segment, frame.offset) for frame, segment in records]
            size = sum(frame.length for frame, _ in records)
            yield Left(places, size, origins[id(records[0][1])], call)

    @property
    def over(self) -> bool:
        """Whether it was given up."""
        return self._lock < 0

    def settle(self) -> None:
        """Delete what holds nothing that waits, and with the last file the folder."""
        for segment in list(self._segments):
            if segment.live <= 0:
                self._segments.remove(segment)
                with safely("spool leftovers"):
                    segment.close(remove=True)
        if not self._segments and self._lock >= 0:
            self.close()

    def close(self) -> None:
        """Give the folder up; delete it where nothing is left in it."""
        if not self._segments and not self.foreign:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.forsake()

    def forsake(self) -> None:
        """Close everything and delete nothing."""
        for segment in self._segments:
            segment.close(remove=False)
        self._segments = []
        descriptor, self._lock = self._lock, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        with safely("spool close"):
            self.forsake()


def estates(root: str, own: str | None, known: set[str]) -> Iterator[Estate]:
    """The folders below *root* whose processes are dead; each is locked by us from now on.

    Args:
        root: The folder that all processes share.
        own: That of this process.
        known: Folders to pass over.
    """
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return
    for name in names:
        folder = os.path.join(root, name)
        if folder == own or folder in known:
            continue
        if name.startswith("."):
            with safely("spool leftovers"):
                remove_hidden(folder)
            continue
        try:
            lock = locked(os.path.join(folder, LOCK))
        except FileNotFoundError:
            continue
        except OSError as error:
            known.add(folder)  # of another user: not ours to take
            report("spool adoption", error)
            continue
        if lock is None:
            continue
        if os.fstat(lock).st_nlink == 0:  # somebody else has just been through with it
            os.close(lock)
            continue
        yield Estate(folder, lock)


def remove_hidden(folder: str) -> None:
    if time.time() - os.stat(folder).st_mtime > HIDDEN_SECONDS:
        shutil.rmtree(folder, ignore_errors=True)
