"""Retention: what goes and what stays, that nothing of what goes is left, and that nobody is held up."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asgi_llmobs import LLMObs, cli
from asgi_llmobs.errors import ConfigError
from asgi_llmobs.filters import Filter
from asgi_llmobs.limits import Plan, Retention
from asgi_llmobs.queries.requests import get_request, list_requests
from asgi_llmobs.queries.sessions import get_session, list_sessions
from asgi_llmobs.queries.status import store_status
from asgi_llmobs.queries.traces import get_trace, list_traces
from asgi_llmobs.recompute import recompute
from asgi_llmobs.records import Span
from asgi_llmobs.retention import Pace, Pruned, Sweeper, prune
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.pins import is_pinned, pin, unpin
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, START, attempt, request, span

TABLES = ("spans", "contents", "attempts", "properties", "traces", "sessions")
DAY = 86_400 * SECOND
NOW = START + 100 * DAY


@pytest.fixture(autouse=True)
def steps_of_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine steps are smaller, and there are more of them: no test is to wait for that."""
    monkeypatch.setattr("asgi_llmobs.retention.STEP_SECONDS", 1.0)


def test_steps_are_as_large_as_a_moment_allows() -> None:
    """A slow machine deletes less at a time, a quick one more, within bounds."""
    pace = Pace()
    for _ in range(10):
        pace.took(pace.spans, pace.spans * 0.02)
    assert pace.spans == 50
    for _ in range(10):
        pace.took(pace.spans, 30.0)
    assert pace.spans == 20
    for _ in range(10):
        pace.took(pace.spans, 0.0001)
    assert pace.spans == 200


def aged(days: float, **given: Any) -> Any:
    """A request that began so many days before now."""
    return request(start_ns=NOW - int(days * DAY), **given)


def ids(database: Database, **given: Any) -> set[str]:
    return {row.id for row in list_requests(database, Filter(**given), limit=500).rows}


def counts(database: Database) -> dict[str, int]:
    with database.read() as connection:
        ask = connection.exec_driver_sql
        tables = (*TABLES, "search_docsize" if database.sqlite else "texts")
        return {name: ask(f"SELECT count(*) FROM llmobs_{name}").scalar() or 0 for name in tables}


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("30d", {"age_ns": 30 * DAY}),
        ("12h", {"age_ns": DAY // 2}),
        ("1.5 H", {"age_ns": 5_400 * SECOND}),
        ("2w", {"age_ns": 14 * DAY}),
        ("90min", {"age_ns": 5_400 * SECOND}),
        ("2GB", {"size_bytes": 2_000_000_000}),
        ("500mb", {"size_bytes": 500_000_000}),
        ("1GiB", {"size_bytes": 1_073_741_824}),
        ("100000", {"spans": 100_000}),
        ("100_000", {"spans": 100_000}),
        (" 30d, 2GB ,100000", {"age_ns": 30 * DAY, "size_bytes": 2_000_000_000, "spans": 100_000}),
    ],
)
def test_limits_that_can_be_set(text: str, limits: dict[str, int]) -> None:
    """Ages, sizes and counts, in any order and case."""
    assert Retention.parse(text) == Retention(**limits)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "forever",
        "30d,",
        "30d,12h",
        "2GB,1MB",
        "-5d",
        "0d",
        "0",
        "1.5",
        "30m",
        "2G",
        "nan",
        "1e9",
        "d",
        "٣d",
        "9" * 39 + "d",
    ],
)
def test_limits_that_cannot_be_kept_to(text: str) -> None:
    """A wrong one is told when the engine is made, with an example of a right one."""
    with pytest.raises(ConfigError, match="^retention: .*(30d|give each once)"):
        LLMObs(retention=text)


