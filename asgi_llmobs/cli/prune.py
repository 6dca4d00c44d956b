"""``llmobs prune``: what is beyond the retention goes."""

import argparse
from typing import Any

from asgi_llmobs.cli.output import say, shown
from asgi_llmobs.errors import LLMObsError, StoreError
from asgi_llmobs.limits import Plan
from asgi_llmobs.runtime import LLMObs

__all__ = ["add"]


def add(commands: Any) -> None:
    """Its arguments."""
    command = commands.add_parser(
        "prune",
        help="delete what is older, larger or more than is to be kept",
        description="Delete the oldest traces of the project that lie beyond the option retention, and give the space "
        "back. The app may go on running.",
    )
    command.add_argument("--dry-run", action="store_true", help="delete nothing, only say what would go")
    command.add_argument("--project", metavar="NAME", help="whose traces (default: LLMOBS_PROJECT)")
    command.add_argument("--keep", metavar="LIMITS", help="what is kept, e.g. 30d,2GB (default: LLMOBS_RETENTION)")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
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
