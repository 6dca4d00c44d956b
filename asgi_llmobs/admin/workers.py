"""The admin's worker threads: at most four per event loop, so that pages never take the app's own threads."""

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

__all__ = ["in_thread"]

THREADS = 4
R = TypeVar("R")

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("llmobs_admin_limiter")


async def in_thread(function: Callable[..., R], *args: object) -> R:
    """Call *function* in a worker thread, on asyncio and on trio."""
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(THREADS)
        _limiter.set(limiter)
    return await anyio.to_thread.run_sync(function, *args, limiter=limiter)
