"""Where a call's latency and first token stand among the calls of its model, from the sketches of the rollups."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from asgi_llmobs.records import Request
from asgi_llmobs.store.database import Database, in_chunks
from asgi_llmobs.store.rollups import DAY_HOURS, HOUR_NS
from asgi_llmobs.store.sketches import percentiles, standing, unpacked
from asgi_llmobs.store.tables import RollupRow, SeriesRow
from asgi_llmobs.store.values import name

__all__ = ["Standing", "standing_of"]

DAYS = 7
FEWEST = 10  # calls of which a percentile says something
DAY_NS = DAY_HOURS * HOUR_NS

rollups: Any = RollupRow.__table__  # type: ignore[attr-defined]
series: Any = SeriesRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A duration among those of its model in the week up to its day."""

    share: float  # of the calls that were quicker
    calls: int
    median_ns: int
    since_ns: int
    until_ns: int


def standing_of(db: Database, request: Request) -> dict[str, Standing]:
    """Where ``duration_ns`` and ``first_token_ns`` of *request* stand; nothing of what has too few to compare with.

    Raises:
        StoreError: The database cannot be read.
    """
    model = request.request_model or request.response_model
    if not model or request.duration_ns is None:
        return {}
    until = request.start_ns // DAY_NS + 1
    since = until - DAYS
    columns, sketches = rollups.c, {"latency": 0, "first_token": 0}
    with db.read() as connection:
        kinds = select(series.c.key).where(
            series.c.project == name(request.project),
            series.c.provider == name(request.provider),
            series.c.model == name(model),
            series.c.operation == name(request.operation),
        )
        keys = list(connection.execute(kinds).scalars())
        for some in in_chunks(keys):
            wanted = select(columns.latency, columns.first_token).where(
                columns.project == name(request.project),
                columns.hours == DAY_HOURS,
                columns.start.in_(range(since, until)),
                columns.series.in_(some),
            )
            for stored in connection.execute(wanted):
                for label, one in zip(sketches, stored, strict=True):
                    sketches[label] += unpacked(one)
    found = {}
    for field, label in (("duration_ns", "latency"), ("first_token_ns", "first_token")):
        value, sketch = getattr(request, field), sketches[label]
        if value is None:
            continue
        share, calls = standing(sketch, value)
        (median,) = percentiles(sketch, (0.5,))
        if calls >= FEWEST and median is not None:
            found[field] = Standing(
                share=share, calls=calls, median_ns=median, since_ns=since * DAY_NS, until_ns=until * DAY_NS
            )
    return found
