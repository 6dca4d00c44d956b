"""Bodies as they are stored: long base64 runs and vectors replaced by what they are, then bounded."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from asgi_llmobs.patterns import compiled
from asgi_llmobs.records import Body

__all__ = ["alike", "distinct", "equal_start", "is_text", "keep", "slim", "without_repeats", "without_vectors"]

SLIM_ABOVE = 64 * 1024
# whole base64 strings of images and audio; a possessive class so that it never backtracks
BASE64_RUN = rb"[A-Za-z0-9+/_-]{16384,}+={0,2}"
HALF = 8192
HALF_RUN = rb"[A-Za-z0-9+/_-]{8192}"
VECTOR = rb"\[(?:\s*+-?+[0-9][0-9.eE+-]*+\s*+,?+){16,}+\]"
BASE64_EMBEDDING = rb'("embedding"\s*+:\s*+)"[A-Za-z0-9+/]{64,}+={0,2}"'

ENDINGS = (b"\r\n\r\n", b"\n\n", b"\r\n", b"\n")  # of the events of a stream
FIRST_EVENTS = 2_048  # bytes in which such an ending has to stand
MANY = 6  # events that differ in one string; of less nothing is left out
TRIES = 16  # events that are compared with the one before, to find out in what those to come will be alike

BINARY_TYPES = frozenset(("application/octet-stream", "application/zip", "application/pdf"))


def slim(content: bytes) -> tuple[bytes, bool]:
    """*content* with base64 runs of 16 KB and more replaced by their size and hash."""
    if len(content) < SLIM_ABOVE or not has_base64_run(content):
        return content, False
    found = 0

    def replace(match: re.Match[bytes]) -> bytes:
        nonlocal found
        found += 1
        run = match.group()
        return b"[base64 of %d characters, sha256 %s]" % (len(run), hashlib.sha256(run).hexdigest()[:16].encode())

    out = compiled(BASE64_RUN).sub(replace, content)
    return out, found > 0


def has_base64_run(content: bytes) -> bool:
    """Whether there may be a run of 16 KB: it would cover one whole half of that length, wherever it starts."""
    half = compiled(HALF_RUN)
    return any(half.match(content, at) for at in range(0, len(content) - HALF + 1, HALF))


def without_vectors(content: bytes) -> tuple[bytes, bool]:
    """*content* with lists of 16 numbers and more, and base64 embeddings, replaced by how long they are."""
    found = 0

    def numbers(match: re.Match[bytes]) -> bytes:
        nonlocal found
        found += 1
        return b'"[%d numbers]"' % (match.group().count(b",") + 1)

    def encoded(match: re.Match[bytes]) -> bytes:
        nonlocal found
        found += 1
        return match.group(1) + b'"[base64 vector]"'

    out = compiled(BASE64_EMBEDDING).sub(encoded, compiled(VECTOR).sub(numbers, content))
    return out, found > 0


def keep(
    content: bytes, *, limit: int, media_type: str | None, size: int, sha256: str | None, truncated: bool, slimmed: bool
) -> Body:
    """A body bounded to *limit* bytes, head and tail, with size and hash of the whole."""
    if len(content) > limit:
        content = content[: limit - limit // 4] + content[-(limit // 4) :]
        truncated = True
    return Body(content=content, media_type=media_type, size=size, sha256=sha256, truncated=truncated, slimmed=slimmed)


def is_text(media_type: str, content: bytes) -> bool:
    """Whether a body is text, by its type, or where that says nothing by its first bytes."""
    kind = media_type.partition(";")[0].strip().lower()
    if kind.startswith(("audio/", "image/", "video/")) or kind in BINARY_TYPES:
        return False
    if kind.startswith("text/") or kind.endswith(("json", "xml", "x-www-form-urlencoded", "event-stream")):
        return True
    return b"\0" not in content[:512]


def distinct(content: bytes) -> bytes:
    """*content* without what its events repeat: for whoever looks for something in it.

    The events of a stream mostly differ from each other in one string. What stands between two such strings is given
    once, and each string in its quotation marks, so that nothing that stood in one of them is cut or joined.
    """
    between = next((ending for ending in ENDINGS if ending in content[:FIRST_EVENTS]), None)
    if between is None:
        return content
    events = content.split(between)
    head, tail = repeated(events)
    return strings(events, head, tail, between) if head else content


def without_repeats(chunks: Sequence[bytes]) -> bytes:
    """:func:`distinct` of a body in pieces, each of which is mostly an event: of others nothing is left out."""
    head, tail = repeated(chunks)
    return strings(chunks, head, tail) if head else b"".join(chunks)


def strings(events: Sequence[bytes], head: bytes, tail: bytes, between: bytes = b"") -> bytes:
    """What of *events* is not *head* and *tail*, each of them between quotation marks; those two stand there once."""
    start, stop, least = len(head), -len(tail), len(head) + len(tail)
    pieces: list[bytes] = [tail + between + head]
    others: list[bytes] = []  # unlike them: given as they are, with what stood around them
    for event in events:
        if event.startswith(head) and event.endswith(tail) and len(event) >= least:
            if others:
                pieces.append(between.join((tail, *others, head)))
                others = []
            pieces.append(event[start:stop])
        else:
            others.append(event)
    pieces.append(between.join((tail, *others)))
    return b'"\n"'.join(pieces)


def repeated(events: Sequence[bytes]) -> tuple[bytes, bytes]:
    """How most of *events* begin and end; empty where they are not alike. The first of all is mostly unlike them."""
    for at in range(2, min(len(events) - MANY, TRIES)):
        head, tail = alike(events[at - 1], events[at])
        if head and tail:
            some = events[at : at + MANY]
            if 2 * sum(event.startswith(head) and event.endswith(tail) for event in some) > MANY:
                return head, tail
    return b"", b""


def alike(one: bytes, other: bytes) -> tuple[bytes, bytes]:
    """How both begin, up to a quotation mark, and how both end, from one on; empty where they are not alike."""
    head = one[: equal_start(one, other)]
    head = head[: head.rfind(b'"') + 1]
    tail = one[len(head) :][::-1]
    tail = tail[: equal_start(tail, other[len(head) :][::-1])]
    return head, tail[: tail.rfind(b'"') + 1][::-1]


def equal_start(one: Sequence[Any], other: Sequence[Any]) -> int:
    """So many items at the start of both are the same: bytes, characters, or whatever else slices compare."""
    low, high = 0, min(len(one), len(other)) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
