"""Values that a search can be completed with: those that the store has, a few at a time, of one project."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.distinct import leaps, property_names, property_values
from asgi_llmobs.queries.select import newest_by_column
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.rows import fold_name
from asgi_llmobs.store.tables import ScoreRow, SeriesRow, SessionRow, SpanRow, UserRow
from asgi_llmobs.store.values import name

__all__ = ["names_of", "values_of"]

NEWEST = 2_000  # rows that are looked through where no index has the values
spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
series: Any = SeriesRow.__table__  # type: ignore[attr-defined]
users: Any = UserRow.__table__  # type: ignore[attr-defined]
sessions: Any = SessionRow.__table__  # type: ignore[attr-defined]
scores: Any = ScoreRow.__table__  # type: ignore[attr-defined]

INDEXED: Mapping[str, Any] = {"user": users.c.user_id, "session": sessions.c.session_id}
ROLLED_UP: Mapping[str, Any] = {
    "model": series.c.model,
    "provider": series.c.provider,
    "operation": series.c.operation,
    "route": series.c.route,
}
SEEN: Mapping[str, Any] = {
    "finish": spans.c.finish,
    "error": spans.c.error_type,
    "name": spans.c.name,
    "release": spans.c.release,
    "caller": spans.c.caller,
    "path": spans.c.session_path,
    "node": spans.c.node_id,
}


def names_of(db: Database, project: str, key: str, prefix: str, *, limit: int) -> Sequence[str]:
    """The names of properties or of scores that begin with *prefix*, in any case.

    Raises:
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        if key == "property":
            return property_names(connection, project, prefix=fold_name(prefix), limit=limit)
        return leaps(connection, scores.c.name, scores.c.project == name(project), prefix=prefix, limit=limit)


def values_of(db: Database, project: str, key: str, label: str, prefix: str, *, limit: int) -> Sequence[str]:
    """The values of *key* that begin with *prefix*; of what has no index those of the newest rows.

    Args:
        db: The store.
        project: Whose.
        key: A key of a search.
        label: The name, where it is a property.
        prefix: The beginning, in upper and lower case as it stands.
        limit: How many at most.

    Raises:
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        find = FINDERS.get(key)
        if find is None:
            return []
        found = [value for value in find(connection, project, key, label, prefix, limit) if value.startswith(prefix)]
        return list(dict.fromkeys(found))[:limit]


def from_index(connection: Connection, project: str, key: str, label: str, prefix: str, limit: int) -> Sequence[str]:
    column = INDEXED[key]
    return leaps(connection, column, column.table.c.project == name(project), prefix=prefix, limit=limit)


def from_rollups(connection: Connection, project: str, key: str, label: str, prefix: str, limit: int) -> Sequence[str]:
    column = ROLLED_UP[key]
    query = select(column).where(
        series.c.project == name(project), column != "", column.startswith(prefix, autoescape=True)
    )
    return connection.execute(query.distinct().order_by(column).limit(4 * limit)).scalars().all()


def from_rows(connection: Connection, project: str, key: str, label: str, prefix: str, limit: int) -> Sequence[str]:
    (values,) = newest_by_column(connection, Filter(project=project), (SEEN[key],), limit=NEWEST)
    seen = set(filter(None, values))
    return sorted({part for value in seen for part in value.split(",")} if key == "finish" else seen)


def from_properties(
    connection: Connection, project: str, key: str, label: str, prefix: str, limit: int
) -> Sequence[str]:
    return property_values(connection, project, fold_name(label), prefix=prefix, limit=limit)


Finder = Callable[[Connection, str, str, str, str, int], Sequence[str]]
FINDERS: Mapping[str, Finder] = {
    **dict.fromkeys(INDEXED, from_index),
    **dict.fromkeys(ROLLED_UP, from_rollups),
    **dict.fromkeys(SEEN, from_rows),
    "property": from_properties,
}
