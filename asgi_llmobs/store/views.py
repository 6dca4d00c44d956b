"""Views that somebody saved: a name for what a list was narrowed down to and how it was shown."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import ViewRow
from asgi_llmobs.store.values import bounded, name

__all__ = ["MOST", "SavedView", "delete_view", "save_view", "saved_views"]

MOST = 100  # of a project
LONGEST_NAME = 80
LONGEST_QUERY = 8_000
_views: Any = ViewRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedView:
    """A view. ``query`` is what stands behind the question mark of its address."""

    id: str
    page: str
    name: str
    query: str
    author: str


def saved_views(db: Database, project: str, page: str) -> Sequence[SavedView]:
    """The views of one list, by their names.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = _views.c
    query = _views.select().where(columns.project == name(project), columns.page == page)
    with db.read() as connection:
        rows = connection.execute(query.order_by(columns.name, columns.id).limit(MOST)).all()
    return [SavedView(id=row.id, page=row.page, name=row.name, query=row.query, author=row.author) for row in rows]


def save_view(db: Database, project: str, *, page: str, title: str, query: str, author: str) -> str | None:
    """Save a view; one of the same list, name and author takes the new query. ``None``: there are as many as may be.

    Args:
        db: The store.
        project: Whose.
        page: The list: ``requests``, ``traces`` or ``sessions``.
        title: Its name, cut at 80 characters.
        query: What stands behind the question mark of its address.
        author: Who saves it, empty where that is not known.

    Returns:
        Its id.

    Raises:
        StoreError: The database cannot be written.
    """
    columns = _views.c
    author = name(author) or ""
    label = bounded(title.strip(), LONGEST_NAME) or ""
    own = (columns.project == name(project), columns.page == page)
    with db.write() as connection:
        rows = connection.execute(_views.select().where(*own)).all()
        known = next((row.id for row in rows if (row.name, row.author) == (label, author)), None)
        if known is None and len(rows) >= MOST:
            return None
        id = known or secrets.token_hex(8)
        connection.execute(_views.delete().where(columns.project == name(project), columns.id == id))
        connection.execute(
            _views.insert().values(
                project=name(project),
                id=id,
                page=page,
                name=label,
                query=query[:LONGEST_QUERY],
                author=author,
                time_ns=time.time_ns(),
            )
        )
    return id


def delete_view(db: Database, project: str, id: str, *, author: str | None) -> bool:
    """Delete a view; whether it was there.

    Args:
        db: The store.
        project: Whose.
        id: Of the view.
        author: Only where they saved it; ``None``: whoever did.

    Raises:
        StoreError: The database cannot be written.
    """
    columns = _views.c
    chosen = [columns.project == name(project), columns.id == name(id)]
    if author is not None:
        chosen.append(columns.author == name(author))
    with db.write() as connection:
        return bool(connection.execute(_views.delete().where(*chosen)).rowcount)