@pytest.mark.parametrize(
    ("value", "plan"),
    [
        ("30d,bodies=7d", Plan(own=Retention(age_ns=30 * DAY, bodies_age_ns=7 * DAY))),
        ("bodies = 1GB, BODIES=500", Plan(own=Retention(bodies_size_bytes=10**9, bodies_spans=500))),
        (
            "30d; shop: 90d,bodies=7d ;*:100",
            Plan(
                own=Retention(age_ns=30 * DAY),
                projects={"shop": Retention(age_ns=90 * DAY, bodies_age_ns=7 * DAY)},
                others=Retention(spans=100),
            ),
        ),
        ({"a:b": "1d", "*": "2d"}, Plan(projects={"a:b": Retention(age_ns=DAY)}, others=Retention(age_ns=2 * DAY))),
    ],
)
def test_limits_of_bodies_and_of_projects(value: Any, plan: Plan) -> None:
    """Bodies may have limits of their own, and so may every project."""
    assert Plan.parse(value) == plan
    assert LLMObs(retention=value).config.retention == value


@pytest.mark.parametrize(
    "value",
    ["bodies=", "bodies=7d,bodies=8d", "a: 30d; a: 20d", ": 30d", "a:", "30d;", {"": "30d"}, {"a": 30}, {1: "1d"}, 30],
)
def test_plans_that_cannot_be_kept_to(value: Any) -> None:
    """Each is told when the engine is made."""
    with pytest.raises(ConfigError, match="^retention: "):
        LLMObs(retention=value)


def test_whose_limits() -> None:
    """A project that is named has its own, the engine's own comes next, all others last."""
    plan = Plan.parse("1d; shop: 2d; *: 3d")
    ages = [plan.of(name, own=own) for name, own in (("shop", True), ("mine", True), ("else", False))]

    assert [limits.age_ns for limits in ages if limits is not None] == [2 * DAY, DAY, 3 * DAY]
    assert Plan.parse("shop: 2d").of("mine", own=True) is None


def test_age(database: Database) -> None:
    """A trace goes when it ended before the limit; one that is dated in the future stays."""
    old, edge, young, future = aged(31), aged(30, duration_ns=2 * SECOND), aged(29), aged(-400)
    Sink(database).write([old, edge, young, future])

    assert prune(database, Retention(age_ns=30 * DAY), now_ns=NOW).spans == 1
    assert ids(database) == {edge.id, young.id, future.id}
    assert get_trace(database, old.trace_id, project="default") is None


def test_whole_traces(database: Database) -> None:
    """A trace that began long ago stays, all of it, as long as something in it is young."""
    root = span(trace_id="a" * 32, start_ns=NOW - 40 * DAY, duration_ns=39 * DAY)
    early, late = aged(39.9, trace_id="a" * 32, parent_id=root.id), aged(2, trace_id="a" * 32, parent_id=root.id)
    gone = [aged(35, trace_id="b" * 32), aged(34, trace_id="b" * 32)]
    Sink(database).write([root, early, late, *gone])

    assert prune(database, Retention(age_ns=30 * DAY), now_ns=NOW).spans == 2
    assert ids(database) == {early.id, late.id}


def test_count(database: Database) -> None:
    """As many of the newest as fit, in whole traces; those of the future are the newest."""
    stored = [aged(days) for days in range(20, 0, -1)]
    future = aged(-400)
    Sink(database).write([future, *stored])

    assert prune(database, Retention(spans=6), now_ns=NOW).spans == 15
    assert ids(database) == {future.id, *(one.id for one in stored[-5:])}
    assert prune(database, Retention(spans=6), now_ns=NOW) == Pruned(0, 0)


def rich(days: float, session: str) -> list[Span]:
    """A trace with something in every table."""
    first = aged(days, session_id=session, properties={"plan": "pro"}, outcome="error", status=500)
    first = replace(first, attempts=(attempt(first, 1, outcome="error"),))
    return [first, span(trace_id=first.trace_id, parent_id=first.id, start_ns=first.start_ns, input="an obelisk")]


