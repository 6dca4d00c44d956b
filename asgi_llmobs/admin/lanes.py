"""Lanes of a request: where its time went, its attempts with the waits between them, its stream chunk by chunk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asgi_llmobs.records import Request

__all__ = ["AttemptBar", "Phase", "StreamLane", "attempt_lane", "phases", "provider_time", "stream_lane"]

WIDTH = 1000.0  # of a lane
GAP_NS = 20_000_000  # shorter ones between chunks are no gaps
MOST_GAPS = 12
PROCESSING = ("openai-processing-ms", "x-envoy-upstream-service-time", "x-inference-time", "x-compute-time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of a call's time; ``x`` and ``width`` on a lane that is 1000 wide."""

    name: str
    kind: str
    start_ns: int
    duration_ns: int
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptBar:
    """One attempt on the lane, and the wait before it."""

    number: int
    x: float
    width: float
    wait_x: float
    wait_ns: int
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A pause of a stream."""

    start_ns: int
    duration_ns: int
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLane:
    """The chunks of a stream: where each stands, and the pauses that are longer than the 95th percentile."""

    ticks: Sequence[float]
    gaps: Sequence[Gap]
    p95_ns: int
    start_ns: int
    end_ns: int


def phases(request: Request) -> list[Phase]:
    """The call's time from its start to its end without a hole: earlier attempts, headers, first token, the rest."""
    total = request.duration_ns
    if not total:
        return []
    marks = [
        ("earlier attempts and waits", "retry", own_start(request)),
        ("connect and wait for headers", "wait", request.headers_ns),
        ("until the first chunk", "think", request.first_chunk_ns if request.stream else None),
        ("until the first token", "think", request.first_token_ns),
        ("stream" if request.stream else "body", "flow", total),
    ]
    found, at = [], 0
    for name, kind, until in marks:
        if until is None or until <= at:
            continue
        end = min(until, total)
        if end > at:
            x, width = at / total * WIDTH, (end - at) / total * WIDTH
            found.append(
                Phase(name=name, kind=kind, start_ns=at, duration_ns=end - at, x=round(x, 1), width=round(width, 1))
            )
        at = end
    return found


def own_start(request: Request) -> int | None:
    """When the last attempt began, since the start of the call."""
    last = request.attempts[-1] if len(request.attempts) > 1 else None
    return None if last is None else last.start_ns - request.start_ns


def provider_time(request: Request) -> tuple[int, int] | None:
    """What the provider says that it took, in nanoseconds, where a header tells it, and the rest until the headers."""
    sent = {name.lower(): value for name, value in request.response_headers}
    for name in PROCESSING:
        try:
            work = int(float(sent[name]) * 1e6)
        except (KeyError, ValueError, OverflowError):
            continue
        return work, max(0, (request.headers_ns or 0) - (own_start(request) or 0) - work)
    return None


def attempt_lane(request: Request) -> list[AttemptBar]:
    """The attempts of a call that needed several, on one lane."""
    attempts = [attempt for attempt in request.attempts if attempt.start_ns]
    if len(attempts) < 2:
        return []
    start = min(attempt.start_ns for attempt in attempts)
    end = max([attempt.start_ns + (attempt.duration_ns or 0) for attempt in attempts])
    scale = WIDTH / max(1, end - start)
    bars, before = [], start
    for attempt in attempts:
        x, width = (attempt.start_ns - start) * scale, (attempt.duration_ns or 0) * scale
        bars.append(
            AttemptBar(
                number=attempt.number,
                x=round(x, 1),
                width=round(max(width, 2.0), 1),
                wait_x=round((before - start) * scale, 1),
                wait_ns=max(0, attempt.start_ns - before),
                outcome=str(attempt.outcome),
            )
        )
        before = max(before, attempt.start_ns + (attempt.duration_ns or 0))
    return bars


def stream_lane(request: Request) -> StreamLane | None:
    """The chunks of a stream; ``None`` where it has too few to show."""
    points = request.chunk_times
    if len(points) < 3:
        return None
    start, end = points[0][0], points[-1][0]
    if end <= start:
        return None
    scale = WIDTH / (end - start)
    pauses = [(after[0] - before[0], before[0]) for before, after in zip(points, points[1:], strict=False)]
    p95 = sorted(pause for pause, _ in pauses)[int(0.95 * (len(pauses) - 1))]
    longest = sorted(longer_than(pauses, max(p95, GAP_NS)), reverse=True)[:MOST_GAPS]
    return StreamLane(
        ticks=[round((time - start) * scale, 1) for time, _ in points],
        gaps=[
            Gap(start_ns=at, duration_ns=pause, x=round((at - start) * scale, 1), width=round(pause * scale, 1))
            for pause, at in sorted(longest, key=lambda each: each[1])
        ],
        p95_ns=p95,
        start_ns=start,
        end_ns=end,
    )


def longer_than(pauses: Sequence[tuple[int, int]], least: int) -> Iterator[tuple[int, int]]:
    return (each for each in pauses if each[0] > least)
