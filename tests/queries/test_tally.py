"""Rows added up by group: the same sums as those of the rollups, and nothing made that nobody looks at."""

from random import Random

import pytest

from asgi_llmobs.queries.overview import EXTRA, SUMMED
from asgi_llmobs.queries.tally import NEEDED, Lazy, Tally, grouped
from asgi_llmobs.store.rollups import rolled
from asgi_llmobs.store.sketches import summed
from asgi_llmobs.store.sums import Counted


def test_lazy() -> None:
    """It is a sequence whose values are made when they are looked at, by place, from the end and by slice."""
    made: list[int] = []

    def make(place: int) -> int:
        made.append(place)
        return place * 10

    values = Lazy(1_000_000, make)
    assert len(values) == 1_000_000 and values[3] == 30 and values[-1] == 9_999_990 and values[1:3] == [10, 20]
    assert made == [3, 999_999, 1, 2]
    with pytest.raises(IndexError):
        values[1_000_000]
    assert list(Lazy(3, make)) == [0, 10, 20] and not Lazy(0, make)


@pytest.mark.parametrize("seed", range(4))
def test_sums_of_groups(seed: int) -> None:
    """Every group has the sums and sketches that the rollups would hold for its rows, outcome by outcome."""
    dice = Random(seed)

    def amount(most: int) -> int | None:
        return dice.choice([None, 0, dice.randrange(most), dice.choice([1, 10**18])])

    rows = [
        {label: amount(1_000) for label in NEEDED}
        | {
            "outcome": dice.choice(["ok", "error", "cancelled", "abandoned", "running"]),
            "key": (dice.choice("abcdefg"),),
        }
        for _ in range(200)
    ]
    tally = Tally({label: [row[label] for row in rows] for label in NEEDED})
    groups = grouped(row["key"] for row in rows)
    found = tally.sums(groups, lambda key: (0, key), {0, 1})

    assert [one.key for one in found] == groups.keys
    assert [found[place].sums[0] for place in tally.ranked(groups)] == sorted(one.sums[0] for one in found)[::-1]
    for place, one in enumerate(found):
        expected, latency, first = dict.fromkeys((*SUMMED, *EXTRA), 0), 0, 0
        for outcome in ("ok", "error", "cancelled", "abandoned", "running"):
            own = [row for row in rows if row["key"] == groups.keys[place] and row["outcome"] == outcome]
            if own:
                told = rolled([Counted(*map(row.get, Counted._fields)) for row in own])  # type: ignore[arg-type]
                value = dict(zip(SUMMED, told.sums, strict=True))
                for label in SUMMED:
                    expected[label] += value[label]
                for label, (column, outcomes) in EXTRA.items():
                    expected[label] += value[column] if outcome in outcomes else 0
                latency, first = summed(latency, told.sketches[0]), summed(first, told.sketches[1])
        assert dict(zip((*SUMMED, *EXTRA), one.sums, strict=True)) == expected
        assert (one.latency, one.first_token) == ((latency, first) if place < 2 else (0, 0))