def test_nothing_is_left(database: Database) -> None:
    """With the last trace every table that holds records is empty, and the words are not found any more."""
    sink = Sink(database)
    for days in range(60, 30, -1):
        sink.write(rich(days, f"s{days % 3}"))
    assert all(counts(database).values())

    gone = prune(database, Retention(age_ns=30 * DAY), now_ns=NOW)

    assert gone.spans == 60 and gone.bytes > 40_000
    assert set(counts(database).values()) == {0}
    assert ids(database, text="france") == ids(database, properties=(("plan", "pro"),)) == set()
    sink.write([kept := aged(1)])  # row keys begin anew: nothing old may come up with them
    assert ids(database, text="france") == {kept.id}


def test_what_stays_is_whole(database: Database) -> None:
    """The neighbours keep bodies, words and properties, and a session counts what it still has."""
    sink = Sink(database)
    sink.write([record for days in (50, 40, 20) for record in rich(days, "s")])
    sink.write([kept := aged(10, session_id="s", session_name="mine", user_id="u", sent="What is Rome?")])

    prune(database, Retention(age_ns=30 * DAY), now_ns=NOW)

    found = get_request(database, kept.id, project="default")
    assert found is not None and found.request.request_body == kept.request_body
    assert ids(database, text="rome") == {kept.id}
    assert len(ids(database, properties=(("plan", "pro"),))) == 1
    session = get_session(database, "s", project="default")
    assert session is not None
    assert (session.session.request_count, session.session.trace_count, session.session.error_count) == (2, 2, 1)
    assert (session.session.start_ns, session.session.name) == (NOW - 20 * DAY, "mine")
    assert session.session.total_cost_usd == 2 * (kept.cost_usd or 0)


def test_a_dry_run_changes_nothing(database: Database) -> None:
    """It says what the real one then does."""
    Sink(database).write([aged(days / 20, session_id="s") for days in range(400)])
    before, limits = counts(database), Retention(age_ns=15 * DAY, spans=240, size_bytes=10**12)

    told = prune(database, limits, now_ns=NOW, dry_run=True)

    assert counts(database) == before
    assert told.spans == 160
    assert prune(database, limits, now_ns=NOW) == told


def test_bodies_go_before_their_spans(database: Database) -> None:
    """Of what is older than the bodies' limit no word is left, while its figures and the young one's words stay."""
    sink = Sink(database)
    sink.write(
        [
            old := aged(8, sent="an obelisk", properties={"plan": "pro"}),
            tool := span(
                trace_id=old.trace_id, parent_id=old.id, start_ns=old.start_ns, input="an obelisk", output="found"
            ),
        ]
    )
    sink.write([young := aged(6, sent="a pyramid")])
    limits = Retention(age_ns=30 * DAY, bodies_age_ns=7 * DAY)

    assert prune(database, limits, now_ns=NOW, dry_run=True).stripped == 2
    gone = prune(database, limits, now_ns=NOW)

    assert (gone.spans, gone.stripped) == (0, 2) and gone.bytes > 100
    assert ids(database) == {old.id, young.id} == ids(database) | ids(database, properties=(("plan", "pro"),))
    assert ids(database, text="obelisk") == set() and ids(database, text="pyramid") == {young.id}
    found = get_request(database, old.id, project="default")
    assert found is not None and (found.request.request_body, found.request.text) == (None, "")
    assert found.request.cost_usd == old.cost_usd and found.request.input_tokens == 20
    assert [row.input_preview or None for row in list_requests(database, Filter()).rows] == ["a pyramid", None]
    tree = get_trace(database, old.trace_id, project="default")
    assert tree is not None and not any(node.input_preview for node in tree.nodes) and tool.id
    assert prune(database, limits, now_ns=NOW) == Pruned(0, 0, 0)
    assert list(recompute(database, check=True)) == []


