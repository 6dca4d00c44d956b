"""The bulk write: records in, rows out, once and only once."""

from collections.abc import Sequence
from typing import NamedTuple

from asgi_llmobs.records import Span
from asgi_llmobs.store.database import Database

__all__ = ["Sink", "Written"]


class Written(NamedTuple):
    """What became of a batch."""

    stored: int
    refused: int


class Sink:
    """Writes records into *database*."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def write(self, batch: Sequence[Span]) -> Written:
        """Store all of *batch* in one transaction; a record that was stored before is not stored twice.

        A record that the database refuses is left out and counted; its neighbours are stored.

        Raises:
            StoreError: The database cannot be reached; nothing of the batch was stored, try again later.
            SchemaTooNew: It was written by a newer version.
        """
        raise NotImplementedError
