"""The JSON twins: the mapping that a page shows, as JSON."""

import base64
import enum
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any

__all__ = ["as_json", "jsonable"]

DEEPEST = 100


def jsonable(value: Any, depth: int = 0) -> Any:
    """*value* in the types of JSON: records become objects, decimals numbers, NaN and infinity null."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str):
        return value
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if depth > DEEPEST:
        return None
    if isinstance(value, bytes):
        return as_text(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return jsonable(value._asdict(), depth)
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: jsonable(getattr(value, item.name), depth + 1) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [jsonable(item, depth + 1) for item in value]
    return str(value)


def as_text(content: bytes) -> Any:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def as_json(value: Any) -> bytes:
    """*value* as JSON in ASCII: no value, whatever is in it, makes a document that a reader refuses."""
    return json.dumps(jsonable(value), allow_nan=False, separators=(",", ":")).encode()
