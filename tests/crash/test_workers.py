"""Workers that come and go under load: replaced by a reload, killed, forked by the app itself."""

import os
import signal
import socket
import time
from contextlib import suppress

import pytest

from asgi_llmobs.errors import StoreError
from tests.crash.conftest import Place
from tests.crash.identity import Found, adopt, check, look
from tests.crash.servers import Load, weighed
from tests.crash.test_stop import CAP_SECONDS
from tests.processes import crowd

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
ADOPTED_SECONDS = 10.0


def settled(place: Place, load: Load) -> Found:
    """What is stored once nothing is left to take over: what *load* was told of is there, each once."""
    adopt(place.url, place.folder)
    found = look(place.url)
    check(found, load.acknowledged, load.sent)
    return found


@pytest.mark.parametrize("place", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
@pytest.mark.parametrize("name", weighed(["gunicorn-preload"], ["gunicorn", "gunicorn-asgi"]))
def test_sighup_replaces_the_workers(name: str, place: Place) -> None:
    """gunicorn's reload, twice, under load: new processes go on, the old ones lose nothing."""
    with place.serve(name) as server, Load(server) as load:
        before = set(server.pids(2))
        load.wait_for(40)
        for _ in range(2):
            server.signal(signal.SIGHUP)
            until = time.monotonic() + 30
            while before & set(server.pids(2)):
                assert time.monotonic() < until, "the old workers still answer"
            before |= set(server.pids(2))
            load.wait_for(len(load.acknowledged) + 40)
        server.signal(signal.SIGTERM)
        server.wait()

    found = settled(place, load)
    assert all(worker.balanced for worker in found.workers.each)
    assert len(before) >= 6


@pytest.mark.parametrize("place", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("name", weighed(["uvicorn-2"], ["uvicorn-4", "gunicorn", "gunicorn-preload", "granian-2"]))
def test_f2_one_worker_is_killed(name: str, place: Place) -> None:
    """The others take over what it left, within ten seconds; every acknowledged call is there once."""
    with place.serve(name) as server, Load(server) as load:
        pids = server.pids(2)
        load.wait_for(60)
        os.kill(pids[0], signal.SIGKILL)
        killed = time.monotonic()
        told = set(load.acknowledged)
        load.wait_for(len(told) + 40)
        missing = told
        while missing and time.monotonic() - killed < ADOPTED_SECONDS * crowd() + 5:
            with suppress(StoreError):  # it may not be there yet
                missing = told - set(look(place.url).calls)
            time.sleep(0.2)
        seconds = time.monotonic() - killed
        server.signal(signal.SIGTERM)
        server.wait()

    found = settled(place, load)
    assert set(found.outcomes.values()) <= {"ok", "interrupted", "cancelled"}
    assert missing == set() and seconds <= ADOPTED_SECONDS * crowd()
    print(f"{name} {place.url.partition(':')[0]}: taken over after {seconds:.1f} s")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", ["sqlite", "postgresql"], indirect=True)
def test_f2_one_worker_after_the_other_is_killed(place: Place) -> None:
    """One of four, twenty times, while the others answer: nothing is lost or doubled, and all are replaced."""
    with place.serve("uvicorn-4") as server, Load(server) as load:
        for turn in range(20):
            load.wait_for(len(load.acknowledged) + 25)
            os.kill(server.pids(4)[turn % 4], signal.SIGKILL)
        server.pids(4)
        server.signal(signal.SIGTERM)
        server.wait()

    found = settled(place, load)
    assert set(found.outcomes.values()) <= {"ok", "interrupted", "cancelled"}
    assert found.roots["running"] == 0


def test_f19_the_app_forks(place: Place) -> None:
    """Children made by ``os.fork``, by ``multiprocessing`` both ways, and loops in threads: each call once."""
    ids: list[str] = []
    with place.serve("uvicorn") as server, Load(server, clients=1, ways=["call"]) as load:
        server.get("/fork/f?count=10")
        ids += ["f", *(f"f.{number}" for number in range(10))]
        for how in ("fork", "spawn"):
            server.get(f"/process/{how}?how={how}")
            ids += [how, f"{how}.0"] if how == "fork" else [how]
        server.get("/loop/l")
        ids += ["l", "l.0"]
        server.signal(signal.SIGTERM)
        server.wait()
    adopt(place.url, place.folder)

    found = look(place.url)
    check(found, [*load.acknowledged, *ids], [*load.sent, *ids, "spawn.0"])
    assert found.roots["running"] == 0


@pytest.mark.long
@pytest.mark.timeout(600)
def test_f19_a_thousand_forks(place: Place) -> None:
    """Nothing is lost in any of them, and nothing waits for long."""
    with place.serve("uvicorn") as server, Load(server, clients=2) as load:
        for turn in range(100):
            server.get(f"/fork/t{turn}?count=10")
        server.signal(signal.SIGTERM)
        server.wait()
    adopt(place.url, place.folder)

    ids = [f"t{turn}.{number}" for turn in range(100) for number in range(10)]
    check(look(place.url), [*load.acknowledged, *ids], [*load.sent, *ids, *(f"t{turn}" for turn in range(100))])


def test_f32_exit_in_a_handler(place: Place) -> None:
    """A handler that ends the process takes nothing with it that was finished."""
    with place.serve("uvicorn") as server:
        server.get("/call/first")
        with suppress(Exception):
            server.get("/leave/last")
        with suppress(Exception):
            server.wait(5)
        server.signal(signal.SIGTERM)
        server.wait()
    adopt(place.url, place.folder)

    check(look(place.url), ["first", "last"], ["first", "last"])


def test_a_feed_that_is_open_does_not_delay_the_end(place: Place) -> None:
    """Neither a stream without an end nor the admin's pages: the server stops as fast as its own grace lets it."""
    with place.serve("uvicorn-grace") as server:
        server.get("/call/first")
        with socket.create_connection(("127.0.0.1", server.port)) as feed:
            feed.sendall(b"GET /endless HTTP/1.1\r\nhost: h\r\n\r\n")
            assert b"tick" in feed.recv(4096) + feed.recv(4096)
            started = time.monotonic()
            server.signal(signal.SIGTERM)
            server.wait()
            seconds = time.monotonic() - started

    assert seconds < 1 + CAP_SECONDS * crowd()
    adopt(place.url, place.folder)

    check(look(place.url), ["first"], ["first"])
