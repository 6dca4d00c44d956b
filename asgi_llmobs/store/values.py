"""Values as a database takes them: texts without NUL and lone surrogates, integers of 64 bits, JSON, packed bytes."""

import hashlib
import math
import re
import sys
import threading
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any

import orjson

from asgi_llmobs.store.dictionary import dictionary_1

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = [
    "UNPACKABLE",
    "bounded",
    "clean",
    "dollars",
    "integer",
    "json_bytes",
    "name",
    "pack",
    "picodollars",
    "unpack",
]

BIGGEST = 2**63 - 1
NAME_LENGTH = 256
SHORTENED = re.compile(r".{256}#[0-9a-f]{16}", re.DOTALL)
DEPTH = 64
PICO = Decimal(10) ** 12
PACK_ABOVE = 64
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# in place of zstd's own mark: with what else a frame has to be unpacked
WITH_DICTIONARY_1 = b"LLM1"
MARKS = (ZSTD_MAGIC, WITH_DICTIONARY_1)
LARGEST_UNPACKED = 1 << 30

UNPACKABLE = (zstd.ZstdError,)  # what cannot be unpacked raises one of these

_local = threading.local()  # one compressor a thread


def clean(text: Any) -> str | None:
    """*text* with NUL shown as ␀ and lone surrogates replaced."""
    if text is None:
        return None
    found = text if type(text) is str else str(text)
    if "\0" in found:
        found = found.replace("\0", "\u2400")
    if found.isascii():
        return found
    try:
        found.encode()
    except UnicodeEncodeError:
        return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return found


def bounded(text: str | None, length: int) -> str | None:
    """*text*, clean and cut to *length* characters, the last of which is then an ellipsis."""
    if text is None:
        return None
    if len(text) > length:
        text = text[: length - 1] + "…"
    elif type(text) is str and text.isascii() and "\0" not in text:  # nearly all are plain: no second call for them
        return text
    return clean(text)


def name(text: str | None) -> str | None:
    """*text* as an indexed column takes it: beyond 256 characters, those and a hash of the whole.

    What is stored in this form already stays as it is, so that a name taken from a page is found again.
    """
    if text is None:
        return None
    if type(text) is not str or not text.isascii() or "\0" in text:  # as above
        text = clean(text) or ""
    if len(text) <= NAME_LENGTH or SHORTENED.fullmatch(text):
        return text
    return f"{text[:NAME_LENGTH]}#{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def integer(value: Any) -> int | None:
    """*value* as an integer from 0 to 2^63 - 1; ``None`` for what is no number."""
    if type(value) is int and 0 <= value <= BIGGEST:
        return value
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = int(value)
    if not isinstance(value, int):
        return None
    return 0 if value < 0 else BIGGEST if value > BIGGEST else value


def picodollars(amount: Decimal | None) -> int | None:
    """An amount in US dollars as an integer of 1e-12 of them."""
    if amount is None or not amount.is_finite():
        return None
    return max(-BIGGEST, min(BIGGEST, int((amount * PICO).to_integral_value())))


def dollars(pico: int | None) -> Decimal | None:
    """The amount in US dollars of a stored one, as short as it can be written."""
    if pico is None:
        return None
    amount = (Decimal(pico) / PICO).normalize()
    return amount if amount != 0 else Decimal(0)


def json_bytes(value: Any) -> bytes:
    """*value* as compact JSON, whatever it holds: what JSON has no word for becomes text."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(plain(value, 0))


def plain(value: Any, depth: int) -> Any:
    """*value* in JSON's own types, cut below 64 levels."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int):
        return value if -BIGGEST - 1 <= value <= BIGGEST else str(value) if value.bit_length() < 10_000 else "(huge)"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= DEPTH:
        return "(deeper)"
    if isinstance(value, Mapping):
        return {clean(str(key)): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    return clean(str(value))


def pack(content: bytes, level: int = 1) -> bytes:
    """*content* compressed where that makes it smaller; :func:`unpack` tells by the first bytes.

    Args:
        content: What is to be stored.
        level: Of zstd; from 3 on small JSON of ours gets smaller at the same cost, prose does not.
    """
    marked = content.startswith(MARKS)
    if len(content) < PACK_ABOVE and not marked:
        return content
    frame = compressor(level).compress(content, zstd.ZstdCompressor.FLUSH_FRAME)
    packed: bytes = WITH_DICTIONARY_1 + frame[len(ZSTD_MAGIC) :]
    return packed if marked or len(packed) < len(content) else content


def compressor(level: int) -> Any:
    made = getattr(_local, "compressors", None)
    if made is None:
        made = _local.compressors = {}
    if level not in made:
        made[level] = zstd.ZstdCompressor(level=level, zstd_dict=known_1().as_digested_dict)
    return made[level]


@cache
def known_1() -> Any:
    return zstd.ZstdDict(dictionary_1(), is_raw=True)


def unpack(content: bytes) -> bytes:
    """What :func:`pack` was given."""
    if content.startswith(WITH_DICTIONARY_1):
        frame = ZSTD_MAGIC + content[len(WITH_DICTIONARY_1) :]
        return zstd.ZstdDecompressor(zstd_dict=known_1()).decompress(frame, LARGEST_UNPACKED)
    if content.startswith(ZSTD_MAGIC):
        return zstd.ZstdDecompressor().decompress(content, LARGEST_UNPACKED)
    return content
