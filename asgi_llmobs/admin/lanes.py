"""Lanes of a request: where its time went, its attempts with the waits between them, its stream chunk by chunk."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from asgi_llmobs.records import Request

__all__ = [
    "AttemptBar",
    "Phase",
    "StreamLane",
    "attempt_lane",
    "attempt_phases",
    "phases",
    "provider_time",
    "stream_lane",
]

WIDTH = 1000.0  # of a lane
GAP_NS = 20_000_000  # shorter ones between chunks are no gaps
MOST_GAPS = 12
LEAST_NS, LEAST_SHARE = 1_000_000, 0.01  # a stretch below both is none of its own
STAGES = {
    "queue": ("wait for a connection", "queue"),
    "connect": ("look up and connect", "connect"),
    "tls": ("TLS", "connect"),
    "send": ("send", "send"),
    "wait": ("wait for headers", "wait"),
}
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
    """The call's time from its start to its end without a hole: earlier attempts, connecting, headers, first token."""
    return filled(begun(request), request.duration_ns or 0)


def begun(request: Request) -> Iterator[tuple[int, str, str]]:
    """When each stretch of a call began, since its start, as far as it is known; its name and its kind."""
    own, headers = own_start(request) or 0, request.headers_ns
    if own:
        yield 0, "earlier attempts and waits", "retry"
    yield from attempt_begun(request.stages, own)
    if headers is None and request.first_token_ns is None and request.stages:
        return  # it ended in one of them
    if not request.stages and headers is not None:
        yield own, "connect and wait for headers", "wait"
    answer = own if headers is None else headers
    if request.stream and request.first_chunk_ns is not None:
        yield answer, "until the first chunk", "think"
        answer = request.first_chunk_ns
    if request.first_token_ns is not None:
        yield answer, "until the first token", "think"
        answer = request.first_token_ns
    yield answer, "stream" if request.stream else "body", "flow"


def attempt_begun(stages: Mapping[str, int], own: int = 0) -> Iterator[tuple[int, str, str]]:
    for stage, at in sorted(stages.items(), key=itemgetter(1)):
        if stage in STAGES:
            yield own + at, *STAGES[stage]


def filled(begun: Iterable[tuple[int, str, str]], total: int) -> list[Phase]:
    """Stretches that follow each other up to *total*; one that took next to nothing goes with the one after it."""
    marks = [mark for mark in begun if mark[0] < total]
    found: list[Phase] = []
    at = 0
    for (_, name, kind), until in zip(marks, [*(mark[0] for mark in marks[1:]), total], strict=False):
        took = until - at
        if took <= 0 or until < total and took < min(LEAST_NS, total * LEAST_SHARE):
            continue
        x, width = at / total * WIDTH, took / total * WIDTH
        found.append(Phase(name=name, kind=kind, start_ns=at, duration_ns=took, x=round(x, 1), width=round(width, 1)))
        at = until
    return found


def attempt_phases(request: Request) -> dict[int, list[Phase]]:
    """Where the time of each earlier attempt went, by its number, as far as that is known."""
    return {
        attempt.number: filled(attempt_begun(attempt.stages), attempt.duration_ns or 0)
        for attempt in request.attempts
        if attempt.number != request.attempt and attempt.stages
    }


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
