"""Days that go at once on PostgreSQL: what they take along, what holds them, and that every total is right after it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from asgi_llmobs.limits import Plan, Retention
from asgi_llmobs.recompute import recompute
from asgi_llmobs.records import Score, ScoreKind, Span
from asgi_llmobs.retention import Pruned, Sweeper, prune
from asgi_llmobs.store import expiry, partitions, removal
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.partitions import DAY_NS, days
from asgi_llmobs.store.pins import pin
from asgi_llmobs.store.scores import give
from asgi_llmobs.store.write import Sink
from tests.databases import postgres_database
from tests.making import SECOND, request, span

TODAY = int(time.time()) // 86_400
NOW = TODAY * DAY_NS + DAY_NS // 2
HOUR = 3_600 * SECOND
TOTALS = (
    "traces",
    "sessions",
    "users",
    "user_rollups",
    "rollups",
    "aliases",
    "scores",
    "spans",
    "contents",
    "properties",
)
LIMIT = Retention(age_ns=3 * DAY_NS)
KEYS = partitions.KEYS


@pytest.fixture
def database(postgres_store: Database) -> Database:
    """Only PostgreSQL has partitions."""
    return postgres_store


@pytest.fixture
def no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be deleted row by row."""

    def remove(*_given: Any, **_named: Any) -> int:
        raise AssertionError("deleted row by row")

    monkeypatch.setattr(removal, "remove", remove)


@pytest.fixture(autouse=True)
def always_today() -> Iterator[None]:
    """Midnight does not come while a test is under way."""
    with arriving(0):
        yield


@contextmanager
def arriving(shift: int) -> Iterator[int]:
    """What is written within arrives *shift* days from today; yields noon of that day."""
    noon, before = (TODAY + shift) * DAY_NS + DAY_NS // 2, partitions.KEYS
    partitions.KEYS = KEYS.replace("now()", f"to_timestamp({noon // SECOND})")
    try:
        yield noon
    finally:
        partitions.KEYS = before


def arrive(database: Database, shift: int, *records: Span) -> None:
    with arriving(shift):
        assert Sink(database).write(records).refused == 0


