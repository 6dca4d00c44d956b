"""The one line that a user adds: ``app.add_middleware(LLMObsMiddleware)``."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from asgi_llmobs.capture.clients import instrument_for
from asgi_llmobs.capture.incoming import MARKER, watch
from asgi_llmobs.capture.recorder import effective
from asgi_llmobs.replay import Replayer
from asgi_llmobs.runtime import LLMObs, current_engine
from asgi_llmobs.safely import safely

__all__ = ["LLMObsMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

UNSET: Any = object()
STOP_SECONDS = 4.0  # of a graceful stop, until which everything that is finished should be stored


class LLMObsMiddleware:
    """Links the LLM calls of an app to the requests that cause them, and serves the admin.

    Args:
        app: The ASGI app inside.
        obs: The engine; the one made last, or a new one with *options*, where none is given.
        admin: The path that the admin is served at, ``None`` to serve none; the option ``admin`` unless given.
        replay: A client of the app's, or a function, through which operators may send recorded calls again, see
            :mod:`asgi_llmobs.replay`; unless given nobody may.
        **options: Options of a new engine, see :class:`asgi_llmobs.LLMObs`.

    Raises:
        ConfigError: An option is unknown or its value cannot work.
    """

    def __init__(
        self,
        app: App,
        /,
        *,
        obs: LLMObs | None = None,
        admin: str | None = UNSET,
        replay: Any = None,
        **options: Any,
    ) -> None:
        self.app = app
        if admin is not UNSET and obs is None:
            options["admin"] = admin
        if obs is None:
            obs = LLMObs(**options) if options else current_engine(LLMObs)
        assert obs is not None
        self.obs = obs
        self._replayer = Replayer(replay, obs.flush) if replay is not None else None
        path = obs.config.admin if admin is UNSET else admin
        self._admin_path = path.rstrip("/") if path else None
        # an encoded slash after the prefix is no slash: the path as it was sent must have it too
        self._admin_sent = re.compile(re.escape(quote(self._admin_path or "").encode()) + rb"(?=[/?]|$)")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection; types we do not know pass untouched."""
        kind = scope["type"]
        if kind in ("http", "websocket"):
            if MARKER in scope:
                await self.app(scope, receive, send)
                return
            recorder = self.obs.recorder
            inner: Scope | None = None
            with safely("arrival"):
                if kind == "http":
                    inner = self._admin_scope(scope)
                scope[MARKER] = True
                recorder = effective(recorder)
                instrument_for(recorder)
            if inner is not None:
                await self._serve_admin(inner, receive, send)
            else:
                await watch(self.app, scope, receive, send, recorder)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _admin_scope(self, scope: Scope) -> Scope | None:
        """The scope that a mounted app would get, ``None`` where the path is not below the admin's.

        Some servers put ``root_path`` into ``path``, others do not; the admin always gets it in.
        """
        path, prefix = scope.get("path", ""), self._admin_path
        if prefix is None or prefix not in path:
            return None
        root = scope.get("root_path", "").rstrip("/")
        if root and path.startswith(root + "/"):
            path = path[len(root) :]
        if not path.startswith(prefix) or path[len(prefix) : len(prefix) + 1] not in ("", "/"):
            return None
        sent = scope.get("raw_path")
        if sent and not self._admin_sent.search(sent):
            return None
        return {**scope, "root_path": root + prefix, "path": root + path, MARKER: True}

    async def _serve_admin(self, scope: Scope, receive: Receive, send: Send) -> None:
        import anyio.to_thread  # not needed before the admin is opened

        # the first time loads templates and database drivers: not on the event loop
        limiter = anyio.CapacityLimiter(1)
        admin = await anyio.to_thread.run_sync(self.obs.default_admin, self._replayer, limiter=limiter)
        await admin(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        with safely("start"):
            self.obs.start()

        async def watched_send(message: Message) -> None:
            if message.get("type") in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                with safely("stop"):
                    await self._stop()
            await send(message)

        await self.app(scope, receive, watched_send)

    async def _stop(self) -> None:
        import anyio.to_thread  # as above

        await anyio.to_thread.run_sync(self.obs.close, STOP_SECONDS, limiter=anyio.CapacityLimiter(1))
