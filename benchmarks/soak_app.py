"""The app of a soak: that of the crash tests, with one client for all its threads, and it tells what its memory holds.

A client for every call would bring a TLS context each time, which waits for the next full garbage collection: such an
app grows and shrinks by megabytes of its own.
"""

import ctypes
import sys

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.crash.app import ALONE, URL, app, named, question

__all__ = ["app"]

# where several threads share a pool httpcore may close a connection that has just been given to one of them, as expired
client = httpx.Client(**ALONE, limits=httpx.Limits(keepalive_expiry=None))


class Malloc(ctypes.Structure):
    """``struct mallinfo2`` of glibc: bytes of all its arenas together."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
        )
    ]  # fmt: skip


library = ctypes.CDLL(None)
library.mallinfo2.restype = Malloc


def kept(request: Request) -> Response:
    """A whole answer, in a thread."""
    id = request.path_params["id"]
    client.post(URL, json=question(), headers=named(id)).raise_for_status()
    return PlainTextResponse(id)


async def memory(request: Request) -> Response:
    """Bytes that malloc has given out, bytes that it keeps for later, and blocks of Python's own allocator in use."""
    told = library.mallinfo2()
    return JSONResponse(
        {"used": told.uordblks + told.hblkhd, "spare": told.fordblks, "blocks": sys.getallocatedblocks()}
    )


app.router.routes += [Route("/kept/{id}", kept), Route("/memory", memory)]
