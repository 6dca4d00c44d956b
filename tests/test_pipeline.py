"""From an exchange to a record: the raw bytes are kept whatever they are, and what could not be read is told."""

import gzip
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_llmobs.capture.annotations import Annotations
from asgi_llmobs.config import Config
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.providers import match
from asgi_llmobs.records import Exchange, Outcome, Span
from asgi_llmobs.redaction import MARK

CHAT = "/v1/chat/completions"
REQUEST = {"model": "gpt-4o", "messages": [{"role": "user", "content": "question"}]}


def exchange(response=b"", *, request=REQUEST, path=CHAT, chunks=None, status=200, kind="application/json", **more):
    """A finished call."""
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    chunks = [response] if chunks is None else chunks
    clock = time.monotonic_ns()
    values = {
        "id": "a" * 16,
        "trace_id": "b" * 32,
        "parent_id": None,
        "match": match("POST", "api.openai.com", None, path),
        "method": "POST",
        "url": f"https://api.openai.com{path}",
        "start_ns": time.time_ns(),
        "clock_ns": clock,
        "first_start_ns": time.time_ns(),
        "first_clock_ns": clock,
        "request_headers": [(b"content-type", b"application/json")],
        "request_chunks": [body],
        "request_size": len(body),
        "status": status,
        "response_headers": [(b"content-type", kind.encode())],
        "response_chunks": list(chunks),
        "chunk_clocks": [clock + 1000 * (number + 1) for number in range(len(chunks))],
        "chunks": len(chunks),
        "response_size": sum(map(len, chunks)),
        "end_clock_ns": clock + 1_000_000,
        "headers_clock_ns": clock + 500,
        "outcome": Outcome.OK,
        "eof": True,
        "annotations": Annotations(),
    }
    return Exchange(**{**values, **more})


def record(response=b"", *, config=None, **more):
    """The record of a call."""
    return Pipeline(Config(**(config or {}))).process(exchange(response, **more))


def answer(content="hello", **more):
    """A chat answer as bytes."""
    message = {"role": "assistant", "content": content}
    body = {"id": "c1", "model": "gpt-4o", "choices": [{"message": message, "finish_reason": "stop"}]}
    return json.dumps({**body, "usage": {"prompt_tokens": 3, "completion_tokens": 2}, **more}).encode()


