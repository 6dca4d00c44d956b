"""Which traces no retention deletes: those that are pinned, and those that somebody judged."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from asgi_llmobs.store import scores
from asgi_llmobs.store.database import Database, in_chunks
from asgi_llmobs.store.tables import PinRow
from asgi_llmobs.store.values import name

__all__ = ["is_pinned", "kept", "pin", "unpin"]

_pins = PinRow.__table__  # type: ignore[attr-defined]


def pin(database: Database, project: str, trace_id: str) -> None:
    """Keep a trace whatever the retention says, also one that is not stored yet.

    Raises:
        StoreError: The database cannot be written.
    """
    with database.write() as connection:
        place = {"project": name(project) or "", "trace_id": name(trace_id) or ""}
        connection.execute(_pins.delete().filter_by(**place))
        connection.execute(_pins.insert().values(**place))


def unpin(database: Database, project: str, trace_id: str) -> None:
    """Let the retention decide on a trace once more.

    Raises:
        StoreError: The database cannot be written.
    """
    with database.write() as connection:
        connection.execute(_pins.delete().filter_by(project=name(project) or "", trace_id=name(trace_id) or ""))


def is_pinned(database: Database, project: str, trace_id: str) -> bool:
    """Whether a trace is pinned.

    Raises:
        StoreError: The database cannot be read.
    """
    with database.read() as connection:
        return bool(kept(connection, name(project) or "", [name(trace_id) or ""]))


def kept(connection: Connection, project: str, traces: Sequence[str]) -> set[str]:
    """Those of *traces* that no retention may delete. The one place that decides."""
    found: set[str] = set()
    for chunk in in_chunks(traces):
        query = select(_pins.c.trace_id).where(_pins.c.project == project, _pins.c.trace_id.in_(chunk))
        found.update(connection.execute(query).scalars())
        found.update(scores.keeping(connection, project, chunk))
    return found
