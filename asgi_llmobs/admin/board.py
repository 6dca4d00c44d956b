"""A dashboard: a range of time, figures and the period before, charts, groups; for any page that has one."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from asgi_llmobs.admin.charts import Chart, Line
from asgi_llmobs.admin.narrow import filter_of
from asgi_llmobs.admin.page import Permission, View
from asgi_llmobs.admin.saved import saved_in_all
from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.filters.expression import Term, written
from asgi_llmobs.pricing import Pricer
from asgi_llmobs.queries.figures import GROUPS, Figures, Window, edges, figures, property_names
from asgi_llmobs.queries.overview import Cell

__all__ = [
    "OWN",
    "Pick",
    "Span",
    "board",
    "group_items",
    "in_range",
    "rates",
    "span_of",
    "stamp",
    "step_rows",
    "without",
]

OWN = ("by", "and", "sort", "page")  # what of an address is not the filter's
PERIODS = (("25m", "25 m"), ("1h", "1 h"), ("24h", "24 h"), ("7d", "7 days"), ("30d", "30 days"))
EVER = "1970-01-01"
SECOND = 1_000_000_000
DAY_NS = 86_400 * SECOND
LONGEST_NS = 35 * DAY_NS  # beyond, a range begins where the data do
SHARES = (0.5, 0.95, 0.99)
MARKS = ("c1", "c2", "c3", "c4", "c5", "c6")
TIMES = ("since", "until")

Items = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The range that a dashboard shows, and what it was asked for as."""

    since_ns: int
    until_ns: int
    word: str  # 24h; EVER for all; empty where it was set by hand
    chosen: bool  # by the address


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A period to choose, and the address that does."""

    word: str
    label: str
    items: Items


def without(view: View, own: Iterable[str] = OWN) -> View:
    """*view* with only the filter in its query."""
    names = set(own)
    return replace(view, query=tuple((key, value) for key, value in view.query if key not in names))


def span_of(flt: Filter, oldest_ns: int | None, newest_ns: int | None, now_ns: int | None = None) -> Span:
    """The range of the filter; where it names none, the shortest period in which something happened.

    Args:
        flt: What the address says.
        oldest_ns: Start of the first request, if there is one.
        newest_ns: Start of the last.
        now_ns: Now, in nanoseconds since 1970.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    oldest = now_ns if oldest_ns is None else oldest_ns
    until = now_ns if flt.until_ns is None else flt.until_ns
    newest = oldest if newest_ns is None else newest_ns
    if flt.since_ns is not None or flt.until_ns is not None:
        since = flt.since_ns or 0
        if until - since > LONGEST_NS:
            since = min(max(since, oldest), until - 1)
            until = until if flt.until_ns is not None else ever_until(newest, now_ns)
        word = (flt.since if flt.since_ns is not None else EVER) if flt.until_ns is None else ""
        return Span(since_ns=since, until_ns=max(until, since + 1), word=word, chosen=True)
    hour = 3_600 * SECOND
    for word, length in (("1h", hour), ("24h", 24 * hour), ("7d", 168 * hour), ("30d", 720 * hour)):
        if newest >= now_ns - length and (word != "1h" or oldest >= now_ns - length):
            return Span(since_ns=now_ns - length, until_ns=now_ns, word=word, chosen=False)
    return Span(since_ns=oldest, until_ns=ever_until(newest, now_ns), word=EVER, chosen=False)


def ever_until(newest_ns: int, now_ns: int) -> int:
    """Where all times end: with the last request, if that is long ago."""
    return now_ns if newest_ns > now_ns - DAY_NS else newest_ns + 1


def stamp(ns: int) -> str:
    """A moment as an address writes it."""
    seconds, rest = divmod(ns, SECOND)
    text = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
    return f"{text}.{rest // 1_000:06d}Z" if rest else f"{text}Z"


