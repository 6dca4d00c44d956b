"""The store itself: how much is in it, from when to when, and from whom."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection, func, select

from asgi_llmobs.store.database import Database
from asgi_llmobs.store.rollups import DAY_HOURS
from asgi_llmobs.store.tables import RollupRow, SeriesRow, SessionRow, SpanRow, TraceRow, WorkerRow
from asgi_llmobs.store.upgrade import stored_version
from asgi_llmobs.store.values import name
from asgi_llmobs.store.workers import GONE_NS

__all__ = ["Growth", "StoreStatus", "WorkerStatus", "Workers", "growth", "store_status", "workers"]

SHOWN = 200
WEEK = 7  # days
DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """Figures of one project, and the size of the whole database."""

    backend: str  # sqlite, postgresql
    location: str  # path or address, no password; ``memory``
    schema_version: int
    size_bytes: int | None
    requests: int
    spans: int
    traces: int
    sessions: int
    oldest_ns: int | None
    newest_ns: int | None
    by_provider: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """What one process told last."""

    host: str
    pid: int
    state: str  # running, ended, gone
    started_ns: int
    seen_ns: int
    captured: int
    stored: int
    spooled: int
    dropped: Mapping[str, int]
    adopted: int
    failures: Mapping[str, int]
    last_error: str | None
    queue_age_ns: int
    batch_ns: int
    caller_ns: int | None
    writer_ns: int | None  # CPU of the writer for each stored one

    @property
    def balanced(self) -> bool:
        """Whether everything captured is stored, waiting or dropped for a stated reason."""
        return self.captured == self.stored + self.spooled + sum(self.dropped.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """The processes that captured something lately, and their sum."""

    each: Sequence[WorkerStatus]
    captured: int
    stored: int
    spooled: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    adopted: int
    balanced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What a project adds to the store a day, and what it holds now; bytes are its share of the database."""

    requests_a_day: float
    bytes_a_day: float
    spans_a_day: float
    size_bytes: int
    spans: int


spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
traces: Any = TraceRow.__table__  # type: ignore[attr-defined]
sessions: Any = SessionRow.__table__  # type: ignore[attr-defined]
rollups: Any = RollupRow.__table__  # type: ignore[attr-defined]
series: Any = SeriesRow.__table__  # type: ignore[attr-defined]


def store_status(db: Database, *, project: str) -> StoreStatus:
    """The figures of the status page.

    Raises:
        StoreError: The database cannot be read.
    """
    place = name(project)
    own = (spans.c.project == place, spans.c.is_request == 1)
    kinds = rollups.join(series, series.c.key == rollups.c.series)
    days = (rollups.c.project == place, rollups.c.hours == DAY_HOURS)
    counted = func.sum(rollups.c.requests)
    with db.read() as connection:
        newest = connection.execute(select(func.max(spans.c.start_ns)).where(*own)).scalar()
        oldest = connection.execute(select(func.min(spans.c.start_ns)).where(*own)).scalar()
        # from the sums: to count a million rows takes seconds
        grouped = select(series.c.provider, counted).select_from(kinds).where(*days).group_by(series.c.provider)
        by_provider = connection.execute(grouped.order_by(counted.desc())).all()
        inside = select(func.count(), func.sum(traces.c.spans)).where(traces.c.project == place)
        trees, nodes = connection.execute(inside).one()
        return StoreStatus(
            backend=connection.dialect.name,
            location=db.location,
            schema_version=stored_version(connection),
            size_bytes=size_of(connection),
            requests=sum(int(count) for _, count in by_provider),
            spans=int(nodes or 0),
            traces=int(trees),
            sessions=connection.execute(select(func.count()).where(sessions.c.project == place)).scalar() or 0,
            oldest_ns=oldest,
            newest_ns=newest,
            by_provider={provider or "unknown": int(count) for provider, count in by_provider if count},
        )


