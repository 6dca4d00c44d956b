"""Streams of the plainest form, read in one go: runs of events that differ in one piece of text become one event.

Nearly every event of an answer is the same text but for a word. To parse each for itself takes ten times as long as
to look whether it begins and ends as the one before.
"""

import re
from collections.abc import Callable
from itertools import takewhile
from typing import Any, NamedTuple

import orjson

from asgi_llmobs.providers.framing import MAX_DEPTH

__all__ = ["Chunk", "Pieces", "chunks_at_once"]

DATA, NAME, BLANK = b"data: ", b"event: ", b"\n\n"
STRING = re.compile(rb'(?:[^"\\]|\\.)*+')
OBFUSCATION = b'"obfuscation":"'  # of no length in particular and no meaning: OpenAI pads its events with it
FEW = 3  # events; of less no run is made
TRIES = 32  # so often it is looked whether a run begins, as long as none does


class Chunk(NamedTuple):
    """One object of a stream: the event's name (``""`` where it has none), the object, the offset just after it.

    Where pieces of text are put together it is the offset after the first of them that is not empty.
    """

    type: str
    data: dict[str, Any]
    end: int


class Pieces(NamedTuple):
    """Which strings a dialect puts together: what stands before them, and whether an object adds nothing but one."""

    marks: tuple[bytes, ...]
    only: Callable[[dict[str, Any]], bool]

    @classmethod
    def of(cls, only: Callable[[dict[str, Any]], bool], *names: str) -> "Pieces":
        """Those of the members with these *names*, written with and without a space."""
        return cls(tuple(b'"%s":%s"' % (name.encode(), space) for name in names for space in (b"", b" ")), only)


class Template:
    """What an event has in common with those that differ from it in one piece of text."""

    def __init__(self, event: bytes, start: int) -> None:
        stop = STRING.match(event, start).end()  # type: ignore[union-attr]  # it matches anything
        self.head, self.tail = event[:start], event[stop:]
        self.between = b""
        place = self.tail.find(OBFUSCATION)
        if place >= 0:
            place += len(OBFUSCATION)
            stop = STRING.match(self.tail, place).end()  # type: ignore[union-attr]
            self.between, self.tail = self.tail[:place], self.tail[stop:]

    def run(self, body: bytes, at: int, begin: int) -> tuple[list[bytes], list[int]]:
        """The pieces of all events that are alike, from the first on, and the offsets after them.

        Args:
            body: The stream.
            at: Where the first of them stands.
            begin: Where its data does, behind its name.
        """
        found: list[bytes] = []
        ends: list[int] = []
        head, tail = body[at:begin] + self.head, self.tail + BLANK
        start, stop = len(head), len(self.tail)
        # nearly all time that a stream takes goes by in here
        while body.startswith(head, at):
            at += start
            last = body.find(b"\n", at) - stop
            if last < at or not body.startswith(tail, last):
                break
            found.append(body[at:last])
            at = last + len(tail)
            ends.append(at)
        return self.texts(found), ends

    def texts(self, found: list[bytes]) -> list[bytes]:
        """The strings in all first pieces that are nothing but one."""
        if self.between:
            parts = [piece.partition(self.between) for piece in found]
            found = [text for text, mark, padding in parts if mark and padding.isalnum()]
            if len(found) < len(parts):
                found = [text for text, _, _ in takewhile(lambda part: part[1] and part[2].isalnum(), parts)]
        whole = b"".join(found)
        if b'"' in whole or b"\\" in whole:
            found = list(takewhile(STRING.fullmatch, found))
        return found

    def filled(self, pieces: list[bytes]) -> bytes:
        """One event with all of *pieces*."""
        padding = b"0" if self.between else b""
        return b"".join((self.head, *pieces, self.between, padding, self.tail))


def template_of(event: bytes, pieces: Pieces) -> Template | None:
    """What an event has that adds one piece of text and nothing else."""
    for mark in pieces.marks:
        start = event.find(mark)
        if start >= 0 and event.count(mark) == 1:
            template = Template(event, start + len(mark))
            try:
                data = orjson.loads(event[len(DATA) :])
            except ValueError:
                return None
            return template if template.tail and isinstance(data, dict) and pieces.only(data) else None
    return None


def chunks_at_once(body: bytes, pieces: Pieces | None = None) -> list[Chunk] | None:
    """All chunks of a stream of the plainest form, parsed in one go; ``None`` where it is of any other.

    That form is ``data: {…}`` and a blank line, again and again, and at the end perhaps ``data: [DONE]``; or the same
    with an ``event: …`` before each.

    Args:
        body: Server-sent events.
        pieces: What strings are put together where events differ in nothing else; none unless given.
    """
    if body[-2:] != BLANK or b"\r" in body:
        return None
    found: list[tuple[bytes, bytes, int]] = []  # name, data, end
    named = body.startswith(NAME)
    at, size, left = 0, len(body), TRIES if pieces is not None else 0
    while at < size:
        begin = at
        if named:
            begin = body.find(b"\n", at) + 1
            if not body.startswith(NAME, at):
                return None
        stop = body.find(b"\n", begin)
        if body[stop : stop + 2] != BLANK:
            return None
        name, event, end = body[at + len(NAME) : begin - 1] if named else b"", body[begin:stop], stop + 2
        after = end
        if left and pieces is not None:
            left -= 1
            template = template_of(event, pieces)
            texts, ends = template.run(body, at, begin) if template is not None else ([], [])
            if template is not None and len(texts) >= FEW:
                event, after, left = template.filled(texts), ends[len(texts) - 1], TRIES
                end = next((place for place, text in zip(ends, texts, strict=False) if text), end)
        found.append((name, event, end))
        at = after
    done = found[-1][1] == DATA + b"[DONE]"
    if done:
        found.pop()
    values = objects([event for _, event, _ in found])
    if values is None:
        return None
    chunks = [
        Chunk(name.decode("utf-8", "replace"), value, end) for (name, _, end), value in zip(found, values, strict=True)
    ]
    if done:
        chunks.append(Chunk("[DONE]", {}, size))
    return chunks


def objects(events: list[bytes]) -> list[Any] | None:
    """The objects of all *events*, ``None`` where one is none."""
    for event in events:
        if event[:7] != DATA + b"{" or event[-1:] != b"}" or event.count(b"{") + event.count(b"[") > MAX_DEPTH:
            return None
    try:
        values: list[Any] = orjson.loads(b"[" + b",".join([event[len(DATA) :] for event in events]) + b"]")
    except ValueError:
        return None
    return values if len(values) == len(events) else None
