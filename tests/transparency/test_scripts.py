"""With and without us, against a provider inside the process: chunk by chunk the same, and one record that is right."""

import gzip
import json
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_llmobs.records import Outcome
from tests.transparency.oracle import FAMILIES, MODES, Case, compare
from tests.transparency.scripted import Hop

JSON = (b"content-type", b"application/json")
SSE = (b"content-type", b"text/event-stream; charset=utf-8")

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "héllo"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    },
    ensure_ascii=False,
).encode()


def event(delta, finish=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    data = {"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "choices": [choice]}
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


EVENTS = [
    event({"role": "assistant", "content": ""}),
    event({"content": "hé"}),
    event({"content": "l"}),
    event({"content": "lo"}),
    event({}, "stop"),
    b"data: [DONE]\n\n",
]
STREAM = b"".join(EVENTS)


def split(body, size):
    return [body[start : start + size] for start in range(0, len(body), size)]


def members(body):
    half = len(body) // 2
    return gzip.compress(body[:half]) + gzip.compress(body[half:])


def encoded(name, body):
    return [JSON, (b"content-encoding", name)], split(body, 11)


def hop(headers, chunks, **more):
    return Hop(headers=tuple(headers), chunks=tuple(chunks), **more)


ANSWERED = {
    "json": Case(hops=[hop([JSON], [ANSWER])]),
    "json in bytes": Case(hops=[hop([JSON], split(ANSWER, 1))]),
    "whole already": Case(hops=[hop([JSON], [ANSWER], whole=True)]),
    "whole and streamed": Case(hops=[hop([JSON], [ANSWER], whole=True)], read="iter_bytes"),
    "empty chunks": Case(hops=[hop([JSON], [b"", ANSWER[:9], b"", ANSWER[9:], b""])], read="iter_raw"),
    "gzip": Case(hops=[hop(*encoded(b"gzip", gzip.compress(ANSWER)))]),
    "gzip, two members": Case(hops=[hop(*encoded(b"gzip", members(ANSWER)))], read="iter_bytes"),
    "deflate": Case(hops=[hop(*encoded(b"deflate", zlib.compress(ANSWER)))]),
    "gzip in gzip": Case(hops=[hop(*encoded(b"gzip, gzip", gzip.compress(gzip.compress(ANSWER))))]),
    "sse": Case(hops=[hop([SSE], EVENTS)], read="iter_raw"),
    "sse lines": Case(hops=[hop([SSE], split(STREAM, 7))], read="iter_lines"),
    "sse text": Case(hops=[hop([SSE], split(STREAM, 3))], read="iter_text"),
    "sse in bytes": Case(hops=[hop([SSE], split(STREAM, 1))], read="iter_bytes"),
    "sse regrouped": Case(hops=[hop([SSE], EVENTS)], read="iter_bytes", chunk_size=64),
    "read twice": Case(hops=[hop([JSON], [ANSWER])], read="read twice"),
    "generator": Case(hops=[hop([JSON], [ANSWER])], body="generator"),
    "hooks": Case(hops=[hop([JSON], [ANSWER])], hooks=True),
    "cookies": Case(hops=[hop([JSON, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2; Path=/")], [ANSWER])]),
    "garbage headers": Case(hops=[hop([JSON, (b"x-\xff\xfe", b"\xc3\x28\x80"), (b"x-big", b"x" * 60_000)], [ANSWER])]),
    "not entered": Case(hops=[hop([JSON], [ANSWER])], entered=False),
    "redirect 307": Case(
        hops=[hop([(b"location", b"/v1/chat/completions?hop=2")], [], status=307), hop([JSON], [ANSWER])]
    ),
    "redirect 302": Case(hops=[hop([(b"location", b"/elsewhere")], [b"gone"], status=302), hop([JSON], [ANSWER])]),
    "auth": Case(hops=[hop([JSON], [b"{}"], status=401), hop([JSON], [ANSWER])], auth=True),
}


@pytest.mark.parametrize("name", ANSWERED)
def test_answered(captured, family, is_async, name):
    """An answer that comes whole, in whatever pieces, is the app's as ever and one record with its text and usage."""
    for mode, records in compare(captured, ANSWERED[name], family, is_async).items():
        (record,) = records

        assert (record.outcome, record.status, record.text) == (Outcome.OK, 200, "héllo"), mode
        assert record.provider and record.properties == {"Case": "one"}
        if "sse" in name:
            assert record.usage is None and record.finish_reasons == ("stop",)
        else:
            assert (record.usage.input_tokens, record.usage.output_tokens) == (7, 3)


@pytest.mark.parametrize("body", ["content", "form", "multipart", "generator"])
def test_uploads(captured, family, is_async, body):
    """Bodies of every kind arrive as they were, and only once."""
    case = Case(hops=[hop([JSON], [ANSWER])], body=body)
    for mode, records in compare(captured, case, family, is_async, upstream=None).items():
        (record,) = records

        assert record.outcome == Outcome.OK, mode
        assert record.request_body.size > 10
        assert (record.request_body.slimmed, b"RIFF" in record.request_body.content) == (body == "multipart", False)


FAILED = {
    "connect": Case(hops=[Hop(fails="ConnectError")]),
    "connect timeout": Case(hops=[Hop(fails="ConnectTimeout")]),
    "os error": Case(hops=[Hop(fails="OSError")]),
    "broken upload": Case(body="broken-generator"),
    "reset at once": Case(hops=[hop([SSE], EVENTS, fails="ReadError", fails_after=0)]),
    "reset": Case(hops=[hop([SSE], EVENTS, fails="ReadError", fails_after=2)]),
    "reset while reading": Case(
        hops=[hop([SSE], EVENTS, fails="RemoteProtocolError", fails_after=2)], read="iter_lines"
    ),
    "read timeout": Case(hops=[hop([SSE], EVENTS, fails="ReadTimeout", fails_after=3)], read="iter_raw"),
    "value error": Case(hops=[hop([SSE], EVENTS, fails="ValueError", fails_after=3)], read="read"),
    "corrupt gzip": Case(hops=[hop(*encoded(b"gzip", b"this is no gzip at all"))]),
    "corrupt gzip, read": Case(hops=[hop(*encoded(b"gzip", b"this is no gzip at all"))], read="read"),
    "close fails": Case(hops=[hop([SSE], EVENTS, close_fails=True, fails="ReadError", fails_after=1)], read="read"),
    "status 500": Case(hops=[hop([JSON], [b'{"error": {"message": "boom", "type": "server_error"}}'], status=500)]),
    "status 401": Case(hops=[hop([JSON], [b'{"error": {"message": "no", "code": "x"}}'], status=401)], read="iter_raw"),
    "status 429, empty": Case(hops=[hop([(b"retry-after", b"2")], [], status=429)]),
    "cut before its end": Case(hops=[hop([SSE], EVENTS[:3])], read="iter_raw"),
    "redirects without end": Case(hops=[hop([(b"location", b"/v1/chat/completions")], [], status=307)]),
}


@pytest.mark.parametrize("name", FAILED)
def test_failed(captured, family, is_async, name):
    """What goes wrong reaches the app as ever, and is one record that says so, with what had come."""
    case = FAILED[name]
    for mode, records in compare(captured, case, family, is_async).items():
        (record,) = records

        assert record.outcome == Outcome.ERROR, mode
        assert record.usage is None and record.error_type
        if case.hops[0].fails and name != "close fails":
            assert record.error_type == case.hops[0].fails
        assert "héllo".startswith(record.text)


LEFT = {
    "never read": Case(hops=[hop([SSE], EVENTS)], read="never"),
    "closed at once": Case(hops=[hop([SSE], EVENTS)], read="close"),
    "break": Case(hops=[hop([SSE], EVENTS)], read="iter_raw break", stop_after=2),
    "break lines": Case(hops=[hop([SSE], EVENTS)], read="iter_lines break", stop_after=3),
    "break text": Case(hops=[hop([SSE], EVENTS)], read="iter_text break", stop_after=3),
    "break before the first": Case(hops=[hop([SSE], EVENTS)], read="iter_bytes break", stop_after=0),
}


@pytest.mark.parametrize("name", LEFT)
def test_left(captured, family, is_async, name):
    """A stream that the app leaves is abandoned, with the text that it had read."""
    for mode, records in compare(captured, LEFT[name], family, is_async).items():
        (record,) = records

        assert (record.outcome, record.usage) == (Outcome.ABANDONED, None), mode
        assert record.text == ("hé" if name == "break" else record.text)
        assert "héllo".startswith(record.text)


def test_left_after_the_end(captured, family, is_async):
    """A stream that is closed after the dialect's last event, before its end, is complete."""
    case = Case(hops=[hop([SSE], [*EVENTS, b": more to come\n\n"])], read="iter_raw break", stop_after=len(EVENTS))
    for mode, records in compare(captured, case, family, is_async).items():
        assert [(record.outcome, record.text) for record in records] == [(Outcome.OK, "héllo")], mode


@pytest.mark.parametrize("read", ["send", "read", "iter_raw", "iter_lines", "iter_raw break"])
@pytest.mark.parametrize("name", FAMILIES)
def test_cancelled_at_every_await(captured, name, read):
    """A task that is cancelled, wherever it waits and twice too, ends as ever; the record says cancelled or better."""
    outcomes = set()
    for at in range(1, 12):
        for cancelled in (frozenset({at}), frozenset({at, at + 1})):
            case = Case(hops=[hop([SSE], EVENTS)], read=read, cancel_at=cancelled, stop_after=4)
            for mode, records in compare(captured, case, FAMILIES[name], True, modes=("auto", "transport")).items():
                (record,) = records
                outcomes.add(record.outcome)

                assert record.outcome in (Outcome.CANCELLED, Outcome.OK, Outcome.ABANDONED), (mode, at)
                assert "héllo".startswith(record.text) and record.usage is None

    assert Outcome.CANCELLED in outcomes


@pytest.mark.parametrize(
    "case",
    [
        Case(url="http://provider.test/v1/models", method="GET", body="none"),
        Case(url="http://provider.test/healthz", hops=[hop([JSON], split(ANSWER, 5))], read="iter_raw"),
        Case(url="http://provider.test/upload", body="generator", hops=[Hop(fails="ReadError", fails_after=0)]),
    ],
)
def test_other_calls(captured, family, is_async, case):
    """What is no LLM call is let through and not recorded; our headers are taken out all the same."""
    assert compare(captured, case, family, is_async) == dict.fromkeys(MODES, [])


answers = st.sampled_from(
    [ANSWER, STREAM, b"", b"{", b"\xff\xfe\0", b'{"choices": [{"delta": null}]}', b"data: \xc3\n\n"]
)
encodings = st.sampled_from(
    [
        ([], lambda body: body),
        ([(b"content-encoding", b"gzip")], gzip.compress),
        ([(b"content-encoding", b"gzip")], lambda body: gzip.compress(body)[:-9]),
        ([(b"content-encoding", b"deflate")], zlib.compress),
        ([(b"content-encoding", b"gzip, deflate")], lambda body: zlib.compress(gzip.compress(body))),
        ([(b"content-encoding", b"br")], lambda body: body),
        ([(b"content-encoding", b"nonsense")], lambda body: body),
    ]
)
reads = st.sampled_from(
    "send read iter_raw iter_bytes iter_text iter_lines close never".split()
    + ["read twice", "iter_raw break", "iter_bytes break", "iter_lines break", "iter_text break"]
)


@st.composite
def hops(draw):
    headers, encode = draw(encodings)
    body = encode(draw(answers))
    chunks = split(body, draw(st.sampled_from([1, 2, 3, 7, 50, 100_000])))
    if draw(st.booleans()):
        chunks.insert(draw(st.integers(0, len(chunks))), b"")
    status = draw(st.sampled_from([200, 200, 200, 201, 204, 304, 400, 401, 429, 500, 503, 307, 303]))
    if status in (307, 303):
        headers = [
            *headers,
            (b"location", draw(st.sampled_from([b"/v1/chat/completions", b"/x", b"http://other.test/"]))),
        ]
    fails = draw(st.sampled_from([None, None, None, "ReadError", "ReadTimeout", "ValueError", "RemoteProtocolError"]))
    return Hop(
        status=status,
        headers=(draw(st.sampled_from([JSON, SSE])), *headers),
        chunks=tuple(chunks),
        fails=fails,
        fails_after=draw(st.one_of(st.none(), st.integers(0, 5))) if fails else None,
        whole=not fails and encode(b"") == b"" and draw(st.booleans()),
        close_fails=draw(st.sampled_from([False, False, False, True])),
    )


cases = st.builds(
    Case,
    hops=st.lists(hops(), min_size=1, max_size=3),
    body=st.sampled_from("json json content form multipart generator broken-generator none".split()),
    read=reads,
    chunk_size=st.sampled_from([None, None, 1, 5, 1000]),
    stop_after=st.integers(0, 4),
    auth=st.booleans(),
    hooks=st.booleans(),
    follow=st.booleans(),
    entered=st.booleans(),
    cancel_at=st.frozensets(st.integers(1, 20), max_size=2),
)


@settings(suppress_health_check=list(HealthCheck))
@given(case=cases, name=st.sampled_from(list(FAMILIES)), is_async=st.booleans(), data=st.data())
def test_any_script(captured, case, name, is_async, data):
    """Whatever the provider does and however the app reads it: no difference, and exactly one record."""
    mode = data.draw(st.sampled_from(MODES))
    for records in compare(captured, case, FAMILIES[name], is_async, modes=(mode,)).values():
        (record,) = records

        assert record.outcome in set(Outcome) - {Outcome.RUNNING, Outcome.INTERRUPTED, Outcome.BLOCKED}
        assert record.usage is None or (record.usage.input_tokens or 0) % 7 == 0  # of every attempt that told any
        assert "héllo".startswith(record.text) or "�" in record.text
