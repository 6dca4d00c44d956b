"""``llmobs erase``: everything of a user, a session, a trace or a request goes."""

import argparse
import glob
import time
from collections.abc import Sequence
from typing import Any

from asgi_llmobs.cli.output import say
from asgi_llmobs.errors import LLMObsError
from asgi_llmobs.runtime import LLMObs

__all__ = ["add"]

ERASE_ATTEMPTS = 10


def add(commands: Any) -> None:
    """Its arguments."""
    command = commands.add_parser(
        "erase",
        help="delete everything of a user, a session, a trace or a request",
        description="Delete everything of a user, a session, a trace or a request from the store, also what is pinned: "
        "no byte of it is left in a SQLite file. The app may go on running. Exits with 1 where something is left.",
    )
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--user", metavar="ID", help="every trace that has a span of this user")
    what.add_argument("--session", metavar="ID", help="every trace that has a span of this session")
    what.add_argument("--trace", metavar="ID", help="this trace")
    what.add_argument("--id", metavar="ID", help="this request or span alone")
    command.add_argument("--project", metavar="NAME", help="in which project (default: LLMOBS_PROJECT)")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Delete everything of a user, session, trace or request; 1 where some of it may still be somewhere."""
    from asgi_llmobs.erasure import clean, mentions, take_out
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
            gone = take_out(database, project=given.project or engine.config.project, **what)
            traces, spans = traces + gone[0], spans + gone[1]
            if not left:
                break
            time.sleep(1.0)  # the process that it waits in stores it within a moment, and it is erased from there
        engine.close()
        kept = clean(database)
        database.dispose()
    except (LLMObsError, ImportError) as error:
        say(str(error))
        return 1
    say(f"{spans:,} spans of {traces:,} traces erased" if given.id is None else f"{spans} spans erased")
    return told_leftovers(database.path, kept, left)


def told_leftovers(path: str | None, kept: str | None, waiting: Sequence[str]) -> int:
    """Say where something may be left; 1 where that is so."""
    damaged = glob.glob(f"{glob.escape(path)}.corrupt-*") if path else []
    if kept:
        say(kept)
    for file in waiting:
        say(f"{file}: calls of it wait there for the store, of a process that cannot reach it: run it again later")
    for file in damaged:
        say(f"{file}: a damaged database that was put aside may hold some of it: delete the file")
    return 1 if waiting or damaged or kept else 0
