"""Charts as numbers: nice ticks, and where bars and lines go. The templates draw them, see parts/charts.html."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, floor, log10
from typing import Any

from asgi_llmobs.admin.formats import duration, exact_duration, exact_money, money, number, ratio, tokens

__all__ = ["Chart", "Drawing", "Line", "drawn", "exact_figure", "figure", "spark"]

WIDTH = 1_000  # units across, stretched to the width that there is
HEIGHT = 120  # pixels
TICKS = 4  # at most, above the ground line
LABELS = 5  # below, at most
SECOND = 1_000_000_000
DURATIONS = tuple(
    unit * many
    for unit, manies in (
        (1_000, (1, 2, 5, 10, 20, 50, 100, 200, 500)),
        (1_000_000, (1, 2, 5, 10, 20, 50, 100, 200, 500)),
        (SECOND, (1, 2, 5, 10, 15, 30)),
        (60 * SECOND, (1, 2, 5, 10, 15, 30)),
        (3_600 * SECOND, (1, 2, 3, 6, 12)),
        (86_400 * SECOND, (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    )
    for many in manies
)
TIMES = tuple(
    SECOND * many
    for many in (60, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 345_600, 604_800)
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series of a chart; ``None`` is where nothing is known. *mark* names its look in the style sheet."""

    label: str
    mark: str
    values: Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What a chart shows: *kind* is ``bars`` (stacked, the first at the bottom) or ``lines``."""

    title: str
    unit: str  # of UNITS
    kind: str
    lines: Sequence[Line]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Where everything of a chart is: across in units of ``WIDTH`` or per cent, down in pixels."""

    ticks: Sequence[tuple[float, str]]  # y and label
    times: Sequence[tuple[float, int, str, str]]  # per cent, nanoseconds, label, form
    bars: Sequence[tuple[str, float, float, float, float]]  # mark, x, y, width, height
    paths: Sequence[tuple[str, str]]  # mark, path
    empty: bool


def per_second(value: Any) -> str:
    return "–" if value is None else f"{value:,.3g}/s" if value < 1_000 else f"{value:,.0f}/s"


def per_minute(value: Any) -> str:
    return "–" if value is None else f"{value:,.3g}/min" if value < 1_000 else f"{value:,.0f}/min"


def plain(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}"


def digits(value: Any) -> str:
    return "–" if value is None else f"{value!r}"


UNITS: Mapping[str, tuple[Callable[[Any], str], Callable[[Any], str]]] = {
    "count": (tokens, number),
    "money": (money, exact_money),
    "duration": (duration, exact_duration),
    "share": (ratio, ratio),
    "per_second": (per_second, per_second),
    "per_minute": (per_minute, per_minute),
    "plain": (plain, digits),
}


def figure(value: Any, unit: str) -> str:
    """*value* in the words of its unit, short to read."""
    return "–" if value is None else UNITS[unit][0](value)


def exact_figure(value: Any, unit: str) -> str:
    """*value* with all its digits."""
    return "unknown" if value is None else UNITS[unit][1](value)


def drawn(chart: Chart, starts: Sequence[int], step_ns: int) -> Drawing:
    """Where the bars and lines of *chart* go, over steps of *step_ns* that begin at *starts*."""
    most = highest(chart)
    ticks = nice(most, chart.unit)
    top = ticks[-1] if ticks else 1.0
    step = WIDTH / max(1, len(starts))
    bars: list[tuple[str, float, float, float, float]] = []
    paths: list[tuple[str, str]] = []
    if chart.kind == "bars":
        grounds = [0.0] * len(starts)
        for line in chart.lines:
            for place, value in enumerate(line.values):
                if value:
                    height = float(value) / top * HEIGHT
                    grounds[place] += height
                    bars.append(
                        (line.mark, round(place * step + step * 0.09, 2), round(HEIGHT - grounds[place], 2),
                         round(step * 0.82, 2), round(height, 2))
                    )  # fmt: skip
    else:
        paths = [(line.mark, path(line.values, step, top)) for line in chart.lines]
    return Drawing(
        ticks=[(round(HEIGHT - tick / top * HEIGHT, 2), tick_label(tick, ticks, chart.unit)) for tick in (0.0, *ticks)],
        times=times(starts, step_ns),
        bars=bars,
        paths=paths,
        empty=not most,
    )


