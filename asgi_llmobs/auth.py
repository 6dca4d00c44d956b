"""Who may open the admin: ``allow(callable)``, ``token("…")``, ``basic("user", "password")``.

Each is a value for ``auth=`` of :class:`asgi_llmobs.LLMObs` and of ``obs.admin()``; where it is given it decides alone.
"""

import enum
import functools
import hashlib
import hmac
import inspect
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from asgi_llmobs.errors import ConfigError

__all__ = [
    "Allow",
    "Basic",
    "Role",
    "Secret",
    "Token",
    "allow",
    "basic",
    "digest",
    "is_async",
    "role_of",
    "token",
    "user_of",
]

SHORTEST_TOKEN = 8

Verdict = str | bool | None


class Role(enum.StrEnum):
    """What a visitor may do: each role all that the ones before it may, except ``ingest``, which stands apart."""

    METRICS = "metrics"  # numbers only
    VIEWER = "viewer"  # lists and trees without prompts, answers and bodies
    READER = "reader"  # content too
    ANALYST = "analyst"
    OPERATOR = "operator"
    OWNER = "owner"
    INGEST = "ingest"  # may only send data in


def role_of(verdict: Any) -> Role | None:
    """The role that the answer of an ``auth`` callable stands for; ``None`` (refused) for whatever is not one.

    ``True`` is ``owner``. A name that is no role is refused, never rounded to one.
    """
    if verdict is True:
        return Role.OWNER
    if isinstance(verdict, str) and verdict in tuple(Role):
        return Role(verdict)
    return None


def digest(secret: str) -> bytes:
    """What of a secret is kept in memory: comparing digests takes the same time whatever differs."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that can only be compared with."""

    value: bytes = field(repr=False)

    @classmethod
    def of(cls, text: str) -> "Secret":
        return cls(digest(text))

    def matches(self, text: str) -> bool:
        """Whether *text* is the secret, in constant time."""
        return hmac.compare_digest(self.value, digest(text))


@dataclass(frozen=True, slots=True)
class Allow:
    """The app decides: see :func:`allow`."""

    decide: Callable[[Any], Verdict | Awaitable[Verdict]]


@dataclass(frozen=True, slots=True)
class Token:
    """Whoever has the token may enter: see :func:`token`."""

    secret: Secret
    role: Role = Role.OWNER

    def check(self, text: str) -> Role | None:
        """The role, if *text* is the token."""
        return self.role if self.secret.matches(text) else None


@dataclass(frozen=True, slots=True)
class Basic:
    """HTTP Basic authentication: see :func:`basic`."""

    user: Secret
    password: Secret
    role: Role = Role.OWNER

    def check(self, credentials: str) -> Role | None:
        """The role, if *credentials* (the part of the header behind ``Basic``) are right."""
        user, _, password = decoded(credentials).partition(":")
        right = [self.user.matches(user), self.password.matches(password)]  # both always: no hint which one was wrong
        return self.role if all(right) else None


def decoded(credentials: str) -> str:
    try:
        return b64decode(credentials, validate=True).decode("utf-8", "surrogateescape")
    except (Base64Error, ValueError):
        return ""


def user_of(credentials: str) -> str:
    """The name in HTTP Basic *credentials*, right or wrong."""
    return decoded(credentials).partition(":")[0]


def allow(decide: Callable[[Any], Verdict | Awaitable[Verdict]]) -> Allow:
    """Let the app decide who may open the admin.

    Args:
        decide: Called with the Starlette request; returns a role (``"viewer"``, ``"owner"`` …), ``True`` for owner,
            or ``None`` or ``False`` to refuse. Sync (it then runs in a worker thread) or async. If it raises, the
            visitor is refused.

    Raises:
        ConfigError: *decide* is not callable.
    """
    if not callable(decide):
        raise ConfigError("auth", f"allow() takes a callable over the request, not {type(decide).__name__}")
    return Allow(decide)


def _are_texts(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def token(secret: str, *, role: str = Role.OWNER) -> Token:
    """One token, typed into the sign-in page or sent as ``Authorization: Bearer …``.

    Args:
        secret: The token, at least 8 characters.
        role: What its holder may do.

    Raises:
        ConfigError: The token is too short or the role unknown.
    """
    if not _are_texts(secret) or len(secret.strip()) < SHORTEST_TOKEN:
        raise ConfigError("auth", f"a token needs at least {SHORTEST_TOKEN} characters")
    return Token(Secret.of(secret.strip()), _known(role))


def basic(user: str, password: str, *, role: str = Role.OWNER) -> Basic:
    """HTTP Basic authentication, asked for by the browser itself.

    Args:
        user: The name.
        password: The password, not empty.
        role: What they may do.

    Raises:
        ConfigError: A part is missing or the role unknown.
    """
    if not _are_texts(user, password) or not user or not password or ":" in user:
        raise ConfigError("auth", "basic() takes a user without a colon and a password, both not empty")
    return Basic(Secret.of(user), Secret.of(password), _known(role))


def is_async(function: Any) -> bool:
    """Whether calling *function* gives a coroutine, seen through ``functools.partial`` and callable objects."""
    while isinstance(function, functools.partial):
        function = function.func
    method = getattr(type(function), "__call__", None)  # noqa: B004 - of an object, not whether it is callable
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(method)


def _known(role: str) -> Role:
    if role not in tuple(Role):
        raise ConfigError("auth", f"{role!r} is no role; the roles are {', '.join(Role)}")
    return Role(role)
