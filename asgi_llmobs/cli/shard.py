"""``llmobs shard``: a further PostgreSQL server holds a part of the store."""

import argparse
from typing import Any

from asgi_llmobs.cli.output import say
from asgi_llmobs.errors import LLMObsError
from asgi_llmobs.runtime import LLMObs

__all__ = ["add"]


def add(commands: Any) -> None:
    """Its arguments."""
    command = commands.add_parser(
        "shard",
        help="let a further PostgreSQL server hold a part of a store on PostgreSQL",
        description="Make a further PostgreSQL database known to the store (LLMOBS_DATABASE_URL): days that have no "
        "partition yet will lie on all shards in turn. The role of the store must be allowed to create extensions and "
        "foreign servers.",
    )
    command.add_argument("url", metavar="URL", help="how the store reaches it: postgresql://user:password@host/name")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
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
