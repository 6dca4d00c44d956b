"""Totals of sessions, kept in the transaction that writes their requests.

Nothing is counted anew where adding and taking away will do, so that a session may hold any number of requests.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from asgi_llmobs.store.sums import Change, Counted, Group, add_to, difference, filled, groups, mark_of, sums
from asgi_llmobs.store.tables import SessionRow
from asgi_llmobs.store.values import BIGGEST

__all__ = ["change_sessions", "session_row"]

_sessions = SessionRow.__table__  # type: ignore[attr-defined]

MERGED = {
    "name": "CASE WHEN excluded.name_ns >= {table}.name_ns AND excluded.name_ns >= 0 THEN excluded.name"
    " ELSE {table}.name END",
    "name_ns": "{greatest}({table}.name_ns, excluded.name_ns)",
    "user_id": "CASE WHEN excluded.user_ns >= {table}.user_ns AND excluded.user_ns >= 0 THEN excluded.user_id"
    " ELSE {table}.user_id END",
    "user_ns": "{greatest}({table}.user_ns, excluded.user_ns)",
    "start_ns": "{least}({table}.start_ns, excluded.start_ns)",
    "end_ns": "{greatest}({table}.end_ns, excluded.end_ns)",
    "traces": "{table}.traces + excluded.traces",
}
READ = """
SELECT session_id, requests, name_ns, user_ns, start_ns, end_ns FROM llmobs_sessions
WHERE project = {mark} AND session_id IN ({marks})
"""
OWN = "FROM llmobs_spans WHERE is_request = 1 AND session_id IS NOT NULL AND project = {mark} AND session_id = {mark}"
LATEST = "SELECT {column}, start_ns " + OWN + " AND {column} IS NOT NULL ORDER BY start_ns DESC, key DESC LIMIT 1"
NAMES = (("name", "session_name", 2), ("user", "user_id", 3))

Place = tuple[str, str]  # project and session


def session_row(project: str, session: str, rows: Sequence[Counted]) -> tuple[Any, ...]:
    """The row of ``llmobs_sessions`` for a session with these requests."""
    traces = len({row.trace_id for row in rows})
    return (project, session, *extent(Group(list(rows), [])), traces, *sums(rows))


def extent(group: Group) -> tuple[str | None, int, str | None, int, int, int]:
    """Name and user with the starts of the latest requests that newly give one, and first start and last end."""
    then = {naming(row) for row in group.less}
    name = user = None
    name_ns = user_ns = named = used = -1
    start, end = BIGGEST, 0
    for row in group.rows:
        start, end = min(start, row.start_ns), max(end, row.end_ns)
        if then and naming(row) in then:
            continue
        if row.session_name is not None and (row.start_ns, row.key) > (name_ns, named):
            name, name_ns, named = row.session_name, row.start_ns, row.key
        if row.user_id is not None and (row.start_ns, row.key) > (user_ns, used):
            user, user_ns, used = row.user_id, row.start_ns, row.key
    return name, name_ns, user, user_ns, start, end


def naming(row: Counted) -> tuple[int, int, str | None, str | None]:
    return row.key, row.start_ns, row.session_name, row.user_id


def change_sessions(connection: Connection, changes: Iterable[Change], traces: Mapping[Place, int]) -> None:
    """Bring the totals of all sessions of *changes* up to date; the requests are written already.

    Args:
        connection: In the transaction that writes them.
        changes: What becomes of each request.
        traces: How many traces more or fewer each session has.
    """
    found = groups(changes, session_of)
    if not found:
        return
    rows = [(*place, *extent(group), traces.get(place, 0), *difference(group)) for place, group in found.items()]
    add_to(connection, _sessions, rows, MERGED)
    lessened = {place: group for place, group in found.items() if group.less}
    for project in {project for project, _ in lessened}:
        own = {session: group for (where, session), group in lessened.items() if where == project}
        settle(connection, project, own)


def session_of(row: Counted) -> Place | None:
    return None if row.session_id is None else (row.project, row.session_id)


def settle(connection: Connection, project: str, lessened: Mapping[str, Group]) -> None:
    """A session without requests goes; what hung on a request that went or changed is looked up again."""
    mark = mark_of(connection)
    ids = list(lessened)
    for first in range(0, len(ids), 500):
        stored = connection.exec_driver_sql(*filled(connection, READ, project, ids[first : first + 500])).all()
        empty = [(project, row[0]) for row in stored if row[1] <= 0]
        if empty:
            connection.exec_driver_sql(
                f"DELETE FROM llmobs_sessions WHERE project = {mark} AND session_id = {mark}",  # noqa: S608
                empty,
            )
        for row in stored:
            if row[1] > 0:
                look_up(connection, (project, row[0]), tuple(row), lessened[row[0]])


def look_up(connection: Connection, place: Place, stored: tuple[Any, ...], group: Group) -> None:
    """Bring up to date what of a session may have hung on requests that are no longer what they were."""
    mark = mark_of(connection)
    changes: dict[str, Any] = {}
    differ = {naming(row) for row in group.rows} ^ {naming(row) for row in group.less}
    for name, column, where in NAMES:
        if any(start == stored[where] for _, start, _, _ in differ):
            found = connection.exec_driver_sql(LATEST.format(column=column, mark=mark), place).first()
            target = "name" if name == "name" else "user_id"
            changes[target], changes[f"{name}_ns"] = found or (None, -1)
    if gone(stored[4], (row.start_ns for row in group.rows), (row.start_ns for row in group.less)):
        statement = "SELECT min(start_ns) " + OWN.format(mark=mark)
        changes["start_ns"] = connection.exec_driver_sql(statement, place).scalar()
    if gone(stored[5], (row.end_ns for row in group.rows), (row.end_ns for row in group.less)):
        statement = "SELECT start_ns, duration_ns " + OWN.format(mark=mark)
        every = connection.exec_driver_sql(statement, place)
        changes["end_ns"] = max(min(start + (duration or 0), BIGGEST) for start, duration in every)
    if changes:
        own = (_sessions.c.project == place[0]) & (_sessions.c.session_id == place[1])
        connection.execute(_sessions.update().where(own).values(**changes))


def gone(stored: int, now: Iterable[int], then: Iterable[int]) -> bool:
    """Whether what is *stored* may have been that of a request which does not have it any more."""
    return stored in set(then) and stored not in set(now)
