"""The traffic of a demo once more, on the days before: what was recorded now, with other times and other ids."""

import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

from asgi_llmobs.records import Outcome, Request, Span, Written
from asgi_llmobs.runtime import LLMObs
from asgi_llmobs.scores import is_score
from asgi_llmobs.writer import Sink

__all__ = ["DAYS", "Remembering", "earlier"]

DAYS = 13
HOURS = (8, 18)  # of a working day, UTC
BUSY, QUIET = (3, 5), (1, 2)  # rounds of a weekday, of a day of a weekend
LAST = 22  # hours before now from which on there is a round every third hour
LEAST = 0.6  # of the traces that a round repeats
DAY_NS = 86_400_000_000_000
HOUR_NS = 3_600_000_000_000


class Remembering(LLMObs):
    """An engine that keeps what it stores in memory too."""

    def _stores(self) -> Sequence[Sink]:
        self.remembered: list[Span] = []
        return (*super()._stores(), Memory(self.remembered))


class Memory:
    """A sink that is a list."""

    def __init__(self, kept: list[Span]) -> None:
        self.kept = kept

    def write(self, batch: Sequence[Span]) -> Written:
        self.kept.extend(batch)
        return Written(len(batch), 0)


def earlier(records: Iterable[Span], *, now_ns: int | None = None, seed: int = 7) -> Iterator[list[Span]]:
    """The rounds of the days before, each as one batch of spans, requests and scores.

    Args:
        records: What was recorded, as it went to the store.
        now_ns: Now, in nanoseconds since 1970.
        seed: The same one makes the same rounds.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    traces: dict[str, list[Span]] = defaultdict(list)
    for record in records:
        if record.outcome != Outcome.RUNNING:
            traces[record.trace_id].append(record)  # a call that was tried again comes as often as it was tried
    begin = min((record.start_ns for trace in traces.values() for record in trace), default=now_ns)
    chance = random.Random(seed)
    for number, start in enumerate(starts(now_ns, chance)):
        share = chance.uniform(LEAST, 1.0)
        chosen = [trace for trace in traces.values() if chance.random() < share]
        yield [
            again(record, str(number), start - begin, pace)
            for trace, pace in ((trace, chance.lognormvariate(0, 0.35)) for trace in chosen)
            for record in trace
        ]


def starts(now_ns: int, chance: random.Random) -> Iterator[int]:
    """When the rounds begin: on the days before in the hours of work, and all over the last day."""
    for day in range(DAYS, 1, -1):
        midnight = (now_ns // DAY_NS - day) * DAY_NS
        weekend = datetime.fromtimestamp(midnight // 10**9, UTC).weekday() >= 5
        for _ in range(chance.randint(*(QUIET if weekend else BUSY))):
            yield midnight + int(chance.uniform(*HOURS) * HOUR_NS)
    for hour in range(LAST, 0, -3):
        yield now_ns - int((hour + chance.random()) * HOUR_NS)


def again(record: Span, salt: str, shift: int, pace: float) -> Span:
    """*record* with other ids, that much later, and as many times as long as *pace* says."""

    def other(id: str | None) -> str | None:
        return sha256(f"{salt} {id}".encode()).hexdigest()[: len(id)] if id else id

    def longer(ns: int | None) -> int | None:
        return None if ns is None else int(ns * pace)

    moved = replace(
        record,
        id=other(record.id) or "",
        trace_id=other(record.trace_id) or "",
        parent_id=other(record.parent_id),
        start_ns=record.start_ns + shift,
        duration_ns=longer(record.duration_ns),
        session_id=f"{record.session_id}-{salt}" if record.session_id else None,
    )
    if is_score(moved):
        said = dict(moved.attributes)
        return replace(moved, attributes={**said, "target_id": other(said["target_id"])})
    if not isinstance(moved, Request):
        return moved
    return replace(
        moved,
        headers_ns=longer(moved.headers_ns),
        first_chunk_ns=longer(moved.first_chunk_ns),
        first_token_ns=longer(moved.first_token_ns),
        last_chunk_ns=longer(moved.last_chunk_ns),
        chunk_times=tuple((int(at * pace), size) for at, size in moved.chunk_times),
        attempts=tuple(
            replace(
                attempt,
                request_id=moved.id,
                start_ns=moved.start_ns + int((attempt.start_ns - record.start_ns) * pace),
                duration_ns=longer(attempt.duration_ns),
            )
            for attempt in moved.attempts
        ),
    )
