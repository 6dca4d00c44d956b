"""Deletes what is older, larger or more than we promised to keep: whole traces, oldest first, in small steps.

Bodies may have limits of their own: then they go first, and their spans stay. On PostgreSQL a day whose traces are all
too old goes at once.
"""

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from asgi_llmobs.errors import StoreError, Trouble
from asgi_llmobs.limits import Plan, Retention
from asgi_llmobs.store import expiry, partitions, pins, removal, scores
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.leases import Lease
from asgi_llmobs.store.removal import OldTrace
from asgi_llmobs.store.values import name

__all__ = ["Pace", "Pruned", "Retention", "Sweeper", "prune"]

STEP = 200  # spans that go in one transaction at most
LEAST_STEP = 20
STEP_SECONDS = 0.02  # that one transaction should hold up others
PAUSE_SECONDS = 0.05  # in which others may write
SWEEP_PAUSE_SECONDS = 0.2
SWEEP_SECONDS = 300.0  # between two looks at what is to go
AGAIN_SECONDS = 5.0  # after one that failed: on a full disk nothing else makes room
FULL_SECONDS = 86_400.0  # between two looks at whether bodies came in late that are old already
LEASE_SECONDS = 120.0
LEAP_NS = 3_600_000_000_000  # that the clock may be ahead of what it was and has run since
LONG_NS = 86_400_000_000_000  # that a trace may last and still have its bodies looked at with each sweep
NOTHING = -(2**63)
DAY_NS = partitions.DAY_NS
LATE_AGE_NS = 3 * DAY_NS  # from which on traces may wait for the end of their day, to go with it
DROPS = 3  # tries to drop a day while somebody reads; then it goes in small steps


class Pruned(NamedTuple):
    """What went, or would go: spans of any kind, bytes of all rows, about, and spans that only lost their bodies."""

    spans: int
    bytes: int
    stripped: int = 0


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
    now = time.time_ns() if now_ns is None else now_ns
    spans = size = stripped = 0
    work = steps(database, retention, project, now, lease)
    if lease is not None and retention.age_ns is not None:
        with database.read(fresh=True) as connection:
            names = removal.projects(connection) if project is None else [name(project) or ""]
        limits = dict.fromkeys(names, now - retention.age_ns)
        work = chain(whole_days(database, limits, lease), work)
    for step in work:
        spans, size, stripped = spans + step.spans, size + step.bytes, stripped + step.stripped
        if not dry_run:
            time.sleep(PAUSE_SECONDS)
    return Pruned(spans, size, stripped)


class Sweeper:
    """Keeps projects within their limits, one small step at a time, in one process of all that share the store.

    Args:
        database: The store.
        plan: What is kept of each project; one retention stands for that of *project* alone.
        project: That of the engine.
    """

    def __init__(self, database: Database, plan: Plan | Retention, project: str) -> None:
        self._database = database
        self._plan = plan if isinstance(plan, Plan) else Plan(own=plan)
        self._project = project
        self._leases: dict[str, Lease] = {}
        self._stripped: dict[str, tuple[int, float]] = {}  # up to where bodies went, and when all were looked at
        self._due = 0.0
        self._steps: Iterator[Pruned] | None = None
        self._began = time.time_ns(), time.monotonic_ns()

    def step(self) -> None:
        """Do a little, if it is time.

        Raises:
            StoreError: The database cannot be read or written; it is tried again soon.
        """
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + AGAIN_SECONDS
        work, self._steps = self._steps, None
        if work is None:
            work = self._sweep()
        more = next(work, None) is not None
        self._due = now + SWEEP_SECONDS
        if more:
            self._steps = work
            self._due = now + SWEEP_PAUSE_SECONDS

    def _sweep(self) -> Iterator[Pruned]:
        """All steps of one look at every project that has limits."""
        every = self._limits()
        yield from self._whole_days(every)
        for project, limits in every.items():
            lease = self._leases.setdefault(project, lease_of(self._database, project))
            if not lease.take(LEASE_SECONDS):
                continue
            since, looked = self._stripped.get(project, (NOTHING, 0.0))
            if time.monotonic() - looked > FULL_SECONDS:
                since, looked = NOTHING, time.monotonic()
            self._stripped[project] = since, looked

            def reached(start_ns: int, project: str = project, looked: float = looked) -> None:
                self._stripped[project] = start_ns, looked

            yield from steps(self._database, self._late(limits), project, self._now(), lease, since, reached)

    def _whole_days(self, every: Mapping[str, Retention]) -> Iterator[Pruned]:
        """Days that all projects together have done with."""
        ages = {name(project) or "": limits.age_ns for project, limits in every.items() if limits.age_ns is not None}
        lease = self._leases.setdefault("", lease_of(self._database, None))
        if not self._database.sqlite and ages and lease.take(LEASE_SECONDS):
            now = self._now()
            yield from whole_days(self._database, {project: now - age for project, age in ages.items()}, lease)

    def _late(self, limits: Retention) -> Retention:
        """*limits* as they are kept in small steps: what can go with its day is not taken out before that is over."""
        age = limits.age_ns
        if self._database.sqlite or age is None or age < LATE_AGE_NS:
            return limits
        return replace(limits, age_ns=age + (self._now() - age) % DAY_NS)

    def _limits(self) -> dict[str, Retention]:
        own = self._plan.of(self._project, own=True)
        found = {} if own is None else {self._project: own}
        found.update({other: limits for other, limits in self._plan.projects.items() if other != self._project})
        if self._plan.others is not None:
            with self._database.read(fresh=True) as connection:
                for other in removal.projects(connection):
                    found.setdefault(other, self._plan.others)
        return found

    def _now(self) -> int:
        """What ages are counted from: a clock that was set ahead by mistake must not make everything old."""
        wall, steady = self._began
        return min(time.time_ns(), wall + time.monotonic_ns() - steady + LEAP_NS)


