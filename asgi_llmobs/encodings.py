"""Content encodings, undone on a copy: gzip, deflate, br, zstd, and several of them on top of each other."""

import importlib
import zlib
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

__all__ = ["Decoded", "decode"]


class Decoded(NamedTuple):
    """A decoded body, how many bytes of it each chunk completed, and what could not be decoded.

    ``broken``: the bytes are not what the header says, so that a client fails on them.
    """

    body: bytes
    ends: list[int]
    problem: str | None
    broken: bool = False


class Decoder(Protocol):
    """Undoes one encoding, piece by piece. ``errors`` are what its library raises for broken data."""

    errors: tuple[Any, ...]

    def feed(self, data: bytes, limit: int) -> bytes:
        """What *data* unpacks to, cut soon after *limit* bytes."""

    def ended(self) -> bool:
        """Whether what was fed so far is whole."""


class Inflate:
    """gzip (several members too) and deflate, with or without the zlib wrapper."""

    errors: tuple[Any, ...] = (zlib.error,)

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._inflate = zlib.decompressobj(bits)
        self._first = True

    def feed(self, data: bytes, limit: int) -> bytes:
        out = b""
        while data and len(out) < limit:
            try:
                out += self._inflate.decompress(data, limit)
            except zlib.error:
                if not self._first or self._bits != zlib.MAX_WBITS:
                    raise
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)  # servers that send raw deflate
                self._first = False
                continue
            self._first = False
            data = self._inflate.unused_data
            if data:
                self._inflate = zlib.decompressobj(self._bits)
        return out

    def ended(self) -> bool:
        return self._inflate.eof


class Brotli:
    def __init__(self) -> None:
        module = optional("brotli", "brotlicffi")
        self.errors: tuple[Any, ...] = (module.error,)
        self._decoder: Any = module.Decompressor()
        self._bounded = hasattr(self._decoder, "can_accept_more_data")  # since brotli 1.2

    def feed(self, data: bytes, limit: int) -> bytes:
        if self._bounded:
            return self._decoder.process(data, output_buffer_limit=limit)  # type: ignore[no-any-return]
        return self._decoder.process(data)  # type: ignore[no-any-return]

    def ended(self) -> bool:
        return self._decoder.is_finished()  # type: ignore[no-any-return]


class Zstd:
    """Several frames may follow each other."""

    def __init__(self) -> None:
        self._module = optional("compression.zstd", "backports.zstd")
        self.errors: tuple[Any, ...] = (self._module.ZstdError,)
        self._decoder: Any = self._module.ZstdDecompressor()
        self._between = True

    def feed(self, data: bytes, limit: int) -> bytes:
        out = b""
        while data and len(out) < limit:
            out += self._decoder.decompress(data, limit)
            self._between = self._decoder.eof
            data = self._decoder.unused_data if self._decoder.eof else b""
            if self._decoder.eof:
                self._decoder = self._module.ZstdDecompressor()
        return out

    def ended(self) -> bool:
        return self._between


def optional(*names: str) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError(f"none of {', '.join(names)} is installed")


def decoder(encoding: str) -> Decoder:
    if encoding in ("gzip", "x-gzip"):
        return Inflate(zlib.MAX_WBITS | 16)
    if encoding == "deflate":
        return Inflate(zlib.MAX_WBITS)
    if encoding == "br":
        return Brotli()
    if encoding == "zstd":
        return Zstd()
    raise ValueError(f"unknown content-encoding {encoding!r}")


def decode(chunks: Sequence[bytes], content_encoding: str, limit: int) -> Decoded:
    """Undo *content_encoding* chunk by chunk; keeps what decoded where the rest is broken or beyond *limit* bytes.

    Args:
        chunks: The body as it came.
        content_encoding: The header, e.g. ``gzip`` or ``gzip, br``.
        limit: Most bytes to produce: a small body may unpack to gigabytes.
    """
    names = [name.strip().lower() for name in content_encoding.split(",")] if content_encoding else []
    names = [name for name in names if name and name != "identity"]
    if not names:
        return Decoded(b"".join(chunks), list(accumulate(map(len, chunks))), None)
    ends: list[int] = []
    out: list[bytes] = []
    size = 0
    try:
        decoders = [decoder(name) for name in reversed(names)]
    except (ValueError, ImportError) as error:
        return Decoded(b"".join(chunks), [], f"content-encoding {content_encoding!r} not decoded: {error}")
    problem, broken = None, False
    errors: tuple[Any, ...] = (ValueError, EOFError, OSError, *(error for each in decoders for error in each.errors))
    for chunk in chunks:
        try:
            piece = bytes(chunk)
            for each in decoders:
                piece = each.feed(piece, limit + 1)
        except errors as error:
            problem = f"content-encoding {content_encoding!r} broken after {size} bytes: {type(error).__name__}"
            broken = True
            break
        out.append(piece)
        size += len(piece)
        ends.append(size)
        if size > limit:
            problem = f"body unpacks to more than {limit} bytes; the rest was not read"
            break
    if problem is None and any(chunks) and not all(each.ended() for each in decoders):
        problem = f"content-encoding {content_encoding!r} breaks off after {size} bytes"
    return Decoded(b"".join(out), ends, problem, broken)
