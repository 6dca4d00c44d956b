"""A whole trace in outline: its tree, its figures and its names, without what only a chosen node needs."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Row, select

from asgi_llmobs.queries.timing import idle_gaps, mark_critical, note_skew, parallel_saving, work_of
from asgi_llmobs.store.database import in_chunks
from asgi_llmobs.store.tables import AttemptRow, SpanRow
from asgi_llmobs.store.trees import Fact, Node, Totals, arrange, roll_up, totals
from asgi_llmobs.store.values import name

__all__ = ["MAX_NODES", "Outline", "read_outline", "read_rows"]

MAX_NODES = 20_000

_spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
_attempts: Any = AttemptRow.__table__  # type: ignore[attr-defined]

NAMES = ("attempts", "name", "properties", "session_id", "session_name", "user_id")
NARROW = (*Fact._fields, *NAMES)
PLACE = {label: place for place, label in enumerate(NARROW)}


class Named(Fact):
    """A fact with what names the span behind it: one tuple a span, since there are thousands."""

    __slots__ = ()

    def said(self, label: str) -> Any:
        """One of ``NAMES``."""
        return self[PLACE[label]]


class Outline:
    """The tree of a trace and what it adds up to.

    Args:
        facts: The spans in the order of their start.
        waits: Nanoseconds between the attempts of a request, by its key.
        truncated: There are more spans than these.
    """

    def __init__(self, facts: Sequence[Named], waits: Mapping[int, int], *, truncated: bool) -> None:
        self._facts = facts
        self._waits = waits
        self.truncated = truncated
        self.nodes: list[Node] = arrange(facts)
        self.totals: Totals = totals(self.nodes)
        roll_up(self.nodes)
        mark_critical(self.nodes)
        note_skew(self.nodes)
        self._work = work_of(self.nodes)

    def dissolve(self) -> None:
        """Take the tree apart: thousands of nodes that know each other would wait for the garbage collector."""
        for node in self.nodes:
            node.parent = None

    def title(self) -> str:
        """What the trace is called: as its root."""
        return self.name(self.totals.root) if self.totals.root is not None else ""

    def said(self, label: str) -> str | None:
        """The first ``session_id``, ``session_name`` or ``user_id`` that any span names."""
        return next(filter(None, map(itemgetter(PLACE[label]), self._facts)), None)

    def name(self, node: Node) -> str:
        """The name of a node; of a virtual one the last segment of its path."""
        return str(node.fact.said("name")) if isinstance(node.fact, Named) else node.id.rsplit(":", 1)[-1]

    def words(self, node: Node) -> str:
        """All that names a node, folded for a search."""
        fact = node.fact
        named = (fact.node_id, fact.said("name"), fact.said("properties")) if isinstance(fact, Named) else ()
        texts = (node.id, *named)
        return "\n".join(text for text in texts if text).casefold()

    def wait_ns(self, node: Node) -> int:
        """Nanoseconds that a request waited between its attempts."""
        return self._waits.get(node.fact.key, 0) if node.fact is not None else 0

    @property
    def retry_wait_ns(self) -> int:
        """Nanoseconds that all requests together waited between their attempts."""
        return sum(self._waits.values())

    @property
    def parallel_saving_ns(self) -> int:
        """Nanoseconds that the leaves would have taken longer one after the other."""
        return parallel_saving(self._work)

    @property
    def idle_gaps(self) -> list[tuple[int, int]]:
        """When no leaf was at work for long, in nanoseconds since 1970."""
        return idle_gaps(self.nodes, self._work)


def read_outline(connection: Connection, project: str, trace_id: str) -> Outline | None:
    """The trace; ``None`` where the project has none. Of a huge one the first 20,000 spans."""
    rows = read_rows(connection, project, trace_id, NARROW)
    truncated = len(rows) > MAX_NODES
    if truncated:
        rows = read_rows(connection, project, trace_id, NARROW, " ORDER BY start_ns, key")[:MAX_NODES]
    if not rows:
        return None
    facts = [tuple.__new__(Named, row) for row in rows]
    facts.sort(key=itemgetter(PLACE["start_ns"], PLACE["key"]))
    again = [row[0] for row in rows if row[PLACE["attempts"]] > 1]
    return Outline(facts, read_waits(connection, again), truncated=truncated)


def read_rows(
    connection: Connection, project: str, trace_id: str, columns: Sequence[str], order: str = ""
) -> list[tuple[Any, ...]]:
    """These columns of the spans as plain tuples, one more than are shown: Row objects would cost twice as much."""
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    statement = (
        f"SELECT {', '.join(columns)} FROM llmobs_spans WHERE project = {mark} AND trace_id = {mark}"  # noqa: S608
        f"{order} LIMIT {MAX_NODES + 1}"
    )
    result = connection.exec_driver_sql(statement, (name(project), name(trace_id.lower())))
    assert result.cursor is not None
    rows = list(result.cursor.fetchall())
    result.close()
    return rows


def read_waits(connection: Connection, keys: Sequence[int]) -> dict[int, int]:
    """How long each of these requests waited between its attempts; one whose end is unknown waited for nothing."""
    waits: dict[int, int] = {}
    columns = _attempts.c
    wanted = select(columns.key, columns.start_ns, columns.duration_ns).order_by(columns.key, columns.number)
    for chunk in in_chunks(keys):
        before: Row[Any] | None = None
        for row in connection.execute(wanted.where(columns.key.in_(chunk))):
            if before is not None and before.key == row.key and before.duration_ns is not None:
                pause = row.start_ns - before.start_ns - before.duration_ns
                waits[row.key] = waits.get(row.key, 0) + max(0, pause)
            before = row
    return waits
