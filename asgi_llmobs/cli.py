"""The command line: ``llmobs demo`` shows what this is, ``llmobs doctor`` says what is in force."""

import argparse
import asyncio
import glob
import importlib
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from asgi_llmobs.config import OPTIONS, Config
from asgi_llmobs.context import suppress
from asgi_llmobs.errors import FilterError, LLMObsError, StoreError
from asgi_llmobs.filters import Filter
from asgi_llmobs.limits import Plan
from asgi_llmobs.records import Outcome
from asgi_llmobs.runtime import LLMObs
from asgi_llmobs.testing.server import serve

__all__ = ["main", "parser"]

PACKAGE = "asgi_llmobs"
CLIENTS = ("httpx", "httpx2")
SDKS = ("openai", "anthropic", "google-genai", "mistralai", "cohere", "groq", "ollama", "litellm")
FRAMEWORKS = ("starlette", "fastapi", "uvicorn", "hypercorn", "granian", "daphne")
STORES = ("sqlmodel", "sqlalchemy", "psycopg", "genai-prices")
# beside the package in a checkout, inside it in an installed wheel
EXAMPLES = ("asgi_llmobs.example_app", "example_app")
KEYS = {"OpenAI": "OPENAI_API_KEY", "Anthropic": "ANTHROPIC_API_KEY"}
ERASE_ATTEMPTS = 10
SHOWN_DIFFERENCES = 100
NEEDS_EXTRA = "the demo needs a few more packages: pip install 'asgi_llmobs[demo]'"


def parser() -> argparse.ArgumentParser:
    """Every command with its arguments."""
    top = argparse.ArgumentParser(prog="llmobs", description="LLM observability inside your Starlette or FastAPI app.")
    top.add_argument("--version", action="version", version=f"llmobs {metadata.version(PACKAGE)}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="start an example app, send it traffic, and show the filled pages",
        description="Start the example app on 127.0.0.1, send it realistic traffic, print the address of the admin "
        "and go on serving until Ctrl-C. Needs no key: without OPENAI_API_KEY and ANTHROPIC_API_KEY a fake provider "
        "answers.",
    )
    demo.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    demo.add_argument("--database", metavar="URL", help="where to store (default: a temporary SQLite file)")
    demo.add_argument("--once", action="store_true", help="stop after the traffic and print a summary")
    demo.set_defaults(run=run_demo)

    doctor = commands.add_parser(
        "doctor",
        help="say what is captured, which options are in force, and whether the store can be reached",
        description="Say what is captured, which options are in force and where they come from, and whether the store "
        "can be reached. Exits with 1 where something is wrong.",
    )
    doctor.set_defaults(run=run_doctor)

    trace = commands.add_parser(
        "trace",
        help="show a trace: what it adds up to, and its tree",
        description="Show a trace: what it adds up to, and its tree with the time and cost of each node, the critical "
        "path marked. The numbers are those of its page.",
    )
    trace.add_argument(
        "id", metavar="ID", help="the trace, 32 hex digits; its beginning does, where it is the only one"
    )
    trace.add_argument("--project", metavar="NAME", help="whose trace (default: LLMOBS_PROJECT)")
    trace.add_argument("--limit", type=int, default=200, metavar="N", help="nodes shown at most (default: 200)")
    trace.add_argument("--json", action="store_true", help="print it as JSON, in the form of the page's JSON twin")
    trace.set_defaults(run=run_trace)

    requests = commands.add_parser(
        "requests",
        help="list the requests that a search finds",
        description="List the requests that a search finds, newest first. The search is that of the pages, e.g. "
        "'model:gpt-4o status:error cost:>0.01 -env:dev'; one that begins with - stands behind --.",
    )
    requests.add_argument("search", metavar="SEARCH", nargs="*", help="what to look for (default: everything)")
    requests.add_argument("--project", metavar="NAME", help="whose requests (default: LLMOBS_PROJECT)")
    requests.add_argument("--limit", type=int, default=50, metavar="N", help="how many at most (default: 50)")
    requests.add_argument(
        "--sort",
        choices=("time", "cost", "latency", "ttft", "tokens", "input", "output"),
        default="time",
        help="newest first, or highest first of the newest 10,000 (default: time)",
    )
    requests.add_argument("--json", action="store_true", help="print a JSON object a line, as in the page's JSON twin")
    requests.set_defaults(run=run_requests)

    prune = commands.add_parser(
        "prune",
        help="delete what is older, larger or more than is to be kept",
        description="Delete the oldest traces of the project that lie beyond the option retention, and give the space "
        "back. The app may go on running.",
    )
    prune.add_argument("--dry-run", action="store_true", help="delete nothing, only say what would go")
    prune.add_argument("--project", metavar="NAME", help="whose traces (default: LLMOBS_PROJECT)")
    prune.add_argument("--keep", metavar="LIMITS", help="what is kept, e.g. 30d,2GB (default: LLMOBS_RETENTION)")
    prune.set_defaults(run=run_prune)

    erase = commands.add_parser(
        "erase",
        help="delete everything of a user, a session, a trace or a request",
        description="Delete everything of a user, a session, a trace or a request from the store, also what is pinned: "
        "no byte of it is left in a SQLite file. The app may go on running. Exits with 1 where something is left.",
    )
    what = erase.add_mutually_exclusive_group(required=True)
    what.add_argument("--user", metavar="ID", help="every trace that has a span of this user")
    what.add_argument("--session", metavar="ID", help="every trace that has a span of this session")
    what.add_argument("--trace", metavar="ID", help="this trace")
    what.add_argument("--id", metavar="ID", help="this request or span alone")
    erase.add_argument("--project", metavar="NAME", help="in which project (default: LLMOBS_PROJECT)")
    erase.set_defaults(run=run_erase)

    recompute = commands.add_parser(
        "recompute",
        help="count all totals anew from the rows, or prove them",
        description="Count the totals of traces, sessions and users and the rollups anew from the rows, in small "
        "steps. The app may go on running.",
    )
    recompute.add_argument("--check", action="store_true", help="change nothing; print differences and exit with 1")
    recompute.add_argument("--project", metavar="NAME", help="whose totals (default: those of all projects)")
    recompute.set_defaults(run=run_recompute)

    shard = commands.add_parser(
        "shard",
        help="let a further PostgreSQL server hold a part of a store on PostgreSQL",
        description="Make a further PostgreSQL database known to the store (LLMOBS_DATABASE_URL): days that have no "
        "partition yet will lie on all shards in turn. The role of the store must be allowed to create extensions and "
        "foreign servers.",
    )
    shard.add_argument("url", metavar="URL", help="how the store reaches it: postgresql://user:password@host/name")
    shard.set_defaults(run=run_shard)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The words after ``llmobs``; those of the process unless given.

    Returns:
        The exit code: 0 for success, 1 for a failure that was explained.
    """
    given = parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # whoever read our output has gone: `llmobs doctor | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        say(f"llmobs: {error}")  # a port that is taken, a folder that may not be written
        return 1


def say(text: str = "") -> None:
    """One line, at once, also into a pipe."""
    print(text, flush=True)


# demo


def run_demo(given: argparse.Namespace) -> int:
    """Serve the example app and fill its pages."""
    with demo_store(given.database) as store:
        real = [name for name, key in KEYS.items() if os.environ.get(key)]
        try:
            importlib.import_module("uvicorn")
            example, traffic = import_example("app"), import_example("traffic")
            # the app's middleware takes the engine that was made last; no spool: nothing stays but the database
            engine = LLMObs(store, providers=example.fake.providers, spool_bytes=0)
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
            say("\n" + "\n".join(summary(engine)))
            if not given.once:
                say(f"\nthe admin: {url}/_llmobs/\nthe app:   {url}/docs\n\nCtrl-C stops it.")
                threading.Event().wait()
    return 0


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


# doctor


def run_doctor(given: argparse.Namespace) -> int:
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
        say(f"  {item.name:<{width}}  {shown(item.name, value)}  ({source})")
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


def shown(name: str, value: Any) -> str:
    """An option's value without a password in it."""
    if name in ("store", "read_url") and isinstance(value, str) and "@" in value:
        scheme, _, rest = value.partition("://")
        return f"{scheme}://***@{rest.rpartition('@')[2]}"
    if isinstance(value, Mapping):
        return f"{len(value)} entries"
    return str(value)


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


