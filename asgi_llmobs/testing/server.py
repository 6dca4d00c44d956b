"""An ASGI app on a real socket: uvicorn in a thread, on 127.0.0.1 and a free port."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["serve"]


@contextmanager
def serve(app: Any, *, host: str = "127.0.0.1", port: int = 0, seconds: float = 10.0, **options: Any) -> Iterator[str]:
    """Run *app* until the block ends and give its address, e.g. ``http://127.0.0.1:40123``.

    Args:
        app: Any ASGI application.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        seconds: How long to wait for the start and for the end.
        **options: Further options of ``uvicorn.Config``.

    Raises:
        ModuleNotFoundError: uvicorn is not installed.
        RuntimeError: The app did not start in time.
    """
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("serve() needs uvicorn: pip install uvicorn", name="uvicorn") from error
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
        given = {"log_level": "critical", "access_log": False, "ws": "none", **options}
        server = uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=2, **given))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True, name="llmobs-serve")
        thread.start()
        try:
            _wait_until_started(server, thread, seconds)
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(seconds)


def _wait_until_started(server: Any, thread: threading.Thread, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the app did not start: run it with log_level='info' to see why")
        time.sleep(0.005)
