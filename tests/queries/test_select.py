"""Lists: every filter against a plain reading of the same records, paging both ways, bounded searches."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries import paging, select
from asgi_llmobs.queries.facets import facets
from asgi_llmobs.queries.figures import figures
from asgi_llmobs.queries.models import models_seen
from asgi_llmobs.queries.overview import totals
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.queries.sessions import list_sessions
from asgi_llmobs.queries.traces import list_traces
from asgi_llmobs.records import Request
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.databases import BACKENDS, new_database
from tests.making import SECOND, START, priced, request, span

CITIES = ["Paris", "Rome", "Oslo", "Lima"]


def some_requests() -> list[Request]:
    """A few hundred that differ in all that can be filtered by; several share a start."""
    dice = random.Random(7)
    found = []
    for number in range(300):
        city = dice.choice(CITIES)
        status = dice.choice([200, 200, 200, 429, 500, None])
        found.append(
            request(
                f"Where is {city}?",
                f"{city} is number {number}",
                start_ns=START + (number // 3) * SECOND,
                duration_ns=dice.randrange(5 * SECOND),
                status=status,
                outcome="ok" if status == 200 else dice.choice(["error", "cancelled"]),
                request_model=dice.choice(["gpt-4o", "gpt-4o-mini", "o_3"]),
                provider=dice.choice(["openai", "azure"]),
                session_id=dice.choice([None, "s1", "s2", "s3"]),
                user_id=dice.choice([None, "ann", "bob"]),
                route=dice.choice(["/chat/{id}", "/search", None]),
                cost=priced(dice.choice(["0.01", "0.2", "3"])),
                properties={dice.choice(["Env", "env", "ENV"]): dice.choice(["a", "b"]), "City": city},
                trace_id=f"{number // 4:032x}",
            )
        )
    return found


RECORDS = some_requests()


@pytest.fixture(scope="module", params=BACKENDS)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    shuffled = RECORDS.copy()
    random.Random(1).shuffle(shuffled)
    with new_database(request.param, tmp_path_factory.mktemp("select"), request) as url:
        made = Database(url)
        for start in range(0, len(shuffled), 70):
            Sink(made).write(shuffled[start : start + 70])
        yield made
        made.dispose()


def env(record: Request) -> str:
    return next(value for name, value in record.properties.items() if name.lower() == "env")


CASES = {
    "": lambda r: True,
    "model=gpt-4o": lambda r: r.request_model == "gpt-4o",
    "model=gpt-4o-2024-08-06": lambda r: r.request_model == "gpt-4o",
    "model=gpt-4o*": lambda r: r.request_model.startswith("gpt-4o"),
    "model=o_*": lambda r: r.request_model == "o_3",
    "model=gpt-4o&model=o_3": lambda r: r.request_model in ("gpt-4o", "o_3"),
    "model=_-4o": lambda r: False,
    "provider=azure": lambda r: r.provider == "azure",
    "status=ok": lambda r: r.outcome == "ok",
    "status=error": lambda r: r.outcome == "error",
    "status=429": lambda r: r.status == 429,
    "status=4xx&status=5xx": lambda r: r.status in (429, 500),
    "status=cancelled&status=200": lambda r: r.outcome == "cancelled" or r.status == 200,
    "session=s1": lambda r: r.session_id == "s1",
    "session=s1&user=ann": lambda r: (r.session_id, r.user_id) == ("s1", "ann"),
    "user=ann&user=bob": lambda r: r.user_id in ("ann", "bob"),
    "route=/chat/{id}": lambda r: r.route == "/chat/{id}",
    "property.env=a": lambda r: env(r) == "a",
    "property.ENV=a&property.city=Rome": lambda r: env(r) == "a" and r.properties["City"] == "Rome",
    "property.City=Rome&property.City=Oslo": lambda r: r.properties["City"] in ("Rome", "Oslo"),
    "property.City=rome": lambda r: False,
    "q=rome": lambda r: r.properties["City"] == "Rome",
    "q=where oslo": lambda r: r.properties["City"] == "Oslo",
    'q="is number 7"': lambda r: r.text.endswith(" number 7"),
    'q="number is"': lambda r: False,
    "q=rome OR oslo*": lambda r: r.properties["City"] in ("Rome", "Oslo"),
    "q=-rome city:o*": lambda r: False,
    "q=-rome city:R*": lambda r: False,
    "q=-city:(Rome OR Oslo) -user:ann": lambda r: r.properties["City"] in ("Paris", "Lima") and r.user_id != "ann",
    "q=model:gpt-4o* -model:gpt-4o cost:<3 status:>=400": lambda r: (
        r.request_model == "gpt-4o-mini" and r.cost_usd < 3 and (r.status or 0) >= 400
    ),
    "q=***": lambda r: False,
    "operation=chat&kind=llm": lambda r: True,
    "operation=embeddings": lambda r: False,
    "min_cost=0.2": lambda r: r.cost_usd >= priced("0.2").amount,
    "max_cost=0.2&min_latency=1": lambda r: r.cost_usd <= priced("0.2").amount and r.duration_ns >= SECOND,
    f"since={START // SECOND + 20}&until={START // SECOND + 40}": lambda r: 20 <= (r.start_ns - START) // SECOND < 40,
    f"trace={7:032x}": lambda r: r.trace_id == f"{7:032x}",
    "property.env=b&q=lima&status=ok&model=gpt-4o": lambda r: (
        env(r) == "b" and r.properties["City"] == "Lima" and r.outcome == "ok" and r.request_model == "gpt-4o"
    ),
}


def parsed(query: str) -> Filter:
    return Filter.from_query([tuple(item.split("=", 1)) for item in query.split("&") if item])  # type: ignore[misc]


@pytest.mark.parametrize(
    ("query", "bounded"),
    [
        pytest.param(query, bounded, marks=[] if bounded == place % 2 else [pytest.mark.long])
        for place, query in enumerate(CASES)
        for bounded in (False, True)
    ],
)
def test_filter_finds_what_it_says(
    filled: Database, query: str, bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page after page a filter gives the very records that it means, also where slices are small and nothing is few."""
    if bounded:
        monkeypatch.setattr(paging, "SLICE", 25)
        monkeypatch.setattr(select, "FEW", 0)
    expected = sorted((r for r in RECORDS if CASES[query](r)), key=lambda r: r.start_ns, reverse=True)
    flt, found, cursor = parsed(query), [], None
    for _ in range(100):
        page = list_requests(filled, flt, cursor=cursor, limit=47)
        found += page.rows
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.rows) == 47 or page.partial

    assert [row.start_ns for row in found] == [r.start_ns for r in expected]
    assert {row.id for row in found} == {r.id for r in expected} and len(found) == len(expected)
    assert page.count == len(expected) and not page.count_capped


