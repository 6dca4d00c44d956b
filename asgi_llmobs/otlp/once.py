"""Calls that go out count once: what was told of a call that was seen as well is its place in the tree, no more."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from asgi_llmobs.pairing import TOLD, Pairs, Seen, pair_up, seen_record
from asgi_llmobs.records import Request, Span

__all__ = ["Once"]

MOST = 10_000  # records that are remembered; the oldest traces are forgotten first


@dataclass(slots=True)
class Known:
    """What is known of the calls of a trace."""

    calls: dict[str, Seen] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)  # of all spans
    counted: set[str] = field(default_factory=set)  # went out with their tokens
    pairs: Pairs | None = None


class Once:
    """Remembers the calls of the latest traces, and which of them have gone out with their tokens."""

    def __init__(self) -> None:
        self._traces: OrderedDict[tuple[str, str], Known] = OrderedDict()
        self._records = 0

    def note(self, record: Span) -> None:
        """A record that is to go out."""
        place = record.project, record.trace_id
        known = self._traces.setdefault(place, Known())
        self._records += record.id not in known.parents
        known.parents[record.id] = record.parent_id
        if isinstance(record, Request):
            known.calls[record.id] = seen_record(record)
        known.pairs = None
        self._traces.move_to_end(place)
        while self._records > MOST and len(self._traces) > 1:
            _, gone = self._traces.popitem(last=False)
            self._records -= len(gone.parents)

    def counts(self, record: Request) -> bool:
        """Whether *record*, which goes out now, is the one of its call that counts."""
        known = self._traces.get((record.project, record.trace_id)) or Known()
        if not any(call.told for call in known.calls.values()):
            return True
        if known.pairs is None:
            known.pairs = pair_up(known.calls.values(), lambda: known.parents)
        crowded, same = known.pairs.crowded, {**known.pairs.same, **known.pairs.again}
        call = innermost(record.id, same)
        if record.id in crowded or call in crowded:
            return False  # its parts count
        if any(other != record.id and innermost(other, same) == call for other in known.counted):
            return False
        if record.parent_id in crowded and record.parent_id in known.counted:
            return False  # it went out before it was known to have parts
        if record.api == TOLD and call in known.calls and not known.calls[call].told:
            return False  # what was seen goes out too
        if record.usage is not None:
            known.counted.add(record.id)
        return True


def innermost(id: str, same: Mapping[str, str]) -> str:
    """The call that *id* stands for, as far in as it was seen."""
    passed: set[str] = set()
    while id in same and id not in passed:  # a ring of parents ends too
        passed.add(id)
        id = same[id]
    return id
