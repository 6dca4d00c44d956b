"""One call, one record: what an instrumentation told of a call is put on the record of what was seen on the wire.

The record is kept under the id that the instrumentation gave, so that what hangs below it stays there; a note of the
other id leads to it whatever comes later, and in whatever order.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from sqlalchemy import Connection, select

from asgi_llmobs.pairing import (
    SLACK_NS,
    TOLD,
    Home,
    Pairs,
    Seen,
    as_node,
    brought_home,
    innermost_first,
    models,
    named_like,
    pair_up,
    seen_record,
    strays,
    tells_nothing,
)
from asgi_llmobs.records import Request, Span
from asgi_llmobs.store import scores
from asgi_llmobs.store.database import in_chunks, insert
from asgi_llmobs.store.removal import COLUMNS, take_out
from asgi_llmobs.store.rows import clean_properties, fold_name, property_rows
from asgi_llmobs.store.sums import mark_of
from asgi_llmobs.store.tables import AliasRow, MetaRow, PropertyRow, SpanRow
from asgi_llmobs.store.totals import Totals
from asgi_llmobs.store.values import json_bytes, name

__all__ = ["Merging"]

FLAG = "told"  # in the table of facts: there is something told in this database
Place = tuple[str, str]
Records = dict[Place, Span]

_spans = SpanRow.__table__  # type: ignore[attr-defined]
_aliases = AliasRow.__table__  # type: ignore[attr-defined]
_meta = MetaRow.__table__  # type: ignore[attr-defined]
_properties = PropertyRow.__table__  # type: ignore[attr-defined]
NEEDED = tuple(
    _spans.c[label]
    for label in (
        "key", "id", "trace_id", "parent_id", "api", "operation", "request_model", "response_model", "response_id",
        "start_ns", "duration_ns", "name", "session_id", "user_id", "properties", "input_tokens", "output_tokens",
    )
)  # fmt: skip


class Merging:
    """Merges within one transaction.

    Args:
        connection: Of the transaction.
        totals: Are told what changes.
    """

    def __init__(self, connection: Connection, totals: Totals) -> None:
        self.connection = connection
        self.totals = totals
        self.replaced: set[Place] = set()  # records that take the place of a row that says less

    def apply(self, records: Records) -> Records:
        """*records* as they are to be stored; what concerns stored rows is done at once."""
        told = any(isinstance(record, Request) and record.api == TOLD for record in records.values())
        if not told and not self._any_told():
            return records
        if told:
            insert(self.connection, _meta, [(FLAG, "1")], replace=True)
        by_project: dict[str, Records] = defaultdict(dict)
        for place, record in records.items():
            by_project[place[0]][place] = record
        out: Records = {}
        for project, own in by_project.items():
            out |= self._project(project, own)
        return out

    def _any_told(self) -> bool:
        # in every batch: making the statement anew would cost five times as much as asking
        statement = f"SELECT 1 FROM {_meta.name} WHERE name = {mark_of(self.connection)}"  # noqa: S608
        return self.connection.exec_driver_sql(statement, (FLAG,)).first() is not None

    def _project(self, project: str, records: Records) -> Records:
        homes = self._homes(project, records)
        if homes:
            records = {place: brought_home(record, homes) for place, record in records.items()}
        traces = {name(record.trace_id) or "" for record in records.values()}
        aliases = self._aliases(project, traces)
        stored = self._stored(project, traces)
        records = self._known(project, records, aliases, stored)
        by_trace: dict[str, dict[str, Seen]] = defaultdict(dict)
        for id, row in stored.items():
            by_trace[row.trace_id][id] = seen_row(row)
        for (_, id), record in records.items():
            if isinstance(record, Request):
                by_trace[name(record.trace_id) or ""][id] = seen_record(record)
        for trace, calls in by_trace.items():
            if any(call.told for call in calls.values()):
                ask = partial(self._parents, project, trace, records)
                pairs = pair_up(calls.values(), ask, set(aliases.values()))
                records = self._trace(project, trace, records, pairs, stored)
        return records

    def _parents(self, project: str, trace: str, records: Records) -> dict[str, str | None]:
        """The parent of each span of a trace, stored or not."""
        chosen = (_spans.c.project == project) & (_spans.c.trace_id == trace)
        rows = self.connection.execute(select(_spans.c.id, _spans.c.parent_id).where(chosen))
        found = {row.id: row.parent_id for row in rows}
        return found | {id: record.parent_id for (_, id), record in records.items() if record.trace_id == trace}

    def _homes(self, project: str, records: Records) -> dict[str, Home]:
        """The traces of the calls that were told of outside any, by the trace of what was told."""
        stray = strays(records.values())
        seen: list[Any] = [record for record in records.values() if isinstance(record, Request) and record.api != TOLD]
        if stray:
            first = min(record.start_ns for record in stray.values()) - SLACK_NS
            last = max(record.start_ns + (record.duration_ns or 0) for record in stray.values())
            then = (_spans.c.project == project) & _spans.c.start_ns.between(first, last)
            for chunk in in_chunks(stray):
                chosen = then & _spans.c.response_id.in_(chunk) & (_spans.c.api != TOLD)
                seen += self.connection.execute(select(*NEEDED).where(chosen)).all()
        return {
            stray[call.response_id].trace_id: Home(call.trace_id, call.parent_id)
            for call in seen
            if call.response_id in stray
        }

    def _aliases(self, project: str, traces: Iterable[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for chunk in in_chunks(traces):
            chosen = (_aliases.c.project == project) & _aliases.c.trace_id.in_(chunk)
            found |= {row.id: row.request_id for row in self.connection.execute(_aliases.select().where(chosen))}
        return found

    def _stored(self, project: str, traces: Iterable[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for chunk in in_chunks(traces):
            chosen = (_spans.c.project == project) & _spans.c.trace_id.in_(chunk) & (_spans.c.is_request == 1)
            found |= {row.id: row for row in self.connection.execute(select(*NEEDED).where(chosen))}
        return found

    def _known(self, project: str, records: Records, aliases: Mapping[str, str], stored: Mapping[str, Any]) -> Records:
        """Further records of calls that were merged before, under the id that they have now."""
        out: Records = {}
        for (_, id), record in records.items():
            now = aliases.get(id)
            if now is None:
                parent = aliases.get(record.parent_id or "")
                out[project, id] = record if parent in (None, id) else replace(record, parent_id=parent)
            elif now not in stored:
                out[project, id] = record
            elif isinstance(record, Request) and record.api != TOLD:
                out[project, now] = named_like(record, told_row(stored[now]))
        return out

    def _trace(self, project: str, trace: str, records: Records, pairs: Pairs, stored: Mapping[str, Any]) -> Records:
        for id in pairs.crowded:
            record = records.get((project, id))
            if isinstance(record, Request):  # its parts are counted, so it is not
                records[project, id] = as_node(record)
        moved: dict[str, str] = {}
        for outer in innermost_first(pairs.same):
            inner = pairs.same[outer]
            inner = moved.get(inner, inner)
            self._merge(project, records, outer, inner, stored)
            for old, new in list(moved.items()):
                moved[old] = outer if new == inner else new
            moved[inner] = outer
        for id, base in pairs.again.items():
            if records.pop((project, id), None) is None:
                self._take_out(project, id)
            moved[id] = moved.get(base, base)
        if moved:
            self._follow(project, trace, records, moved)
            rows = [(project, old, trace, new) for old, new in moved.items()]
            insert(self.connection, _aliases, rows, replace=True)
            chosen = (_aliases.c.project == project) & (_aliases.c.trace_id == trace)
            for old, new in moved.items():
                again = chosen & (_aliases.c.request_id == old)
                self.connection.execute(_aliases.update().where(again).values(request_id=new))
                scores.move(self.connection, project, old, new)
        return records

    def _follow(self, project: str, trace: str, records: Records, moved: Mapping[str, str]) -> None:
        """What hangs below a call hangs below it under the id that it has now."""
        for place, record in records.items():
            now = moved.get(record.parent_id or "")
            if now not in (None, place[1]):
                records[place] = replace(record, parent_id=now)
        for old, new in moved.items():
            below = (_spans.c.project == project) & (_spans.c.trace_id == trace) & (_spans.c.parent_id == old)
            self.connection.execute(_spans.update().where(below & (_spans.c.id != new)).values(parent_id=new))

    def _merge(self, project: str, records: Records, outer: str, inner: str, stored: Mapping[str, Any]) -> None:
        """What was told under the id *outer* is put on the call *inner*, which has that id from now on."""
        told, seen = records.get((project, outer)), records.get((project, inner))
        if told is None:
            told = told_row(self._row(project, outer))
        if isinstance(seen, Request):
            del records[project, inner]
            if inner in stored:
                self._rename(project, inner, outer, told)
            records[project, outer] = named_like(seen, told)
            self.replaced.add((project, outer))
        else:
            records.pop((project, outer), None)
            self._rename(project, inner, outer, told)

    def _row(self, project: str, id: str) -> Any:
        return self.connection.execute(_spans.select().where(_spans.c.project == project, _spans.c.id == id)).one()

    def _rename(self, project: str, inner: str, outer: str, told: Span) -> None:
        """A stored call gets the id, name and place that it was told to have."""
        row = self._row(project, inner)
        self._take_out(project, outer)
        own = orjson.loads(row.properties) if row.properties else {}
        known = {fold_name(label) for label in own}
        found = clean_properties(told.properties)
        added = {label: value for label, value in found.items() if fold_name(label) not in known}
        self.connection.execute(
            _spans.update().where(_spans.c.key == row.key).values(
                id=outer,
                name=told.name,
                parent_id=name(told.parent_id),
                session_id=row.session_id or name(told.session_id),
                user_id=row.user_id or name(told.user_id),
                properties=json_bytes({**added, **own}).decode() if added else row.properties,
            )
        )  # fmt: skip
        insert(self.connection, _properties, property_rows(project, added, row.start_ns, row.key))
        self.totals.changed(tuple(self._row(project, outer)), row)

    def _take_out(self, project: str, id: str) -> None:
        """Of a call that has two rows the one that was only told goes."""
        chosen = (_spans.c.project == project) & (_spans.c.id == id)
        for row in self.connection.execute(select(*COLUMNS).where(chosen)).all():
            take_out(self.connection, project, [row])
            self.totals.removed(row)


def told_row(row: Any) -> Span:
    """What names a call, of a stored row."""
    return Span(
        id=row.id, trace_id=row.trace_id, parent_id=row.parent_id, name=row.name, session_id=row.session_id,
        user_id=row.user_id, properties=orjson.loads(row.properties) if row.properties else {},
    )  # fmt: skip


def seen_row(row: Any) -> Seen:
    return Seen(
        row.id, row.trace_id, row.parent_id, row.api == TOLD, row.operation or "", models(row), row.response_id,
        row.start_ns, row.duration_ns, row.name, tells_nothing(row),
    )  # fmt: skip
