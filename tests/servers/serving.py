"""Real servers in processes of their own, and what they left in the database."""

import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.processes import free_port, listening

APP = "tests.servers.app:app"

# how each is started on a port
SERVERS: dict[str, Callable[[int], list[str]]] = {
    "uvicorn": lambda port: ["uvicorn", APP, "--port", str(port), "--loop", "asyncio", "--log-level", "warning"],
    "uvicorn-uvloop": lambda port: ["uvicorn", APP, "--port", str(port), "--loop", "uvloop", "--log-level", "warning"],
    "hypercorn": lambda port: ["hypercorn", APP, "--bind", f"127.0.0.1:{port}"],
    "hypercorn-trio": lambda port: ["hypercorn", APP, "--bind", f"127.0.0.1:{port}", "--worker-class", "trio"],
    "granian": lambda port: ["granian", APP, "--interface", "asgi", "--port", str(port), "--log-level", "warning"],
    "daphne": lambda port: ["daphne", "-p", str(port), "-v", "0", APP],
}


class Row(NamedTuple):
    """A stored span."""

    id: str
    trace_id: str
    parent_id: str | None
    kind: str
    name: str
    outcome: str
    status: int | None
    route: str | None
    output_preview: str | None


class Served:
    """A server under way."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, database: Path) -> None:
        self.process = process
        self.port = port
        self.database = database
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> str:
        return httpx.get(self.url + path, timeout=20).raise_for_status().text

    def leave_in_midstream(self) -> bytes:
        """Ask for the stream over a bare socket, read the beginning, and hang up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            got = b""
            while got.count(b"word") < 5:
                got += connection.recv(4096)
        return got

    def stop(self, how: signal.Signals = signal.SIGTERM) -> float:
        """Stop it; the seconds that it took."""
        started = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(20)
        return time.monotonic() - started

    def rows(self) -> list[Row]:
        connection = sqlite3.connect(self.database)
        try:
            return [Row(*row) for row in connection.execute(f"SELECT {', '.join(Row._fields)} FROM llmobs_spans")]
        finally:
            connection.close()

    def wait_for(self, found: Callable[[list[Row]], Any], seconds: float = 40) -> list[Row]:
        """The rows as soon as they are as they should be."""
        until = time.monotonic() + seconds
        while True:
            with suppress(sqlite3.OperationalError):
                rows = self.rows()
                if found(rows) or time.monotonic() > until:
                    return rows
            assert time.monotonic() < until, "nothing was stored"
            time.sleep(0.05)


@contextmanager
def served(command: Callable[[int], Sequence[str]], folder: Path, **environment: str) -> Iterator[Served]:
    """A server, until the block ends; what it printed is shown where the test fails."""
    port, database = free_port(), folder / "llmobs.db"
    known = {name: value for name, value in os.environ.items() if name != "PYTEST_VERSION"}
    ours = {**known, "LLMOBS_DATABASE_URL": f"sqlite:///{database}", **environment}
    with listening(command(port), port, "/plain", ours) as process:
        yield Served(process, port, database)
