"""Failed attempts that may be tried again: what is sent anew from the same place is the same request."""

import asyncio
import sys
import threading
import time
from collections import deque
from typing import Any

from asgi_llmobs.frozen import record
from asgi_llmobs.records import Exchange

__all__ = ["Past", "Retries", "retries", "retry_key", "retryable", "task_key"]

RETRY_WITHIN_NS = 60_000_000_000
RETRYABLE = frozenset({408, 409, 425, 429})
MAX_WAITING = 10_000
COMPARED = 64 * 1024  # bytes at each end of a body: hashing fifty megabytes would hold up the event loop


@record(frozen=False, eq=False, repr=False, slots=True, kw_only=True)
class Past:
    """What is remembered of an attempt that is over: no bodies, so that remembering costs nothing."""

    id: str
    trace_id: str
    parent_id: str | None
    trace: Any
    attempt: int
    first_start_ns: int
    first_clock_ns: int
    end_clock_ns: int
    match: Any
    annotations: Any
    failed: bool
    key: tuple[Any, ...]
    task: tuple[int, int]


class Retries:
    """Failed attempts of the last minute. May be called from a finalizer while it is at work in the same thread."""

    def __init__(self) -> None:
        self._failed: dict[tuple[Any, ...], list[Past]] = {}
        self._order: deque[Past] = deque()
        self._lock = threading.RLock()

    def add(self, past: Past) -> None:
        """An attempt has failed."""
        with self._lock:
            self._forget_old()
            self._failed.setdefault(past.key, []).append(past)
            self._order.append(past)

    def take(self, key: tuple[Any, ...], attempt: int | None, task: tuple[int, int]) -> Past | None:
        """The failed attempt that this one repeats.

        Args:
            key: See :func:`retry_key`.
            attempt: Its number where the client tells it.
            task: Who sends it: of several, the one that failed in the same task is preferred.
        """
        with self._lock:
            self._forget_old()
            found = [past for past in self._failed.get(key, ()) if attempt is None or past.attempt == attempt - 1]
            if not found:
                return None
            past = next((past for past in found if past.task == task), found[0])
            self.discard(past)
            return past

    def discard(self, past: Past) -> None:
        """This one is not to be found any more."""
        with self._lock:
            waiting = self._failed.get(past.key)
            if waiting and past in waiting:
                waiting.remove(past)
                if not waiting:
                    self._failed.pop(past.key, None)

    def _forget_old(self) -> None:
        limit = time.monotonic_ns() - RETRY_WITHIN_NS
        while self._order and (self._order[0].end_clock_ns < limit or len(self._order) > MAX_WAITING):
            self.discard(self._order.popleft())

    def __bool__(self) -> bool:
        return bool(self._failed)

    def reset_after_fork(self) -> None:
        """What failed in the parent is tried again there."""
        self.__init__()  # type: ignore[misc]


retries = Retries()


def retryable(status: int) -> bool:
    """Whether a client may send the same again after this status."""
    return status >= 500 or status in RETRYABLE


def task_key() -> tuple[int, int]:
    """Who runs this: SDKs retry in the task or thread that failed."""
    task = 0
    if "asyncio" in sys.modules:
        try:
            current = asyncio.current_task()
            task = id(current) if current is not None else 0
        except RuntimeError:
            pass
    return threading.get_ident(), task


def retry_key(exchange: Exchange, content: bytes, task: tuple[int, int]) -> tuple[Any, ...]:
    """Same place, same address, same body (bodies that are produced while they are sent are taken as the same)."""
    here = (exchange.trace_id, exchange.parent_id) if exchange.parent_id else task
    size = len(content)
    body = hash(content) if size <= 2 * COMPARED else hash((content[:COMPARED], content[-COMPARED:]))
    return (here, exchange.method, exchange.url, size, body)
