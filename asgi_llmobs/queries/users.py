"""The users: who was seen, when, and what their requests add up to."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, true

from asgi_llmobs.queries.select import REQUESTS
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import SpanRow, UserDayRow
from asgi_llmobs.store.tables import UserRow as StoredUser
from asgi_llmobs.store.users import DAY_NS
from asgi_llmobs.store.values import dollars, name

__all__ = ["Ranked", "SORTS", "UserRow", "get_user", "list_users", "ranked_users", "top_users"]

users: Any = StoredUser.__table__  # type: ignore[attr-defined]
spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
days: Any = UserDayRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    """What the requests of one user add up to. ``first_ns`` and ``last_ns`` are their first and last start."""

    user_id: str
    first_ns: int | None  # None where only some days are meant
    last_ns: int | None
    requests: int
    errors: int
    total_cost_usd: Decimal | None
    unpriced_count: int
    input_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A user in a range of time: sums, on how many of its days they were active, how many requests each day had."""

    user: UserRow  # first and last start are of all times
    active_days: int
    days: Sequence[int]
    latency: Sequence[int | None]  # p50 and p95 of the newest requests of the range, in nanoseconds


def list_users(db: Database, project: str, *, before: tuple[int, str] | None = None, limit: int = 50) -> list[UserRow]:
    """The users, who was seen last first.

    Args:
        db: The store.
        project: Its name.
        before: ``last_ns`` and ``user_id`` of the last row of the page before.
        limit: Rows at most.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = users.c
    after: ColumnElement[bool] = true()
    if before is not None:
        last, user = before
        after = and_(columns.last_ns <= last, or_(columns.last_ns < last, columns.user_id < user))
    query = select(users).where(columns.project == name(project), after)
    with db.read() as connection:
        rows = connection.execute(query.order_by(columns.last_ns.desc(), columns.user_id.desc()).limit(limit))
        return [user_row(row, row.first_ns, row.last_ns) for row in rows]


def get_user(db: Database, user_id: str, *, project: str) -> UserRow | None:
    """One user; ``None`` where the project has no request of theirs.

    Raises:
        StoreError: The database cannot be read.
    """
    chosen = (users.c.project == name(project), users.c.user_id == name(user_id))
    with db.read() as connection:
        row = connection.execute(select(users).where(*chosen)).first()
    return None if row is None else user_row(row, row.first_ns, row.last_ns)


def top_users(
    db: Database,
    project: str,
    *,
    start_ns: int,
    end_ns: int,
    by: Literal["cost", "requests", "errors", "input_tokens", "output_tokens"] = "cost",
    limit: int = 50,
) -> list[UserRow]:
    """Who used most in a range of time, widened to whole days (UTC).

    Args:
        db: The store.
        project: Its name.
        start_ns: Inclusive, nanoseconds since 1970.
        end_ns: Exclusive.
        by: What is compared.
        limit: Rows at most.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = days.c
    sums = [func.sum(column).label(column.name) for column in days.columns if column.name not in NAMES]
    most = func.sum(columns[by])
    query = select(columns.user_id, *sums).where(
        columns.project == name(project), columns.day >= start_ns // DAY_NS, columns.day < -(-end_ns // DAY_NS)
    )
    with db.read() as connection:
        rows = connection.execute(query.group_by(columns.user_id).order_by(most.desc(), columns.user_id).limit(limit))
        return [user_row(row, None, None) for row in rows]


SORTS = (
    "cost", "requests", "errors", "input_tokens", "output_tokens", "average", "active_days", "first", "last",
)  # fmt: skip
NEWEST = 100  # requests of a user, of which the latency is told
MOST_DAYS = 64


def ranked_users(
    db: Database, project: str, *, start_ns: int, end_ns: int, by: str = "cost", offset: int = 0, limit: int = 50
) -> tuple[list[Ranked], int]:
    """The users of a range of time, widened to whole days (UTC), and how many there are.

    Args:
        db: The store.
        project: Its name.
        start_ns: Inclusive, nanoseconds since 1970.
        end_ns: Exclusive.
        by: What they are sorted by, one of ``SORTS``, the most or the newest first.
        offset: Users before the first that is returned.
        limit: Rows at most.

    Raises:
        StoreError: The database cannot be read.
    """
    columns, low, high = days.c, start_ns // DAY_NS, -(-end_ns // DAY_NS)
    inside = and_(columns.project == name(project), columns.day >= low, columns.day < high)
    sums = [func.sum(column).label(column.name) for column in days.columns if column.name not in NAMES]
    groups = select(columns.user_id, func.count().label("active_days"), *sums).where(inside)
    group = groups.group_by(columns.user_id).subquery()
    known = and_(users.c.project == name(project), users.c.user_id == group.c.user_id)
    order = {
        "average": case((group.c.priced > 0, group.c.cost * 1.0 / group.c.priced), else_=-1),
        "first": users.c.first_ns,
        "last": users.c.last_ns,
    }.get(by)
    query = select(group, users.c.first_ns, users.c.last_ns).select_from(group.join(users, known))
    query = query.order_by((group.c[by] if order is None else order).desc(), group.c.user_id).offset(offset)
    with db.read() as connection:
        rows = connection.execute(query.limit(limit)).all()
        count = connection.execute(select(func.count()).select_from(group)).scalar() or 0
        ids = [row.user_id for row in rows]
        first = max(low, high - MOST_DAYS)
        active: dict[str, list[int]] = {id: [0] * (high - first) for id in ids}
        own = select(columns.user_id, columns.day, columns.requests)
        for user, day, requests in connection.execute(
            own.where(inside, columns.user_id.in_(ids), columns.day >= first)
        ):
            active[user][day - first] = int(requests)
        found = [
            Ranked(
                user=user_row(row, row.first_ns, row.last_ns),
                active_days=int(row.active_days),
                days=active[row.user_id],
                latency=latency_of(connection, project, row.user_id, low * DAY_NS, high * DAY_NS),
            )
            for row in rows
        ]
    return found, count


def latency_of(connection: Connection, project: str, user: str, low: int, high: int) -> list[int | None]:
    """p50 and p95 of the newest requests of one user."""
    columns = spans.c
    base = and_(columns.project == name(project), columns.user_id == user, REQUESTS.base, columns.user_id.is_not(None))
    query = select(columns.duration_ns, columns.outcome).where(base, columns.start_ns >= low, columns.start_ns < high)
    newest = connection.execute(query.order_by(columns.start_ns.desc(), columns.key.desc()).limit(NEWEST)).all()
    values = sorted(row.duration_ns for row in newest if row.duration_ns is not None and row.outcome != "running")
    return [values[-(-percent * len(values) // 100) - 1] if values else None for percent in (50, 95)]


NAMES = ("project", "day", "user_id")


def user_row(row: Any, first_ns: int | None, last_ns: int | None) -> UserRow:
    return UserRow(
        user_id=row.user_id,
        first_ns=first_ns,
        last_ns=last_ns,
        requests=int(row.requests),
        errors=int(row.errors),
        total_cost_usd=dollars(int(row.cost) if row.priced else None),
        unpriced_count=int(row.unpriced),
        input_tokens=int(row.input_tokens) if row.inputs else None,
        output_tokens=int(row.output_tokens) if row.outputs else None,
    )
