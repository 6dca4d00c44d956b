"""Figures of a dashboard: the same as counted over the records themselves, from the rollups and from the rows."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from math import ceil
from random import Random
from typing import Any

import pytest

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries import figures as module
from asgi_llmobs.queries.figures import Figures, edges, figures, property_names, window_of
from asgi_llmobs.queries.models import models_seen, unpriced_reasons
from asgi_llmobs.queries.overview import Cell
from asgi_llmobs.queries.properties import list_properties
from asgi_llmobs.queries.users import ranked_users
from asgi_llmobs.records import Cost, Request, Usage
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, priced, request

HOUR = 3_600 * SECOND
DAY = 24 * HOUR
MIDNIGHT = 20_700 * DAY
SHARES = (0.5, 0.95, 0.99)


def made(count: int, span: int, seed: int = 1) -> list[Request]:
    """Requests of all kinds, spread over *span* nanoseconds."""
    chance = Random(seed)
    return [
        request(
            start_ns=MIDNIGHT + chance.randrange(span),
            duration_ns=int(chance.lognormvariate(21, 1)),
            first_token_ns=chance.choice([None, chance.randrange(1, SECOND)]),
            request_model=chance.choice(["gpt-4o", "o4-mini", "acme-1"]),
            provider=chance.choice(["openai", "azure"]),
            outcome=chance.choice(["ok", "ok", "ok", "error", "cancelled", "abandoned"]),
            status=chance.choice([200, 429, 500]),
            error_type=chance.choice([None, "rate_limit"]),
            route=chance.choice([None, "/chat", "/search"]),
            user_id=chance.choice([None, "ada", "ken"]),
            properties=chance.choice([{}, {"Step": "plan"}, {"step": "act", "Tier": "pro"}]),
            finish_reasons=chance.choice([("stop",), ("length",), ("tool_calls",), ("MAX_TOKENS",)]),
            usage=chance.choice(
                [None, Usage(input_tokens=50 + chance.randrange(100), output_tokens=3, cache_read=chance.randrange(50))]
            ),
            cost=chance.choice([Cost(reason="no price is known"), priced("0.25"), priced("0.000001")]),
        )
        for _ in range(count)
    ]


def quantile(values: Sequence[int], share: float) -> int:
    """The smallest value that so large a share stays within."""
    return sorted(values)[ceil(round(share * len(values), 9)) - 1]


KEYS: dict[str, Any] = {
    "model": lambda one: one.request_model,
    "provider": lambda one: one.provider,
    "status": lambda one: one.status,
    "outcome": lambda one: one.outcome,
    "route": lambda one: one.route or "",
    "user": lambda one: one.user_id or "",
    "error": lambda one: one.error_type or "",
    "property.STEP": lambda one: next((value for key, value in one.properties.items() if key.lower() == "step"), ""),
    "property.tier": lambda one: one.properties.get("Tier", ""),
}


def check(cell: Cell, requests: Sequence[Request]) -> None:
    """*cell* is what *requests* add up to; percentiles are within 2 %."""
    used = [one.usage for one in requests if one.usage is not None]
    costs = [one.cost.amount for one in requests if one.cost.amount is not None]
    gone = [one for one in requests if one.outcome in ("cancelled", "abandoned")]
    lost = [one.cost.amount for one in gone if one.cost.amount is not None]
    fine = [one for one in requests if one.outcome == "ok"]
    expected = {
        "requests": len(requests),
        "errors": sum(one.outcome == "error" for one in requests),
        "succeeded": len(fine),
        "gone": len(gone),
        "gone_cost_usd": sum(lost, Decimal(0)) if lost else None,
        "total_cost_usd": sum(costs, Decimal(0)) if costs else None,
        "unpriced_count": len(requests) - len(costs),
        "input_tokens": sum(usage.input_tokens or 0 for usage in used) if used else None,
        "output_tokens": sum(usage.output_tokens or 0 for usage in used) if used else None,
        "cache_read": sum(usage.cache_read or 0 for usage in used),
        "truncated_count": sum(one.finish_reasons[0] in ("length", "MAX_TOKENS") for one in requests),
        "tool_count": sum(one.finish_reasons == ("tool_calls",) for one in requests),
        "answered_ns": sum(one.duration_ns or 0 for one in fine),
        "answered_tokens": sum(one.usage.output_tokens or 0 for one in fine if one.usage),
    }
    assert {name: getattr(cell, name) for name in expected} == expected
    durations = [one.duration_ns for one in requests]
    firsts = [one.first_token_ns for one in requests if one.first_token_ns is not None]
    for found, values in ((cell.latency, durations), (cell.first_token, firsts)):
        for value, share in zip(found, SHARES, strict=False):
            exact = quantile(values, share) if values else None
            assert (value is None) == (exact is None)
            assert value is None or exact is None or abs(value / exact - 1) < 0.02 or exact < 10_000


@pytest.mark.parametrize(("span", "rows_only"), [(2 * HOUR, True), (3 * DAY, False), (90 * DAY, False)])
@pytest.mark.parametrize("by", [(), ("model",), ("outcome", "route"), ("property.STEP", "model"), ("error", "user")])
def test_figures(database: Database, span: int, rows_only: bool, by: tuple[str, ...]) -> None:
    """In all, by step, by group and by both: each figure is that of its requests, and each request counts once."""
    stored = made(250, span)
    Sink(database).write(stored)
    found = figures(database, Filter(), since_ns=MIDNIGHT + span // 4, until_ns=MIDNIGHT + span, by=by, shares=SHARES)
    low, high, step = found.window.since_ns, found.window.until_ns, found.window.step_ns
    inside = [one for one in stored if low <= one.start_ns < high]

    assert low <= MIDNIGHT + span // 4 and high >= MIDNIGHT + span and (high - low) % step == 0 and low % step == 0
    assert found.rows_only == (rows_only or any(name not in module.DIMENSIONS for name in by))
    assert found.partial_since_ns is None
    check(found.total, inside)
    assert found.previous is not None
    check(found.previous, [one for one in stored if 2 * low - high <= one.start_ns < low])
    assert [cell.start_ns for cell in found.steps] == list(found.window.starts()) and len(found.steps) <= 64
    for cell in found.steps:
        check(cell, [one for one in inside if cell.start_ns <= one.start_ns < cell.start_ns + step])
    check_groups(found, inside)


def check_groups(found: Figures, inside: Sequence[Request]) -> None:
    groups: dict[tuple[Any, ...], list[Request]] = {}
    for one in inside if found.by else ():
        groups.setdefault(tuple(KEYS[name](one) for name in found.by), []).append(one)
    assert {cell.key for cell in found.groups} == set(groups)
    assert [cell.requests for cell in found.groups] == sorted((cell.requests for cell in found.groups), reverse=True)
    for cell in found.groups:
        check(cell, groups[cell.key])
    assert {cell.key for cell in found.grouped} == {cell.key for cell in found.groups[:6]}
    for cell in found.grouped:
        own = [one for one in groups[cell.key] if 0 <= one.start_ns - cell.start_ns < found.window.step_ns]
        check(replace(cell, latency=(), first_token=()), own)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"route": ("/ch*",)}, lambda one: one.route == "/chat"),
        ({"user": ("ada",)}, lambda one: one.user_id == "ada"),
        ({"properties": (("TIER", "pro"),)}, lambda one: one.properties.get("Tier") == "pro"),
        ({"status": ("4xx",), "provider": ("azure",)}, lambda one: one.status == 429 and one.provider == "azure"),
        ({"min_latency": 2.0}, lambda one: one.duration_ns >= 2 * SECOND),
    ],
)
def test_figures_of_a_part(database: Database, given: dict[str, Any], meant: Any) -> None:
    """A filter means the same whether the rollups can tell it or not."""
    stored = made(200, 2 * DAY)
    Sink(database).write(stored)
    found = figures(database, Filter(**given), since_ns=MIDNIGHT, until_ns=MIDNIGHT + 2 * DAY, shares=SHARES)

    check(found.total, [one for one in stored if meant(one)])
    assert sum(cell.requests for cell in found.steps) == found.total.requests


def test_more_rows_than_are_added_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rollups answer where they can; else it is said since when the figures hold, and they hold."""
    monkeypatch.setattr(module, "MOST_ROWS", 40)
    stored = made(150, 2 * HOUR)
    Sink(database).write(stored)
    between = {"since_ns": MIDNIGHT, "until_ns": MIDNIGHT + 2 * HOUR, "shares": SHARES}

    whole = figures(database, Filter(), **between)  # type: ignore[arg-type]
    assert not whole.rows_only and whole.window.step_ns == HOUR
    check(whole.total, stored)
    part = figures(database, Filter(), by=("property.step",), **between)  # type: ignore[arg-type]
    assert part.partial_since_ns is not None and part.previous is None
    newest = [one for one in stored if one.start_ns >= part.partial_since_ns]
    assert len(newest) == 40
    check(part.total, newest)
    few = figures(database, Filter(properties=(("Tier", "pro"),)), **between)  # type: ignore[arg-type]
    assert few.partial_since_ns is None, "an index leads to all of them"
    check(few.total, [one for one in stored if "Tier" in one.properties])


