"""Which calls that instrumentations told of are calls that were seen on the wire too. Pure: the write asks here.

One call, one record: what was told gives name and place in the tree, what was seen gives usage, attempts and bodies.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

from asgi_llmobs.records import Request, Span

__all__ = [
    "SLACK_NS",
    "TOLD",
    "Home",
    "Pairs",
    "Seen",
    "as_node",
    "brought_home",
    "innermost_first",
    "models",
    "named_like",
    "pair_up",
    "seen_record",
    "strays",
    "tells_nothing",
    "without_doubles",
]

TOLD = "otel"  # the api of what instrumentations tell
SPAN_FIELDS = tuple(item.name for item in fields(Span))

SLACK_NS = 1_000_000_000  # two clocks, or one that was read before and after something else
NEAR_NS = 20_000_000  # one clock, read at slightly different moments
OPENAI_FORM = "chatcmpl-"
MAX_LAYERS = 20
MAX_DEPTH = 1_000
Parents = Callable[[], Mapping[str, str | None]]
OVERLAP = 0.8  # of the longer of two calls that are one, beside each other
TEXT = frozenset(("chat", "text_completion", "other", ""))


class Home(NamedTuple):
    """Where a call was made."""

    trace_id: str
    parent_id: str | None


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
    silent: bool = False  # tells no tokens

    @property
    def family(self) -> str:
        return "text" if self.operation in TEXT else self.operation


class Pairs(NamedTuple):
    """What is one call: whatever tells of it by its id, with what that tells of, from further in.

    Args:
        same: What was told, with what it stands for; from the inside to the outside.
        crowded: What only holds several calls together.
        again: What tells from further in of a call that has its name already, with that call.
    """

    same: dict[str, str]
    crowded: set[str]
    again: dict[str, str]


def pair_up(calls: Iterable[Seen], parents: Parents, named: Collection[str] = ()) -> Pairs:
    """Find the calls of one trace that are one call.

    A call inside a call is the same one, seen from further in; more than one inside are its parts. Beside each other
    they are one if they have the provider's id in common, or else place, model and time.

    Args:
        calls: All of the trace.
        parents: Gives the parent of each span of the trace; asked only where it matters.
        named: Calls on the wire that have the name and place of something told already.
    """
    return Pairing(calls, parents, named).pairs()


class Pairing:
    """The calls of one trace."""

    def __init__(self, calls: Iterable[Seen], parents: Parents, named: Collection[str]) -> None:
        self.known = {call.id: call for call in sorted(calls, key=lambda call: (call.start_ns, call.id))}
        self.told = [call for call in self.known.values() if call.told]
        self.seen = [call for call in self.known.values() if not call.told]
        self.named = named
        self.inside: dict[str | None, list[Seen]] = defaultdict(list)
        for call in self.known.values():
            self.inside[call.parent_id].append(call)
        self.tree = Tree(parents)
        self.told_by: dict[str, set[str]] = defaultdict(set)  # names of what tells of a call
        self.same: dict[str, frozenset[str]] = {}

    def pairs(self) -> Pairs:
        leaves = [call for call in self.told if not self._parts(call)]
        for call in self.told:
            if call not in leaves and len(found := self._below(call)) == 1:
                self.told_by[next(iter(found))].add(call.name)
        for call in leaves:
            twin = self._beside(call)
            if twin is not None:
                self.told_by[twin.id].add(call.name)
                self.same[call.id] = frozenset((twin.id,))
        tellers: dict[str, list[Seen]] = defaultdict(list)
        crowded = set()
        for call in self.told:
            found = self._below(call)
            if len(found) > 1:
                crowded.add(call.id)
            elif (base := next(iter(found))) != call.id:
                tellers[base].append(call)
        out = Pairs({}, crowded, {})
        for base, layers in tellers.items():
            self._stack(base, layers, out)
        return out

    def _parts(self, told: Seen) -> list[Seen]:
        return [call for call in self.inside[told.id] if call.id != told.id and fits(told, call)]

    def _below(self, call: Seen, depth: int = 0) -> frozenset[str]:
        """The calls that are inside this one, as far in as they are known."""
        if call.id in self.same:
            return self.same[call.id]
        parts = self._parts(call) if call.told and depth < MAX_LAYERS else ()
        return frozenset(id for part in parts for id in self._below(part, depth + 1)) or frozenset((call.id,))

    def _stack(self, base: str, layers: list[Seen], out: Pairs) -> None:
        """Put what tells of one call around it, layer by layer."""
        if len(layers) > 1 or base in self.named:
            layers = sorted(layers, key=lambda call: (-self.tree.depth(call), -call.start_ns))
        inner = base
        own = self.tree.depth(self.known[base]) if base in self.named else None
        for call in layers:
            if own is not None and self.tree.depth(call) >= own and call.id != self.known[base].parent_id:
                out.again[call.id] = base
            else:
                out.same[call.id] = inner
                inner = call.id

    def _beside(self, told: Seen) -> Seen | None:
        """The call on the wire that is the same as *told*, which has none inside."""
        if told.response_id:
            for call in self.seen:
                if call.response_id == told.response_id:
                    return call
        found = [
            (distance, len(self.told_by[call.id]), abs(end_of(told) - end_of(call)), call)
            for call in self.seen
            if (distance := self._distance(told, call)) is not None
        ]
        # of several made side by side the nearest, that nobody has told of, and that ended with it
        return min(found, key=lambda one: one[:3])[3] if found else None

    def _distance(self, told: Seen, seen: Seen) -> int | None:
        """How far apart the two stand in the tree; ``None`` where they cannot be one call."""
        names = self.told_by[seen.id] | ({seen.name} if seen.id in self.named else set())
        if (
            told.name in names  # by the same instrumentation: it speaks of another call
            or seen.family != told.family
            or seen.models.isdisjoint(told.models)
            or contradict(told.response_id, seen.response_id)
        ):
            return None
        if seen.parent_id == told.parent_id:
            return 0 if shared(told, seen) >= OVERLAP or during(told, seen) else None
        return self.tree.distance(told, seen) if during(told, seen) else None


class Tree:
    """Where calls stand in their trace.

    Args:
        parents: Gives the parent of each span.
    """

    def __init__(self, parents: Parents) -> None:
        self._ask = parents
        self._parents: Mapping[str, str | None] | None = None

    def above(self, call: Seen) -> list[str | None]:
        """The spans above a call, the nearest first."""
        if self._parents is None:
            self._parents = self._ask()
        found: dict[str | None, None] = {call.parent_id: None}
        at = call.parent_id
        while at is not None and (at := self._parents.get(at)) not in found and len(found) < MAX_DEPTH:
            found[at] = None
        return list(found)

    def depth(self, call: Seen) -> int:
        """How many spans are above a call."""
        return len(self.above(call))

    def distance(self, one: Seen, other: Seen) -> int | None:
        """How many steps the place of one is from that of the other; ``None`` where no way is known."""
        there = {id: steps for steps, id in enumerate(self.above(other)) if id is not None}
        return next((steps + there[id] for steps, id in enumerate(self.above(one)) if id in there), None)


def fits(outer: Seen, inner: Seen) -> bool:
    """Whether *inner*, which hangs below *outer*, can be the same call."""
    end = None if outer.duration_ns is None else outer.start_ns + outer.duration_ns + SLACK_NS
    return (
        outer.family == inner.family
        and inner.start_ns >= outer.start_ns - SLACK_NS
        and (end is None or inner.start_ns <= end)
    )


def contradict(told: str | None, seen: str | None) -> bool:
    """Whether two ids cannot be of one answer: litellm makes up its own, in OpenAI's form, for whoever answered."""
    if told is None or seen is None:
        return False
    return not told.startswith(OPENAI_FORM) or seen.startswith(OPENAI_FORM)


