"""Deletes what is older, larger or more than we promised to keep: whole traces, oldest first, in small steps."""

import heapq
import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from asgi_llmobs.config import Retention
from asgi_llmobs.store import removal
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.leases import Lease
from asgi_llmobs.store.removal import OldTrace
from asgi_llmobs.store.values import name

__all__ = ["Pruned", "Retention", "Sweeper", "prune"]

STEP = 200  # spans that go in one transaction at most
PAUSE_SECONDS = 0.05  # in which others may write
SWEEP_PAUSE_SECONDS = 0.2
SWEEP_SECONDS = 300.0  # between two looks at what is to go
LEASE_SECONDS = 120.0


class Pruned(NamedTuple):
    """What went, or would go: spans of any kind, and the bytes of their rows, about."""

    spans: int
    bytes: int


def prune(
    database: Database,
    retention: Retention,
    *,
    project: str | None = None,
    now_ns: int | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Delete what lies beyond *retention*, and give the space back. Blocking, and it takes its time.

    A sweep of another process that is under way stops.

    Args:
        database: The store.
        retention: What is kept.
        project: Whose traces; of all projects together unless given.
        now_ns: What ages are counted from; now unless given.
        dry_run: Delete nothing, only say what would go.

    Raises:
        StoreError: The database cannot be read or written.
    """
    lease = None if dry_run else lease_of(database, project)
    if lease is not None:
        lease.take(LEASE_SECONDS, force=True)
    spans = size = 0
    for step in steps(database, retention, project, now_ns, lease):
        spans, size = spans + step.spans, size + step.bytes
        if not dry_run:
            time.sleep(PAUSE_SECONDS)
    return Pruned(spans, size)


class Sweeper:
    """Keeps a project within its limits, one small step at a time, in one process of all that share the store."""

    def __init__(self, database: Database, retention: Retention, project: str) -> None:
        self._database = database
        self._retention = retention
        self._project = project
        self._lease = lease_of(database, project)
        self._due = 0.0
        self._steps: Iterator[Pruned] | None = None

    def step(self) -> None:
        """Do a little, if it is time.

        Raises:
            StoreError: The database cannot be read or written; it is tried again at the next look.
        """
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + SWEEP_SECONDS
        work, self._steps = self._steps, None
        if work is None:
            if not self._lease.take(LEASE_SECONDS):
                return
            work = steps(self._database, self._retention, self._project, None, self._lease)
        if next(work, None) is not None:
            self._steps = work
            self._due = now + SWEEP_PAUSE_SECONDS


def lease_of(database: Database, project: str | None) -> Lease:
    return Lease(database, "retention" if project is None else f"retention {name(project)}")


def steps(
    database: Database, retention: Retention, project: str | None, now_ns: int | None, lease: Lease | None
) -> Iterator[Pruned]:
    """Delete under *lease*; without one only say what would go. What each step did, often nothing but a look."""
    now = time.time_ns() if now_ns is None else now_ns
    with database.read(fresh=True) as connection:
        names = removal.projects(connection) if project is None else [name(project) or ""]
        excess = 0 if retention.spans is None else removal.span_count(connection, names) - retention.spans
    scale, excess_bytes = 1.0, 0.0
    if retention.size_bytes is not None:
        scale, size = yield from measured(database, names, retention.size_bytes)
        excess_bytes = size - retention.size_bytes
    before_ns = -(2**63) if retention.age_ns is None else now - retention.age_ns
    for group in grouped(beyond(database, names, before_ns, excess, excess_bytes, scale)):
        weight = int(sum(trace.weight for trace in group) * scale)
        if lease is None:
            yield Pruned(sum(trace.spans for trace in group), weight)
        elif not (yield from taken_out(database, group, weight, lease)):
            return
    if lease is not None:
        for _ in removal.shrink(database):
            yield Pruned(0, 0)
        with database.write() as connection:
            lease.renew(connection, SWEEP_SECONDS)


def measured(database: Database, names: Sequence[str], limit: int) -> Generator[Pruned, None, tuple[float, float]]:
    """How much larger the database is than the contents of its rows, and what of it *names* take.

    Rows are weighed only where the database as a whole is larger than *limit*.
    """
    with database.read(fresh=True) as connection:
        live = removal.live_bytes(connection)
    if live is not None and live <= limit:
        return 1.0, 0.0
    own = every = 0
    for stretch in removal.weighed(database):
        every += sum(stretch.values())
        own += sum(stretch.get(one, 0) for one in names)
        yield Pruned(0, 0)
    scale = live / every if live is not None and every else 1.0
    return scale, own * scale


def beyond(
    database: Database, names: Sequence[str], before_ns: int, excess: int, excess_bytes: float, scale: float
) -> Iterator[OldTrace]:
    """The traces that are to go, oldest first: as many as it takes, and those that ended before *before_ns*."""
    every = heapq.merge(*(removal.oldest_traces(database, one) for one in names), key=lambda trace: trace.start_ns)
    for trace in every:
        over = excess > 0 or excess_bytes > 0
        if not over and trace.start_ns >= before_ns:
            return
        if over or trace.end_ns < before_ns:
            excess -= trace.spans
            excess_bytes -= trace.weight * scale
            yield trace


def grouped(traces: Iterator[OldTrace]) -> Iterator[list[OldTrace]]:
    """The traces in groups for one step each; one that is too large for a step stands alone."""
    group: list[OldTrace] = []
    spans = 0
    for trace in traces:
        if group and (spans + trace.spans >= STEP or len(group) >= STEP):
            yield group
            group, spans = [], 0
        group.append(trace)
        spans += trace.spans
    if group:
        yield group


def taken_out(
    database: Database, group: Sequence[OldTrace], weight: int, lease: Lease
) -> Generator[Pruned, None, bool]:
    """Delete a group; ``False`` where the lease was taken away before it was all gone."""
    by_project: dict[str, list[str]] = defaultdict(list)
    for trace in group:
        by_project[trace.project].append(trace.trace_id)
    left = True
    while left:
        gone = 0
        with database.write() as connection:
            if not lease.renew(connection, LEASE_SECONDS):
                return False
            for project, traces in by_project.items():
                if gone < STEP:
                    gone += removal.remove(connection, project, traces, limit=STEP - gone)
        left = gone >= STEP
        yield Pruned(gone, 0 if left else weight)
    return True
