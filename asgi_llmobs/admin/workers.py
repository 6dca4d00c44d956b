"""The admin's worker threads: at most four per event loop, so that pages never take the app's own threads."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from asgi_llmobs.errors import LLMObsError

__all__ = ["Busy", "in_thread"]

THREADS = 4
WAIT_SECONDS = 10.0  # for one of them
R = TypeVar("R")


class Busy(LLMObsError):
    """So many are reading that no thread came free in time."""


class Threads(NamedTuple):
    """Those of one event loop. Who waits for *turns* may give up, who has one gets a thread at once."""

    turns: anyio.CapacityLimiter
    threads: anyio.CapacityLimiter


_threads: RunVar[Threads] = RunVar("llmobs_admin_threads")


def own_threads() -> Threads:
    try:
        return _threads.get()
    except LookupError:
        made = Threads(anyio.CapacityLimiter(THREADS), anyio.CapacityLimiter(THREADS))
        _threads.set(made)
        return made


async def in_thread(function: Callable[..., R], *args: object) -> R:
    """Call *function* in a worker thread, on asyncio and on trio.

    Raises:
        Busy: None came free within ten seconds.
    """
    own, turn = own_threads(), object()
    with anyio.move_on_after(WAIT_SECONDS) as patience:
        await own.turns.acquire_on_behalf_of(turn)
    if patience.cancelled_caught:
        raise Busy
    try:
        return await anyio.to_thread.run_sync(function, *args, limiter=own.threads)
    finally:
        own.turns.release_on_behalf_of(turn)
