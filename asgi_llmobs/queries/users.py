"""The users: who was seen, when, and what their requests add up to."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from asgi_llmobs.queries.overview import Stretch, whole_days
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.rollups import DAY_HOURS, HOUR_NS
from asgi_llmobs.store.sketches import percentiles, unpacked
from asgi_llmobs.store.sums import SUMS
from asgi_llmobs.store.tables import UserRollupRow
from asgi_llmobs.store.tables import UserRow as StoredUser
from asgi_llmobs.store.values import dollars, name

__all__ = ["Ranked", "SORTS", "UserRow", "get_user", "ranked_users"]

users: Any = StoredUser.__table__  # type: ignore[attr-defined]
rollups: Any = UserRollupRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    """What the requests of one user add up to. ``first_ns`` and ``last_ns`` are their first and last start."""

    user_id: str
    first_ns: int | None  # None where only some hours are meant
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
    latency: Sequence[int | None]  # p50 and p95 of the range, in nanoseconds, within two percent


def get_user(db: Database, user_id: str, *, project: str) -> UserRow | None:
    """One user; ``None`` where the project has no request of theirs.

    Raises:
        StoreError: The database cannot be read.
    """
    chosen = (users.c.project == name(project), users.c.user_id == name(user_id))
    with db.read() as connection:
        row = connection.execute(select(users).where(*chosen)).first()
    return None if row is None else user_row(row, row.first_ns, row.last_ns)


SORTS = (
    "cost", "requests", "errors", "input_tokens", "output_tokens", "average", "active_days", "first", "last",
)  # fmt: skip
MOST_DAYS = 64


def ranked_users(
    db: Database, project: str, *, start_ns: int, end_ns: int, by: str = "cost", offset: int = 0, limit: int = 50
) -> tuple[list[Ranked], int]:
    """The users of a range of time, widened to whole hours, and how many there are.

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
    low, high = start_ns // HOUR_NS, -(-end_ns // HOUR_NS)
    stretches = whole_days(low, high)
    inside = between(project, stretches)
    active = func.count() if all(hours == DAY_HOURS for hours, _, _ in stretches) else func.count(DAY.distinct())
    groups = select(rollups.c.user_id, active.label("active_days"), *sums()).where(inside)
    group = groups.group_by(rollups.c.user_id).subquery()
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
        days = range(max(low // DAY_HOURS, -(-high // DAY_HOURS) - MOST_DAYS), -(-high // DAY_HOURS))
        lives = lives_of(connection, inside, [row.user_id for row in rows], days)
    found = [
        Ranked(
            user=user_row(row, row.first_ns, row.last_ns),
            active_days=int(row.active_days),
            days=lives[row.user_id].days,
            latency=percentiles(lives[row.user_id].latency, (0.5, 0.95)),
        )
        for row in rows
    ]
    return found, count


@dataclass(slots=True)
class Life:
    """How many requests each day had, and the sketch of how long they took."""

    days: list[int]
    latency: int = 0


def lives_of(connection: Connection, inside: Any, ids: Sequence[str], days: range) -> dict[str, Life]:
    """What is told of each user of a page."""
    found = {id: Life([0] * len(days)) for id in ids}
    columns = rollups.c
    query = select(columns.user_id, DAY, columns.requests, columns.latency).where(inside, columns.user_id.in_(ids))
    for user, day, requests, latency in connection.execute(query):
        life = found[user]
        life.latency += unpacked(latency)
        if day in days:
            life.days[day - days.start] += int(requests)
    return found


DAY = rollups.c.start * rollups.c.hours // DAY_HOURS


def sums() -> list[Any]:
    return [func.sum(rollups.c[label]).label(label) for label in SUMS]


def between(project: str, stretches: Sequence[Stretch]) -> ColumnElement[bool]:
    """The rows of a project's users for these hours and days."""
    columns = rollups.c
    parts = [
        and_(columns.project == name(project), columns.hours == hours, columns.start >= low, columns.start < high)
        for hours, low, high in stretches
    ]
    return or_(*parts)


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
