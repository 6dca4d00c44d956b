"""What requests add up to: the columns that count, and their sums, which are kept by adding and taking away."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table

from asgi_llmobs.pace import give_way, paced
from asgi_llmobs.store.database import AT_ONCE, in_chunks
from asgi_llmobs.store.tables import SpanRow
from asgi_llmobs.store.values import BIGGEST

__all__ = [
    "Change",
    "Counted",
    "Group",
    "MOST_COST",
    "MOST_TOKENS",
    "SUMS",
    "add_to",
    "counted",
    "counted_row",
    "difference",
    "filled",
    "groups",
    "known",
    "mark_of",
    "sums",
]

# what one request may count for at most, so that sums stay within 64 bits: 10,000 dollars, 10^12 tokens
MOST_COST = 10**16
MOST_TOKENS = 10**12

SUMS = (
    "requests", "errors", "priced", "unpriced", "cost", "inputs", "input_tokens", "outputs", "output_tokens",
)  # fmt: skip


class Counted(NamedTuple):
    """The columns of a request's row that any total looks at."""

    key: int
    project: str
    trace_id: str
    start_ns: int
    duration_ns: int | None
    outcome: str
    status: int | None
    session_id: str | None
    session_name: str | None
    user_id: str | None
    route: str | None
    provider: str | None
    operation: str | None
    request_model: str | None
    response_model: str | None
    first_token_ns: int | None
    cost: int | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read: int | None
    cache_write: int | None
    reasoning: int | None
    audio_input: int | None
    audio_output: int | None
    image_input: int | None
    image_output: int | None
    estimated: int
    truncated: int
    calls_tools: int

    @property
    def end_ns(self) -> int:
        """When it ended, as far as is known."""
        return min(self.start_ns + (self.duration_ns or 0), BIGGEST)


_places = {column.name: place for place, column in enumerate(SpanRow.__table__.columns)}  # type: ignore[attr-defined]
_of_tuple = itemgetter(*(_places[name] for name in Counted._fields))
_of_row = attrgetter(*Counted._fields)
_make = Counted._make


def counted(span: Sequence[Any]) -> Counted:
    """What counts of a row of ``llmobs_spans``, given with all columns in order."""
    return _make(_of_tuple(span))


def counted_row(row: Any) -> Counted:
    """What counts of a row of ``llmobs_spans``, given with named columns."""
    return _make(_of_row(row))


def known(values: Sequence[int | None], most: int) -> tuple[int, int]:
    """How many of *values* are known, and their sum, to which each counts up to *most*."""
    found = sum(filter(None, values))
    if found > most:
        found = sum(min(value, most) for value in values if value)
    return len(values) - values.count(None), found


class Change(NamedTuple):
    """What a request counted for before a transaction, and after it; ``None`` where it was not there."""

    before: Counted | None
    after: Counted | None


class Group(NamedTuple):
    """The changes of one session or user: requests that it has now, and requests as it had them before."""

    rows: list[Counted]
    less: list[Counted]


def groups(changes: Iterable[Change], of: Callable[[Counted], Hashable]) -> dict[Any, Group]:
    """*changes* by what *of* says of each side of them; ``None`` is no group."""
    found: dict[Any, Group] = {}
    for change in paced(changes):
        for side, row in enumerate((change.after, change.before)):
            if row is not None and (key := of(row)) is not None:
                group = found.get(key)
                if group is None:
                    group = found[key] = Group([], [])
                group[side].append(row)
    return found


def sums(rows: Sequence[Counted]) -> tuple[int, ...]:
    """The values of ``SUMS`` over *rows*."""
    priced, cost = known([row.cost for row in rows], MOST_COST)
    errors = [row.outcome for row in rows].count("error")
    unpriced = 0
    if priced < len(rows):
        unpriced = sum(row.cost is None and row.outcome != "running" for row in rows)
    inputs, sent = known([row.input_tokens for row in rows], MOST_TOKENS)
    outputs, got = known([row.output_tokens for row in rows], MOST_TOKENS)
    return len(rows), errors, priced, unpriced, cost, inputs, sent, outputs, got


def difference(group: Group) -> tuple[int, ...]:
    """By how much a group changes each of ``SUMS``."""
    if not group.less:
        return sums(group.rows)
    return tuple(more - fewer for more, fewer in zip(sums(group.rows), sums(group.less), strict=True))


@lru_cache(maxsize=64)
def upsert(dialect: str, table: Table, added: tuple[str, ...], changes: tuple[tuple[str, str], ...]) -> str:
    """An insert of all columns of *table*; where the row is there, its sums grow and *changes* say the rest."""
    mark = "?" if dialect == "sqlite" else "%s"
    names = [column.name for column in table.columns]
    keys = ", ".join(column.name for column in table.primary_key.columns)
    sets = [f"{name} = {table.name}.{name} + excluded.{name}" for name in added]
    sets += [f"{name} = {text}" for name, text in changes]
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join([mark] * len(names))}) "  # noqa: S608
        f"ON CONFLICT ({keys}) DO UPDATE SET {', '.join(sets)}"
    )


def add_to(
    connection: Connection,
    table: Table,
    rows: Sequence[tuple[Any, ...]],
    changes: Mapping[str, str] | None = None,
    *,
    added: tuple[str, ...] = SUMS,
) -> None:
    """Add *rows*, each with all columns of *table* in order, to those that are there.

    Args:
        connection: In a write transaction.
        table: One that has the columns *added*.
        rows: What is added; may be less than nothing where the row is there.
        changes: What becomes of further columns, as SQL by name; ``{least}`` and ``{greatest}`` stand for functions.
        added: Columns that grow by what a row says.
    """
    if not rows:
        return
    dialect = connection.dialect.name
    words = SQLITE if dialect == "sqlite" else POSTGRESQL
    sets = tuple((name, text.format(**words, table=table.name)) for name, text in (changes or {}).items())
    statement = upsert(dialect, table, added, sets)
    for some in in_chunks(rows, AT_ONCE if dialect == "sqlite" else len(rows)):
        connection.exec_driver_sql(statement, some)
        give_way()


SQLITE = {"least": "min", "greatest": "max"}
POSTGRESQL = {"least": "least", "greatest": "greatest"}


def mark_of(connection: Connection) -> str:
    """What stands for a value in the driver's own SQL."""
    return "?" if connection.dialect.name == "sqlite" else "%s"


def filled(connection: Connection, statement: str, project: str, values: Sequence[str]) -> tuple[str, tuple[Any, ...]]:
    """*statement* with as many marks as there are *values*, and what they stand for."""
    mark = mark_of(connection)
    return statement.format(mark=mark, marks=", ".join([mark] * len(values))), (project, *values)
