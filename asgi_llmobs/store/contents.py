"""What is shown of a span but never filtered by, in one packed piece: details, bodies, and the words it is found by.

They repeat each other: the words stand in the bodies, the details name what the bodies name. Packed together they take
less room and half the time.
"""

import hashlib
from collections.abc import Mapping
from struct import Struct
from typing import Any, NamedTuple

import orjson

from asgi_llmobs.records import Body
from asgi_llmobs.store.values import bounded, integer, json_bytes, pack, unpack

__all__ = ["Content", "NOTHING", "Words", "packed_content", "unpacked_content"]

HEAD = Struct("<I")  # bytes of the JSON before the rest
MEDIA_TYPE = 200  # characters


class Words(NamedTuple):
    """The texts of a span that can be searched."""

    input: str
    output: str


class Content(NamedTuple):
    """What was packed."""

    detail: dict[str, Any]
    bodies: dict[str, Body]
    words: Words | None


NOTHING = Content({}, {}, None)


def packed_content(detail: Mapping[str, Any], bodies: Mapping[str, Body], words: Words | None) -> bytes:
    """All of a span's content in one piece.

    Args:
        detail: Anything that JSON can say; other things become text.
        bodies: By their names.
        words: What the full-text index is given; it can be taken out of it with these very words only.
    """
    told = [
        [
            part, len(body.content), bounded(body.media_type, MEDIA_TYPE), integer(body.size) or 0, body.sha256,
            body.truncated, body.slimmed,
        ]
        for part, body in bodies.items()
    ]  # fmt: skip
    pieces = [body.content for body in bodies.values()]
    sizes = None
    if words is not None:
        texts = words.input.encode(), words.output.encode()
        sizes = [len(text) for text in texts]
        pieces += texts
    head = json_bytes([detail, told, sizes])
    return pack(b"".join((HEAD.pack(len(head)), head, *pieces)))


def unpacked_content(content: bytes) -> Content:
    """What :func:`packed_content` was given; a body that was stored in whole has its hash."""
    whole = unpack(content)
    (size,) = HEAD.unpack_from(whole)
    place = HEAD.size + size
    detail, told, sizes = orjson.loads(whole[HEAD.size : place])
    bodies = {}
    for part, length, media_type, full, sha256, truncated, slimmed in told:
        piece = whole[place : place + length]
        place += length
        if sha256 is None and not truncated and not slimmed and length == full:
            sha256 = hashlib.sha256(piece).hexdigest()
        bodies[part] = Body(
            content=piece, media_type=media_type, size=full, sha256=sha256, truncated=truncated, slimmed=slimmed
        )
    words = None
    if sizes is not None:
        middle = place + sizes[0]
        words = Words(whole[place:middle].decode("utf-8", "replace"), whole[middle:].decode("utf-8", "replace"))
    return Content(detail if isinstance(detail, dict) else {}, bodies, words)