def test_windows() -> None:
    """At most 64 steps of a length that people know, on its multiples; hours at least where rollups must tell."""
    for length in (1, 90 * SECOND, HOUR, 5 * HOUR, DAY, 8 * DAY, 400 * DAY, 40_000 * DAY):
        for fine in (True, False):
            window = window_of(MIDNIGHT + 7, MIDNIGHT + 7 + length, fine=fine)
            assert window.since_ns <= MIDNIGHT + 7 and window.until_ns >= MIDNIGHT + 7 + length
            assert 1 <= len(window.starts()) <= 65 and window.since_ns % window.step_ns == 0
            assert fine or window.step_ns >= HOUR
    assert window_of(MIDNIGHT, MIDNIGHT + HOUR).step_ns == 60 * SECOND


def test_what_there_is(database: Database) -> None:
    """First and last request, names of properties, and what cannot be grouped by."""
    assert edges(database, "default") == (None, None) and property_names(database, "default") == []
    stored = made(30, DAY)
    Sink(database).write(stored)
    starts = [one.start_ns for one in stored]

    assert edges(database, "default") == (min(starts), max(starts)) and edges(database, "other") == (None, None)
    assert property_names(database, "default") == ["step", "tier"]
    for wrong in ("tenant", "property.", "property"):
        with pytest.raises(FilterError, match="by"):
            figures(database, Filter(), since_ns=0, until_ns=1, by=(wrong,))


