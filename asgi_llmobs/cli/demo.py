"""``llmobs demo``: an example app with traffic, and its filled pages."""

import argparse
import asyncio
import importlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgi_llmobs.cli.history import DAYS, Remembering, earlier
from asgi_llmobs.cli.output import say
from asgi_llmobs.context import suppress
from asgi_llmobs.errors import LLMObsError
from asgi_llmobs.filters import Filter
from asgi_llmobs.records import Outcome
from asgi_llmobs.runtime import LLMObs
from asgi_llmobs.testing.server import serve

__all__ = ["add"]

# beside the package in a checkout, inside it in an installed wheel
EXAMPLES = ("asgi_llmobs.example_app", "example_app")
KEYS = {"OpenAI": "OPENAI_API_KEY", "Anthropic": "ANTHROPIC_API_KEY"}
PAUSE = 0.04  # seconds between two writes at least, in which the engine gets its turn
NEEDS_EXTRA = "the demo needs a few more packages: pip install 'asgi_llmobs[demo]'"


def add(commands: Any) -> None:
    """Its arguments."""
    command = commands.add_parser(
        "demo",
        help="start an example app, send it traffic, and show the filled pages",
        description="Start the example app on 127.0.0.1, send it realistic traffic, print the address of the admin "
        "and go on serving until Ctrl-C. Needs no key: without OPENAI_API_KEY and ANTHROPIC_API_KEY a fake provider "
        "answers.",
    )
    command.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    command.add_argument("--database", metavar="URL", help="where to store (default: a temporary SQLite file)")
    command.add_argument("--once", action="store_true", help="stop after the traffic and print a summary")
    command.add_argument(
        "--no-history", dest="history", action="store_false", help=f"leave the {DAYS} days before empty"
    )
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Serve the example app and fill its pages."""
    with demo_store(given.database) as store:
        real = [name for name, key in KEYS.items() if os.environ.get(key)]
        try:
            importlib.import_module("uvicorn")
            example, traffic = import_example("app"), import_example("traffic")
            # the app's middleware takes the engine that was made last; no spool: nothing stays but the database
            engine = Remembering(store, providers=example.fake.providers, spool_bytes=0)
        except LLMObsError as error:
            say(str(error))
            return 1
        except ModuleNotFoundError as error:
            say(f"{NEEDS_EXTRA}\n(no module named {error.name!r})")
            return 1
        os.environ["LLMOBS_DEV"] = "1"
        say(
            f"there are keys: the real {' and '.join(real)} is asked"
            if real
            else "no key needed: a fake provider answers"
        )
        with serve(example.app, port=given.port, lifespan="on") as url:
            asyncio.run(drive(traffic, url, None if real else example.fake))
            engine.flush()
            if given.history:
                say(f"  · the same at other times of the {DAYS} days before")
                write_history(engine)
            say("\n" + "\n".join(summary(engine)))
            if not given.once:
                say(f"\nthe admin: {url}/_llmobs/\nthe app:   {url}/docs\n\nCtrl-C stops it.")
                threading.Event().wait()
    return 0


def write_history(engine: Remembering) -> None:
    """The days before, straight into the store: nothing of it was captured now."""
    from asgi_llmobs.store.write import Sink  # loads SQLAlchemy, only where it is used

    sink = Sink(engine.database)
    for batch in earlier(engine.remembered):
        began = time.monotonic()
        sink.write(batch)
        time.sleep(max(PAUSE, (time.monotonic() - began) / 4))


async def drive(traffic: Any, url: str, fake: Any) -> None:
    """Send the traffic, unseen: the demo shows the calls of the app, not ours to the app."""
    with suppress():
        await traffic.drive(url, fake, lambda text: say(f"  · {text}"))


@contextmanager
def demo_store(given: str | None) -> Iterator[str]:
    """The database that was asked for, or one in a folder that goes away with the demo."""
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="llmobs-demo-", ignore_cleanup_errors=True) as folder:
        yield f"sqlite:///{folder}/llmobs.db"


def import_example(name: str) -> Any:
    """A module of the example app, wherever it is."""
    for package in EXAMPLES:
        try:
            return importlib.import_module(f"{package}.{name}")
        except ModuleNotFoundError as error:
            if error.name not in (package, f"{package}.{name}"):
                raise
    raise ModuleNotFoundError("no example app", name="example_app")


def summary(engine: LLMObs) -> Iterator[str]:
    """What is stored now, in a few lines."""
    from asgi_llmobs.queries.overview import totals
    from asgi_llmobs.queries.status import store_status

    project = engine.config.project
    status, all_of_them = (
        store_status(engine.database, project=project),
        totals(engine.database, Filter(project=project)),
    )
    counts = {
        outcome: totals(engine.database, Filter(project=project, status=(outcome,))).requests for outcome in Outcome
    }
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    yield f"{status.requests} LLM requests in {status.traces} traces and {status.sessions} sessions: {outcomes}"
    cost = "no price" if all_of_them.total_cost_usd is None else f"${all_of_them.total_cost_usd:.6f}"
    yield (
        f"{all_of_them.input_tokens or 0:,} tokens in, {all_of_them.output_tokens or 0:,} out, {cost}"
        f" ({all_of_them.unpriced_count} without a price)"
    )
