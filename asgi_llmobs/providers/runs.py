"""Streams of the plainest form, read in one go: runs of events that differ in one piece of text become one event.

Nearly every event of an answer is the same text but for a word. To parse each for itself takes ten times as long as
to look whether it begins and ends as the one before.
"""

import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import orjson

from asgi_llmobs.providers.framing import MAX_DEPTH

__all__ = ["Chunk", "Pieces", "chunks_at_once"]

DATA, NAME = b"data: ", b"event: "
STRING = re.compile(rb'(?:[^"\\]|\\.)*+')
OBFUSCATION = b'"obfuscation":"'  # of no length in particular and no meaning: OpenAI pads its events with it
FEW = 3  # events; of less no run is made
TRIES = 32  # so often it is looked whether a run begins, as long as none did


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

    def run(self, events: list[bytes]) -> list[bytes]:
        """The pieces of all first *events* that are alike."""
        found = []
        head, tail, between = self.head, self.tail, self.between
        start, stop = len(head), -len(tail)
        for event in events:
            if event[:start] != head or event[stop:] != tail:
                break
            piece = event[start:stop]
            if between:
                piece, mark, padding = piece.partition(between)
                if not mark or not padding.isalnum():
                    break
            if (b'"' in piece or b"\\" in piece) and not STRING.fullmatch(piece):
                break
            found.append(piece)
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


def merged(
    events: list[bytes], ends: list[int], names: list[bytes], pieces: Pieces
) -> tuple[list[bytes], list[int], list[bytes]]:
    """The three lists with each run of events as one."""
    found: list[tuple[bytes, int, bytes]] = []
    place = tries = 0
    while place < len(events):
        event, end, count = events[place], ends[place], 1
        template = template_of(event, pieces) if tries < TRIES else None
        if template is not None:
            texts = template.run(events[place:])
            if len(texts) >= FEW and len(set(names[place : place + len(texts)])) == 1:
                event, count, tries = template.filled(texts), len(texts), 0
                end = next((ends[place + index] for index, text in enumerate(texts) if text), end)
        found.append((event, end, names[place]))
        tries += 1
        place += count
    return [event for event, _, _ in found], [end for _, end, _ in found], [name for _, _, name in found]


def chunks_at_once(body: bytes, pieces: Pieces | None = None) -> list[Chunk] | None:
    """All chunks of a stream of the plainest form, parsed in one go; ``None`` where it is of any other.

    That form is ``data: {…}`` and a blank line, again and again, and at the end perhaps ``data: [DONE]``; or the same
    with an ``event: …`` before each.

    Args:
        body: Server-sent events.
        pieces: What strings are put together where events differ in nothing else; none unless given.
    """
    lines = body.split(b"\n")
    if lines.pop() or len(lines) < 2 or b"\r" in body:
        return None
    step = 3 if lines[0].startswith(NAME) else 2
    events, blank = lines[step - 2 :: step], lines[step - 1 :: step]
    names = lines[::3] if step == 3 else [NAME] * len(events)
    if len(lines) != step * len(events) or any(blank) or not all(name.startswith(NAME) for name in names):
        return None
    sizes = list(accumulate(map(len, lines)))
    ends = [
        size + place for size, place in zip(sizes[step - 1 :: step], range(step, len(lines) + 1, step), strict=True)
    ]
    done = events[-1] == DATA + b"[DONE]"
    if done:
        events.pop()
    if pieces is not None:
        events, ends, names = merged(events, ends, names, pieces)
    values = objects(events)
    if values is None:
        return None
    named = [name[len(NAME) :].decode("utf-8", "replace") for name in names]
    found = [Chunk(*chunk) for chunk in zip(named, values, ends, strict=False)]
    if done:
        found.append(Chunk("[DONE]", {}, len(body)))
    return found


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
