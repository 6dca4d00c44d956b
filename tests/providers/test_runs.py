"""Streams that are read in one go say what they say when each event is read for itself."""

import json
import random
from typing import Any

import pytest

from asgi_llmobs.providers.anthropic import MESSAGES
from asgi_llmobs.providers.base import Wire
from asgi_llmobs.providers.openai_chat import CHAT
from asgi_llmobs.providers.runs import Pieces, chunks_at_once
from asgi_llmobs.records import Reading

TEXTS = [
    " a",
    "word",
    "",
    "\n",
    '"',
    "\\",
    '\\"',
    "\\\\",
    "é",
    "日本",
    "\ud83d\ude00",
    '"},"x":"',
    '","content":"',
    "{[",
    "\t",
]


def chat(chance: random.Random, text: str) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    padding = {"obfuscation": "x1" * chance.randrange(1, 4)} if chance.random() < 0.8 else {}
    return {"id": "c", "model": "m", "choices": [choice], "usage": None, **padding}


def claude(chance: random.Random, text: str) -> dict[str, Any]:
    kind, name = chance.choice([("text_delta", "text")] * 9 + [("thinking_delta", "thinking")])
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, name: text}}


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("dialect, make", [(CHAT, chat), (MESSAGES, claude)])
def test_read_as_one_by_one(dialect: Any, make: Any, seed: int) -> None:
    """Whatever the texts are, and wherever something else stands between them."""
    chance = random.Random(seed)
    texts = TEXTS if seed % 2 else TEXTS[:3]
    events = [make(chance, chance.choice(texts)) for _ in range(chance.randrange(2, 40))]
    if chance.random() < 0.5:
        events.insert(chance.randrange(len(events)), {"type": "ping"})
    separators = chance.choice([(",", ":"), None])
    ascii_only = chance.random() < 0.5
    name = "event: content_block_delta\n" if dialect is MESSAGES and seed % 3 else ""
    written = [
        f"{name}data: {json.dumps(event, ensure_ascii=ascii_only, separators=separators)}\n\n" for event in events
    ]
    body = "".join(written).encode("utf-8", "surrogatepass")
    # a comment makes it a stream that is not of the plainest form
    readings = [Reading(framing="sse", stream=True) for _ in range(2)]
    for reading, content in zip(readings, (body, b": beat\n\n" + body), strict=True):
        dialect.read(Wire(request_body=b'{"model":"m","stream":true}', response_body=content), reading)
    short, long = readings
    if long.content_offset is not None:
        long.content_offset -= len(b": beat\n\n")

    assert short == long


def test_runs_become_one_event() -> None:
    """Events that differ in one string are put together; its end is that of the first that is not empty."""
    events = [b'data: {"content":"%s","n":1}\n\n' % text for text in (b"", b"a", b"b\\n", b"c")]
    events.append(b'data: {"content":"d","n":2}\n\n')
    found = chunks_at_once(b"".join(events), Pieces.of(lambda data: data.get("n") == 1, "content"))

    assert found is not None
    assert [chunk.data for chunk in found] == [{"content": "ab\nc", "n": 1}, {"content": "d", "n": 2}]
    assert [chunk.end for chunk in found] == [len(b"".join(events[:2])), len(b"".join(events))]


def test_only_what_adds_nothing_else() -> None:
    """Where an event adds more than the string, each stays for itself."""
    events = [b'data: {"content":"%d","calls":["x"]}\n\n' % number for number in range(9)]
    found = chunks_at_once(b"".join(events), Pieces.of(lambda data: "calls" not in data, "content"))

    assert found is not None and [chunk.data["content"] for chunk in found] == [str(number) for number in range(9)]


@pytest.mark.parametrize(
    "body",
    [b"", b"data: 1\n\n", b'data: {"a":1}\r\n\r\n', b'data: {"a":1}', b'id: 1\ndata: {"a":1}\n\n', b'data: {"a":\n\n'],
)
def test_other_streams(body: bytes) -> None:
    """They are left to the reader of all forms."""
    assert chunks_at_once(body) is None
