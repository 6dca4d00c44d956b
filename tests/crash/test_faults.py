"""The N-th await is cancelled, our N-th function fails: the app is not touched, and the counters add up."""

import asyncio
import builtins
import importlib
import inspect
import pkgutil
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

import asgi_llmobs
from asgi_llmobs import LLMObs, safely
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.crash.hosting import Got, app, ask

pytestmark = pytest.mark.slow
PATHS = ("/stream", "/plain", "/failing")
ROOMS = ("capture", "spool", "pipeline", "writer", "store")
ERRORS = (RuntimeError, MemoryError, RecursionError)
SAMPLE = 12  # one function of so many by default


@pytest.fixture
def obs(tmp_path: Path) -> Iterator[LLMObs]:
    """An engine with its database in a file, and its spool there too."""
    made = LLMObs(f"sqlite:///{tmp_path / 'data' / 'llmobs.db'}", spool_bytes=1 << 24)
    yield made
    made.close()


def visit(application: Any) -> list[Got]:
    async def all_of_them() -> list[Got]:
        return [await ask(application, path) for path in PATHS]

    return asyncio.run(all_of_them())


def adds_up(obs: LLMObs) -> bool:
    found = obs.stats()
    return found.captured == found.stored + found.spooled + sum(found.dropped.values())


@pytest.mark.parametrize("path", PATHS)
def test_cancelled_at_the_nth_await(obs: LLMObs, path: str, tmp_path: Path) -> None:
    """The client sees the same, as many steps are taken, and the call is recorded once, as what it was."""
    bare, watched = app(None), app(obs)

    async def compare() -> int:
        whole = await ask(bare, path)
        assert await ask(watched, path) == whole
        for step in range(1, whole.steps + 1):
            assert await ask(watched, path, step) == await ask(bare, path, step), step
        return whole.steps

    steps = asyncio.run(compare())
    assert obs.flush(20) and adds_up(obs) and steps >= 3
    stats = obs.stats()
    assert (stats.spooled, dict(stats.dropped), stats.open, dict(stats.failures)) == (0, {}, 0, {})
    database = Database(f"sqlite:///{tmp_path / 'data' / 'llmobs.db'}", create=False)
    with database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT outcome, count(*), count(DISTINCT id) FROM llmobs_spans WHERE is_request = 1 GROUP BY outcome"
        ).all()
    database.dispose()
    outcomes = {row[0]: row[1] for row in rows}
    assert all(row[1] == row[2] for row in rows) and set(outcomes) <= {"ok", "cancelled", "error", "abandoned"}
    assert outcomes.get("cancelled", 0) >= 1


def functions() -> list[tuple[str, FunctionType]]:
    """All of ours that work for the app: each with its name."""
    found: dict[CodeType, tuple[str, FunctionType]] = {}
    for room in ROOMS:
        home = importlib.import_module(f"asgi_llmobs.{room}")
        names = [f"{home.__name__}.{item.name}" for item in pkgutil.iter_modules(getattr(home, "__path__", []))]
        for module in (home, *map(importlib.import_module, names)):
            for owner in (module, *(item for item in vars(module).values() if inspect.isclass(item))):
                if getattr(owner, "__module__", module.__name__) != module.__name__:
                    continue
                for name, item in list(vars(owner).items()):
                    function = inspect.unwrap(getattr(item, "__func__", getattr(item, "fget", None) or item))
                    if not isinstance(function, FunctionType) or function.__module__ != module.__name__:
                        continue
                    if function.__code__.co_filename.startswith(str(Path(asgi_llmobs.__file__).parent)):
                        found[function.__code__] = f"{module.__name__}.{function.__qualname__}", function
                    assert name
    return sorted(found.values(), key=lambda pair: pair[0])


def failing_code(function: FunctionType) -> CodeType:
    """Code that fails at once, with the same free names."""
    names = function.__code__.co_freevars
    used = f"        return {', '.join(names)}\n" if names else ""
    inner = f"    def failing(*args, **kwargs):\n        raise _llmobs_fault('injected')\n{used}"
    scope: dict[str, Any] = {}
    exec(f"def make({', '.join(names)}):\n{inner}    return failing\n", scope)
    made: FunctionType = scope["make"](*[None] * len(names))
    return made.__code__


@contextmanager
def broken(function: FunctionType, error: type[Exception]) -> Iterator[None]:
    """*function* raises, whoever refers to it."""
    code = function.__code__
    builtins._llmobs_fault = error  # type: ignore[attr-defined]
    function.__code__ = failing_code(function)
    try:
        yield
    finally:
        function.__code__ = code


