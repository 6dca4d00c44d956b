"""Rows added up by group, column by column: the same sums as those of the rollups.

There may be as many groups as rows, so that none has an object before it is looked at.
"""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, Generic, NamedTuple, TypeVar, overload

from asgi_llmobs.queries.overview import EXTRA, SUMMED, Found
from asgi_llmobs.store.rollups import DETAILS as PLACES
from asgi_llmobs.store.rollups import MOST_NS
from asgi_llmobs.store.sketches import bin_of, summed
from asgi_llmobs.store.sums import MOST_COST, MOST_TOKENS, Counted

__all__ = ["NEEDED", "Groups", "Lazy", "Tally", "grouped"]

DETAILS = tuple(Counted._fields[place] for place in PLACES)  # that only their sums are asked of
NEEDED = (
    "start_ns", "outcome", "duration_ns", "first_token_ns", "cost", "input_tokens", "output_tokens", *DETAILS,
)  # fmt: skip

T = TypeVar("T")


class Lazy(Sequence[T], Generic[T]):
    """Values that are made when they are looked at: *make* is given the place of each of *count*."""

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self.places = range(count)
        self.make = make

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        found = self.places[place]
        return self.make(found) if isinstance(found, int) else [self.make(each) for each in found]


class Groups(NamedTuple):
    """Which group each row belongs to, by its place in *keys*."""

    members: list[int]
    keys: list[Any]


class Measure(NamedTuple):
    """What rows count for: those that count for anything, in order, and how much each does; 1 where it is not said."""

    rows: list[int]
    values: list[int] | None

    def only(self, wanted: Sequence[bool]) -> "Measure":
        """The same of the rows that are *wanted*."""
        kept = [wanted[row] for row in self.rows]
        values = None if self.values is None else list(compress(self.values, kept))
        return Measure(list(compress(self.rows, kept)), values)


def grouped(values: Iterable[Hashable]) -> Groups:
    """The groups of rows of which *values* tells one after the other what it is grouped by."""
    places: dict[Any, int] = {}
    return Groups([places.setdefault(value, len(places)) for value in values], list(places))


class Tally:
    """What rows add up to by any group.

    Args:
        table: The columns :data:`NEEDED` of the rows; more are passed over.
    """

    def __init__(self, table: Mapping[str, Sequence[Any]]) -> None:
        self.outcomes = table["outcome"]
        ended = [outcome != "running" for outcome in self.outcomes]
        every = Measure(list(range(len(self.outcomes))), None)
        took = present(table["duration_ns"]).only(ended)
        cost = table["cost"]
        measures = {
            "requests": every,
            "priced": present(cost),
            "unpriced": Measure([row for row, value in enumerate(cost) if value is None], None).only(ended),
            "cost": amounts(cost, MOST_COST),
            "inputs": present(table["input_tokens"]),
            "input_tokens": amounts(table["input_tokens"], MOST_TOKENS),
            "outputs": present(table["output_tokens"]),
            "output_tokens": amounts(table["output_tokens"], MOST_TOKENS),
            **{label: amounts(table[label], MOST_TOKENS) for label in DETAILS},
            "timed": took,
            "duration_ns": amounts(table["duration_ns"], MOST_NS).only(ended),
        }
        extra = {
            label: measures[column].only([outcome in outcomes for outcome in self.outcomes])
            for label, (column, outcomes) in EXTRA.items()
        }
        self.measures = [*(measures[label] for label in SUMMED), *extra.values()]
        durations, firsts = table["duration_ns"], table["first_token_ns"]
        self.sketched = [
            (took.rows, [bin_of(durations[row]) for row in took.rows]),
            ((first := present(firsts)).rows, [bin_of(firsts[row]) for row in first.rows]),
        ]

    def sums(
        self, groups: Groups, place: Callable[[Any], tuple[int, tuple[Any, ...]]], timed: Collection[int] | None = None
    ) -> Lazy[Found]:
        """What each of *groups* adds up to.

        Args:
            groups: The groups.
            place: The start and the key of what is found, made of the key of a group.
            timed: The groups that have sketches, by their places; all unless given.
        """
        count = len(groups.keys)
        often = counts(groups.members, count)
        columns = [added(measure, groups.members, often) for measure in self.measures]
        latency, first = (sketches(*one, groups.members, timed) for one in self.sketched)

        def make(at: int) -> Found:
            sums = tuple([column[at] for column in columns])
            return Found(*place(groups.keys[at]), sums, latency.get(at, 0), first.get(at, 0))

        return Lazy(count, make)

    def ranked(self, groups: Groups) -> list[int]:
        """The places of *groups*, whose keys are tuples, those with most rows first."""
        often = Counter(groups.members)
        # texts, not tuples: see above
        order = sorted(range(len(groups.keys)), key=lambda place: "\0".join(map(str, groups.keys[place])))
        return sorted(order, key=often.__getitem__, reverse=True)


def present(values: Sequence[Any]) -> Measure:
    """How many are known."""
    return Measure([row for row, value in enumerate(values) if value is not None], None)


def amounts(values: Sequence[int | None], most: int) -> Measure:
    """How much each says, up to *most*."""
    found = list(filter(None, values))
    if found and max(found) > most:
        found = [min(value, most) for value in found]
    return Measure([row for row, value in enumerate(values) if value], found)


def counts(members: Iterable[int], count: int) -> list[int]:
    """How many rows each of *count* groups has."""
    found = [0] * count
    for place, often in Counter(members).items():
        found[place] = often
    return found


def added(measure: Measure, members: Sequence[int], often: list[int]) -> list[int]:
    """What each group counts for; *often* is how many rows it has."""
    whole = len(measure.rows) == len(members)
    if measure.values is None:
        return often if whole else counts(map(members.__getitem__, measure.rows), len(often))
    sums = [0] * len(often)
    for place, value in zip(members if whole else map(members.__getitem__, measure.rows), measure.values, strict=True):
        sums[place] += value
    return sums


def sketches(
    rows: Sequence[int], bins: Sequence[int], members: Sequence[int], timed: Collection[int] | None
) -> dict[int, int]:
    """The sketch of each group that has one."""
    counts: dict[int, Counter[int]] = {}
    for row, bin in zip(rows, bins, strict=True):
        place = members[row]
        if timed is None or place in timed:
            own = counts.get(place)
            if own is None:
                own = counts[place] = Counter()
            own[bin] += 1
    return {place: summed(0, own) for place, own in counts.items()}
