"""Every error that asgi_llmobs raises on purpose.

    LLMObsError
    ├── ConfigError        wrong configuration, at construction: names the option and the fix
    ├── FilterError        a query names a field or a value that no filter knows
    ├── ScoreError         a score has a field that says nothing: names it
    ├── UnsupportedClient  wrap() was given something that holds no httpx or httpx2 client
    └── StoreError         the store cannot be opened or is of a newer version
        ├── SchemaTooNew   the database was written by a newer asgi_llmobs
        └── TooSlow        what was asked takes longer than it may

Nothing of this is raised while the app handles a request: what goes wrong there is counted and logged by
:mod:`asgi_llmobs.safely`.
"""

import errno
from enum import StrEnum

__all__ = [
    "ConfigError",
    "FilterError",
    "LLMObsError",
    "SchemaTooNew",
    "ScoreError",
    "StoreError",
    "TooSlow",
    "Trouble",
    "UnsupportedClient",
]


class LLMObsError(Exception):
    """The root: catch this to catch all of ours."""


class ConfigError(LLMObsError, ValueError):
    """An option has a value that cannot work.

    Args:
        option: Name of the option as it is spelled in :class:`asgi_llmobs.LLMObs`.
        problem: What is wrong with the value, and what to write instead.
    """

    def __init__(self, option: str, problem: str) -> None:
        self.option = option
        super().__init__(f"{option}: {problem}")


class FilterError(LLMObsError, ValueError):
    """A query cannot be understood.

    Args:
        field: The name in the query that is wrong, as it was written.
        problem: What is wrong with it, and what to write instead.
        position: Where in a search, in characters from its beginning.
    """

    def __init__(self, field: str, problem: str, *, position: int | None = None) -> None:
        self.field = field
        self.problem = problem
        self.position = position
        super().__init__(f"{field}: {problem}")


class ScoreError(LLMObsError, ValueError):
    """A score cannot be understood.

    Args:
        field: Which of its fields is wrong.
        problem: What is wrong with it, and what to write instead.
    """

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class UnsupportedClient(LLMObsError, TypeError):
    """``wrap()`` found no httpx or httpx2 client in the object it was given."""


class Trouble(StrEnum):
    """Why a store cannot be used now; what to do about it follows from this."""

    TRANSIENT = "transient"  # locked, a deadlock, too many connections: the next try may do
    AWAY = "away"
    FULL = "full"
    READ_ONLY = "read-only"
    DAMAGED = "damaged"
    NEWER = "newer schema"
    BUG = "bug"  # nothing that is known to happen

    @classmethod
    def of(cls, error: OSError) -> "Trouble":
        """What an error of the operating system means."""
        return ERRNO.get(error.errno or 0, cls.AWAY)


ERRNO = {
    errno.ENOSPC: Trouble.FULL,
    errno.EDQUOT: Trouble.FULL,
    errno.EROFS: Trouble.READ_ONLY,
    errno.EACCES: Trouble.READ_ONLY,
    errno.EPERM: Trouble.READ_ONLY,
    errno.EMFILE: Trouble.TRANSIENT,
    errno.ENFILE: Trouble.TRANSIENT,
}


class StoreError(LLMObsError):
    """The store cannot be opened, read or written.

    Args:
        text: What happened.
        trouble: What kind of thing that is.
    """

    def __init__(self, text: str, trouble: Trouble = Trouble.AWAY) -> None:
        self.trouble = trouble
        super().__init__(text)


class SchemaTooNew(StoreError):
    """The database was written by a newer version of asgi_llmobs: recording pauses, nothing is lost."""

    def __init__(self, text: str) -> None:
        super().__init__(text, Trouble.NEWER)


class TooSlow(StoreError):
    """What was asked takes longer than it may; the database stopped it."""

    def __init__(self, text: str = "reading takes too long") -> None:
        super().__init__(text, Trouble.TRANSIENT)