def step_rows(items: Iterable[tuple[str, str]], start_ns: int, length_ns: int) -> Items:
    """The conditions *items* with the range that begins at *start_ns*, as an address has them."""
    found = [(name, value) for name, value in items if name not in TIMES]
    found.append(("since", stamp(start_ns)))
    if start_ns + length_ns <= time.time_ns():
        found.append(("until", stamp(start_ns + length_ns)))
    return found


def in_range(items: Iterable[tuple[str, str]], window: Window) -> Items:
    """The conditions *items* with the range of *window*."""
    return step_rows(items, window.since_ns, window.until_ns - window.since_ns)


def group_items(by: Sequence[str], key: Sequence[str | int]) -> Items | None:
    """The conditions that mean a group; ``None`` where no filter can: what a request does not say."""
    found = []
    for name, value in zip(by, key, strict=True):
        if value in ("", 0):
            return None
        if name == "error":
            found.append(("q", written(Term("error", ":", str(value)))))
        else:
            found.append(({"outcome": "status"}.get(name, name), str(value)))
    return found


def rates(cell: Cell, length_ns: int) -> dict[str, Any]:
    """Shares and speeds of a cell that is *length_ns* long; ``None`` where there is nothing to divide by."""
    ended = cell.requests - cell.running
    return {
        "error_share": share(cell.errors, ended),
        "gone_share": share(cell.gone, ended),
        "cache_share": share(cell.cache_read, cell.input_tokens),
        "truncated_share": share(cell.truncated_count, ended),
        "tool_share": share(cell.tool_count, ended),
        "requests_per_minute": cell.requests * 60 * SECOND / length_ns if length_ns else None,
        "tokens_per_second": share(cell.answered_tokens * SECOND, cell.answered_ns),
        "cost_per_request": cost_per(cell.total_cost_usd, cell.requests - cell.running - cell.unpriced_count),
    }


def share(part: int | None, whole: int | None) -> float | None:
    return part / whole if whole and part is not None else None


def cost_per(cost: Decimal | None, count: int) -> Decimal | None:
    return cost / count if cost is not None and count > 0 else None


def groups_asked(view: View) -> tuple[str, ...]:
    """What the address groups by: nothing, one thing or a pair."""
    found = [value for name, value in view.query if name in ("by", "and") and value.strip()]
    if len(found) > 2:
        raise FilterError("by", "group by one thing or by a pair")
    return tuple(dict.fromkeys(value.strip() for value in found))


def board(
    view: View,
    slug: str,
    *,
    fixed: Sequence[tuple[str, str]] = (),
    by: Sequence[str] | None = None,
    seen: tuple[int | None, int | None] | None = None,
) -> dict[str, Any]:
    """What a page with a dashboard shows, all of it from the address.

    Args:
        view: The visit.
        slug: The page's own address from the mount.
        fixed: Conditions that the page is about, which its address does not repeat.
        by: What is grouped by, unless the address says.
        seen: Starts of the first and last request that the page is about; of the whole project unless given.
    """
    plain = without(view)
    asked = groups_asked(view) or tuple(by or ())
    own = filter_of(plain)
    flt = filter_of(replace(plain, query=(*fixed, *plain.query)))
    if not view.may(Permission.VIEW) and (
        asked or replace(own, since_ns=None, until_ns=None, since="", until="") != Filter(project=own.project)
    ):
        raise FilterError("filter", "your role sees totals only")
    oldest, newest = seen or edges(view.database, view.project)
    span = span_of(own, oldest, newest)
    found = figures(
        view.database, flt, since_ns=span.since_ns, until_ns=span.until_ns, by=asked, shares=SHARES, models=True
    )
    saved = saved_in_all(Pricer(view.config.prices), found.models, found.window.until_ns)
    items = own.to_query()
    rest = [(name, value) for name, value in items if name not in TIMES]
    kept = [(name, value) for name, value in view.query if name in ("by", "and") and value.strip()]
    length = found.window.until_ns - found.window.since_ns
    return {
        "slug": slug,
        "fixed": list(fixed),
        "window": found.window,
        "span": {"word": span.word, "chosen": span.chosen},
        "filter": items,
        "all_items": [*fixed, *items],
        "words": timeless(flt).words(),
        "chips": [
            {"text": written(one.item), "rest": [pair for pair in one.without.to_query() if pair[0] not in TIMES]}
            for one in own.conditions()
        ],
        "time": [pair for pair in items if pair[0] in TIMES],
        "search": own.search,
        "rest": rest,
        "kept": kept,
        "picks": picks(rest, kept),
        "by": found.by,
        "choices": choices(view, found.by),
        "total": found.total,
        "rates": rates(found.total, length),
        "previous": found.previous,
        "previous_rates": rates(found.previous, length) if found.previous is not None else None,
        "cache_saved_usd": saved,
        "tiles": tiles(found, length, saved),
        "charts": charts(found),
        "steps": found.steps,
        "groups": found.groups,
        "grouped": found.grouped,
        "rows_only": found.rows_only,
        "partial_since_ns": found.partial_since_ns,
        "linked": view.may(Permission.VIEW),
        "empty": newest is None,
    }


