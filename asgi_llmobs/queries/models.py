"""The models: when each was asked first and last, and why its requests have no price."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from asgi_llmobs.queries.select import REQUESTS
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import SpanRow
from asgi_llmobs.store.values import name

__all__ = ["Reason", "Seen", "models_seen", "unpriced_reasons"]

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]

LOOKED_AT = 500  # requests of a model without a price, of which the reasons are told


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Starts of a model's first and last request, in nanoseconds since 1970."""

    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why requests have no price, the provider that they went to, and how many of the newest 500 that is true of."""

    reason: str
    provider: str
    count: int


def models_seen(db: Database, project: str, models: Iterable[str]) -> dict[str, Seen]:
    """When each of *models* was asked first and last; one that no row names is left out.

    Raises:
        StoreError: The database cannot be read.
    """
    found: dict[str, Seen] = {}
    with db.read() as connection:
        for model in models:
            stored = name(model) or ""
            low, high = (edge(connection, project, stored, newest=newest) for newest in (False, True))
            if low is not None and high is not None:
                found[model] = Seen(first_ns=low, last_ns=high)
    return found


def ways(model: str) -> tuple[ColumnElement[bool], ...]:
    """How a row names its model: as it was asked for, else as it answered; an index for each."""
    columns = spans.c
    return (
        columns.request_model == model,
        and_(columns.response_model == model, or_(columns.request_model.is_(None), columns.request_model == "")),
    )


def edge(connection: Connection, project: str, model: str, *, newest: bool) -> int | None:
    order = spans.c.start_ns.desc() if newest else spans.c.start_ns.asc()
    base = and_(spans.c.project == name(project), REQUESTS.base)
    found = [
        connection.execute(select(spans.c.start_ns).where(base, way).order_by(order).limit(1)).scalar()
        for way in ways(model)
    ]
    known = [int(one) for one in found if one is not None]
    return (max if newest else min)(known, default=None)


def unpriced_reasons(db: Database, project: str, model: str, *, since_ns: int, until_ns: int) -> list[Reason]:
    """Why requests of *model* have no price, the most frequent reason first, from the newest 500 of the range.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = spans.c
    base = and_(
        columns.project == name(project), REQUESTS.base, columns.start_ns >= since_ns, columns.start_ns < until_ns
    )
    counts: Counter[tuple[str, str]] = Counter()
    with db.read() as connection:
        for way in ways(model):
            newest = (
                select(columns.cost, columns.cost_reason, columns.provider, columns.outcome)
                .where(base, way).order_by(columns.start_ns.desc()).limit(20 * LOOKED_AT).subquery()
            )  # fmt: skip
            missing = select(newest.c.cost_reason, newest.c.provider).where(
                newest.c.cost.is_(None), newest.c.outcome != "running"
            )
            for reason, provider in connection.execute(missing.limit(LOOKED_AT)):
                counts[reason or "no reason is stored", provider or "unknown"] += 1
    return [Reason(reason=reason, provider=provider, count=count) for (reason, provider), count in counts.most_common()]
