"""The only broad ``except`` of the package: what goes wrong in our code is counted, logged once a minute, and gone."""

import functools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

__all__ = ["failures", "guarded", "message_of", "report", "reset", "safely"]

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("asgi_llmobs")
LOG_EVERY_SECONDS = 60.0

_counts: Counter[str] = Counter()
_last_logged: dict[str, float] = {}
_lock = threading.Lock()


def failures() -> dict[str, int]:
    """How often each part of ours failed inside the host, by the name of the part."""
    return dict(_counts)


def reset() -> None:
    """Count anew: a forked child counts for itself, and no thread of it can hold the lock."""
    global _lock
    _lock = threading.Lock()
    _counts.clear()
    _last_logged.clear()


def report(where: str, error: BaseException) -> None:
    """Count *error* under *where* and log it, at most once a minute for each *where*."""
    now = time.monotonic()
    with _lock:
        _counts[where] += 1
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
            "asgi_llmobs: %s failed (%s at %s), %d so far; the app is not affected",
            where,
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
