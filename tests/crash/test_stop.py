"""Every server, stopped under load: 0 calls lost, 0 doubled, in time, on both databases."""

import os
import signal
import time

import pytest

from tests.crash.conftest import Place
from tests.crash.identity import adopt, check, check_counters, look
from tests.crash.servers import NO_LIFESPAN, SERVERS, Load
from tests.processes import crowd

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
CAP_SECONDS = 5.0
GRACE_SECONDS = 4.0  # after which what is not stored stays in the spool
STORES = ("sqlite", "postgresql")
SLOW, LONG = pytest.mark.slow, pytest.mark.long
IN_CI = ("uvicorn-4", "uvicorn-reload", "gunicorn-asgi", "hypercorn-2", "granian-2")
WAYS = [
    pytest.param((TERM,), marks=SLOW, id="SIGTERM"),
    pytest.param((INT,), marks=LONG, id="SIGINT"),
    pytest.param((INT, INT), marks=LONG, id="SIGINT-SIGINT"),
]

pytestmark = pytest.mark.timeout(120)


def stopped(place: Place, name: str, *how: signal.Signals, calls: int = 60, turn: int = 0) -> float:
    """Load, the signals, the end, what is left, the look; the seconds that the stop took."""
    began = time.time_ns()
    with place.serve(name) as server, Load(server, turn=turn) as load:
        load.wait_for(calls)
        started = time.monotonic()
        server.signal(*how)
        server.wait()
        seconds = time.monotonic() - started
    orderly = how == (TERM,) and name not in NO_LIFESPAN and seconds < GRACE_SECONDS
    if orderly:
        check_counters(look(place.url), began)
    left = adopt(place.url, place.folder)
    found = look(place.url)

    check(found.of(turn), load.acknowledged, load.sent)
    assert not orderly or left.captured == 0, left
    assert found.roots["running"] == 0
    assert seconds < CAP_SECONDS * crowd()
    print(
        f"{name} {place.url.partition(':')[0]} {[each.name for each in how]}: {len(found.calls)} calls, {seconds:.2f} s"
    )
    return seconds


@pytest.mark.parametrize("name", ["uvicorn-2", pytest.param("gunicorn-preload", marks=pytest.mark.slow)])
def test_f1_sigterm(name: str, place: Place) -> None:
    """Two servers; all of them below."""
    stopped(place, name, TERM)


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
@pytest.mark.slow
def test_f1_sigterm_on_postgresql(place: Place) -> None:
    """The same with the other store."""
    stopped(place, "uvicorn", TERM)


@pytest.mark.slow
def test_f32_sigint_twice(place: Place) -> None:
    """An impatient end skips the lifespan: what was not stored comes with the next start."""
    stopped(place, "uvicorn", INT, INT)


@pytest.mark.parametrize("place", [STORES[0], pytest.param(STORES[1], marks=LONG)], indirect=True)
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in IN_CI else LONG) for name in SERVERS])
def test_f1_every_server(name: str, how: tuple[signal.Signals, ...], place: Place) -> None:
    """All servers, all ways to stop them, both stores."""
    if "UvicornWorker" in " ".join(SERVERS[name](0)) and INT in how:
        pytest.skip("gunicorn never ends its uvicorn workers on SIGINT, whatever app they serve")
    stopped(place, name, *how)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "times", "place"),
    [
        *(pytest.param(name, 20, STORES[0], marks=LONG) for name in SERVERS),
        *(pytest.param(name, 20, STORES[1], marks=LONG) for name in ("uvicorn", "uvicorn-4")),
    ],
    indirect=["place"],
)
def test_f1_again_and_again(name: str, times: int, place: Place) -> None:
    """SIGTERM under load twenty times, on one database."""
    for turn in range(times):
        stopped(place, name, TERM, calls=25, turn=turn)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "times", "place"),
    [
        pytest.param("uvicorn-4", 2, STORES[1], marks=SLOW),
        *(pytest.param(name, 20, store, marks=LONG) for name in ("uvicorn", "uvicorn-4") for store in STORES),
    ],
    indirect=["place"],
)
def test_f2_servers_that_are_killed_again_and_again(name: str, times: int, place: Place) -> None:
    """SIGKILL of all their processes at once, under load, on one database: 0 acknowledged calls lost, 0 doubled."""
    for turn in range(times):
        with place.serve(name) as server, Load(server, turn=turn) as load:
            load.wait_for(25)
            os.killpg(server.process.pid, signal.SIGKILL)
            server.wait()
        adopt(place.url, place.folder)
        found = look(place.url)
        check(found.of(turn), load.acknowledged, load.sent)
        assert found.roots["running"] == 0