# what the app itself enters: inside they are guarded, or put a few values down
DOORS = {
    "capture.decorators.Observed.keep",
    "capture.decorators.Observed.open",
    "capture.blocks.OpenSpan.__enter__",
    "capture.blocks.OpenSpan.__exit__",
    "capture.blocks.OpenSpan.__init__",
    "capture.blocks.OpenSpan.enter",
    "capture.blocks.OpenSpan.finish",
    "capture.blocks.OpenSpan.leave",
    "capture.incoming.watch",
    "capture.streams.AsyncChunks.__anext__",
    "capture.streams.AsyncChunks.__init__",
    "capture.streams.attach",
    "writer.Writer.flush",
}
FUNCTIONS = [pair for pair in functions() if pair[0].removeprefix("asgi_llmobs.") not in DOORS]


def check(obs: LLMObs, name: str, function: FunctionType, error: type[Exception], expected: list[Got]) -> None:
    application = app(obs)
    visit(application)
    with broken(function, error):
        got = visit(application)
        obs.flush(0.05)
        assert got == expected, name
    safely.reset()
    again = visit(application)
    assert again == expected, name
    before = obs.stats()
    assert obs.flush(20), (name, before)
    assert adds_up(obs), (name, obs.stats())
    visit(application)
    assert obs.flush(20) and obs.stats().stored >= before.stored + 3, (name, before, obs.stats())


def run(tmp_path: Path, chosen: list[tuple[str, FunctionType]], error: type[Exception]) -> None:
    expected = visit(app(None))
    for number, (name, function) in enumerate(chosen):
        obs = LLMObs(f"sqlite:///{tmp_path / str(number) / 'llmobs.db'}", spool_bytes=1 << 24, buffer_bytes=1 << 20)
        try:
            check(obs, name, function, error, expected)
        finally:
            obs.close()


def test_functions_are_found() -> None:
    """There are some in every part."""
    names = [name for name, _ in FUNCTIONS]

    assert len(names) > 400
    assert all(any(name.startswith(f"asgi_llmobs.{room}") for name in names) for room in ROOMS)


@pytest.mark.parametrize("part", range(4))
def test_our_nth_function_fails(tmp_path: Path, part: int) -> None:
    """Whichever it is, the app's answers are the same, the counters add up, and afterwards all is as before."""
    run(tmp_path, FUNCTIONS[part :: SAMPLE * 4], RuntimeError)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("part", range(8))
def test_each_of_our_functions_fails(tmp_path: Path, part: int, error: type[Exception]) -> None:
    """All of them, and with errors that come from anywhere."""
    run(tmp_path, FUNCTIONS[part::8], error)


def test_what_fails_all_the_time_rests(obs: LLMObs, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many failures within a minute nothing is captured for a while, which is counted; then it is again."""
    watched, bare = app(obs), app(None)
    expected = visit(bare)
    monkeypatch.setattr(safely, "BREAK_AFTER", 5)
    monkeypatch.setattr(safely, "_recent", deque(maxlen=5))
    monkeypatch.setattr(safely, "REST_SECONDS", 0.5)
    monkeypatch.setattr(obs.spool, "begin", fail)
    while not safely.resting():
        assert visit(watched) == expected
    monkeypatch.undo()
    monkeypatch.setattr(safely, "_rests_until", time.monotonic() + 60)
    assert visit(watched) == expected
    assert obs.flush(20) and obs.stats().dropped["capture rests"] >= 3 and adds_up(obs)
    monkeypatch.setattr(safely, "_rests_until", 0.0)
    before = obs.stats()
    assert visit(watched) == expected and obs.flush(20)
    assert obs.stats().stored >= before.stored + 6 and obs.stats().dropped == before.dropped


def fail(*_: object) -> None:
    raise RuntimeError("injected")


@pytest.mark.parametrize("what", ["rule", "store", "reading"])
def test_f26_what_is_slow_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """It works in the writer's thread: the app answers as fast as without it, and the counters add up."""

    def slow(content: Any, *_: Any) -> Any:
        time.sleep(0.5)
        return content

    engine = LLMObs(f"sqlite:///{tmp_path / 'llmobs.db'}", redact=slow if what == "rule" else None)
    watched = app(engine)
    expected = visit(app(None))
    visit(watched)
    assert engine.flush(20)
    if what == "store":
        write = Sink.write
        monkeypatch.setattr(Sink, "write", lambda self, records: write(self, slow(records)))
    elif what == "reading":
        process = Pipeline.process
        monkeypatch.setattr(Pipeline, "process", lambda self, entry: process(self, slow(entry)))
    took = []
    for _ in range(5):
        started = time.perf_counter()
        assert visit(watched) == expected
        took.append(time.perf_counter() - started)
    assert min(took) < 0.4 and adds_up(engine)
    monkeypatch.undo()
    assert engine.flush(30)
    assert engine.stats().dropped == {} and adds_up(engine)
    engine.close()
