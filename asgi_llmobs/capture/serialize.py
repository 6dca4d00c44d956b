"""Inputs and outputs of custom spans as text: bounded in depth, items, characters and time, whatever they are."""

import dataclasses
import time
from collections.abc import Mapping, Sequence, Set
from itertools import islice
from typing import Any

import orjson

from asgi_llmobs.safely import guarded

__all__ = ["as_text"]

MAX_DEPTH = 8
MAX_ITEMS = 200
MAX_CHARACTERS = 32_768
MAX_SECONDS = 0.01


class Budget:
    """What is left of characters and time for one value."""

    def __init__(self) -> None:
        self.left = MAX_CHARACTERS
        self.deadline = time.monotonic() + MAX_SECONDS
        self.seen: set[int] = set()

    def spent(self) -> bool:
        return self.left <= 0 or time.monotonic() > self.deadline


@guarded("serialize", default="[could not be read]")
def as_text(value: Any) -> str | None:
    """*value* as text: strings as they are, anything else as JSON of bounded size. Never raises."""
    if value is None:
        return None
    if isinstance(value, str):
        return value[:MAX_CHARACTERS]
    return orjson.dumps(plain(value, Budget(), 0), option=orjson.OPT_NON_STR_KEYS).decode()[: 2 * MAX_CHARACTERS]


def plain(value: Any, budget: Budget, depth: int) -> Any:
    """*value* in terms of JSON, cut where a bound is reached."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(value)[:100]
    if isinstance(value, float):
        return float(value) if value - value == 0 else str(value)
    if isinstance(value, str):
        cut = value[: max(0, budget.left)].encode("utf-8", "replace").decode()
        budget.left -= len(cut)
        return cut
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if budget.spent() or depth >= MAX_DEPTH:
        return "[…]"
    if id(value) in budget.seen:
        return "[cycle]"
    budget.seen.add(id(value))
    try:
        return container(value, budget, depth)
    finally:
        budget.seen.discard(id(value))


def container(value: Any, budget: Budget, depth: int) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name, None) for item in dataclasses.fields(value)}
    elif hasattr(type(value), "model_fields") and hasattr(value, "__dict__"):
        value = value.__dict__
    if isinstance(value, Mapping):
        out = {}
        for key, item in islice(value.items(), MAX_ITEMS):
            if budget.spent():
                break
            out[str(key)[:200]] = plain(item, budget, depth + 1)
        if len(value) > len(out):
            out["…"] = f"{len(value) - len(out)} more"
        return out
    if isinstance(value, Sequence | Set):
        items = []
        for item in islice(value, MAX_ITEMS):
            if budget.spent():
                break
            items.append(plain(item, budget, depth + 1))
        if len(value) > len(items):
            items.append(f"… {len(value) - len(items)} more")
        return items
    return plain(described(value), budget, depth)


@guarded("repr", default="[object whose repr fails]")
def described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__}{tuple(shape)}"
    return repr(value)[:2_000]
