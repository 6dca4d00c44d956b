"""The engine's life: what is finished is stored, through flush, close, exit, fork, and a store that is away."""

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from asgi_llmobs import LLMObs, runtime, safely, span, trace, writer
from asgi_llmobs.capture import clients, recorder
from asgi_llmobs.errors import ConfigError, StoreError
from asgi_llmobs.records import Span, Written
from asgi_llmobs.safely import failures
from tests.calling import ask, ask_sync

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No engine of a test is the current one of the next, and what fails on purpose is not logged."""
    before, watching = runtime.current_engine(), clients.instrumented()
    monkeypatch.setattr(safely.logger, "warning", lambda *args: None)
    monkeypatch.setattr(writer, "RETRY_SECONDS", (0.01, 0.05))
    runtime.make_current(None)
    yield
    runtime.make_current(before)
    if not watching:
        clients.uninstrument()


class List:
    """A sink that keeps what it gets, and fails as it is told."""

    def __init__(self) -> None:
        self.records: list[Span] = []
        self.problem: Exception | None = None
        self.poison: str | None = None
        self.tries = 0
        self.blocked: threading.Event | None = None

    def write(self, batch: Sequence[Span]) -> Written:
        self.tries += 1
        if self.blocked is not None:
            self.blocked.wait(50)
        if self.problem is not None:
            raise self.problem
        if any(record.name == self.poison for record in batch):
            raise KeyError("a bug in the sink")
        self.records += batch
        return Written(len(batch), 0)

    def names(self) -> list[str]:
        return [record.name for record in self.records]


@pytest.fixture
def sink() -> List:
    """Where the engine's records go."""
    return List()


@pytest.fixture
def obs(sink: List) -> Iterator[LLMObs]:
    """An engine that writes there."""
    engine = LLMObs("sqlite://", sinks=(sink,))
    yield engine
    sink.problem = sink.poison = None
    if sink.blocked is not None:
        sink.blocked.set()
    engine.close()


def adds_up(obs: LLMObs) -> bool:
    """The identity of the counters."""
    stats = obs.stats()
    return stats.captured == stats.stored + stats.spooled + sum(stats.dropped.values())


def test_flush_waits_for_everything(obs: LLMObs, sink: List) -> None:
    """After a flush all that was finished before is stored."""
    for number in range(500):
        with span(str(number)):
            pass
    assert obs.flush()
    assert sink.names() == [str(number) for number in range(500)]
    assert adds_up(obs) and obs.stats().stored == 500


def test_flush_of_nothing_starts_nothing(obs: LLMObs) -> None:
    """A flush per request costs nothing where there is nothing."""
    before = threading.active_count()
    assert obs.flush()
    assert threading.active_count() == before


def test_aflush_leaves_the_loop_alone(obs: LLMObs, sink: List) -> None:
    """While it waits for a slow store, other tasks run."""
    sink.blocked = threading.Event()
    ticks = 0

    async def work() -> bool:
        nonlocal ticks
        await ask()
        flushing = asyncio.create_task(obs.aflush())
        while ticks < 20:
            await asyncio.sleep(0.001)
            ticks += 1
        assert not flushing.done()
        assert sink.blocked is not None
        sink.blocked.set()
        return await flushing

    assert asyncio.run(work())
    assert len(sink.records) == 1


def test_flush_gives_up_in_time(obs: LLMObs, sink: List) -> None:
    """A store that does not answer holds a flush for as long as was said."""
    sink.problem = StoreError("away")
    ask_sync()
    started = time.monotonic()
    assert not obs.flush(timeout=0.2)
    assert time.monotonic() - started < 25
    assert obs.stats().spooled == 1 and "cannot be reached" in str(obs.stats().last_error)


def test_a_store_that_comes_back_gets_everything(obs: LLMObs, sink: List) -> None:
    """While the store is away calls wait, once and in order; nothing is lost or doubled."""
    sink.problem = StoreError("away")
    for number in range(20):
        with span(str(number)):
            pass
    while sink.tries < 5:
        time.sleep(0.005)
    assert (adds_up(obs), obs.stats().spooled) == (True, 20)
    sink.problem = None
    assert obs.flush()
    assert sink.names() == [str(number) for number in range(20)]
    assert obs.stats().last_error is None


def test_a_record_that_breaks_the_sink(obs: LLMObs, sink: List) -> None:
    """A value that a bug in the store cannot take is left out and counted; its neighbours are stored."""
    sink.poison = "13"
    for number in range(20):
        with span(str(number)):
            pass
    assert obs.flush()
    assert sorted(sink.names(), key=int) == [str(number) for number in range(20) if number != 13]
    assert obs.stats().dropped == {"refused": 1} and adds_up(obs)


