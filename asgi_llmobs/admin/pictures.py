"""Images in a stored body: found by their hash, told by their first bytes, never by what the body calls them."""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from asgi_llmobs.records import Body, Request

__all__ = ["picture_of", "pictures_in"]

LARGEST = 4 * 1024 * 1024  # bytes of one that is shown
LEAST = 24  # characters of base64 that can be one
DEEPEST = 40
SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def picture_of(request: Request, sha256: str) -> tuple[bytes, str] | None:
    """The image with this hash among the bodies of *request*, and its media type; ``None`` where there is none.

    Only PNG, JPEG, GIF and WebP of at most 4 MB: what else a body holds is never shown by the browser.
    """
    for body in (request.request_body, request.response_body):
        for content in pictures(body):
            if hashlib.sha256(content).hexdigest() == sha256:
                return content, kind_of(content) or ""
    return None


def pictures_in(request: Request) -> set[str]:
    """The hashes of the images that can be shown; nothing is looked for where no message names one."""
    parts = [part for message in (*request.messages, *request.output_messages) for part in message.parts]
    wanted = {part.sha256 for part in parts if part.modality == "image" and part.sha256}
    if not wanted:
        return set()
    bodies = (request.request_body, request.response_body)
    return {hashlib.sha256(content).hexdigest() for body in bodies for content in pictures(body)} & wanted


def pictures(body: Body | None) -> Iterator[bytes]:
    """Whatever in *body* may be an image."""
    if body is None:
        return
    if kind_of(body.content) is not None and len(body.content) <= LARGEST:
        yield body.content
        return
    try:
        found = json.loads(body.content)
    except (ValueError, RecursionError):
        return
    for text in strings(found):
        data = text.partition(",")[2] if text[:5].lower() == "data:" else text
        if LEAST <= len(data) <= LARGEST * 4 // 3 and " " not in data[:100]:
            try:
                content = base64.b64decode(data.replace("-", "+").replace("_", "/") + "=" * (-len(data) % 4))
            except (binascii.Error, ValueError):
                continue
            if kind_of(content) is not None:
                yield content


def strings(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < DEEPEST and isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item, depth + 1)


def kind_of(content: bytes) -> str | None:
    """The media type that the first bytes of an image say."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in SIGNATURES if content.startswith(start)), None)
