"""The attributes of one span by our columns, whatever their dialect calls them; flattened ones put together again."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from asgi_llmobs.semconv.messages import decoded
from asgi_llmobs.semconv.names import COLUMNS, DIALECTS, PARAMETERS, PREFIXES

__all__ = ["Attributes", "as_json"]

MAX_STEPS = 12  # of a flattened name
MAX_DEPTH = 200
MAX_COUNT = 10**12  # more tokens than any answer has


class Attributes:
    """The attributes of a span.

    Args:
        given: As the span has them.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self._nested: dict[str, Any] = {}
        self._used: set[str] = set()
        for prefix, entries in flattened(given).items():
            self._nested[prefix] = as_lists(nested(entries))
            self._used.update(prefix + rest for rest in entries)

    def values(self, column: str) -> Iterator[Any]:
        """What the dialects say for *column*, the best first."""
        for name in COLUMNS[column]:
            value = self._nested.get(name[:-1]) if name.endswith("*") else self.given.get(name)
            if value is not None and value != "":
                self._used.add(name)
                yield value

    def first(self, column: str) -> Any:
        """The best of them; ``None`` where nobody says anything."""
        return next(self.values(column), None)

    def text(self, column: str) -> str | None:
        """The first text, at most 1,000 characters."""
        for value in map(plain, self.values(column)):
            if isinstance(value, str) and value.strip():
                return value.strip()[:1_000]
            if isinstance(value, int) and not isinstance(value, bool):
                return str(value)
        return None

    def whole(self, column: str) -> str | None:
        """The first value as a text of any length; what is no text as JSON."""
        value = self.first(column)
        return value if isinstance(value, str) or value is None else as_json(value)

    def count(self, column: str) -> int | None:
        """The first that can be a number of tokens."""
        return next((found for value in self.values(column) if (found := count_of(value)) is not None), None)

    def amount(self, column: str) -> float | None:
        """The first that can be an amount."""
        return next((found for value in self.values(column) if (found := amount_of(value)) is not None), None)

    def mapping(self, column: str) -> dict[str, Any]:
        """The first that is an object, or JSON text of one."""
        found = (decoded(value) for value in self.values(column))
        return next((dict(value) for value in found if isinstance(value, Mapping)), {})

    def merged(self, column: str) -> dict[str, Any]:
        """All that are objects as one; the best wins."""
        out: dict[str, Any] = {}
        for value in map(decoded, self.values(column)):
            if isinstance(value, Mapping):
                out = {**value, **out}
        return out

    def parameters(self) -> dict[str, Any]:
        """Sampling parameters that stand in attributes of their own."""
        found = {}
        for name, label in PARAMETERS.items():
            if self.given.get(name) is not None:
                self._used.add(name)
                found[label] = listed(self.given[name])
        return found

    def rest(self) -> dict[str, Any]:
        """What no column has taken."""
        known = self._used
        return {
            name: listed(value)
            for name, value in self.given.items()
            if name not in known and name not in NAMED and not name.startswith(PREFIXES)
        }


# whatever has a column is shown there, or is content that must not be shown elsewhere
NAMED = frozenset(
    [name for names in COLUMNS.values() for name in names]
    + [name for dialect in DIALECTS for name in dialect.kind]
    + ["input.mime_type", "output.mime_type", *PARAMETERS]
)


def as_json(value: Any) -> str:
    """*value* as JSON text."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError, RecursionError):  # numbers of any length, lone surrogates, too deep
        return json.dumps(value, default=str, skipkeys=True) if depth_of(value) < MAX_DEPTH else str(type(value))


def depth_of(value: Any) -> int:
    """How deep lists and objects lie in each other, counted to :data:`MAX_DEPTH`."""
    level, depth = [value], 0
    while level and depth < MAX_DEPTH:
        inner = (item.values() if isinstance(item, Mapping) else item for item in level)
        level = [one for items in inner if isinstance(items, Iterable) and not isinstance(items, str) for one in items]
        level = [one for one in level if isinstance(one, Mapping | list | tuple)]
        depth += 1
    return depth


def listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def plain(value: Any) -> Any:
    """A value that may have been written as JSON text."""
    return decoded(value) if isinstance(value, str) and value[:1] == '"' else value


def count_of(value: Any) -> int | None:
    value = number_of(value)
    return int(value) if value is not None and value == int(value) and 0 <= value <= MAX_COUNT else None


def amount_of(value: Any) -> float | None:
    value = number_of(value)
    return float(value) if value is not None and 0 <= value <= MAX_COUNT else None


def number_of(value: Any) -> int | float | None:
    if isinstance(value, str) and len(value) < 40:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def flattened(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The attributes below each known prefix, by what follows it."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        if name.startswith(PREFIXES) and name not in SINGLE:
            prefix = next(prefix for prefix in PREFIXES if name.startswith(prefix))
            found.setdefault(prefix, {})[name[len(prefix) :]] = value
    return found


# names below a prefix that have a column of their own
SINGLE = frozenset(
    name
    for names in COLUMNS.values()
    for name in names
    if not name.endswith(".*") and name.startswith(PREFIXES) and not name.startswith("traceloop.association.")
)


def nested(entries: Mapping[str, Any]) -> dict[str, Any]:
    """``{"0.message.role": "user"}`` as ``{"0": {"message": {"role": "user"}}}``."""
    out: dict[str, Any] = {}
    for name, value in entries.items():
        node = out
        *way, last = name.split(".", MAX_STEPS)
        for step in way:
            inner = node.get(step)
            if not isinstance(inner, dict):
                inner = node[step] = {} if inner is None else {"": inner}
            node = inner
        node[last] = listed(value) if not isinstance(node.get(last), dict) else {**node[last], "": value}
    return out


def as_lists(value: Any) -> Any:
    """Objects whose names are all numbers as lists in that order."""
    if not isinstance(value, dict):
        return value
    inner = {name: as_lists(item) for name, item in value.items()}
    if inner and all(name.isascii() and name.isdecimal() and len(name) < 10 for name in inner):
        return [inner[name] for name in sorted(inner, key=int)]
    return inner
