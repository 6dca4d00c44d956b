"""Values that the SDKs' own types allow, and their ways to the reader: any members, any framing of events."""

import datetime
import enum
import json
import random
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

import typing_extensions
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

TEXTS = (
    "",
    "a",
    "Grüße",
    "x y",
    "日本語",
    "line\nbreak",
    'quo"te\\',
    "😀",
    "data: x",
    "{}",
    "null",
    " ",
    "\u2028",
    "[DONE]",
    'A "longer" text\nwith \\ and 😀, in many pieces. ' * 3,
)
LITERALS = (Literal, typing_extensions.Literal)
SCALARS: dict[type, tuple[Any, ...]] = {
    bool: (True, False),
    int: (0, 1, 2, 7, 4711),
    float: (0, 1, 0.5, -0.25),
    bytes: ("aGk=",),
    datetime.datetime: ("2026-01-02T03:04:05Z",),
}


class Values:
    """Random JSON for the annotations of an SDK's types, the same for the same *seed*."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self) -> str:
        return self.random.choice(TEXTS)

    def of(self, annotation: Any, depth: int = 0) -> Any:
        """A value that *annotation* allows."""
        origin, args = get_origin(annotation), get_args(annotation)
        name = getattr(origin, "__name__", "")
        if annotation is Any or annotation is object:
            return self.random.choice((1, "x", {"k": [1, None]}, [True]))
        if origin in (typing.Annotated, typing_extensions.Annotated):
            return self.of(args[0], depth)
        if name in ("Nullable", "OptionalNullable"):  # Mistral's
            return None if self.random.random() < 0.2 else self.of(args[0], depth)
        if hasattr(annotation, "__value__"):
            return self.of(annotation.__value__, depth)
        if origin in (Union, types.UnionType):
            return self.one_of(args, depth)
        if origin in LITERALS:
            return self.random.choice(args)
        if name in ("dict", "Dict", "Mapping"):
            return {self.text(): self.of(args[1], depth + 1) for _ in range(self.random.choice((0, 1)))}
        if args:
            return [self.of(args[0], depth + 1) for _ in range(0 if depth > 7 else self.random.choice((0, 1, 1, 2, 3)))]
        if isinstance(annotation, type):
            return self.instance(annotation, depth)
        return self.text()

    def one_of(self, args: tuple[Any, ...], depth: int) -> Any:
        given = [arg for arg in args if arg not in (type(None), Any) and getattr(arg, "__name__", "") != "Unset"]
        if type(None) in args and (depth > 7 or self.random.random() < 0.25):
            return None
        return self.of(self.random.choice(given), depth) if given else None

    def instance(self, kind: type, depth: int) -> Any:
        if issubclass(kind, BaseModel):
            return self.model(kind, depth)
        if issubclass(kind, enum.Enum):
            return self.random.choice([item.value for item in kind] or ["X"])
        known = next((values for scalar, values in SCALARS.items() if issubclass(kind, scalar)), None)
        return self.text() if known is None else self.random.choice(known)

    def model(self, kind: type[BaseModel], depth: int = 0) -> Any:
        """An object of a model: optional members absent, null or given, and now and then one that nobody knows."""
        out: dict[str, Any] = {}
        if list(kind.model_fields) == ["root"]:
            return self.of(kind.model_fields["root"].annotation, depth)
        for name, field in kind.model_fields.items():
            key = field.serialization_alias or field.alias or name
            chance = 1.0 if field.is_required() else self.random.random()
            if name == "type" and field.default is not PydanticUndefined:
                out[key] = field.default
            elif chance > 0.35 and (depth <= 7 or field.is_required()):
                out[key] = self.of(field.annotation, depth + 1)
        if self.random.random() < 0.2:
            out["of_tomorrow"] = self.random.choice((None, 1, "x", {"a": [1]}, ["type"]))
        return out

    def pieces(self, text: str) -> Iterable[str]:
        """*text* in pieces of any length."""
        while text:
            size = self.random.randint(1, min(9, len(text) // 2 + 1))
            yield text[:size]
            text = text[size:]

    def sse(self, events: Iterable[Any], *, done: bool = False) -> bytes:
        """Server-sent events as any server may write them: line ends, comments, a BOM, several lines of data."""
        pick = self.random
        if pick.random() < 0.5:
            return plain_sse(events, done=done)
        end = pick.choice(("\n", "\n", "\r\n", "\r"))
        out = ["\ufeff"] if pick.random() < 0.1 else []
        for event in events:
            name, data = event if isinstance(event, tuple) else ("", event)
            if pick.random() < 0.2:
                out.append(f": keep-alive{end}{pick.choice(('', end))}")
            if pick.random() < 0.1:
                out.append(f"id: 3{end}retry: 5{end}")
            if name:
                out.append(f"event:{pick.choice(('', ' '))}{name}{end}")
            text = json.dumps(data, ensure_ascii=pick.random() < 0.5, indent=pick.choice((None, None, None, 1)))
            out.extend(f"data:{pick.choice(('', ' '))}{line}{end}" for line in text.split("\n"))
            out.append(end)
        if done:
            out.append(f"data: [DONE]{end}{end}")
        elif out and pick.random() < 0.3:
            out.pop()  # many servers leave out the last blank line
        return "".join(out).encode()


def plain_sse(events: Iterable[Any], *, done: bool) -> bytes:
    """Server-sent events as nearly all servers write them, which are read many at once."""
    out = []
    for event in events:
        name, data = event if isinstance(event, tuple) else ("", event)
        head = f"event: {name}\n" if name else ""
        out.append(f"{head}data: {json.dumps(data, separators=(',', ':'), ensure_ascii=False)}\n\n")
    return ("".join(out) + ("data: [DONE]\n\n" if done else "")).encode()
