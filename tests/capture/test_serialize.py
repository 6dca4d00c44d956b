"""Values as text: whatever they are, the result is short, quick and valid."""

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import time
import types
import uuid
from collections.abc import Mapping
from typing import Any

import pydantic
import pytest

from asgi_llmobs import safely
from asgi_llmobs.capture.serialize import Items, as_text


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None
    secret: str = dataclasses.field(default="hidden", repr=False)


class Model(pydantic.BaseModel):
    name: str
    key: pydantic.SecretStr = pydantic.SecretStr("hidden")
    token: str = pydantic.Field("hidden", repr=False)


class Colour(enum.StrEnum):
    RED = "red"


class Array:
    """Has a shape, as arrays and tensors have."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def item(self) -> float:
        return 2.5

    def __len__(self) -> int:
        raise AssertionError("nobody is to look into it")

    __iter__ = __len__


class Slots:
    __slots__ = ("a",)

    def __repr__(self) -> str:
        return "<slots>"


TABLE = [
    (None, None),
    ("text", "text"),
    ("", ""),
    (True, "true"),
    (0, "0"),
    (2**63 - 1, str(2**63 - 1)),
    (2**70, f'"{2**70}"'),
    (-(2**70), f'"{-(2**70)}"'),
    (1.5, "1.5"),
    (float("nan"), '"nan"'),
    (float("inf"), '"inf"'),
    (b"\x00" * 10, '"[10 bytes]"'),
    (memoryview(b"abc"), '"[3 bytes]"'),
    ([1, "a", None], '[1,"a",null]'),
    ((1, 2), "[1,2]"),
    ({"a": {"b": [1]}}, '{"a":{"b":[1]}}'),
    ({1: "a", None: "b", (1, 2): "c"}, '{"1":"a","None":"b","(1, 2)":"c"}'),
    (Point(1, [2]), '{"x":1,"y":[2]}'),
    (Point, None),
    (Model(name="n"), '{"name":"n","key":"SecretStr(\'**********\')"}'),
    (Colour.RED, "red"),
    ({"c": Colour.RED}, '{"c":"red"}'),
    (Array(3, 4), '"Array(3, 4)"'),
    (Array(), "2.5"),
    (Slots(), '"<slots>"'),
    (decimal.Decimal("1.10"), '"1.10"'),
    (datetime.date(2026, 1, 2), '"2026-01-02"'),
    (uuid.UUID(int=0), '"00000000-0000-0000-0000-000000000000"'),
    (pathlib.PurePosixPath("/a"), '"/a"'),
    (types.MappingProxyType({"a": 1}), '{"a":1}'),
    (collections.OrderedDict(a=1), '{"a":1}'),
    (collections.deque([1, 2]), "[1,2]"),
    ({"a": 1}.values(), "[1]"),
    (range(3), "[0,1,2]"),
    (array.array("i", [1, 2]), "[1,2]"),
    ("\ud800x", "?x"),
    (["\ud800"], '["?"]'),
    ({"\ud800": 1}, '{"?":1}'),
    ("naïve \x00", "naïve \x00"),
]


@pytest.mark.parametrize(("value", "text"), TABLE, ids=lambda value: type(value).__name__)
def test_values(value: Any, text: str | None) -> None:
    """Plain values as JSON, strings as they are, objects by what they show of themselves."""
    got = as_text(value)
    if value is Point:
        assert got is not None and "Point" in got
    else:
        assert got == text
    if got is not None:
        got.encode()


def cycle() -> list[Any]:
    """A list that holds itself, by way of a dict."""
    found: list[Any] = [1]
    found.append({"self": found})
    return found


def deep(depth: int) -> Any:
    """Lists in lists."""
    found: Any = "bottom"
    for _ in range(depth):
        found = [found]
    return found


class Wide(Mapping[str, Any]):
    """A mapping that never ends."""

    def __getitem__(self, key: str) -> Any:
        return key

    def __iter__(self) -> Any:
        number = 0
        while True:
            yield str(number)
            number += 1

    def __len__(self) -> int:
        return 2**40


class Slow:
    """A repr that takes its time."""

    def __repr__(self) -> str:
        time.sleep(0.004)
        return "slow"


HOSTILE = {
    "ten million items": lambda: list(range(10_000_000)),
    "ten million keys": lambda: dict.fromkeys(range(1_000_000)),
    "ten million in an array": lambda: array.array("q", bytes(8 * 10_000_000)),
    "a set": lambda: set(range(1_000_000)),
    "values": lambda: dict.fromkeys(range(1_000_000)).values(),
    "long text": lambda: "x" * 50_000_000,
    "long texts": lambda: ["x" * 1_000_000] * 1_000,
    "long keys": lambda: {"x" * 1_000_000 + str(n): n for n in range(20)},
    "wide and deep": lambda: [[["x" * 50] * 200] * 200] * 200,
    "depth": lambda: deep(100_000),
    "cycle": cycle,
    "endless": Wide,
    "slow": lambda: [Slow() for _ in range(1_000)],
    "large number": lambda: 10**100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_bounded(name: str) -> None:
    """However large, wide or deep a value is, its text is small, and made without walking all of it."""
    value = HOSTILE[name]()
    started = time.thread_time()
    text = as_text(value)
    spent = time.thread_time() - started

    assert text is not None and len(text) <= 2 * 32_768
    assert spent < 1  # a whole second, and still far from what walking it would take
    if name != "long text":
        json.loads(text)


def test_a_cycle_is_named() -> None:
    """What holds itself says so."""
    assert as_text(cycle()) == '[1,{"self":"[cycle]"}]'


def test_a_value_twice_is_no_cycle() -> None:
    """The same object in two places is shown in both."""
    shared = {"a": 1}
    assert as_text([shared, shared]) == '[{"a":1},{"a":1}]'


class Broken:
    """Fails wherever it is asked."""

    def __repr__(self) -> str:
        raise RuntimeError

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError


class BrokenList(list[Any]):
    """A list that cannot be read."""

    def __iter__(self) -> Any:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


BROKEN = {
    "object": Broken,
    "in a list": lambda: [1, Broken()],
    "in a dict": lambda: {"a": Broken()},
    "list": lambda: BrokenList([1]),
    "key": lambda: {Broken(): 1},
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that fails when it is looked at costs nobody anything."""
    monkeypatch.setattr(safely.logger, "warning", lambda *args: None)
    text = as_text(BROKEN[name]())
    assert text is not None and ("could not be read" in text or "repr fails" in text)


def test_items() -> None:
    """What a generator yields: texts as one text, anything else as a list; bounded either way."""
    texts, mixed, none = Items(), Items(), Items()
    for _ in range(50_000):
        texts.add("ab")
    for number in range(1_000):
        mixed.add(number if number % 2 else {"n": number})

    assert texts.value() == "ab" * 16_384
    assert mixed.value()[:2] == [{"n": 0}, 1] and mixed.value()[-1] == "… 801 more"
    assert none.value() is None


def test_what_cannot_be_read_takes_nothing_with_it() -> None:
    """A list that reads its items from a database that is away: what stands beside it is kept."""

    class Lazy(list[int]):
        def __iter__(self) -> Any:
            raise ConnectionError("away")

    assert json.loads(as_text({"rows": Lazy([1]), "city": "Porto"}) or "") == {
        "rows": "[could not be read]",
        "city": "Porto",
    }
