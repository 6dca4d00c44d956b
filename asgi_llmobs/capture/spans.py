"""Spans of OpenTelemetry instrumentations, taken into our traces: where each belongs, and what is recorded of it.

A span may begin inside one of ours and the other way round. Which of the two is the inner one is told by what was
current when it began. Nothing is ever set globally, and the spans themselves are not changed.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.trace import get_current_span

from asgi_llmobs.capture import loose
from asgi_llmobs.capture import recorder as recorders
from asgi_llmobs.capture.loose import Known
from asgi_llmobs.capture.recorder import Recorder, active_recorder
from asgi_llmobs.context import Place, current_place
from asgi_llmobs.records import Exchange, Span
from asgi_llmobs.safely import guarded
from asgi_llmobs.semconv import Event, Told, entry_of, speaks

__all__ = ["Bridge", "make_provider"]

MAX_OPEN = 50_000  # spans under way that are known; the oldest are forgotten first
MAX_ENDED = 2_000  # that have ended, for children that begin later
CONVERSATION = "gen_ai.conversation.id"
MANY = 100_000  # attributes of one span: a conversation is one attribute a field


_open: OrderedDict[int, Known] = OrderedDict()
_ended: OrderedDict[int, Known] = OrderedDict()


def known(span_id: int) -> Known | None:
    return _open.get(span_id) or _ended.get(span_id)


def innermost(here: Place | None) -> tuple[str, str] | None:
    """Trace id and span id of the innermost OpenTelemetry span that began inside *here* and is known to us.

    What asks is about to be recorded, so that span is wanted too.
    """
    if not _open:
        return None
    found = _open.get(get_current_span().get_span_context().span_id)
    if found is not None and not (here is None or loose.same(found.place, here)):
        found = None
    found = loose.innermost(found, here, _open)
    if found is None:
        return None
    found.want()
    return found.trace_id, found.id


class Bridge(SpanProcessor):
    """Records spans as they end.

    Args:
        recorder: Where they go.
        everything: Take in spans of no dialect too. Otherwise only those that have something recorded below them.
    """

    def __init__(self, recorder: Recorder, *, everything: bool) -> None:
        self.recorder = recorder
        self.everything = everything
        recorders.set_bridge(innermost)

    @guarded("otel span")
    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """Note where it begins."""
        here = current_place()
        context = span.get_span_context()
        if active_recorder(here.trace if here else None, self.recorder) is None:
            return
        if context.span_id in _open:
            return  # another processor of ours has seen it
        is_loose = loose.is_loose(span)
        above = known(span.parent.span_id) if span.parent is not None else None
        if not is_loose:
            above = loose.innermost(above, here, _open)
        id = f"{context.span_id:016x}"
        if above is not None and (here is None or loose.same(above.place, here) or above.place is None):
            entry = Known(id, above.trace_id, above.id, above.place if here is None else here, above)
        elif here is not None:
            entry = Known(id, here.trace.id, here.span_id, here, above)
        elif span.parent is not None and span.parent.is_valid:
            entry = Known(id, f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}", None, None)
        else:
            entry = Known(id, f"{context.trace_id:032x}", None, None, None)
        _open[context.span_id] = entry
        if is_loose:
            loose.begun(entry)
        while len(_open) > MAX_OPEN:
            loose.ended(_open.popitem(last=False)[1])

    @guarded("otel span")
    def on_end(self, span: ReadableSpan) -> None:
        """Record it, if it is to be."""
        context = span.get_span_context()
        entry = _open.pop(context.span_id, None) if context is not None else None
        if entry is None or context is None:
            return
        loose.ended(entry)
        here = entry.place
        recorder = active_recorder(here.trace if here else None, self.recorder)
        if recorder is not None and (entry.wanted or self.everything or speaks(span.attributes or {})):
            entry.want()
            if here.trace.admit() if here is not None else sampled(entry.trace_id, recorder.config.sample):
                record(recorder, told_of(span, entry), here)
        entry.place = entry.above = None  # the request that it began in is let go
        _ended[context.span_id] = entry
        while len(_ended) > MAX_ENDED:
            _ended.popitem(last=False)

    def shutdown(self) -> None:
        """Nothing is held here."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held here."""
        return True


def sampled(trace_id: str, share: float) -> bool:
    """Whether a trace is kept: the same for all its spans."""
    return share >= 1.0 or int(trace_id[-8:], 16) < share * 2**32


def told_of(span: ReadableSpan, entry: Known) -> Told:
    """The span as it ended, at its place in our trace."""
    return Told(
        trace_id=entry.trace_id,
        span_id=entry.id,
        parent_id=entry.parent_id,
        name=span.name,
        kind=span.kind.value + 1,  # the wire counts from "unspecified"
        start_ns=span.start_time or 0,
        end_ns=span.end_time or 0,
        attributes=span.attributes or {},
        events=list(events_of(span)),
        status_code=span.status.status_code.value,
        status_message=span.status.description or "",
        scope=span.instrumentation_scope.name if span.instrumentation_scope else "",
    )


def events_of(span: ReadableSpan) -> Iterator[Event]:
    for event in span.events:
        yield Event(event.name, event.timestamp, event.attributes or {})


def record(recorder: Recorder, told: Told, here: Place | None) -> None:
    """Hand over what the span says, with what the trace around it says of it."""
    entry = entry_of(told, recorder.config.project, full=recorder.config.capture == "full")
    if here is None:
        hand_over(recorder, entry)
        return
    trace = here.trace
    if trace.session_id is not None and entry.session_id == told.attributes.get(CONVERSATION):
        entry = replace(entry, session_id=None)  # frameworks make one up for each run: what the app says goes first
    around: Mapping[str, Any] = {
        "properties": {**trace.properties, **here.properties, **entry.properties},
        "route": trace.route(),
        "project": trace.project,
    }
    if isinstance(entry, Exchange):
        for label, value in around.items():
            setattr(entry, label, value)
        entry.trace = trace
        entry.inherit()
    else:
        own = entry.session_id not in (None, trace.session_id)
        entry = replace(
            entry,
            session_id=entry.session_id or trace.session_id,
            session_name=None if own else trace.session_name,
            session_path=None if own else trace.session_path,
            user_id=entry.user_id or trace.user_id,
            **around,
        )
        trace.told = True
    hand_over(recorder, entry)


def hand_over(recorder: Recorder, entry: Exchange | Span) -> None:
    if isinstance(entry, Exchange):
        recorder.finish(entry)
    else:
        recorder.record(entry)


def make_provider(bridge: Bridge, resource: Mapping[str, Any]) -> TracerProvider:
    """A tracer provider of our own, never the global one, that keeps all attributes of a span."""
    provider = TracerProvider(
        resource=Resource({name: value for name, value in resource.items() if value is not None}),
        span_limits=SpanLimits(max_attributes=MANY, max_span_attributes=MANY, max_events=10_000),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(bridge)
    return provider
