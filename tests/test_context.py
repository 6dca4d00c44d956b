"""Where we are: ids, the one mutable trace, places, suppression."""

import contextvars
import re
import threading

from asgi_llmobs import context
from asgi_llmobs.context import Place, Trace, current_place, new_span_id, new_trace_id, place, suppress, suppressed


def test_ids_look_as_opentelemetry_wants_them() -> None:
    """Sixteen and thirty-two lower-case hex digits, all different, never all zero."""
    spans, traces = {new_span_id() for _ in range(5_000)}, {new_trace_id() for _ in range(5_000)}

    assert (len(spans), len(traces)) == (5_000, 5_000)
    assert all(re.fullmatch(r"[0-9a-f]{16}", id) and id.strip("0") for id in spans)
    assert all(re.fullmatch(r"[0-9a-f]{32}", id) and id.strip("0") for id in traces)


def test_a03_a_change_in_a_copied_context_is_seen_outside() -> None:
    """The trace is one object: what a thread with a copy of the context says of it is said for all."""
    trace = Trace(new_trace_id(), "default")
    before = place.get()
    place.set(Place(trace, "a" * 16))
    copied = contextvars.copy_context()

    def work() -> None:
        here = current_place()
        assert here is not None
        here.trace.user_id = "ada"
        place.set(None)

    thread = threading.Thread(target=copied.run, args=(work,))
    thread.start()
    thread.join()

    assert trace.user_id == "ada"
    assert (current_place() or Place(trace, None)).span_id == "a" * 16
    place.set(before)


def test_a_trace_admits_so_many_spans(monkeypatch: object) -> None:
    """Beyond the limit spans are counted, not admitted; one that is not sampled admits none and counts none."""
    trace, unsampled = Trace(new_trace_id(), "p"), Trace(new_trace_id(), "p")
    unsampled.sampled = False
    admitted = [trace.admit() for _ in range(context.MAX_SPANS + 3)]

    assert admitted == [True] * context.MAX_SPANS + [False] * 3
    assert (trace.spans, trace.truncated) == (context.MAX_SPANS, 3)
    assert (unsampled.admit(), unsampled.spans, unsampled.truncated) == (False, 0, 0)


def test_a_trace_that_is_over() -> None:
    """A while after its root has ended nothing new belongs to it."""
    trace = Trace(new_trace_id(), "p")
    before = place.get()
    place.set(Place(trace, "a" * 16))
    assert current_place() is not None
    trace.ended_clock_ns = 0
    assert current_place() is None or not trace.over()
    trace.ended_clock_ns = -context.GRACE_NS
    assert current_place() is None
    place.set(before)


def test_properties_of_a_place_are_its_own() -> None:
    """A place copies what it is given."""
    given = {"a": "1"}
    here = Place(Trace(new_trace_id(), "p"), None, given)
    here.properties["b"] = "2"
    assert given == {"a": "1"}


def test_suppression_nests() -> None:
    """It ends where the outermost block ends, and is nobody else's."""
    seen: list[bool] = []
    with suppress():
        with suppress():
            assert suppressed()
        assert suppressed()
        thread = threading.Thread(target=lambda: seen.append(suppressed()))
        thread.start()
        thread.join()
    assert not suppressed()
    assert seen == [False]
