"""An LLM call on its way out: told apart from other calls, placed in its trace, and watched from here on."""

import time
from operator import itemgetter
from typing import Any

from asgi_llmobs.capture import annotations
from asgi_llmobs.capture.call import Call, is_cancelled, outcome_of
from asgi_llmobs.capture.caller import caller
from asgi_llmobs.capture.nodes import nodes
from asgi_llmobs.capture.recorder import Recorder, active_recorder, bridged, otel_parent
from asgi_llmobs.capture.retries import Past, retries, retry_key, task_key
from asgi_llmobs.capture.streams import family_of, unwatched
from asgi_llmobs.context import current_place, new_span_id
from asgi_llmobs.providers import Match
from asgi_llmobs.records import Exchange
from asgi_llmobs.safely import guarded, resting, safely

__all__ = ["MARKER", "Call", "begin", "is_cancelled", "outcome_of", "retries"]

MARKER = "llmobs"  # key in request.extensions: httpx copies them into the request of a redirect
MAX_CACHED = 4_096
GATEWAY_HOST = b"helicone.ai"  # the one peer that Helicone-* headers are meant for
LOGS = tuple(f"/v1/trace/custom/{path}" for path in ("log", "v1/log", "log/typed"))  # to whom our headers are addressed

JOINING = safely("retries")
lower_name, raw_pair = itemgetter(1), itemgetter(0, 2)  # of the entries of a family's Headers

_matches: dict[tuple[Any, ...], Match | None] = {}
_without_ours: set[tuple[bytes, ...]] = set()  # names of headers that say nothing to us


def find_match(recorder: Recorder, request: Any) -> Match | None:
    """Who answers *request*. Cached: of most calls of an app it is asked again and again."""
    url = request.url
    raw_path = url.raw_path.partition(b"?")[0]
    own = id(recorder) if recorder.config.providers else None
    key = (own, request.method, url.raw_host, url.port, raw_path)
    if key in _matches:
        found = _matches[key]
    else:
        found = recorder.match(request.method, url.host, url.port, url.path)
        if len(_matches) >= MAX_CACHED:
            _matches.clear()
        _matches[key] = found
    if recorder.config.record is not None:
        with safely("record"):  # the app's own rule; where it fails, ours decide
            wanted = recorder.config.record(request.method, str(url))
            if wanted is False:
                return None
            if wanted and found is None:
                return recorder.match_any(url.path)
    return found


@guarded("begin call")
def begin(request: Any, own: Recorder | None = None) -> Call | None:
    """Look at a request on its way out; a :class:`Call` where it is an LLM call that is to be recorded.

    Our own headers are taken out whatever it is. A request that an outer layer watches already is let through.

    Args:
        request: An ``httpx`` or ``httpx2`` request.
        own: The recorder of the client or transport that was wrapped; the one in force otherwise.
    """
    marker = request.extensions.get(MARKER)
    if marker is not None and not marker.done:
        return None
    said = take_annotations(request)
    place = current_place()
    recorder = active_recorder(place.trace if place is not None else None, own)
    if recorder is None:
        return None
    past = marker.past if marker is not None else None
    found = find_match(recorder, request) if past is None else past.match  # a redirect is still the same call
    if found is None:
        return None
    if resting():
        recorder.refuse("capture rests")
        return None
    if past is not None and said is annotations.NONE:
        said = past.annotations  # the same request object is sent again
    exchange = make_exchange(request, recorder, found, said)
    if not exchange.trace.admit():
        return None
    call = Call(exchange, recorder)
    read_body(call, exchange, request)
    with JOINING:
        join_retry(call, exchange, request, past)
    # a new dict: the old one may be shared between requests
    request.extensions = {**request.extensions, MARKER: call}
    recorder.begin(exchange)
    return call


