"""How our threads make room for the app's: left alone, Python lets an event loop wait for five milliseconds."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["PAUSE_SECONDS", "give_way", "hurried", "paced", "reset_after_fork"]

T = TypeVar("T")

SLICE_NS = 400_000
# not 0: who gives up the interpreter for no time at all has it again before another thread has woken up
PAUSE_SECONDS = 0.00005


class Since(threading.local):
    """When the thread last made room."""

    ns = 0


_since = Since()
_hurried = False


def give_way(pause: float = PAUSE_SECONDS) -> None:
    """Let the app's threads run if this one has for some tenths of a millisecond. For loops in threads of our own.

    Args:
        pause: Seconds.
    """
    if time.perf_counter_ns() - _since.ns > SLICE_NS and not _hurried:
        time.sleep(pause)
        _since.ns = time.perf_counter_ns()


@contextmanager
def hurried() -> Iterator[None]:
    """Meanwhile no thread of ours makes room: one of the app's waits for it to come to an end."""
    global _hurried
    _hurried = True
    try:
        yield
    finally:
        _hurried = False


def reset_after_fork() -> None:
    """A forked child waits for nothing yet, though another thread of its parent may have."""
    global _hurried
    _hurried = False


def paced(items: Iterable[T]) -> Iterator[T]:
    """*items*, with room for others between them."""
    for item in items:
        yield item
        give_way()
