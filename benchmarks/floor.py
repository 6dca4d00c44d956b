"""The least that anybody could do who keeps as much: rows written by hand with the driver alone.

Nothing is priced, redacted, summed up or compared with what is there already. `benchmarks.ingest` runs it beside ours.
"""

import sqlite3
import time
import zlib
from collections.abc import Sequence
from typing import Any

import orjson

from asgi_llmobs.records import Exchange, Span
from asgi_llmobs.spool import Entry

__all__ = ["floor"]

SCHEMA = """
PRAGMA page_size = 8192;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE spans (
    key INTEGER PRIMARY KEY, id TEXT, trace_id TEXT, parent_id TEXT, session_id TEXT, user_id TEXT, kind TEXT,
    name TEXT, start_ns INTEGER, duration_ns INTEGER, status INTEGER, model TEXT, input_tokens INTEGER,
    output_tokens INTEGER, properties TEXT
);
CREATE INDEX by_start ON spans (start_ns);
CREATE INDEX by_trace ON spans (trace_id, start_ns);
CREATE INDEX by_session ON spans (session_id, start_ns);
CREATE INDEX by_user ON spans (user_id, start_ns);
CREATE INDEX by_model ON spans (model, start_ns);
CREATE TABLE bodies (key INTEGER PRIMARY KEY, body BLOB);
CREATE VIRTUAL TABLE words USING fts5(text, content='');
"""
SPANS = f"INSERT INTO spans VALUES ({', '.join('?' * 15)})"


def floor(path: str, made: Sequence[Entry], batch: int) -> float:
    """Write *made* into a new SQLite file, in transactions of *batch*; the CPU seconds it took.

    Args:
        path: Of the file.
        made: Finished calls and spans.
        batch: How many of them a transaction has.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(SCHEMA)
    begin = time.process_time()
    for start in range(0, len(made), batch):
        rows, bodies, words = [], [], []
        for key, entry in enumerate(made[start : start + batch], start):
            row, body, text = of_call(entry) if isinstance(entry, Exchange) else of_span(entry)
            rows.append((key, *row))
            bodies.append((key, zlib.compress(body)))
            words.append((key, text))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(SPANS, rows)
        connection.executemany("INSERT INTO bodies VALUES (?, ?)", bodies)
        connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", words)
        connection.execute("COMMIT")
    took = time.process_time() - begin
    connection.close()
    return took


def of_call(entry: Exchange) -> tuple[tuple[Any, ...], bytes, str]:
    sent, got = b"".join(entry.request_chunks), b"".join(entry.response_chunks)
    asked, said = orjson.loads(sent), orjson.loads(got)
    usage = said.get("usage") or {}
    texts = [message["content"] for message in asked["messages"]]
    texts += [choice["message"]["content"] for choice in said.get("choices", ())]
    row = (
        entry.id, entry.trace_id, entry.parent_id, entry.session_id, entry.user_id, "llm", None, entry.start_ns,
        (entry.end_clock_ns or 0) - entry.clock_ns, entry.status, said.get("model"), usage.get("prompt_tokens"),
        usage.get("completion_tokens"), orjson.dumps(entry.properties).decode(),
    )  # fmt: skip
    return row, sent + got, "\n".join(texts)


def of_span(entry: Span) -> tuple[tuple[Any, ...], bytes, str]:
    row = (
        entry.id, entry.trace_id, entry.parent_id, entry.session_id, entry.user_id, entry.kind, entry.name,
        entry.start_ns, entry.duration_ns, entry.status, None, None, None,
        orjson.dumps(dict(entry.properties)).decode(),
    )  # fmt: skip
    text = f"{entry.input or ''}\n{entry.output or ''}"
    return row, text.encode(), text