def end_of(call: Seen) -> int:
    return call.start_ns + (call.duration_ns or 0)


def during(told: Seen, seen: Seen) -> bool:
    """Whether a call was made while it was being told of.

    LlamaIndex tells nothing but that it has made a stream, which sends its request when it is read.
    """
    if told.duration_ns is None or seen.duration_ns is None or seen.start_ns < told.start_ns - NEAR_NS:
        return False
    if told.silent and seen.start_ns <= end_of(told) + SLACK_NS:
        return True
    return end_of(seen) <= end_of(told) + NEAR_NS


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
        record.response_id, record.start_ns, record.duration_ns, record.name, tells_nothing(record),
    )  # fmt: skip


def tells_nothing(call: Any) -> bool:
    """Whether a call has no tokens."""
    return call.input_tokens is None and call.output_tokens is None


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


def strays(records: Iterable[Span]) -> dict[str, Request]:
    """What was told outside any trace of a call that may be in one, by the provider's id of its answer.

    litellm calls back from a thread that knows nothing of where the call was made.
    """
    return {
        record.response_id: record
        for record in records
        if isinstance(record, Request) and record.api == TOLD and record.parent_id is None and record.response_id
    }


def brought_home(record: Span, homes: Mapping[str, Home]) -> Span:
    """A record of a stray trace in the trace that it belongs to."""
    home = homes.get(record.trace_id)
    if home is None:
        return record
    return replace(record, trace_id=home.trace_id, parent_id=record.parent_id or home.parent_id)


def without_doubles(records: Mapping[str, Span]) -> dict[str, Span]:
    """All records of a process, by id, with one for each call: what the store does, in memory."""
    stray = strays(records.values())
    homes = {
        stray[record.response_id].trace_id: Home(record.trace_id, record.parent_id)
        for record in records.values()
        if isinstance(record, Request) and record.api != TOLD and record.response_id in stray
    }
    records = {id: brought_home(record, homes) for id, record in records.items()}
    by_trace: dict[str, list[Seen]] = defaultdict(list)
    for record in records.values():
        if isinstance(record, Request):
            by_trace[record.trace_id].append(seen_record(record))
    out = dict(records)
    for calls in by_trace.values():
        if not any(call.told for call in calls):
            continue
        pairs = pair_up(calls, lambda: {id: record.parent_id for id, record in records.items()})
        for id in pairs.crowded:
            out[id] = as_node(out[id])  # type: ignore[arg-type]
        moved: dict[str, str] = {}
        for outer in innermost_first(pairs.same):
            inner = pairs.same[outer]
            inner = moved.get(inner, inner)
            seen, told = out.pop(inner), out[outer]
            assert isinstance(seen, Request)
            out[outer] = named_like(seen, told)
            moved = {old: outer if new == inner else new for old, new in moved.items()} | {inner: outer}
        for id, record in out.items():
            now = moved.get(record.parent_id or "")
            if now not in (None, id):
                out[id] = replace(record, parent_id=now)
    return out
