"""The store itself: how much is in it, from when to when, and from whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import SessionRow, SpanRow, TraceRow
from asgi_llmobs.store.upgrade import stored_version
from asgi_llmobs.store.values import name

__all__ = ["StoreStatus", "store_status"]


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


def size_of(connection: Connection) -> int | None:
    """Bytes of the database."""
    if connection.dialect.name != "sqlite":
        answer = connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar()
        return None if answer is None else int(answer)
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar() or 0
    return int(pages) * int(connection.exec_driver_sql("PRAGMA page_size").scalar() or 0)
