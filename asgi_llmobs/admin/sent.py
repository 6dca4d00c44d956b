"""What a visitor sent: a body read to a limit and in time, and the fields of a form or a JSON object in it."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import anyio
from starlette.requests import Request

from asgi_llmobs.errors import LLMObsError

__all__ = ["FORM", "JSON", "Refused", "content_type", "fields_of", "read"]

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
SECONDS = 30.0  # in which a body must have arrived
MOST_FIELDS = 1000


class Refused(LLMObsError):
    """What was sent is not taken; *status* says why."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


def content_type(request: Request) -> str:
    """The media type alone, in small letters."""
    return str(request.headers.get("content-type", "")).partition(";")[0].strip().lower()


async def read(request: Request, limit: int) -> bytes:
    """The body.

    Args:
        limit: Bytes.

    Raises:
        Refused: It is larger than *limit* (413), or did not arrive within 30 seconds (408).
    """
    said = request.headers.get("content-length", "")
    if said.isdecimal() and len(said) < 20 and int(said) > limit:
        raise Refused(413)
    content = bytearray()  # no list of chunks: of single bytes it would take forty times as much
    with anyio.move_on_after(SECONDS) as patience:
        async for chunk in request.stream():
            if len(content) + len(chunk) > limit:
                raise Refused(413)
            content += chunk
    if patience.cancelled_caught:
        raise Refused(408)
    return bytes(content)


async def fields_of(request: Request, limit: int, kinds: tuple[str, ...] = (FORM, JSON)) -> dict[str, str]:
    """The fields that were sent. A JSON value that is no text stands as the JSON that it is; null is left out.

    Args:
        limit: Bytes.
        kinds: The media types that are taken; a body without any has no fields.

    Raises:
        Refused: It is of another media type (415), not what it says (400), too large or too slow.
    """
    kind = content_type(request)
    if kind and kind not in kinds:
        raise Refused(415)
    content = await read(request, limit)
    if not content:
        return {}
    if not kind:
        raise Refused(415)
    return form_fields(content) if kind == FORM else json_fields(content)


def form_fields(content: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(content.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise Refused(400) from None
    return dict(pairs)


def json_fields(content: bytes) -> dict[str, str]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise Refused(400) from None
    if not isinstance(found, Mapping) or len(found) > MOST_FIELDS:
        raise Refused(400)
    return {name: as_field(value) for name, value in found.items() if value is not None}


def as_field(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
