"""Endpoints: cost, time and waiting by route, the same as counted over the spans themselves."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from math import ceil
from random import Random
from typing import Any

import pytest

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries import endpoints as module
from asgi_llmobs.queries.endpoints import Endpoint, endpoints
from asgi_llmobs.queries.traces import list_traces
from asgi_llmobs.records import Cost, Kind, Request, Span
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, priced, request, span

HOUR = 3_600 * SECOND
MIDNIGHT = 20_700 * 24 * HOUR
Incoming = tuple[Span, list[Request]]


def made(count: int, seed: int = 4) -> list[Incoming]:
    """Incoming requests with calls one after another, side by side, and going on after the answer."""
    chance = Random(seed)
    found = []
    for _ in range(count):
        root = span(
            kind=Kind.HTTP, route=chance.choice(["/chat", "/search", None]), user_id=chance.choice([None, "ada"]),
            start_ns=MIDNIGHT + chance.randrange(6 * HOUR), duration_ns=chance.randrange(1, 10 * SECOND),
            outcome=chance.choice(["ok", "ok", "error", "cancelled"]),
        )  # fmt: skip
        calls = [
            request(
                trace_id=root.trace_id, parent_id=root.id, route=root.route,
                start_ns=root.start_ns + chance.randrange(12 * SECOND), duration_ns=chance.randrange(8 * SECOND),
                outcome=chance.choice(["ok", "ok", "error"]), cost=chance.choice([Cost(), priced("0.125")]),
            )
            for _ in range(chance.randrange(1, 4))
        ]  # fmt: skip
        found.append((root, calls))
    return found


def waited(root: Span, calls: Sequence[Request]) -> int:
    """How long at least one call was under way before the answer, stretch by stretch between all starts and ends."""
    end = root.start_ns + (root.duration_ns or 0)
    spans = [(call.start_ns, call.start_ns + (call.duration_ns or 0)) for call in calls]
    edges = sorted({root.start_ns, end, *(min(max(edge, root.start_ns), end) for pair in spans for edge in pair)})
    return sum(
        later - edge
        for edge, later in pairwise(edges)
        if any(start <= edge and later <= stop for start, stop in spans)
    )  # fmt: skip


def check(found: Endpoint, meant: Sequence[Incoming]) -> None:
    roots = [root for root, _ in meant]
    calls = [call for _, own in meant for call in own]
    spent = {
        outcome: cost_of(own for root, own in meant if root.outcome == outcome) for outcome in ("error", "cancelled")
    }
    whole = cost_of(own for _, own in meant)
    succeeded = sum(root.outcome == "ok" for root in roots)
    assert (found.requests, found.succeeded, found.calls) == (len(roots), succeeded, len(calls))
    assert found.failed == sum(root.outcome == "error" for root in roots)
    assert found.gone == sum(root.outcome == "cancelled" for root in roots)
    assert found.failed_calls == sum(call.outcome == "error" for call in calls)
    assert found.total_cost_usd == whole and found.unpriced_count == sum(call.cost.amount is None for call in calls)
    assert (found.gone_cost_usd, found.failed_cost_usd) == (spent["cancelled"], spent["error"])
    assert found.cost_per_success_usd == (whole / succeeded if whole is not None and succeeded else None)
    durations = [root.duration_ns for root in roots]
    assert found.own_ns == sum(durations)  # type: ignore[arg-type]
    for value, share in zip(found.latency, (0.5, 0.95, 0.99), strict=True):
        assert value == sorted(durations)[ceil(round(share * len(durations), 9)) - 1]  # type: ignore[type-var]
    assert found.waited_ns == sum(waited(root, own) for root, own in meant)
    assert found.wait_share == found.waited_ns / found.own_ns


def cost_of(meant: Any) -> Decimal | None:
    costs = [call.cost.amount for own in meant for call in own if call.cost.amount is not None]
    return sum(costs, Decimal(0)) if costs else None


def test_endpoints(database: Database) -> None:
    """By route, by step and in all; work that is no incoming request does not count."""
    stored = made(60)
    Sink(database).write([record for root, calls in stored for record in (root, *calls)])
    Sink(database).write([request(start_ns=MIDNIGHT + HOUR), span(start_ns=MIDNIGHT + HOUR)])
    found = endpoints(database, Filter(), since_ns=MIDNIGHT, until_ns=MIDNIGHT + 6 * HOUR)

    check(found.total, stored)
    assert {one.route for one in found.routes} == {"/chat", "/search", ""} and found.partial_since_ns is None
    for one in found.routes:
        check(one, [each for each in stored if (each[0].route or "") == one.route])
    assert [one.total_cost_usd for one in found.routes] == sorted(
        (one.total_cost_usd or Decimal(0) for one in found.routes), reverse=True
    )
    step = found.window.step_ns
    for one in found.steps:
        own = [each for each in stored if 0 <= each[0].start_ns - one.start_ns < step]
        assert (one.requests, one.total_cost_usd) == (len(own), cost_of(calls for _, calls in own))


def test_narrowed_down(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """By route and user; what incoming requests do not have is refused; a part is called a part."""
    stored = made(40)
    Sink(database).write([record for root, calls in stored for record in (root, *calls)])
    between = {"since_ns": MIDNIGHT, "until_ns": MIDNIGHT + 6 * HOUR}

    found = endpoints(database, Filter(route=("/ch*",), user=("ada",)), **between)
    check(found.total, [one for one in stored if one[0].route == "/chat" and one[0].user_id == "ada"])
    with pytest.raises(FilterError, match="model"):
        endpoints(database, Filter(model=("gpt-4o",)), **between)
    monkeypatch.setattr(module, "MOST_TRACES", 10)
    part = endpoints(database, Filter(), **between)
    newest = sorted(stored, key=lambda one: one[0].start_ns)[-10:]
    assert part.partial_since_ns is not None and part.partial_since_ns <= newest[0][0].start_ns
    check(part.total, newest)


def test_nothing(database: Database) -> None:
    """Nothing is nothing, and is divided by nothing."""
    found = endpoints(database, Filter(), since_ns=MIDNIGHT, until_ns=MIDNIGHT + HOUR)

    assert (found.total.requests, found.routes, found.total.wait_share, found.total.total_cost_usd) == (
        0,
        [],
        None,
        None,
    )


def test_a_failed_number_leads_to_its_requests(database: Database) -> None:
    """``root:`` means how the request to the app ended, whatever became of its calls."""
    found = made(40)
    Sink(database).write([record for root, calls in found for record in (root, *calls)])

    for outcome in ("error", "cancelled", "ok"):
        flt = Filter.from_query([("q", f"root:{outcome}")])
        listed = {row.trace_id for row in list_traces(database, flt, limit=100).rows}
        assert listed == {root.trace_id for root, _ in found if root.outcome == outcome}
