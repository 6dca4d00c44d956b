"""What a list is narrowed down to: one value that addresses, pages and queries share."""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from asgi_llmobs.errors import FilterError
from asgi_llmobs.records import Kind, Outcome

__all__ = ["Filter"]

LISTS = ("model", "provider", "status", "operation", "kind", "user", "session", "trace", "route")
BOUNDS = ("min_cost", "max_cost", "min_latency", "max_latency")
OUTCOMES = tuple(str(outcome) for outcome in Outcome)
STATUS = re.compile(r"[1-5][0-9][0-9]|[1-5]xx")
RELATIVE = re.compile(r"([0-9]{1,9})\s*(s|m|h|d|w)")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
UNIT_WORDS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}
NS = 1_000_000_000
MILLISECONDS_ABOVE = 4_102_444_800  # seconds of the year 2100: larger digits are milliseconds
LATEST_NS = 2**63 - 1
MAX_VALUE = 4_000
MAX_VALUES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which requests are meant. Values of one field are alternatives, fields are all required.

    Args:
        project: The isolation boundary; always applies, never comes from a query.
        model: Requested or answering model; ``*`` stands for anything.
        status: Outcomes (``ok`` … ``running``), HTTP status codes (``429``) or their classes (``4xx`` ``5xx``).
        properties: Pairs of name (any case) and value.
        text: Words that must all occur in input or output; ``"quoted words"`` as a phrase.
        since_ns: Inclusive, nanoseconds since 1970.
        until_ns: Exclusive, nanoseconds since 1970.
        since: What ``since_ns`` was written as (``24h``), so that the address keeps its meaning.
        until: What ``until_ns`` was written as.
        min_cost: In US dollars, like ``max_cost``.
        min_latency: In seconds, like ``max_latency``.
    """

    project: str = "default"
    model: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    operation: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    session: tuple[str, ...] = ()
    trace: tuple[str, ...] = ()
    route: tuple[str, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    text: str = ""
    since_ns: int | None = None
    until_ns: int | None = None
    since: str = ""
    until: str = ""
    min_cost: float | None = None
    max_cost: float | None = None
    min_latency: float | None = None
    max_latency: float | None = None

    @classmethod
    def from_query(
        cls, items: Iterable[tuple[str, str]], *, project: str = "default", now_ns: int | None = None
    ) -> "Filter":
        """The filter that a query string means.

        Args:
            items: Names and values in order, repeated names allowed: ``request.query_params.multi_items()`` less
                the names that are not the filter's (``cursor``, ``limit`` …).
            project: The project whose data may be seen.
            now_ns: What relative times count from; now unless given.

        Raises:
            FilterError: A name or a value is not understood; it names the field.
        """
        found: dict[str, Any] = {"project": project}
        now_ns = time.time_ns() if now_ns is None else now_ns
        count = 0
        for name, value in items:
            value = value.strip()
            if len(value) > MAX_VALUE:
                raise FilterError(name, f"a value has at most {MAX_VALUE} characters")
            if not value and not name.startswith("property."):
                continue  # an empty field of a form asks for nothing
            count += 1
            if count > MAX_VALUES:
                raise FilterError(name, f"a filter has at most {MAX_VALUES} values")
            take(found, name, value, now_ns)
        since, until = found.get("since_ns"), found.get("until_ns")
        if since is not None and until is not None and since >= until:
            raise FilterError("until", "must be later than since")
        return cls(**found)

    def to_query(self) -> list[tuple[str, str]]:
        """Names and values that :meth:`from_query` turns into this filter again."""
        out = [(name, value) for name in LISTS for value in getattr(self, name)]
        out += [(f"property.{label}", value) for label, value in self.properties]
        if self.text:
            out.append(("q", self.text))
        for name in ("since", "until"):
            moment = getattr(self, f"{name}_ns")
            if moment is not None:
                out.append((name, getattr(self, name) or iso(moment)))
        out += [(name, f"{value:.12g}") for name in BOUNDS if (value := getattr(self, name)) is not None]
        return out

    def words(self) -> str:
        """The filter in words for people; empty where everything is meant."""
        said = [f"{name} {' or '.join(getattr(self, name))}" for name in LISTS if getattr(self, name)]
        labels: dict[str, list[str]] = {}
        for label, value in self.properties:
            labels.setdefault(label, []).append(value)
        said += [f"{label} = {' or '.join(values)}" for label, values in labels.items()]
        if self.text:
            said.append(f"containing “{self.text}”")
        for word, text, moment in (("since", self.since, self.since_ns), ("until", self.until, self.until_ns)):
            if moment is not None:
                said.append(spoken(word, text) or f"{word} {iso(moment)}")
        for name, form in (
            ("min_cost", "costing at least ${:g}"),
            ("max_cost", "costing at most ${:g}"),
            ("min_latency", "taking at least {:g} s"),
            ("max_latency", "taking at most {:g} s"),
        ):
            if (value := getattr(self, name)) is not None:
                said.append(form.format(value))
        return ", ".join(said)


def take(found: dict[str, Any], name: str, value: str, now_ns: int) -> None:
    """Add one pair of a query to the fields *found* so far."""
    if name.startswith("property."):
        label = name.removeprefix("property.").strip()
        if not label:
            raise FilterError(name, "write property.<Name>=value")
        found["properties"] = (*found.get("properties", ()), (label, value))
    elif name in LISTS:
        value = CHECKS.get(name, str)(value)
        if value not in found.get(name, ()):
            found[name] = (*found.get(name, ()), value)
    elif name in ("q", "text"):
        found["text"] = f"{found['text']} {value}" if found.get("text") else value
    elif name in ("since", "until"):
        found[name], found[f"{name}_ns"] = value, moment_ns(name, value, now_ns)
    elif name in BOUNDS:
        found[name] = bound(name, value)
    else:
        known = ", ".join((*LISTS, "property.<Name>", "q", "since", "until", *BOUNDS))
        raise FilterError(name, f"there is no such filter; there are {known}")


def status(value: str) -> str:
    value = value.lower()
    if value not in OUTCOMES and not STATUS.fullmatch(value):
        raise FilterError("status", f"{value!r} is none of {', '.join(OUTCOMES)}, a code such as 429, or 4xx, 5xx")
    return value


def kind(value: str) -> str:
    value = value.lower()
    if value not in set(Kind):
        raise FilterError("kind", f"{value!r} is none of {', '.join(Kind)}")
    return value


CHECKS: dict[str, Callable[[str], str]] = {"status": status, "kind": kind, "trace": str.lower}


def bound(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not isfinite(number) or number < 0:
        raise FilterError(name, f"{value!r} is not a number of at least 0")
    return number


def moment_ns(name: str, value: str, now_ns: int) -> int:
    """What a time means: ISO 8601 (UTC unless it says otherwise), digits since 1970, or so long ago (``25m``)."""
    relative = RELATIVE.fullmatch(value.lower())
    if relative is not None:
        return max(0, now_ns - int(relative[1]) * UNITS[relative[2]] * NS)
    if value.isascii() and value.isdigit() and len(value) != 4 and len(value) <= 19:
        number = int(value)
        moment = number * NS if number < MILLISECONDS_ABOVE else number * 1_000_000 if number < 10**15 else number
    else:
        try:
            read = datetime.fromisoformat(value)
        except ValueError:
            raise FilterError(
                name, f"{value!r} is no time: write 2026-01-31T08:00, seconds since 1970, or 25m, 24h, 7d"
            ) from None
        read = read if read.tzinfo is not None else read.replace(tzinfo=UTC)
        whole = read.replace(microsecond=0)
        moment = int((whole - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * NS + read.microsecond * 1_000
    return max(0, min(moment, LATEST_NS))


def iso(moment: int) -> str:
    """A moment as ISO 8601, as exact as it is."""
    seconds, rest = divmod(moment, NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest // 1_000:06d}Z" if rest else f"{text}Z"


def spoken(word: str, text: str) -> str:
    """``24h`` in words; empty where *text* is not relative."""
    relative = RELATIVE.fullmatch(text.lower())
    if relative is None:
        return ""
    count, unit = int(relative[1]), UNIT_WORDS[relative[2]]
    span = unit if count == 1 else f"{count} {unit}s"
    return f"in the last {span}" if word == "since" else f"until {span} ago"
