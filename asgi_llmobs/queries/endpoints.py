"""The endpoints of the app: what a request to each costs, and how much of its time models were waited for.

Counted over incoming requests, not LLM calls: those that set off at least one, which are the roots of traces. Every
figure is exact over the requests that were looked at, which are the newest ones where a range has very many.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import compress
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import and_, select, true

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.columns import by_column
from asgi_llmobs.queries.figures import Window, window_of
from asgi_llmobs.queries.terms import any_of
from asgi_llmobs.records import Kind
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import TraceRow
from asgi_llmobs.store.values import dollars, name

__all__ = ["Endpoint", "Endpoints", "MOST_TRACES", "endpoints"]

traces: Any = TraceRow.__table__  # type: ignore[attr-defined]

MOST_TRACES = 10_000
INCOMING = (str(Kind.HTTP), str(Kind.WEBSOCKET))
KNOWN = ("route", "user", "session")
GONE = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What the incoming requests of one route, or of one step of time, add up to. Times in nanoseconds."""

    route: str  # its template; empty where none matched
    start_ns: int
    requests: int
    succeeded: int
    failed: int
    gone: int  # the client went away before the answer was complete
    running: int
    calls: int  # LLM requests
    failed_calls: int
    total_cost_usd: Decimal | None
    unpriced_count: int  # LLM requests without a price
    gone_cost_usd: Decimal | None  # of the requests whose client went away
    failed_cost_usd: Decimal | None  # of those that failed
    cost_per_success_usd: Decimal | None  # all that was spent, for each request that ended well
    input_tokens: int | None
    output_tokens: int | None
    latency: Sequence[int | None]  # p50, p95, p99 of the answer, not of work that goes on after it
    own_ns: int  # the time of all answers
    waited_ns: int  # how much of that at least one model was waited for
    wait_share: float | None
    last_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """All routes, those that cost most first; the steps of the window; and everything together."""

    window: Window
    total: Endpoint
    routes: Sequence[Endpoint]
    steps: Sequence[Endpoint]
    partial_since_ns: int | None  # older requests of the window were not looked at


class Incoming(NamedTuple):
    """What counts of the traces that incoming requests began, by columns."""

    route: Sequence[str | None]
    start_ns: Sequence[int]
    outcome: Sequence[str]
    own_ns: Sequence[int | None]
    waited_ns: Sequence[int | None]
    requests: Sequence[int]
    succeeded: Sequence[int]
    finished: Sequence[int]
    cost: Sequence[int | None]
    unpriced: Sequence[int]
    input_tokens: Sequence[int | None]
    output_tokens: Sequence[int | None]

    def only(self, places: Sequence[int]) -> "Incoming":
        """Those at *places*, of which there is one at least."""
        take = itemgetter(*places, places[0])  # with one more it is a tuple in any case
        return Incoming(*(take(column)[:-1] for column in self))


def endpoints(db: Database, flt: Filter, *, since_ns: int, until_ns: int) -> Endpoints:
    """The endpoints in a range of time, which is widened to whole steps.

    Args:
        db: The store.
        flt: Project, routes, users and sessions count; its times do not.
        since_ns: Inclusive, nanoseconds since 1970.
        until_ns: Exclusive.

    Raises:
        FilterError: The filter has a condition that incoming requests do not meet or fail.
        StoreError: The database cannot be read.
    """
    for key in flt.keys:
        if key not in KNOWN or flt.where is not None:
            raise FilterError(key, "endpoints are narrowed down by time, route, user and session")
    window = window_of(since_ns, until_ns)
    rows, edge = traces_of(db, flt, window)
    by_route: dict[str, list[int]] = defaultdict(list)
    by_step: dict[int, list[int]] = defaultdict(list)
    for place, (route, start) in enumerate(zip(rows.route, rows.start_ns, strict=True)):
        by_route[route or ""].append(place)
        by_step[start // window.step_ns * window.step_ns].append(place)
    routes = [endpoint(rows.only(own), route, window.since_ns) for route, own in by_route.items()]
    routes.sort(key=lambda one: (-(one.total_cost_usd or 0), -one.requests, one.route))
    nothing = Incoming(*[()] * len(Incoming._fields))
    return Endpoints(
        window=window,
        total=endpoint(rows, "", window.since_ns),
        routes=routes,
        steps=[
            endpoint(rows.only(by_step[start]) if start in by_step else nothing, "", start) for start in window.starts()
        ],
        partial_since_ns=edge,
    )


def traces_of(db: Database, flt: Filter, window: Window) -> tuple[Incoming, int | None]:
    columns, order = traces.c, traces.c.start_ns.desc()
    owner = columns.project == name(flt.project)
    meant = and_(
        columns.kind.in_(INCOMING),
        any_of(columns.route, flt.route, wildcards=True) if flt.route else true(),
        any_of(columns.user_id, flt.user) if flt.user else true(),
        any_of(columns.session_id, flt.session) if flt.session else true(),
    )
    query = select(*(columns[label] for label in Incoming._fields))
    with db.read() as connection:
        inside = and_(owner, columns.start_ns >= window.since_ns, columns.start_ns < window.until_ns)
        last = select(columns.start_ns).where(inside).order_by(order, columns.trace_id.desc()).offset(MOST_TRACES)
        edge = connection.execute(last.limit(1)).scalar()
        if edge is not None:  # one bound, not two: the second would be looked at row by row
            inside = and_(owner, columns.start_ns > edge, columns.start_ns < window.until_ns)
        rows = Incoming(*by_column(connection, query.where(inside, meant).order_by(order)))
    return rows, None if edge is None else edge + 1


def endpoint(rows: Incoming, route: str, start_ns: int) -> Endpoint:
    timed = [None not in pair for pair in zip(rows.own_ns, rows.waited_ns, strict=True)]
    own, waited = (sum(compress(column, timed)) for column in (rows.own_ns, rows.waited_ns))  # type: ignore[arg-type]
    succeeded = rows.outcome.count("ok")
    whole = dollars(added(rows.cost))
    took = [
        ns for ns, outcome in zip(rows.own_ns, rows.outcome, strict=True) if ns is not None and outcome != "running"
    ]
    return Endpoint(
        route=route,
        start_ns=start_ns,
        requests=len(rows.outcome),
        succeeded=succeeded,
        failed=rows.outcome.count("error"),
        gone=rows.outcome.count(GONE),
        running=rows.outcome.count("running"),
        calls=sum(rows.requests),
        failed_calls=sum(rows.finished) - sum(rows.succeeded),
        total_cost_usd=whole,
        unpriced_count=sum(rows.unpriced),
        gone_cost_usd=dollars(added(cost_of(rows, GONE))),
        failed_cost_usd=dollars(added(cost_of(rows, "error"))),
        cost_per_success_usd=whole / succeeded if whole is not None and succeeded else None,
        input_tokens=added(rows.input_tokens),
        output_tokens=added(rows.output_tokens),
        latency=ranks(sorted(took)),
        own_ns=own,
        waited_ns=waited,
        wait_share=waited / own if own else None,
        last_ns=max(rows.start_ns, default=0),
    )


def cost_of(rows: Incoming, outcome: str) -> Sequence[int | None]:
    return list(compress(rows.cost, map(outcome.__eq__, rows.outcome)))


def added(values: Sequence[int | None]) -> int | None:
    return sum(filter(None, values)) if values.count(None) < len(values) else None


def ranks(values: Sequence[int]) -> list[int | None]:
    """p50, p95 and p99 of sorted values: of each the smallest that so large a share stays within."""
    return [values[-(-percent * len(values) // 100) - 1] if values else None for percent in (50, 95, 99)]
