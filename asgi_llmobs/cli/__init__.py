"""The command line: ``llmobs demo`` shows what this is, ``llmobs doctor`` says what is in force."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from asgi_llmobs.cli import demo, doctor, erase, prune, recompute, requests, shard, trace
from asgi_llmobs.cli.output import say

__all__ = ["main", "parser"]

COMMANDS = (demo, doctor, trace, requests, prune, erase, recompute, shard)


def parser() -> argparse.ArgumentParser:
    """Every command with its arguments."""
    top = argparse.ArgumentParser(prog="llmobs", description="LLM observability inside your Starlette or FastAPI app.")
    top.add_argument("--version", action="version", version=f"llmobs {metadata.version('asgi_llmobs')}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
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
