"""What a dialect of the fake provider is: an address, an error shape, and how to reply."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from asgi_llmobs.testing.answers import Answer, Question

__all__ = ["Call", "Dialect", "Piece", "Reply", "as_text", "fragments", "json_reply", "numbered", "sse"]


class Piece(NamedTuple):
    """Bytes that are sent at once. *content*: they carry some of the answer, so the scripted delays apply."""

    data: bytes
    content: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as a dialect gets it: the body parsed, the query and the groups of the address beside it."""

    body: dict[str, Any]
    path: str
    query: dict[str, str]
    number: int  # of the request, from 1: makes ids that differ and repeat from run to run


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What goes back: a whole body, or pieces."""

    body: bytes = b""
    pieces: Iterable[Piece] | None = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One kind of address.

    ``read`` turns a call into a question, ``reply`` an answer into bytes; an address that answers without a model's
    text (embeddings, images, …) has no ``read`` and its ``reply`` gets ``None``.
    """

    provider: str
    operation: str
    path: re.Pattern[str]
    reply: Callable[[Call, Question | None, Answer | None], Reply]
    error: Callable[[int, str], dict[str, Any]]
    read: Callable[[Call], Question] | None = None
    method: str = "POST"


def json_reply(value: Any) -> Reply:
    """A whole JSON body."""
    return Reply(body=json.dumps(value, ensure_ascii=False).encode())


def sse(value: Any, event: str | None = None, *, content: bool = False) -> Piece:
    """One server-sent event."""
    data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Piece((f"event: {event}\n" if event else "").encode() + f"data: {data}\n\n".encode(), content)


def fragments(text: str, words: int = 3) -> Iterator[str]:
    """The text in pieces of a few words; joined they are the text again."""
    pieces = re.findall(r"\S+\s*|\s+", text)
    for start in range(0, len(pieces), words):
        yield "".join(pieces[start : start + words])


def as_text(content: Any) -> str:
    """The text in a message's content, whatever its shape: a string, parts, or JSON that is kept as JSON."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(part if isinstance(part, str) else _part_text(part) for part in content)
    return json.dumps(content, ensure_ascii=False)


def _part_text(part: Any) -> str:
    if not isinstance(part, dict):
        return str(part)
    text = part.get("text") or part.get("thinking")
    return text if isinstance(text, str) else ""


def numbered(prefix: str, number: int) -> str:
    """An id in a provider's style, the same in every run."""
    return f"{prefix}{number:024x}"