def test_properties(database: Database) -> None:
    """How many requests carry each, its values, and what they cost."""
    stored = made(120, DAY)
    Sink(database).write(stored)
    found, count, edge = list_properties(database, Filter(), since_ns=MIDNIGHT, until_ns=MIDNIGHT + DAY)
    step = next(row for row in found if row.name == "step")
    own = [one for one in stored if one.properties]
    costs = [one.cost.amount for one in own if one.cost.amount is not None]

    assert (count, edge, [row.name for row in found]) == (120, None, ["step", "tier"])
    assert (step.requests, step.values, step.total_cost_usd) == (len(own), 2, sum(costs))
    assert dict(step.largest) == {
        value: sum(KEYS["property.STEP"](one) == value for one in own) for value in ("plan", "act")
    }
    assert step.unpriced_count == len(own) - len(costs) and step.last_ns == max(one.start_ns for one in own)


@pytest.mark.parametrize("sort", ["cost", "requests", "errors", "average", "active_days", "first", "last"])
def test_ranked_users(database: Database, sort: str) -> None:
    """Users by anything, with the days on which they were active."""
    stored = made(90, 5 * DAY)
    Sink(database).write(stored)
    found, count = ranked_users(database, "default", start_ns=MIDNIGHT, end_ns=MIDNIGHT + 5 * DAY, by=sort)
    assert count == 2 and {row.user.user_id for row in found} == {"ada", "ken"}

    def value(row: Any) -> Any:
        user = row.user
        priced_count = user.requests - user.unpriced_count
        return {
            "cost": user.total_cost_usd, "requests": user.requests, "errors": user.errors,
            "average": user.total_cost_usd / priced_count, "active_days": row.active_days,
            "first": user.first_ns, "last": user.last_ns,
        }[sort]  # fmt: skip

    assert value(found[0]) >= value(found[1])
    for row in found:
        own = [one for one in stored if one.user_id == row.user.user_id]
        by_day = [sum((one.start_ns - MIDNIGHT) // DAY == day for one in own) for day in range(5)]
        assert list(row.days) == by_day and row.active_days == sum(map(bool, by_day))
        assert row.user.requests == len(own)
        durations = [one.duration_ns for one in own]
        assert abs(row.latency[0] / quantile(durations, 0.5) - 1) < 0.02
    assert [row.user for row in ranked_users(
        database, "default", start_ns=MIDNIGHT, end_ns=MIDNIGHT + 5 * DAY, by=sort, offset=1, limit=1
    )[0]] == [found[1].user]  # fmt: skip


def test_models(database: Database) -> None:
    """When each was asked first and last, also where only the answer names it; and why there is no price."""
    bare = request(request_model=None, response_model="only-answered", start_ns=MIDNIGHT + 9, cost=Cost(reason="what?"))
    stored = [*made(60, DAY), bare]
    Sink(database).write(stored)
    seen = models_seen(database, "default", ["gpt-4o", "only-answered", "nobody"])
    starts = [one.start_ns for one in stored if one.request_model == "gpt-4o"]

    assert set(seen) == {"gpt-4o", "only-answered"} and seen["only-answered"].first_ns == MIDNIGHT + 9
    assert (seen["gpt-4o"].first_ns, seen["gpt-4o"].last_ns) == (min(starts), max(starts))
    reasons = unpriced_reasons(database, "default", "gpt-4o", since_ns=MIDNIGHT, until_ns=MIDNIGHT + DAY)
    missing = [one for one in stored if one.request_model == "gpt-4o" and one.cost.amount is None]
    assert sum(one.count for one in reasons) == len(missing) and reasons[0].reason == "no price is known"
    (only,) = unpriced_reasons(database, "default", "only-answered", since_ns=MIDNIGHT, until_ns=MIDNIGHT + DAY)
    assert (only.reason, only.provider, only.count) == ("what?", "openai", 1)
