"""The one line that a user adds: ``app.add_middleware(LLMObsMiddleware)``."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from asgi_llmobs.capture.clients import instrument
from asgi_llmobs.capture.incoming import MARKER, watch
from asgi_llmobs.runtime import LLMObs, current_engine
from asgi_llmobs.safely import safely

__all__ = ["LLMObsMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

UNSET: Any = object()


class LLMObsMiddleware:
    """Links the LLM calls of an app to the requests that cause them, and serves the admin.

    Args:
        app: The ASGI app inside.
        obs: The engine; the one made last, or a new one with *options*, where none is given.
        admin: The path that the admin is served at, ``None`` to serve none; the option ``admin`` unless given.
        **options: Options of a new engine, see :class:`asgi_llmobs.LLMObs`.

    Raises:
        ConfigError: An option is unknown or its value cannot work.
    """

    def __init__(self, app: App, *, obs: LLMObs | None = None, admin: str | None = UNSET, **options: Any) -> None:
        self.app = app
        if admin is not UNSET and obs is None:
            options["admin"] = admin
        if obs is None:
            obs = LLMObs(**options) if options else current_engine(LLMObs)
        assert obs is not None
        self.obs = obs
        path = obs.config.admin if admin is UNSET else admin
        self._admin_path = path.rstrip("/") if path else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection; types we do not know pass untouched."""
        kind = scope["type"]
        if kind in ("http", "websocket"):
            if MARKER in scope:
                await self.app(scope, receive, send)
                return
            if self._admin_path is not None and kind == "http":
                inner = self._admin_scope(scope)
                if inner is not None:
                    await self._serve_admin(inner, receive, send)
                    return
            scope[MARKER] = True
            if self.obs.config.instrument == "auto" and self.obs.recorder.active:
                instrument()
            await watch(self.app, scope, receive, send, self.obs.recorder)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _admin_scope(self, scope: Scope) -> Scope | None:
        """The scope that a mounted app would get, ``None`` where the path is not below the admin's.

        Some servers put ``root_path`` into ``path``, others do not; the admin always gets it in.
        """
        path, root = scope.get("path", ""), scope.get("root_path", "")
        prefix = self._admin_path
        assert prefix is not None
        if root and path.startswith(root + "/"):
            path = path[len(root) :]
        if not path.startswith(prefix) or path[len(prefix) : len(prefix) + 1] not in ("", "/"):
            return None
        return {**scope, "root_path": root + prefix, "path": root + path, MARKER: True}

    async def _serve_admin(self, scope: Scope, receive: Receive, send: Send) -> None:
        import anyio.to_thread  # noqa: PLC0415 - not needed before the admin is opened

        # the first time loads templates and database drivers: not on the event loop
        admin = await anyio.to_thread.run_sync(self.obs.default_admin, limiter=anyio.CapacityLimiter(1))
        await admin(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        with safely("start"):
            self.obs.start()

        async def watched_send(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self._stop()
            await send(message)

        await self.app(scope, receive, watched_send)

    async def _stop(self) -> None:
        import anyio.to_thread  # noqa: PLC0415 - as above

        with safely("stop"):
            await anyio.to_thread.run_sync(self.obs.close, limiter=anyio.CapacityLimiter(1))
