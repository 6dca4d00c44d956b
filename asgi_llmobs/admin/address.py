"""Addresses below the mount, all relative: the admin never needs to know where it is mounted."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

__all__ = ["inner_path", "last_segment", "safe_next", "to_root"]

NEXT = re.compile(r"[A-Za-z0-9_\-~.:@+,=/]*(\?[A-Za-z0-9_\-~.:@+,=/&%*!'()$;]*)?")
LONGEST_NEXT = 2000


def inner_path(scope: Mapping[str, Any]) -> str:
    """The path below the mount: empty for the mount without its slash.

    Servers differ in whether ``path`` holds the root path that they were started with; what mounts added to it is
    in ``path`` always.
    """
    path, root = str(scope.get("path", "")), str(scope.get("root_path", "")).rstrip("/")
    mounted = root.removeprefix(str(scope.get("app_root_path", "")).rstrip("/"))
    for prefix in (root, mounted):
        if prefix and (path == prefix or path.startswith(prefix + "/")):
            return path[len(prefix) :]
    return path


def to_root(scope: Mapping[str, Any]) -> str:
    """The way from the page up to the mount: ``./`` or ``../`` as often as it takes."""
    depth = inner_path(scope).count("/") - 1
    raw = scope.get("raw_path")
    if isinstance(raw, bytes):
        depth -= raw.lower().count(b"%2f")  # a slash to the server, none to the browser
    return "../" * depth if depth > 0 else "./"


def last_segment(scope: Mapping[str, Any]) -> str:
    """The last segment of the path, for an address that only lacks its slash."""
    path = str(scope.get("path", "")) or str(scope.get("root_path", ""))
    return quote(path.rstrip("/").rsplit("/", 1)[-1], safe="")


def safe_next(text: str) -> str:
    """Where to go after the sign-in, as an address below the mount; anything odd means the overview."""
    path = text.partition("?")[0]
    odd = path.startswith("/") or "//" in path or any(part in (".", "..") for part in path.split("/"))
    if odd or ":" in path.split("/")[0] or len(text) > LONGEST_NEXT or not NEXT.fullmatch(text):
        return "./"
    return "./" + text
