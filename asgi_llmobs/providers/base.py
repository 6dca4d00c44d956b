"""What a provider is: a name, the hosts it answers on, its routes, and for each route the dialect that reads it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from asgi_llmobs.frozen import record
from asgi_llmobs.patterns import compiled
from asgi_llmobs.records import Reading

__all__ = ["Dialect", "Match", "Provider", "Route", "Wire", "route"]


@record(frozen=True, slots=True, kw_only=True)
class Wire:
    """One HTTP exchange with content-encodings undone, as a dialect reads it. Everything may be cut short or garbage.

    Header names are lower case. ``status`` is ``None`` where no answer came. ``complete`` is false where the body
    broke off, was cancelled or was cut to the size limit.
    """

    method: str = "POST"
    url: str = ""
    host: str = ""
    path: str = ""  # percent-decoded, no query
    query: str = ""
    request_headers: Mapping[str, str] = field(default_factory=dict)
    request_body: bytes = b""
    status: int | None = 200
    response_headers: Mapping[str, str] = field(default_factory=dict)
    response_body: bytes = b""
    complete: bool = True


class Dialect(NamedTuple):
    """A wire format: its name (``openai.chat``), the operation it performs, and the function that reads it.

    ``read`` takes the wire and a reading that already names provider, api and operation, and fills in the rest. It
    never raises for what the wire holds, and adds a line to ``reading.warnings`` for what it could not read.
    """

    api: str
    operation: str
    read: Callable[[Wire, Reading], None]


class Route(NamedTuple):
    """A method and a pattern that is searched in the path. ``dialect`` is ``None`` for calls that are no LLM calls."""

    method: str
    pattern: str
    dialect: Dialect | None

    def answers(self, method: str, path: str) -> bool:
        """Whether a call is one of this route's."""
        return self.method == method and compiled(self.pattern).search(path) is not None


def route(method: str, pattern: str, dialect: Dialect | None) -> Route:
    """A :class:`Route`, its method in upper case."""
    return Route(method.upper(), pattern, dialect)


class Match(NamedTuple):
    """Who answers a call and in which dialect; made on the caller's side from method, host and path alone."""

    provider: str
    dialect: Dialect


@record(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider.

    Args:
        name: Short name, e.g. ``openai``.
        otel: The well-known value of OpenTelemetry's ``gen_ai.provider.name``, where there is one.
        hosts: Patterns that the whole host name must match; with ``:port`` where only that port is meant.
        routes: Tried in order on these hosts; a call that matches none is not recorded.
        label: Name for people.
    """

    name: str
    hosts: Sequence[str] = ()
    routes: Sequence[Route] = ()
    otel: str | None = None
    label: str | None = None
