"""A file that only takes up room: given up when the disk is full, so that rows can still be deleted and counted."""

import os
from contextlib import suppress

__all__ = ["Ballast"]

SIZE = 8 << 20
RESERVE = SIZE // 2  # of what it gave up, for deleting and for what has no content
PLENTY = 3 * SIZE  # free bytes from which on it is made


class Ballast:
    """The ballast beside the database at *path*."""

    def __init__(self, path: str) -> None:
        self.path = f"{path}-ballast"
        self._folder = os.path.dirname(path)
        self.released = False

    def free(self) -> int:
        """Bytes that may still be written on this disk."""
        try:
            found = os.statvfs(self._folder)
        except (OSError, AttributeError):  # Windows has no statvfs
            return 1 << 62
        return found.f_bavail * found.f_frsize

    def low(self) -> bool:
        """Whether only what has no content may be written."""
        return self.released and self.free() < RESERVE

    def release(self) -> bool:
        """Give the room up; whether there was any."""
        self.released = True
        try:
            os.unlink(self.path)
        except OSError:
            return False
        return True

    def restore(self) -> bool:
        """Take the room again where there is plenty; whether it was done."""
        if os.path.exists(self.path):
            self.released = False
            return False
        if self.free() < PLENTY:
            return False
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            return False
        try:
            allocate(handle)
        except OSError:
            with suppress(OSError):
                os.unlink(self.path)
            return False
        finally:
            os.close(handle)
        was, self.released = self.released, False
        return was


def allocate(handle: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, SIZE)
        return
    for _ in range(SIZE >> 16):
        os.write(handle, bytes(1 << 16))
