"""A psycopg connection that does not wait for ever: a server that hangs costs seconds, and then the connection."""

import time
from collections.abc import Generator
from typing import Any

import psycopg

__all__ = ["IDLE_SECONDS", "PatientConnection"]

IDLE_SECONDS = 3.0  # for the first sign of life of a connection that lay idle


class PatientConnection(psycopg.Connection[Any]):
    """Waits ``patience`` seconds for each answer. libpq itself gives up only on hosts that are gone, not on a server
    that was stopped or whose disk hangs."""

    patience = IDLE_SECONDS

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """As the base's; afterwards an answer that did not come in time has closed the connection."""
        return super().wait(self._watched(gen), *args, **kwargs)

    def _watched(self, gen: Any) -> Generator[Any, Any, Any]:
        end = time.monotonic() + self.patience
        try:
            state = next(gen)
            while True:
                ready = yield state  # resumed at least ten times a second, also while nothing comes
                if not ready and time.monotonic() > end:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {self.patience:g} s")
                state = gen.send(ready)
        except StopIteration as done:
            return done.value
