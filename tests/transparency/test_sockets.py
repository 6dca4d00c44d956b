"""With and without us, against a server that breaks every rule of HTTP: no difference, and one record that is right."""

import gzip
import socket
from collections.abc import Iterator

import brotli
import pytest

from asgi_llmobs.records import Outcome
from tests.transparency.oracle import Case, compare
from tests.transparency.test_scripts import ANSWER, EVENTS, STREAM
from tests.transparency.upstream import HANG, RESET, Upstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """The server."""
    upstream = Upstream()
    upstream.start()
    yield upstream
    upstream.stop()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def plain(body: bytes, *headers: bytes, status: bytes = b"200 OK", length: int | None = None) -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Type: application/json", *headers]
    lines.append(b"Content-Length: %d" % (len(body) if length is None else length))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
OPEN = CHUNKED + b"\r\n"
END = b"0\r\n\r\n"
CLOSED = b""  # last step: hang up

OK = {
    "json": (plain(ANSWER),),
    "sse": (OPEN, *map(chunk, EVENTS), END),
    "sse-in-bytes": (OPEN, *(chunk(STREAM[at : at + 1]) for at in range(len(STREAM))), END),
    "sse-torn": (OPEN, chunk(STREAM[:70]), 0.01, chunk(STREAM[70:71]), 0.01, chunk(STREAM[71:]), END),
    "until-closed": (b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n", ANSWER, CLOSED),
    "trailers": (CHUNKED + b"Trailer: X-Sum\r\n\r\n", *map(chunk, EVENTS), b"0\r\nX-Sum: 1\r\nSet-Cookie: t=1\r\n\r\n"),
    "early-hints": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", plain(ANSWER)),
    "gzip": (plain(gzip.compress(ANSWER), b"Content-Encoding: gzip"),),
    "two-members": (plain(gzip.compress(ANSWER[:99]) + gzip.compress(ANSWER[99:]), b"Content-Encoding: gzip"),),
    "brotli": (plain(brotli.compress(ANSWER), b"Content-Encoding: br"),),
    "cookies": (plain(ANSWER, b"Set-Cookie: a=1; Path=/", b"Set-Cookie: b=2", b"set-COOKIE: a=3"),),
    "odd-headers": (plain(ANSWER, b"X-Latin: \xe9\xff", b"X-Empty:", b"X-Big: " + b"x" * 30_000),),
    "too-short": (plain(ANSWER + b"more than was announced", length=len(ANSWER)),),
}


@pytest.mark.parametrize("read", ["send", "iter_raw"])
@pytest.mark.parametrize("name", OK)
def test_answered(captured, upstream, family, is_async, name, read):
    """What arrives whole is one record with its text."""
    upstream.scripts[name] = OK[name]
    case = Case(url=upstream.url(name), network=True, read=read)
    for mode, records in compare(captured, case, family, is_async, upstream=upstream).items():
        assert [(one.outcome, one.status, one.text) for one in records] == [(Outcome.OK, 200, "héllo")], mode


FAILED = {
    "refused-by-status": ((plain(b'{"error": {"message": "no"}}', status=b"503 Busy"),), None),
    "too-long": ((plain(ANSWER, length=5000), CLOSED), "RemoteProtocolError"),
    "reset-at-once": ((RESET,), None),
    "reset-in-body": ((OPEN, chunk(EVENTS[0] + EVENTS[1]), RESET), "ReadError"),
    "closed-in-body": ((OPEN, chunk(EVENTS[0] + EVENTS[1]), CLOSED), "RemoteProtocolError"),
    "half-a-chunk": ((OPEN, chunk(EVENTS[0] + EVENTS[1])[:-3], CLOSED), "RemoteProtocolError"),
    "no-chunk-at-all": ((OPEN, b"zz\r\nnot hexadecimal\r\n", CLOSED), "RemoteProtocolError"),
    "hangs": ((HANG,), "ReadTimeout"),
    "hangs-in-body": ((OPEN, chunk(EVENTS[0] + EVENTS[1]), HANG), "ReadTimeout"),
    "no-http": ((b"SSH-2.0-OpenSSH_9.2\r\n\r\n", CLOSED), "RemoteProtocolError"),
    "header-too-big": ((plain(ANSWER, b"X: " + b"x" * 200_000), CLOSED), "RemoteProtocolError"),
    "broken-header": ((b"HTTP/1.1 200 OK\r\nNo colon here\r\n\r\n", CLOSED), "RemoteProtocolError"),
    "corrupt": ((plain(b"no gzip", b"Content-Encoding: gzip"),), "DecodingError"),
    "not-modified": ((b"HTTP/1.1 304 Not Modified\r\nContent-Length: 400\r\n\r\n",), "HTTP 304"),
}


# to connect and to send may take as long as a busy machine takes for it; what is to come before the hanging too
IMPATIENT = {"hangs": (40.0, 0.08, 40.0, 40.0), "hangs-in-body": (40.0, 0.6, 40.0, 40.0)}


@pytest.mark.parametrize("name", FAILED)
def test_failed(captured, upstream, family, is_async, name):
    """What breaks is one record that says how, with what had come."""
    upstream.scripts[name], error = FAILED[name]
    case = Case(url=upstream.url(name), network=True, timeout=IMPATIENT.get(name, 40.0))
    for mode, records in compare(captured, case, family, is_async, upstream=upstream).items():
        (record,) = records

        assert (record.outcome, record.error_type) == (Outcome.ERROR, error or record.error_type), mode
        if name != "too-long":  # where all that counts had come
            assert record.usage is None
            assert record.text == ("hé" if "body" in name or "half" in name else "")


def test_refused(captured, family, is_async):
    """Nobody listens: the same error, and a record of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    case = Case(url=f"http://127.0.0.1:{port}/v1/chat/completions", hops=(), network=True)
    for records in compare(captured, case, family, is_async, upstream=Upstream()).values():
        assert [(one.outcome, one.error_type, one.status) for one in records] == [("error", "ConnectError", None)]


TRUNCATED = gzip.compress(ANSWER * 3)[:-12]


@pytest.mark.parametrize(
    ("name", "steps", "warning"),
    [
        ("truncated", (plain(TRUNCATED, b"Content-Encoding: gzip"),), "breaks off"),
        ("unknown-encoding", (plain(b"\x01\x02 whatever", b"Content-Encoding: rot13"),), "not decoded"),
    ],
)
def test_undecoded(captured, upstream, family, is_async, name, steps, warning):
    """What the client lets pass as it is passes, and the record says what could not be read."""
    upstream.scripts[name] = steps
    case = Case(url=upstream.url(name), network=True)
    for records in compare(captured, case, family, is_async, upstream=upstream).values():
        (record,) = records

        assert any(warning in text for text in record.warnings)
        assert (record.outcome, record.usage) == (Outcome.OK, None)


@pytest.mark.parametrize("body", ["json", "content", "form", "multipart", "generator", "none"])
def test_uploads(captured, upstream, family, is_async, body):
    """The upstream receives the same bytes, framing included."""
    upstream.scripts["upload"] = OK["json"]
    case = Case(url=upstream.url("upload"), network=True, body=body)
    for records in compare(captured, case, family, is_async, upstream=upstream).values():
        (record,) = records

        assert record.outcome == Outcome.OK
        assert (record.request_body is None) == (body == "none")


@pytest.mark.parametrize(
    ("name", "steps", "follow"),
    [
        ("head", (b"HTTP/1.1 204 No Content\r\n\r\n",), True),
        ("moved", (b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /json/v1/chat/completions\r\n\r\n", CLOSED), True),
        (
            "moved-not",
            (b"HTTP/1.1 302 Found\r\nLocation: /json/v1/chat/completions\r\nContent-Length: 0\r\n\r\n",),
            False,
        ),
    ],
)
def test_without_a_body(captured, upstream, family, is_async, name, steps, follow):
    """Answers without a body, and those that send the client elsewhere: one record."""
    upstream.scripts.update({name: steps, "json": OK["json"]})
    case = Case(url=upstream.url(name), network=True, follow=follow)
    for records in compare(captured, case, family, is_async, upstream=upstream).values():
        assert [(one.status, one.text) for one in records] == [
            {"head": (204, ""), "moved": (200, "héllo"), "moved-not": (302, "")}[name]
        ]


@pytest.mark.slow
@pytest.mark.parametrize("read", ["never", "close", "iter_raw break", "iter_lines break"])
def test_left(captured, upstream, family, is_async, read):
    """A stream that is left while more is to come: the connection is given back in the same way."""
    upstream.scripts["left"] = (OPEN, chunk(EVENTS[0] + EVENTS[1]), HANG)
    case = Case(url=upstream.url("left"), network=True, read=read)
    for records in compare(captured, case, family, is_async, upstream=upstream).values():
        assert [(one.outcome, one.usage) for one in records] == [("abandoned", None)]
