"""The answers of the admin: every one carries the same guard headers, and says nothing that it need not."""

import gzip
import secrets
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from asgi_llmobs.admin.api import as_json
from asgi_llmobs.admin.assets import Asset
from asgi_llmobs.admin.page import File

__all__ = ["attachment", "html", "json_answer", "new_nonce", "plain", "problem", "redirect", "static"]

COMPRESS_FROM = 1400  # bytes: below, a packet is a packet
GUARD = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
INERT = "default-src 'none'; frame-ancestors 'none'; sandbox"


def new_nonce() -> str:
    """A value that only the scripts and styles of one page know."""
    return secrets.token_urlsafe(16)


def page_policy(nonce: str) -> str:
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def html(
    content: bytes, nonce: str, *, status: int = 200, gzipped: bool = False, headers: Mapping[str, str] | None = None
) -> Response:
    """A page."""
    return sized(
        content,
        status,
        gzipped,
        {
            **GUARD,
            "content-type": "text/html; charset=utf-8",
            "content-security-policy": page_policy(nonce),
            **(headers or {}),
        },
    )


def json_answer(
    value: object, *, status: int = 200, gzipped: bool = False, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON twin."""
    return sized(
        as_json(value),
        status,
        gzipped,
        {
            **GUARD,
            "content-type": "application/json",
            "content-security-policy": INERT,
            **(headers or {}),
        },
    )


def sized(content: bytes, status: int, gzipped: bool, headers: dict[str, str]) -> Response:
    headers["vary"] = "Accept-Encoding, Cookie"
    if gzipped and len(content) >= COMPRESS_FROM:
        content = gzip.compress(content, 5, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(content, status, headers)


def problem(status: int, detail: str = "", *, headers: Mapping[str, str] | None = None, **more: str | int) -> Response:
    """An error as JSON: the status in words, or *detail*."""
    return json_answer({"detail": detail or HTTPStatus(status).phrase, **more}, status=status, headers=headers)


def plain(status: int, *, headers: Mapping[str, str] | None = None) -> Response:
    """Nothing but a status."""
    return Response(b"", status, {**GUARD, "content-security-policy": INERT, **(headers or {})})


def message(status: int, text: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """One sentence, where no page can be made."""
    own = {"content-type": "text/plain; charset=utf-8", "content-security-policy": INERT}
    return Response(text.encode(), status, {**GUARD, **own, **(headers or {})})


def redirect(location: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """On to *location*, which must be relative and start with a dot, so that it can only lead below this host."""
    if not location.startswith(("./", "../")):
        raise ValueError("redirects are relative")
    return plain(303, headers={"location": location, **(headers or {})})


def attachment(file: File) -> Response:
    """A download under one of our own names; the browser neither shows nor runs it. Images are shown."""
    if file.image_type in IMAGES:
        return Response(file.content, 200, {**GUARD, "content-type": file.image_type, "content-security-policy": INERT})
    return Response(
        file.content,
        200,
        {
            **GUARD,
            "content-type": "application/octet-stream",
            "content-disposition": f'attachment; filename="{file.name}"',
            "content-security-policy": INERT,
        },
    )


def static(asset: Asset, *, gzipped: bool) -> Response:
    """One of our files; its name changes with its content, so it may be kept for ever."""
    headers = {
        **GUARD,
        "content-type": asset.media_type,
        "cache-control": "public, max-age=31536000, immutable",
        "content-security-policy": INERT,
        "vary": "Accept-Encoding",
    }
    if gzipped:
        return Response(asset.gzipped, 200, {**headers, "content-encoding": "gzip"})
    return Response(asset.content, 200, headers)
