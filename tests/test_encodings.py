"""Content encodings undone on a copy: whole, cut at every byte, corrupt, on top of each other, and bombs."""

import gzip
import zlib

import brotli
import pytest
import zstandard

from asgi_llmobs.encodings import decode

BODY = b'{"text": "' + "h\u00e9llo ".encode() * 40 + b'"}'
LIMIT = 1_000_000

ENCODED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    "br": brotli.compress(BODY),
    "zstd": zstandard.compress(BODY),
    "gzip, br": brotli.compress(gzip.compress(BODY)),
    " GZIP ,identity": gzip.compress(BODY),
}


def pieces(body, size):
    return [body[at : at + size] for at in range(0, len(body), size)]


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("encoding", ENCODED)
def test_whole(encoding, size):
    """In whatever pieces; each piece says how far it brought the body."""
    chunks = pieces(ENCODED[encoding], size)
    decoded = decode(chunks, encoding, LIMIT)

    assert (decoded.body, decoded.problem, decoded.broken) == (BODY, None, False)
    assert len(decoded.ends) == len(chunks) and decoded.ends == sorted(decoded.ends) and decoded.ends[-1] == len(BODY)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_cut_anywhere(encoding):
    """What decoded is kept, and the warning says that there should be more; never an exception."""
    whole = ENCODED[encoding]
    for end in range(1, len(whole)):
        decoded = decode([whole[:end]], encoding, LIMIT)

        assert BODY.startswith(decoded.body) and not decoded.broken
        assert "breaks off" in decoded.problem


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_corrupt(encoding):
    """Bytes that are not what the header says."""
    decoded = decode([b"\x00\xff this is nothing of the kind"], encoding, LIMIT)

    assert decoded.broken and encoding in decoded.problem


def test_several_members():
    """Compressed pieces one after the other are one body."""
    for one in (gzip.compress, zstandard.compress):
        name = "gzip" if one is gzip.compress else "zstd"
        assert decode([one(BODY[:50]) + one(BODY[50:99]), one(BODY[99:])], name, LIMIT).body == BODY


def test_raw_deflate():
    """Servers that leave out the wrapper."""
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = squeeze.compress(BODY) + squeeze.flush()

    assert decode([body], "deflate", LIMIT).body == BODY


def test_unknown_and_none():
    """Bytes of an unknown encoding stay as they are."""
    decoded = decode([b"ab", b"c"], "rot13", LIMIT)

    assert (decoded.body, decoded.ends) == (b"abc", []) and "rot13" in decoded.problem
    assert decode([b"ab", b"c"], "", LIMIT) == (b"abc", [2, 3], None, False)
    assert decode([], "gzip", LIMIT) == (b"", [], None, False)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "gzip, gzip"])
def test_bombs(encoding):
    """A small body that unpacks to far more stops soon after the limit."""
    bomb = bytes(30_000_000)
    for name in encoding.split(", "):
        bomb = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}[name](bomb)
    decoded = decode(pieces(bomb, 1_000), encoding, LIMIT)

    assert LIMIT < len(decoded.body) <= 2 * LIMIT + 2 and "more than" in decoded.problem


def test_a_library_that_is_not_there(monkeypatch):
    """Without it the bytes are kept as they came."""
    monkeypatch.setitem(__import__("sys").modules, "brotli", None)
    monkeypatch.setitem(__import__("sys").modules, "brotlicffi", None)
    decoded = decode([ENCODED["br"]], "br", LIMIT)

    assert decoded.body == ENCODED["br"] and "not decoded" in decoded.problem and not decoded.broken
