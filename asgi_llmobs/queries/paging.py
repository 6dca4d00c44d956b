"""Pages of a list that is ordered by time, newest first: cursors, bounded slices, counts that stop."""

import base64
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from typing import Any, Generic, NamedTuple, TypeVar

import orjson
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    func,
    literal,
    or_,
    select,
    true,
)

from asgi_llmobs.errors import FilterError
from asgi_llmobs.queries.columns import by_column
from asgi_llmobs.store.database import first_key
from asgi_llmobs.store.search import FIRST_KEY, LAST_KEY
from asgi_llmobs.store.values import BIGGEST, name

__all__ = [
    "COUNT_LIMIT",
    "DAY_NS",
    "MAX_LIMIT",
    "REACH",
    "SLICE",
    "Cursor",
    "Listing",
    "Members",
    "Narrowed",
    "Ordered",
    "Page",
    "among",
    "before",
    "cut",
    "is_true",
    "key_range",
    "page_of",
    "ranked_page",
]

COUNT_LIMIT = 10_001
SLICE = 5_000  # rows that one page looks at where no index helps
GROUPED = 2_000  # traces or sessions of which it is counted which have a request that is meant
WORDED = 1_000  # rows of which it is counted which hold a frequent word, and such traces and sessions of one page
EACH = 200  # keys that PostgreSQL's planner is shown one by one
DAY_NS = 86_400_000_000_000
REACH = 10_000  # the newest rows among which a list is sorted by anything but time
MAX_LIMIT = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[T]):
    """One page of a list, newest first.

    ``partial`` is true where the search stopped before the page was full although older rows exist;
    ``next_cursor`` then searches further back. ``count`` counts at most 10,001 rows; ``count_capped`` says that
    there are, or may be, more. ``sorted_within``: that a list in another order than by time has only the newest so
    many rows in it, because there are more.
    """

    rows: Sequence[T]
    next_cursor: str | None = None
    previous_cursor: str | None = None
    count: int = 0
    count_capped: bool = False
    partial: bool = False
    sorted_within: int | None = None


class Cursor(NamedTuple):
    """A place in a list that is ordered by time and then key: what follows is older, or with ``newer`` newer."""

    time_ns: int
    key: int | str
    newer: bool = False

    def __str__(self) -> str:
        tail = str(self.key).encode()
        text = struct.pack(">?q?", self.newer, self.time_ns, isinstance(self.key, str)) + tail
        return base64.urlsafe_b64encode(text).decode().rstrip("=")

    @classmethod
    def read(cls, text: str | None, kind: type) -> "Cursor | None":
        """The cursor behind *text*.

        Raises:
            FilterError: It is none of ours.
        """
        if not text:
            return None
        try:
            data = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
            newer, time_ns, is_text = struct.unpack_from(">?q?", data)
            tail = data[10:].decode()
            if is_text is not (kind is str):
                raise ValueError
            key: int | str = tail if is_text else int(tail)
            if isinstance(key, int) and not 0 <= key <= BIGGEST:
                raise ValueError
        except (ValueError, struct.error):
            raise FilterError("cursor", "this is no cursor of this list; leave it out to begin at the newest") from None
        return cls(time_ns, key, newer)


class Members(NamedTuple):
    """Rows that belong to those of a list: their key, which of them belong to a row, as an index tells it, and the
    column of the list that says since when."""

    key: Any
    belongs: ColumnElement[bool]
    start: Any


class Ordered(NamedTuple):
    """What a list pages over: a table, and its columns of project, time and key, which have an index together."""

    table: FromClause
    project: Any
    time: Any
    key: Any
    base: ColumnElement[bool]
    members: Members | None = None  # None: the key of a row is that of its text

    @property
    def row_key(self) -> bool:
        """Whether the key alone leads to the row."""
        return self.members is None

    def owned(self, project: str, few: bool) -> ColumnElement[bool]:
        """That a row is of *project*; not by an index of it where *few* rows are known by their keys."""
        owner = self.project.concat("") if few and self.row_key else self.project
        owned: ColumnElement[bool] = owner == name(project)
        return owned


class Page(NamedTuple):
    """What :func:`page_of` found: rows newest first, and where to go on."""

    rows: Sequence[Row[Any]]
    next_cursor: str | None
    previous_cursor: str | None
    total: int
    capped: bool
    partial: bool
    sorted_within: int | None = None

    def listing(self, make: Callable[[Row[Any]], T]) -> Listing[T]:
        """The page with a value made of each row."""
        return Listing(
            rows=[make(row) for row in self.rows],
            next_cursor=self.next_cursor,
            previous_cursor=self.previous_cursor,
            count=self.total,
            count_capped=self.capped,
            partial=self.partial,
            sorted_within=self.sorted_within,
        )


class Narrowed(NamedTuple):
    """A filter as SQL: *where* holds for its rows; *few* is true where an index leads to few enough of them.

    *worded*: that *where* asks the full-text index, which is told by :func:`key_range` where to look; *keys* are the
    first and the last key of few rows.
    """

    where: ColumnElement[bool]
    few: bool
    worded: bool = False
    keys: Sequence[int] = ()


