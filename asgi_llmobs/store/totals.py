"""Totals of traces and sessions, kept in the transaction that writes their spans."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection

from asgi_llmobs.store.database import in_chunks, insert
from asgi_llmobs.store.tables import SessionRow, SpanRow, TraceRow
from asgi_llmobs.store.trees import Fact, arrange, total, totals
from asgi_llmobs.store.values import integer

__all__ = ["Totals", "recount_sessions"]

_traces = TraceRow.__table__  # type: ignore[attr-defined]
_sessions = SessionRow.__table__  # type: ignore[attr-defined]
COLUMN = {column.name: place for place, column in enumerate(SpanRow.__table__.columns)}  # type: ignore[attr-defined]

READ = (*Fact._fields, "trace_id", "session_id", "user_id", "name", "route", "session_name")
SPANS_OF = f"SELECT {', '.join(READ)} FROM llmobs_spans WHERE project = {{mark}} AND trace_id IN ({{marks}})"  # noqa: S608
COUNT = """
SELECT session_id, min(start_ns), max(start_ns + coalesce(duration_ns, 0)), count(*), count(DISTINCT trace_id),
  sum(CASE WHEN outcome = 'error' THEN 1 ELSE 0 END), sum(cost),
  sum(CASE WHEN cost IS NULL AND outcome <> 'running' THEN 1 ELSE 0 END), sum(input_tokens), sum(output_tokens)
FROM llmobs_spans WHERE is_request = 1 AND session_id IS NOT NULL AND project = {mark} AND session_id IN ({marks})
GROUP BY session_id
"""
NAMES = """
SELECT session_name, user_id FROM llmobs_spans WHERE is_request = 1 AND project = {mark} AND session_id = {mark}
AND (session_name IS NOT NULL OR user_id IS NOT NULL) ORDER BY start_ns DESC LIMIT 1
"""


class Member(NamedTuple):
    """A span of a touched trace: what the tree needs, and what names the trace."""

    fact: Fact
    trace_id: str
    session_id: str | None
    user_id: str | None
    name: str
    route: str | None
    session_name: str | None


@dataclass(slots=True)
class Share:
    """What a batch adds to one session."""

    name: str | None = None
    user_id: str | None = None
    start_ns: int = 2**63 - 1
    end_ns: int = 0
    requests: int = 0
    traces: set[str] = field(default_factory=set)
    errors: int = 0
    cost: list[int | None] = field(default_factory=list)
    unpriced: int = 0
    input_tokens: list[int | None] = field(default_factory=list)
    output_tokens: list[int | None] = field(default_factory=list)


class Totals:
    """Gathers which traces and sessions a transaction touches, and brings them up to date at its end.

    A trace is computed anew from all its spans. A session may hold any number of requests: what is new is added to
    it, and it is counted anew only where a row of it changed.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._traces: dict[str, set[str]] = defaultdict(set)
        self._new: dict[str, dict[str, Share]] = defaultdict(dict)
        self._new_keys: set[int] = set()
        self._recount: dict[str, set[str]] = defaultdict(set)

    def added(self, span: Sequence[Any]) -> None:
        """A row of ``llmobs_spans`` that is new."""
        project = span[COLUMN["project"]]
        self._traces[project].add(span[COLUMN["trace_id"]])
        session = span[COLUMN["session_id"]]
        if session is None or not span[COLUMN["is_request"]]:
            return
        self._new_keys.add(span[COLUMN["key"]])
        share = self._new[project].setdefault(session, Share())
        start, outcome, cost = span[COLUMN["start_ns"]], span[COLUMN["outcome"]], span[COLUMN["cost"]]
        share.name = span[COLUMN["session_name"]] or share.name
        share.user_id = span[COLUMN["user_id"]] or share.user_id
        share.start_ns = min(share.start_ns, start)
        share.end_ns = max(share.end_ns, start + (span[COLUMN["duration_ns"]] or 0))
        share.requests += 1
        share.traces.add(span[COLUMN["trace_id"]])
        share.errors += outcome == "error"
        share.cost.append(cost)
        share.unpriced += cost is None and outcome != "running"
        share.input_tokens.append(span[COLUMN["input_tokens"]])
        share.output_tokens.append(span[COLUMN["output_tokens"]])

    def changed(self, span: Sequence[Any], trace_before: str, session_before: str | None) -> None:
        """A row that was there already and now reads *span*."""
        project = span[COLUMN["project"]]
        self._traces[project].update((span[COLUMN["trace_id"]], trace_before))
        for session in (span[COLUMN["session_id"]], session_before):
            if session is not None:
                self._recount[project].add(session)

    def refresh(self) -> None:
        """Write the totals of all that was touched."""
        for project, traces in self._traces.items():
            counted_before = self._refresh_traces(project, traces)
            self._add_shares(project, counted_before)
        for project, sessions in self._recount.items():
            recount_sessions(self.connection, project, sessions)

    def _refresh_traces(self, project: str, traces: Iterable[str]) -> set[tuple[str, str]]:
        """Write the touched traces; returns which pairs of session and trace had requests before."""
        before: set[tuple[str, str]] = set()
        members: dict[str, list[Member]] = {trace: [] for trace in traces}
        width = len(Fact._fields)
        for chunk in in_chunks(members):
            for row in self.connection.exec_driver_sql(*filled(self.connection, SPANS_OF, project, chunk)):
                member = Member(Fact(*row[:width]), *row[width:])
                members[member.trace_id].append(member)
                if member.session_id is not None and member.fact.is_request and member.fact.key not in self._new_keys:
                    before.add((member.session_id, member.trace_id))
        rows = [trace_row(project, trace, found) for trace, found in members.items() if found]
        insert(self.connection, _traces, rows, replace=True)
        emptied = [trace for trace, found in members.items() if not found]
        if emptied:
            chosen = (_traces.c.project == project) & _traces.c.trace_id.in_(emptied)
            self.connection.execute(_traces.delete().where(chosen))
        return before

    def _add_shares(self, project: str, counted_before: set[tuple[str, str]]) -> None:
        shares = {
            session: share for session, share in self._new[project].items() if session not in self._recount[project]
        }
        if not shares:
            return
        stored: dict[str, Any] = {}
        for chunk in in_chunks(shares):
            chosen = (_sessions.c.project == project) & _sessions.c.session_id.in_(chunk)
            stored |= {row.session_id: row for row in self.connection.execute(_sessions.select().where(chosen))}
        rows = []
        for session, share in shares.items():
            row = stored.get(session)
            new_traces = sum((session, trace) not in counted_before for trace in share.traces)
            rows.append(
                (
                    project,
                    session,
                    share.name or (row.name if row else None),
                    share.user_id or (row.user_id if row else None),
                    min(share.start_ns, row.start_ns) if row else share.start_ns,
                    max(share.end_ns, row.end_ns) if row else share.end_ns,
                    share.requests + (row.requests if row else 0),
                    new_traces + (row.traces if row else 0),
                    share.errors + (row.errors if row else 0),
                    integer(total([*share.cost, row.cost if row else None])),
                    share.unpriced + (row.unpriced if row else 0),
                    integer(total([*share.input_tokens, row.input_tokens if row else None])),
                    integer(total([*share.output_tokens, row.output_tokens if row else None])),
                )
            )
        insert(self.connection, _sessions, rows, replace=True)


