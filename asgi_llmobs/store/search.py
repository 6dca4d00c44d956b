"""The database's full-text index over input and output: FTS5 on SQLite, tsvector on PostgreSQL.

On SQLite it keeps no copy of the texts: they stand compressed in ``llmobs_texts``, because an entry can only be
taken out again with the very words it was made of.
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

from asgi_llmobs.store.database import in_chunks, insert
from asgi_llmobs.store.tables import TextRow
from asgi_llmobs.store.values import pack, unpack

__all__ = ["forget", "found_keys", "index", "match_words"]

SEPARATOR = "\0"  # no stored text holds it
MAX_WORDS = 32
WORDS = re.compile(r'"([^"]*)"?|(\S+)')

_texts = TextRow.__table__  # type: ignore[attr-defined]


def index(connection: Connection, texts: Sequence[tuple[int, str, str]]) -> None:
    """Add the (row key, input, output) of *texts*, none of which is there yet."""
    if not texts:
        return
    packed = [(key, pack(f"{sent}{SEPARATOR}{got}".encode())) for key, sent, got in texts]
    if connection.dialect.name == "sqlite":
        insert(connection, _texts, packed)
        connection.exec_driver_sql("INSERT INTO llmobs_search (rowid, input, output) VALUES (?, ?, ?)", list(texts))
        return
    rows = [(key, content, f"{sent} {got}") for (key, content), (_, sent, got) in zip(packed, texts, strict=True)]
    connection.exec_driver_sql(
        "INSERT INTO llmobs_texts (key, content, words) VALUES (%s, %s, to_tsvector('simple', %s))", rows
    )


def forget(connection: Connection, keys: Iterable[int]) -> None:
    """Take the texts of the rows with *keys* out again."""
    for chunk in in_chunks(keys):
        chosen = _texts.c.key.in_(chunk)
        if connection.dialect.name == "sqlite":
            old = [
                (key, *unpack(content).decode("utf-8", "replace").split(SEPARATOR, 1))
                for key, content in connection.execute(_texts.select().where(chosen))
            ]
            if not old:
                continue
            connection.exec_driver_sql(
                "INSERT INTO llmobs_search (llmobs_search, rowid, input, output) VALUES ('delete', ?, ?, ?)", old
            )
        connection.execute(_texts.delete().where(chosen))


def match_words(search: str) -> str:
    """What a user typed as an FTS5 expression: every word, quoted words in a row. Nothing in it is syntax."""
    found = [phrase or word for phrase, word in WORDS.findall(search.replace("\0", " "))]
    found = [part for part in found if any(character.isalnum() for character in part)]
    return " ".join('"' + part.replace('"', " ") + '"' for part in found[:MAX_WORDS])


def found_keys(dialect: str, search: str, limit: int | None = None) -> Select[Any] | None:
    """The keys of the rows whose texts hold *search*, newest first up to *limit*; ``None`` where it has no word."""
    words = match_words(search)
    if not words:
        return None
    if dialect == "sqlite":
        key = literal_column("llmobs_search.rowid", BigInteger)
        holds = text("llmobs_search MATCH :llmobs_words").bindparams(bindparam("llmobs_words", words))
        query = select(key).select_from(text("llmobs_search")).where(holds)
    else:
        key = _texts.c.key
        query = select(key).where(postgres_match(words))
    return query if limit is None else query.order_by(key.desc()).limit(limit)


def postgres_match(words: str) -> ColumnElement[bool]:
    phrases = re.findall(r'"([^"]*)"', words)
    conditions = [
        literal_column("words").op("@@")(func.phraseto_tsquery(literal_column("'simple'::regconfig"), phrase))
        for phrase in phrases
    ]
    return and_(*conditions)