def event(delta, finish=None, **more):
    """One event of a chat stream."""
    data = {"id": "c1", "model": "gpt-4o", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
SSE = "text/event-stream"

BAD = {
    "not json": b"<html>Bad gateway</html>",
    "torn json": answer()[:50],
    "empty": b"",
    "null": b"null",
    "a list": b"[1, 2]",
    "id null": answer(id=None),
    "nul": answer("a\0b"),
    "raw nul": answer("a").replace(b'"a"', b'"a\0b"'),
    "surrogate": answer("x").replace(b'"x"', b'"\\ud83d"'),
    "invalid utf-8": answer("x").replace(b'"x"', b'"\xff\xfe\xc3"'),
    "nan": answer().replace(b'"prompt_tokens": 3', b'"prompt_tokens": NaN'),
    "infinite": answer().replace(b'"prompt_tokens": 3', b'"prompt_tokens": 1e999'),
    "2^63": answer(usage={"prompt_tokens": 2**63, "completion_tokens": 2**64}),
    "negative": answer(usage={"prompt_tokens": -3, "completion_tokens": "2"}),
    "many digits": b'{"usage": {"prompt_tokens": ' + b"9" * 50_000 + b"}}",
    "deep": b"[" * 100_000,
    "deep inside": answer().replace(b'"hello"', b"[" * 5_000 + b"]" * 5_000),
    "empty choices": answer(choices=[]),
    "null choices": answer(choices=None),
    "choices of numbers": answer(choices=[1, None, "x", [], {}]),
    "usage of text": answer(usage="many"),
    "huge key": answer(**{"k " * 50_000: 1}),
    "bom": b"\xef\xbb\xbf" + answer(),
    "utf-16": answer().decode().encode("utf-16"),
    "duplicate keys": b'{"model": "a", "model": "b", "choices": []}',
}
BAD_STREAMS = {
    "torn event": event({"content": "he"}) + event({"content": "llo"})[:30],
    "null delta": event(None) + event({"content": None}) + DONE,
    "empty choices": b'data: {"choices": []}\n\n' + DONE,
    "unknown events": b"event: news\ndata: {}\n\nfoo: bar\n\n:\n\n" + DONE,
    "garbage": b"data: {{{\n\ndata: 1\n\ndata: null\n\n" + DONE,
    "torn utf-8": "data: h\u00e9".encode()[:-1],
    "no blank line": event({"content": "hello"}, "stop").strip(),
    "a long line": b"data: " + b"x " * 5_000_000,
    "error inside": b'event: error\ndata: {"error": {"message": "overloaded", "type": "overloaded_error"}}\n\n',
    "tool fragments": event({"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]}) + DONE,
}


@pytest.mark.parametrize("name", BAD)
def test_bad_answers(name):
    """A record comes of it, with the raw bytes, and no token that nobody told."""
    body = BAD[name]
    made = record(body)

    assert made.status == 200 and made.request_model == "gpt-4o"
    assert made.response_body is None if not body else made.response_body.content == body[: 2 * 1024 * 1024]
    assert made.usage is None or made.usage.input_tokens in (3, None, 2**63, 2)
    assert not [warning for warning in made.warnings if "could not be worked on" in warning]
    repr(made)


@pytest.mark.parametrize("size", [1, 7, 10_000_000])
@pytest.mark.parametrize("name", BAD_STREAMS)
def test_bad_streams(name, size):
    """The same for streams, in whatever pieces."""
    body = BAD_STREAMS[name]
    if len(body) > 1_000_000 and size < 1_000:
        size = 1_000
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    made = record(chunks=chunks, kind=SSE)

    assert made.usage is None and made.chunks == len(chunks)
    assert made.response_body.size == len(body) and made.response_body.content[:100] == body[:100]
    assert "hello".startswith(made.text) or name == "a long line"
    if name == "error inside":
        assert (made.outcome, made.error_type) == (Outcome.ERROR, "overloaded_error")


@pytest.mark.parametrize("name", BAD)
def test_bad_requests(name):
    """What the app sends is kept as it is, and the answer is read all the same."""
    made = record(answer(), request=BAD[name])

    assert (made.text, made.outcome) == ("hello", Outcome.OK)
    assert (made.request_body.content if made.request_body else b"") == BAD[name][: 2 * 1024 * 1024]


@pytest.mark.parametrize("name", ["not json", "torn json"])
def test_what_could_not_be_read_is_told(name):
    """In the warnings of the record; what could be is not."""
    assert record(BAD[name]).warnings == ("the response body is no JSON",)
    assert record(answer(), request=BAD[name]).warnings == ("the request body is no JSON object",)
    assert record(answer()).warnings == ()


@settings(suppress_health_check=list(HealthCheck))
@given(
    body=st.one_of(st.binary(max_size=300), st.sampled_from([answer(), event({"content": "x"}) * 3 + DONE])),
    request_body=st.one_of(st.binary(max_size=100), st.just(json.dumps(REQUEST).encode())),
    kind=st.sampled_from(
        ["application/json", SSE, "application/vnd.amazon.eventstream", "", "audio/mpeg", "text/html"]
    ),
    coding=st.sampled_from(["", "gzip", "br", "zstd", "deflate", "gzip, br", "\xff"]),
    path=st.sampled_from([CHAT, "/v1/embeddings", "/v1/responses", "/v1/audio/speech", "/v1/completions"]),
    status=st.sampled_from([200, 204, 302, 400, 500, None]),
    outcome=st.sampled_from(["ok", "error", "cancelled", "abandoned"]),
    cut=st.integers(0, 300),
)
def test_any_bytes(body, request_body, kind, coding, path, status, outcome, cut):
    """Never an exception, never invented usage, the bytes of a text kept."""
    headers = [(b"content-type", kind.encode()), (b"content-encoding", coding.encode("latin-1"))]
    made = record(
        chunks=[body[:cut], body[cut:]],
        request=request_body,
        path=path,
        status=status,
        outcome=outcome,
        response_headers=headers,
    )

    assert not [warning for warning in made.warnings if "could not be worked on" in warning]
    assert made.outcome in ("ok", "error", "cancelled", "abandoned") and made.duration_ns >= 0
    assert made.usage is None or not made.usage.estimated


class TestEncodings:
    def test_truncated_gzip(self):
        """What decoded is read, and the record says that it breaks off."""
        body = gzip.compress(answer() + b" " * 5_000)[:-10]
        made = record(body, response_headers=[(b"content-encoding", b"gzip"), (b"content-type", b"application/json")])

        assert any("breaks off" in warning for warning in made.warnings)
        assert made.text == "hello"

    def test_compressed_stream_times(self):
        """The first token is timed by the chunk that completed it, through the encoding."""
        import zlib

        squeeze = zlib.compressobj(wbits=31)
        chunks = [
            squeeze.compress(part) + squeeze.flush(zlib.Z_SYNC_FLUSH)
            for part in (
                event({"role": "assistant", "content": ""}),
                event({"content": "hi"}),
                event({}, "stop") + DONE,
            )
        ]
        call = exchange(chunks=[*chunks, squeeze.flush()], kind=SSE)
        call.response_headers.append((b"content-encoding", b"gzip"))
        made = Pipeline(Config()).process(call)

        assert (made.text, made.first_chunk_ns, made.first_token_ns, made.last_chunk_ns) == ("hi", 1000, 2000, 4000)


class TestOutcome:
    @pytest.mark.parametrize(
        ("more", "outcome", "kind"),
        [
            ({"outcome": "error", "error_type": "ReadError"}, "error", "ReadError"),
            ({"status": 500}, "error", "HTTP 500"),
            ({"status": 304}, "error", "HTTP 304"),
            ({"outcome": "cancelled", "status": None, "eof": False}, "cancelled", None),
            (
                {"outcome": "abandoned", "eof": False, "chunks": [event({"content": "x"})], "kind": SSE},
                "abandoned",
                None,
            ),
            ({"outcome": "abandoned", "eof": False, "chunks": [event({}, "stop"), DONE], "kind": SSE}, "ok", None),
            ({"outcome": "cancelled", "eof": False, "chunks": [event({}, "stop"), DONE], "kind": SSE}, "ok", None),
            ({"chunks": [event({"content": "x"})], "kind": SSE}, "error", "IncompleteStream"),
        ],
    )
    def test_outcome(self, more, outcome, kind):
        """The connection's word, then the status and the body, then the last event."""
        made = record(**more)

        assert (made.outcome, made.error_type) == (outcome, kind)
        assert made.usage is None

    def test_estimate_is_marked(self):
        """A stream without usage gets an estimate, said to be one; switched off it gets none."""
        chunks = [event({"content": "four four"}, "stop"), DONE]

        made = record(chunks=chunks, kind=SSE)
        assert made.usage is None and made.input_tokens is None
        assert (made.estimate.estimated, made.estimate.output_tokens, made.estimate.input_tokens) == (True, 3, 2)
        assert record(chunks=chunks, kind=SSE, config={"estimate_tokens": False}).estimate is None


class TestRedaction:
    SECRET = "sk-proj-abcdefghij0123456789"

    def test_texts_are_read_again(self):
        """What is taken out of the bodies is nowhere in what was read from them; the facts stay."""
        request = {
            **REQUEST,
            "messages": [{"role": "user", "content": f"my key is {self.SECRET}"}],
            "user": self.SECRET,
        }
        tool = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"k": self.SECRET})}}
        message = {"role": "assistant", "content": f"I saw {self.SECRET}", "tool_calls": [tool]}
        made = record(answer(choices=[{"message": message, "finish_reason": "stop"}]), request=request)

        assert self.SECRET not in repr(made)
        assert made.text == f"I saw {MARK}" and MARK in made.messages[0].parts[0].content
        assert (made.usage.input_tokens, made.response_id, made.finish_reasons) == (3, "c1", ("stop",))

    @pytest.mark.parametrize("size", [1, 3, 1000])
    def test_what_comes_in_pieces_is_found(self, size):
        """A rule that matches only the text put together withholds the stream's bytes."""
        text = "write to john.doe@example.com now"
        chunks = [event({"content": text[at : at + size]}) for at in range(0, len(text), size)]
        made = record(chunks=[*chunks, event({}, "stop"), DONE], kind=SSE, config={"redact": [r"[\w.]+@[\w.]+"]})

        assert made.text == f"write to {MARK} now"
        assert b"john" not in made.response_body.content and "example.com" not in repr(made)
        assert bool(made.response_body.content) == (size == 1000)
        assert any("withheld" in warning for warning in made.warnings) == (size != 1000)

    def test_a_rule_that_fails_withholds_the_content(self):
        """The numbers stay, no text does."""
        made = record(answer("private"), config={"redact": lambda content: content.decode().upper()})

        assert "private" not in repr(made) and "question" not in repr(made)
        assert (made.usage.input_tokens, made.outcome) == (3, Outcome.OK)

    def test_f26_a_rule_that_takes_too_long_withholds_the_content(self, monkeypatch):
        """Of what it had no time for no text is kept; the numbers are."""
        monkeypatch.setattr("asgi_llmobs.redaction.RULE_SECONDS", 0.0)
        made = record(answer("private"), config={"redact": lambda content: content})

        assert "private" not in repr(made) and "question" not in repr(made) and "too long" in repr(made)
        assert (made.usage.input_tokens, made.outcome) == (3, Outcome.OK)

    def test_error_messages_too(self):
        """What the provider complains about may quote what it was sent."""
        body = json.dumps({"error": {"message": f"Incorrect API key: {self.SECRET}", "type": "auth"}}).encode()
        made = record(body, status=401)

        assert made.error_message == f"Incorrect API key: {MARK}" == made.attempts[0].error_message
        assert self.SECRET not in repr(made)

    def test_a_long_body_with_a_secret_is_still_read(self):
        """What is stored is bounded, what is read again is not."""
        request = {**REQUEST, "messages": [{"role": "user", "content": f"{self.SECRET} " + "long " * 2_000}] * 3}
        made = record(answer(), request=request, config={"max_body": 2_048})

        assert len(made.messages) == 3 and MARK in made.messages[2].parts[0].content
        assert len(made.request_body.content) == 2_048


