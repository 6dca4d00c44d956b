"""One thread of each process that takes finished calls from the spool, makes records of them, and feeds the sinks."""

import atexit
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextlib import suppress as ignored
from dataclasses import replace
from typing import NamedTuple, Protocol

from asgi_llmobs.context import suppress
from asgi_llmobs.errors import LLMObsError, StoreError, Trouble
from asgi_llmobs.pace import hurried, paced
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.records import Exchange, Request, Span, Written
from asgi_llmobs.safely import report, safely
from asgi_llmobs.spool import Entry, Spool

__all__ = ["Sink", "Writer"]

BATCH = 500
BACKLOG = 2 * BATCH  # so many wait only where the writer hardly gets to run, or the store is away
BREATH, MOST = 0.0002, 4  # the pause that each call of the app makes for it then, times how far it is behind
RAN_NS = 20_000  # of CPU in such a pause: it was wanted
ALONE_SECONDS, LONGEST_ALONE_SECONDS = 0.005, 5.0  # until the next pause after one of those
GATHER_SECONDS = 0.2  # a batch gathers for so long, unless it is full before: small ones cost twice as much a call
GLANCE_SECONDS = 0.05  # how often it is looked whether it is: each time the app has to let go of the interpreter
PAUSE_SECONDS = 0.25  # longest time that a finished call waits while the store is well
RUNNING_AFTER_NS = 2_000_000_000
PATIENCE = 3  # times that an unexpected error of a sink may pass by itself
RETRY_SECONDS = (0.25, 4.0)  # the first and the longest pause after a failure
PAUSES = {Trouble.TRANSIENT: 0.5, Trouble.NEWER: 8.0, Trouble.BUG: 2.5}  # that are shorter or longer than this
HURRIED_SECONDS = 0.25  # the pause while somebody waits for the end
NO_THREAD_SECONDS = 1.0  # until it is tried again where no thread could be started
BUSY_SECONDS = 5.0  # that a fork waits for a batch under way at most
OPEN_SECONDS = 30.0  # and for the first one
LOAD_SECONDS = 10.0  # that the end waits besides for the very first batch, which imports the store
LOAD_DURABLE_SECONDS = 2.0  # where what waits is not lost
EXIT_SECONDS = 2.0
TEND_SECONDS = 0.05  # how often the spool is looked after while the store is away


SAYS = {
    Trouble.TRANSIENT: "the store is locked or busy: what is captured waits",
    Trouble.AWAY: "the store cannot be reached: what is captured waits",
    Trouble.FULL: "the disk of the store is full: what is captured waits, its content goes first",
    Trouble.READ_ONLY: "the store cannot be written, it is read-only or lacks a permission: what is captured waits",
    Trouble.DAMAGED: "the store is damaged: what is captured waits",
    Trouble.NEWER: "the store was written by a newer asgi_llmobs: what is captured waits until this one is upgraded",
    Trouble.BUG: "the store failed: what is captured waits",
}


class Sink(Protocol):
    """Where records go."""

    def write(self, batch: Sequence[Span]) -> Written:
        """Store *batch*, all or nothing but for records that are refused for good.

        Raises:
            LLMObsError: It cannot now; the same is tried again later.
        """


class Bell:
    """Wakes a thread. Unlike an event it may be rung by a finalizer that interrupts the one who rings or waits."""

    def __init__(self) -> None:
        self._rung: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        if self._rung.empty():
            self._rung.put(None)

    def wait(self, seconds: float) -> None:
        """Until it rings, *seconds* at most."""
        try:
            self._rung.get(timeout=seconds)
        except queue.Empty:
            return

    def silence(self) -> None:
        """Forget that it rang."""
        while not self._rung.empty():
            self.wait(0)


class Batch(NamedTuple):
    """What was made of the entries that were taken: kept until it is stored, however often that is tried."""

    records: list[Span]
    roots: list[Span]
    unread: int


