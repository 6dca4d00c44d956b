"""The users: who was seen, when, and what their requests add up to."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, func, or_, select, true

from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import UserDayRow
from asgi_llmobs.store.tables import UserRow as StoredUser
from asgi_llmobs.store.users import DAY_NS
from asgi_llmobs.store.values import dollars, name

__all__ = ["UserRow", "get_user", "list_users", "top_users"]

users: Any = StoredUser.__table__  # type: ignore[attr-defined]
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
