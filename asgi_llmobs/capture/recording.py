"""``record_call``: a call that nothing could watch, or a step, told when it is over."""

import time
from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

from asgi_llmobs.capture import annotations
from asgi_llmobs.capture.blocks import kind_named, texts
from asgi_llmobs.capture.caller import caller
from asgi_llmobs.capture.recalled import Recalled, as_headers, call_of, placed, step_of
from asgi_llmobs.capture.recorder import Recorder, active_recorder
from asgi_llmobs.capture.serialize import as_text
from asgi_llmobs.context import current_place
from asgi_llmobs.moments import moment_ns
from asgi_llmobs.records import Kind
from asgi_llmobs.safely import message_of, safely

__all__ = ["CallDetails", "record_call", "record_with"]

CALLS = frozenset((Kind.LLM, Kind.EMBEDDING, Kind.RERANKER))
NS = 1_000_000_000


class CallDetails(TypedDict, total=False):
    """The further arguments of :func:`record_call`."""

    response: Any
    url: str
    provider: str | None
    kind: str
    name: str | None
    status: int | None
    error: BaseException | str | None
    start: Any
    duration: float | None
    first_token: float | None
    headers: Mapping[str, str] | None
    properties: Mapping[str, Any] | None


def record_call(
    request: Any,
    *,
    response: Any = None,
    url: str = "",
    provider: str | None = None,
    kind: str = "llm",
    name: str | None = None,
    status: int | None = None,
    error: BaseException | str | None = None,
    start: Any = None,
    duration: float | None = None,
    first_token: float | None = None,
    headers: Mapping[str, str] | None = None,
    properties: Mapping[str, Any] | None = None,
) -> str | None:
    """Tell of a call that no client of httpx made, or of a step, after it is over. Never raises.

    It belongs where it is told: below the open span, in the trace of the request, or where its ``LLMObs-Node-Id`` says.
    Bodies are read as if they had been seen, so that messages, tokens and cost are there.

    Args:
        request: What was sent, as JSON would have it; a model of pydantic does.
        response: What came back; also as text or bytes, as it came, streams included. A step's result.
        url: The address; tells provider and dialect.
        provider: Who answered, where the address does not say it.
        kind: ``llm`` for any call of a model, else a kind of step: ``tool``, ``retriever``, ``span`` …
        name: What it is called.
        status: HTTP status; of a call 200 unless given, where there is no *error* instead of an answer.
        error: What went wrong, where nothing came back.
        start: When it began: a ``datetime``, ISO 8601, or seconds since 1970. Unless given, *duration* ago.
        duration: Seconds; from *start* until now unless given.
        first_token: Seconds from the start to the first content.
        headers: ``LLMObs-*`` and ``Helicone-*``, with the meaning that they have on calls.
        properties: Keys and values to filter and group by.

    Returns:
        The id of its span; ``None`` where it is not recorded.
    """
    return record_with(
        None, request, response=response, url=url, provider=provider, kind=kind, name=name, status=status, error=error,
        start=start, duration=duration, first_token=first_token, headers=headers, properties=properties,
    )  # fmt: skip


def record_with(own: Recorder | None, request: Any, **details: Unpack[CallDetails]) -> str | None:
    """:func:`record_call` with the recorder of an engine; with the current one where ``None``."""
    with safely("record_call"):
        here = current_place()
        recorder = active_recorder(here.trace if here is not None else None, own)
        if recorder is None:
            return None
        kind = kind_named(details.get("kind", "llm"))
        recalled = told(request, details)
        trace = placed(recalled, recorder, here)
        if not trace.admit():
            return None
        recalled.properties = {
            **trace.properties,
            **(here.properties if here is not None else {}),
            **texts(details.get("properties") or {}),
        }
        if kind in CALLS:
            recorder.finish(call_of(recalled, recorder, trace))
        else:
            full = recorder.config.capture == "full"
            sent, got = (
                as_text(value) if full and value is not None else None for value in (request, details.get("response"))
            )
            recorder.record(step_of(recalled, kind, recorder, sent, got, trace))
        return recalled.id
    return None


def told(request: Any, details: CallDetails) -> Recalled:
    error = details.get("error")
    start_ns, duration_ns = times(details)
    first = details.get("first_token")
    return Recalled(
        request=request,
        response=details.get("response"),
        url=details.get("url", ""),
        provider=details.get("provider"),
        name=details.get("name"),
        status=details.get("status"),
        error_type=None if error is None else type(error).__name__ if isinstance(error, BaseException) else "error",
        error_message=None if error is None else message_of(error) if isinstance(error, BaseException) else str(error),
        start_ns=start_ns,
        duration_ns=duration_ns,
        first_token_ns=None if first is None else max(0, round(first * NS)),
        said=annotations.read(as_headers(details.get("headers") or {})),
        caller=caller(),
    )


def times(details: CallDetails) -> tuple[int, int]:
    """Start and duration."""
    now, start, duration = time.time_ns(), details.get("start"), details.get("duration")
    length = None if duration is None else max(0, round(duration * NS))
    if start is None:
        return now - (length or 0), length or 0
    begun = moment_ns(start)
    return begun, max(0, now - begun) if length is None else length
