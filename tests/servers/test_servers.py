"""The same app on every server: calls linked to their requests, streams given up, nothing lost at a graceful stop."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import httpx
import pytest

from tests.crash.identity import adopt
from tests.processes import crowd
from tests.servers.serving import APP, SERVERS, Row, Served, served


def calls_by_text(rows: list[Row]) -> dict[str, Row]:
    """The stored calls by what the model said."""
    return {row.output_preview or "": row for row in rows if row.kind == "llm" and row.outcome == "ok"}


def load(server: Served, count: int) -> set[str]:
    """Make that many requests, four at a time; the ids whose answer came."""
    paths = {f"c{number}": ("/below/", "/sync/", "/background/")[number % 3] for number in range(count)}
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda item: server.get(item[1] + item[0]), paths.items()))
    return set(paths)


def check_links(rows: list[Row]) -> None:
    """Each call hangs below a root of its own."""
    roots = {row.id: row for row in rows if row.kind == "http"}
    calls = list(calls_by_text(rows).values())
    for call in calls:
        root = roots[call.parent_id or ""]
        assert (root.trace_id, root.outcome, root.status, root.route) == (call.trace_id, "ok", 200, call.route)
    assert len({call.trace_id for call in calls}) == len(calls)


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVERS)
def test_a20_every_server(name: str, tmp_path: Path) -> None:
    """Calls are linked, a client that leaves makes root and open call cancelled, and a graceful stop loses nothing."""
    with served(SERVERS[name], tmp_path) as server:
        ids = load(server, 24)
        assert server.leave_in_midstream().startswith(b"HTTP/1.1 200")
        server.wait_for(lambda rows: sum(row.outcome == "cancelled" for row in rows) >= 2)
        ids |= {"last"}
        server.get("/below/last")
        seconds = server.stop()
        rows = server.rows()

    assert set(calls_by_text(rows)) == ids
    check_links(rows)
    stream = {row.kind: row for row in rows if row.outcome == "cancelled"}
    assert set(stream) == {"http", "llm"}, [row for row in rows if row.outcome not in ("ok", "cancelled")]
    assert (stream["llm"].parent_id, stream["http"].route) == (stream["http"].id, "/stream")
    assert (stream["llm"].output_preview or "").startswith("word word word")
    assert seconds < 8


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=lambda stop: stop.name)
def test_two_workers_lose_nothing(stop: signal.Signals, tmp_path: Path) -> None:
    """Several processes share one file from the first boot on; what a busy one leaves is stored by the next start."""
    command = ["uvicorn", APP, "--workers", "2", "--log-level", "warning", "--port"]
    with served(lambda port: [*command, str(port)], tmp_path) as server:
        ids = load(server, 60)
        server.stop(stop)
        if crowd() > 1.0:
            adopt(f"sqlite:///{server.database}", str(Path(server.database).parent))
        rows = server.rows()

    assert set(calls_by_text(rows)) == ids
    check_links(rows)


@pytest.mark.slow
def test_without_lifespan_at_most_the_last_moment_is_lost(tmp_path: Path) -> None:
    """Where no hook tells of the end, what finished a moment ago is stored all the same."""
    command = ["uvicorn", APP, "--lifespan", "off", "--log-level", "warning", "--port"]
    with served(lambda port: [*command, str(port)], tmp_path) as server:
        ids = load(server, 12)
        server.wait_for(lambda rows: len(calls_by_text(rows)) == len(ids))
        server.stop()

        assert set(calls_by_text(server.rows())) == ids


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hypercorn", "granian"])
def test_an_open_feed_holds_up_no_stop(name: str, tmp_path: Path) -> None:
    """A server that waits for open answers gets its feeds back: at once where it can be asked, else in seconds."""
    with served(SERVERS[name], tmp_path, LLMOBS_DEV="1") as server:
        with httpx.stream("GET", f"{server.url}/_llmobs/live", trust_env=False, timeout=30) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry:")
            stopping = Thread(target=server.stop, daemon=True)
            began = time.monotonic()
            stopping.start()
            for _ in lines:
                pass
            seconds = time.monotonic() - began
        stopping.join()
        assert seconds < (2.5 if name == "hypercorn" else 12)
