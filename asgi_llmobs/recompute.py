"""Proves that every total is what the rows add up to, and makes it so where it is not."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from asgi_llmobs.store import recount
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.leases import Lease
from asgi_llmobs.store.recount import Difference
from asgi_llmobs.store.values import name

__all__ = ["Difference", "recompute"]

PAUSE_SECONDS = 0.01  # in which others may write
LEASE_SECONDS = 120.0


def recompute(database: Database, *, project: str | None = None, check: bool = False) -> Iterator[Difference]:
    """Count all totals anew: of traces, sessions and users, and the rollups. Blocking, and it takes its time.

    Writers go on meanwhile: it works in small pieces, and only what is wrong is written.

    Args:
        database: The store.
        project: Whose totals; those of all projects unless given.
        check: Change nothing.

    Yields:
        What was not as it should be.

    Raises:
        StoreError: The database cannot be read or written, or another process is at the same work.
    """
    lease = None if check else Lease(database, "recompute")
    if lease is not None:
        lease.take(LEASE_SECONDS, force=True)

    def ask(question: Callable[[Any], Any]) -> Any:
        with database.read(fresh=True) as connection:
            return question(connection)

    for one in ask(recount.projects_of) if project is None else [name(project) or ""]:
        for piece in recount.pieces(ask, one):
            with database.read(fresh=True) as connection:
                found = recount.recounted(connection, piece, write=False)
            if found and lease is not None:
                with database.write() as connection:
                    if not lease.renew(connection, LEASE_SECONDS):
                        return
                    found = recount.recounted(connection, piece, write=True)
                time.sleep(PAUSE_SECONDS)
            yield from found
