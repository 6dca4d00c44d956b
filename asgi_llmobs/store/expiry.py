"""Whole days of arrival that go at once, on PostgreSQL: partitions are dropped, and every total is right after it.

A day goes so where all that arrived on it may go, and nothing of it is pinned or judged. What dropping saves is to look
at its rows one by one: sums are taken away from totals by the server, an hour of a rollup that has no other requests
goes whole, and only the rows of hours and sessions that other days share are read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from asgi_llmobs.store import partitions, scores
from asgi_llmobs.store.partitions import Day
from asgi_llmobs.store.postgres import take_time
from asgi_llmobs.store.recount import recounted_day
from asgi_llmobs.store.rollups import DAY_HOURS, HOUR_NS, roll
from asgi_llmobs.store.sessions import change_sessions
from asgi_llmobs.store.sums import MOST_COST, MOST_TOKENS, SUMS, Change, Counted

__all__ = ["Standing", "drop_day", "standing"]

MOST_ROWS = 20_000  # that are read one by one; where it takes more the day goes in small steps
SECONDS = 60  # that one statement may take: a day may have millions of rows
COLUMNS = ", ".join(Counted._fields)
ROLLUPS = ("llmobs_rollups", "llmobs_user_rollups")

# one look into an index for each: what another project keeps is asked for again with every sweep
PROJECTS = """
WITH RECURSIVE found AS (
  SELECT min(project) AS project FROM {part}
  UNION ALL
  SELECT (SELECT min(p.project) FROM {part} p WHERE p.project > found.project) FROM found
  WHERE found.project IS NOT NULL
)
SELECT project FROM found WHERE project IS NOT NULL
"""
TRACES = """
SELECT p.project, sum(p.spans)::bigint, max(t.start_ns + coalesce(t.duration_ns, 0)),
  bool_and(t.spans IS NOT NULL), coalesce(sum(p.spans) FILTER (WHERE t.spans > p.spans), 0)::bigint
FROM (SELECT project, trace_id, count(*) AS spans FROM {part} GROUP BY project, trace_id) p
LEFT JOIN llmobs_traces t ON t.project = p.project AND t.trace_id = p.trace_id
GROUP BY p.project
"""
STRAGGLERS = """
SELECT p.project, p.trace_id
FROM (SELECT project, trace_id, count(*) AS spans FROM {part} GROUP BY project, trace_id) p
JOIN llmobs_traces t ON t.project = p.project AND t.trace_id = p.trace_id
WHERE t.spans > p.spans ORDER BY p.project, p.trace_id
"""
KEPT = """
SELECT EXISTS (SELECT FROM llmobs_pins n JOIN {part} p ON p.project = n.project AND p.trace_id = n.trace_id)
  OR EXISTS (SELECT FROM llmobs_scores n JOIN {part} p ON p.project = n.project AND p.trace_id = n.trace_id
    WHERE n.current = 1 AND n.keep = 1)
  OR EXISTS (SELECT FROM llmobs_scores n JOIN {part} p ON p.project = n.project AND p.session_id = n.target_id
    WHERE n.current = 1 AND n.keep = 1 AND n.target = 'session')
"""
WEIGHT = """
SELECT (SELECT coalesce(sum(600 + coalesce(length(properties), 0)), 0) FROM {part})::bigint
  + (SELECT coalesce(sum(length(content)), 0) FROM {contents})::bigint
"""
HOURS = f"""
SELECT p.project, p.hour, p.requests, p.requests < coalesce(sum(r.requests), 0)
FROM (SELECT project, start_ns / {HOUR_NS} AS hour, count(*) AS requests FROM {{part}} WHERE is_request = 1
  GROUP BY 1, 2) p
LEFT JOIN llmobs_rollups r ON r.project = p.project AND r.hours = 1 AND r.start = p.hour
GROUP BY p.project, p.hour, p.requests ORDER BY p.project, p.hour
"""  # noqa: S608
SESSIONS = """
SELECT p.project, p.session_id, p.requests, p.traces, s.requests > p.requests
FROM (SELECT project, session_id, count(*) AS requests, count(DISTINCT trace_id) AS traces FROM {part}
  WHERE is_request = 1 AND session_id IS NOT NULL GROUP BY project, session_id) p