@pytest.mark.parametrize("limits", [Retention(bodies_spans=3), Retention(bodies_size_bytes=3_000)])
def test_bodies_by_count_and_size(database: Database, limits: Retention) -> None:
    """The newest keep theirs."""
    stored = [aged(days, sent=noise(days)[:1_200]) for days in (9, 8, 7, 6, 5)]
    Sink(database).write(stored)

    assert prune(database, limits, now_ns=NOW).stripped in (2, 3)
    left = [get_request(database, one.id, project="default") for one in stored]
    assert [found is not None and found.request.request_body is not None for found in left][0] is False
    assert left[-1] is not None and left[-1].request.request_body == stored[-1].request_body


def test_pinned_traces_stay(database: Database) -> None:
    """Whatever the limits, with their bodies; once the pin is taken away they go like any other."""
    first, second = aged(50), aged(40)
    Sink(database).write([first, second])
    pin(database, "default", first.trace_id)
    pin(database, "default", first.trace_id)
    limits = Retention(age_ns=30 * DAY, spans=1, bodies_age_ns=DAY)

    assert prune(database, limits, now_ns=NOW, dry_run=True).spans == 1
    assert prune(database, limits, now_ns=NOW).spans == 1
    assert prune(database, limits, now_ns=NOW) == Pruned(0, 0, 0)
    assert ids(database, text="france") == {first.id} and is_pinned(database, "default", first.trace_id)
    unpin(database, "default", first.trace_id)
    assert prune(database, limits, now_ns=NOW).spans == 1