@pytest.mark.parametrize("query", ["", "status=error", "property.env=a", "q=rome"])
@pytest.mark.parametrize("listing", [list_requests, list_traces, list_sessions])
def test_back_and_forth(filled: Database, query: str, listing) -> None:
    """The way back shows the same pages as the way there."""
    flt, there, cursor = parsed(query), [], None
    while True:
        page = listing(filled, flt, cursor=cursor, limit=23)
        there.append(page.rows)
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    back = [page.rows]
    while page.previous_cursor is not None:
        page = listing(filled, flt, cursor=page.previous_cursor, limit=23)
        if page.rows:
            back.append(page.rows)

    assert [row for rows in reversed(back) for row in rows] == [row for rows in there for row in rows]


@pytest.mark.parametrize("query", list(CASES))
def test_traces_and_sessions_with_such_a_request(filled: Database, query: str) -> None:
    """A trace and a session are listed where one of their requests is meant."""
    if query.startswith("since"):
        pytest.skip("times are those of the trace and the session here")
    meant = [r for r in RECORDS if CASES[query](r)]
    traces = list_traces(filled, parsed(query), limit=500)
    sessions = list_sessions(filled, parsed(query), limit=500)

    assert {row.trace_id for row in traces.rows} == {r.trace_id for r in meant}
    assert {row.session_id for row in sessions.rows} == {r.session_id for r in meant if r.session_id}
    assert (traces.count, sessions.count) == (len(traces.rows), len(sessions.rows))


def test_new_rows_do_not_shift_a_page(database: Database) -> None:
    """What arrives while somebody reads neither repeats nor hides a row of the next page."""
    old = [request(start_ns=START + number) for number in range(20)]
    Sink(database).write(old)
    first = list_requests(database, Filter(), limit=10)
    Sink(database).write([request(start_ns=START + 100 + number) for number in range(5)])
    second = list_requests(database, Filter(), cursor=first.next_cursor, limit=10)
    newer = list_requests(database, Filter(), cursor=first.previous_cursor or second.previous_cursor, limit=50)

    assert [row.id for row in (*first.rows, *second.rows)] == [one.id for one in reversed(old)]
    assert second.next_cursor is None
    assert len(newer.rows) == 15


