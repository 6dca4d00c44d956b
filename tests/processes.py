"""Programs in processes of their own that listen on a port of this machine."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

__all__ = ["ROOT", "crowd", "free_port", "listening"]

ROOT = Path(__file__).parents[1]
Process = subprocess.Popen[str]


def crowd() -> float:
    """How many times longer anything takes on this machine just now."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def listening(module: Sequence[str], port: int, path: str, environment: Mapping[str, str]) -> Iterator[Process]:
    """``python -m`` *module*, from its first answer on until the block ends; what it printed is shown if a test fails.

    Args:
        module: Its name and its arguments.
        port: Where it listens.
        path: What it is asked for until it answers.
        environment: Its variables, all of them.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", *module],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        answering(process, port, path)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        print(process.communicate()[0])


def answering(process: Process, port: int, path: str) -> None:
    until = time.monotonic() + 30
    while True:
        assert process.poll() is None, process.communicate()[0]
        with (
            suppress(OSError, http.client.HTTPException),
            closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection,
        ):
            connection.request("GET", path)
            connection.getresponse().read()
            return
        assert time.monotonic() < until, "the server did not come up"
        time.sleep(0.05)