JOIN llmobs_sessions s ON s.project = p.project AND s.session_id = p.session_id
"""
SUM = f"""
count(*) AS requests, count(*) FILTER (WHERE outcome = 'error') AS errors, count(cost) AS priced,
count(*) FILTER (WHERE cost IS NULL AND outcome <> 'running') AS unpriced,
coalesce(sum(least(cost, {MOST_COST})), 0)::bigint AS cost,
count(input_tokens) AS inputs, coalesce(sum(least(input_tokens, {MOST_TOKENS})), 0)::bigint AS input_tokens,
count(output_tokens) AS outputs, coalesce(sum(least(output_tokens, {MOST_TOKENS})), 0)::bigint AS output_tokens
"""
LESS = ", ".join(f"{name} = t.{name} - p.{name}" for name in SUMS)
OF_USERS = "FROM {part} WHERE is_request = 1 AND user_id IS NOT NULL"
OTHERS = """
SELECT {edge} FROM llmobs_spans s WHERE s.is_request = 1 AND s.user_id IS NOT NULL AND s.project = t.project
  AND s.user_id = t.user_id AND (s.key < {low} OR s.key >= {high})
"""
# who was seen first or last on another day is not looked for again
USERS = f"""
UPDATE llmobs_users t SET {LESS},
  first_ns = CASE WHEN t.first_ns < p.first OR t.requests <= p.requests THEN t.first_ns ELSE ({{first}}) END,
  last_ns = CASE WHEN t.last_ns > p.last OR t.requests <= p.requests THEN t.last_ns ELSE ({{last}}) END
FROM (SELECT project, user_id, min(start_ns) AS first, max(start_ns) AS last, {SUM} {OF_USERS} GROUP BY 1, 2) p
WHERE t.project = p.project AND t.user_id = p.user_id
"""  # noqa: S608
WITHOUT_TRACES = "DELETE FROM {table} t USING {part} p WHERE t.project = p.project AND t.trace_id = p.trace_id"
# a judgement may name a span by its own id, or by the one that the app gave it
WITHOUT_SPANS = """
DELETE FROM llmobs_scores t USING {part} p
WHERE t.project = p.project AND t.target = 'span' AND (t.target_id = p.id OR t.target_id = p.request_id)
"""


class Standing(NamedTuple):
    """Whether a day may go as a whole. ``stragglers`` are traces of which a part arrived on another day, by project."""

    may_go: bool
    spans: int
    stragglers: Mapping[str, Sequence[str]]


class Shared(NamedTuple):
    """What other days have a part of: requests of such hours, requests of such sessions; and what is this day's own."""

    hours: Sequence[Counted]
    sessions: Sequence[Counted]
    session_traces: Mapping[tuple[str, str], int]
    own_hours: Sequence[tuple[str, int]]
    own_sessions: Sequence[tuple[str, str]]
    days: Sequence[tuple[str, int]]


def standing(connection: Connection, day: Day, limits: Mapping[str, int]) -> Standing:
    """How it stands with *day*.

    Args:
        connection: To PostgreSQL.
        day: One of :func:`asgi_llmobs.store.partitions.days`.
        limits: For each project, by its stored name, before when its traces must have ended.
    """
    part = partitions.part(day)
    ask = connection.exec_driver_sql
    if any(limits.get(project, 0) < day.end_ns for project in ask(PROJECTS.format(part=part)).scalars()):
        return Standing(False, 0, {})
    found = ask(TRACES.format(part=part)).all()
    spans, apart = sum(row[1] for row in found), sum(row[4] for row in found)
    old = all(counted and end < limits[project] for project, _, end, counted, _ in found)
    if not old or apart > MOST_ROWS or ask(KEPT.format(part=part)).scalar():
        return Standing(False, spans, {})
    stragglers: dict[str, list[str]] = {}
    if apart:
        for project, trace in ask(STRAGGLERS.format(part=part)):
            stragglers.setdefault(project, []).append(trace)
    return Standing(True, spans, stragglers)


def drop_day(connection: Connection, day: Day, limits: Mapping[str, int]) -> tuple[int, int] | None:
    """Drop *day* with all that hangs on its spans, and take it out of all totals.

    Args:
        connection: In a write transaction.
        day: One that was in good :func:`standing`, with no stragglers left.
        limits: As there.

    Returns:
        How many spans went, and about how many bytes; ``None`` where it cannot go as a whole.

    Raises:
        StoreError: Somebody reads for so long that it could not be done now, out of the transaction.
    """
    take_time(connection, SECONDS)
    found = standing(connection, day, limits)
    if not found.may_go or found.stragglers:
        return None
    part, contents = partitions.part(day), partitions.part(day, "llmobs_contents")
    shared = shared_with(connection, part)
    if shared is None:
        return None
    size = connection.exec_driver_sql(WEIGHT.format(part=part, contents=contents)).scalar() or 0
    take_from_users(connection, day, part)
    take_traces(connection, part)
    take_from_rollups(connection, shared)
    take_sessions(connection, shared.own_sessions)
    partitions.drop(connection, day)
    # what these sessions have left is asked of the spans
    changes = [Change(row, None) for row in shared.sessions]
    change_sessions(connection, changes, shared.session_traces)
    return found.spans, size


