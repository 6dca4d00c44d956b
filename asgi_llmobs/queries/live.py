"""What happened to a list since it was last looked at: new rows, and rows that ran then and have ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.select import arrived_after, newest_of
from asgi_llmobs.store.database import Database, first_key
from asgi_llmobs.store.tables import SpanRow
from asgi_llmobs.store.values import BIGGEST

__all__ = ["Mark", "News", "mark_now", "news"]

MOST_NEW = 50  # rows that are told one by one
MOST_RUNNING = 100
spans: Any = SpanRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a reader has seen: the key of the row that arrived last, and the rows that ran then.

    It stands in the store's own terms, so that any process can go on from it.
    """

    key: int
    running: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ".".join(str(key) for key in (self.key, *self.running))

    @classmethod
    def read(cls, text: str) -> "Mark":
        """The mark behind *text*.

        Raises:
            FilterError: It is none of ours.
        """
        parts = text.split(".")
        wrong = len(parts) > MOST_RUNNING + 1 or not all(
            part.isascii() and part.isdigit() and len(part) < 20 for part in parts
        )
        keys = [] if wrong else [int(part) for part in parts]
        if wrong or max(keys) > BIGGEST:
            raise FilterError("after", "this is no mark of ours; leave it out to begin now")
        return cls(keys[0], tuple(keys[1:]))


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Ids of requests that are new, oldest first, and of those that ran and have ended; ``more``: there are others."""

    new: Sequence[str]
    changed: Sequence[str]
    more: bool
    mark: Mark


def mark_now(db: Database, flt: Filter) -> Mark:
    """The mark of a reader who sees everything that is there now.

    Raises:
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        running = newest_of(connection, running_only(flt), (spans.c.key,), limit=MOST_RUNNING)
        return Mark(newest_key(connection), tuple(row.key for row in running))


def news(db: Database, flt: Filter, mark: Mark) -> News:
    """What happened since *mark* to the requests that *flt* means.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = spans.c
    with db.read() as connection:
        newest = newest_key(connection)
        rows: Sequence[Any] = ()
        if newest > mark.key:
            wanted = (columns.key, columns.id, columns.outcome)
            rows = arrived_after(connection, flt, wanted, mark.key, limit=MOST_NEW + 1)
        more = len(rows) > MOST_NEW
        rows = [row for row in rows[:MOST_NEW] if row.key <= newest]
        known = {}
        if mark.running:
            query = select(columns.key, columns.id, columns.outcome).where(columns.key.in_(mark.running))
            known = {row.key: row for row in connection.execute(query)}
    ended = [row.id for row in known.values() if row.outcome != "running"]
    running = [key for key in mark.running if key in known and known[key].outcome == "running"]
    running += [row.key for row in rows if row.outcome == "running"]
    return News(
        new=[row.id for row in rows], changed=ended, more=more, mark=Mark(newest, tuple(running[-MOST_RUNNING:]))
    )


def newest_key(connection: Connection) -> int:
    """The key of the row that arrived last; on PostgreSQL without those that claim to begin in the future."""
    ceiling = first_key(connection, BIGGEST)
    query = select(func.max(spans.c.key))
    found = connection.execute(query.where(spans.c.key < ceiling) if ceiling else query).scalar()
    return int(found or 0)


def running_only(flt: Filter) -> Filter:
    """*flt* where it means requests that run."""
    return Filter.from_query(
        [*((name, value) for name, value in flt.to_query() if name != "status"), ("status", "running")],
        project=flt.project,
    )
