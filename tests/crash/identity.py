"""What a stopped server left in its database: every acknowledged call once, and counters that add up."""

import json
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from asgi_llmobs import LLMObs
from asgi_llmobs.queries.status import Workers, workers
from asgi_llmobs.store.database import Database

SPOOL = 1 << 28


class Found(NamedTuple):
    """What is in a database."""

    calls: Counter[str]  # by the id that the app gave them
    outcomes: dict[str, str]  # of those calls
    roots: Counter[str]  # incoming requests by their outcome
    spans: int
    workers: Workers

    def of(self, turn: int) -> "Found":
        """The calls of one of several loads."""
        return self._replace(calls=Counter({id: n for id, n in self.calls.items() if id.startswith(f"{turn}-")}))


def adopt(url: str, folder: str) -> Any:
    """The next start: what was left behind is stored; the counters."""
    engine = LLMObs(url, data_dir=folder, instrument="off", spool_bytes=SPOOL)
    engine.start()
    spool: Any = engine.spool
    until = time.monotonic() + 40
    while spool.adopt_at == 0 and time.monotonic() < until:
        time.sleep(0.01)
    assert engine.flush(40)
    stats = engine.stats()
    engine.close()
    assert stats.captured == stats.stored + stats.spooled + sum(stats.dropped.values())
    return stats


def look(url: str) -> Found:
    """Read it all."""
    database = Database(url, create=False)
    try:
        with database.read() as connection:
            query = "SELECT kind, outcome, properties FROM llmobs_spans"
            rows = [tuple(row) for row in connection.exec_driver_sql(query)]
        told = workers(database, project="default")
    finally:
        database.dispose()
    named = [(json.loads(properties)["Call"], outcome) for kind, outcome, properties in rows if kind == "llm"]
    return Found(
        calls=Counter(name for name, _ in named),
        outcomes=dict(named),
        roots=Counter(outcome for kind, outcome, _ in rows if kind == "http"),
        spans=len(rows),
        workers=told,
    )


def check(found: Found, acknowledged: Iterable[str], sent: Iterable[str]) -> None:
    """0 lost, 0 doubled, nothing invented."""
    told = set(acknowledged)
    assert sorted(id for id in told if found.calls[id] != 1) == []
    assert [id for id, count in found.calls.items() if count != 1] == []
    assert set(found.calls) <= set(sent)
    assert {found.outcomes[id] for id in told} <= {"ok"}


def check_counters(found: Found, since_ns: int = 0) -> None:
    """Every process that began since then said goodbye, nothing waits, and together all stored what is there."""
    for worker in found.workers.each:
        assert worker.balanced, worker
        if worker.started_ns >= since_ns:
            assert (worker.state, worker.spooled, dict(worker.dropped)) == ("ended", 0, {}), worker
    assert found.workers.stored == found.spans