def take_annotations(request: Any) -> annotations.Annotations:
    # every call of the app comes by here: ``raw`` makes a new list, the attribute behind it has the names in lower case
    listed = getattr(request.headers, "_list", None)
    if listed is not None:
        names = tuple(map(lower_name, listed))
    else:
        names = tuple([name.lower() for name, _ in request.headers.raw])
    if names in _without_ours:
        return annotations.NONE
    joined = b"\n".join(names)
    if b"llmobs-" not in joined and b"helicone-" not in joined:
        if len(_without_ours) >= MAX_CACHED:
            _without_ours.clear()
        _without_ours.add(names)
        return annotations.NONE
    headers = request.headers.raw
    ours = [name for name, _ in headers if annotations.is_ours(name)]
    said = annotations.read(headers)
    host = request.url.raw_host
    if request.url.path.endswith(LOGS):
        return annotations.NONE
    for name in {name.lower() for name in ours}:
        if name.startswith(b"helicone-") and (host == GATEWAY_HOST or host.endswith(b"." + GATEWAY_HOST)):
            continue
        del request.headers[name.decode("latin-1")]
    return said


def raw_headers(request: Any) -> list[tuple[bytes, bytes]]:
    listed = getattr(request.headers, "_list", None)
    return list(map(raw_pair, listed)) if listed is not None else request.headers.raw


def make_exchange(request: Any, recorder: Recorder, found: Match, said: annotations.Annotations) -> Exchange:
    place = current_place()
    parent_id: str | None
    properties: dict[str, str] = {}
    inner = bridged(place)
    if place is None:
        joined = inner or otel_parent()
        if joined is None and said.node_id:
            trace = nodes.trace_of(recorder, said)
        else:
            trace = recorder.new_trace(joined[0] if joined else None)
        parent_id = joined[1] if joined else None
    else:
        trace, parent_id = place.trace, inner[1] if inner else place.span_id
        properties.update(place.properties)
        if said.node_id:
            nodes.remember(trace, said)
    if said.session_id and trace.session_id is None:
        trace.session_id, trace.session_name = said.session_id, said.session_name
    if said.user_id and trace.user_id is None:
        trace.user_id = said.user_id
    properties.update(said.properties)
    config = recorder.config
    clock, now = time.monotonic_ns(), time.time_ns()
    return Exchange(
        id=new_span_id(),
        trace_id=trace.id,
        parent_id=parent_id,
        match=found,
        method=request.method,
        url=str(request.url),
        start_ns=now,
        clock_ns=clock,
        first_start_ns=now,
        first_clock_ns=clock,
        request_headers=raw_headers(request),
        annotations=said,
        properties=properties,
        project=said.project or trace.project,
        session_id=said.session_id,
        session_name=said.session_name,
        session_path=said.session_path,
        user_id=said.user_id,
        caller=caller(),
        omit_request=said.omit_request or config.capture == "metadata",
        omit_response=said.omit_response or config.capture == "metadata",
        trace=trace,
    )


def read_body(call: Call, exchange: Exchange, request: Any) -> None:
    """Note a body that is in memory already; one that is produced while it is sent is watched on its way."""
    content = getattr(request, "_content", None)
    if content is not None:
        if content:
            call.content = content
            call.sent(content)
        return
    with safely("watch request body"):
        request.stream = family_of(request).watch_request(unwatched(request.stream), call)


def join_retry(call: Call, exchange: Exchange, request: Any, past: Past | None) -> None:
    """Make this attempt part of the request that it repeats.

    *past* is the attempt that the same request object, or the one it was redirected from, made before.
    """
    if past is not None:
        retries.discard(past)
    else:
        told = request.headers.get("x-stainless-retry-count")
        if not retries or told == "0":
            return
        attempt = int(told) + 1 if told is not None and told.isdecimal() and len(told) < 10 else None
        task = task_key()
        past = retries.take(retry_key(exchange, call.content, task), attempt, task)
    if past is None or not past.failed:
        return
    exchange.id, exchange.trace_id, exchange.parent_id = past.id, past.trace_id, past.parent_id
    exchange.attempt = past.attempt + 1
    exchange.first_start_ns, exchange.first_clock_ns = past.first_start_ns, past.first_clock_ns
    exchange.trace = past.trace