def test_what_we_cannot_work_on_is_kept_without_its_bodies(monkeypatch):
    """Our own bug costs the reading, not the record."""
    monkeypatch.setattr("asgi_llmobs.pipeline.judge", lambda *args: 1 / 0)
    call = exchange(answer(), status=503)
    call.url += "?key=secret-of-mine"
    made = Pipeline(Config()).process(call)

    assert (made.id, made.outcome, made.status, made.provider, made.error_type) == (
        "a" * 16,
        "error",
        503,
        "openai",
        "HTTP 503",
    )
    assert "could not be worked on" in made.warnings[0] and "secret-of-mine" not in repr(made)
    assert made.request_body is None and made.usage is None


def test_bodies_given_up_are_said_to_be():
    """A call that lost its bodies while it waited."""
    call = exchange(b"", request=b"")
    call.request_chunks, call.response_chunks = [], []
    call.request_truncated = call.response_truncated = True
    call.request_size, call.response_size = 100, 200
    made = Pipeline(Config()).process(call)

    assert (made.request_body.size, made.response_body.size, made.response_body.content) == (100, 200, b"")
    assert [warning for warning in made.warnings if "given up" in warning]


def test_metadata_only():
    """Neither texts nor bodies of calls and of spans."""
    span = Span(id="1" * 16, trace_id="2" * 32, input="question", output="private", error_message="private")
    made = Pipeline(Config(capture="metadata")).process(span)

    assert (made.input, made.output, made.error_message) == (None, None, None)


