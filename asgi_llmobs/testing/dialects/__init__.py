"""The languages the fake provider speaks: by the end of a path, what to read and how to reply."""

from asgi_llmobs.testing.dialects import anthropic, gemini, openai, responses
from asgi_llmobs.testing.dialects.base import Call, Dialect, Piece, Reply

__all__ = ["DIALECTS", "Call", "Dialect", "Piece", "Reply", "find"]

DIALECTS: tuple[Dialect, ...] = (*openai.DIALECTS, *responses.DIALECTS, *anthropic.DIALECTS, *gemini.DIALECTS)


def find(method: str, path: str) -> Dialect | None:
    """The dialect of an address, ``None`` where no provider has such a one."""
    return next((item for item in DIALECTS if item.method == method and item.path.search(path)), None)