def before(ordered: Ordered, cursor: Cursor | None) -> ColumnElement[bool]:
    """That a row lies beyond the cursor, in its direction."""
    if cursor is None:
        return true()
    time, key = ordered.time, ordered.key
    if cursor.newer:
        return and_(time >= cursor.time_ns, or_(time > cursor.time_ns, key > cursor.key))
    return and_(time <= cursor.time_ns, or_(time < cursor.time_ns, key < cursor.key))


def among(connection: Connection, column: Any, values: Sequence[int] | Sequence[str]) -> ColumnElement[bool]:
    """That *column* has one of *values*, of which there may be too many for as many parameters."""
    if connection.dialect.name == "sqlite":
        listed = func.json_each(orjson.dumps(values).decode()).table_valued("value")
        return column.in_(select(listed.c.value))  # type: ignore[no-any-return]
    kind = ARRAY(column.type)
    if column.type.python_type is not int:
        return column == any_(bindparam(None, list(values), type_=kind))  # type: ignore[no-any-return]
    # keys as they stand: the planner sees in which partitions they lie
    text = bindparam(None, f"{{{','.join(map(str, values))}}}", literal_execute=True, type_=Text)
    keys: ColumnElement[Any] = cast(text, kind)
    if len(values) <= EACH:
        return column == any_(keys)  # type: ignore[no-any-return]
    # of very many it would weigh every single one, which takes longer than to find them
    low, high = (literal(int(end(values)), literal_execute=True) for end in (min, max))
    unseen = func.array(select(func.unnest(keys)).scalar_subquery(), type_=kind)
    return and_(column >= low, column <= high, column == any_(unseen))


def page_of(
    connection: Connection,
    ordered: Ordered,
    query: Select[Any],
    narrow: Narrowed,
    *,
    project: str,
    time: ColumnElement[bool],
    cursor: str | None,
    limit: int,
) -> Page:
    """A page of *query*, whose first two columns are the time and the key of *ordered*."""
    at = Cursor.read(cursor, str if ordered.key.type.python_type is str else int)
    limit = max(1, min(limit, MAX_LIMIT))
    newer = at is not None and at.newer
    base = and_(ordered.owned(project, narrow.few), ordered.base, time)
    edge = None
    if narrow.few:
        found, count = few_of(connection, ordered, query, base, narrow, project, at, limit + 1)
        capped = count >= COUNT_LIMIT
    else:
        span = and_(before(ordered, at), base)
        groups = narrow.worded and not ordered.row_key  # words are looked for in several rows for each
        edge = slice_edge(connection, ordered, span, newer, WORDED if groups else SLICE)
        span = cut(ordered, span, edge, newer)
        direction = in_order(ordered.time, ordered.key, newer)
        asked = query.where(span, narrow.where).order_by(*direction).limit(limit + 1)
        found = connection.execute(asked, key_range(connection, ordered, span, narrow)).all()
        count, capped = counted(connection, ordered, base, narrow)
    more = len(found) > limit
    rows: list[Any] = list(found[:limit])
    partial = not more and edge is not None
    if newer:
        rows.reverse()
    last = Cursor(rows[-1][0], rows[-1][1]) if rows else None
    first = Cursor(rows[0][0], rows[0][1], True) if rows else None
    onwards = Cursor(edge[0], edge[1], newer) if edge is not None else None
    if newer:
        # whoever came from an older page can always go back there
        next_cursor = last or (at._replace(newer=False) if at else None)
        previous_cursor = first if more else onwards if partial else None
    else:
        next_cursor = last if more else onwards if partial else None
        previous_cursor = first if at is not None and rows else at._replace(newer=True) if at is not None else None
    return Page(
        rows, str(next_cursor) if next_cursor else None, str(previous_cursor) if previous_cursor else None, count,
        capped, partial,
    )  # fmt: skip


def few_of(
    connection: Connection,
    ordered: Ordered,
    query: Select[Any],
    base: ColumnElement[bool],
    narrow: Narrowed,
    project: str,
    at: Cursor | None,
    limit: int,
) -> tuple[Sequence[Row[Any]], int]:
    """The first rows of *query* beyond the cursor, and how many there are in all, which are few.

    Their keys are sorted, and only the rows that are shown are read in full.
    """
    beyond = before(ordered, at).label("beyond")
    # sorted, since their order by an index would mean reading all that is not meant
    direction = in_order(ordered.time + 0, ordered.key, at is not None and at.newer)
    asked: Select[Any] = select(ordered.key, beyond).where(base, narrow.where).order_by(*direction)
    every, wanted = by_column(connection, asked, key_range(connection, ordered, base, narrow))
    keys = list(islice(compress(every, wanted), limit))
    own = query.where(ordered.owned(project, True), among(connection, ordered.key, keys))
    rows = {row[1]: row for row in connection.execute(own)} if keys else {}
    return [rows[key] for key in keys if key in rows], len(every)


def in_order(first: Any, key: Any, newer: bool) -> tuple[Any, Any]:
    return (first.asc(), key.asc()) if newer else (first.desc(), key.desc())


