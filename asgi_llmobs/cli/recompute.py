"""``llmobs recompute``: all totals are counted anew, or proved."""

import argparse
from typing import Any

from asgi_llmobs.cli.output import say
from asgi_llmobs.errors import LLMObsError
from asgi_llmobs.runtime import LLMObs

__all__ = ["add"]

SHOWN_DIFFERENCES = 100


def add(commands: Any) -> None:
    """Its arguments."""
    command = commands.add_parser(
        "recompute",
        help="count all totals anew from the rows, or prove them",
        description="Count the totals of traces, sessions and users and the rollups anew from the rows, in small "
        "steps. The app may go on running.",
    )
    command.add_argument("--check", action="store_true", help="change nothing; print differences and exit with 1")
    command.add_argument("--project", metavar="NAME", help="whose totals (default: those of all projects)")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
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
