"""The store itself: how much is in it, from when to when, and from whom."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection, func, select

from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import SessionRow, SpanRow, TraceRow, WorkerRow
from asgi_llmobs.store.upgrade import stored_version
from asgi_llmobs.store.values import name
from asgi_llmobs.store.workers import GONE_NS

__all__ = ["StoreStatus", "WorkerStatus", "Workers", "store_status", "workers"]

SHOWN = 200


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


spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
traces: Any = TraceRow.__table__  # type: ignore[attr-defined]
sessions: Any = SessionRow.__table__  # type: ignore[attr-defined]


def store_status(db: Database, *, project: str) -> StoreStatus:
    """The figures of the status page.

    Raises:
        StoreError: The database cannot be read.
    """
    place = name(project)
    own = spans.c.project == place
    requests = (own, spans.c.is_request == 1)
    with db.read() as connection:
        newest = connection.execute(select(func.max(spans.c.start_ns)).where(*requests)).scalar()
        oldest = connection.execute(select(func.min(spans.c.start_ns)).where(*requests)).scalar()
        grouped = select(spans.c.provider, func.count()).where(*requests).group_by(spans.c.provider)
        by_provider = connection.execute(grouped.order_by(func.count().desc())).all()
        return StoreStatus(
            backend=connection.dialect.name,
            location=db.location,
            schema_version=stored_version(connection),
            size_bytes=size_of(connection),
            requests=sum(count for _, count in by_provider),
            spans=connection.execute(select(func.count()).where(own)).scalar() or 0,
            traces=connection.execute(select(func.count()).where(traces.c.project == place)).scalar() or 0,
            sessions=connection.execute(select(func.count()).where(sessions.c.project == place)).scalar() or 0,
            oldest_ns=oldest,
            newest_ns=newest,
            by_provider={provider or "unknown": count for provider, count in by_provider},
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
