"""Sending a recorded call again through a client of the host's: we store no keys, so the host's client must send it.

    app.mount("/_llmobs", obs.admin(auth=…, replay=AsyncOpenAI()))

The call goes only where that client is set up to go: a record cannot lead its key to another host.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from asgi_llmobs.capture.blocks import trace
from asgi_llmobs.errors import ConfigError
from asgi_llmobs.frozen import record
from asgi_llmobs.records import REPLAY_OF, Request
from asgi_llmobs.safely import safely

__all__ = ["Again", "Replayer"]

SECONDS = 120.0  # that an async client may take
STORED_SECONDS = 5.0  # that its record may take to be stored
FIX = "give an httpx or SDK client with a base_url, or a function of one argument"


@record(frozen=True, slots=True, kw_only=True)
class Again:
    """A call to be made again, for a ``replay=`` that is a function."""

    url: str  # without keys
    body: Mapping[str, Any]  # as it was edited
    request: Request  # as it was recorded


class Replayer:
    """Sends calls again.

    Args:
        through: An httpx or httpx2 client, sync or async, or an SDK object with ``base_url`` and ``post``; or a
            function, sync or async, that is given an :class:`Again` and makes the call.
        flush: Waits until what was captured is stored.

    Raises:
        ConfigError: *through* is none of these, or has no ``base_url`` that tells where its key may go.
    """

    def __init__(self, through: Any, flush: Callable[[float], Any]) -> None:
        self.through = through
        self._flush = flush
        self._client = hasattr(through, "base_url")
        if not self._client and not callable(through):
            raise ConfigError("replay", f"{type(through).__name__} cannot make a call: {FIX}")
        if self._client and not origin_of(str(through.base_url))[1]:
            raise ConfigError("replay", f"the client has no base_url, so nobody knows where its key may go: {FIX}")

    def refusal(self, url: str) -> str | None:
        """Why a call to *url* is not sent; ``None`` where it may be."""
        if not self._client or origin_of(url) == origin_of(str(self.through.base_url)):
            return None
        there, here = origin_of(url)[1], origin_of(str(self.through.base_url))[1]
        return f"The call went to {there}; the app's client, and its key, is for {here} only."

    def send(self, url: str, body: Mapping[str, Any], request: Request) -> str | None:
        """Make the call, in a trace of its own, and wait until it is stored. Blocks; for a worker thread of anyio.

        A call that fails is recorded like any other.

        Args:
            url: Where to; :meth:`refusal` has nothing against it.
            body: What is sent.
            request: What was sent the first time.

        Returns:
            The trace id; ``None`` where nothing is recorded.
        """
        with trace(f"replay of {request.name}", **{REPLAY_OF: request.id}) as root:
            with safely("replay"):
                self._make(Again(url=url, body=body, request=request))
        self._flush(STORED_SECONDS)
        return root.trace_id

    def _make(self, again: Again) -> None:
        answer = self._answer(again)
        if inspect.isawaitable(answer):
            import anyio.from_thread  # keeps `import asgi_llmobs` light

            anyio.from_thread.run(awaited, answer)

    def _answer(self, again: Again) -> Any:
        if not self._client:
            return self.through(again)
        if hasattr(self.through, "build_request") and hasattr(self.through, "send"):
            # never another method: a record that was taken in from outside must not make the app's key delete a thing
            return self.through.request("POST", again.url, json=dict(again.body))
        return self.through.post(again.url, body=dict(again.body), cast_to=object)


async def awaited(answer: Awaitable[Any]) -> Any:
    """What *answer* gives, in the host's event loop.

    Raises:
        TimeoutError: It takes longer than two minutes.
    """
    import anyio  # as above

    with anyio.fail_after(SECONDS):
        return await answer


def origin_of(url: str) -> tuple[str, str]:
    """Scheme and host of an address; what anybody could claim in front of the host is no part of it."""
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.rpartition("@")[2].lower()
