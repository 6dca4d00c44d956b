"""A record with content that a database refuses, made to fit: of what is long head and tail, and of bodies the hash."""

import hashlib
from dataclasses import replace
from typing import Any

from asgi_llmobs.records import Body, Request, Span

__all__ = ["fitted"]

LONG = 64 * 1024  # bytes, or characters: no database refuses so little for its size
CUT = "the database refused the content as it was: only head and tail of it were kept"


def fitted(record: Span) -> Span | None:
    """*record* with so much of its content as any database takes; ``None`` where it has no more than that."""
    changes: dict[str, Any] = {}
    for label in ("request_body", "response_body"):
        body = getattr(record, label, None)
        if body is not None and len(body.content) > LONG:
            changes[label] = cut(body)
    for label in ("input", "output", "text", "reasoning_text", "refusal"):
        text = getattr(record, label, None)
        if text is not None and len(text) > LONG:
            changes[label] = ends(text)
    if not changes:
        return None
    if isinstance(record, Request):
        # they repeat what stands in the bodies
        changes.update(messages=(), tools=(), output_messages=(), tool_calls=(), warnings=(*record.warnings, CUT))
    return replace(record, **changes)


def cut(body: Body) -> Body:
    """Head and tail of *body*, with size and hash of the whole."""
    sha256 = body.sha256
    if sha256 is None and not body.truncated and not body.slimmed:
        sha256 = hashlib.sha256(body.content).hexdigest()
    return replace(body, content=ends(body.content), sha256=sha256, truncated=True)


def ends(long: Any) -> Any:
    """Head and tail of a text, or of bytes."""
    return long[: LONG - LONG // 4] + long[-(LONG // 4) :]
