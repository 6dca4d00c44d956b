"""The store itself: how much is in it, from when to when, and from whom."""

from collections.abc import Mapping
from dataclasses import dataclass

from asgi_llmobs.store.database import Database

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


def store_status(db: Database, *, project: str) -> StoreStatus:
    """The figures of the status page."""
    raise NotImplementedError
