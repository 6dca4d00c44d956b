"""How long reading may take: agreed for everything that one page asks, and held by the database itself."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Connection

from asgi_llmobs.errors import TooSlow

__all__ = ["expired", "held", "within"]

STEPS = 20_000  # of SQLite's machine between two looks at the clock, some tenths of a millisecond

_until: ContextVar[float | None] = ContextVar("llmobs_deadline", default=None)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Whatever this thread reads inside the block takes *seconds* in all; what takes longer raises ``TooSlow``."""
    token = _until.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


def expired() -> bool:
    """Whether the time is over."""
    until = _until.get()
    return until is not None and time.monotonic() >= until


@contextmanager
def held(connection: Connection) -> Iterator[None]:
    """Let the database stop what *connection* reads when the time is over.

    Raises:
        TooSlow: It is over already.
    """
    until = _until.get()
    if until is None:
        yield
        return
    left = until - time.monotonic()
    if left <= 0:
        raise TooSlow
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, int(left * 1000))}")
        yield
        return
    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(lambda: time.monotonic() >= until, STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)
