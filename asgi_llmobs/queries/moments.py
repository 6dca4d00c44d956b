"""A stream as it grew: what it had said at each moment, read anew from the beginning of its stored body."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from asgi_llmobs.providers import read
from asgi_llmobs.queries.content import dialect_of, wire_of
from asgi_llmobs.records import Request

__all__ = ["Moment", "moments_of"]

MOST = 200  # moments
READ_BYTES = 6 * 1024 * 1024  # that are read for them in all


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What was there at one moment: so many characters of the text, of the thoughts and of the tool calls."""

    time_ns: int  # since the start of the call
    size: int  # bytes so far
    text: int
    reasoning: int
    calls: int


def moments_of(request: Request) -> list[Moment]:
    """The moments of a stream, evenly chosen where there are many; none where its body is not stored in whole."""
    body, match = request.response_body, dialect_of(request)
    if body is None or body.truncated or body.slimmed or match is None or not request.chunk_times:
        return []
    wire = replace(wire_of(request), complete=False)
    most = max(2, min(MOST, 2 * READ_BYTES // max(1, len(body.content))))
    found = []
    for time, size in chosen(request.chunk_times, most):
        reading = read(replace(wire, response_body=body.content[:size]), match)
        calls = sum(len(str(call.get("arguments") or "")) for call in reading.tool_calls)
        found.append(
            Moment(time_ns=time, size=size, text=len(reading.text), reasoning=len(reading.reasoning_text), calls=calls)
        )
    return found


def chosen(points: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """At most *most* of the points, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[place * (len(points) - 1) // (most - 1)] for place in range(most)]
