"""Both directions of an exchange: decoded, as a dialect reads them, and as they may be stored."""

import hashlib
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from asgi_llmobs import bodies, encodings
from asgi_llmobs.providers import Wire
from asgi_llmobs.providers.multipart import summary_of
from asgi_llmobs.records import Body, Exchange
from asgi_llmobs.redaction import Redactor, secrets_of, seen_headers, without_secrets

__all__ = ["Side", "Sides", "wire_of"]

DECODE_LIMIT = 64 * 1024 * 1024


class Side(NamedTuple):
    """One direction: what can be read, what may be read of it aloud, and what is stored."""

    content: bytes
    safe: bytes  # with redaction done; the same object where it found nothing
    body: Body | None


class Sides:
    """What went out and what came back.

    Args:
        exchange: A finished one.
        redactor: Takes out what must not be stored.
        max_body: Bytes stored of one body.
    """

    def __init__(self, exchange: Exchange, redactor: Redactor, max_body: int) -> None:
        self.exchange = exchange
        harmless = exchange.suspect is False
        sent_headers = seen_headers(exchange.request_headers, response=False, harmless=harmless)
        got_headers = seen_headers(exchange.response_headers, response=True, harmless=harmless)
        self.request_headers, self.response_headers = sent_headers.by_name, got_headers.by_name
        self.secrets = secrets_of(sent_headers.secret, exchange.url)
        secrets = () if harmless else self.secrets
        self.kept_request_headers = without_secrets(sent_headers.kept, secrets)
        self.kept_response_headers = without_secrets(got_headers.kept, secrets)
        self.warnings: list[str] = []
        self._redactor = redactor
        self._max_body = max_body
        coding = self.request_headers.get("content-encoding", "")
        sent = encodings.decode(exchange.request_chunks, coding, DECODE_LIMIT)
        self.sent = self._side(sent, "request", self.request_headers, coded=bool(coding))
        coding = "" if exchange.decoded else self.response_headers.get("content-encoding", "")
        self.decoded = encodings.decode(exchange.response_chunks, coding, DECODE_LIMIT)
        self.got = self._side(self.decoded, "response", self.response_headers, coded=bool(coding))

    @property
    def changed(self) -> bool:
        """Whether redaction took anything out: then every text has to be read again."""
        return self.sent.safe is not self.sent.content or self.got.safe is not self.got.content

    def wire(self, *, safe: bool = False) -> Wire:
        """The exchange as a dialect reads it; *safe*: what redaction left of it."""
        sent, got = (self.sent.safe, self.got.safe) if safe else (self.sent.content, self.got.content)
        return wire_of(self.exchange, self.request_headers, self.response_headers, sent, got)

    def withhold_response(self, why: str) -> None:
        """Do not store the response's bytes after all."""
        self.warnings.append(why)
        if self.got.body is not None:
            whole = self.got.body.sha256 or hashlib.sha256(self.got.content).hexdigest()
            body = replace(self.got.body, content=b"", slimmed=True, sha256=whole)
            self.got = self.got._replace(body=body)

    def _side(self, decoded: encodings.Decoded, which: str, headers: dict[str, str], *, coded: bool) -> Side:
        exchange = self.exchange
        response = which == "response"
        size = exchange.response_size if response else exchange.request_size
        truncated = exchange.response_truncated if response else exchange.request_truncated
        content = decoded.body
        if truncated:
            kept = "only head and tail were kept" if content else "given up, because too much was waiting"
            self.warnings.append(f"{which} body of {size} bytes: {kept}")
        if decoded.problem:
            self.warnings.append(f"{which}: {decoded.problem}")
        if not content:
            return Side(b"", b"", Body(content=b"", size=size, truncated=True) if truncated else None)
        media_type = headers.get("content-type", "")
        stored, slimmed = self._slim(content, media_type, response=response)
        harmless = exchange.suspect is False and not coded
        safe = self._redactor.body(stored, self.secrets, harmless=harmless)
        in_whole = safe == content and len(content) <= self._max_body  # then its hash can be had at any time
        body = bodies.keep(
            safe,
            limit=self._max_body,
            media_type=media_type or None,
            size=size if truncated else len(content),
            sha256=None if in_whole and not truncated else self._sha256(content, truncated, response),
            truncated=truncated,
            slimmed=slimmed,
        )
        if safe == stored:
            return Side(content, content, body)
        # what is read again has to be of the kind that its headers say
        return Side(content, self._redactor.body(content, self.secrets) if is_form(media_type) else safe, body)

    def _slim(self, content: bytes, media_type: str, *, response: bool) -> tuple[bytes, bool]:
        if is_form(media_type):
            return summary_of(content, media_type), True
        if not bodies.is_text(media_type, content) and "amazon.eventstream" not in media_type:
            return b"", True
        if response and self.exchange.match.dialect.operation == "embeddings":
            return bodies.without_vectors(content)
        return bodies.slim(content)

    def _sha256(self, content: bytes, truncated: bool, response: bool) -> str | None:
        if truncated:
            return self.exchange.response_sha256 if response else None
        return hashlib.sha256(content).hexdigest()


def wire_of(
    exchange: Exchange,
    request_headers: dict[str, str],
    response_headers: dict[str, str],
    request_body: bytes,
    response_body: bytes,
) -> Wire:
    """An exchange with these bodies, as a dialect reads it."""
    parts = urlsplit(exchange.url)
    return Wire(
        method=exchange.method,
        url=exchange.url,
        host=parts.hostname or "",
        path=unquote(parts.path),
        query=parts.query,
        request_headers=request_headers,
        request_body=request_body,
        status=exchange.status,
        response_headers=response_headers,
        response_body=response_body,
        complete=exchange.eof and not exchange.response_truncated,
    )


def is_form(media_type: str) -> bool:
    return media_type[:10].lower() == "multipart/"
