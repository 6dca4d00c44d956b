"""Totals and rollups: right after whatever is written, replayed, changed or taken out, and by however many."""

import multiprocessing
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_llmobs.errors import StoreError
from asgi_llmobs.recompute import Difference, recompute
from asgi_llmobs.records import Cost, Request, Span, Usage
from asgi_llmobs.store import removal, sketches
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.databases import BACKENDS, new_database
from tests.examples import some
from tests.making import SECOND, START, attempt, request, span

HOUR = 3_600 * SECOND
TOTALS = ("traces", "sessions", "users", "user_rollups", "rollups")


def differences(database: Database) -> list[Difference]:
    return list(recompute(database, check=True))


def rows(database: Database, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    with database.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(f"SELECT {columns} FROM llmobs_{table}")]


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_percentiles_are_within_two_percent(spread: float) -> None:
    """Of whatever distribution, each percentile is that of the values themselves, but for two percent."""
    import random

    chance = random.Random(1)
    values = sorted(int(chance.lognormvariate(20, spread)) for _ in range(5_000))
    stored = b""
    for start in range(0, len(values), 100):
        bins: dict[int, int] = {}
        for value in values[start : start + 100]:
            bins[sketches.bin_of(value)] = bins.get(sketches.bin_of(value), 0) + 1
        stored = sketches.changed(stored, bins)
    shares = (0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)

    found = sketches.percentiles(sketches.unpacked(stored), shares)

    for share, got in zip(shares, found, strict=True):
        exact = values[max(0, -(-int(share * 5_000_000) // 1_000) - 1)]
        if exact > sketches.LEAST_NS:
            assert got is not None and abs(got / exact - 1) < 0.02, share


@given(st.dictionaries(st.integers(0, sketches.BINS - 1), st.integers(1, 70_000), max_size=30))
def test_sketches_can_be_taken_from_each_other(bins: dict[int, int]) -> None:
    """What is added and taken away again leaves what was there; sums are those of all together."""
    base = sketches.changed(b"", {100: 3, 200: 300})

    both = sketches.changed(base, bins)
    less = sketches.changed(both, {place: -count for place, count in bins.items()})

    assert sketches.unpacked(both) == sketches.unpacked(base) + sketches.unpacked(sketches.changed(b"", bins))
    assert sketches.unpacked(less) == sketches.unpacked(base)
    assert sketches.packed(sketches.unpacked(both)) == sketches.packed(
        sketches.unpacked(sketches.changed(b"", bins)) + sketches.unpacked(base)
    )


def test_no_sketch_knows_less_than_nothing() -> None:
    """Taking away more than is there leaves nothing, and the neighbours as they were."""
    stored = sketches.changed(b"", {10: 1, 11: 5})

    assert sketches.unpacked(sketches.changed(stored, {10: -4})) == sketches.unpacked(sketches.changed(b"", {11: 5}))
    assert sketches.percentiles(0, (0.5,)) == [None]


def test_what_is_told_apart(database: Database) -> None:
    """A row an hour and one a day for each provider, model, operation, outcome, status and route."""
    same: dict[str, Any] = {"route": "/chat", "user_id": "u"}
    Sink(database).write(
        [
            request(**same), request(**same, first_token_ns=SECOND // 2),
            request(**same, request_model="other"), request(**same, outcome="error", status=500),
            request(**same, start_ns=START + HOUR), request(route="/else"), span(),
        ]
    )  # fmt: skip

    hours = rows(database, "rollups WHERE hours = 1", "requests, timed, cost, inputs, input_tokens")
    assert sorted(hours) == [(1, 1, 150_000_000, 1, 20)] * 4 + [(2, 2, 300_000_000, 2, 40)]
    assert sorted(row[0] for row in rows(database, "rollups WHERE hours = 24", "requests")) == [1, 1, 1, 3]
    assert len(rows(database, "series")) == 4
    assert rows(database, "users", "user_id, requests, errors, last_ns - first_ns") == [("u", 5, 1, HOUR)]
    assert differences(database) == []


def test_unknown_is_in_no_sum(database: Database) -> None:
    """Without a price or usage nothing is added, and that is counted."""
    unknown: dict[str, Any] = {"cost": Cost(reason="no price"), "usage": None, "user_id": "u"}
    Sink(database).write([request(**unknown), request(**unknown, outcome="running", duration_ns=None)])

    columns = "requests, priced, unpriced, cost, inputs, input_tokens, outputs, output_tokens"
    assert sorted(rows(database, "rollups WHERE hours = 1", columns)) == [
        (1, 0, 0, 0, 0, 0, 0, 0),
        (1, 0, 1, 0, 0, 0, 0, 0),
    ]
    assert rows(database, "users", columns) == [(2, 0, 1, 0, 0, 0, 0, 0)]


def test_absurd_values_cost_no_neighbour(database: Database) -> None:
    """However much a call claims to have used, the sums stay sums, and it can be taken out again."""
    absurd = Usage(input_tokens=2**62, output_tokens=2**62)
    wild = [request(session_id="s", user_id="u", usage=absurd, cost=Cost(amount=Decimal("1e30"))) for _ in range(20)]
    plain = request(session_id="s", user_id="u")
    sink = Sink(database)
    assert sink.write([*wild, plain]) == (21, 0)
    with database.write() as connection:
        assert removal.remove(connection, "default", [one.trace_id for one in wild], limit=100) == 20

    assert rows(database, "sessions", "requests, cost, input_tokens") == [(1, 150_000_000, 20)]
    assert differences(database) == []


def test_recompute_finds_and_mends(database: Database) -> None:
    """Whatever was done to the totals, every difference is told, and one pass puts them right."""
    Sink(database).write(
        [request(session_id=f"s{number}", user_id=f"u{number}", start_ns=START + number * HOUR) for number in range(5)]
    )
    before = {table: sorted(rows(database, table)) for table in TOTALS}
    with database.write() as connection:
        change = connection.exec_driver_sql
        change("UPDATE llmobs_rollups SET requests = requests + 1 WHERE hours = 1")
        change("DELETE FROM llmobs_sessions WHERE session_id = 's1'")
        change("UPDATE llmobs_users SET first_ns = 0 WHERE user_id = 'u2'")
        change("UPDATE llmobs_user_rollups SET user_id = 'nobody' WHERE user_id = 'u3'")
        change("UPDATE llmobs_traces SET cost = 7")
        change("DELETE FROM llmobs_series")
    found = differences(database)

    assert {one.table.removeprefix("llmobs_") for one in found} == {*TOTALS, "series"}
    lost = next(one for one in found if one.table == "llmobs_sessions")
    assert lost.stored is None and lost.counted is not None and lost.counted["session_id"] == "s1"
    assert list(recompute(database))
    assert differences(database) == []
    assert {table: sorted(rows(database, table)) for table in TOTALS} == before
    assert len(rows(database, "series")) == 1


def write_many(url: str, number: int) -> None:
    database = Database(url)
    sink = Sink(database)
    for batch in range(20):
        records = [
            request(
                id=f"{number:02x}{batch:04x}{place:04x}000000", session_id=f"s{place % 3}", user_id=f"u{place % 2}",
                start_ns=START + batch * HOUR // 5, duration_ns=(number + 1) * SECOND,
            )
            for place in range(10)
        ]  # fmt: skip
        written = False
        while not written:  # as the writer does where others held the file for too long
            with suppress(StoreError):
                written = bool(sink.write(records))
    database.dispose()


@pytest.mark.slow
def test_four_processes_at_once(database_url: str) -> None:
    """Who writes at the same time adds to the same totals, and none is lost."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(database_url, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(50)
    database = Database(database_url)

    assert sum(row[0] for row in rows(database, "users", "requests")) == 800
    assert sum(row[0] for row in rows(database, "rollups WHERE hours = 24", "requests")) == 800
    assert differences(database) == []
    database.dispose()


# whatever happens, in whatever order

ids = st.integers(0, 7)
maybe = st.sampled_from([None, "a", "b"])
changes = st.fixed_dictionaries(
    {
        "session_id": maybe,
        "session_name": maybe,
        "user_id": maybe,
        "route": maybe,
        "start_ns": st.sampled_from([START, START + 1, START + HOUR, START + 30 * HOUR]),
        "duration_ns": st.sampled_from([SECOND, 3 * SECOND, 4 * HOUR]),
        "first_token_ns": st.sampled_from([None, 1, SECOND]),
        "outcome": st.sampled_from(["ok", "error", "running"]),
        "status": st.sampled_from([None, 200, 429]),
        "usage": st.sampled_from([None, Usage(input_tokens=3), Usage(input_tokens=5, output_tokens=1, cache_read=2)]),
        "cost": st.sampled_from([Cost(), Cost(amount=Decimal("0.5")), Cost(amount=Decimal(0))]),
        "attempt": st.integers(1, 3),
        "request_model": st.sampled_from(["m", "n"]),
        "project": st.sampled_from(["default", "default", "other"]),
    }
)
calls = st.tuples(ids, changes).map(lambda one: call(*one))
batches = st.tuples(st.just("write"), st.lists(calls, min_size=1, max_size=4))
steps = st.lists(
    st.one_of(
        batches,
        batches,
        st.tuples(st.just("replay"), st.none()),
        st.tuples(st.just("spread"), st.tuples(ids, maybe, maybe)),
        st.tuples(st.just("remove"), st.tuples(st.lists(ids, max_size=4, unique=True), st.sampled_from([1, 3, 100]))),
    ),
    min_size=1,
    max_size=8,
)


def call(number: int, given: dict[str, Any]) -> Request:
    """A record of one of a few requests, two of which share a trace."""
    made = request(id=f"{number + 1:016x}", trace_id=trace_of(number), **given)
    own = attempt(
        made, made.attempt, outcome=made.outcome, cost_usd=made.cost.amount,
        input_tokens=made.usage.input_tokens if made.usage else None,
        output_tokens=made.usage.output_tokens if made.usage else None,
    )  # fmt: skip
    return replace(made, attempts=(own,)) if number % 2 else made


def trace_of(number: int) -> str:
    return f"{number // 2 + 1:032x}"


def root(number: int, session: str | None, user: str | None) -> Span:
    """The root of a trace that says late whose it was."""
    return span(
        id=f"{number + 100:016x}", trace_id=trace_of(number), session_id=session, session_name=session, user_id=user,
        properties={"late": "yes"}, spread=True,
    )  # fmt: skip


def take(database: Database, sink: Sink, step: tuple[str, Any], last: list[Request]) -> list[Request]:
    what, given = step
    if what == "write":
        sink.write(given)
        return list(given)
    if what == "replay":
        sink.write(last)
    elif what == "spread":
        sink.write([root(*given)])
    else:
        traces, limit = given
        with database.write() as connection:
            removal.remove(connection, "default", [trace_of(number) for number in traces], limit=limit)
    return last


@pytest.fixture(scope="module", params=BACKENDS)
def kept(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One database for many examples."""
    folder: Path = tmp_path_factory.mktemp("rollups")
    with new_database(request.param, folder, request) as url:
        database = Database(url)
        yield database
        database.dispose()


@settings(max_examples=some(0.3), suppress_health_check=list(HealthCheck))
@given(steps)
def test_whatever_happens_the_totals_are_right(kept: Database, given: list[tuple[str, Any]]) -> None:
    """Writes, replays, later attempts, late words on a trace, removals in parts: a recount finds no difference."""
    sink, last = Sink(kept), []
    for step in given:
        last = take(kept, sink, step, last)
    partly = [one for one in differences(kept) if one.table != "llmobs_traces"]
    assert partly == []
    for project in ("default", "other"):
        with kept.write() as connection:
            while removal.remove(connection, project, [trace_of(number) for number in range(8)], limit=500) == 500:
                pass
    assert {table: rows(kept, table) for table in TOTALS} == {table: [] for table in TOTALS}
