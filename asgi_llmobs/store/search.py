"""The database's full-text index over input and output: FTS5 on SQLite, tsvector on PostgreSQL.

On SQLite it keeps no copy of the texts: they stand in ``llmobs_texts``, because an entry can only be taken out again
with the very words it was made of. They are compressed to what they say beyond the bodies of the same row, so an entry
has to be taken out before its bodies are.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

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
from asgi_llmobs.store.tables import BODY_PARTS, BodyRow, TextRow
from asgi_llmobs.store.values import pack_beside, unpack, unpack_beside

__all__ = ["Searched", "forget", "found_keys", "index", "match_words"]

SEPARATOR = "\0"  # no stored text holds it
MAX_WORDS = 32
MERGE_PAGES = 200
WORDS = re.compile(r'"([^"]*)"?|(\S+)')

_texts = TextRow.__table__  # type: ignore[attr-defined]
_bodies = BodyRow.__table__  # type: ignore[attr-defined]


class Searched(NamedTuple):
    """The texts of a row that can be searched, and its bodies, which hold them in another form."""

    key: int
    input: str
    output: str
    bodies: bytes


def index(connection: Connection, texts: Sequence[Searched]) -> None:
    """Add *texts*, none of which is there yet."""
    if not texts:
        return
    if connection.dialect.name == "sqlite":
        packed = [(text.key, pack_beside(joined(text), text.bodies)) for text in texts]
        insert(connection, _texts, packed)
        statement = "INSERT INTO llmobs_search (rowid, input, output) VALUES (?, ?, ?)"
        connection.exec_driver_sql(statement, [text[:3] for text in texts])
        return
    rows = [(text.key, b"", f"{text.input} {text.output}") for text in texts]
    connection.exec_driver_sql(
        "INSERT INTO llmobs_texts (key, content, words) VALUES (%s, %s, to_tsvector('simple', %s))", rows
    )


def joined(text: Searched) -> bytes:
    return f"{text.input}{SEPARATOR}{text.output}".encode()


def parted(content: bytes) -> list[str]:
    return content.decode("utf-8", "replace").split(SEPARATOR, 1)


def forget(connection: Connection, keys: Iterable[int]) -> None:
    """Take the texts of the rows with *keys* out again, while their bodies are still there."""
    for chunk in in_chunks(keys):
        chosen = _texts.c.key.in_(chunk)
        if connection.dialect.name == "sqlite":
            rows = connection.execute(_texts.select().where(chosen)).all()
            bodies = bodies_of(connection, [row.key for row in rows])
            old = [(key, *parted(unpack_beside(content, bodies.get(key, b"")))) for key, content in rows]
            if not old:
                continue
            connection.exec_driver_sql(
                "INSERT INTO llmobs_search (llmobs_search, rowid, input, output) VALUES ('delete', ?, ?, ?)", old
            )
        connection.execute(_texts.delete().where(chosen))


def bodies_of(connection: Connection, keys: Sequence[int]) -> dict[int, bytes]:
    """The bodies of each row, one after the other."""
    parts = len(BODY_PARTS)
    found: dict[int, bytes] = {}
    for chunk in in_chunks(key * parts + part for key in keys for part in range(parts)):
        query = select(_bodies.c.key, _bodies.c.codec, _bodies.c.content).where(_bodies.c.key.in_(chunk))
        for key, codec, content in connection.execute(query.order_by(_bodies.c.key)):
            found[key // parts] = found.get(key // parts, b"") + (unpack(content) if codec else content)
    return found


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