def ranked_page(
    connection: Connection,
    ordered: Ordered,
    query: Select[Any],
    narrow: Narrowed,
    rank: ColumnElement[int],
    *,
    project: str,
    time: ColumnElement[bool],
    cursor: str | None,
    limit: int,
) -> Page:
    """A page in the order of *rank*, highest first, which is the first column of *query*; the second is the key.

    No index leads to it: what is sorted are all rows where they are few, else what is meant of the newest
    :data:`REACH`.
    """
    at = Cursor.read(cursor, str if ordered.key.type.python_type is str else int)
    limit = max(1, min(limit, MAX_LIMIT))
    newer = at is not None and at.newer
    base = and_(ordered.owned(project, narrow.few), ordered.base, time)
    edge = None if narrow.few else slice_edge(connection, ordered, base, False, REACH)
    reach = cut(ordered, base, edge)
    by_rank = ordered._replace(time=rank)
    direction = in_order(rank, ordered.key, newer)
    asked = query.where(reach, narrow.where, before(by_rank, at)).order_by(*direction).limit(limit + 1)
    found = connection.execute(asked, key_range(connection, ordered, reach, narrow)).all()
    more, rows = len(found) > limit, list(found[:limit])
    if newer:
        rows.reverse()
    count, capped = counted(connection, ordered, reach, narrow)
    last = Cursor(rows[-1][0], rows[-1][1]) if rows and (more or newer) else None
    first = Cursor(rows[0][0], rows[0][1], True) if rows and at is not None and (more or not newer) else None
    within = None if edge is None else REACH
    return Page(rows, str(last) if last else None, str(first) if first else None, count, capped, False, within)


def slice_edge(
    connection: Connection, ordered: Ordered, span: ColumnElement[bool], newer: bool, size: int | None = None
) -> Any:
    """Time and key of the last row of the slice; ``None`` where fewer rows are left than it takes."""
    direction = in_order(ordered.time, ordered.key, newer)
    query = select(ordered.time, ordered.key).where(span).order_by(*direction).limit(1).offset((size or SLICE) - 1)
    return connection.execute(query).first()


def cut(ordered: Ordered, span: ColumnElement[bool], edge: Any, newer: bool = False) -> ColumnElement[bool]:
    """*span* as far as *edge*, all of it where there is none.

    The edge comes first: where two bounds are told SQLite goes by the first alone, from where the other may be far.
    """
    if edge is None:
        return span
    time, key = ordered.time, ordered.key
    if newer:
        return and_(time <= edge[0], or_(time < edge[0], key <= edge[1]), span)
    return and_(time >= edge[0], or_(time > edge[0], key >= edge[1]), span)


def key_range(connection: Connection, ordered: Ordered, span: ColumnElement[bool], narrow: Narrowed) -> dict[str, int]:
    """Between which keys the rows lie that *narrow* looks at for those of *span*, as parameters for what asks it."""
    if narrow.keys:
        return {FIRST_KEY: narrow.keys[0], LAST_KEY: narrow.keys[-1]}
    key, where, members = ordered.key, span, ordered.members
    if members is not None and connection.dialect.name != "sqlite":
        start = connection.execute(select(func.min(members.start)).where(span)).scalar()
        # a day more, since clocks of one trace differ
        return {FIRST_KEY: first_key(connection, start - DAY_NS) if start is not None else 0}
    if not narrow.worded:
        return {}
    if members is not None:
        key, where = members.key, and_(span, members.belongs)
    # the sum, since PostgreSQL would go through the keys of all days for the lowest
    first, last = connection.execute(select(func.min(key + 0), func.max(key + 0)).where(where)).one()
    return {FIRST_KEY: first or 0, LAST_KEY: last or 0}


def counted(connection: Connection, ordered: Ordered, base: ColumnElement[bool], narrow: Narrowed) -> tuple[int, bool]:
    """How many rows the whole list has, counted up to the limit and over a bounded number of rows."""
    where = and_(base, narrow.where)
    # rows that are looked at one by one: fewer where each takes longer
    most = WORDED if narrow.worded else COUNT_LIMIT if ordered.row_key else GROUPED
    edge = None
    if not narrow.few and not is_true(narrow.where):
        reach = select(ordered.time, ordered.key).where(base)
        edge = connection.execute(
            reach.order_by(ordered.time.desc(), ordered.key.desc()).limit(1).offset(most - 1)
        ).first()
        base = cut(ordered, base, edge)
        where = and_(base, narrow.where)
    rows = select(ordered.key).where(where).limit(COUNT_LIMIT)
    if not narrow.few:  # in order the index alone is read
        rows = rows.order_by(ordered.time.desc(), ordered.key.desc())
    limited = rows.subquery()
    bounds = key_range(connection, ordered, base, narrow)
    count = connection.execute(select(func.count()).select_from(limited), bounds).scalar() or 0
    return count, count >= COUNT_LIMIT or edge is not None


def is_true(condition: ColumnElement[bool]) -> bool:
    return str(condition) in ("true", "1 = 1", "")
