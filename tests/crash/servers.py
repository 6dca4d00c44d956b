"""Real servers in processes of their own, under load, stopped in every way that servers are."""

import http.client
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.processes import free_port, listening

APP = "tests.crash.app:app"
Command = Callable[[int], Sequence[str]]
WAYS = ("call", "stream", "sync")


def uvicorn(*options: str) -> Command:
    return lambda port: ["uvicorn", APP, "--port", str(port), "--log-level", "warning", *options]


def gunicorn(*options: str) -> Command:
    return lambda port: ["gunicorn", APP, "-b", f"127.0.0.1:{port}", "--log-level", "warning", "-w", "2", *options]


def hypercorn(*options: str) -> Command:
    return lambda port: ["hypercorn", APP, "--bind", f"127.0.0.1:{port}", *options]


def granian(*options: str) -> Command:
    return lambda port: ["granian", APP, "--interface", "asgi", "--port", str(port), "--log-level", "warning", *options]


# how each is started on a port
SERVERS: dict[str, Command] = {
    "uvicorn": uvicorn(),
    "uvicorn-2": uvicorn("--workers", "2"),
    "uvicorn-4": uvicorn("--workers", "4"),
    "uvicorn-reload": uvicorn("--reload", "--reload-dir", "tests/crash"),
    "uvicorn-no-lifespan": uvicorn("--lifespan", "off"),
    "uvicorn-grace": uvicorn("--timeout-graceful-shutdown", "1"),
    "gunicorn": gunicorn("-k", "uvicorn.workers.UvicornWorker"),
    "gunicorn-preload": gunicorn("-k", "uvicorn.workers.UvicornWorker", "--preload"),
    "gunicorn-asgi": gunicorn("-k", "asgi"),
    "gunicorn-asgi-preload": gunicorn("-k", "asgi", "--preload"),
    "hypercorn": hypercorn(),
    "hypercorn-2": hypercorn("--workers", "2"),
    "hypercorn-trio": hypercorn("--worker-class", "trio"),
    "granian": granian(),
    "granian-2": granian("--workers", "2", "--respawn-failed-workers"),
    "daphne": lambda port: ["daphne", "-p", str(port), "-v", "0", APP],
}
# no lifespan is sent, or, by hypercorn with several workers, cut off: what was not stored yet comes with the next start
NO_LIFESPAN = ("uvicorn-no-lifespan", "daphne", "hypercorn-2")


def weighed(slow: Sequence[str], long: Sequence[str]) -> list[Any]:
    """Servers as parameters: those that CI runs, and those that are run before a release."""
    marks = [(name, pytest.mark.slow) for name in slow] + [(name, pytest.mark.long) for name in long]
    return [pytest.param(name, marks=mark) for name, mark in marks]


class Server:
    """A server under way."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.port = port

    def get(self, path: str) -> str:
        """The text of an answer; every call is a connection of its own, so that any worker may take it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == 200, text
            return text
        finally:
            connection.close()

    def pids(self, count: int) -> list[int]:
        """The processes that answer, *count* of them."""
        found: dict[int, None] = {}
        until = time.monotonic() + 20
        while len(found) < count:
            assert time.monotonic() < until, found
            with suppress(OSError):
                found[int(self.get("/pid"))] = None
        return list(found)

    def signal(self, *signals: signal.Signals, apart: float = 0.1) -> None:
        for number, each in enumerate(signals):
            if number:
                time.sleep(apart)
            with suppress(ProcessLookupError):
                self.process.send_signal(each)

    def wait(self, seconds: float = 40.0) -> None:
        """Until it has ended."""
        self.process.wait(seconds)


class Load:
    """Clients that keep their connections and ask as fast as they get answers.

    Attributes:
        acknowledged: The ids whose whole answer came.
        sent: The ids that were asked for.
    """

    def __init__(self, server: Server, clients: int = 4, ways: Sequence[str] = WAYS, turn: int = 0) -> None:
        self.acknowledged: list[str] = []
        self.sent: list[str] = []
        self._server = server
        self._ways = ways
        self._turn = turn
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def wait_for(self, count: int) -> None:
        """Until that many answers came."""
        until = time.monotonic() + 30
        while len(self.acknowledged) < count:
            assert time.monotonic() < until, f"{len(self.acknowledged)} of {count} answers"
            time.sleep(0.01)

    def _work(self, client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=10)
        number = 0
        while not self._over.is_set():
            number += 1
            id = f"{self._turn}-{client}-{number}"
            self.sent.append(id)
            try:
                connection.request("GET", f"/{self._ways[number % len(self._ways)]}/{id}")
                answer = connection.getresponse()
                if answer.status == 200 and answer.read().endswith(id.encode()):
                    self.acknowledged.append(id)
                else:
                    connection.close()
            except (OSError, http.client.HTTPException):
                connection.close()
                self._over.wait(0.05)  # it stops, or another worker is about to come
        connection.close()


@contextmanager
def served(command: Command, **environment: str) -> Iterator[Server]:
    """A server, until the block ends; what it printed is shown where the test fails."""
    port = free_port()
    known = {name: value for name, value in os.environ.items() if name != "PYTEST_VERSION"}
    with listening(command(port), port, "/pid", {**known, "PYTHONWARNINGS": "ignore", **environment}) as process:
        yield Server(process, port)
