"""Reading values that may be of any type: what a dialect asks of parsed JSON, answered without raising."""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from asgi_llmobs.providers.framing import parse_json
from asgi_llmobs.records import Part, Reading

__all__ = [
    "array",
    "as_text",
    "blob",
    "count",
    "link",
    "modality_of",
    "named",
    "number",
    "obj",
    "parsed_arguments",
    "place_at",
    "plus",
    "rest",
    "string",
    "warn",
]

MAX_COUNT = 10**12  # more tokens than any answer has: a broken counter
MAX_PATH, MAX_PLACE = 32, 1000  # of a JSON path: deeper or longer is garbage
LONG_STRING = 4096  # inside a tool's result: longer than this without a blank is encoded data, no text


def obj(value: Any) -> dict[str, Any]:
    """*value* if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def array(value: Any) -> list[Any]:
    """*value* if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def string(value: Any) -> str:
    """*value* if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def named(value: Any) -> str | None:
    """*value* if it is a string that is not empty, else ``None``."""
    return value if isinstance(value, str) and value else None


def warn(reading: Reading, line: str) -> None:
    """Add *line* to the warnings, once."""
    if line not in reading.warnings:
        reading.warnings.append(line)


def count(value: Any, reading: Reading, name: str) -> int | None:
    """*value* as a number of tokens; anything that cannot be one is ``None`` and a warning that calls it *name*."""
    if value is None or type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    whole = isinstance(value, int) and not isinstance(value, bool)
    if (whole or (isinstance(value, float) and value.is_integer())) and 0 <= value <= MAX_COUNT:
        return int(value)
    warn(reading, f"{name} is no count")
    return None


def number(value: Any, reading: Reading, name: str) -> float | None:
    """*value* as an amount that is not negative; anything else is ``None`` and a warning that calls it *name*."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
        return float(value)
    warn(reading, f"{name} is no amount")
    return None


def plus(*counts: int | None) -> int | None:
    """The sum of those that are known; ``None`` where none is."""
    known = [value for value in counts if value is not None]
    return sum(known) if known else None


def rest(body: Mapping[str, Any], without: Collection[str]) -> dict[str, Any]:
    """The fields of *body* that are not in *without* and not null."""
    return {key: value for key, value in body.items() if key not in without and value is not None}


def slim(value: Any) -> Any:
    """*value* with encoded data in it (images in a tool's result) replaced by its size."""
    if isinstance(value, str):
        if len(value) > LONG_STRING and not any(blank in value for blank in " \n\t"):
            return f"<{len(value)} characters>"
        return value
    if isinstance(value, list):
        return [slim(item) for item in value]
    if isinstance(value, dict):
        return {key: slim(item) for key, item in value.items()}
    return value


def as_text(value: Any) -> str | None:
    """A tool's result as text: strings as they are, lists of text blocks joined, everything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    pieces = [item if isinstance(item, str) else obj(item).get("text") for item in array(value)]
    texts = [piece for piece in pieces if isinstance(piece, str)]
    if pieces and len(texts) == len(pieces):
        return "\n".join(texts)
    return json.dumps(slim(value), ensure_ascii=False)


def blob(data: Any, mime_type: str | None, modality: str | None = None) -> Part:
    """Base64 *data* as a reference: its size in bytes and its hash, never the data itself."""
    text = string(data).encode("utf-8", "replace")
    try:
        raw = base64.b64decode(text.replace(b"-", b"+").replace(b"_", b"/") + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raw = text
    return Part(
        type="blob",
        mime_type=mime_type,
        modality=modality or modality_of(mime_type),
        size=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
    )


def modality_of(mime_type: str | None) -> str | None:
    """``image``, ``audio``, ``video`` or ``file``, from a media type."""
    if not mime_type:
        return None
    family = mime_type.partition("/")[0].lower()
    return family if family in ("image", "audio", "video") else "file"


def link(url: Any, modality: str | None = None, mime_type: str | None = None) -> Part:
    """A ``uri`` part for an address, a ``blob`` for a ``data:`` address."""
    address = string(url)
    if address[:5].lower() == "data:":
        head, _, data = address[5:].partition(",")
        media = head.partition(";")[0] or mime_type
        return blob(data, media, modality)
    return Part(type="uri", uri=address, modality=modality or modality_of(mime_type), mime_type=mime_type)


def parsed_arguments(text: str) -> Any:
    """Arguments that streamed in as JSON text: the value, or the text as it is where it is none or broke off."""
    if not text.strip():
        return {}
    value = parse_json(text)
    return text if value is None else value


def place_at(target: dict[str, Any], path: str, item: Mapping[str, Any]) -> None:
    """Put a streamed value where a JSON path (``$.city.name``, ``$.days[0]``) points; strings come in pieces.

    Args:
        target: The object that is being put together.
        path: The path; what is no plain path of names and places is left alone.
        item: ``stringValue``, ``numberValue``, ``boolValue`` or ``nullValue``.
    """
    names = re.findall(r"\[(\d+)\]|\['([^']*)'\]|([^.\[\]$]+)", path)
    keys: list[str | int] = [int(place) if place else quoted or plain for place, quoted, plain in names]
    if not keys or len(keys) > MAX_PATH or any(isinstance(key, int) and key > MAX_PLACE for key in keys):
        return
    value = next((item[name] for name in ("stringValue", "numberValue", "boolValue") if name in item), None)
    node: Any = target
    for place, key in enumerate(keys):
        if isinstance(key, int) != isinstance(node, list):
            return
        if isinstance(key, int):
            node.extend([None] * (key + 1 - len(node)))
        old = node[key] if isinstance(key, int) else node.get(key)
        if place == len(keys) - 1:
            node[key] = old + value if isinstance(old, str) and isinstance(value, str) else value
        else:
            if not isinstance(old, dict | list):
                node[key] = [] if isinstance(keys[place + 1], int) else {}
            node = node[key]
