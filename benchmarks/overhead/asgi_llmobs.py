"""This package as a system of the overhead benchmark: everything captured, parsed, priced and stored in SQLite."""

import glob
import os
import sqlite3

TITLE = "asgi_llmobs (bodies, parsing, prices, full-text search, SQLite)"
KIND = "ours"
REQ = ["sqlmodel", "jinja2", "opentelemetry-sdk", "genai-prices", "orjson", "backports.zstd"]
BODIES = DURABLE = True
IMPORTS = ["asgi_llmobs"]
VARIANTS = ["auto", "transport"]
COUNT = "SELECT count(*) FROM llmobs_spans WHERE is_request = 1 AND outcome <> 'running'"
STATE = {}


def url(tmp):
    return f"sqlite:///{tmp}/llmobs.db"


def setup(ctx):
    """Set the engine up, once, before any client or app is made."""
    import asgi_llmobs

    STATE["obs"] = asgi_llmobs.LLMObs(url(ctx.tmp), instrument="auto" if ctx.variant == "auto" else "off")
    STATE["variant"] = ctx.variant


def transport(inner, lib, is_async):
    """Wrap one transport, in the variant of that name."""
    return STATE["obs"].transport(inner) if STATE["variant"] == "transport" else inner


def app(inner):
    """Put the middleware around an app."""
    import asgi_llmobs

    return asgi_llmobs.LLMObsMiddleware(inner, obs=STATE["obs"])


def flush():
    """Wait until everything is stored."""
    assert STATE["obs"].flush(60)


def delivered():
    """LLM calls stored so far."""
    stats = STATE["obs"].stats()
    assert not stats.dropped and not stats.failures, stats
    return count(STATE["obs"].store.removeprefix("sqlite:///"))


def count(path):
    if not os.path.exists(path):  # nothing was stored yet
        return 0
    with sqlite3.connect(path) as connection:
        return connection.execute(COUNT).fetchone()[0]


def count_durable(tmp):
    """LLM calls that a fresh process finds in the file."""
    return count(f"{tmp}/llmobs.db")


def db_files(tmp):
    """The files that storage is counted by."""
    return glob.glob(tmp + "/llmobs.db*")