# trace


def run_trace(given: argparse.Namespace) -> int:
    """Show a trace; 1 where there is none."""
    from asgi_llmobs.queries.traces import get_trace, trace_id_of
    from asgi_llmobs.store.database import Database
    from asgi_llmobs.treetext import as_lines, in_json

    engine = LLMObs(instrument="off")
    project = engine.config.project if given.project is None else given.project
    database = Database(engine.store, create=False)
    try:
        found = trace_id_of(database, given.id, project=project)
        tree = None if found is None else get_trace(database, found, project=project)
    except (StoreError, ImportError) as error:
        say(f"{shown('store', engine.store)}: {error}")
        return 1
    finally:
        database.dispose()
    if tree is None:
        say(f"no trace {given.id} in project {project}")
        return 1
    for line in [in_json(tree)] if given.json else as_lines(tree, given.limit):
        say(line)
    return 0


# requests


def run_requests(given: argparse.Namespace) -> int:
    """List what a search finds; 1 where it is not understood."""
    from asgi_llmobs.listtext import as_line, found_rows, in_json, pointed
    from asgi_llmobs.store.database import Database

    engine = LLMObs(instrument="off")
    search = " ".join(given.search)
    database = Database(engine.store, create=False)
    try:
        flt = Filter.from_query([("q", search)], project=given.project or engine.config.project)
        for row in found_rows(database, flt, limit=given.limit, sort=given.sort):
            say(in_json(row) if given.json else as_line(row))
    except FilterError as error:
        say("\n".join(pointed(search, error)))
        return 1
    except (StoreError, ImportError) as error:
        say(f"{shown('store', engine.store)}: {error}")
        return 1
    finally:
        database.dispose()
    return 0


