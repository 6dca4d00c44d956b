"""The folder of one process: made under a hidden name, held by a lock as long as the process lives."""

import os
import secrets
import time

from asgi_llmobs.config import make_data_dir

try:
    import fcntl
except ModuleNotFoundError:  # a system without flock: calls wait in memory
    fcntl = None  # type: ignore[assignment]
FLOCK = hasattr(fcntl, "flock")

__all__ = ["LOCK", "Folder", "available", "locked"]

LOCK = "lock"


def available() -> bool:
    """Whether this system has what the spool takes."""
    return FLOCK and hasattr(os, "pwrite") and hasattr(os, "readv") and os.path.exists("/dev/zero")


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


class Folder:
    """A folder whose lock this process holds.

    Args:
        path: It.
        inode: Of the folder itself.
        lock: The descriptor that holds its lock.
    """

    __slots__ = ("_inode", "_lock", "path")

    def __init__(self, path: str, inode: int, lock: int | None) -> None:
        self.path = path
        self._inode = inode
        self._lock = lock

    @classmethod
    def make(cls, root: str) -> "Folder":
        """A new one below *root*, which all processes share.

        Raises:
            OSError: It cannot be made.
        """
        make_data_dir(os.path.dirname(root))
        os.makedirs(root, mode=0o700, exist_ok=True)
        name = f"{time.time_ns():x}-{os.getpid()}-{secrets.token_hex(4)}"
        # locked under a name that nobody adopts, then given its own
        hidden, path = os.path.join(root, f".{name}"), os.path.join(root, name)
        os.mkdir(hidden, 0o700)
        lock = locked(os.path.join(hidden, LOCK), create=True)
        os.rename(hidden, path)
        return cls(path, os.stat(path).st_ino, lock)

    def there(self) -> bool:
        """Whether nobody has deleted it."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except OSError:
            return False

    def unlock(self) -> None:
        """Let go of it: whoever comes next takes what is in it."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    def remove(self) -> None:
        """Delete it; it is empty.

        Raises:
            OSError: It is not, or somebody was faster.
        """
        try:
            os.unlink(os.path.join(self.path, LOCK))
            os.rmdir(self.path)
        finally:
            self.unlock()
