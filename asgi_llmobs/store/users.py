"""Totals of users, kept in the transaction that writes their requests."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from asgi_llmobs.store.database import in_chunks
from asgi_llmobs.store.sums import Change, Counted, Group, add_to, difference, filled, groups, mark_of, sums
from asgi_llmobs.store.tables import UserRow
from asgi_llmobs.store.values import BIGGEST

__all__ = ["change_users", "user_row"]

_users = UserRow.__table__  # type: ignore[attr-defined]

SEEN = {
    "first_ns": "{least}({table}.first_ns, excluded.first_ns)",
    "last_ns": "{greatest}({table}.last_ns, excluded.last_ns)",
}
READ = "SELECT user_id, first_ns, last_ns FROM llmobs_users WHERE project = {mark} AND user_id IN ({marks})"
SEEK = """
UPDATE llmobs_users SET
  first_ns = (SELECT min(s.start_ns) FROM llmobs_spans s WHERE s.is_request = 1 AND s.user_id = llmobs_users.user_id
    AND s.project = llmobs_users.project AND s.user_id IS NOT NULL),
  last_ns = (SELECT max(s.start_ns) FROM llmobs_spans s WHERE s.is_request = 1 AND s.user_id = llmobs_users.user_id
    AND s.project = llmobs_users.project AND s.user_id IS NOT NULL)
WHERE project = {mark} AND user_id = {mark}
"""


def user_row(project: str, user: str, rows: Sequence[Counted]) -> tuple[Any, ...]:
    """The row of ``llmobs_users`` for a user with these requests."""
    starts = [row.start_ns for row in rows]
    return (project, user, min(starts), max(starts), *sums(rows))


def change_users(connection: Connection, changes: Iterable[Change]) -> None:
    """Bring the totals of all users of *changes* up to date; the requests are written already."""
    by_user = groups(changes, user_of)
    if not by_user:
        return
    users: list[tuple[Any, ...]] = []
    for (project, user), group in by_user.items():
        starts = [row.start_ns for row in group.rows]
        first, last = (min(starts), max(starts)) if starts else (BIGGEST, 0)
        users.append((project, user, first, last, *difference(group)))
    add_to(connection, _users, users, SEEN)
    lessened = {key: group for key, group in by_user.items() if group.less}
    if lessened:
        settle(connection, lessened)


def user_of(row: Counted) -> tuple[str, str] | None:
    return None if row.user_id is None else (row.project, row.user_id)


def settle(connection: Connection, lessened: dict[tuple[str, str], Group]) -> None:
    """Who has no request any more goes; who was seen first or last by one that went is looked at again."""
    mark = mark_of(connection)
    gone: dict[str, dict[str, set[int]]] = {}
    for (project, user), group in lessened.items():
        kept = {row.start_ns for row in group.rows}
        gone.setdefault(project, {})[user] = {row.start_ns for row in group.less if row.start_ns not in kept}
    connection.exec_driver_sql(
        f"DELETE FROM llmobs_users WHERE project = {mark} AND user_id = {mark} AND requests <= 0",  # noqa: S608
        list(lessened),
    )
    for project, users in gone.items():
        for chunk in in_chunks(users):
            found = connection.exec_driver_sql(*filled(connection, READ, project, chunk)).all()
            moved = [(project, user) for user, first, last in found if {first, last} & users[user]]
            if moved:
                connection.exec_driver_sql(SEEK.format(mark=mark), moved)
