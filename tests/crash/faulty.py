"""A file system that fails as it is told: passes everything on to a folder, and looks at a file of faults each time.

    python -m tests.crash.faulty BACKING MOUNTPOINT FAULTS

FAULTS is JSON: ``{"write": {"error": "EIO", "from": 3, "times": 2, "match": ".seg"}, "fsync": {"sleep": 10}}``.
``from`` is the first that fails of the calls of that kind, counted over all files that match, but for those that end
with ``unless``; ``short`` writes so many bytes.
"""

import errno
import json
import os
import sys
import time
from collections import Counter
from typing import Any

import mfusepy

STATUS = ("st_atime", "st_ctime", "st_gid", "st_ino", "st_mode", "st_mtime", "st_nlink", "st_size", "st_uid")


class Faulty(mfusepy.Operations):  # type: ignore[misc]
    """Passes on, or fails."""

    use_ns = True

    def __init__(self, backing: str, faults: str) -> None:
        self.backing = backing
        self.faults = faults
        self.seen: Counter[str] = Counter()
        self.known: tuple[float, dict[str, Any]] = (0.0, {})

    def rule(self, kind: str, path: str) -> dict[str, Any]:
        """What is to happen to this call; raises the error."""
        changed = os.stat(self.faults).st_mtime_ns
        if changed != self.known[0]:
            self.known = (changed, json.loads(open(self.faults).read() or "{}"))
            self.seen.clear()
        rule: dict[str, Any] = self.known[1].get(kind, {})
        if not rule or rule.get("match", "") not in path or path.endswith(rule.get("unless", "\0")):
            return {}
        self.seen[kind] += 1
        first = rule.get("from", 1)
        if not first <= self.seen[kind] < first + rule.get("times", 10**9):
            return {}
        time.sleep(rule.get("sleep", 0))
        if "error" in rule:
            raise mfusepy.FuseOSError(getattr(errno, rule["error"]))
        return rule

    def there(self, path: str) -> str:
        return self.backing + path

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self.there(path))
        return {
            name: getattr(found, f"{name}_ns") if name.endswith("time") else getattr(found, name) for name in STATUS
        }

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self.there(path))]

    def access(self, path: str, mode: int) -> int:
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self.rule("create", path)
        return os.open(self.there(path), os.O_RDWR | os.O_CREAT, mode)

    def open(self, path: str, flags: int) -> int:
        self.rule("open", path)
        return os.open(self.there(path), os.O_RDWR)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self.rule("read", path)
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        rule = self.rule("write", path)
        return os.pwrite(fh, data[: rule.get("short", len(data))], offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self.rule("truncate", path)
        os.truncate(self.there(path), length)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self.rule("fsync", path)
        return 0

    def flush(self, path: str, fh: int) -> int:
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self.there(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self.there(path))
        return 0

    def unlink(self, path: str) -> int:
        self.rule("unlink", path)
        os.unlink(self.there(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        os.rename(self.there(old), self.there(new))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self.there(path), mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: Any = None) -> int:
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self.backing)
        return {name: getattr(found, name) for name in ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_frsize")}


if __name__ == "__main__":
    mfusepy.FUSE(Faulty(sys.argv[1], sys.argv[3]), sys.argv[2], foreground=True, nothreads=False)
