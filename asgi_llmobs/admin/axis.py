"""The time axis of a trace or a session: what is zoomed to, and idle time that is drawn short. Pure arithmetic."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter

__all__ = ["Axis", "Gap", "Tick"]

WHOLE = 1000.0  # units from the left to the right edge
CUT = 36.0  # units that a gap takes that is drawn short
TICKS = 5
APART = 120.0  # units that two labels need


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time in which nothing was at work, in nanoseconds from the start of the axis."""

    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        """How long it is."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A time that is written below the axis, and where."""

    x: float
    ns: int
    gap_ns: int = 0  # it stands for a gap of this length


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Nanoseconds on a line of 1,000 units.

    Args:
        start_ns: The left edge.
        end_ns: The right edge.
        gaps: Times that are drawn short, in order, none touching another.
    """

    start_ns: int
    end_ns: int
    gaps: Sequence[Gap] = ()
    points: list[tuple[int, float]] = field(default_factory=list, init=False)  # where its scale changes

    def __post_init__(self) -> None:
        inside = [gap for gap in self.gaps if self.start_ns <= gap.start_ns and gap.end_ns <= self.end_ns]
        object.__setattr__(self, "gaps", inside)
        short = min(CUT, WHOLE / (2 * len(inside))) if inside else 0.0
        busy = max(1, self.end_ns - self.start_ns - sum(gap.duration_ns for gap in inside))
        scale = (WHOLE - short * len(inside)) / busy
        at, x = self.start_ns, 0.0
        self.points.append((at, x))
        for gap in inside:
            x += (gap.start_ns - at) * scale
            self.points.extend(((gap.start_ns, x), (gap.end_ns, x + short)))
            at, x = gap.end_ns, x + short
        self.points.append((max(self.end_ns, at + 1), WHOLE))

    def x(self, ns: int) -> float:
        """Where a time is; what is before or after is at the edge."""
        if ns <= self.points[0][0]:
            return 0.0
        if ns >= self.points[-1][0]:
            return WHOLE
        place = bisect_right(self.points, ns, key=itemgetter(0))
        (low, left), (high, right) = self.points[place - 1 : place + 1]
        return round(left + (right - left) * (ns - low) / max(1, high - low), 2)

    def width(self, start_ns: int, duration_ns: int | None) -> float:
        """How wide something is; what takes no time can still be seen."""
        return max(4.0, round(self.x(start_ns + (duration_ns or 0)) - self.x(start_ns), 2))

    def left(self, start_ns: int) -> float:
        """Where something starts, so that it can be seen."""
        return min(self.x(start_ns), WHOLE - 4)

    def shows(self, start_ns: int, duration_ns: int | None) -> bool:
        """Whether any of it lies between the edges."""
        return start_ns <= self.end_ns and start_ns + (duration_ns or 0) >= self.start_ns

    def ticks(self) -> list[Tick]:
        """Round times along the axis, and the length of each gap in its middle."""
        step = nice((self.end_ns - self.start_ns) // TICKS)
        found: list[Tick] = []
        longest = sorted(self.gaps, key=lambda gap: -gap.duration_ns)
        wanted = [Tick(x=(self.x(gap.start_ns) + self.x(gap.end_ns)) / 2, ns=gap.start_ns, gap_ns=gap.duration_ns)
                  for gap in longest]  # fmt: skip
        if self.gaps:
            edges = [ns for gap in self.gaps for ns in (gap.start_ns, gap.end_ns)]
            times = sorted({self.start_ns, *edges, self.end_ns})
        else:
            times = list(range(-(-self.start_ns // step) * step, self.end_ns + 1, step))
        for tick in (*wanted, *(Tick(x=self.x(ns), ns=ns) for ns in times)):
            if all(abs(tick.x - other.x) >= APART for other in found):
                found.append(tick)
        return sorted(found, key=lambda tick: tick.x)

    def points_ms(self) -> list[tuple[float, float]]:
        """Where its scale changes, in milliseconds and units: between two points time runs evenly."""
        return [(ns / 1e6, round(x, 3)) for ns, x in self.points]

    def part_ms(self, low: float, high: float) -> str:
        """A part of the axis, as shares of what is shown, in the form of a zoom: ``from-to`` in milliseconds."""
        length = self.end_ns - self.start_ns
        start = max(0, self.start_ns + int(length * low))
        return zoom(start, max(start + 1_000, self.start_ns + int(length * high)))


def zoom(start_ns: int, end_ns: int) -> str:
    """A range of time as addresses have it."""
    return f"{max(0, start_ns) / 1e6:.3f}-{max(end_ns, start_ns + 1_000) / 1e6:.3f}"


def nice(step: int) -> int:
    """The next round number of nanoseconds from *step* on."""
    size = 1
    while size * 10 <= step:
        size *= 10
    return next((size * part for part in (1, 2, 5) if size * part >= step), size * 10)
