"""``llmobs requests``: what a search finds."""

import argparse
from typing import Any

from asgi_llmobs.cli.output import say, shown
from asgi_llmobs.errors import FilterError, StoreError
from asgi_llmobs.filters import Filter
from asgi_llmobs.runtime import LLMObs

__all__ = ["add"]


def add(commands: Any) -> None:
    """Its arguments."""
    command = commands.add_parser(
        "requests",
        help="list the requests that a search finds",
        description="List the requests that a search finds, newest first. The search is that of the pages, e.g. "
        "'model:gpt-4o status:error cost:>0.01 -env:dev'; one that begins with - stands behind --.",
    )
    command.add_argument("search", metavar="SEARCH", nargs="*", help="what to look for (default: everything)")
    command.add_argument("--project", metavar="NAME", help="whose requests (default: LLMOBS_PROJECT)")
    command.add_argument("--limit", type=int, default=50, metavar="N", help="how many at most (default: 50)")
    command.add_argument(
        "--sort",
        choices=("time", "cost", "latency", "ttft", "tokens", "input", "output"),
        default="time",
        help="newest first, or highest first of the newest 10,000 (default: time)",
    )
    command.add_argument("--json", action="store_true", help="print a JSON object a line, as in the page's JSON twin")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """List what a search finds; 1 where it is not understood."""
    from asgi_llmobs.cli.listtext import as_line, found_rows, in_json, pointed
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