def on(shift: int, hours: float = 0.0, **given: Any) -> Any:
    """A request that began that many hours after noon of a day."""
    return request(start_ns=(TODAY + shift) * DAY_NS + DAY_NS // 2 + int(hours * HOUR), **given)


def judge(database: Database, target: str, id: str, trace: str | None = None, *, keep: bool = True) -> None:
    score = Score(
        id=id, target=target, target_id=id, trace_id=trace, name="t", kind=ScoreKind.NUMBER, value=1.0, time_ns=NOW,
        keep=keep,
    )  # fmt: skip
    give(database, score)


def stored_days(database: Database) -> list[int]:
    with database.read() as connection:
        return [day.number - TODAY for day in days(connection)]


def rows(database: Database) -> dict[str, list[Any]]:
    """Everything that is counted and kept, but for keys, which follow the order of arrival."""
    found = {}
    with database.read() as connection:
        for table in TOTALS:
            every = connection.exec_driver_sql(f"SELECT to_jsonb(t) - 'key' FROM llmobs_{table} t").scalars()
            found[table] = sorted(every, key=repr)
    return found


def small(database: Database) -> Sequence[Span]:
    """Some days of all kinds: sessions and users of many days, traces over midnight, late and odd records."""
    written: list[Span] = []
    for shift in range(-7, 1):
        some = [
            on(shift, hour, user_id=f"u{hour % 3}", session_id=f"s{shift // 3}-{hour % 2}", properties={"plan": "pro"},
               session_name=f"chat {shift}", route=f"/r{hour % 2}", request_model=f"m{hour % 2}")
            for hour in range(5)
        ]  # fmt: skip
        arrive(database, shift, *some, on(shift, 5, user_id=f"only {shift}", session_id=f"of {shift}"))
        arrive(database, shift, on(shift, 6, outcome="error", status=500, user_id="often", session_id="always"))
        written += some
    root = span(start_ns=(TODAY - 4) * DAY_NS - HOUR, duration_ns=2 * HOUR, name="over midnight")
    arrive(database, -5, root)
    arrive(database, -4, on(-4, -11.9, trace_id=root.trace_id, parent_id=root.id, user_id="often"))
    arrive(database, -6, on(-400, user_id="u1", session_id="always"), on(-7, 11, user_id="u2"))  # late ones
    running = on(-5, 11.9, outcome="running", duration_ns=None, user_id="u1")
    arrive(database, -5, running)
    arrive(database, -4, replace(running, outcome="ok", duration_ns=30 * SECOND))
    for target, id, trace in (
        ("span", written[3].id, written[3].trace_id), ("session", "of -7", None), ("session", "always", None)
    ):  # fmt: skip
        judge(database, target, id, trace, keep=False)
    return written


@pytest.mark.slow
def test_totals_are_as_after_small_steps(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropped or deleted row by row, what stays is the same to the last total, and is what its rows add up to."""
    found = []
    for whole in (True, False):
        monkeypatch.setattr("tests.making._ids", iter(range(1, 10**6)))
        if not whole:
            monkeypatch.setattr("asgi_llmobs.store.partitions.days", lambda _connection: [])
        with postgres_database(postgres) as url:
            database = Database(url)
            small(database)
            before = set(stored_days(database)) if whole else set()
            gone = prune(database, LIMIT, now_ns=NOW)
            assert list(recompute(database, check=True)) == []
            found.append((gone.spans, rows(database)))
            if whole:
                assert min(before) == -7 and min(stored_days(database)) == -3
            database.dispose()

    assert found[0][0] == found[1][0] > 25
    for table in TOTALS:
        assert found[0][1][table] == found[1][1][table], table


def test_a_day_goes_at_once(database: Database, no_steps: None) -> None:
    """With everything on it, without a look at its rows one by one; the next rows find their place."""
    for shift in (-9, -5, -2, 0):
        arrive(database, shift, *(on(shift, hour, session_id=f"s{shift}", user_id="u") for hour in range(3)))

    gone = prune(database, LIMIT, now_ns=NOW)

    assert gone.spans == 6 and gone.bytes > 6 * 600
    assert min(stored_days(database)) == -2
    assert list(recompute(database, check=True)) == []
    assert prune(database, LIMIT, now_ns=NOW) == Pruned(0, 0)
    arrive(database, 0, on(0, 1))
    arrive(database, 0, on(-9, 1))
    assert list(recompute(database, check=True)) == []


@pytest.mark.parametrize("held", ["pin", "score", "session score"])
def test_what_is_kept_holds_its_day(database: Database, held: str) -> None:
    """A pinned or judged trace stays, with its day; the rest of that day goes in small steps, other days at once."""
    kept = on(-8, session_id="s")
    arrive(database, -9, on(-9))
    arrive(database, -8, kept, on(-8, 1), on(-8, 2))
    if held == "pin":
        pin(database, "default", kept.trace_id)
    elif held == "score":
        judge(database, "trace", kept.trace_id, kept.trace_id)
    else:
        judge(database, "session", "s")

    assert prune(database, LIMIT, now_ns=NOW).spans == 3

    assert [row["id"] for row in rows(database)["spans"]] == [kept.id]
    assert -8 in stored_days(database) and -9 not in stored_days(database)
    assert list(recompute(database, check=True)) == []


def sweep(sweeper: Sweeper) -> None:
    for _ in range(8):
        sweeper._due = 0.0
        sweeper.step()


def test_projects_that_share_a_day(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes with the one that keeps it longest; one that keeps everything holds it for ever."""
    monkeypatch.setattr("asgi_llmobs.retention.SWEEP_PAUSE_SECONDS", 0.0)
    for shift in (-30, -12, -5):
        arrive(database, shift, on(shift, project="a"), on(shift, project="b"))
    own, other = Retention(age_ns=10 * DAY_NS), Retention(age_ns=20 * DAY_NS)
    sweeper = Sweeper(database, Plan(own=own), "a")
    monkeypatch.setattr(removal, "remove", lambda *_given, **_named: 0)
    sweep(sweeper)
    assert len(rows(database)["spans"]) == 6
    sweeper._plan = Plan(own=own, projects={"b": other})
    sweep(sweeper)
    assert sorted(row["project"] for row in rows(database)["spans"]) == ["a", "a", "b", "b"]
    assert min(stored_days(database)) == -12
    assert list(recompute(database, check=True)) == []


def test_a_sweep_waits_for_the_end_of_the_day(
    database: Database, no_steps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would have emptied each day in small steps by the time that it could drop it."""
    monkeypatch.setattr("asgi_llmobs.retention.SWEEP_PAUSE_SECONDS", 0.0)
    arrive(database, -3, on(-3, -11.9))
    sweeper = Sweeper(database, LIMIT, "default")
    for now, left in ((NOW, 1), (NOW + DAY_NS // 2 - SECOND, 1), (NOW + DAY_NS // 2 + SECOND, 0)):
        monkeypatch.setattr(sweeper, "_now", lambda now=now: now)
        sweep(sweeper)
        assert len(rows(database)["spans"]) == left


def test_short_ages_do_not_wait(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve hours are twelve hours."""
    monkeypatch.setattr("asgi_llmobs.retention.SWEEP_PAUSE_SECONDS", 0.0)
    arrive(database, 0, on(0, -11.9), on(0, -1))
    sweeper = Sweeper(database, Retention(age_ns=6 * HOUR), "default")
    monkeypatch.setattr(sweeper, "_now", lambda: NOW)
    sweep(sweeper)
    assert len(rows(database)["spans"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("cause", ["a reader", "much that is shared"])
def test_small_steps_where_it_cannot_be_dropped(
    database: Database, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    """Who reads for long is not waited for, and what needs a look at many rows is not done in one transaction."""
    monkeypatch.setattr("asgi_llmobs.retention.DROPS", 1)
    arrive(database, -9, on(-9, session_id="s"), on(-9, 1))
    arrive(database, -8, on(-9, 0, session_id="s"))
    arrive(database, 0, on(0, session_id="s"))
    if cause == "much that is shared":
        monkeypatch.setattr(expiry, "MOST_ROWS", 0)
        assert prune(database, LIMIT, now_ns=NOW).spans == 3
        assert 0 in stored_days(database) and -9 not in stored_days(database)  # it was empty in the end
    else:
        with database.read() as reading:
            reading.exec_driver_sql("SELECT count(*) FROM llmobs_spans")
            begin = time.monotonic()
            assert prune(database, LIMIT, now_ns=NOW).spans == 3
            assert time.monotonic() - begin < 15
        assert -9 in stored_days(database)
        assert prune(database, LIMIT, now_ns=NOW).spans == 0
        assert -9 not in stored_days(database)
    assert list(recompute(database, check=True)) == []


def test_a_record_that_comes_after_its_day_was_dropped(database: Database) -> None:
    """It is stored as new with today, and goes again with the next look."""
    late = on(-9, user_id="u", session_id="s")
    arrive(database, -9, late)
    assert prune(database, LIMIT, now_ns=NOW).spans == 1
    arrive(database, 0, late)
    assert list(recompute(database, check=True)) == []
    assert prune(database, LIMIT, now_ns=NOW).spans == 1
    assert rows(database)["spans"] == rows(database)["users"] == rows(database)["rollups"] == []
