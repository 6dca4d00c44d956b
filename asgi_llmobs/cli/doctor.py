"""``llmobs doctor``: what is captured, which options are in force, and whether the store can be reached."""

import argparse
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from asgi_llmobs.cli.output import say, shown
from asgi_llmobs.config import OPTIONS, Config
from asgi_llmobs.errors import LLMObsError, StoreError
from asgi_llmobs.runtime import LLMObs

__all__ = ["add"]

PACKAGE = "asgi_llmobs"
CLIENTS = ("httpx", "httpx2")
SDKS = ("openai", "anthropic", "google-genai", "mistralai", "cohere", "groq", "ollama", "litellm")
FRAMEWORKS = ("starlette", "fastapi", "uvicorn", "hypercorn", "granian", "daphne")
STORES = ("sqlmodel", "sqlalchemy", "psycopg", "genai-prices")


def add(commands: Any) -> None:
    """Its arguments."""
    command = commands.add_parser(
        "doctor",
        help="say what is captured, which options are in force, and whether the store can be reached",
        description="Say what is captured, which options are in force and where they come from, and whether the store "
        "can be reached. Exits with 1 where something is wrong.",
    )
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print what is in force; 1 where the configuration or the store does not work."""
    say(f"asgi_llmobs {metadata.version(PACKAGE)}, Python {platform.python_version()}, {platform.platform()}")
    try:
        config = Config.make()
    except LLMObsError as error:
        say(f"\nconfiguration: wrong\n  {error}")
        return 1
    say("\nwhat is captured")
    for line in captured(config):
        say(f"  {line}")
    say("\nversions")
    for group in (FRAMEWORKS, SDKS, STORES):
        say("  " + ", ".join(f"{name} {version(name) or '-'}" for name in group))
    say("\noptions")
    width = max(len(item.name) for item in OPTIONS)
    for item in OPTIONS:
        value, source = getattr(config, item.name), item.env if item.env in os.environ else "default"
        say(f"  {item.name:<{width}}  {item.shown(value)}  ({source})")
    say("\nstore")
    works, line = store_state()
    say(f"  {line}")
    return 0 if works else 1


def captured(config: Config) -> Iterator[str]:
    """What a process with this configuration would watch."""
    if not config.enabled or config.capture == "off":
        yield f"nothing: {'enabled is false' if not config.enabled else 'capture is off'}"
        return
    which = "every client" if config.instrument == "auto" else "clients given to wrap()"
    for name in CLIENTS:
        found = version(name)
        yield f"{name}: {which}, version {found}" if found else f"{name}: not installed"
    yield "bodies: " + ("kept" if config.capture == "full" else "not kept")


def version(name: str) -> str | None:
    """The installed version of a distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def store_state() -> tuple[bool, str]:
    """Whether the store works, and a line about it. Nothing is created."""
    from asgi_llmobs.queries.status import store_status
    from asgi_llmobs.store.database import Database

    engine = LLMObs(instrument="off")
    name = shown("store", engine.store)
    database = Database(engine.store, create=False)
    if database.path is not None and not os.path.exists(database.path):
        return True, f"{name}: not there yet, the first call makes it"
    try:
        status = store_status(database, project=engine.config.project)
    except (StoreError, ImportError) as error:
        return False, f"{name}: {error}"
    finally:
        database.dispose()
    return True, f"{name}: {status.requests} requests, schema version {status.schema_version}"
