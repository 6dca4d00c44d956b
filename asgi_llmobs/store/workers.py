"""The processes that capture: each tells the others, through a row of its own, what it has counted."""

import os
import secrets
import socket
import time
from collections.abc import Mapping
from typing import Any

import orjson

from asgi_llmobs.store.database import Database, insert
from asgi_llmobs.store.tables import WorkerRow
from asgi_llmobs.store.values import name

__all__ = ["GONE_NS", "Worker"]

TELL_SECONDS = 5.0
SIGN_SECONDS = 30.0  # where nothing was counted since
GONE_NS = 100 * 1_000_000_000  # a process that gave no sign for so long is not there any more
IDENTITY = ("captured", "stored", "spooled", "dropped")
KEEP_NS = 7 * 86_400 * 1_000_000_000

_workers = WorkerRow.__table__  # type: ignore[attr-defined]


class Worker:
    """This process, as the status page of every process shows it.

    Args:
        database: Where it is told.
        project: What is captured here belongs to it.
    """

    def __init__(self, database: Database, project: str) -> None:
        self.database = database
        self.project = name(project)
        self.id = secrets.token_hex(8)
        self._started_ns = time.time_ns()
        self._told: list[Any] | None = None
        self._next = 0.0

    def tell(self, counters: Mapping[str, Any], *, ended: bool = False) -> None:
        """Write down *counters*, if it is time to; at the end in any case.

        Raises:
            StoreError: The database cannot be written.
        """
        now = time.monotonic()
        told = [counters.get(count) for count in IDENTITY]
        if not ended and now < self._next + (0.0 if told != self._told else SIGN_SECONDS):
            return
        self._next = now + TELL_SECONDS
        seen = time.time_ns()
        row = (
            self.id,
            self.project,
            socket.gethostname()[:255],
            os.getpid(),
            self._started_ns,
            seen,
            int(ended),
            orjson.dumps(counters, default=dict).decode(),
        )
        with self.database.write() as connection:
            insert(connection, _workers, [row], replace=True)
            if self._told is None:
                connection.execute(_workers.delete().where(_workers.c.seen_ns < seen - KEEP_NS))
        self._told = told