def trace_row(project: str, trace_id: str, members: Sequence[Member]) -> tuple[Any, ...]:
    found = totals(arrange(member.fact for member in members))
    by_start = sorted(members, key=lambda member: (member.fact.start_ns, member.fact.key))
    root = next((item for item in by_start if found.root is not None and item.fact is found.root.fact), by_start[0])
    return (
        project,
        trace_id,
        root.fact.id,
        root.name,
        root.fact.kind,
        root.route,
        next((member.session_id for member in by_start if member.session_id is not None), None),
        next((member.user_id for member in by_start if member.user_id is not None), None),
        found.start_ns,
        found.duration_ns,
        found.outcome,
        found.requests,
        found.finished,
        found.succeeded,
        found.spans,
        found.errors,
        found.depth,
        integer(found.cost),
        found.unpriced,
        integer(found.input_tokens),
        integer(found.output_tokens),
    )


def recount_sessions(connection: Connection, project: str, sessions: Iterable[str]) -> None:
    """Count *sessions* anew from their requests; one without any is gone."""
    left = set(sessions)
    rows = []
    for chunk in in_chunks(left.copy()):
        for row in connection.exec_driver_sql(*filled(connection, COUNT, project, chunk)):
            session = row[0]
            left.discard(session)
            statement, _ = filled(connection, NAMES, project, [])
            named = connection.exec_driver_sql(statement, (project, session)).first()
            rows.append((project, session, *(named or (None, None)), *row[1:]))
    insert(connection, _sessions, rows, replace=True)
    for chunk in in_chunks(left):
        chosen = (_sessions.c.project == project) & _sessions.c.session_id.in_(chunk)
        connection.execute(_sessions.delete().where(chosen))


def filled(connection: Connection, statement: str, project: str, values: list[str]) -> tuple[str, tuple[Any, ...]]:
    """*statement* with as many marks as there are *values*, and what they stand for."""
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    return statement.format(mark=mark, marks=", ".join([mark] * len(values))), (project, *values)