# prune


def run_prune(given: argparse.Namespace) -> int:
    """Delete what lies beyond the retention; 1 where none is set or the store cannot be written."""
    from asgi_llmobs.retention import prune
    from asgi_llmobs.store.database import Database

    try:
        engine = LLMObs(instrument="off", retention=given.keep)
    except LLMObsError as error:
        say(str(error))
        return 1
    project = engine.config.project if given.project is None else given.project
    plan = Plan() if engine.config.retention is None else Plan.parse(engine.config.retention)
    limits = plan.of(project, own=given.keep is not None or project == engine.config.project)
    if limits is None:
        say("everything is kept: give --keep 30d, or set LLMOBS_RETENTION")
        return 1
    database = Database(engine.store, create=False)
    try:
        gone = prune(database, limits, project=project, dry_run=given.dry_run)
    except (StoreError, ImportError) as error:
        say(f"{shown('store', engine.store)}: {error}")
        return 1
    finally:
        database.dispose()
    did = " would go" if given.dry_run else " deleted"
    bodies = f", bodies of {gone.stripped:,} more" if gone.stripped else ""
    say(f"{gone.spans:,} spans{bodies}{did}, about {gone.bytes / 1_000_000:,.1f} MB")
    return 0


# erase


def run_erase(given: argparse.Namespace) -> int:
    """Delete everything of a user, session, trace or request; 1 where some of it may still be somewhere."""
    from asgi_llmobs.erasure import erase, mentions
    from asgi_llmobs.store.database import Database

    what = {label: getattr(given, label) for label in ("user", "session", "trace", "id")}
    try:
        engine = LLMObs(instrument="off")
        database = Database(engine.store, create=False)
        waiting = getattr(engine.spool, "root", None)
        if waiting is not None:
            engine.start()  # takes over what processes that died left waiting
            engine.flush()
        traces = spans = 0
        for _ in range(ERASE_ATTEMPTS):
            # looked for first: what is stored from there meanwhile is found in the store
            left = [] if waiting is None else list(mentions(waiting, [text for text in what.values() if text]))
            gone = erase(database, project=given.project or engine.config.project, **what)
            traces, spans = traces + gone.traces, spans + gone.spans
            if not left:
                break
            time.sleep(1.0)  # the process that it waits in stores it within a moment, and it is erased from there
        engine.close()
        database.dispose()
    except (LLMObsError, ImportError) as error:
        say(str(error))
        return 1
    say(f"{spans:,} spans of {traces:,} traces erased" if given.id is None else f"{spans} spans erased")
    return told_leftovers(database.path, gone.clean, left)


def told_leftovers(path: str | None, clean: bool, waiting: Sequence[str]) -> int:
    """Say where something may be left; 1 where that is so."""
    damaged = glob.glob(f"{glob.escape(path)}.corrupt-*") if path else []
    if not clean:
        say("a reader holds on to an older state, which the log of the database still has: run it again later")
    for file in waiting:
        say(f"{file}: calls of it wait there for the store, of a process that cannot reach it: run it again later")
    for file in damaged:
        say(f"{file}: a damaged database that was put aside may hold some of it: delete the file")
    return 1 if waiting or damaged or not clean else 0


# recompute


def run_recompute(given: argparse.Namespace) -> int:
    """Count all totals anew; 1 where some differ and nothing may be changed."""
    from asgi_llmobs.recompute import recompute
    from asgi_llmobs.store.database import Database

    count = 0
    try:
        database = Database(LLMObs(instrument="off").store, create=False)
        for found in recompute(database, project=given.project, check=given.check):
            count += 1
            if count <= SHOWN_DIFFERENCES:
                say(f"{found.table} {' '.join(map(str, found.key))}: {found.words()}")
        database.dispose()
    except (LLMObsError, ImportError) as error:
        say(str(error))
        return 1
    more = f", of which {SHOWN_DIFFERENCES} are shown" if count > SHOWN_DIFFERENCES else ""
    if given.check:
        say(f"{count:,} differences{more}" if count else "all totals are what the rows add up to")
        return 1 if count else 0
    say(f"{count:,} totals put right{more}")
    return 0


# shard


def run_shard(given: argparse.Namespace) -> int:
    """Make a shard known to the store; 1 where that does not work."""
    from asgi_llmobs.store.database import Database
    from asgi_llmobs.store.shards import add_shard

    database = Database(LLMObs(instrument="off").store)
    if database.sqlite:
        say("shards belong to a store on PostgreSQL: set LLMOBS_DATABASE_URL")
        return 1
    try:
        with database.write() as connection:
            name = add_shard(connection, given.url)
    except (LLMObsError, ImportError) as error:
        say(str(error))
        return 1
    finally:
        database.dispose()
    say(f"{name}: days that have no partition yet will lie there in turn")
    return 0
