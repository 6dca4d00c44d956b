"""Who answers an LLM call and how it speaks: :func:`match` says which dialect, :func:`read` reads an exchange in it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from asgi_llmobs.patterns import compiled
from asgi_llmobs.providers import (
    aleph_alpha,
    anthropic,
    bedrock,
    cohere,
    compatible,
    google,
    huggingface,
    llama_cpp,
    mistral,
    ollama,
    openai,
    otel,
    replicate,
    vertex,
    watsonx,
)
from asgi_llmobs.providers.base import Match, Provider, Route, Wire
from asgi_llmobs.providers.failures import error_in
from asgi_llmobs.providers.framing import framing_of, heartbeats
from asgi_llmobs.providers.generic import GENERIC
from asgi_llmobs.records import Reading
from asgi_llmobs.safely import guarded

__all__ = ["ANY_HOST", "GENERIC", "PROVIDERS", "Match", "Provider", "Wire", "match", "read"]

MODULES = (
    anthropic,
    google,
    vertex,
    bedrock,
    cohere,
    ollama,
    watsonx,
    replicate,
    mistral,
    openai,
    compatible,
    huggingface,
    llama_cpp,
    aleph_alpha,
    otel,
)

PROVIDERS: tuple[Provider, ...] = tuple(provider for module in MODULES for provider in module.PROVIDERS)

ANY_HOST: tuple[Route, ...] = tuple(item for module in MODULES for item in module.ANY_HOST)

STREAMS = frozenset(("sse", "ndjson", "aws-eventstream", "json-array-stream"))


def match(method: str, host: str, port: int | None, path: str, extra: Sequence[Provider] = ()) -> Match | None:
    """Who answers this call and in which dialect, ``None`` where it is no LLM call.

    Args:
        method: HTTP method.
        host: Host name, without port.
        port: Port, ``None`` for the scheme's own.
        path: Path of the address, percent-encoded or not, without query.
        extra: Further providers, asked before ours. One without hosts answers everywhere on its routes, one without
            routes speaks the dialects that are known by their paths.
    """
    if extra:
        found = first_match(extra, method.upper(), host.lower(), port, path)
        if found is not None:
            return found
    return known_match(method, host, port, path)


@lru_cache(maxsize=8192)
def known_match(method: str, host: str, port: int | None, path: str) -> Match | None:
    """:func:`match` among our own providers, then by path alone."""
    method, host = method.upper(), host.lower().rstrip(".")
    names = providers_of(host, port)
    for provider in names:
        for item in provider.routes:
            if item.answers(method, path):
                return Match(provider.name, item.dialect) if item.dialect else None
    found = by_path(ANY_HOST, method, path)
    return Match(names[0].name if names else "unknown", found.dialect) if found and found.dialect else None


@lru_cache(maxsize=1024)
def providers_of(host: str, port: int | None) -> tuple[Provider, ...]:
    """Those of our providers that answer on a host."""
    return tuple(provider for provider in PROVIDERS if answers(provider, host, port))


def answers(provider: Provider, host: str, port: int | None) -> bool:
    """Whether one of the provider's host patterns matches, with or without the port."""
    names = (host, f"{host}:{port}") if port else (host,)
    return any(compiled(item).fullmatch(name) for item in provider.hosts for name in names)


def by_path(routes: Iterable[Route], method: str, path: str) -> Route | None:
    """The first route for a method and a path."""
    return next((item for item in routes if item.answers(method, path)), None)


def first_match(extra: Sequence[Provider], method: str, host: str, port: int | None, path: str) -> Match | None:
    """:func:`match` among the providers that the user added."""
    for provider in extra:
        if provider.hosts and not answers(provider, host, port):
            continue
        found = by_path(provider.routes or ANY_HOST, method, path)
        if found is not None and found.dialect is not None and (provider.hosts or provider.routes):
            return Match(provider.name, found.dialect)
    return None


def read(wire: Wire, match: Match) -> Reading:
    """What *wire* says, in the dialect of *match*; never raises: what cannot be read is in ``warnings``."""
    reading = Reading(provider=match.provider, api=match.dialect.api, operation=match.dialect.operation)
    before = heartbeats(wire.response_body)
    if before:
        wire = replace(wire, response_body=wire.response_body[before:])
    if not (prepare(wire, reading) and speak(wire, match, reading)):
        reading.warnings.append("this exchange could not be read in full")
    if reading.content_offset is not None:
        reading.content_offset += before
    return reading


@guarded("reading an answer's framing", default=False)
def prepare(wire: Wire, reading: Reading) -> bool:
    """Fill in framing and stream, and the error that the whole answer is."""
    if wire.status is not None:
        reading.framing = framing_of(wire.response_body, wire.response_headers.get("content-type", ""))
        reading.stream = reading.framing in STREAMS
        reading.error = error_in(wire) if not reading.stream or wire.status >= 400 else None
    return True


@guarded("reading an exchange", default=False)
def speak(wire: Wire, match: Match, reading: Reading) -> bool:
    """Let the dialect fill in the rest."""
    match.dialect.read(wire, reading)
    return True