def highest(chart: Chart) -> float:
    """The greatest value that the chart must have room for."""
    if chart.kind == "bars":
        return max((float(sum(value or 0 for value in column)) for column in columns(chart)), default=0.0)
    return max((float(value) for line in chart.lines for value in line.values if value is not None), default=0.0)


def columns(chart: Chart) -> Sequence[tuple[Any, ...]]:
    return list(zip(*(line.values for line in chart.lines), strict=True))


def nice(most: float, unit: str) -> list[float]:
    """Round values up to the first that is not below *most*, at most ``TICKS`` of them."""
    if most <= 0:
        return []
    if unit == "duration":
        size: float = next((one for one in DURATIONS if one * TICKS >= most), DURATIONS[-1])
        size = size if size * TICKS >= most else ceil(most / TICKS / DURATIONS[-1]) * DURATIONS[-1]
    else:
        if unit == "share":
            most = min(1.0, most)
        rough = most / TICKS
        power = 10.0 ** floor(log10(rough))
        size = next(many * power for many in (1, 2, 2.5, 5, 10) if many * power >= rough * (1 - 1e-9))
        if unit == "count":
            size = max(1, ceil(size))
    return [size * many for many in range(1, ceil(most / size - 1e-9) + 1)]


def tick_label(value: float, ticks: Sequence[float], unit: str) -> str:
    if value == 0:
        return {"money": "$0", "share": "0 %", "duration": "0"}.get(unit, "0")
    if unit == "duration":
        for size, word in ((86_400 * SECOND, "d"), (3_600 * SECOND, "h"), (60 * SECOND, "m"), (SECOND, "s")):
            if value >= size and all(tick % size == 0 for tick in ticks):
                return f"{value / size:g} {word}"
        return f"{value / SECOND:g} s" if ticks[-1] >= SECOND else f"{value / 1e6:g} ms"
    if unit == "share":
        return f"{value * 100:.3g} %"
    if unit == "money":
        digits = max(0, -floor(log10(ticks[0]) + 1e-9) + (1 if f"{ticks[0]:e}"[:3] == "2.5" else 0))
        return f"${value:,.{digits}f}" if value < 10_000 else f"${short(value)}"
    return short(value)


def short(value: float) -> str:
    for size, word in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{word}"
    return f"{value:g}"


def times(starts: Sequence[int], step_ns: int) -> list[tuple[float, int, str, str]]:
    """Labels at round times, at most ``LABELS``: where in per cent, when, what to write (UTC), and in what form."""
    if not starts:
        return []
    low, high = starts[0], starts[-1] + step_ns
    size = next((one for one in TIMES if one >= step_ns and (high - low) / one <= LABELS), None)
    if size is None:
        size = ceil((high - low) / LABELS / TIMES[-1]) * TIMES[-1]
    form = "day" if size >= 86_400 * SECOND else "clock"
    found = []
    for moment in range(-(-low // size) * size, high, size):
        at = datetime.fromtimestamp(moment // SECOND, UTC)
        midnight = form == "clock" and at.hour == at.minute == 0 and high - low > 86_400 * SECOND
        text = f"{at:%b} {at.day}" if form == "day" or midnight else f"{at:%H:%M}"
        found.append((round((moment - low) / (high - low) * 100, 3), moment, text, form))
    return found


def path(values: Sequence[Any], step: float, top: float) -> str:
    """The line through *values*, broken where one is unknown; one alone is a dash."""
    words: list[str] = []
    begun = False
    for place, value in enumerate(values):
        if value is None:
            begun = False
            continue
        x, y = round((place + 0.5) * step, 2), round(HEIGHT - min(1.0, float(value) / top) * HEIGHT, 2)
        alone = not begun and (place + 1 == len(values) or values[place + 1] is None)
        half = round(step * 0.3, 2)
        words.append(f"M{round(x - half, 2)} {y}h{2 * half:g}" if alone else f"{'L' if begun else 'M'}{x} {y}")
        begun = True
    return "".join(words)


def spark(values: Sequence[Any]) -> list[tuple[float, float, float, float]]:
    """Bars for a line of text: x, y, width and height in a box of 100 by 16."""
    top = max((float(value) for value in values if value), default=0.0)
    step = 100 / max(1, len(values))
    return [
        (round(place * step, 2), round(16 - height, 2), round(step * 0.8, 2), round(height, 2))
        for place, value in enumerate(values)
        if value and (height := max(1.0, float(value) / top * 16))
    ]
