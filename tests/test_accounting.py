"""The counters: exact at every moment, told to the other processes, handed to OpenTelemetry where the host has it."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from asgi_llmobs import LLMObs, span
from asgi_llmobs.queries.status import workers
from asgi_llmobs.store import workers as telling
from asgi_llmobs.store.database import Database
from tests.calling import ask_sync

ROOT = Path(__file__).parents[1]


@pytest.fixture
def obs(database_url: str) -> Iterator[LLMObs]:
    """An engine on each kind of database, with little room so that some is given up."""
    engine = LLMObs(database_url, instrument="auto", buffer_bytes=1 << 20)
    yield engine
    engine.close()


def adds_up(stats: Any) -> bool:
    return bool(stats.captured == stats.stored + stats.spooled + sum(stats.dropped.values()))


def test_every_snapshot_adds_up(obs: LLMObs) -> None:
    """Whenever it is looked, from whichever thread, while many threads capture and the writer stores."""
    wrong: list[Any] = []
    looked = 0
    done = threading.Event()

    def work(number: int) -> None:
        for turn in range(60):
            with span(f"{number}.{turn}"):
                ask_sync(f"{number}.{turn} " + "x" * 2_000)
            if turn % 7 == 0:
                obs.recorder.refuse("too many")

    def look() -> None:
        nonlocal looked
        while not done.is_set():
            stats = obs.stats()
            looked += 1
            if not adds_up(stats):
                wrong.append(stats)
            time.sleep(0.001)  # or nobody else gets a turn

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    watcher = threading.Thread(target=look)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    assert obs.flush(30)
    done.set()
    watcher.join()
    until = time.monotonic() + 40
    while not obs.stats().writer_cpu_ns and time.monotonic() < until:  # it is told at the end of the writer's turn
        time.sleep(0.01)

    stats = obs.stats()
    assert wrong == [] and looked > 20
    assert stats.captured == 6 * 60 * 2 + 6 * 9 and adds_up(stats)
    assert (stats.dropped["too many"], stats.spooled, stats.queue_age_ns) == (54, 0, 0)
    assert stats.batches > 0 and stats.batch_ns > 0 and stats.writer_cpu_ns > 0
    assert stats.caller_ns is not None and 1_000 < stats.caller_ns < 50_000_000


def test_what_waits_has_an_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """The age is that of the oldest, in memory and in files, and is gone with it."""
    for size in (0, 1 << 24):
        obs = LLMObs("sqlite://", sinks=(), spool_bytes=size)
        monkeypatch.setattr(obs.writer, "start", lambda: None)
        assert obs.stats().queue_age_ns == 0
        ask_sync("first")
        first = obs.stats().queue_age_ns
        ask_sync("second")
        assert 0 < first < obs.stats().queue_age_ns
        obs.spool.take(10)
        assert obs.stats().queue_age_ns > first
        obs.spool.done(2, {})
        assert obs.stats().queue_age_ns == 0


def test_processes_tell_each_other(database_url: str) -> None:
    """Each has a row with its counters, whole at its end, and only in its own project."""
    for number in range(2):
        obs = LLMObs(database_url, project="mine")
        for _ in range(3 + number):
            ask_sync()
        obs.recorder.refuse("too many")
        obs.close()
    other = LLMObs(database_url, project="other")
    ask_sync()
    other.close()

    database = Database(database_url)
    told = workers(database, project="mine")
    each = sorted(told.each, key=lambda worker: worker.stored)
    assert [(worker.state, worker.stored, dict(worker.dropped)) for worker in each] == [
        ("ended", 3, {"too many": 1}),
        ("ended", 4, {"too many": 1}),
    ]
    assert (told.captured, told.stored, told.spooled, dict(told.dropped)) == (9, 7, 0, {"too many": 2})
    assert told.balanced and all(worker.writer_ns for worker in each)
    assert workers(database, project="other").captured == 1
    database.dispose()


def test_a_worker_tells_now_and_then(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at every batch, a sign of life where nothing happens, and the rows of old processes go."""
    clock = [1_000.0]
    wall = [1_700_000_000 * 10**9]
    monkeypatch.setattr(telling.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(telling.time, "time_ns", lambda: wall[0])
    counters = {"captured": 1, "stored": 1, "spooled": 0, "dropped": {}}

    def seen() -> list[int]:
        with database.read() as connection:
            rows = connection.exec_driver_sql("SELECT seen_ns FROM llmobs_workers ORDER BY seen_ns")
            return [int(row[0]) for row in rows]

    worker = telling.Worker(database, "default")
    worker.tell(counters)
    first = wall[0]
    for later, count, expected in ((1, 2, False), (6, 2, True), (12, 2, False), (42, 2, True), (48, 3, True)):
        clock[0], wall[0] = 1_000.0 + later, first + later * 10**9
        worker.tell({**counters, "captured": count})
        assert (seen() == [wall[0]]) is expected
    wall[0] += 8 * 86_400 * 10**9
    telling.Worker(database, "default").tell(counters)
    assert seen() == [wall[0]]


def values(reader: InMemoryMetricReader) -> dict[tuple[str, ...], Any]:
    """What was collected: by name and attribute, of the project."""
    data = reader.get_metrics_data()
    found: dict[tuple[str, ...], Any] = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    attributes = dict(point.attributes or {})
                    project = attributes.pop("llmobs.project")
                    found[(str(project), metric.name, *map(str, attributes.values()))] = point.value  # type: ignore[union-attr]
    return found


def test_metrics_of_a_given_provider() -> None:
    """The counters as instruments, the sum adds up; an engine that is gone is not kept."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    obs = LLMObs("sqlite://", sinks=(), project="p")
    obs.metrics(provider)
    for _ in range(3):
        ask_sync()
    obs.recorder.refuse("too many")
    assert obs.flush()

    found = values(reader)
    assert found["p", "llmobs.captured"] == 4
    assert found["p", "llmobs.stored"] == 3
    assert found["p", "llmobs.spooled"] == 0
    assert found["p", "llmobs.dropped", "too many"] == 1
    assert found["p", "llmobs.writer.cpu_time"] > 0
    assert found["p", "llmobs.queue.age"] == 0
    provider.shutdown()


PROGRAM = """
import sys
from asgi_llmobs import LLMObs
from tests.calling import ask_sync

first = LLMObs("sqlite://", sinks=(), project="first")
first.start()
ask_sync()
first.flush()
assert not [name for name in sys.modules if name.split(".")[0] == "opentelemetry"], "nobody asked for it"

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from tests.test_accounting import values

second = LLMObs("sqlite://", sinks=(), project="second")
second.start()
assert type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider", "the global one is the host's"
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
ask_sync()
second.flush()
found = values(reader)
print(found["first", "llmobs.captured"], found["second", "llmobs.captured"])
"""


def test_metrics_of_the_host() -> None:
    """The global provider is used where the host loads OpenTelemetry, never set by us, and nothing loads it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stdout, done.returncode) == ("1 1\n", 0), done.stderr


def test_a_client_without_sampled_calls() -> None:
    """Before the first sample nothing is said on the cost; other calls of the app are not counted at all."""
    obs = LLMObs("sqlite://", sinks=())
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(204))) as client:
        for _ in range(100):
            client.get("http://localhost/")
    ask_sync()
    assert obs.stats().caller_ns is None
    assert obs.stats().captured == 1
    obs.close()
