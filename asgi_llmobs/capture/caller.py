"""Where in the app a call was made: the nearest frame that is neither a library's nor ours."""

import os
import sys
from types import FrameType

__all__ = ["caller"]

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
STDLIB = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
# where an event loop runs its tasks: who started the loop did not make the call
LOOPS = tuple(
    os.path.join(*path) for path in (("asyncio", "events.py"), ("asyncio", "runners.py"), ("_core", "_run.py"))
)
MAX_FRAMES = 200
APP, LIBRARY, LOOP = "app", "library", "loop"
_kinds: dict[str, str] = {}
_short: dict[str, str] = {}


def kind_of(filename: str) -> str:
    known = _kinds.get(filename)
    if known is None:
        path = os.path.normcase(filename)
        library = (
            path.startswith((HERE, "<frozen", os.path.normcase(STDLIB)))
            or f"{os.sep}site-packages{os.sep}" in path
            or f"{os.sep}dist-packages{os.sep}" in path
        )
        known = APP if not library else LOOP if filename.endswith(LOOPS) else LIBRARY
        if len(_kinds) < 10_000:
            _kinds[filename] = known
    return known


def caller() -> str | None:
    """``path:line function`` of the app's own frame that led here, relative to the working directory if below it."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(MAX_FRAMES):
        if frame is None:
            return None
        filename = frame.f_code.co_filename
        kind = _kinds.get(filename) or kind_of(filename)
        if kind == APP:
            return f"{short(filename)}:{frame.f_lineno} {frame.f_code.co_qualname}"
        if kind == LOOP:
            return None
        frame = frame.f_back
    return None


def short(filename: str) -> str:
    known = _short.get(filename)
    if known is None:
        try:
            root = os.getcwd() + os.sep
        except OSError:  # the folder may be gone
            return filename
        known = filename[len(root) :] if filename.startswith(root) else filename
        if len(_short) < 10_000:
            _short[filename] = known
    return known
