"""How values are written for people: money, tokens, durations, sizes and times, the same on every page."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from asgi_llmobs.records import Body

__all__ = [
    "FILTERS",
    "age",
    "duration",
    "exact_duration",
    "exact_money",
    "from_reference",
    "iso",
    "money",
    "number",
    "ratio",
    "reference",
    "short",
    "size",
    "time_of_day",
    "tokens",
    "when",
]

NOTHING = "–"
BINARY_WITHIN = 1024
MOST_SHOWN = 64 * 1024  # of a body; the tree of it asks for all
MOST_VALUES = 60_000  # characters of one value in a conversation
# marks that turn the reading direction: in a line of a list they could make one name look like another
DIRECTIONS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F), "\ufffd")
PLAIN_REFERENCE = re.compile(r"[A-Za-z0-9_\-:@+=,.]{1,200}")


def money(amount: Decimal | None) -> str:
    """US dollars with as many digits as it takes to see the amount; the reader is never told $0 for a price unknown."""
    if amount is None:
        return "no price"
    amount = Decimal(amount)
    if amount == 0:
        return "$0"
    if abs(amount) < Decimal("0.000001"):
        return "<$0.000001"
    digits = 2 if abs(amount) >= 1 else 4 if abs(amount) >= Decimal("0.01") else 6
    return f"${amount:,.{digits}f}"


def exact_money(amount: Decimal | None) -> str:
    """All digits."""
    return "no price" if amount is None else f"${Decimal(amount).normalize():f}"


def tokens(count: int | None) -> str:
    """A count, shortened from 100,000 on."""
    if count is None:
        return NOTHING
    for unit, name in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if abs(count) >= max(unit, 100_000):
            return f"{count / unit:,.1f}{name}"
    return f"{count:,}"


def number(count: Any) -> str:
    """A count in full."""
    if count is None:
        return NOTHING
    return f"{count:,}" if isinstance(count, int | float | Decimal) else str(count)


def ratio(share: float | None) -> str:
    """A share as per cent; nothing where there is nothing to divide by, 100 only where it is all."""
    if share is not None and 0.999 < share < 1:
        return ">99.9 %"
    return NOTHING if share is None else f"{share * 100:.3g} %"


def duration(ns: int | None) -> str:
    """Nanoseconds in three digits and a unit."""
    if ns is None:
        return NOTHING
    ms = ns / 1e6
    if ns == 0:
        return "0 ms"
    if ms < 1:
        return f"{ms:.2f} ms"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} m"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02} h"


def age(ns: int) -> str:
    """How long ago something was, in one number and a unit."""
    seconds = max(0, ns) // 1_000_000_000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def exact_duration(ns: int | None) -> str:
    """Nanoseconds as milliseconds with all digits."""
    return "unknown" if ns is None else f"{Decimal(ns) / 1_000_000:,f} ms"


def size(count: int | None) -> str:
    """Bytes."""
    if count is None:
        return NOTHING
    for unit, name in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def moment(ns: int | None) -> datetime | None:
    try:
        return None if ns is None else datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def when(ns: int | None) -> str:
    """Date and time, UTC."""
    at = moment(ns)
    return NOTHING if at is None else f"{at:%b} {at.day} {at:%H:%M:%S}"


def time_of_day(ns: int | None) -> str:
    """The time alone, UTC."""
    at = moment(ns)
    return NOTHING if at is None else f"{at:%H:%M:%S}"


def iso(ns: int | None) -> str:
    """Date and time with milliseconds, UTC, for machines and titles."""
    at = moment(ns)
    return "" if at is None or ns is None else f"{at:%Y-%m-%dT%H:%M:%S}.{ns // 1_000_000 % 1000:03}Z"


def short(text: Any, limit: int = 160) -> str:
    """One line of *text*, cut with an ellipsis."""
    line = " ".join(str(text if text is not None else "").translate(DIRECTIONS).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def pretty(value: Any) -> str:
    """A value as indented JSON; text that is JSON already is set out, other text stays as it is."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return str(value)
        if isinstance(value, str):
            return value
    try:
        return json.dumps(value, indent=2, ensure_ascii=False, default=str)
    except (ValueError, RecursionError, TypeError):
        return str(value)


def compact(value: Any) -> str:
    """A value on one line: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError, TypeError):
        return str(value)


def body_text(body: Body) -> str:
    """A stored body for reading: JSON set out, other text as it came, of anything else only how long it is."""
    content = body.content
    if not content:
        return "(empty)" if not body.size else f"({size(body.size)} that were not stored)"
    if b"\0" in content[:BINARY_WITHIN]:
        return f"({size(len(content))} of binary data: download them)"
    text = content[:MOST_SHOWN].decode("utf-8", "replace")
    if len(content) > MOST_SHOWN:
        return f"{text}\n… {size(len(content) - MOST_SHOWN)} more: download them"
    return pretty(text)


def bounded(text: Any, limit: int = MOST_VALUES) -> str:
    """*text*, cut where it is longer than a page should hold."""
    whole = str(text)
    return whole if len(whole) <= limit else f"{whole[:limit]}\n… {len(whole) - limit:,} more characters"


def with_name(properties: Mapping[str, str], label: str) -> str | None:
    """The value of the property *label*, whatever letters of its name are capitals."""
    wanted = label.strip().casefold()
    return next((value for name, value in properties.items() if name.strip().casefold() == wanted), None)


def reference(id: Any) -> str:
    """An id as one segment of an address.

    What a proxy might change on the way (slashes, dots at the end, anything not ASCII) goes as base64 behind a tilde.
    """
    text = str(id)
    if PLAIN_REFERENCE.fullmatch(text) and not text.endswith(".json") and text.strip("."):
        return quote(text, safe=":@+=,")
    return "~" + urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def from_reference(segment: str) -> str:
    """The id that :func:`reference` wrote as *segment*."""
    if not segment.startswith("~"):
        return segment
    text = segment[1:]
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8", "surrogatepass")
    except (Base64Error, ValueError):
        return segment


FILTERS = {
    "age": age,
    "body_text": body_text,
    "bounded": bounded,
    "compact": compact,
    "duration": duration,
    "exact_duration": exact_duration,
    "exact_money": exact_money,
    "iso": iso,
    "money": money,
    "number": number,
    "pretty": pretty,
    "ratio": ratio,
    "reference": reference,
    "short": short,
    "size": size,
    "time_of_day": time_of_day,
    "tokens": tokens,
    "when": when,
    "with_name": with_name,
}
