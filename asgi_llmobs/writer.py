"""One thread of each process that takes finished calls from the spool, makes records of them, and feeds the sinks."""

import atexit
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from asgi_llmobs.context import suppress
from asgi_llmobs.errors import LLMObsError
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.records import Exchange, Span, Written
from asgi_llmobs.safely import report, safely
from asgi_llmobs.spool import Entry, Spool

__all__ = ["Sink", "Writer"]

BATCH = 200
GATHER_SECONDS = 0.02  # a batch gathers for so long
PAUSE_SECONDS = 0.25  # longest time that a finished call waits while the store is well
RUNNING_AFTER_NS = 2_000_000_000
PATIENCE = 3  # times that an unexpected error of a sink may pass by itself
RETRY_SECONDS = (0.25, 10.0)
EXIT_SECONDS = 2.0


class Sink(Protocol):
    """Where records go."""

    def write(self, batch: Sequence[Span]) -> Written:
        """Store *batch*, all or nothing but for records that are refused for good.

        Raises:
            LLMObsError: It cannot now; the same is tried again later.
        """


class Writer:
    """Drains a spool into sinks.

    Args:
        spool: Where finished calls wait.
        pipeline: Makes records of them.
        open_sinks: Gives the sinks; called in the writer's thread, at the first batch.
    """

    def __init__(self, spool: Spool, pipeline: Pipeline, open_sinks: Callable[[], Sequence[Sink]]) -> None:
        self._spool = spool
        self._pipeline = pipeline
        self._open_sinks = open_sinks
        self._sinks: Sequence[Sink] | None = None
        self._wake = threading.Event()
        self._stop = threading.Event()  # of the thread that runs now: one that is still ending keeps its own
        self._idle = threading.Condition()
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._turn_lock = threading.Lock()
        self._failures = 0  # in a row
        self.last_error: str | None = None
        self.cpu_ns = 0
        self.hurry = False

    def start(self) -> None:
        """Start the thread, once; at interpreter shutdown nothing happens."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._start_lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stop = threading.Event()
            thread = threading.Thread(target=self._run, args=(self._stop,), name="llmobs-writer", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no new threads while the interpreter shuts down
                return
            self._thread = thread
        atexit.unregister(self.close)
        atexit.register(self.close)

    def woken(self) -> None:
        """Something was put into the spool."""
        if self._thread is None:
            self.start()
        if not self._wake.is_set():
            self._wake.set()

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything that is in the spool now is stored.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether the spool is empty.
        """
        if self._spool.empty():
            return True
        self.start()
        deadline = time.monotonic() + timeout
        self.hurry = True
        self._wake.set()
        try:
            with self._idle:
                while not self._spool.empty():
                    left = deadline - time.monotonic()
                    if left <= 0 or self._thread is None or not self._thread.is_alive():
                        return self._spool.empty()
                    self._idle.wait(min(left, 0.1))
        finally:
            self.hurry = False
        return True

    def close(self, timeout: float = EXIT_SECONDS) -> None:
        """Flush for *timeout* seconds at most, then end the thread. It starts again with the next finished call."""
        with safely("close"):
            self.flush(timeout)
            with self._start_lock:
                thread, self._thread = self._thread, None
                self._stop.set()
                self._wake.set()
            if thread is not None and thread is not threading.current_thread():
                thread.join(1.0)
            if thread is None or not thread.is_alive():
                self._spool.close()

    def pause(self, timeout: float = 1.0) -> bool:
        """Wait until nothing is being written and let nothing be written until :meth:`resume`: before a fork.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether it holds still; :meth:`resume` is to be called only then.
        """
        return self._turn_lock.acquire(timeout=timeout)

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._turn_lock.release()

    def reset_after_fork(self) -> None:
        """A forked child has no thread and fresh locks."""
        self.__init__(self._spool, self._pipeline, self._open_sinks)  # type: ignore[misc]

    def _run(self, stop: threading.Event) -> None:
        with suppress():  # what the sinks themselves call is not recorded
            self._failures = 0
            while not stop.is_set():
                self._wake.wait(PAUSE_SECONDS if self._spool.empty() else 0.0)
                if not self.hurry and not self._spool.empty():
                    stop.wait(GATHER_SECONDS)
                self._wake.clear()
                self._spool.tend()
                try:
                    started = time.thread_time_ns()
                    with self._turn_lock:
                        self._turn(stop)
                    self.cpu_ns += time.thread_time_ns() - started
                    self._failures = 0
                    self.last_error = None
                except Exception as error:  # noqa: BLE001 - the batch stays spooled and is tried again
                    self._failures += 1
                    self.last_error = f"{type(error).__name__}"
                    report("store", error)
                    low, high = RETRY_SECONDS
                    self._rest(stop, random.uniform(0.5, 1.0) * min(high, low * 2 ** min(self._failures, 6)))

    def _rest(self, stop: threading.Event, seconds: float) -> None:
        """Wait before the next try; the spool fills up in the meantime."""
        until = time.monotonic() + seconds
        while not stop.is_set() and (left := until - time.monotonic()) > 0:
            stop.wait(min(left, PAUSE_SECONDS))
            self._spool.tend()

    def _turn(self, stop: threading.Event) -> None:
        """Everything that waits, in batches; then what has been running for long."""
        while batch := self._spool.take(BATCH):
            self._write(batch)
            if stop.is_set():
                break
        running = self._spool.running(RUNNING_AFTER_NS)
        if running:
            records = [record for exchange in running if (record := self._made(self._pipeline.running, exchange))]
            records += open_roots(running)
            for sink in self._opened():
                write(sink, records, patient=self._failures < PATIENCE)
        with self._idle:
            self._idle.notify_all()

    def _opened(self) -> Sequence[Sink]:
        if self._sinks is None:
            self._sinks = self._open_sinks()
        return self._sinks

    def _made(self, make: Callable[..., Span], entry: Entry) -> Span | None:
        with safely("pipeline"):
            return make(entry)
        return None

    def _write(self, batch: Sequence[Entry]) -> None:
        sinks = self._opened()
        records = [record for entry in batch if (record := self._made(self._pipeline.process, entry))]
        unread = len(batch) - len(records)
        roots = open_roots(batch)
        patient = self._failures < PATIENCE
        refused = max([write(sink, records, patient=patient) for sink in sinks], default=0)
        if roots:
            for sink in sinks:
                write(sink, roots, patient=patient)
        dropped = {reason: count for reason, count in (("unreadable", unread), ("refused", refused)) if count}
        self._spool.done(len(records) - refused, dropped)
        with self._idle:
            self._idle.notify_all()


def write(sink: Sink, records: Sequence[Span], *, patient: bool) -> int:
    """Give *records* to *sink*; how many it refused.

    Args:
        sink: Where they go.
        records: What it gets.
        patient: Whether an unexpected error is raised, to try again; else what causes it is found and left out.

    Raises:
        LLMObsError: The sink's store is away: try again later.
    """
    try:
        return sink.write(records).refused
    except LLMObsError:
        raise
    except Exception as error:
        if patient:
            raise
        report("sink", error)
        if len(records) <= 1:
            return len(records)
    half = len(records) // 2
    return write(sink, records[:half], patient=False) + write(sink, records[half:], patient=False)


def open_roots(entries: Sequence[Entry]) -> list[Span]:
    """The roots, still running, of calls that are written before their root is; each once."""
    found = []
    for entry in entries:
        trace = entry.trace if isinstance(entry, Exchange) else None
        if trace is not None and not trace.root_told:
            with safely("open root"):
                root = trace.open_root()
                trace.root_told = True
                if root is not None:
                    found.append(root)
    return found