def test_a_record_that_cannot_be_made(obs: LLMObs, sink: List, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pipeline fails on is counted as unreadable."""
    make = obs.pipeline.process

    def process(entry: Any) -> Span:
        if entry.name == "3":
            raise RuntimeError
        return make(entry)

    monkeypatch.setattr(obs.pipeline, "process", process)
    for number in range(5):
        with span(str(number)):
            pass
    assert obs.flush()
    assert (len(sink.records), obs.stats().dropped) == (4, {"unreadable": 1})
    assert failures()["pipeline"] >= 1 and adds_up(obs)


def test_memory_is_bounded(sink: List) -> None:
    """With a store that is away bodies go first, then the oldest calls, all of it counted."""
    obs = LLMObs("sqlite://", sinks=(sink,), buffer_bytes=200_000)
    sink.problem = StoreError("away")
    for _ in range(100):
        ask_sync("x" * 5_000)
    for number in range(300):
        with span(str(number)):
            pass
    stats = obs.stats()

    assert stats.spooled_bytes <= 200_000
    assert stats.bodies_dropped > 0 and stats.dropped["spool full"] > 0
    assert adds_up(obs)
    sink.problem = None
    assert obs.flush() and sink.names()[-1] == "299"
    obs.close()


def test_closing_is_not_the_end(obs: LLMObs, sink: List) -> None:
    """What happens after a close starts the writer again."""
    before_threads = set(threading.enumerate())
    for _ in range(3):
        with span("again"):
            pass
        obs.close()
    assert sink.names() == ["again"] * 3
    assert set(threading.enumerate()) <= before_threads


def test_closing_while_the_store_hangs(obs: LLMObs, sink: List) -> None:
    """It takes as long as was said; a writer that still hangs and the next one do not store anything twice."""
    sink.blocked = threading.Event()
    with span("first"):
        pass
    started = time.monotonic()
    obs.close(timeout=0.1)
    assert time.monotonic() - started < 25
    with span("second"):
        pass
    sink.blocked.set()
    assert obs.flush()
    assert sink.names() == ["first", "second"]


def test_two_loops_and_threads(obs: LLMObs, sink: List) -> None:
    """Several event loops at once, each in its thread, and threads without any: all is recorded."""

    def loop(number: int) -> None:
        async def work() -> None:
            async with trace(f"loop {number}"):
                await asyncio.gather(*(ask(f"{number}") for _ in range(5)))

        asyncio.run(work())

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(4)]
    threads += [threading.Thread(target=ask_sync) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert obs.flush()

    roots = {record.id: record.trace_id for record in sink.records if record.name.startswith("loop")}
    calls = [record for record in sink.records if record.kind == "llm"]
    assert (len(roots), len(calls)) == (4, 24)
    for call in calls:
        assert call.parent_id is None or roots[call.parent_id] == call.trace_id


def test_a17_what_the_sink_calls_is_not_recorded(obs: LLMObs, sink: List) -> None:
    """An exporter that uses the same HTTP client does not feed itself."""
    write = sink.write

    def exporting(batch: Sequence[Span]) -> Written:
        ask_sync("export")
        return write(batch)

    sink.write = exporting  # type: ignore[method-assign]
    with span("one"):
        pass
    assert obs.flush()
    time.sleep(0.05)
    assert (sink.names(), obs.stats().captured) == (["one"], 1)


def test_an_engine_that_is_switched_off(sink: List) -> None:
    """It captures nothing, starts nothing, and its clients work."""
    obs = LLMObs("sqlite://", sinks=(sink,), enabled=False)
    obs.start()
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200))) as client:
        assert obs.wrap(client).post("https://api.openai.com/v1/chat/completions", json={}).status_code == 200
    assert (ask_sync("hi"), obs.flush(), sink.records) == ("hi", True, [])


def test_the_engine_made_last_takes_what_nobody_claims(sink: List) -> None:
    """Module functions and calls outside of any request go there; a wrapped client stays with its own engine."""
    first_sink = List()
    first = LLMObs("sqlite://", sinks=(first_sink,), project="first")
    second = LLMObs("sqlite://", sinks=(sink,), project="second")
    with span("free"):
        ask_sync()
    first.flush(), second.flush()

    assert {record.project for record in sink.records} == {"second"} and len(sink.records) == 2
    assert first_sink.records == []
    assert recorder.default_recorder() is second.recorder
    first.close(), second.close()


def test_wrong_options_are_told_at_construction() -> None:
    """The error names the option; no engine is left behind."""
    with pytest.raises(ConfigError, match="no such option"):
        LLMObs(projekt="x")
    assert runtime.current_engine() is None


# processes


def run(code: str, folder: Path, *, expect: int = 0) -> str:
    """Run a script in a process of its own, with a store in *folder*; what it printed."""
    prelude = f"""
    import asyncio, os, sys, threading, time
    sys.path.insert(0, {str(ROOT)!r})
    from asgi_llmobs import LLMObs, observe, propagate, span, trace
    from tests.calling import ask, ask_sync
    obs = LLMObs("sqlite:///{folder}/llmobs.db", spool_bytes=0)
    """
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(prelude) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Exception" not in done.stderr and "Traceback" not in done.stderr, done.stderr
    return done.stdout


def stored(folder: Path) -> list[str]:
    """What the stored calls said, and the names of the stored spans."""
    connection = sqlite3.connect(folder / "llmobs.db")
    try:
        rows = connection.execute("SELECT coalesce(output_preview, name) FROM llmobs_spans ORDER BY key").fetchall()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()
    return [row[0] for row in rows]


def test_a24_a_script_that_just_ends(tmp_path: Path) -> None:
    """Nobody calls flush: at the exit of the interpreter everything finished is stored."""
    run("ask_sync('one')\nasyncio.run(ask('two'))", tmp_path)
    assert stored(tmp_path) == ["one", "two"]


def test_a24_exit_in_the_middle(tmp_path: Path) -> None:
    """The same where the program ends by ``sys.exit`` inside a span, with a thread that still works."""
    run(
        """
        def work():
            time.sleep(0.2)
            ask_sync("from a thread")
        threading.Thread(target=work).start()
        with span("leaving"):
            ask_sync("in it")
            sys.exit(3)
        """,
        tmp_path,
        expect=3,
    )
    assert sorted(stored(tmp_path)) == ["from a thread", "in it", "leaving"]


def test_a24_calls_while_the_interpreter_ends(tmp_path: Path) -> None:
    """Handlers at exit may still make calls; nothing raises, whether or not a thread can be started."""
    out = run(
        """
        import atexit
        atexit.register(lambda: print(ask_sync("after")))
        ask_sync("before")
        atexit.register(lambda: print(ask_sync("at exit")))
        """,
        tmp_path,
    )
    assert out.split("\n")[:2] == ["at exit", "after"]
    assert {"before", "at exit"} <= set(stored(tmp_path))


def test_a21_parent_and_child_of_a_fork_both_record(tmp_path: Path) -> None:
    """With the writer at work in the parent: the child begins its own life, and neither repeats the other's calls."""
    out = run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        ask_sync("before")
        assert obs.flush()
        children = []
        for number in range(12):
            ask_sync(f"parent {number}")
            pid = os.fork()
            if not pid:
                ask_sync(f"child {number}")
                assert obs.flush(), obs.stats()
                print(obs.stats().captured, flush=True)
                os._exit(0)
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        ask_sync("after")
        """,
        tmp_path,
    )
    numbers = range(12)
    expected = ["before", "after", *(f"parent {n}" for n in numbers), *(f"child {n}" for n in numbers)]
    assert sorted(stored(tmp_path)) == sorted(expected)
    assert out.split() == ["1"] * 12


@pytest.mark.slow
def test_7_forks_while_the_writer_works(tmp_path: Path) -> None:
    """Forks at any moment of the writer's work: no child hangs on a lock that it inherited."""
    run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        stop = threading.Event()
        def work():
            while not stop.is_set():
                ask_sync("busy")
                time.sleep(0.0005)
        threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(12):
            pid = os.fork()
            if not pid:
                with span("child"):
                    pass
                if number % 10 == 0 and not obs.flush():
                    print(obs.stats(), flush=True)
                    os._exit(1)
                os._exit(0)
            deadline = time.monotonic() + 10
            while True:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    assert status == 0, (number, status)
                    break
                assert time.monotonic() < deadline, f"child {number} hangs"
                time.sleep(0.001)
        stop.set()
        for thread in threads:
            thread.join()
        assert obs.flush(40)
        stats = obs.stats()
        assert stats.captured == stats.stored, stats
        assert stats.failures == {}, stats
        """,
        tmp_path,
    )
    assert 2 <= stored(tmp_path).count("child") <= 12


def test_ids_differ_after_a_fork(tmp_path: Path) -> None:
    """A child draws its own random numbers."""
    out = run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        for _ in range(5):
            if not os.fork():
                with trace("x") as found:
                    print(found.trace_id, flush=True)
                os._exit(0)
            os.wait()
        """,
        tmp_path,
    )
    assert len(set(out.split())) == 5


@pytest.mark.slow
def test_multiprocessing_by_fork(tmp_path: Path) -> None:
    """Workers of a pool record what they do."""
    run(
        """
        import multiprocessing, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        def work(number):
            ask_sync(f"worker {number}")
            obs.flush()
        ask_sync("parent")
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            pool.map(work, range(6), chunksize=1)
        """,
        tmp_path,
    )
    assert sorted(stored(tmp_path)) == ["parent", *(f"worker {number}" for number in range(6))]


def test_a_failure_in_the_middle_of_a_failure() -> None:
    """A finalizer may fail while another failure is being counted, by the same thread: neither waits for the other."""

    class Where(str):
        def __hash__(self) -> int:  # called while the first is being counted
            if not told:
                told.append(self)
                safely.report("the second", ValueError())
            return str.__hash__(self)

    told: list[str] = []
    thread = threading.Thread(target=safely.report, args=(Where("the first"), ValueError()), daemon=True)
    thread.start()
    thread.join(5)

    assert not thread.is_alive()
    assert failures()["the first"] == failures()["the second"] == 1
