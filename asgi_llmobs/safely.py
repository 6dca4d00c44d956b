"""The only broad ``except`` of the package: what goes wrong in our code is counted, logged once a minute, and gone."""

import functools
import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

__all__ = ["failures", "guarded", "message_of", "report", "reset", "resting", "safely"]

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("asgi_llmobs")
LOG_EVERY_SECONDS = 60.0

# parts that work on the app's side: where they fail all the time, they are left alone for a while
ON_THE_APPS_SIDE = frozenset(
    ("begin call", "end of call", "failed call", "closed call", "begin", "progress", "finish", "attach", "incoming")
)
BREAK_AFTER = 100  # failures of theirs within as many seconds as they then rest
REST_SECONDS = 60.0

_counts: Counter[str] = Counter()
_recent: deque[float] = deque(maxlen=BREAK_AFTER)
_rests_until = 0.0
_last_logged: dict[str, float] = {}
_lock = threading.RLock()  # a finalizer that fails may come in the middle of another failure


def failures() -> dict[str, int]:
    """How often each part of ours failed inside the host, by the name of the part."""
    return dict(_counts)


def reset() -> None:
    """Count anew: a forked child counts for itself, and no thread of it can hold the lock."""
    global _lock, _rests_until
    _lock, _rests_until = threading.RLock(), 0.0
    _recent.clear()
    _counts.clear()
    _last_logged.clear()


def resting() -> bool:
    """Whether capturing failed so often that nothing is captured for a while; it begins again by itself."""
    return _rests_until > 0.0 and time.monotonic() < _rests_until


def break_off(where: str, now: float) -> bool:
    """Count a failure on the app's side; whether the rest begins with it. The lock is held."""
    global _rests_until
    if where not in ON_THE_APPS_SIDE or now < _rests_until:
        return False
    _recent.append(now)
    if len(_recent) < BREAK_AFTER or now - _recent[0] > REST_SECONDS:
        return False
    _rests_until = now + REST_SECONDS
    _recent.clear()
    return True


def report(where: str, error: BaseException, says: str | None = None) -> None:
    """Count *error* under *where* and log it, at most once a minute for each *where*.

    Args:
        where: What failed.
        error: What happened.
        says: How the log tells it; that *where* failed unless given.
    """
    if sys.is_finalizing():  # all other threads have stopped where they were, locks in hand
        return
    now = time.monotonic()
    with _lock:
        _counts[where] += 1
        if break_off(where, now):
            says = f"{where} failed {BREAK_AFTER} times within a minute: nothing is captured for {REST_SECONDS:.0f} s"
            _last_logged.pop(where, None)
        last = _last_logged.get(where)
        if last is not None and now - last < LOG_EVERY_SECONDS:
            return
        _last_logged[where] = now
        count = _counts[where]
    try:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"
        # the message of an exception may quote a prompt or a key: the type and the place say enough
        logger.warning(
            "asgi_llmobs: %s (%s at %s), %d so far; the app is not affected",
            says or f"{where} failed",
            type(error).__name__,
            place,
            count,
        )
    except Exception:  # noqa: BLE001, S110 - a logging handler of the host may itself be broken
        pass


def message_of(error: BaseException) -> str:
    """The text of an exception of the host, at most 2,000 characters; its ``__str__`` may itself fail."""
    try:
        return str(error)[:2_000]
    except Exception as failure:  # noqa: BLE001 - what is wrong with an exception of the app is not ours
        return f"[{type(failure).__name__} in its text]"


class safely:  # noqa: N801 - reads as a word: ``with safely("close")``
    """``with safely("what we were doing"):`` lets no :class:`Exception` of the block out.

    Cancellation, ``KeyboardInterrupt`` and ``SystemExit`` are not ours and pass.
    """

    __slots__ = ("where",)

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        report(self.where, error)
        return True


def guarded(where: str, default: Any = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The decorator form of :class:`safely`: a call that fails returns *default*."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - this is the guard itself
                report(where, error)
                return default  # type: ignore[no-any-return]

        return call

    return decorate
