"""The totals: how many requests a filter means, how many of them failed, and what they cost."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import and_, case, func, select

from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.select import REQUESTS, in_time, narrowed
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import SpanRow
from asgi_llmobs.store.values import dollars, name

__all__ = ["Totals", "totals"]

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over requests. What is unknown is not in the sums and is counted beside them."""

    requests: int
    errors: int  # outcome error
    total_cost_usd: Decimal | None  # None where no request has a price
    unpriced_count: int
    input_tokens: int | None
    output_tokens: int | None
    cache_read: int | None


def totals(db: Database, flt: Filter) -> Totals:
    """The totals of the requests that *flt* means.

    Raises:
        StoreError: The database cannot be read.
    """
    columns = spans.c
    query = select(
        func.count(),
        func.sum(case((columns.outcome == "error", 1), else_=0)),
        func.sum(columns.cost),
        func.sum(case((and_(columns.cost.is_(None), columns.outcome != "running"), 1), else_=0)),
        func.sum(columns.input_tokens),
        func.sum(columns.output_tokens),
        func.sum(columns.cache_read),
    )
    with db.read() as connection:
        narrow = narrowed(connection, flt)
        where = and_(
            columns.project == name(flt.project),
            REQUESTS.base,
            in_time(connection, columns.start_ns, flt),
            narrow.where,
        )
        found = connection.execute(query.where(where)).one()
    whole = [None if value is None else int(value) for value in found]
    return Totals(
        requests=whole[0] or 0,
        errors=whole[1] or 0,
        total_cost_usd=dollars(whole[2]),
        unpriced_count=whole[3] or 0,
        input_tokens=whole[4],
        output_tokens=whole[5],
        cache_read=whole[6],
    )
