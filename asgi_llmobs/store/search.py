"""The database's full-text index over input and output: FTS5 on SQLite, tsvector on PostgreSQL.

On SQLite it keeps no copy of the texts. They stand in the span's content, because an entry can only be taken out again
with the very words it was made of.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    func,
    literal_column,
    select,
    text,
)

from asgi_llmobs.pace import give_way
from asgi_llmobs.store.contents import unpacked_content
from asgi_llmobs.store.database import AT_ONCE, in_chunks
from asgi_llmobs.store.tables import ContentRow, TextRow
from asgi_llmobs.store.values import BIGGEST

__all__ = ["FIRST_KEY", "LAST_KEY", "forget", "found_keys", "index", "match_words", "plan_for_words"]

MAX_WORDS = 32
MERGE_PAGES = 200
FIRST_KEY, LAST_KEY = "llmobs_first_key", "llmobs_last_key"  # parameters of whatever asks found_keys()
WORDS = re.compile(r'"([^"]*)"?|(\S+)')

_texts = TextRow.__table__  # type: ignore[attr-defined]
_contents = ContentRow.__table__  # type: ignore[attr-defined]


def index(connection: Connection, texts: Sequence[tuple[int, str, str]]) -> None:
    """Add *texts*, none of which is there yet: each with its row's key, input and output."""
    if not texts:
        return
    if connection.dialect.name == "sqlite":
        for some in in_chunks(texts, AT_ONCE):
            connection.exec_driver_sql("INSERT INTO llmobs_search (rowid, input, output) VALUES (?, ?, ?)", some)
            give_way()
        return
    rows = [(key, f"{sent} {got}") for key, sent, got in texts]
    connection.exec_driver_sql("INSERT INTO llmobs_texts (key, words) VALUES (%s, to_tsvector('simple', %s))", rows)


def forget(connection: Connection, keys: Iterable[int]) -> None:
    """Take the texts of the rows with *keys* out again, while their contents are still there."""
    for chunk in in_chunks(keys):
        if connection.dialect.name != "sqlite":
            connection.execute(_texts.delete().where(_texts.c.key.in_(chunk)))
            continue
        rows = connection.execute(_contents.select().where(_contents.c.key.in_(chunk)))
        old = [(key, *words) for key, content in rows if (words := unpacked_content(content).words) is not None]
        if old:
            connection.exec_driver_sql(
                "INSERT INTO llmobs_search (llmobs_search, rowid, input, output) VALUES ('delete', ?, ?, ?)", old
            )


def merge(connection: Connection, *, begin: bool) -> bool:
    """A small step of bringing the index into one piece: only then is what was taken out of it gone for good.

    Args:
        connection: In a write transaction.
        begin: Whether it is the first step.

    Returns:
        Whether there is more to do.
    """
    if connection.dialect.name != "sqlite":
        return False
    ask = connection.exec_driver_sql
    before = ask("SELECT total_changes()").scalar() or 0
    pages = -MERGE_PAGES if begin else MERGE_PAGES
    ask("INSERT INTO llmobs_search (llmobs_search, rank) VALUES ('merge', ?)", (pages,))
    # SQLite's own sign that there was nothing to do: no change but the command itself
    return bool((ask("SELECT total_changes()").scalar() or 0) - before >= 2)


def match_words(search: str) -> str:
    """What a user typed as an FTS5 expression: every word, quoted words in a row. Nothing in it is syntax."""
    found = [phrase or word for phrase, word in WORDS.findall(search.replace("\0", " "))]
    found = [part for part in found if any(character.isalnum() for character in part)]
    return " ".join('"' + part.replace('"', " ") + '"' for part in found[:MAX_WORDS])


def found_keys(dialect: str, search: str, limit: int | None = None) -> Select[Any] | None:
    """The keys of the rows whose texts hold *search*, newest first up to *limit*; ``None`` where it has no word.

    Only those from :data:`FIRST_KEY` to :data:`LAST_KEY`, where what it is part of is executed with these parameters:
    all the places of a frequent word are too many to go through.
    """
    words = match_words(search)
    if not words:
        return None
    if dialect == "sqlite":
        key = literal_column("llmobs_search.rowid", BigInteger)
        holds = literal_column("llmobs_search").op("MATCH")(words)
        query = select(key.label("key")).select_from(text("llmobs_search")).where(holds)
    else:
        key = _texts.c.key
        query = select(key).where(postgres_match(words))
    query = query.where(
        key >= bindparam(FIRST_KEY, 0, type_=BigInteger), key <= bindparam(LAST_KEY, BIGGEST, type_=BigInteger)
    )
    return query if limit is None else query.order_by(key.desc()).limit(limit)


def plan_for_words(connection: Connection) -> None:
    """Let PostgreSQL plan what is left of this transaction for the very words: a plan that it keeps for any word reads
    all texts, however rare the word is."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("SET LOCAL plan_cache_mode TO force_custom_plan")


def postgres_match(words: str) -> ColumnElement[bool]:
    phrases = re.findall(r'"([^"]*)"', words)
    conditions = [
        literal_column("words").op("@@")(func.phraseto_tsquery(literal_column("'simple'::regconfig"), phrase))
        for phrase in phrases
    ]
    return and_(*conditions)
