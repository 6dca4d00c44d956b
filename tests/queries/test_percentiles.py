"""Percentiles by the hour, by the day and of many days: within two per cent, and read from the largest sketches."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from asgi_llmobs.filters import Filter
from asgi_llmobs.limits import Retention
from asgi_llmobs.queries.overview import SHARES, overview
from asgi_llmobs.recompute import recompute
from asgi_llmobs.records import Request
from asgi_llmobs.retention import prune
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.rollups import DAY_HOURS, HOUR_NS
from asgi_llmobs.store.write import Sink
from tests.making import START, request

DAY_NS = DAY_HOURS * HOUR_NS
FIRST = START // DAY_NS * DAY_NS


def exact(requests: Sequence[Request]) -> list[int]:
    durations = sorted(one.duration_ns or 0 for one in requests)
    return [durations[max(0, -(-int(share * 100) * len(durations) // 100) - 1)] for share in SHARES]


def near(told: Sequence[int | None], requests: Sequence[Request]) -> bool:
    return all(abs((one or 0) - real) <= 0.02 * real for one, real in zip(told, exact(requests), strict=True))


@pytest.mark.slow
def test_daily_sketches(database: Database) -> None:
    """After late records, retries and retention those of days are what their requests took, and days are read from
    them."""
    chance, sink = random.Random(7), Sink(database)
    stored = [
        request(start_ns=FIRST + hour * HOUR_NS * 3, duration_ns=int(chance.lognormvariate(0, 1) * 1e9))
        for hour in range(4 * 8)
        for _ in range(8)
    ]
    for start in range(0, len(stored), 64):
        sink.write(stored[start : start + 64])
    late = [request(start_ns=FIRST + 2 * DAY_NS + 5, duration_ns=90 * 10**9) for _ in range(3)]
    again = [replace(one, attempt=2, duration_ns=(one.duration_ns or 0) * 3) for one in stored[100:140]]
    sink.write([*late, *again])
    sink.write(again)
    prune(database, Retention(age_ns=3 * DAY_NS), now_ns=FIRST + 4 * DAY_NS + 1)
    changed = {one.id: one for one in (*stored, *late, *again)}
    left = [one for one in changed.values() if one.start_ns + (one.duration_ns or 0) >= FIRST + DAY_NS]
    assert len(left) < len(changed)

    with database.write() as connection:  # nothing but days can tell it now
        connection.exec_driver_sql("UPDATE llmobs_rollups SET latency = '' WHERE hours = 1")
    days = overview(database, Filter(), bucket="day")
    assert [cell.start_ns for cell in days][-3:] == [FIRST + day * DAY_NS for day in (1, 2, 3)]
    for cell in days:
        assert near(cell.latency, [one for one in left if one.start_ns // DAY_NS == cell.start_ns // DAY_NS])
    (whole,) = overview(
        database, Filter(since_ns=FIRST + DAY_NS, until_ns=FIRST + 4 * DAY_NS), bucket="range", by=("model",)
    )
    assert near(whole.latency, [one for one in left if one.start_ns >= FIRST + DAY_NS])
    list(recompute(database))
    assert all(cell.latency[0] for cell in overview(database, Filter(), bucket="hour"))