@pytest.mark.parametrize("cursor", ["x", "!!!", "AAAA", "ä", "A" * 400, "AAAAAAAAAAAAAB4xMjM"])
@pytest.mark.parametrize("listing", [list_requests, list_traces])
def test_cursor_of_somebody_else(filled: Database, cursor: str, listing) -> None:
    """A cursor that is none is an error that says so."""
    with pytest.raises(FilterError, match="^cursor: "):
        listing(filled, Filter(), cursor=cursor)


def test_counting_stops(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long list is not counted to its end, and says so."""
    monkeypatch.setattr(paging, "COUNT_LIMIT", 11)
    routes = ["/rare", *["/x"] * 19]
    Sink(database).write([request(start_ns=START + number, route=route) for number, route in enumerate(routes)])

    assert [(page.count, page.count_capped) for page in [list_requests(database, Filter())]] == [(11, True)]
    rare = list_requests(database, Filter(route=("/rare",)))
    assert (len(rare.rows), rare.count, rare.count_capped) == (1, 0, True)


def test_what_an_index_leads_to_is_read_by_its_keys() -> None:
    """Where few rows meet a condition, no page goes through an index of all requests for the others."""
    database = Database("sqlite://")
    Sink(database).write([request("hello", user_id="ann", properties={"env": "a"}) for _ in range(3)])
    plans: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "json_each" in statement:  # the keys
            cursor.execute("EXPLAIN QUERY PLAN " + statement, parameters)
            plans.extend(row[3] for row in cursor.fetchall())

    with database.read() as connection:
        engine = connection.engine
    event.listen(engine, "before_cursor_execute", explain)
    for flt in (
        Filter(user=("ann", "bob"), status=("200",)),
        Filter(properties=(("env", "a"),), model=("gpt-4o",)),
        Filter(text="hello"),
    ):
        list_requests(database, flt)
        list_requests(database, flt, sort="cost")
        list_traces(database, flt)
        facets(database, flt)
        figures(database, flt, since_ns=START - SECOND, until_ns=START + SECOND, by=("user",))
        totals(database, flt)
    database.dispose()

    used = {plan for plan in plans if "llmobs_spans" in plan}
    assert used == {"SEARCH llmobs_spans USING INTEGER PRIMARY KEY (rowid=?)"}


def test_a_nul_finds_nothing_and_breaks_nothing(filled: Database) -> None:
    """PostgreSQL takes none in any value; a text that has one is stored with a sign for it."""
    for name in ("model", "user", "name", "caller", "session", "property.env", "property.\0", "score.x", "q", "id"):
        for value in ("\0", "a\0*", "*\0*"):
            assert list_requests(filled, Filter.from_query([(name, value)])).rows == [], (name, value)
    assert models_seen(filled, "default", ["a\0"]) == {}


def test_limit_is_bounded(filled: Database) -> None:
    """No page is larger than 500 rows or smaller than one."""
    assert len(list_requests(filled, Filter(), limit=10**9).rows) == 300
    assert len(list_requests(filled, Filter(), limit=-5).rows) == 1


def test_other_spans_are_not_requests(database: Database) -> None:
    """A span with a property or a session of its own is not found among requests."""
    Sink(database).write([span(session_id="s", properties={"a": "b"}, input="rome", kind="tool")])

    for flt in (Filter(session=("s",)), Filter(properties=(("a", "b"),)), Filter(text="rome"), Filter(kind=("tool",))):
        assert list_requests(database, flt).rows == []


def test_a_time_that_means_all_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list since ever takes as many steps of the database as one without a time: only its newest part is read."""
    monkeypatch.setattr(paging, "SLICE", 30)
    monkeypatch.setattr(paging, "COUNT_LIMIT", 30)
    monkeypatch.setattr(paging, "REACH", 30)
    monkeypatch.setattr(select, "FEW", 5)
    database = Database(f"sqlite:///{tmp_path / 'llmobs.db'}")
    Sink(database).write([request(start_ns=START + number * SECOND) for number in range(1_500)])
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def watch(connection: Any, *_: Any) -> None:
        connection.connection.driver_connection.set_progress_handler(step, 100)

    with database.read() as connection:
        event.listen(connection.engine, "before_cursor_execute", watch)
    taken = []
    for since in (None, 0):
        for sort in ("time", "cost"):
            steps = 0
            page = list_requests(database, Filter(model=("gpt-4o",), since_ns=since), sort=sort, limit=10)
            facets(database, Filter(model=("gpt-4o",), since_ns=since))
            assert len(page.rows) == 10
            taken.append(steps)
    database.dispose()

    assert taken[2] < taken[0] + 20 and taken[3] < taken[1] + 20