def lease_of(database: Database, project: str | None) -> Lease:
    return Lease(database, "retention" if project is None else f"retention {name(project)}")


def steps(
    database: Database,
    retention: Retention,
    project: str | None,
    now_ns: int,
    lease: Lease | None,
    stripped_ns: int = NOTHING,
    reached: Callable[[int], None] = lambda start_ns: None,
) -> Iterator[Pruned]:
    """Delete under *lease*; without one only say what would go. What each step did, often nothing but a look.

    Args:
        database: The store.
        retention: What is kept.
        project: Whose; of all projects together where ``None``.
        now_ns: What ages are counted from.
        lease: The right to do it.
        stripped_ns: Traces that began earlier have no bodies that are too old.
        reached: Told before which start no trace has any now.
    """
    with database.read(fresh=True) as connection:
        names = removal.projects(connection) if project is None else [name(project) or ""]
    if retention.records:
        traces = yield from doomed(database, retention, names, now_ns)
        yield from gone(database, traces, lease, removal.remove)
    if retention.age_ns is not None and lease is not None:
        yield from lost_scores(database, names, now_ns - retention.age_ns)
    if retention.bodies:
        traces = yield from bare(database, retention, names, now_ns, stripped_ns)
        complete = yield from gone(database, traces, lease, removal.strip)
        if complete and retention.bodies_age_ns is not None:
            reached(now_ns - retention.bodies_age_ns)
    if lease is not None:
        for _ in removal.shrink(database):
            yield Pruned(0, 0)
        with database.write() as connection:
            lease.renew(connection, SWEEP_SECONDS)


def whole_days(database: Database, limits: Mapping[str, int], lease: Lease) -> Iterator[Pruned]:
    """Drop the days of arrival in which everything is too old, on PostgreSQL; what each step did.

    Args:
        database: The store.
        limits: For each project, by its stored name, before when its traces must have ended.
        lease: The right to do it.
    """
    if database.sqlite or not limits:
        return
    with database.read(fresh=True) as connection:
        over = [day for day in partitions.days(connection) if day.end_ns <= max(limits.values())]
    for day in over:
        with database.read(fresh=True) as connection:
            found = expiry.standing(connection, day, limits)
        if not found.may_go:
            continue
        apart = (OldTrace(one, id, 0, 0, 1, 0) for one, traces in found.stragglers.items() for id in traces)
        yield from gone(database, apart, lease, removal.remove)
        for _ in range(DROPS):
            step = dropped(database, day, limits, lease)
            yield step or Pruned(0, 0)
            if step is not None:
                break


def dropped(database: Database, day: partitions.Day, limits: Mapping[str, int], lease: Lease) -> Pruned | None:
    """Drop *day*; ``None`` where somebody reads it for so long that it should be tried again."""
    try:
        with database.write() as connection:
            if not lease.renew(connection, LEASE_SECONDS):
                return Pruned(0, 0)
            return Pruned(*(expiry.drop_day(connection, day, limits) or (0, 0)))
    except StoreError as error:
        if error.trouble != Trouble.TRANSIENT:
            raise
        return None


def lost_scores(database: Database, names: Sequence[str], before_ns: int) -> Iterator[Pruned]:
    """Delete old judgements of what is not there: nothing else would take them along."""
    for one in names:
        while scores.forget_lost(database, one, before_ns, limit=STEP) >= STEP:
            yield Pruned(0, 0)


def doomed(
    database: Database, retention: Retention, names: Sequence[str], now_ns: int
) -> Generator[Pruned, None, Iterator[OldTrace]]:
    """The traces that are to go."""
    excess = 0
    if retention.spans is not None:
        with database.read(fresh=True) as connection:
            excess = removal.span_count(connection, names) - retention.spans
    scale, excess_bytes = 1.0, 0.0
    if retention.size_bytes is not None:
        scale, size = yield from measured(database, names, retention.size_bytes)
        excess_bytes = size - retention.size_bytes
    before_ns = NOTHING if retention.age_ns is None else now_ns - retention.age_ns
    every = [removal.oldest_traces(database, one) for one in names]
    return beyond(every, before_ns, excess, excess_bytes, scale)


