"""A provider on a socket that keeps to no rule: what it sends, when it hangs and how it hangs up is a script."""

import asyncio
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

__all__ = ["HANG", "RESET", "Upstream"]

RESET, HANG = "reset", "hang"  # in place of bytes


class Upstream:
    """A server in a thread of its own. The first part of a path names the script."""

    def __init__(self) -> None:
        self.scripts: dict[str, Sequence[Any]] = {}
        self._received: dict[str, list[bytes]] = defaultdict(list)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(40)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(40)

    def url(self, name: str, path: str = "/v1/chat/completions") -> str:
        return f"{self.address}/{name}{path}"

    def received(self, url: str) -> list[bytes]:
        """The bytes of the requests that came since the last time, as they came."""
        return self._received.pop(urlsplit(url).path.split("/")[1], [])

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.address = f"http://{host}:{port}"
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await read_body(head, reader)
        name = head.split(b" ")[1].split(b"/")[1].decode()
        self._received[name].append(head + body)
        for step in self.scripts[name]:
            if step == HANG:
                await reader.read(1)
                return False
            if step == RESET:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                await asyncio.sleep(0.01)  # what was sent is to arrive before the reset
                writer.close()
                return False
            if isinstance(step, float):
                await asyncio.sleep(step)
                continue
            writer.write(step)
            await writer.drain()
        return self.scripts[name][-1:] != (b"",)


async def read_body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    lines = head.lower().split(b"\r\n")
    for line in lines:
        if line.startswith(b"content-length:"):
            return await reader.readexactly(int(line.partition(b":")[2]))
    if b"transfer-encoding: chunked" not in lines:
        return b""
    body = b""
    while not body.endswith(b"0\r\n\r\n"):
        body += await reader.readline()
    return body
