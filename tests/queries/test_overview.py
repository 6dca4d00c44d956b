"""Sums over time: the same from the rollups as from the rows, at any bounds, and by anything that is asked for."""

from collections.abc import Sequence
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.overview import Cell, Totals, overview, totals
from asgi_llmobs.queries.users import get_user, ranked_users
from asgi_llmobs.records import Cost, Request, Usage
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, priced, request

HOUR = 3_600 * SECOND
DAY = 24 * HOUR
MIDNIGHT = 20_700 * DAY


def made(count: int, seed: int = 1) -> list[Request]:
    """Requests of four days, of all kinds."""
    chance = Random(seed)
    return [
        request(
            start_ns=MIDNIGHT + chance.randrange(4 * DAY),
            duration_ns=int(chance.lognormvariate(21, 1)),
            first_token_ns=chance.choice([None, chance.randrange(SECOND)]),
            request_model=chance.choice(["gpt-4o", "o4-mini"]),
            provider=chance.choice(["openai", "azure"]),
            outcome=chance.choice(["ok", "ok", "error"]),
            status=chance.choice([200, 429, 500]),
            route=chance.choice([None, "/chat"]),
            user_id=chance.choice([None, "u1", "u2", "u3"]),
            usage=chance.choice([None, Usage(input_tokens=chance.randrange(100), output_tokens=3, cache_read=1)]),
            cost=chance.choice([Cost(), priced("0.25")]),
        )
        for _ in range(count)
    ]


def expected(requests: Sequence[Request]) -> Totals:
    used = [one.usage for one in requests if one.usage is not None]
    costs = [one.cost.amount for one in requests if one.cost.amount is not None]
    return Totals(
        requests=len(requests),
        errors=sum(one.outcome == "error" for one in requests),
        total_cost_usd=sum(costs, Decimal(0)) if costs else None,
        unpriced_count=len(requests) - len(costs),
        input_tokens=sum(usage.input_tokens or 0 for usage in used) if used else None,
        output_tokens=sum(usage.output_tokens or 0 for usage in used) if used else None,
        cache_read=sum(usage.cache_read or 0 for usage in used) if used else None,
    )


