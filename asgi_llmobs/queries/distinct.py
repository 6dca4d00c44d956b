"""The values of a column or a property, found by leaps over an index: as many steps as values, however many rows."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, literal, select, true

from asgi_llmobs.store.tables import PropertyRow
from asgi_llmobs.store.values import name

__all__ = ["leaps", "property_names", "property_values"]

properties: Any = PropertyRow.__table__  # type: ignore[attr-defined]


def leaps(
    connection: Connection, column: Any, where: ColumnElement[bool], *, prefix: str = "", limit: int = 100
) -> Sequence[str]:
    """The distinct values of *column*, in order, of the rows that *where* holds for.

    Args:
        connection: For reading.
        column: The first column of an index, or the next after those that *where* fixes.
        where: Equalities with the columns before it.
        prefix: What the values begin with.
        limit: How many at most.
    """
    # how the database sorts is its own business: only where it goes by code points is there an end to be named
    ends = column < prefix + "\U0010ffff" if prefix and connection.dialect.name == "sqlite" else true()
    begins = column >= prefix if prefix else column.is_not(None)
    first = select(func.min(column).label("value")).where(where, begins, ends)
    found = first.cte("found", recursive=True)
    # with the beginning asked for again SQLite would go through all rows from there on
    following = select(func.min(column)).where(where, column > found.c.value, ends).scalar_subquery()
    steps = found.union_all(select(following).where(found.c.value.is_not(None)))
    query = select(steps.c.value).where(steps.c.value.is_not(None)).limit(literal(limit))
    return [value for value in connection.execute(query).scalars() if value.startswith(prefix)]


def property_names(connection: Connection, project: str, *, prefix: str = "", limit: int = 100) -> Sequence[str]:
    """The names of properties, folded."""
    columns = properties.c
    return leaps(connection, columns.name, columns.project == name(project), prefix=prefix, limit=limit)


def property_values(
    connection: Connection, project: str, label: str, *, prefix: str = "", limit: int = 100
) -> Sequence[str]:
    """The values of the property with the folded name *label*."""
    columns = properties.c
    own = and_(columns.project == name(project), columns.name == label)
    return leaps(connection, columns.value, own, prefix=prefix, limit=limit)