class Writer:
    """Drains a spool into sinks. One that has a method ``tend`` is looked after between batches.

    Args:
        spool: Where finished calls wait.
        pipeline: Makes records of them.
        open_sinks: Gives the sinks; called in the writer's thread, at the first batch.
        chore: Something small to be done in the thread now and then, between batches.
        farewell: Something small to be done at its end, where everything is stored.
    """

    def __init__(
        self,
        spool: Spool,
        pipeline: Pipeline,
        open_sinks: Callable[[], Sequence[Sink]],
        chore: Callable[[], None] | None = None,
        farewell: Callable[[], None] | None = None,
    ) -> None:
        self._spool = spool
        self._pipeline = pipeline
        self._open_sinks = open_sinks
        self._chore = chore
        self._farewell = farewell
        self._sinks: Sequence[Sink] | None = None
        self._bell = Bell()
        self._batch: Batch | None = None
        self._stop = threading.Event()  # of the thread that runs now: one that is still ending keeps its own
        self._idle = threading.Condition()
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._turn_lock = threading.Lock()
        self._pausing = False
        self._resting = False  # the store is away
        self._clock: int | None = None  # of the thread's CPU, where the system has one
        self._alone_until, self._alone_seconds = 0.0, ALONE_SECONDS
        self._failures = 0  # in a row
        self._no_thread_until = 0.0
        self._full_since: int | None = None  # how many bodies the spool had given up when the store's disk was full
        self.bodies_dropped = 0  # of what was stored without them, because there was no room
        self.last_error: str | None = None
        self.cpu_ns = 0
        self.batches = self.batch_ns = 0  # how many, and how long the last one took
        self._hurry = threading.Event()  # somebody waits for the end

    def start(self) -> None:
        """Start the thread, once; at interpreter shutdown nothing happens."""
        if self._thread is not None and self._thread.is_alive():
            return
        if sys.is_finalizing():  # a thread started now never runs, and start() would wait for it for ever
            return
        if time.monotonic() < self._no_thread_until:
            return
        if not self._start_lock.acquire(blocking=False):
            return  # somebody is at it: another thread, or this one before a finalizer interrupted it
        try:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stop = threading.Event()
            thread = threading.Thread(target=self._run, args=(self._stop,), name="llmobs-writer", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no new threads while the interpreter shuts down, or there are too many
                self._no_thread_until = time.monotonic() + NO_THREAD_SECONDS
                return
            self._thread = thread
        finally:
            self._start_lock.release()
        atexit.unregister(self.close)
        atexit.register(self.close)

    def woken(self) -> None:
        """Something was put into the spool.

        Where the app computes on and on, the thread would get to run for a hundredth of the time: once it has fallen
        behind, each call of the app makes room for it.
        """
        if self._thread is None or not self._thread.is_alive():
            self.start()
        self._bell.ring()
        # the first batch imports the store, and a fork waits for a batch: neither may take long
        behind = MOST if self._sinks is None or self._pausing else self._spool.waiting() // BACKLOG
        if behind and not self._resting:
            self._make_room(behind)

    def _make_room(self, behind: int) -> None:
        """Let the thread run for a moment; not again soon where it did not want to, as when it waits for the store."""
        clock = self._clock
        if clock is None or time.monotonic() < self._alone_until:
            return
        with ignored(OSError):  # it has just ended
            before = time.clock_gettime_ns(clock)
            time.sleep(BREATH * min(behind, MOST))
            if time.clock_gettime_ns(clock) - before < RAN_NS:
                self._alone_seconds = min(2 * self._alone_seconds, LONGEST_ALONE_SECONDS)
                self._alone_until = time.monotonic() + self._alone_seconds
            else:
                self._alone_seconds = ALONE_SECONDS

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything that is in the spool now is stored.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether the spool is empty.
        """
        with safely("flush"):
            return self._flush(timeout)
        return False

    def _flush(self, timeout: float) -> bool:
        if self._spool.empty():
            return True
        if sys.is_finalizing():  # the thread has stopped, maybe with a lock in hand
            return False
        self.start()
        deadline = time.monotonic() + timeout
        self._hurry.set()
        self._bell.ring()
        try:
            with self._idle:
                while not self._spool.empty():
                    left = deadline - time.monotonic()
                    if left <= 0 or self._thread is None or not self._thread.is_alive():
                        return self._spool.empty()
                    self._idle.wait(min(left, 0.1))
        finally:
            self._hurry.clear()
        return True

    def close(self, timeout: float = EXIT_SECONDS) -> None:
        """Flush for *timeout* seconds at most, then end the thread. It starts again with the next finished call."""
        with safely("close"):
            if not self.flush(timeout) and self._would_be_lost():
                self.flush(self._patience(timeout))
            with self._start_lock:
                thread, self._thread = self._thread, None
                self._stop.set()
                self._bell.ring()
            if thread is not None and thread is not threading.current_thread():
                thread.join(1.0)
            if thread is None or not thread.is_alive():
                self._spool.close()

    def _would_be_lost(self) -> bool:
        """Whether the very first batch is still at it, and what it holds would not outlive the process."""
        counters = self._spool.counters()
        return not (counters.durable or counters.stored or self.last_error is not None)

    def _patience(self, timeout: float) -> float:
        """Seconds that the end waits besides, where nothing was stored yet."""
        if self._sinks is not None:
            return timeout
        return LOAD_DURABLE_SECONDS if self._spool.counters().durable else LOAD_SECONDS

    def pause(self, seconds: float = BUSY_SECONDS) -> bool:
        """Wait until nothing is being written and let nothing be written until :meth:`resume`: before a fork.

        The first batch imports the store: a child with half of it imported could not store anything, ever.

        Args:
            seconds: For how long it waits for any other batch.

        Returns:
            Whether it holds still; :meth:`resume` is to be called only then.
        """
        self._pausing = True
        self._alone_until = 0.0
        try:
            with hurried():
                return self._turn_lock.acquire(timeout=OPEN_SECONDS if self._sinks is None else seconds)
        finally:
            self._pausing = False

    @contextmanager
    def _still(self) -> Iterator[None]:
        self._let_forks_go()
        with self._turn_lock:
            yield

    def _let_forks_go(self) -> None:
        while self._pausing:  # a lock alone would go to the thread that just gave it up
            time.sleep(0.001)

    def _stand_back(self) -> None:
        """Let a fork that waits go before the batch is done: nothing of it is half written here."""
        if self._pausing:
            self._turn_lock.release()
            try:
                self._let_forks_go()
            finally:
                self._turn_lock.acquire()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._turn_lock.release()

    def reset_after_fork(self) -> None:
        """A forked child has no thread and fresh locks."""
        self.__init__(self._spool, self._pipeline, self._open_sinks, self._chore, self._farewell)  # type: ignore[misc]

    def _run(self, stop: threading.Event) -> None:
        if hasattr(time, "pthread_getcpuclockid"):
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
        with suppress():  # what the sinks themselves call is not recorded
            self._failures = 0
            while not stop.is_set():
                try:
                    self._round(stop)
                except Exception as error:  # noqa: BLE001 - the batch stays spooled and is tried again
                    with safely("writer"):
                        self._failed(error, stop)
            if self._farewell is not None and self.batches and not self._failures:
                with self._still(), safely("farewell"):
                    self._farewell()

    def _round(self, stop: threading.Event) -> None:
        """Wait for something, and write it."""
        self._bell.wait(PAUSE_SECONDS if self._spool.empty() else 0.0)
        self._gather(stop)
        self._bell.silence()
        self._spool.tend()
        started = time.thread_time_ns()
        self._turn(stop)
        self.cpu_ns += time.thread_time_ns() - started
        self._failures = 0
        self.last_error = None
        self._do_chore(stop)

    def _failed(self, error: Exception, stop: threading.Event) -> None:
        """Tell what happened, and wait before the next try."""
        self._failures += 1
        trouble = error.trouble if isinstance(error, StoreError) else Trouble.BUG
        self.last_error = f"{SAYS[trouble]} ({type(error).__name__})"
        report(f"store ({trouble})", error, SAYS[trouble])
        if trouble == Trouble.FULL:
            if self._full_since is None:
                self._full_since = self._spool.counters().bodies_dropped
            self._do_chore(stop)  # retention may make room
        low, high = RETRY_SECONDS
        pause = min(high, low * 2 ** min(self._failures, 6)) * PAUSES.get(trouble, 1.0)
        self._rest(stop, random.uniform(0.5, 1.0) * pause)

    def _rest(self, stop: threading.Event, seconds: float) -> None:
        """Wait before the next try; the spool fills up in the meantime."""
        begun = now = time.monotonic()
        self._resting = True
        while not stop.is_set() and now - begun < (min(seconds, HURRIED_SECONDS) if self._hurry.is_set() else seconds):
            stop.wait(min(seconds, TEND_SECONDS))
            self._spool.tend()
            now = time.monotonic()
        self._resting = False

    def _gather(self, stop: threading.Event) -> None:
        """Let a batch grow, if one has begun."""
        enough = time.monotonic() + GATHER_SECONDS
        while not stop.is_set() and 0 < self._spool.waiting() < BATCH and time.monotonic() < enough:
            if self._hurry.wait(GLANCE_SECONDS):
                break

    def _turn(self, stop: threading.Event) -> None:
        """What waits, in batches, but for what comes meanwhile; then what has been running for long."""
        full = True
        # the next one gathers: small ones cost ten times as much
        while not stop.is_set() and (full or self._hurry.is_set()):
            with self._still():
                batch = self._spool.take(BATCH)
                if not batch:
                    break
                full = len(batch) >= BATCH
                self._write(batch)
        running = self._spool.running(RUNNING_AFTER_NS)
        if running:
            records = [record for exchange in running if (record := self._made(self._pipeline.running, exchange))]
            records += open_roots(running)
            with self._still():
                for sink in self._opened():
                    write(sink, records, patient=self._failures < PATIENCE)
        with self._idle:
            self._idle.notify_all()

    def _do_chore(self, stop: threading.Event) -> None:
        if self._hurry.is_set() or stop.is_set():
            return
        for sink in self._sinks or ():
            tend = getattr(sink, "tend", None)
            if tend is not None:
                with self._still(), safely("upkeep"):
                    tend()
        if self._chore is not None:
            with self._still(), safely("chore"):
                self._chore()

    def _opened(self) -> Sequence[Sink]:
        if self._sinks is None:
            self._sinks = self._open_sinks()
        return self._sinks

    def _made(self, make: Callable[..., Span], entry: Entry) -> Span | None:
        with safely("pipeline"):
            return make(entry)
        return None

    def _pressed(self) -> bool:
        """Whether the store has no room, and the spool had to give content up already."""
        return self._full_since is not None and self._spool.counters().bodies_dropped > self._full_since

    def _bare(self, batch: Batch) -> Batch:
        """*batch* without content: it takes little room, and the spool goes on."""
        bare = [without_content(record) for record in batch.records]
        self.bodies_dropped += sum(one is not other for one, other in zip(bare, batch.records, strict=True))
        return batch._replace(records=bare)

    def _write(self, entries: Sequence[Entry]) -> None:
        sinks = self._opened()
        started = time.monotonic_ns()
        batch = self._batch
        if batch is None:
            records = []
            for entry in paced(entries):
                record = self._made(self._pipeline.process, entry)
                if record is not None:
                    records.append(record)
                self._stand_back()
            batch = self._batch = Batch(records, open_roots(entries), len(entries) - len(records))
        if self._pressed():
            batch = self._batch = self._bare(batch)
        patient = self._failures < PATIENCE
        refused = max([write(sink, batch.records, patient=patient) for sink in sinks], default=0)
        if batch.roots:
            for sink in sinks:
                write(sink, batch.roots, patient=patient)
        dropped = {reason: count for reason, count in (("unreadable", batch.unread), ("refused", refused)) if count}
        self._batch = None
        if self._full_since is not None:  # there is room again once something with content was stored
            full = any(without_content(record) is not record for record in batch.records)
            self._full_since = None if full else self._spool.counters().bodies_dropped
        self.last_error = None  # before anybody is told that the spool is empty
        self._spool.done(len(batch.records) - refused, dropped)
        self.batches += 1
        self.batch_ns = time.monotonic_ns() - started
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


def without_content(record: Span) -> Span:
    """*record* itself where it has no content, else one without."""
    if isinstance(record, Request):
        kept = record.request_body is None and record.response_body is None
        return record if kept else replace(record, request_body=None, response_body=None)
    return record if record.input is record.output is None else replace(record, input=None, output=None)


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
