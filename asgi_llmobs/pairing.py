"""Which calls that instrumentations told of are calls that were seen on the wire too. Pure: the write asks here.

One call, one record: what was told gives name and place in the tree, what was seen gives usage, attempts and bodies.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from asgi_llmobs.records import Request, Span

__all__ = [
    "TOLD",
    "Pairs",
    "Seen",
    "as_node",
    "innermost_first",
    "models",
    "named_like",
    "pair_up",
    "seen_record",
    "without_doubles",
]

TOLD = "otel"  # the api of what instrumentations tell
SPAN_FIELDS = tuple(item.name for item in fields(Span))

SLACK_NS = 1_000_000_000  # two clocks, or one that was read before and after something else
OVERLAP = 0.8  # of the longer of two calls that are one, beside each other
TEXT = frozenset(("chat", "text_completion", "other", ""))


class Seen(NamedTuple):
    """What of a call decides whether it is another one."""

    id: str
    trace_id: str
    parent_id: str | None
    told: bool  # by an instrumentation; else it was seen on the wire
    operation: str
    models: frozenset[str]
    response_id: str | None
    start_ns: int
    duration_ns: int | None
    name: str

    @property
    def family(self) -> str:
        return "text" if self.operation in TEXT else self.operation


class Pairs(NamedTuple):
    """What was told by its id, with the call that it is; and what only holds several calls together."""

    same: dict[str, str]
    crowded: set[str]


def pair_up(calls: Iterable[Seen]) -> Pairs:
    """Find the calls of one trace that are one call.

    A call inside a call is the same one, seen from further in; more than one inside are its parts. Beside each other
    they are one if they have the provider's id in common, or else parent, model and time.
    """
    known = sorted(calls, key=lambda call: (call.start_ns, call.id))
    inside: dict[str | None, list[Seen]] = defaultdict(list)
    for call in known:
        inside[call.parent_id].append(call)
    same: dict[str, str] = {}
    crowded: set[str] = set()
    taken: set[str] = set()
    for told in known:
        if not told.told:
            continue
        parts = [call for call in inside[told.id] if call.id != told.id and fits(told, call)]
        if len(parts) == 1:
            same[told.id] = parts[0].id
        elif parts:
            crowded.add(told.id)
        elif (twin := beside(told, [call for call in known if not call.told and call.id not in taken])) is not None:
            taken.add(twin.id)
            same[told.id] = twin.id
    return Pairs(same, crowded)


def fits(outer: Seen, inner: Seen) -> bool:
    """Whether *inner*, which hangs below *outer*, can be the same call."""
    end = None if outer.duration_ns is None else outer.start_ns + outer.duration_ns + SLACK_NS
    return (
        outer.family == inner.family
        and inner.start_ns >= outer.start_ns - SLACK_NS
        and (end is None or inner.start_ns <= end)
    )


def beside(told: Seen, seen: Sequence[Seen]) -> Seen | None:
    """The one among *seen* that is the same call as *told*."""
    if told.response_id:
        for call in seen:
            if call.response_id == told.response_id:
                return call
    found = [
        call
        for call in seen
        if call.parent_id == told.parent_id
        and call.family == told.family
        and not call.models.isdisjoint(told.models)
        and not (call.response_id and told.response_id)
        and shared(told, call) >= OVERLAP
    ]
    return found[0] if len(found) == 1 else None


def shared(one: Seen, other: Seen) -> float:
    """How much of the longer of two calls both took."""
    if one.duration_ns is None or other.duration_ns is None:
        return 0.0
    start = max(one.start_ns, other.start_ns)
    end = min(one.start_ns + one.duration_ns, other.start_ns + other.duration_ns)
    return max(0, end - start) / (max(one.duration_ns, other.duration_ns) or 1)


def innermost_first(same: Mapping[str, str]) -> list[str]:
    """The ids in such an order that what one stands for has been dealt with before."""
    out: dict[str, None] = {}
    for start in same:
        chain: dict[str, None] = {}
        at: str | None = start
        while at is not None and at in same and at not in out and at not in chain:
            chain[at] = None
            at = same[at]
        out.update(dict.fromkeys(reversed(chain)))
    return list(out)


def seen_record(record: Request) -> Seen:
    """What of a record decides."""
    return Seen(
        record.id, record.trace_id, record.parent_id, record.api == TOLD, record.operation, models(record),
        record.response_id, record.start_ns, record.duration_ns, record.name,
    )  # fmt: skip


def models(call: Any) -> frozenset[str]:
    """The models that a call names."""
    return frozenset(model for model in (call.request_model, call.response_model) if model)


def as_node(record: Request) -> Span:
    """A call whose parts are counted, and which itself is only a node."""
    return Span(**{label: getattr(record, label) for label in SPAN_FIELDS})


def named_like(seen: Request, told: Span) -> Request:
    """What was seen, with the name and the place of what was told."""
    return replace(
        seen,
        id=told.id,
        name=told.name,
        parent_id=told.parent_id,
        session_id=seen.session_id or told.session_id,
        user_id=seen.user_id or told.user_id,
        properties={**told.properties, **seen.properties},
    )


def without_doubles(records: Mapping[str, Span]) -> dict[str, Span]:
    """All records of a process, by id, with one for each call: what the store does, in memory."""
    by_trace: dict[str, list[Seen]] = defaultdict(list)
    for record in records.values():
        if isinstance(record, Request):
            by_trace[record.trace_id].append(seen_record(record))
    out = dict(records)
    for calls in by_trace.values():
        if not any(call.told for call in calls):
            continue
        pairs = pair_up(calls)
        for id in pairs.crowded:
            out[id] = as_node(out[id])  # type: ignore[arg-type]
        moved: dict[str, str] = {}
        for outer in innermost_first(pairs.same):
            inner = pairs.same[outer]
            inner = moved.get(inner, inner)
            seen, told = out.pop(inner), out[outer]
            assert isinstance(seen, Request)
            out[outer] = named_like(seen, told)
            moved[inner] = outer
    return out