def shared_with(connection: Connection, part: str) -> Shared | None:
    """What of a day's partition belongs to hours and sessions of other days too; ``None`` where that is too much."""
    hours = connection.exec_driver_sql(HOURS.format(part=part)).all()
    sessions = connection.exec_driver_sql(SESSIONS.format(part=part)).all()
    both = [row for row in hours if row[3]], [row for row in sessions if row[4]]
    if sum(row[2] for rows in both for row in rows) > MOST_ROWS:
        return None
    of_hours = "project = %s AND start_ns >= %s AND start_ns < %s"
    of_session = "project = %s AND session_id = %s AND session_id IS NOT NULL"
    return Shared(
        hours=[
            row
            for project, hour, *_ in both[0]
            for row in rows_of(connection, part, of_hours, (project, hour * HOUR_NS, (hour + 1) * HOUR_NS))
        ],
        sessions=[row for place in both[1] for row in rows_of(connection, part, of_session, tuple(place[:2]))],
        session_traces=Counter({(row[0], row[1]): -row[3] for row in both[1]}),
        own_hours=[(row[0], row[1]) for row in hours if not row[3]],
        own_sessions=[(row[0], row[1]) for row in sessions if not row[4]],
        days=sorted({(row[0], row[1] // DAY_HOURS) for row in hours}),
    )


def rows_of(connection: Connection, part: str, where: str, values: tuple[Any, ...]) -> list[Counted]:
    statement = f"SELECT {COLUMNS} FROM {part} WHERE is_request = 1 AND {where}"  # noqa: S608
    return [Counted._make(row) for row in connection.exec_driver_sql(statement, values)]


def take_from_users(connection: Connection, day: Day, part: str) -> None:
    """Take the day's requests away from the totals of users; those who have no other go."""
    first, last = (
        OTHERS.format(edge=f"{edge}(s.start_ns)", low=day.low, high=day.high).strip() for edge in ("min", "max")
    )
    ask = connection.exec_driver_sql
    ask(USERS.format(part=part, first=first, last=last))
    users = OF_USERS.format(part=part)
    ask(f"DELETE FROM llmobs_users WHERE requests <= 0 AND (project, user_id) IN (SELECT project, user_id {users})")  # noqa: S608


def take_traces(connection: Connection, part: str) -> None:
    """Delete the day's traces, and what is said of them and their spans."""
    tables = ["llmobs_traces", "llmobs_aliases"]
    if connection.exec_driver_sql("SELECT EXISTS (SELECT FROM llmobs_scores)").scalar():
        connection.exec_driver_sql(WITHOUT_SPANS.format(part=part))
        tables.append("llmobs_scores")
    for table in tables:
        connection.exec_driver_sql(WITHOUT_TRACES.format(table=table, part=part))


def take_from_rollups(connection: Connection, shared: Shared) -> None:
    """Delete the hours that were the day's own, take the rest away from others, and add up their days anew."""
    for table in ROLLUPS if shared.own_hours else ():
        statement = f"DELETE FROM {table} WHERE project = %s AND hours = 1 AND start = %s"  # noqa: S608
        connection.exec_driver_sql(statement, list(shared.own_hours))
    roll(connection, (), shared.hours)
    for project, number in shared.days:
        recounted_day(connection, project, number)


def take_sessions(connection: Connection, places: Sequence[tuple[str, str]]) -> None:
    """Delete the sessions that were the day's own, and what is said of them."""
    if not places:
        return
    connection.exec_driver_sql(
        "DELETE FROM llmobs_sessions t USING unnest(%s::text[], %s::text[]) AS p (project, session_id) "
        "WHERE t.project = p.project AND t.session_id = p.session_id",
        ([project for project, _ in places], [session for _, session in places]),
    )
    for project in {project for project, _ in places}:
        scores.forget_sessions(connection, project, (session for where, session in places if where == project))