def timeless(flt: Filter) -> Filter:
    """The filter without its times."""
    return replace(flt, since_ns=None, until_ns=None, since="", until="")


def picks(rest: Items, kept: Items) -> list[Pick]:
    """The periods that can be chosen, each with its address."""
    found = [Pick(word=word, label=label, items=[*rest, ("since", word), *kept]) for word, label in PERIODS]
    return [*found, Pick(word=EVER, label="All", items=[*rest, ("since", EVER), *kept])]


def choices(view: View, by: Sequence[str]) -> list[tuple[str, str]]:
    """What can be grouped by, as values and labels."""
    if not view.may(Permission.VIEW):
        return []
    named = [(one, "HTTP status" if one == "status" else one.capitalize()) for one in GROUPS if one != "session"]
    properties = [f"property.{name}" for name in property_names(view.database, view.project)]
    folded = {one.casefold() for one in properties}
    properties += [one for one in by if one.startswith("property.") and one.casefold() not in folded]
    return [*named, *((one, one.removeprefix("property.")) for one in properties)]


def tiles(found: Figures, length_ns: int, saved: Decimal | None) -> list[dict[str, Any]]:
    """The figures on top, each with what it was before, and the conditions that lead to its rows."""
    cell = found.total
    past = found.previous if found.previous is not None and found.previous.requests else None
    now, then = rates(cell, length_ns), rates(past, length_ns) if past is not None else None

    def tile(label: str, unit: str, value: Any, before: Any, **more: Any) -> dict[str, Any]:
        return {
            "label": label,
            "unit": unit,
            "value": value,
            "before": before,
            "worse": "",
            "items": [],
            "share": None,
            "unpriced": 0,
            "saved": None,
            **more,
        }

    def rate(name: str) -> tuple[Any, Any]:
        return now[name], then[name] if then is not None else None

    def slow(which: str, place: int) -> tuple[Any, Any]:
        return getattr(cell, which)[place], getattr(past, which)[place] if past is not None else None

    return [
        tile("Requests", "count", cell.requests, past and past.requests),
        tile("Cost", "money", cell.total_cost_usd, past and past.total_cost_usd, worse="more",
             unpriced=cell.unpriced_count),
        tile("Failed", "count", cell.errors, past and past.errors, worse="more", items=[("status", "error")],
             share=now["error_share"]),
        tile("Client gone", "count", cell.gone, past and past.gone, worse="more",
             items=[("status", "cancelled"), ("status", "abandoned")], share=now["gone_share"]),
        tile("Latency p50", "duration", *slow("latency", 0), worse="more"),
        tile("Latency p95", "duration", *slow("latency", 1), worse="more", items=slower(cell.latency[1])),
        tile("Latency p99", "duration", *slow("latency", 2), worse="more", items=slower(cell.latency[2])),
        tile("First token p50", "duration", *slow("first_token", 0), worse="more"),
        tile("Tokens in", "count", cell.input_tokens, past and past.input_tokens),
        tile("Tokens out", "count", cell.output_tokens, past and past.output_tokens),
        tile("Cache hits", "share", *rate("cache_share"), worse="less", items=[("q", "has:cache")], saved=saved),
        tile("Throughput", "per_minute", *rate("requests_per_minute")),
    ]  # fmt: skip


