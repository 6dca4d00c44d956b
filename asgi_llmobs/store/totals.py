"""Totals of traces, sessions, users and rollups, kept in the transaction that writes their spans."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from asgi_llmobs.pace import paced
from asgi_llmobs.store.database import in_chunks, insert
from asgi_llmobs.store.rollups import roll
from asgi_llmobs.store.sessions import change_sessions
from asgi_llmobs.store.sums import Change, counted, counted_row, filled
from asgi_llmobs.store.tables import SpanRow, TraceRow
from asgi_llmobs.store.trees import Fact, totals_of
from asgi_llmobs.store.users import change_users
from asgi_llmobs.store.values import integer

__all__ = ["Member", "Totals", "members_of", "trace_row"]

_traces = TraceRow.__table__  # type: ignore[attr-defined]
COLUMN = {column.name: place for place, column in enumerate(SpanRow.__table__.columns)}  # type: ignore[attr-defined]
KEY, PROJECT, TRACE, IS_REQUEST = (COLUMN[name] for name in ("key", "project", "trace_id", "is_request"))

READ = (*Fact._fields, "trace_id", "session_id", "user_id", "name", "route")
SPANS_OF = f"SELECT {', '.join(READ)} FROM llmobs_spans WHERE project = {{mark}} AND trace_id IN ({{marks}})"  # noqa: S608


class Member(NamedTuple):
    """A span of a touched trace: what the tree needs, and what names the trace."""

    fact: Fact
    trace_id: str
    session_id: str | None
    user_id: str | None
    name: str
    route: str | None


class Totals:
    """Gathers what a transaction changes, and brings all totals up to date at its end.

    A trace is computed anew from all its spans. All others hold any number of requests: what is new is added to them,
    what goes is taken away, and what changes is both.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._traces: dict[str, set[str]] = defaultdict(set)
        self._requests: dict[int, Change] = {}

    def added(self, span: Sequence[Any]) -> None:
        """A row of ``llmobs_spans`` that is new."""
        self._traces[span[PROJECT]].add(span[TRACE])
        if span[IS_REQUEST]:
            self._requests[span[KEY]] = Change(None, counted(span))

    def changed(self, span: Sequence[Any], before: Any) -> None:
        """A row that was there already, as *before* with named columns, and now reads *span*."""
        self._traces[span[PROJECT]].update((span[TRACE], before.trace_id))
        known = self._requests.get(span[KEY])
        first = known.before if known is not None else counted_row(before) if before.is_request else None
        self._requests[span[KEY]] = Change(first, counted(span) if span[IS_REQUEST] else None)

    def removed(self, before: Any, *, trace_too: bool = False) -> None:
        """A row, given with named columns, that is gone.

        Args:
            before: What it was.
            trace_too: Whether :meth:`refresh` counts its trace anew; else that is the caller's business.
        """
        if trace_too:
            self._traces[before.project].add(before.trace_id)
        if before.is_request:
            self._requests[before.key] = Change(counted_row(before), None)

    def refresh(self) -> None:
        """Write the totals of all that was touched."""
        after: Counter[tuple[str, str, str]] = Counter()
        for project, traces in self._traces.items():
            for member in paced(self._refresh_traces(project, traces)):
                if member.session_id is not None and member.fact.is_request:
                    after[project, member.session_id, member.trace_id] += 1
        self.settle(after)

    def settle(self, after: Counter[tuple[str, str, str]]) -> None:
        """Write the totals of sessions and users, and the rollups.

        Args:
            after: How many requests each pair of session and trace has now, by project, of all traces touched.
        """
        changes = self._requests.values()
        if not changes:
            return
        before = after.copy()
        for change in paced(changes):
            for row, count in ((change.after, -1), (change.before, 1)):
                if row is not None and row.session_id is not None:
                    before[row.project, row.session_id, row.trace_id] += count
        traces: Counter[tuple[str, str]] = Counter()
        for project, session, trace in before:
            traces[project, session] += (after[project, session, trace] > 0) - (before[project, session, trace] > 0)
        change_sessions(self.connection, changes, traces)
        change_users(self.connection, changes)
        roll(
            self.connection,
            [change.after for change in changes if change.after is not None],
            [change.before for change in changes if change.before is not None],
        )

    def _refresh_traces(self, project: str, traces: Iterable[str]) -> list[Member]:
        """Write the touched traces; returns all their spans."""
        members = members_of(self.connection, project, traces)
        rows = [trace_row(project, trace, found) for trace, found in paced(members.items()) if found]
        insert(self.connection, _traces, rows, replace=True)
        emptied = [trace for trace, found in members.items() if not found]
        if emptied:
            chosen = (_traces.c.project == project) & _traces.c.trace_id.in_(emptied)
            self.connection.execute(_traces.delete().where(chosen))
        return [member for found in members.values() for member in found]


def members_of(connection: Connection, project: str, traces: Iterable[str]) -> dict[str, list[Member]]:
    """The spans of each of *traces*."""
    members: dict[str, list[Member]] = {trace: [] for trace in traces}
    width = len(Fact._fields)
    for chunk in in_chunks(members):
        for row in paced(connection.exec_driver_sql(*filled(connection, SPANS_OF, project, chunk))):
            members[row[width]].append(Member(Fact(*row[:width]), *row[width:]))
    return members


def trace_row(project: str, trace_id: str, members: Sequence[Member]) -> tuple[Any, ...]:
    found = totals_of([member.fact for member in members])
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
        found.own_ns,
        found.waited_ns,
    )
