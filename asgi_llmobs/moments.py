"""Points in time as people and programs write them: ISO 8601, digits since 1970, seconds and parts of them."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["moment_ns"]

NS = 1_000_000_000
# seconds of the year 2100: larger digits are a finer unit, each by the same rule
SECONDS_BELOW = 4_102_444_800
UNITS = ((1, NS), (1_000, 1_000_000), (1_000_000, 1_000), (NS, 1))
LATEST_NS = 2**63 - 1


def moment_ns(value: Any) -> int:
    """Nanoseconds since 1970 of a moment.

    Args:
        value: A text in ISO 8601 (UTC unless it says otherwise), a ``datetime``, a number or digits since 1970 (up to
            the year 2100 seconds, beyond that milliseconds, microseconds or nanoseconds), or a mapping of ``seconds``
            with ``milliseconds``, ``nanos`` or both beside them.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(value, Mapping):
        found = of_parts(value)
    elif isinstance(value, datetime):
        found = of_datetime(value)
    elif isinstance(value, str):
        text = value.strip()
        found = of_number(number(text)) if is_number(text) else of_datetime(datetime.fromisoformat(text))
    else:
        found = of_number(number(value))
    if not 0 <= found <= LATEST_NS:
        raise ValueError("out of range")
    return found


def is_number(text: str) -> bool:
    return text.isascii() and text.replace(".", "", 1).isdecimal() and len(text) <= 30


def number(value: Any) -> int | float:
    if isinstance(value, str):
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no number")
    return value


def of_number(value: int | float) -> int:
    for per_second, nanoseconds in UNITS:
        if value < SECONDS_BELOW * per_second:
            # a fraction says no more than microseconds: below it is only what the number cannot hold
            return value * nanoseconds if isinstance(value, int) else round(value * nanoseconds / 1_000) * 1_000
    raise ValueError("out of range")


def of_parts(value: Mapping[Any, Any]) -> int:
    if not value.keys() & {"seconds", "milliseconds", "nanos"}:
        raise ValueError("no seconds")
    parts = ((value.get(name), unit) for name, unit in (("seconds", NS), ("milliseconds", 1_000_000), ("nanos", 1)))
    return sum(round(number(part) * unit) for part, unit in parts if part is not None)


def of_datetime(value: datetime) -> int:
    moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    whole = moment.replace(microsecond=0)
    return int((whole - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * NS + moment.microsecond * 1_000
