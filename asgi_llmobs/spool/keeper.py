"""The thread that looks after a spool's files, so that neither the app nor the writer waits for a disk."""

import queue
import sys
import threading
from collections.abc import Callable
from weakref import WeakMethod

from asgi_llmobs.context import suppress
from asgi_llmobs.safely import safely

__all__ = ["Keeper"]

JOIN_SECONDS = 1.0


class Keeper:
    """Does *work* now and then, and whenever it is rung for; ends with whom the work belongs to.

    Args:
        work: A method; it gives the seconds until it is to be done again.
    """

    def __init__(self, work: Callable[[], float]) -> None:
        self._work = WeakMethod(work)
        # unlike an event it may be rung by a finalizer that interrupts the one who rings
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def running(self) -> bool:
        """Whether the thread is there, started if it was not; ``False`` where none can be."""
        if self._thread is not None and self._thread.is_alive():
            return True
        if sys.is_finalizing():
            return False
        self._stop = threading.Event()
        thread = threading.Thread(
            target=keep, args=(self._work, self._bell, self._stop), name="llmobs-spool", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads: who asked does the work
            return False
        self._thread = thread
        return True

    def ring(self) -> None:
        """There is something to be done."""
        if self._thread is not None and self._bell.empty():
            self._bell.put(None)

    def stop(self) -> None:
        """End the thread."""
        thread, self._thread = self._thread, None
        self._stop.set()
        self._bell.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN_SECONDS)


def keep(work: "WeakMethod[Callable[[], float]]", bell: "queue.SimpleQueue[None]", stop: threading.Event) -> None:
    seconds = 0.0
    while True:
        try:
            bell.get(timeout=seconds)
        except queue.Empty:
            pass
        do = work()
        if do is None or stop.is_set():
            return
        seconds = 1.0
        with suppress(), safely("spool keeper"):  # what the app's own redaction calls is not recorded
            seconds = do()
        del do  # or the thread would keep it alive