def slower(ns: int | None) -> Items:
    return [] if ns is None else [("min_latency", f"{ns / SECOND:.3g}")]


def charts(found: Figures) -> list[Chart]:
    """What is drawn over time."""
    steps, window = found.steps, found.window
    figure = [rates(cell, window.step_ns) for cell in steps]
    seconds = window.step_ns / SECOND
    outcomes = [
        Line(label="OK", mark="ok", values=[cell.succeeded for cell in steps]),
        Line(label="Gone", mark="gone", values=[cell.gone for cell in steps]),
        Line(label="Failed", mark="bad", values=[cell.errors for cell in steps]),
        Line(label="Other", mark="rest",
             values=[cell.requests - cell.succeeded - cell.gone - cell.errors for cell in steps]),
    ]  # fmt: skip
    if not any(outcomes[-1].values):
        outcomes.pop()
    cost = [Line(label="Cost", mark="c1", values=[cell.total_cost_usd for cell in steps])]
    title = " by " + " and ".join(one.removeprefix("property.") for one in found.by) if found.groups else ""
    if found.groups:
        outcomes = stacked(found, "requests")
        cost = stacked(found, "total_cost_usd")
    return [
        Chart(title=f"Requests{title}", unit="count", kind="bars", lines=outcomes),
        Chart(title=f"Cost{title}", unit="money", kind="bars", lines=cost),
        Chart(title="Latency", unit="duration", kind="lines", lines=slowness(steps, "latency")),
        Chart(title="Time to first token", unit="duration", kind="lines", lines=slowness(steps, "first_token")),
        Chart(title="Tokens", unit="count", kind="bars", lines=[
            Line(label="In", mark="c1",
                 values=[max(0, (cell.input_tokens or 0) - cell.cache_read) for cell in steps]),
            Line(label="Cached", mark="c3", values=[cell.cache_read for cell in steps]),
            Line(label="Out", mark="c2", values=[cell.output_tokens for cell in steps]),
        ]),
        Chart(title="Cache hits", unit="share", kind="lines", note="of input tokens", lines=[
            Line(label="From cache", mark="c3", values=[one["cache_share"] for one in figure]),
        ]),
        Chart(title="Error rate", unit="share", kind="lines", note="of requests that ended", lines=[
            Line(label="Failed", mark="bad", values=[one["error_share"] for one in figure]),
        ]),
        Chart(title="Throughput", unit="per_second", kind="lines", note="tokens of answers", lines=[
            Line(label="Tokens out", mark="c2", values=[(cell.output_tokens or 0) / seconds for cell in steps]),
        ]),
    ]  # fmt: skip


def slowness(steps: Sequence[Cell], which: str) -> list[Line]:
    return [
        Line(label=label, mark=label, values=[getattr(cell, which)[place] for cell in steps])
        for place, label in enumerate(("p50", "p95", "p99"))
    ]


def stacked(found: Figures, column: str) -> list[Line]:
    """A line for each of the largest groups, and one for all others."""
    places = {start: place for place, start in enumerate(found.window.starts())}
    values: Mapping[Any, list[Any]] = {cell.key: [None] * len(places) for cell in found.groups[: len(MARKS)]}
    for cell in found.grouped:
        if cell.key in values:
            values[cell.key][places[cell.start_ns]] = getattr(cell, column)
    lines = [
        Line(label=" · ".join(str(part) or "not said" for part in key), mark=mark, values=own)
        for mark, (key, own) in zip(MARKS, values.items(), strict=False)
    ]
    if len(found.groups) > len(lines):
        told = [sum((line.values[place] or 0 for line in lines), Decimal(0)) for place in range(len(places))]
        others = [(getattr(cell, column) or 0) - told[place] for place, cell in enumerate(found.steps)]
        lines.append(Line(label="Others", mark="rest", values=others))
    return lines