def bare(
    database: Database, retention: Retention, names: Sequence[str], now_ns: int, since_ns: int
) -> Generator[Pruned, None, Iterator[OldTrace]]:
    """The traces whose bodies are to go."""
    excess, excess_bytes = 0, 0.0
    if retention.bodies_spans is not None or retention.bodies_size_bytes is not None:
        spans = size = 0
        for stretch in removal.weighed(database, bodies=True):
            spans += sum(stretch.get(one, (0, 0))[0] for one in names)
            size += sum(stretch.get(one, (0, 0))[1] for one in names)
            yield Pruned(0, 0)
        excess = 0 if retention.bodies_spans is None else spans - retention.bodies_spans
        excess_bytes = 0 if retention.bodies_size_bytes is None else size - retention.bodies_size_bytes
        since_ns = NOTHING
    before_ns = NOTHING if retention.bodies_age_ns is None else now_ns - retention.bodies_age_ns
    # a trace that began before what is known to be done may have ended after it
    since = None if since_ns == NOTHING else since_ns - LONG_NS
    every = [removal.oldest_traces(database, one, bodies=True, since_ns=since) for one in names]
    return (trace for trace in beyond(every, before_ns, excess, excess_bytes, 1.0) if trace.spans)


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
        every += sum(weight for _, weight in stretch.values())
        own += sum(stretch.get(one, (0, 0))[1] for one in names)
        yield Pruned(0, 0)
    scale = live / every if live is not None and every else 1.0
    return scale, own * scale


def beyond(
    projects: Sequence[Iterator[OldTrace]], before_ns: int, excess: int, excess_bytes: float, scale: float
) -> Iterator[OldTrace]:
    """The traces that are to go, oldest first: as many as it takes, and those that ended before *before_ns*."""
    for trace in heapq.merge(*projects, key=lambda trace: trace.start_ns):
        over = excess > 0 or excess_bytes > 0
        if not over and trace.start_ns >= before_ns:
            return
        if over or trace.end_ns < before_ns:
            excess -= trace.spans
            excess_bytes -= trace.weight * scale
            yield trace._replace(weight=int(trace.weight * scale))


class Pace:
    """How many spans go in one transaction: as many as a moment is enough for, on this machine and just now."""

    def __init__(self) -> None:
        self.spans = STEP // 2

    def took(self, spans: int, seconds: float) -> None:
        """So many went in so long."""
        fit = int(spans * STEP_SECONDS / max(seconds, 1e-6))
        self.spans = max(LEAST_STEP, min(STEP, (self.spans + fit) // 2))


def grouped(traces: Iterator[OldTrace], pace: Pace) -> Iterator[list[OldTrace]]:
    """The traces in groups for one step each; one that is too large for a step stands alone."""
    group: list[OldTrace] = []
    spans = 0
    for trace in traces:
        if group and (spans + trace.spans >= pace.spans or len(group) >= pace.spans):
            yield group
            group, spans = [], 0
        group.append(trace)
        spans += trace.spans
    if group:
        yield group


def gone(
    database: Database, traces: Iterator[OldTrace], lease: Lease | None, delete: Callable[..., int]
) -> Generator[Pruned, None, bool]:
    """Delete *traces*, or their bodies; ``False`` where the lease was taken away before it was all gone."""
    whole, pace = delete is removal.remove, Pace()
    for group in grouped(traces, pace):
        spans, weight = sum(trace.spans for trace in group), sum(trace.weight for trace in group)
        if lease is None:
            yield Pruned(spans if whole else 0, weight, 0 if whole else spans)
        elif not (yield from taken_out(database, group, weight, lease, delete, pace)):
            return False
    return True


def taken_out(
    database: Database, group: Sequence[OldTrace], weight: int, lease: Lease, delete: Callable[..., int], pace: Pace
) -> Generator[Pruned, None, bool]:
    """Delete a group; ``False`` where the lease was taken away before it was all gone."""
    by_project: dict[str, list[str]] = defaultdict(list)
    for trace in group:
        by_project[trace.project].append(trace.trace_id)
    left = True
    while left:
        limit = STEP if len(group) > 1 else pace.spans
        with database.write() as connection:
            if not lease.renew(connection, LEASE_SECONDS):
                return False
            began = time.monotonic()
            count = step_of(connection, by_project, delete, limit)
        pace.took(count, time.monotonic() - began)
        left = count >= limit
        size = 0 if left else weight
        yield Pruned(count, size) if delete is removal.remove else Pruned(0, size, count)
    return True


def step_of(connection: Any, by_project: dict[str, list[str]], delete: Callable[..., int], limit: int) -> int:
    """Delete what fits into one step, of at most *limit* spans; of how many."""
    count = 0
    for project, traces in by_project.items():
        stay = pins.kept(connection, project, traces)  # somebody may have pinned one since it was looked at
        if count < limit:
            count += delete(connection, project, [one for one in traces if one not in stay], limit=limit - count)
    return count
