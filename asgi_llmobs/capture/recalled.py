"""Calls and steps that the app tells of afterwards: put together as if they had been seen."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any
from urllib.parse import urlsplit

import orjson

from asgi_llmobs.capture import annotations
from asgi_llmobs.capture.nodes import nodes
from asgi_llmobs.capture.recorder import Recorder
from asgi_llmobs.context import Place, Trace, new_span_id
from asgi_llmobs.frozen import record
from asgi_llmobs.providers import GENERIC, PROVIDERS, Match, match
from asgi_llmobs.providers.otel import dumped
from asgi_llmobs.records import Annotations, Exchange, Kind, Outcome, Span

__all__ = ["Recalled", "as_headers", "call_of", "json_of", "placed", "step_of"]

PIECE = b"data:"
# by what a body is like, where the address does not say it: the path on which such bodies are common
SHAPES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("/v1/chat/completions", ("choices",)),
    ("/v1/messages", ("stop_reason",)),
    ("/v1beta/models/gemini:generateContent", ("candidates",)),
    ("/v1/responses", ("output",)),
    ("/api/chat", ("message", "done")),
    ("/v1/embeddings", ("data", "usage")),
)
STREAM_SHAPES: tuple[tuple[str, bytes], ...] = (
    ("/v1/messages", b'"message_start"'),
    ("/v1/responses", b'"response.created"'),
    ("/v1beta/models/gemini:streamGenerateContent", b'"candidates"'),
    ("/v1/chat/completions", b'"choices"'),
)


@record(frozen=False, eq=False, repr=False, kw_only=True)
class Recalled:
    """What was told of one call or step. Times are nanoseconds, since 1970 or since its start."""

    request: Any = None
    response: Any = None  # a text is an answer as it came, a stream perhaps
    url: str = ""
    provider: str | None = None
    name: str | None = None
    status: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    start_ns: int = 0
    duration_ns: int = 0
    first_token_ns: int | None = None
    said: Annotations = annotations.NONE
    properties: Mapping[str, str] = field(default_factory=dict)
    request_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    response_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    caller: str | None = None
    id: str = field(default_factory=new_span_id)
    trace_id: str | None = None
    parent_id: str | None = None

    def __post_init__(self) -> None:
        try:
            urlsplit(self.url)
        except ValueError:
            self.url = ""  # what is no address says nothing of who answered


def json_of(value: Any) -> Any:
    """*value* as JSON would have it: models of pydantic and of the SDKs as what they hold."""
    for dump in ("model_dump", "to_dict", "dict"):
        method = getattr(value, dump, None)
        if callable(method) and not isinstance(value, Mapping | type):
            return method(mode="json", exclude_none=True) if dump == "model_dump" else method()
    return value


def body_of(value: Any) -> bytes:
    value = json_of(value)
    if value is None:
        return b""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    return value.encode("utf-8", "replace") if isinstance(value, str) else dumped(value)


def matched(recalled: Recalled, sent: bytes, got: bytes, extra: Any) -> Match:
    """Who answered and in which dialect: by the address, else by what the answer is like."""
    parts = urlsplit(recalled.url)
    found = match("POST", parts.hostname or "", port_of(recalled.url), parts.path, extra)
    if found is None:
        path = path_like(got)
        found = (match("POST", "", None, path) if path else None) or GENERIC
    named = (recalled.provider or "").strip().lower()
    if named:
        known = next((one.name for one in PROVIDERS if named in (one.name, one.otel)), named[:100])
        return found._replace(provider=known) if found.provider == "unknown" else found
    return found


def port_of(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        return None


def path_like(got: bytes) -> str | None:
    try:
        answer = orjson.loads(got)
    except orjson.JSONDecodeError:
        return next((path for path, mark in STREAM_SHAPES if mark in got), None)
    if not isinstance(answer, dict):
        return None
    return next((path for path, names in SHAPES if all(name in answer for name in names)), None)


def placed(recalled: Recalled, recorder: Recorder, here: Place | None) -> Trace:
    """The trace that it belongs to; its ids are set."""
    said = recalled.said
    if recalled.trace_id is not None:
        trace = recorder.new_trace(recalled.trace_id)
    elif here is not None:
        trace, recalled.parent_id = here.trace, recalled.parent_id or here.span_id
        if said.node_id:
            nodes.remember(trace, said)
    elif said.node_id:
        trace = nodes.trace_of(recorder, said)
    else:
        trace = recorder.new_trace()
    recalled.trace_id = trace.id
    return trace


def call_of(recalled: Recalled, recorder: Recorder, trace: Trace | None = None) -> Exchange:
    """A call of a model."""
    config, said = recorder.config, recalled.said
    sent, got = body_of(recalled.request), body_of(recalled.response)
    headers = [*recalled.response_headers]
    if not any(name.lower() == b"content-type" for name, _ in headers):
        kind = b"text/event-stream" if got.lstrip()[:512].startswith((PIECE, b"event:")) else b"application/json"
        headers.append((b"content-type", kind))
    error = recalled.error_type
    omit = config.capture == "metadata"
    clock = time.monotonic_ns() - recalled.duration_ns
    first = None if recalled.first_token_ns is None else clock + recalled.first_token_ns
    end = clock + recalled.duration_ns
    return Exchange(
        id=recalled.id,
        trace_id=recalled.trace_id or "",
        parent_id=recalled.parent_id,
        match=matched(recalled, sent, got, config.providers),
        method="POST",
        url=recalled.url,
        start_ns=recalled.start_ns,
        clock_ns=clock,
        first_start_ns=recalled.start_ns,
        first_clock_ns=clock,
        request_headers=[*recalled.request_headers, (b"content-type", b"application/json")],
        request_chunks=[sent] if sent else [],
        request_size=len(sent),
        status=recalled.status or (None if error is not None and not got else 200),
        response_headers=headers if got else [],
        response_chunks=[got] if got else [],
        chunk_clocks=[end if first is None else first] if got else [],
        chunks=1 if got else 0,
        response_size=len(got),
        decoded=True,
        first_token_clock_ns=first,
        end_clock_ns=end,
        outcome=Outcome.ERROR if error is not None else Outcome.OK,
        eof=True,
        error_type=error,
        error_message=recalled.error_message,
        annotations=said,
        properties={**recalled.properties, **said.properties},
        project=said.project or (trace.project if trace is not None else config.project),
        session_id=said.session_id,
        session_name=said.session_name,
        session_path=said.session_path,
        user_id=said.user_id,
        route=trace.route() if trace is not None else None,
        caller=recalled.caller,
        omit_request=said.omit_request or omit,
        omit_response=said.omit_response or omit,
        trace=trace,
        name=recalled.name,
    )


def step_of(
    recalled: Recalled,
    kind: Kind,
    recorder: Recorder,
    input: str | None,
    output: str | None,
    trace: Trace | None = None,
) -> Span:
    """A step that is no call of a model."""
    said, status = recalled.said, recalled.status
    of_session = trace if trace is not None and said.session_id in (None, trace.session_id) else None
    failed = recalled.error_type or (f"HTTP {status}" if status is not None and status >= 400 else None)
    return Span(
        id=recalled.id,
        trace_id=recalled.trace_id or "",
        parent_id=recalled.parent_id,
        project=said.project or (trace.project if trace is not None else recorder.config.project),
        kind=kind,
        name=(recalled.name or str(kind))[:1_000],
        start_ns=recalled.start_ns,
        duration_ns=recalled.duration_ns,
        outcome=Outcome.ERROR if failed else Outcome.OK,
        error_type=failed,
        error_message=recalled.error_message,
        session_id=said.session_id or (of_session.session_id if of_session is not None else None),
        session_name=said.session_name or (of_session.session_name if of_session is not None else None),
        session_path=said.session_path or (of_session.session_path if of_session is not None else None),
        user_id=said.user_id or (trace.user_id if trace is not None else None),
        node_id=said.node_id,
        properties={**recalled.properties, **said.properties},
        status=status,
        route=trace.route() if trace is not None else None,
        caller=recalled.caller,
        input=None if said.omit_request else input,
        output=None if said.omit_response else output,
    )


def as_headers(values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> list[tuple[bytes, bytes]]:
    """Names and values as headers have them."""
    pairs = values.items() if isinstance(values, Mapping) else values
    return [(str(name).encode("utf-8", "replace"), str(value).encode("utf-8", "replace")) for name, value in pairs]
