"""What a query finds, by its columns: many rows at once, without an object for each of them.

Thousands of small objects bring on collections of all of Python's, which stop the app's own work too.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import Connection, Select, Text, cast, func, select

__all__ = ["by_column", "listed"]


def by_column(
    connection: Connection, query: Select[Any], parameters: Mapping[str, Any] | None = None
) -> list[list[Any]]:
    """The values of each column of *query*, in its order of rows.

    Args:
        connection: For reading.
        query: Its columns are integers and texts, each with a name of its own.
        parameters: Of *query*.
    """
    rows = query.subquery()
    lists = func.json_group_array if connection.dialect.name == "sqlite" else func.json_agg
    texts = [cast(lists(column), Text) for column in rows.c]
    found = connection.execute(select(*texts), parameters or {}).one()
    return [orjson.loads(text) if text else [] for text in found]


def listed(connection: Connection, query: Select[Any], parameters: Mapping[str, Any] | None = None) -> list[Any]:
    """The values of the only column of *query*."""
    return by_column(connection, query, parameters)[0]