def test_f29_a_clock_that_leaps_ahead(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set ten years ahead while the app runs, it makes nothing old; nor does it do so when it comes back."""
    stored = [request(start_ns=time.time_ns() - days * DAY) for days in (40, 3, 0)]
    future = request(start_ns=time.time_ns() + 3_650 * DAY)
    Sink(database).write([*stored, future])
    sweeper = Sweeper(database, Retention(age_ns=30 * DAY), "default")
    wall = time.time_ns
    monkeypatch.setattr("asgi_llmobs.retention.SWEEP_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("asgi_llmobs.retention.time.time_ns", lambda: wall() + 3_660 * DAY)

    sweep([sweeper], 10)

    assert ids(database) == {future.id, *(one.id for one in stored[1:])}


@pytest.mark.slow
def test_a_sweep_of_several_projects(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One engine keeps all projects within their limits, each within its own."""
    monkeypatch.setattr("asgi_llmobs.retention.SWEEP_PAUSE_SECONDS", 0.0)
    database = Database(database_url)
    Sink(database).write([aged(days, project=project) for project in ("mine", "shop", "x", "y") for days in range(5)])
    plan = Plan(own=Retention(spans=1), projects={"shop": Retention(spans=2)}, others=Retention(spans=3))

    sweep([Sweeper(database, plan, "mine")], 40)

    assert [len(ids(database, project=name)) for name in ("mine", "shop", "x", "y")] == [1, 2, 3, 3]
    assert list(recompute(database, check=True)) == []
    database.dispose()


def test_projects_have_limits_of_their_own(database: Database) -> None:
    """Of another project nothing goes; asked for all of them, the oldest of any goes first."""
    Sink(database).write([aged(days, project=project) for days in (40, 30, 20, 10) for project in ("a", "b")])

    assert prune(database, Retention(spans=3), project="a", now_ns=NOW).spans == 1
    assert (len(ids(database, project="a")), len(ids(database, project="b"))) == (3, 4)
    assert prune(database, Retention(age_ns=25 * DAY), project="nobody", now_ns=NOW).spans == 0
    assert prune(database, Retention(spans=5), now_ns=NOW).spans == 2
    assert (len(ids(database, project="a")), len(ids(database, project="b"))) == (2, 3)


def test_a_trace_larger_than_a_step(database: Database) -> None:
    """It goes whole, and in steps."""
    root = span(trace_id="a" * 32, start_ns=NOW - 50 * DAY)
    many = [span(trace_id="a" * 32, parent_id=root.id, start_ns=root.start_ns + number) for number in range(1_200)]
    Sink(database).write([root, *many, kept := aged(1)])

    assert prune(database, Retention(spans=1), now_ns=NOW).spans == 1_201
    assert ids(database) == {kept.id}
    assert counts(database)["spans"] == counts(database)["traces"] == 1


def noise(number: int) -> str:
    """Words that hardly compress, and each number has its own."""
    return " ".join(f"{(number * 7_919 + word * 104_729) * 2_654_435_761 % 2**61:x}" for word in range(200))


def fill(database: Database, count: int, **given: Any) -> None:
    for start in range(0, count, 100):
        Sink(database).write(
            [aged(20 - number / 1_000, sent=noise(number), **given) for number in range(start, start + 100)]
        )


def file_size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


@pytest.mark.slow
def test_the_file_shrinks(tmp_path: Path) -> None:
    """What is left of the file is at most a fifth more than what the rows that stay would need anew."""
    database = Database(f"sqlite:///{tmp_path / 'llmobs.db'}")
    fill(database, 800)
    full = file_size(tmp_path / "llmobs.db")
    limit = full // 4

    gone = prune(database, Retention(size_bytes=limit), now_ns=NOW)

    left = file_size(tmp_path / "llmobs.db")
    stay = len(ids(database)) if gone.spans > 300 else 800 - gone.spans
    fresh = Database(f"sqlite:///{tmp_path / 'fresh' / 'llmobs.db'}")
    for start in range(gone.spans, 800, 100):
        Sink(fresh).write([aged(1, sent=noise(number)) for number in range(start, min(800, start + 100))])
    fresh.checkpoint()
    need = file_size(tmp_path / "fresh" / "llmobs.db")
    database.dispose()
    fresh.dispose()

    assert stay == 800 - gone.spans > 100
    assert left <= 1.2 * need, (full, left, need)
    assert left <= 1.2 * limit


@pytest.mark.slow
def test_size_is_that_of_the_project(database: Database) -> None:
    """A small project is not made to pay for a large neighbour, and a large one goes down to its limit."""
    fill(database, 500, project="large")
    fill(database, 100, project="small")
    limit = Retention(size_bytes=1_000_000)

    assert prune(database, limit, project="small", now_ns=NOW).spans == 0
    first = prune(database, limit, project="large", now_ns=NOW)
    assert 0 < first.spans < 500 and len(ids(database, project="small")) == 100
    again = prune(database, limit, project="large", now_ns=NOW)
    assert again.spans <= 50


@pytest.mark.slow
def test_writers_go_on_meanwhile(database: Database) -> None:
    """Who writes while it deletes waits for one small step at most, and both are right in the end."""
    sink = Sink(database)
    sink.write([aged(50, session_id=f"s{number % 50}") for number in range(3_000)])
    waits: list[float] = []
    done = threading.Event()

    def write() -> None:
        other = Sink(Database(database.url))
        while not done.is_set():
            began = time.perf_counter()
            other.write([aged(1, session_id="s1")])
            waits.append(time.perf_counter() - began)
            time.sleep(0.005)
        other.database.dispose()

    writer = threading.Thread(target=write)
    writer.start()
    gone = prune(database, Retention(age_ns=30 * DAY), now_ns=NOW)
    done.set()
    writer.join()

    assert gone.spans == 3_000
    assert len(waits) > 5 and max(waits) < 4.0
    session = get_session(database, "s1", project="default")
    assert session is not None and session.session.request_count == len(waits) == counts(database)["spans"]
    assert [row.session_id for row in list_sessions(database, Filter()).rows] == ["s1"]


def wait_for(condition: Any, seconds: float = 40.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


def test_an_engine_keeps_to_its_limits(database_url: str) -> None:
    """Nobody has to ask: once started it deletes, also when no call comes."""
    stored = Database(database_url)
    Sink(stored).write([request(start_ns=time.time_ns() - days * DAY) for days in (50, 40, 3)])
    obs = LLMObs(database_url, retention="30d", admin=None)
    obs.start()

    assert wait_for(lambda: list_requests(stored, Filter()).count == 1)
    assert "chore" not in obs.stats().failures
    obs.close()
    stored.dispose()


def sweep(sweepers: Sequence[Sweeper], turns: int) -> None:
    for _ in range(turns):
        for sweeper in sweepers:
            sweeper.step()
        time.sleep(0.02)


@pytest.mark.slow
def test_one_of_many_sweeps(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several that share a store one does the work; together they never delete more than one would."""
    monkeypatch.setattr("asgi_llmobs.retention.SWEEP_PAUSE_SECONDS", 0.0)
    several = [Database(database_url) for _ in range(3)]
    Sink(several[0]).write([aged(days / 100) for days in range(800)])
    sweepers = [Sweeper(database, Retention(spans=300), "default") for database in several]

    sweep(sweepers, 40)

    assert store_status(several[0], project="default").spans == 300
    for database in several:
        database.dispose()


@pytest.mark.slow
def test_whoever_asks_takes_over(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prune that is asked for stops the sweep under way, so that the two do not delete twice as much."""
    monkeypatch.setattr("asgi_llmobs.retention.SWEEP_PAUSE_SECONDS", 0.0)
    database = Database(database_url)
    Sink(database).write([aged(days / 100) for days in range(1_000)])
    sweeper = Sweeper(database, Retention(spans=300), "default")
    sweep([sweeper], 2)
    before = store_status(database, project="default").spans
    assert 300 < before < 1_000

    assert prune(database, Retention(spans=300), project="default").spans == before - 300
    sweep([sweeper], 40)
    assert store_status(database, project="default").spans == 300
    database.dispose()


@pytest.mark.slow
def test_a_holder_that_died_is_followed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its work is taken up once its time is over."""
    monkeypatch.setattr("asgi_llmobs.retention.LEASE_SECONDS", 0.3)
    database = Database(database_url)
    Sink(database).write([aged(days / 100) for days in range(500)])
    Sweeper(database, Retention(spans=100), "default").step()
    assert store_status(database, project="default").spans > 200

    time.sleep(0.4)
    monkeypatch.setattr("asgi_llmobs.retention.SWEEP_PAUSE_SECONDS", 0.0)
    sweep([Sweeper(database, Retention(spans=100), "default")], 40)
    assert store_status(database, project="default").spans == 100
    database.dispose()


class TestCommand:
    def test_says_what_it_would_do_and_does_it(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """First dry, then in earnest."""
        monkeypatch.setenv("LLMOBS_DATABASE_URL", database_url)
        monkeypatch.setenv("LLMOBS_RETENTION", "30d")
        stored = Database(database_url)
        Sink(stored).write([request(start_ns=time.time_ns() - days * DAY) for days in (50, 40, 3)])

        assert cli.main(["prune", "--dry-run"]) == 0
        assert "2 spans would go" in capsys.readouterr().out
        assert list_traces(stored, Filter()).count == 3
        assert cli.main(["prune"]) == 0
        assert "2 spans deleted" in capsys.readouterr().out
        assert list_traces(stored, Filter()).count == 1
        assert cli.main(["prune", "--keep", "1d"]) == 0
        assert list_traces(stored, Filter()).count == 0
        stored.dispose()

    @pytest.mark.parametrize(
        ("arguments", "said"), [(["--keep", "soon"], "retention: "), ([], "--keep 30d"), (["--keep", "1d"], "exist")]
    )
    def test_says_what_is_missing(
        self,
        arguments: list[str],
        said: str,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A wrong limit, none at all, no database: each is said, and none makes a file."""
        monkeypatch.setenv("LLMOBS_DATABASE_URL", f"sqlite:///{tmp_path}/none.db")

        assert cli.main(["prune", *arguments]) == 1
        assert said in capsys.readouterr().out
        assert list(tmp_path.iterdir()) == []
