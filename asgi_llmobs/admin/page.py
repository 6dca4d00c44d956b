"""What an address is: a page, a download or an action, each with its load function and the permission it needs."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from asgi_llmobs.admin.formats import from_reference
from asgi_llmobs.auth import Role
from asgi_llmobs.config import Config
from asgi_llmobs.errors import LLMObsError
from asgi_llmobs.store.database import Database

__all__ = [
    "Action",
    "Denied",
    "Done",
    "Download",
    "Feed",
    "File",
    "NotFound",
    "Page",
    "Permission",
    "Route",
    "View",
    "allowed",
    "match",
]

LADDER = (Role.METRICS, Role.VIEWER, Role.READER, Role.ANALYST, Role.OPERATOR, Role.OWNER)


class Permission(enum.Enum):
    """What a route needs: the lowest role that may open it."""

    METRICS = Role.METRICS
    VIEW = Role.VIEWER
    READ = Role.READER
    ANALYSE = Role.ANALYST
    OPERATE = Role.OPERATOR
    OWN = Role.OWNER
    INGEST = Role.INGEST


def allowed(role: Role | None, permission: Permission) -> bool:
    """Whether *role* may do what needs *permission*."""
    if role is None:
        return False
    if role is Role.INGEST or permission is Permission.INGEST:
        return role is permission.value
    return LADDER.index(role) >= LADDER.index(permission.value)


class NotFound(LLMObsError):
    """There is nothing at this address."""


class Denied(LLMObsError):
    """The visitor may come here, but not do this to that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a load function is given."""

    database: Database
    project: str
    role: Role
    config: Config
    who: str | None = None  # the visitor's name, where one is known
    params: Mapping[str, str] = field(default_factory=dict)  # from the path
    query: tuple[tuple[str, str], ...] = ()  # from the address, in order
    fields: Mapping[str, str] = field(default_factory=dict)  # of an action: the form or the JSON object that was sent
    resume: str = ""  # of a feed: the last event that a browser has seen which comes again
    stats: Callable[[], Any] | None = None
    variables: Mapping[str, bool] = field(default_factory=dict)  # of the environment, no options: whether they are set
    replay: Any = None  # sends a call again, see asgi_llmobs.replay; None: nobody may

    def may(self, permission: Permission) -> bool:
        """Whether the visitor may do what needs *permission*."""
        return allowed(self.role, permission)

    @property
    def author(self) -> str:
        """Whom what the visitor writes is from: their name, else their role."""
        return self.who or str(self.role)

    @property
    def content(self) -> bool:
        """Whether the visitor may see prompts, answers and bodies."""
        return self.may(Permission.READ)

    def all(self, name: str) -> list[str]:
        """Every value of *name* in the address."""
        return [value for key, value in self.query if key == name]

    def get(self, name: str, default: str = "") -> str:
        """The last value of *name* in the address."""
        return next((value for key, value in reversed(self.query) if key == name), default)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Something to download: never shown by the browser, but for an image of a kind that we have looked at."""

    content: bytes
    name: str
    image_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What an action has done: where a form goes on, and what a program is told."""

    next: str = "./"  # from the mount, with an anchor if need be: ./requests/1#scores
    value: Any = None


@dataclass(frozen=True, kw_only=True)
class Route:
    """An address below the mount. ``{name}`` stands for one segment; *permission* has no default on purpose."""

    slug: str
    load: Callable[[View], Any]
    permission: Permission

    def __post_init__(self) -> None:
        if not isinstance(self.permission, Permission):
            raise TypeError(f"the route {self.slug!r} must declare a Permission, not {self.permission!r}")

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.slug.split("/"))


@dataclass(frozen=True, kw_only=True)
class Page(Route):
    """A page and its JSON twin: ``load`` makes the one mapping that both show, or a :class:`Done` that leads on."""

    title: str
    template: str
    nav: bool = False  # whether it stands in the menu


@dataclass(frozen=True, kw_only=True)
class Download(Route):
    """An address that hands out a :class:`File` as an attachment; it has no twin."""


@dataclass(frozen=True, kw_only=True)
class Action(Route):
    """An address that changes something, by POST only; ``load`` finds what was sent in ``view.fields``.

    A form goes on to the ``next`` of the :class:`Done` that *load* gives back. Whoever sends JSON, or asks for the
    address with ``.json``, gets its ``value``. A page may have the same address: it is what GET shows.
    """

    load: Callable[[View], Done]


@dataclass(frozen=True, kw_only=True)
class Feed(Route):
    """An address that goes on telling what happens, as server-sent events; *load* gives back its answer."""

    load: Callable[[View], Response]


def match(route: Route, segments: tuple[str, ...]) -> dict[str, str] | None:
    """The parameters of *route* in the path *segments*, ``None`` where it is another address."""
    if len(segments) != len(route.segments):
        return None
    params: dict[str, str] = {}
    for pattern, segment in zip(route.segments, segments, strict=True):
        if pattern.startswith("{"):
            params[pattern[1:-1]] = from_reference(segment)
        elif pattern != segment:
            return None
    return params