def growth(db: Database, *, project: str, now_ns: int, span_count: int) -> Growth:
    """How fast the store grows, by the last week; what is younger than a week counts from its first request.

    Args:
        db: The store.
        project: Its name.
        now_ns: Now, in nanoseconds since 1970.
        span_count: How many spans the project has, as :func:`store_status` tells; they are not counted again.

    Raises:
        StoreError: The database cannot be read.
    """
    place = name(project)
    first_day = now_ns // DAY_NS - WEEK
    days = (rollups.c.project == place, rollups.c.hours == DAY_HOURS)
    with db.read() as connection:
        every, since = connection.execute(
            select(func.sum(rollups.c.requests), func.min(rollups.c.start)).where(*days)
        ).one()
        lately = select(func.sum(rollups.c.requests)).where(*days, rollups.c.start >= first_day)
        requests = int(connection.execute(lately).scalar() or 0)
        whole = connection.execute(select(func.sum(rollups.c.requests)).where(rollups.c.hours == DAY_HOURS)).scalar()
        size = size_of(connection)
    # the database is shared by its projects: each has its share by its requests
    share = 0.0 if not whole else int(every or 0) / int(whole)
    length = WEEK if since is None else max(1.0, min(WEEK, now_ns / DAY_NS - max(int(since), first_day)))
    per_day = requests / length
    bytes_each = (size or 0) * share / int(every) if every else 0.0
    return Growth(
        requests_a_day=per_day,
        bytes_a_day=per_day * bytes_each,
        spans_a_day=per_day * (span_count / int(every)) if every else 0.0,
        size_bytes=int((size or 0) * share),
        spans=span_count,
    )


def workers(db: Database, *, project: str) -> Workers:
    """Every process that captured something for *project* in the last days; those that run come first.

    Raises:
        StoreError: The database cannot be read.
    """
    rows: Any = WorkerRow.__table__  # type: ignore[attr-defined]
    query = select(rows).where(rows.c.project == name(project)).order_by(rows.c.ended, rows.c.seen_ns.desc())
    with db.read() as connection:
        told = stored_version(connection) >= 2  # one that is only read may be older
        each = [worker_of(row) for row in connection.execute(query.limit(SHOWN)).all()] if told else []
    dropped: Counter[str] = Counter()
    for worker in each:
        dropped.update(worker.dropped)
    return Workers(
        each=each,
        captured=sum(worker.captured for worker in each),
        stored=sum(worker.stored for worker in each),
        spooled=sum(worker.spooled for worker in each),
        dropped=dropped,
        adopted=sum(worker.adopted for worker in each),
        balanced=all(worker.balanced for worker in each),
    )


def worker_of(row: Any) -> WorkerStatus:
    counters = orjson.loads(row.counters)
    gone = time.time_ns() - row.seen_ns > GONE_NS
    stored = counters.get("stored", 0)
    return WorkerStatus(
        host=row.host,
        pid=row.pid,
        state="ended" if row.ended else "gone" if gone else "running",
        started_ns=row.started_ns,
        seen_ns=row.seen_ns,
        captured=counters.get("captured", 0),
        stored=stored,
        spooled=counters.get("spooled", 0),
        dropped=counters.get("dropped", {}),
        adopted=counters.get("adopted", 0),
        failures=counters.get("failures", {}),
        last_error=counters.get("last_error"),
        queue_age_ns=counters.get("queue_age_ns", 0),
        batch_ns=counters.get("batch_ns", 0),
        caller_ns=counters.get("caller_ns"),
        writer_ns=counters.get("writer_cpu_ns", 0) // stored if stored else None,
    )


def size_of(connection: Connection) -> int | None:
    """Bytes of the database."""
    if connection.dialect.name != "sqlite":
        answer = connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar()
        return None if answer is None else int(answer)
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar() or 0
    return int(pages) * int(connection.exec_driver_sql("PRAGMA page_size").scalar() or 0)
