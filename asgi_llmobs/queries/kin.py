"""The calls around a request: the one that it goes on from, neighbours in session and trace, its repetitions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select

from asgi_llmobs.queries.select import REQUESTS
from asgi_llmobs.records import REPLAY_OF, Request, node_path
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.rows import fold_name
from asgi_llmobs.store.tables import PropertyRow, SpanRow
from asgi_llmobs.store.values import name

__all__ = ["Kin", "Sibling", "find_in_trace", "kin_of"]

NEAR = 60  # calls before this one among which the one of the same node is looked for
AFTER = 3  # calls behind it that may bring the results of its tool calls
REPLAYS = 20

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
properties: Any = PropertyRow.__table__  # type: ignore[attr-defined]
Moment = tuple[int, int]  # when a call began, and its row key
COLUMNS = tuple(
    spans.c[label]
    for label in ("key", "id", "start_ns", "name", "node_id", "caller", "operation", "outcome", "duration_ns", "cost")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """Another call, in as few words as a link needs."""

    id: str
    name: str
    start_ns: int
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kin:
    """The calls around one. ``relation`` says in words what the previous call has in common with it."""

    previous_id: str | None
    relation: str | None
    session_older: str | None
    session_newer: str | None
    trace_older: str | None
    trace_newer: str | None
    after: Sequence[str]  # the next calls of the session, or of the trace where there is none
    replays: Sequence[Sibling]


def kin_of(db: Database, request: Request) -> Kin:
    """The calls around *request*.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = spans.c
    with db.read() as connection:
        own = and_(columns.project == name(request.project), REQUESTS.base)
        key = connection.execute(select(columns.key).where(own, columns.id == name(request.id))).scalar() or 0
        at = (request.start_ns, key)
        of_session = and_(own, columns.session_id == name(request.session_id)) if request.session_id else None
        of_trace = and_(own, columns.trace_id == name(request.trace_id))
        groups = {
            "session": Near(connection, of_session, at),
            "trace": Near(connection, of_trace, at, indexed=False),
        }
        previous, relation = previous_of(connection, request, own, at, groups)
        session, trace = groups["session"], groups["trace"]
        return Kin(
            previous_id=previous,
            relation=relation,
            session_older=session.older[0].id if session.older else None,
            session_newer=session.newer[0].id if session.newer else None,
            trace_older=trace.older[0].id if trace.older else None,
            trace_newer=trace.newer[0].id if trace.newer else None,
            after=[row.id for row in (session.newer or trace.newer)[:AFTER]],
            replays=replays_of(connection, request),
        )


class Near:
    """The nearest calls of one session or trace on both sides of a moment, the nearest first."""

    def __init__(
        self, connection: Connection, where: ColumnElement[bool] | None, at: Moment, *, indexed: bool = True
    ) -> None:
        self.older: list[Row[Any]] = []
        self.newer: list[Row[Any]] = []
        if where is not None:
            self.older = rows_beside(connection, where, at, NEAR, newer=False, indexed=indexed)
            self.newer = rows_beside(connection, where, at, AFTER, newer=True, indexed=indexed)


def rows_beside(
    connection: Connection, where: ColumnElement[bool], at: Moment, limit: int, *, newer: bool, indexed: bool = True
) -> list[Row[Any]]:
    """The nearest rows before or after a moment; *indexed*: there is an index of *where* in the order of time."""
    # a sum is in no index: where rows are found by another one, that of all times must not tempt the database
    time = spans.c.start_ns if indexed else spans.c.start_ns + 0
    key = spans.c.key
    beyond = and_(time >= at[0] if newer else time <= at[0], beside_tie(time, key, at, newer=newer))
    order = (time.asc(), key.asc()) if newer else (time.desc(), key.desc())
    found = select(*COLUMNS).where(where, beyond).order_by(*order).limit(limit)
    return list(connection.execute(found))


def beside_tie(time: Any, key: Any, at: Moment, *, newer: bool) -> ColumnElement[bool]:
    return or_(time != at[0], key > at[1] if newer else key < at[1])


def previous_of(
    connection: Connection, request: Request, own: ColumnElement[bool], at: Moment, groups: dict[str, Near]
) -> tuple[str | None, str | None]:
    """The call that this one goes on from: of the same node if there is one, in the session before the trace."""
    for label, near in groups.items():
        found = next((row for row in near.older if same_node(request, row)), None)
        if found is not None:
            return found.id, f"the same node, in this {label}"
    for label, near in groups.items():
        found = next((row for row in near.older if row.operation == request.operation), None)
        if found is not None:
            return found.id, f"the call before it in this {label}"
    if not request.request_model or not (request.node_id or request.caller):
        return None, None
    where = and_(own, spans.c.request_model == name(request.request_model))
    for row in rows_beside(connection, where, at, NEAR, newer=False):
        if same_node(request, row):
            return row.id, "the same node, in another trace"
    return None, None


def same_node(request: Request, row: Row[Any]) -> bool:
    """Whether both were made by the same step of the app: its Node-Id, else the line of code, else the name."""
    if request.operation != (row.operation or "other"):
        return False
    own, other = node_path(request.node_id), node_path(row.node_id)
    if own or other:
        return own[-1:] == other[-1:]
    if request.caller or row.caller:
        return bool(request.caller == row.caller)
    return bool(request.name == row.name)


def replays_of(connection: Connection, request: Request) -> list[Sibling]:
    """What was sent again of it, the newest first."""
    columns = properties.c
    wanted = select(columns.key).where(
        columns.project == name(request.project),
        columns.name == fold_name(REPLAY_OF),
        columns.value == name(request.id),
    )
    keys = list(connection.execute(wanted.order_by(columns.start_ns.desc()).limit(REPLAYS)).scalars())
    if not keys:
        return []
    rows = connection.execute(
        select(*COLUMNS).where(spans.c.key.in_(keys), spans.c.is_request == 1).order_by(spans.c.start_ns.desc())
    )
    return [Sibling(id=row.id, name=row.name, start_ns=row.start_ns, outcome=row.outcome) for row in rows]


def find_in_trace(db: Database, trace_id: str, *, project: str) -> str | None:
    """The id of the newest request of a trace.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = spans.c
    with db.read(fresh=True) as connection:
        wanted = select(columns.id).where(
            columns.project == name(project), columns.trace_id == name(trace_id), REQUESTS.base
        )
        found: str | None = connection.execute(wanted.order_by((columns.start_ns + 0).desc()).limit(1)).scalar()
        return found
