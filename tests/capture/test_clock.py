"""A wall clock that is set back or ahead while calls run, and a time zone that changes: durations and order hold."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_llmobs import LLMObsMiddleware, observe
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.overview import overview
from asgi_llmobs.recompute import recompute
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from asgi_llmobs.testing import capture
from tests.calling import URL, answer, question

HOUR_NS = 3_600 * 10**9
BEFORE_SPRING_NS = 1_774_738_800 * 10**9  # 29 March 2026, two hours before clocks in Berlin go ahead


class Clock:
    """The wall clock of this process, which can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_ns, real = 0, time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + self.ahead_ns)
        monkeypatch.setattr(time, "time", lambda: (real() + self.ahead_ns) / 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def daylight(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets the time zone of this process."""

    def turn(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield turn
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("ahead_ns", [-HOUR_NS, HOUR_NS, -400 * 24 * HOUR_NS])
def test_f29_a_clock_that_is_set_while_a_call_runs(clock: Clock, ahead_ns: int) -> None:
    """What it took comes from a clock that nobody sets: never negative, never an hour; starts stay what they were."""

    def slow(request: httpx.Request) -> httpx.Response:
        clock.ahead_ns += ahead_ns
        time.sleep(0.02)
        return answer(request)

    @observe
    def step() -> None:
        with httpx.Client(transport=httpx.MockTransport(slow)) as client:
            client.post(URL, json=question("hello"))

    def endpoint(_request: Any) -> PlainTextResponse:
        step()
        return PlainTextResponse("done")

    before = time.time_ns()
    with capture() as captured:
        app = Starlette(routes=[Route("/", endpoint)])
        app.add_middleware(LLMObsMiddleware, obs=captured.obs)
        with TestClient(app) as client:
            client.get("/")
        spans = {span.kind: span for span in captured.spans}
        assert len(captured.spans) == 3 and {"http", "llm"} < set(spans)
        for span in captured.spans:
            assert 20_000_000 <= (span.duration_ns or 0) < 10 * 10**9, span
            assert before <= span.start_ns < before + 10 * 10**9
        assert spans["llm"].outcome == "ok"
        (request,) = captured.requests
        assert all(0 <= (each or 0) < 10 * 10**9 for each in (request.first_token_ns, request.headers_ns))


def test_f29_a_time_zone_that_changes(daylight: Any, database: Database) -> None:
    """Hours and days are those of UTC, wherever and whenever the process runs; no hour is missing, none comes twice."""
    with capture() as captured:
        for zone in ("Europe/Berlin", "America/New_York", "Pacific/Chatham"):
            daylight(zone)
            with httpx.Client(transport=httpx.MockTransport(answer)) as client:
                client.post(URL, json=question("hello"))
        records = captured.requests
    daylight("Europe/Berlin")
    spring = [replace(records[0], id=f"{hour:016x}", start_ns=BEFORE_SPRING_NS + hour * HOUR_NS) for hour in range(5)]
    assert Sink(database).write([*records, *spring]).refused == 0

    cells = overview(database, Filter(), bucket="hour", shares=())
    begun = {record.start_ns // HOUR_NS for record in (*records, *spring)}
    assert [cell.start_ns // HOUR_NS for cell in cells] == sorted(begun) and len(begun) > 5
    assert sum(cell.requests for cell in cells) == 8
    assert list(recompute(database, check=True)) == []
