"""The lock: who the visitor is, and which role that gives. See the order in :class:`Lock`."""

import ipaddress
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from starlette.requests import Request

from asgi_llmobs.admin.throttle import Throttle
from asgi_llmobs.admin.workers import in_thread
from asgi_llmobs.auth import Allow, Basic, Role, Secret, Token, digest, is_async, role_of, user_of
from asgi_llmobs.config import truthy
from asgi_llmobs.errors import ConfigError, StoreError
from asgi_llmobs.safely import safely
from asgi_llmobs.store.signins import LINK_SECONDS, SignIns

__all__ = ["Decision", "Lock", "cookie_name", "is_local"]

logger = logging.getLogger("asgi_llmobs")

# beginnings of the headers that proxies, load balancers and CDNs add
FORWARDING = (
    "cf-",
    "fastly-",
    "fly-",
    "forwarded",
    "true-client-ip",
    "via",
    "x-azure-",
    "x-client-ip",
    "x-cluster-",
    "x-envoy-",
    "x-forward",
    "x-original-",
    "x-proxy",
    "x-real-ip",
    "x-remote-",
)
LONGEST_NAME = 200
Challenge = Literal["form", "basic", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the lock says: a role, or how the visitor may get one."""

    role: Role | None = None
    challenge: Challenge = "none"
    development: bool = False  # open only because of a development signal and a local visitor
    retry_after: int = 0  # seconds; above 0: too many wrong tries
    who: str | None = None  # their name, where one is known


def cookie_name(secure: bool) -> str:
    """The session cookie; with TLS a name that no other site can plant without TLS."""
    return "__Secure-llmobs" if secure else "llmobs"


def is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def is_local(request: Request) -> bool:
    """Whether the peer itself sits on this machine and asked for this machine, with nobody in between."""
    client = request.scope.get("client")
    if not client or not isinstance(client[0], str) or not is_loopback(client[0]):
        return False
    if any(name.lower().startswith(FORWARDING) for name in request.headers):
        return False
    # browsers gave it up in the nineties; a proxy that is not told otherwise, as nginx, speaks it, with its own Host
    if request.scope.get("http_version") == "1.0":
        return False
    hosts = request.headers.getlist("host")
    if len(hosts) != 1:
        return False
    name = hosts[0]
    if name.startswith("["):
        name, bracket, port = name[1:].partition("]")
        if not bracket or (port and not (port.startswith(":") and port[1:].isdigit())):
            return False
    elif name.count(":") == 1:
        name, _, port = name.partition(":")
        if not port.isdigit():
            return False
    return name.lower() == "localhost" or is_loopback(name)


class Lock:
    """Decides in this order:

    1. ``auth=`` alone, where it is given.
    2. ``LLMOBS_ADMIN_TOKEN`` or ``LLMOBS_ADMIN_PASSWORD``: bearer token, or the sign-in page and its cookie.
    3. Open, with a development signal and a direct visitor from this machine; never with ``LLMOBS_STRICT=1``.
    4. Locked: the log gets a sign-in link that works once.

    ``LLMOBS_INGEST_TOKEN`` lets whoever bears it send data in and nothing else, whatever opens the pages; but
    where ``auth=`` is a callable, that decides alone.
    """

    def __init__(
        self, auth: Any, sign_ins: SignIns, environ: Mapping[str, str], argv: Sequence[str], project: str = "default"
    ) -> None:
        self.auth = checked(auth)
        self.sign_ins = sign_ins
        self.project = project
        self.throttle = Throttle()
        self.strict = truthy(environ.get("LLMOBS_STRICT"))
        self.development = (
            truthy(environ.get("LLMOBS_DEV"))
            or environ.get("FASTAPI_ENV", "").strip().lower() == "development"
            or "--reload" in argv
        )
        self.tokens = tokens_of(auth, environ)
        self.ingest = ingest_token(environ)
        self._link_until = 0.0

    @property
    def challenge(self) -> Challenge:
        """How a stranger may sign in."""
        if isinstance(self.auth, Basic):
            return "basic"
        return "none" if isinstance(self.auth, Allow) else "form"

    @property
    def asks(self) -> Literal["token", "code"]:
        """What the sign-in page asks for."""
        return "token" if self.tokens else "code"

    async def decide(self, request: Request) -> Decision:
        """Who this visitor is."""
        if isinstance(self.auth, Allow):
            return Decision(role=await self._ask(self.auth, request), who=name_of(request))
        wait = self.throttle.wait(peer(request))
        credentials = request.headers.get("authorization", "")
        scheme, _, value = credentials.partition(" ")
        if self.ingest is not None and scheme.lower() == "bearer" and not wait and self.ingest.check(value.strip()):
            return Decision(role=Role.INGEST)
        if isinstance(self.auth, Basic):
            if scheme.lower() == "bearer" and self.ingest is not None and not wait:
                self.throttle.note(peer(request), good=False)
            return self._basic(self.auth, request, scheme, value.strip(), wait)
        if scheme.lower() == "bearer" and (self.tokens or self.ingest):
            if wait:
                return Decision(challenge="form", retry_after=wait)
            return Decision(role=self.check(request, value.strip()), challenge="form")
        role = await self._signed_in(request)
        if role is None and not self.tokens and self.is_open(request):
            return Decision(role=Role.OWNER, development=True)
        return Decision(role=role, challenge="form")

    def is_open(self, request: Request) -> bool:
        """Whether rule 3 lets this visitor in."""
        if self.strict or not (self.development or bool(getattr(request.scope.get("app"), "debug", False))):
            return False
        return is_local(request)

    def check(self, request: Request, text: str) -> Role | None:
        """The role that the token *text* gives; a wrong one counts against the peer."""
        role: Role | None = None
        for each in self.tokens:
            role = each.check(text.strip()) or role
        self.throttle.note(peer(request), good=role is not None)
        return role

    def wait(self, request: Request) -> int:
        """Seconds until the visitor may try again on the sign-in page."""
        return self.throttle.wait(peer(request), crowd=True)

    async def sign_in(self, request: Request, text: str) -> tuple[str, Role] | None:
        """A fresh session (the cookie's value and its role) for a right token or code, ``None`` for a wrong one."""
        role = self.check(request, text) if self.tokens else await self._redeem(request, text)
        if role is None:
            return None
        return await in_thread(self.sign_ins.start, role, self._credential), role

    async def sign_out(self, request: Request) -> None:
        """End the visitor's session in the store, so that its cookie is worth nothing anywhere."""
        for value in cookies(request):
            await in_thread(self.sign_ins.end, value, self._credential)

    async def announce(self, request: Request) -> None:
        """Log a sign-in link, at most one while the last is valid. Only where nothing else opens the lock."""
        if self.tokens or self.challenge != "form" or time.monotonic() < self._link_until:
            return
        self._link_until = time.monotonic() + LINK_SECONDS
        with safely("admin sign-in link"):
            try:
                code = await in_thread(self.sign_ins.issue, self._credential)
            except StoreError:
                self._link_until = 0.0  # the next visitor may find the store well again
                raise
            logger.warning(
                "asgi_llmobs: the admin is locked. Sign in once, within 10 minutes, at %s#%s (behind a proxy put your "
                "own address in front)", link(request.scope), code,
            )  # fmt: skip

    @property
    def _credential(self) -> bytes:
        """What codes and sessions hang on: with another token, role or project, those of the old one end."""
        tokens = (each.secret.value + each.role.encode() for each in self.tokens)
        return b"".join((digest(self.project), *tokens))

    async def _redeem(self, request: Request, text: str) -> Role | None:
        good = await in_thread(self.sign_ins.redeem, text, self._credential)
        self.throttle.note(peer(request), good=good)
        if good:
            self._link_until = 0.0
        return Role.OWNER if good else None

    async def _signed_in(self, request: Request) -> Role | None:
        for value in cookies(request):
            with safely("admin session"):
                role = await in_thread(self.sign_ins.role, value, self._credential)
                if role is not None:
                    return role
        return None

    def _basic(self, auth: Basic, request: Request, scheme: str, value: str, wait: int) -> Decision:
        if wait and scheme:
            return Decision(challenge="basic", retry_after=wait)
        if scheme.lower() != "basic":
            return Decision(challenge="basic")
        role = auth.check(value)
        self.throttle.note(peer(request), good=role is not None)
        return Decision(role=role, challenge="basic", who=user_of(value) if role is not None else None)

    async def _ask(self, auth: Allow, request: Request) -> Role | None:
        with safely("admin auth"):
            return role_of(await answer(auth.decide, request))
        return None


async def answer(decide: Callable[[Any], Any], request: Request) -> Any:
    """What the app's callable says, sync or async, never on the event loop if it may block."""
    verdict = decide(request) if is_async(decide) else await in_thread(decide, request)
    return await verdict if isinstance(verdict, Awaitable) else verdict


def name_of(request: Request) -> str | None:
    """The user that the app's own authentication knows, as Starlette's ``AuthenticationMiddleware`` leaves it."""
    with safely("admin user"):
        user = request.scope.get("user")
        if getattr(user, "is_authenticated", False):
            return str(getattr(user, "display_name", "") or getattr(user, "identity", ""))[:LONGEST_NAME] or None
    return None


def checked(auth: Any) -> Allow | Token | Basic | None:
    if auth is None or isinstance(auth, Allow | Token | Basic):
        return auth
    if callable(auth):
        return Allow(auth)
    raise ConfigError("auth", "give allow(callable), token('…') or basic(user, password) of asgi_llmobs.auth")


def tokens_of(auth: Any, environ: Mapping[str, str]) -> tuple[Token, ...]:
    if isinstance(auth, Token):
        return (auth,)
    if auth is not None:
        return ()
    found = (environ.get(name, "").strip() for name in ("LLMOBS_ADMIN_TOKEN", "LLMOBS_ADMIN_PASSWORD"))
    return tuple(Token(Secret.of(text)) for text in found if text)


def ingest_token(environ: Mapping[str, str]) -> Token | None:
    text = environ.get("LLMOBS_INGEST_TOKEN", "").strip()
    return Token(Secret.of(text), Role.INGEST) if text else None


def cookies(request: Request) -> list[str]:
    """The values of our session cookie, from either name."""
    found = (request.cookies.get(cookie_name(secure)) for secure in (True, False))
    return [value for value in found if value]


def peer(request: Request) -> str:
    """Whose tries are counted together: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    client = request.scope.get("client")
    host = str(client[0]) if client else "unix"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:100]
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def link(scope: Mapping[str, Any]) -> str:
    """The address of the sign-in page for the log.

    Made of the socket, never of the Host header: a forged Host would carry the code to another site.
    """
    server = scope.get("server")
    path = quote(str(scope.get("root_path", "")) + "/login")
    if not server or server[1] is None:
        return path
    host = f"[{server[0]}]" if ":" in str(server[0]) else str(server[0])
    return f"{scope.get('scheme', 'http')}://{host}:{server[1]}{path}"


def environment() -> Mapping[str, str]:
    """The process's environment, read when asked."""
    return os.environ


def arguments() -> Sequence[str]:
    """The process's arguments, read when asked."""
    return sys.argv
