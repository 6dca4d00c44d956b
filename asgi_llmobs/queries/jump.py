"""What a name or an id that somebody typed may mean: a request, a trace, a session, a user or a model."""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Column, select

from asgi_llmobs.queries.requests import find_request
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import SeriesRow, SessionRow, TraceRow, UserRow
from asgi_llmobs.store.values import name

__all__ = ["Meant", "meant"]

EACH = 5  # of one kind
LAST = "\U0010ffff"

traces: Any = TraceRow.__table__  # type: ignore[attr-defined]
sessions: Any = SessionRow.__table__  # type: ignore[attr-defined]
users: Any = UserRow.__table__  # type: ignore[attr-defined]
series: Any = SeriesRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """One thing that a text may mean. ``exact``: the text is its whole name, not only the beginning."""

    kind: Literal["request", "trace", "session", "user", "model"]
    name: str
    exact: bool


def meant(db: Database, text: str, *, project: str) -> list[Meant]:
    """What has *text* as its id or name, then what begins with it; the beginning of a request's id does not count.

    Raises:
        StoreError: The database cannot be read.
    """
    wanted = name(text.strip())
    if not wanted:
        return []
    found = []
    request = find_request(db, wanted, project)
    if request is not None:
        found.append(Meant(kind="request", name=request, exact=True))
    beginnings: tuple[tuple[Literal["trace", "session", "user", "model"], Any, Column[str]], ...] = (
        ("trace", traces, traces.c.trace_id),
        ("session", sessions, sessions.c.session_id),
        ("user", users, users.c.user_id),
        ("model", series, series.c.model),
    )
    with db.read() as connection:
        for kind, table, column in beginnings:
            own = (table.c.project == name(project), column >= wanted, column < wanted + LAST)
            query = select(column).where(*own).distinct().order_by(column).limit(EACH)
            for value in connection.execute(query).scalars():
                found.append(Meant(kind=kind, name=value, exact=value == wanted))
    return sorted(found, key=lambda each: not each.exact)
