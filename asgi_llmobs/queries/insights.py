"""Where money goes that need not: what was asked twice, cut off, sent again, carried along or not waited for.

Sums come from the newest requests of a time, a bounded number of them, in one pass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, Connection, FromClause, Select, and_, case, func, literal, null, select, union_all

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import COLUMNS, RequestRow, row_of
from asgi_llmobs.queries.select import REQUESTS, in_time
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.fingerprints import PREFIX
from asgi_llmobs.store.tables import AttemptRow, SpanRow
from asgi_llmobs.store.values import name

__all__ = ["KINDS", "Group", "Groups", "calls_of", "groups_of"]

NEWEST = 20_000  # requests that are looked at
EACH = 8  # groups of a kind
CALLS = 100  # that are listed of a group
KEPT_NS = 300_000_000_000  # for so long providers keep a beginning at least
LARGE_TOOLS = 8_000  # bytes of definitions, about two thousand tokens
LEFT = ("cancelled", "abandoned")

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
attempts: Any = AttemptRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Requests that have in common what one kind of insight looks for. Money in integer picodollars."""

    kind: str
    key: int  # the hash or size that they share; 0 where provider and model say it all
    provider: str
    model: str
    calls: int
    cost: int | None  # of those that have a price
    priced: int
    tokens: int  # that went in
    cached: int  # of these, read from the provider's cache
    more: int  # what the kind counts besides: warm calls, calls with tool calls, further attempts
    time_ns: int  # what it took, where the kind asks that
    first: int  # row keys of the earliest and the latest call
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """What was found, and in how much."""

    looked_at: int
    capped: bool  # there were more requests than are looked at
    found: Sequence[Group]


def groups_of(db: Database, flt: Filter) -> Groups:
    """The groups of every kind, the dearest first.

    Args:
        db: The store.
        flt: Its project and its time; nothing else of it.

    Raises:
        StoreError: The database cannot be read.
    """
    with db.read() as connection:
        recent = newest(connection, flt)
        arms = [select(make(recent).subquery()) for make in KINDS.values()]
        count = select(literal("all"), literal(0), literal(""), literal(""), func.count(), *nothing(8))
        rows = connection.execute(union_all(*arms, count.select_from(recent))).all()
    looked_at = next(int(row[4]) for row in rows if row[0] == "all")
    found = [group_of(row) for row in rows if row[0] != "all"]
    return Groups(looked_at=looked_at, capped=looked_at >= NEWEST, found=found)


def group_of(row: Any) -> Group:
    kind, key, provider, model, calls, cost, priced, tokens, cached, more, time_ns, first, last = row
    return Group(
        kind=kind,
        key=int(key or 0),
        provider=provider or "",
        model=model or "",
        calls=int(calls),
        cost=None if cost is None else int(cost),
        priced=int(priced or 0),
        tokens=int(tokens or 0),
        cached=int(cached or 0),
        more=int(more or 0),
        time_ns=int(time_ns or 0),
        first=int(first),
        last=int(last),
    )


def nothing(count: int) -> list[Any]:
    return [null() for _ in range(count)]


def newest(connection: Connection, flt: Filter) -> CTE:
    """The requests that are looked at, read once for all kinds."""
    columns = spans.c
    read = select(
        columns.key, columns.start_ns, columns.duration_ns, columns.outcome, columns.provider, columns.request_model,
        columns.input_tokens, columns.cache_read, columns.cost, columns.attempt, columns.attempts, columns.truncated,
        columns.calls_tools, columns.prompt_hash, columns.prefix_hash, columns.tools_size,
    ).where(
        columns.project == name(flt.project), REQUESTS.base, in_time(connection, columns.start_ns, flt)
    ).order_by(columns.start_ns.desc(), columns.key.desc()).limit(NEWEST)  # fmt: skip
    return read.cte("recent").prefix_with("MATERIALIZED")


def grouped(recent: FromClause, kind: str, key: Any, *, where: Any, more: Any, having: Any = None) -> Select[Any]:
    """One kind: the same columns for all of them, the dearest groups first."""
    columns = recent.c
    by = (columns.provider, columns.request_model)
    cost = func.sum(columns.cost)
    query = select(
        literal(kind), (literal(0) if key is None else key).label("place"), *by, func.count().label("calls"),
        cost.label("cost"), func.count(columns.cost).label("priced"), func.sum(columns.input_tokens).label("tokens"),
        func.sum(columns.cache_read).label("cached"), func.sum(more).label("more"),
        func.sum(columns.duration_ns).label("took"), func.min(columns.key).label("first"),
        func.max(columns.key).label("last"),
    ).where(where).group_by(*by, *([] if key is None else [key]))  # fmt: skip
    if having is not None:
        query = query.having(having)
    # what has no price comes last, on both databases
    return query.order_by(func.coalesce(cost, -1).desc(), func.count().desc()).limit(EACH)


