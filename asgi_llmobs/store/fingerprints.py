"""What tells that two requests asked the same, or began the same: short hashes, which say nothing of the texts."""

from hashlib import blake2b
from typing import NamedTuple

from asgi_llmobs.records import Request
from asgi_llmobs.store.values import json_bytes

__all__ = ["PREFIX", "Fingerprints", "fingerprints", "prompt_text"]

PREFIX = 4_096  # characters, about a thousand tokens: providers cache no shorter beginning


class Fingerprints(NamedTuple):
    """Of one request; ``None`` where its body is not stored or is too short to tell."""

    prompt: int | None  # of all that was sent: two that are alike were the same call
    prefix: int | None  # of the first 4,096 characters of the prompt, tools first
    tools_size: int | None  # bytes of the definitions of tools


NONE = Fingerprints(None, None, None)


def fingerprints(request: Request) -> Fingerprints:
    """The fingerprints of a request as it is stored."""
    body = request.request_body
    if body is None:
        return NONE
    whole = (body.sha256 or "").encode() if body.truncated or body.slimmed else body.content
    told = f"{request.api}\0{request.request_model}\0".encode("utf-8", "replace")
    tools = json_bytes(request.tools) if request.tools else b""
    beginning = prompt_text(request, PREFIX, tools)
    return Fingerprints(
        short_hash(told + whole) if whole else None,
        short_hash(told + beginning.encode("utf-8", "replace")) if len(beginning) == PREFIX else None,
        len(tools) or None,
    )


def prompt_text(request: Request, limit: int, tools: bytes | None = None) -> str:
    """The beginning of what the model reads: the tools, then the messages in order.

    Args:
        request: With its messages and tools.
        limit: Characters.
        tools: The tools as JSON, where they were made already.
    """
    if tools is None:
        tools = json_bytes(request.tools) if request.tools else b""
    pieces = [tools[: 4 * limit].decode("utf-8", "replace")[:limit]]
    left = limit - len(pieces[0])
    for message in request.messages:
        if left <= 0:
            break
        text = "\n".join([message.role, *(part.content or part.name or "" for part in message.parts)])
        pieces.append(text[:left])
        left -= len(text)
    return "".join(pieces)


def short_hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), signed=True)
