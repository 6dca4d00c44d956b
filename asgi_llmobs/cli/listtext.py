"""Requests on the command line: the rows that a search finds, as text or as JSON, in the numbers of their page."""

from collections.abc import Iterator

from asgi_llmobs.admin.api import as_json
from asgi_llmobs.admin.formats import duration, iso, money, short, tokens
from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import RequestRow, list_requests
from asgi_llmobs.store.database import Database

__all__ = ["as_line", "found_rows", "in_json", "pointed"]

PAGE = 500


def found_rows(db: Database, flt: Filter, *, limit: int, sort: str = "time") -> Iterator[RequestRow]:
    """The requests that *flt* means, as far back as it takes to find *limit* of them.

    Raises:
        StoreError: The database cannot be read.
    """
    cursor, left = None, limit
    while left > 0:
        page = list_requests(db, flt, cursor=cursor, limit=min(PAGE, left), sort=sort)
        yield from page.rows
        left -= len(page.rows)
        cursor = page.next_cursor
        if cursor is None:
            return


def as_line(row: RequestRow) -> str:
    """A row on one line: its id, when, how it ended, and what it took."""
    said = f"{row.outcome} {row.status}" if row.status not in (None, 200) else row.outcome
    used = f"{tokens(row.input_tokens)}/{tokens(row.output_tokens)}"
    model = row.request_model or row.response_model or row.operation
    return (
        f"{row.id}  {iso(row.start_ns)}  {said:<13}  {short(model, 28):<28}  {duration(row.duration_ns):>8}  "
        f"{used:>13}  {money(row.cost_usd):>10}  {short(row.input_preview, 60)}"
    ).rstrip()


def in_json(row: RequestRow) -> str:
    """A row in the form of the page's JSON twin."""
    return as_json(row).decode()


def pointed(search: str, error: FilterError) -> Iterator[str]:
    """What is wrong with a search, and below it where."""
    if error.position is not None and "\n" not in search:
        yield search
        yield " " * min(error.position, len(search)) + "^"
    yield str(error)
