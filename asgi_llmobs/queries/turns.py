"""Several requests read in full with a few queries: what a conversation over many of them is drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select

from asgi_llmobs.queries.content import stored_requests
from asgi_llmobs.queries.requests import RequestRow, row_of
from asgi_llmobs.records import Request
from asgi_llmobs.store.database import Database, in_chunks
from asgi_llmobs.store.tables import SpanRow
from asgi_llmobs.store.values import name

__all__ = ["Read", "read_turns"]

MOST_READ = 12_000_000  # bytes of bodies for one page

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A request's line and, unless there is too much before it, the request in full."""

    row: RequestRow
    request: Request | None


def read_turns(db: Database, ids: Sequence[str], *, project: str, content: bool = True) -> list[Read]:
    """The requests with these span ids in the order of their start; those that the project has not are left out.

    Args:
        db: The store.
        ids: Span ids, some dozens of them.
        project: Whose requests they are.
        content: Whether messages are to be read too.

    Raises:
        StoreError: The database cannot be read.
    """
    found: list[Read] = []
    with db.read() as connection:
        rows: list[Row[Any]] = []
        for chunk in in_chunks(map(name, ids)):
            rows += connection.execute(
                select(spans).where(spans.c.project == name(project), spans.c.id.in_(chunk), spans.c.is_request == 1)
            ).all()
        rows.sort(key=lambda row: (row.start_ns, row.key))
        if not content:
            return [Read(row=row_of(row), request=None) for row in rows]
        size, requests = 0, stored_requests(connection, rows)
        for row in rows:
            request = next(requests) if size <= MOST_READ else None
            found.append(Read(row=row_of(row), request=request))
            if request is not None:
                size += sum(len(body.content) for body in (request.request_body, request.response_body) if body)
    return found
