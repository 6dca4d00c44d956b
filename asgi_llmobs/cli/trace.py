"""``llmobs trace``: a trace in the terminal."""

import argparse
from typing import Any

from asgi_llmobs.cli.output import say, shown
from asgi_llmobs.errors import StoreError
from asgi_llmobs.runtime import LLMObs

__all__ = ["add"]


def add(commands: Any) -> None:
    """Its arguments."""
    command = commands.add_parser(
        "trace",
        help="show a trace: what it adds up to, and its tree",
        description="Show a trace: what it adds up to, and its tree with the time and cost of each node, the critical "
        "path marked. The numbers are those of its page.",
    )
    command.add_argument(
        "id", metavar="ID", help="the trace, 32 hex digits; its beginning does, where it is the only one"
    )
    command.add_argument("--project", metavar="NAME", help="whose trace (default: LLMOBS_PROJECT)")
    command.add_argument("--limit", type=int, default=200, metavar="N", help="nodes shown at most (default: 200)")
    command.add_argument("--json", action="store_true", help="print it as JSON, in the form of the page's JSON twin")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Show a trace; 1 where there is none."""
    from asgi_llmobs.cli.treetext import as_lines, in_json
    from asgi_llmobs.queries.traces import get_trace, trace_id_of
    from asgi_llmobs.store.database import Database

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