def test_spans_are_redacted():
    """What decorators noted is text like any other."""
    span = Span(
        id="1" * 16, trace_id="2" * 32, input=f"k={TestRedaction.SECRET}", output="\ud800 ok", error_message="x"
    )
    made = Pipeline(Config()).process(span)

    assert (made.input, made.output) == (f"k={MARK}", "\ud800 ok")


def test_a_running_call():
    """What is known of it so far."""
    call = exchange(chunks=[], outcome=Outcome.RUNNING, eof=False, status=None, end_clock_ns=None)
    made = Pipeline(Config()).running(call)

    assert (made.outcome, made.request_model, made.duration_ns, made.cost.amount) == ("running", "gpt-4o", None, None)


def test_what_the_spool_saw_compressed_is_looked_through_when_it_is_read():
    """A body in which the spool found nothing may hold a credential once it is unpacked."""
    secret = "sk-" + "0123456789abcdef" * 2
    headers = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]

    found = record(gzip.compress(answer(secret)), suspect=False, response_headers=headers)

    assert secret.encode() not in found.response_body.content
    assert MARK.encode() in found.response_body.content


def test_what_the_app_says_of_a_span_is_redacted():
    """Names, ids and properties, by their looks and by what the property is called."""
    secret = TestRedaction.SECRET
    said = {"name": f"use {secret}", "user_id": secret, "session_id": secret, "session_path": f"/a/{secret}"}
    properties = {"note": f"k={secret}", "password": "hunter2", secret: "1", "plan": "pro"}
    span = Pipeline(Config()).process(Span(id="1" * 16, trace_id="2" * 32, properties=properties, **said))
    call = record(answer(), properties=properties, **said)

    for made in (span, call):
        assert dict(made.properties) == {"note": f"k={MARK}", "password": MARK, MARK: "1", "plan": "pro"}
        assert (made.name, made.user_id, made.session_id) == (f"use {MARK}", MARK, MARK)
        assert made.session_path == f"/a/{MARK}"


@pytest.mark.parametrize("size", [3, 1_000])
def test_arguments_of_a_tool_that_come_in_pieces(size):
    """A key may have no looks: it is known by its name once the pieces are put together."""
    deeper = json.dumps({"api_key": "hunter2-2"})
    text = json.dumps({"city": "Oslo", "access_token": "hunter2-hunter2", "deeper": deeper})
    start = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    deltas = [start, *({"index": 0, "function": {"arguments": piece}} for piece in pieces)]
    made = record(
        chunks=[event({"tool_calls": [delta]}) for delta in deltas] + [event({}, "tool_calls"), DONE], kind=SSE
    )

    assert "hunter2" not in repr(made)
    assert "Oslo" in repr(made.tool_calls)
