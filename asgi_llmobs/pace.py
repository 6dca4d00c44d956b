"""How our threads make room for the app's: left alone, Python lets an event loop wait for five milliseconds."""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["PAUSE_SECONDS", "give_way", "paced"]

T = TypeVar("T")

SLICE_NS = 400_000
# not 0: who gives up the interpreter for no time at all has it again before another thread has woken up
PAUSE_SECONDS = 0.00005


class Since(threading.local):
    """When the thread last made room."""

    ns = 0


_since = Since()


def give_way(pause: float = PAUSE_SECONDS) -> None:
    """Let the app's threads run if this one has for some tenths of a millisecond. For loops in threads of our own.

    Args:
        pause: Seconds.
    """
    if time.perf_counter_ns() - _since.ns > SLICE_NS:
        time.sleep(pause)
        _since.ns = time.perf_counter_ns()


def paced(items: Iterable[T]) -> Iterator[T]:
    """*items*, with room for others between them."""
    for item in items:
        yield item
        give_way()