def test_totals_at_any_bounds(database: Database) -> None:
    """Whole days, hours and what lies between: each request counts once, wherever a bound falls."""
    stored = made(400)
    Sink(database).write(stored)
    bounds = [0, 1, HOUR // 2, HOUR, 20 * HOUR + 7, DAY, 2 * DAY + 3 * HOUR, 3 * DAY - 1, 4 * DAY]
    for low in (None, *bounds):
        for high in (None, *bounds):
            flt = Filter(
                since_ns=None if low is None else MIDNIGHT + low, until_ns=None if high is None else MIDNIGHT + high
            )
            inside = [
                one for one in stored if (low or 0) <= one.start_ns - MIDNIGHT < (5 * DAY if high is None else high)
            ]
            assert totals(database, flt) == expected(inside), (low, high)


@pytest.mark.parametrize(
    "given",
    [
        {"status": ("error",)}, {"status": ("4xx", "200")}, {"provider": ("azure",)}, {"route": ("/chat",)},
        {"model": ("gpt*",)}, {"user": ("u1", "u2")}, {"provider": ("azure",), "status": ("ok",)},
    ],
)  # fmt: skip
def test_totals_of_a_part(database: Database, given: dict[str, Any]) -> None:
    """A filter means the same whether the rollups can tell it or not."""
    stored = made(200)
    Sink(database).write(stored)
    flt = Filter(since_ns=MIDNIGHT + HOUR // 2, until_ns=MIDNIGHT + 3 * DAY, **given)

    def meant(one: Request) -> bool:
        return (
            HOUR // 2 <= one.start_ns - MIDNIGHT < 3 * DAY
            and one.provider in given.get("provider", ("openai", "azure"))
            and (not given.get("route") or one.route == "/chat")
            and (not given.get("user") or one.user_id in given["user"])
            and (not given.get("model") or one.request_model == "gpt-4o")
            and any(
                value in (one.outcome, str(one.status), f"{str(one.status)[0]}xx")
                for value in given.get("status", (one.outcome,))
            )
        )

    assert totals(database, flt) == expected([one for one in stored if meant(one)])


def exact(values: list[int], share: float) -> int:
    values.sort()
    return values[max(0, -(-int(share * 1_000) * len(values) // 1_000) - 1)]


def near(found: int | None, value: int) -> bool:
    return found is not None and abs(found / value - 1) < 0.02


@pytest.mark.parametrize(("bucket", "length"), [("hour", HOUR), ("day", DAY), ("range", 100 * DAY)])
@pytest.mark.parametrize("by", [(), ("model",), ("status", "outcome")])
def test_series(database: Database, bucket: Any, length: int, by: tuple[str, ...]) -> None:
    """Each cell has the sums and percentiles of its requests, and the cells together have all requests."""
    stored = made(300)
    Sink(database).write(stored)
    flt = Filter(since_ns=MIDNIGHT, until_ns=MIDNIGHT + 3 * DAY + 5 * HOUR)
    if bucket == "day":
        flt = Filter(since_ns=MIDNIGHT, until_ns=MIDNIGHT + 4 * DAY)

    def place(one: Request) -> tuple[Any, ...]:
        names = {"model": one.request_model, "status": one.status, "outcome": one.outcome}
        return (MIDNIGHT + (one.start_ns - MIDNIGHT) // length * length, tuple(names[name] for name in by))

    groups: dict[tuple[Any, ...], list[Request]] = {}
    for one in stored:
        if one.start_ns < (flt.until_ns or 0):
            groups.setdefault(place(one), []).append(one)
    cells = {(cell.start_ns, cell.key): cell for cell in overview(database, flt, bucket=bucket, by=by)}

    assert list(cells) == sorted(cells, key=lambda key: (key[0], tuple(map(str, key[1]))))
    assert set(cells) == set(groups)
    for key, requests in groups.items():
        cell, want = cells[key], expected(requests)
        assert isinstance(cell, Cell)
        assert (cell.requests, cell.errors, cell.total_cost_usd, cell.unpriced_count, cell.input_tokens) == (
            want.requests, want.errors, want.total_cost_usd, want.unpriced_count, want.input_tokens,
        )  # fmt: skip
        durations = [one.duration_ns or 0 for one in requests]
        assert near(cell.latency[0], exact(durations, 0.5)) and near(cell.latency[3], exact(durations, 0.99))
        assert near(cell.mean_ns, sum(durations) // len(durations))
        firsts = [one.first_token_ns for one in requests if one.first_token_ns is not None]
        assert near(cell.first_token[1], exact(firsts, 0.9)) if firsts else cell.first_token == [None] * 4


def test_what_rollups_cannot_tell(database: Database) -> None:
    """It is said, not left out."""
    Sink(database).write(made(3))
    with pytest.raises(FilterError, match="user"):
        overview(database, Filter(user=("u",)))
    with pytest.raises(FilterError, match="tenant"):
        overview(database, Filter(), by=("tenant",))
    assert overview(database, Filter(project="other")) == []
    assert sum(cell.requests for cell in overview(database, Filter(), bucket="range", shares=())) == 3


def test_users(database: Database) -> None:
    """Who was seen last, page by page; one by name; and who used most in some hours."""
    first = [request(user_id=f"u{number}", start_ns=MIDNIGHT + number * HOUR) for number in range(5)]
    later = request(user_id="u1", start_ns=MIDNIGHT + 3 * DAY, cost=Cost(), outcome="error")
    Sink(database).write([*first, later, request()])

    def ranked(since: int, until: int, **given: Any) -> list[tuple[str, int, int, list[int]]]:
        found, _ = ranked_users(database, "default", start_ns=since, end_ns=until, **given)
        return [(one.user.user_id, one.user.requests, one.active_days, list(one.days)) for one in found]

    page, count = ranked_users(database, "default", start_ns=MIDNIGHT, end_ns=MIDNIGHT + 4 * DAY, by="last", limit=3)
    rest = ranked(MIDNIGHT, MIDNIGHT + 4 * DAY, by="last", offset=3)
    assert [one.user.user_id for one in page] + [user for user, *_ in rest] == ["u1", "u4", "u3", "u2", "u0"]
    assert count == 5
    one = get_user(database, "u1", project="default")
    assert one == page[0].user and get_user(database, "u1", project="other") is None
    assert (one.first_ns, one.last_ns, one.requests, one.errors) == (MIDNIGHT + HOUR, MIDNIGHT + 3 * DAY, 2, 1)
    assert (one.total_cost_usd, one.unpriced_count) == (Decimal("0.00015"), 1)
    top = ranked(MIDNIGHT, MIDNIGHT + 5 * DAY, by="requests", limit=2)
    assert top == [("u1", 2, 2, [1, 0, 0, 1, 0]), ("u0", 1, 1, [1, 0, 0, 0, 0])]
    assert ranked(MIDNIGHT + DAY, MIDNIGHT + 5 * DAY) == [("u1", 1, 1, [0, 0, 1, 0])]
    assert ranked(MIDNIGHT + HOUR + 1, MIDNIGHT + 2 * HOUR) == [("u1", 1, 1, [1])]  # the whole hour, not the whole day
    across = ranked(MIDNIGHT + HOUR, MIDNIGHT + 3 * DAY + HOUR, by="first", limit=1)
    assert across == [("u4", 1, 1, [1, 0, 0, 0])]


@pytest.mark.parametrize("hours", [2, 24, 60])
def test_percentiles_of_a_user(database: Database, hours: int) -> None:
    """Within two percent of the exact ones, of however many hours and days; what is running took no time yet."""
    chance = Random(hours)
    made = [
        request(
            user_id=f"u{number % 2}",
            start_ns=MIDNIGHT + number * 60 * HOUR // 200,
            duration_ns=int(chance.lognormvariate(0, 1) * 10**9),
        )
        for number in range(200)
    ]
    running = request(user_id="u0", start_ns=MIDNIGHT, outcome="running", duration_ns=None)
    Sink(database).write([*made, running])

    found, _ = ranked_users(database, "default", start_ns=MIDNIGHT, end_ns=MIDNIGHT + hours * HOUR)

    for one in found:
        took = sorted(
            each.duration_ns or 0
            for each in made
            if each.user_id == one.user.user_id and each.start_ns < MIDNIGHT + hours * HOUR
        )
        for share, told in zip((50, 95), one.latency, strict=True):
            exact = took[-(-share * len(took) // 100) - 1]
            assert told is not None and abs(told / exact - 1) < 0.02, (hours, share)
    assert len(found) == 2
