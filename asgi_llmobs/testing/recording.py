"""``capture()`` and the pytest fixture ``llmobs``: what the app records, in memory, at once, nothing on disk."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from itertools import filterfalse
from typing import Any

from asgi_llmobs.capture import clients, recorder
from asgi_llmobs.pairing import without_doubles
from asgi_llmobs.records import Kind, Outcome, Request, Score, Span, Usage, Written
from asgi_llmobs.runtime import LLMObs, current_engine, make_current
from asgi_llmobs.scores import is_score, score_of

__all__ = ["Captured", "capture"]

PATIENCE_SECONDS = 60.0  # that a list waits on a machine that is busy with other tests


class Captured:
    """What was recorded so far. Reading any list first waits until everything finished is in it."""

    def __init__(self) -> None:
        self._records: dict[str, Span] = {}
        self._scores: dict[str, Score] = {}
        self._lock = threading.Lock()
        self.obs: Any = None

    def write(self, batch: Sequence[Span]) -> Written:
        """The sink: a later record of the same span takes the place of the earlier one, attempts are joined."""
        with self._lock:
            for record in filter(is_score, batch):
                self._scores.setdefault(record.id, score_of(record))
            for record in filterfalse(is_score, batch):
                before = self._records.get(record.id)
                if before is not None and record.outcome == Outcome.RUNNING:
                    continue
                if isinstance(before, Request) and isinstance(record, Request):
                    record = joined(before, record)
                self._records[record.id] = record
            for record in batch:
                if record.spread:
                    self._spread(record)
        return Written(len(batch), 0)

    def _spread(self, root: Span) -> None:
        """What was said of a trace late is put on its spans that say nothing themselves, as the store does."""
        for id, record in self._records.items():
            if record.trace_id == root.trace_id and record.project == root.project:
                self._records[id] = replace(
                    record,
                    session_id=record.session_id or root.session_id,
                    session_name=record.session_name or root.session_name,
                    session_path=record.session_path or root.session_path,
                    user_id=record.user_id or root.user_id,
                    properties={**root.properties, **record.properties},
                )

    def _all(self) -> list[Span]:
        self.obs.flush(PATIENCE_SECONDS)
        with self._lock:
            return sorted(without_doubles(self._records).values(), key=lambda record: record.start_ns)

    @property
    def requests(self) -> list[Request]:
        """LLM requests, in the order of their start."""
        return [record for record in self._all() if isinstance(record, Request)]

    @property
    def spans(self) -> list[Span]:
        """All spans, LLM requests and incoming requests too, in the order of their start."""
        return self._all()

    @property
    def scores(self) -> list[Score]:
        """What was judged, in the order of time."""
        self.obs.flush(PATIENCE_SECONDS)
        with self._lock:
            return sorted(self._scores.values(), key=lambda score: score.time_ns)

    @property
    def traces(self) -> list[Span]:
        """The root span of each trace, in the order of their start."""
        records = self._all()
        known = {record.id for record in records}
        return [record for record in records if record.parent_id not in known]

    @property
    def incoming(self) -> list[Span]:
        """The incoming requests and connections among the spans."""
        return [record for record in self._all() if record.kind in (Kind.HTTP, Kind.WEBSOCKET)]

    def clear(self) -> None:
        """Forget everything recorded so far."""
        self.obs.flush(PATIENCE_SECONDS)
        with self._lock:
            self._records.clear()
            self._scores.clear()


def joined(before: Request, after: Request) -> Request:
    """One request out of two attempts: the later one's answer, the attempts of both, the sums of what was paid."""
    attempts = {attempt.number: attempt for attempt in (*before.attempts, *after.attempts)}
    last, first = (after, before) if after.attempt >= before.attempt else (before, after)
    amounts = [record.cost.amount for record in (first, last) if record.cost.amount is not None]
    cost = replace(last.cost, amount=sum(amounts, Decimal(0))) if len(amounts) == 2 else last.cost
    usage = summed(first.usage, last.usage)
    return replace(last, attempts=tuple(attempts[number] for number in sorted(attempts)), cost=cost, usage=usage)


def summed(first: Usage | None, last: Usage | None) -> Usage | None:
    if first is None or last is None:
        return last or first
    counts = {
        name: (getattr(first, name) or 0) + (getattr(last, name) or 0)
        for name in ("input_tokens", "output_tokens")
        if getattr(first, name) is not None or getattr(last, name) is not None
    }
    return replace(last, **counts)  # type: ignore[arg-type]


@contextmanager
def capture(**options: Any) -> Iterator[Captured]:
    """Record in memory whatever happens inside the block, and give it back as records.

    It takes the place of every other engine of the process, whichever thread the app runs in and whenever it was set
    up. Blocks may stand inside each other: the inner one takes what happens in it.

    Args:
        **options: Options of the engine, see :class:`asgi_llmobs.LLMObs`.
    """
    captured = Captured()
    before, was_watching = current_engine(), clients.instrumented()
    engine = LLMObs("sqlite://", sinks=(captured,), **{"enabled": True, "sample": 1.0, **options})
    # not the current engine: an app that is set up inside the block makes its own, as it does outside
    make_current(before)
    captured.obs = engine
    overridden = recorder.override(engine.recorder)
    try:
        yield captured
    finally:
        engine.close()
        recorder.override(overridden)
        make_current(before)
        if not was_watching:
            clients.uninstrument()
