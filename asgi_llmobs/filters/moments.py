"""Times as people write them: so long ago, a date, digits since 1970; and back to text."""

import re
from datetime import UTC, datetime

from asgi_llmobs.errors import FilterError

__all__ = ["LATEST_NS", "NS", "iso", "moment_ns", "spoken"]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
UNIT_WORDS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}
SAID = "s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?"
RELATIVE = re.compile(rf"(?:(?:in )?(?:the )?last )?([0-9]{{1,9}})?\s*({SAID})(?: ago)?")
NS = 1_000_000_000
DAY_NS = 86_400 * NS
MILLISECONDS_ABOVE = 4_102_444_800  # seconds of the year 2100: larger digits are milliseconds
LATEST_NS = 2**63 - 1 - 3_660 * DAY_NS  # steps of a chart that begin before it end after it


def moment_ns(name: str, value: str, now_ns: int) -> int:
    """What a time means: ISO 8601 (UTC unless it says otherwise), digits since 1970, ``today``, or so long ago.

    Raises:
        FilterError: It is none of these; it names *name*.
    """
    ago = relative(value)
    if ago is not None:
        return max(0, now_ns - ago[0] * UNITS[ago[1]] * NS)
    word = value.lower()
    if word in ("now", "today", "yesterday"):
        return now_ns if word == "now" else now_ns // DAY_NS * DAY_NS - (DAY_NS if word == "yesterday" else 0)
    if value.isascii() and value.isdigit() and len(value) != 4 and len(value) <= 19:
        number = int(value)
        moment = number * NS if number < MILLISECONDS_ABOVE else number * 1_000_000 if number < 10**15 else number
    else:
        try:
            read = datetime.fromisoformat(value)
        except ValueError:
            raise FilterError(
                name, f"{value!r} is no time: write 2026-01-31T08:00, seconds since 1970, today, or 25m, 24h, 7d"
            ) from None
        read = read if read.tzinfo is not None else read.replace(tzinfo=UTC)
        whole = read.replace(microsecond=0)
        moment = int((whole - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * NS + read.microsecond * 1_000
    return max(0, min(moment, LATEST_NS))


def relative(text: str) -> tuple[int, str] | None:
    """Count and unit of ``25m``, ``last 2 hours``, ``3 days ago`` or ``last week``; ``None`` for anything else."""
    found = RELATIVE.fullmatch(text.lower().strip())
    if found is None or (found[1] is None and "last " not in text.lower()):
        return None
    return int(found[1] or 1), found[2][0]


def iso(moment: int) -> str:
    """A moment as ISO 8601, as exact as it is."""
    seconds, rest = divmod(moment, NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest // 1_000:06d}Z" if rest else f"{text}Z"


def spoken(word: str, text: str) -> str:
    """``24h`` in words; empty where *text* is not relative."""
    ago = relative(text)
    if ago is None:
        return ""
    count, unit = ago[0], UNIT_WORDS[ago[1]]
    span = unit if count == 1 else f"{count} {unit}s"
    return f"in the last {span}" if word == "since" else f"until {span} ago"
