"""A process that opens many new databases, each at the same moment as others do; in tests only."""

from multiprocessing.synchronize import Barrier
from typing import Any

from sqlalchemy import BigInteger, Column

from asgi_llmobs.errors import SchemaTooNew
from asgi_llmobs.store import database, tables, upgrade
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.making import request

__all__ = ["start"]


def start(urls: list[str], number: int, newer: bool, barrier: Barrier, said: Any) -> None:
    """Open each of *urls* when everybody does, and store a call; what went wrong goes into *said*."""
    if newer:  # what the next version may bring
        table: Any = tables.SpanRow.__table__  # type: ignore[attr-defined]
        table.append_column(Column("later", BigInteger))
        for module in (database, upgrade):
            module.SCHEMA_VERSION = tables.SCHEMA_VERSION + 1  # type: ignore[attr-defined]
    for url in urls:
        made = Database(url)
        barrier.wait(60)
        try:
            if newer:
                with made.write() as connection:
                    connection.exec_driver_sql("SELECT later FROM llmobs_spans")
            elif Sink(made).write([request(id=f"{number:016x}")]) != (1, 0):
                said.put("refused")
            said.put("done")
        except SchemaTooNew:
            said.put("too new")
        except Exception as error:
            said.put(repr(error))
        finally:
            made.dispose()
