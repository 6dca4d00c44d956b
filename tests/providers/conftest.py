"""An exchange written by hand, read through the public door: :func:`match` by address, then :func:`read`."""

import base64
import json
import struct
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from asgi_llmobs.providers import Wire, match, read
from asgi_llmobs.records import Reading

Ask = Callable[..., Reading]


def encoded(body: Any) -> bytes:
    """A body as bytes: bytes as they are, text encoded, ``None`` empty, everything else as JSON."""
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    return body.encode("utf-8", "replace") if isinstance(body, str) else json.dumps(body).encode()


@pytest.fixture
def ask() -> Ask:
    """Reads one exchange: ``ask(url, request, answer, status=…, headers=…, method=…)``."""

    def run(
        url: str,
        request: Any = None,
        answer: Any = None,
        *,
        status: int | None = 200,
        headers: dict[str, str] | None = None,
        request_headers: dict[str, str] | None = None,
        method: str = "POST",
        complete: bool = True,
    ) -> Reading:
        parts = urlsplit(url)
        found = match(method, parts.hostname or "", parts.port, parts.path)
        assert found is not None, f"{method} {url} is not recorded"
        wire = Wire(
            method=method,
            url=url,
            host=parts.hostname or "",
            path=unquote(parts.path),
            query=parts.query,
            request_headers=request_headers or {},
            request_body=encoded(request),
            status=status,
            response_headers=headers or {},
            response_body=encoded(answer),
            complete=complete,
        )
        return read(wire, found)

    return run


@pytest.fixture
def recorded() -> Callable[..., bool]:
    """Whether a call is recorded at all: ``recorded("POST", url)``."""

    def run(method: str, url: str) -> bool:
        parts = urlsplit(url)
        return match(method, parts.hostname or "", parts.port, parts.path) is not None

    return run


@pytest.fixture
def sse() -> Callable[..., bytes]:
    """Server-sent events: objects, or ``(event, object)`` pairs, or text for data that is no JSON."""

    def run(*events: Any) -> bytes:
        out = []
        for event in events:
            name, data = event if isinstance(event, tuple) else ("", event)
            text = data if isinstance(data, str) else json.dumps(data)
            out.append((f"event: {name}\n" if name else "") + f"data: {text}\n\n")
        return "".join(out).encode("utf-8", "replace")

    return run


@pytest.fixture
def ndjson() -> Callable[..., bytes]:
    """One object a line."""

    def run(*objects: Any) -> bytes:
        return b"".join(json.dumps(item).encode() + b"\n" for item in objects)

    return run


@pytest.fixture
def eventstream() -> Callable[[Iterable[tuple[str, Any]]], bytes]:
    """Amazon's event stream out of ``(event type, object)`` pairs; the checksums are left at zero."""

    def header(name: str, value: str) -> bytes:
        return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()

    def message(kind: str, data: Any) -> bytes:
        label = ":exception-type" if kind.endswith("Exception") else ":event-type"
        headers, payload = header(label, kind) + header(":message-type", "event"), json.dumps(data).encode()
        sizes = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
        return sizes + b"\0" * 4 + headers + payload + b"\0" * 4

    return lambda events: b"".join(message(kind, data) for kind, data in events)


@pytest.fixture
def invoked(eventstream: Any) -> Callable[..., bytes]:
    """The objects of a model's maker as Bedrock streams them: base64 inside ``chunk`` events."""

    def run(*objects: Any) -> bytes:
        chunks = [("chunk", {"bytes": base64.b64encode(json.dumps(item).encode()).decode()}) for item in objects]
        return bytes(eventstream(chunks))

    return run