def repeated(recent: CTE) -> Select[Any]:
    columns = recent.c
    asked = and_(columns.prompt_hash.is_not(None), columns.outcome == "ok")
    return grouped(recent, "repeated", columns.prompt_hash, where=asked, more=literal(0), having=func.count() > 1)


def prefixes(recent: CTE) -> Select[Any]:
    columns = recent.c
    gap = columns.start_ns - func.lag(columns.start_ns).over(
        partition_by=(columns.prefix_hash, columns.request_model), order_by=columns.start_ns
    )
    begun = select(recent, gap.label("gap")).where(columns.prefix_hash.is_not(None)).subquery("begun")
    unread = func.coalesce(begun.c.cache_read, 0) == 0
    warm = case((and_(begun.c.gap <= KEPT_NS, unread), 1), else_=0)
    told = begun.c.input_tokens.is_not(None)
    return grouped(begun, "prefixes", begun.c.prefix_hash, where=told, more=warm, having=func.sum(warm) > 1)


def truncated(recent: CTE) -> Select[Any]:
    return grouped(recent, "truncated", None, where=recent.c.truncated == 1, more=literal(0))


def tools(recent: CTE) -> Select[Any]:
    columns = recent.c
    # four bytes a token: a third of what went in, and more
    large = and_(columns.tools_size >= LARGE_TOOLS, columns.tools_size * 3 >= columns.input_tokens * 4)
    return grouped(recent, "tools", columns.tools_size, where=large, more=columns.calls_tools)


def gone(recent: CTE) -> Select[Any]:
    return grouped(recent, "gone", None, where=recent.c.outcome.in_(LEFT), more=literal(0))


def retries(recent: CTE) -> Select[Any]:
    """What the attempts before the last one cost and took."""
    columns = recent.c
    cost = func.sum(attempts.c.cost)
    earlier = recent.join(attempts, and_(attempts.c.key == columns.key, attempts.c.number < columns.attempt))
    return select(
        literal("retries"), literal(0).label("place"), columns.provider, columns.request_model,
        func.count(columns.key.distinct()).label("calls"), cost.label("cost"),
        func.count(attempts.c.cost).label("priced"), func.sum(attempts.c.input_tokens).label("tokens"),
        literal(0).label("cached"), func.count().label("more"), func.sum(attempts.c.duration_ns).label("took"),
        func.min(columns.key).label("first"), func.max(columns.key).label("last"),
    ).select_from(earlier).where(columns.attempts > 1).group_by(columns.provider, columns.request_model).order_by(
        func.coalesce(cost, -1).desc(), func.count().desc()
    ).limit(EACH)  # fmt: skip


KINDS: Mapping[str, Callable[[CTE], Select[Any]]] = {
    "repeated": repeated,
    "prefixes": prefixes,
    "truncated": truncated,
    "retries": retries,
    "tools": tools,
    "gone": gone,
}


def calls_of(
    db: Database, flt: Filter, kind: str, *, key: int, provider: str, model: str, limit: int = CALLS
) -> list[RequestRow]:
    """The requests of one group, the newest first.

    Args:
        db: The store.
        flt: Its project and its time.
        kind: One of :data:`KINDS`.
        key: Of the group.
        provider: Of the group.
        model: Of the group.
        limit: How many at most.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = spans.c
    of_kind = {
        "repeated": and_(columns.prompt_hash == key, columns.outcome == "ok"),
        "prefixes": columns.prefix_hash == key,
        "truncated": columns.truncated == 1,
        "retries": columns.attempts > 1,
        "tools": columns.tools_size == key,
        "gone": columns.outcome.in_(LEFT),
    }[kind]
    with db.read() as connection:
        newest_keys = (
            select(columns.key).where(
                columns.project == name(flt.project), REQUESTS.base, in_time(connection, columns.start_ns, flt)
            ).order_by(columns.start_ns.desc(), columns.key.desc()).limit(NEWEST)
        )  # fmt: skip
        own = and_(
            columns.key.in_(newest_keys), of_kind,
            func.coalesce(columns.provider, "") == provider, func.coalesce(columns.request_model, "") == model,
        )  # fmt: skip
        query = select(columns.start_ns, *COLUMNS).where(own).order_by(columns.start_ns.desc(), columns.key.desc())
        return [row_of(row) for row in connection.execute(query.limit(limit))]


def shared_beginning(texts: Sequence[str]) -> int:
    """How many characters all of *texts* begin with, at least the ones that their fingerprint stands for."""
    first, last = min(texts), max(texts)
    same = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), None)
    return max(PREFIX, min(len(first), len(last)) if same is None else same)
