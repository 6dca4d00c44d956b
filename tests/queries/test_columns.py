"""Columns of a query: the same values as its rows."""

from typing import Any

from sqlalchemy import select

from asgi_llmobs.queries.columns import by_column, listed
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import SpanRow
from asgi_llmobs.store.write import Sink
from tests.making import START, request

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]


def test_columns(database: Database) -> None:
    """Texts of any kind, large numbers and nothing at all come as they do in rows, in the order that was asked for."""
    users = ["ann", None, 'a "quoted" one', "\\ and /", "Zoë ☃ \U0001f600", "", "1", "null"]
    Sink(database).write(
        [request(user_id=user, start_ns=START + 2**60 + place, status=place) for place, user in enumerate(users)]
    )
    query = select(spans.c.start_ns, spans.c.user_id, spans.c.status).order_by(spans.c.status.desc())
    with database.read() as connection:
        rows = connection.execute(query).all()
        assert by_column(connection, query) == [list(column) for column in zip(*rows, strict=True)]
        assert by_column(connection, query.limit(0)) == [[], [], []]
        assert listed(connection, select(spans.c.status).order_by(spans.c.status).limit(2)) == [0, 1]
