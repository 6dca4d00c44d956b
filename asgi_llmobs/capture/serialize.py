"""Inputs and outputs of custom spans as text: bounded in depth, items, characters and time, whatever they are."""

import dataclasses
import time
from collections.abc import Mapping, Sequence, Set, ValuesView
from itertools import islice
from typing import Any

import orjson

from asgi_llmobs.safely import guarded

__all__ = ["Items", "as_text"]

MAX_DEPTH = 8
MAX_ITEMS = 200
MAX_CHARACTERS = 32_768
MAX_SECONDS = 0.01
PRINTED = frozenset({"datetime", "decimal", "pathlib", "uuid"})  # modules whose values say all when printed


class Budget:
    """What is left of characters and time for one value."""

    def __init__(self) -> None:
        self.left = MAX_CHARACTERS
        self.deadline = time.monotonic() + MAX_SECONDS
        self.seen: set[int] = set()

    def spent(self) -> bool:
        return self.left <= 0 or time.monotonic() > self.deadline


class Items:
    """What a generator yields, noted as it comes: no reference to it is kept."""

    def __init__(self) -> None:
        self._kept: list[Any] = []
        self._count = 0
        self._only_text = True
        self._budget = Budget()

    def add(self, item: Any) -> None:
        """Note one item; beyond the bounds it is only counted."""
        self._count += 1
        if self._budget.left <= 0:
            return
        if isinstance(item, str):
            self._kept.append(item[: self._budget.left])
            self._budget.left -= len(item)
        else:
            self._only_text = False
            if len(self._kept) < MAX_ITEMS - 1:
                self._budget.deadline = time.monotonic() + MAX_SECONDS
                self._kept.append(plain(item, self._budget, 1))

    def value(self) -> Any:
        """The text that the pieces make together, else the list of the items."""
        if self._only_text:
            return "".join(self._kept) if self._kept else None
        left_out = self._count - len(self._kept)
        return [*self._kept, *([f"… {left_out} more"] if left_out else [])]


@guarded("serialize", default="[could not be read]")
def as_text(value: Any) -> str | None:
    """*value* as text: strings as they are, anything else as JSON of bounded size. Never raises."""
    if value is None:
        return None
    if isinstance(value, str):
        return clean(value[:MAX_CHARACTERS])
    return orjson.dumps(plain(value, Budget(), 0)).decode()[: 2 * MAX_CHARACTERS]


def clean(text: str) -> str:
    """*text* without lone surrogates, which no encoding takes."""
    return str(text) if text.isascii() else text.encode("utf-8", "replace").decode()


def plain(value: Any, budget: Budget, depth: int) -> Any:
    """*value* in terms of JSON, cut where a bound is reached."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return int(value)
        return str(value) if value.bit_length() < 1_000 else f"[integer of {value.bit_length()} bits]"
    if isinstance(value, float):
        return float(value) if value - value == 0 else str(value)
    if isinstance(value, str):
        cut = clean(value[: max(0, budget.left)])
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


@guarded("serialize", default="[could not be read]")
def container(value: Any, budget: Budget, depth: int) -> Any:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):  # arrays, tensors, frames: what is in them is no text
        item = getattr(value, "item", None)
        if not shape and callable(item):
            return plain(item(), budget, depth + 1)
        return f"{type(value).__name__}{shape}"
    if type(value).__module__.partition(".")[0] in PRINTED:
        return plain(str(value), budget, depth)
    value = fields_of(value)
    if isinstance(value, Mapping):
        return mapping(value, budget, depth)
    if isinstance(value, Sequence | Set | ValuesView):
        return items_of(value, budget, depth)
    return plain(described(value), budget, depth)


def fields_of(value: Any) -> Any:
    """The fields of a data class or a pydantic model that its own repr would show; anything else as it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name, None) for item in dataclasses.fields(value) if item.repr}
    described_by = getattr(type(value), "model_fields", None)
    if isinstance(described_by, Mapping) and hasattr(value, "__dict__"):
        hidden = {name for name, item in described_by.items() if not getattr(item, "repr", True)}
        return {name: item for name, item in value.__dict__.items() if name not in hidden}
    return value


def mapping(value: Mapping[Any, Any], budget: Budget, depth: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, item in islice(value.items(), MAX_ITEMS):
        if budget.spent():
            break
        name = clean((key if isinstance(key, str) else described(key))[:200])
        budget.left -= len(name)
        out[name] = plain(item, budget, depth + 1)
    if len(value) > len(out):
        out["…"] = f"{len(value) - len(out)} more"
    return out


def items_of(value: Any, budget: Budget, depth: int) -> list[Any]:
    items = []
    for item in islice(value, MAX_ITEMS):
        if budget.spent():
            break
        items.append(plain(item, budget, depth + 1))
    if len(value) > len(items):
        items.append(f"… {len(value) - len(items)} more")
    return items


@guarded("repr", default="[object whose repr fails]")
def described(value: Any) -> str:
    return repr(value)[:2_000]
