"""No body makes a dialect fail: garbage, cut, deep, null-filled or of the wrong types, it is read as far as it goes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llmobs.providers import ANY_HOST, GENERIC, PROVIDERS, Match, Wire, match, read
from asgi_llmobs.providers.base import Dialect

UNREAD = "this exchange could not be read in full"
DIALECTS: tuple[Dialect, ...] = tuple(
    {
        (dialect.api, dialect.read): dialect
        for dialect in [
            GENERIC.dialect,
            *(route.dialect for provider in PROVIDERS for route in provider.routes),
            *(route.dialect for route in ANY_HOST),
        ]
        if dialect is not None
    }.values()
)

# every name that any dialect asks for, so that random objects reach the deep places
NAMES = """id model object type usage choices index delta message content text role finish_reason tool_calls function
name arguments reasoning reasoning_content reasoning_details refusal audio transcript data logprobs error code status
output item output_index content_index response summary call_id result results prompt_tokens completion_tokens
total_tokens input_tokens output_tokens prompt_tokens_details cached_tokens messages tools system input instructions
user stream prompt candidates parts functionCall args usageMetadata promptTokenCount thought inlineData mimeType
toolUse contentBlockDelta contentBlockIndex start metadata stopReason completion generation generations embedding
embeddings billed_units tokens meta done prompt_eval_count images image_url url b64_json input_audio format file
file_data steps outputs predictions instances contents stop_reason thinking signature cache_creation x_groq
message_start content_block content_block_delta detail errors success toolResult json source bytes event_type
""".split()

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["message", "text", "reasoning", "function_call", "tool_use", "thinking", "data:,x", "0"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=30,
)
OBJECTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=10)
STATUSES = st.sampled_from([200, 200, 200, 204, 400, 401, 429, 500, None])
TYPES = st.sampled_from(
    [
        "application/json",
        "text/event-stream",
        "application/x-ndjson",
        "application/vnd.amazon.eventstream",
        "audio/mpeg",
        "multipart/form-data; boundary=x",
        "text/html",
        "",
    ]
)


def read_by_all(request: bytes, answer: bytes, status: int | None, kind: str) -> None:
    """Read one exchange in every dialect; none may fail, and none may place content where there are no bytes."""
    wire = Wire(
        path="/v1/models/m:streamGenerateContent",
        request_headers={"content-type": kind},
        request_body=request,
        status=status,
        response_headers={"content-type": kind},
        response_body=answer,
        complete=False,
    )
    for dialect in DIALECTS:
        reading = read(wire, Match("test", dialect))
        assert UNREAD not in reading.warnings, dialect.api
        assert reading.content_offset is None or 0 <= reading.content_offset <= len(answer), dialect.api


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "replace")


@given(request=OBJECTS | VALUES, answer=OBJECTS | VALUES, status=STATUSES, kind=TYPES)
def test_any_json(request: Any, answer: Any, status: int | None, kind: str) -> None:
    """Objects made of the right names with the wrong values are read without a failure."""
    read_by_all(dumped(request), dumped(answer), status, kind)


@given(answers=st.lists(OBJECTS | VALUES, max_size=5), end=st.integers(0, 40), named=st.booleans())
def test_any_stream(answers: list[Any], end: int, named: bool) -> None:
    """Streams of such objects, cut anywhere, are read without a failure."""
    head = b"event: error\ndata: " if named else b"data: "
    sse = b"".join(head + dumped(answer) + b"\n\n" for answer in answers)
    lines = b"".join(dumped(answer) + b"\n" for answer in answers)
    for body, kind in ((sse, "text/event-stream"), (lines, "application/x-ndjson")):
        read_by_all(b"{}", body[: max(0, len(body) - end)], 200, kind)


@given(request=st.binary(max_size=200), answer=st.binary(max_size=200), status=STATUSES, kind=TYPES)
def test_any_bytes(request: bytes, answer: bytes, status: int | None, kind: str) -> None:
    """Bytes that mean nothing are read without a failure."""
    read_by_all(request, answer, status, kind)


def hostile() -> Iterator[tuple[str, bytes]]:
    """Bodies that broke parsers."""
    yield "deep lists", b"[" * 20_000
    yield "deep objects", b'{"choices":' * 10_000 + b"1" + b"}" * 10_000
    yield "deep but allowed", b'{"output":' * 250 + b"1" + b"}" * 250
    yield "deep content", b'{"choices":[{"message":{"content":' + b"[" * 200 + b"]" * 200 + b"}}]}"
    yield "numbers of a million digits", b'{"usage":{"prompt_tokens":' + b"9" * 1_000_000 + b"}}"
    yield "NaN", b'{"usage":{"prompt_tokens":NaN,"completion_tokens":Infinity,"input_tokens":-Infinity}}'
    yield "lone surrogate", b'{"choices":[{"message":{"content":"\\ud800"}}],"message":{"content":"\\ud800"}}'
    yield "NUL", b'{"choices":[{"message":{"content":"a\\u0000b"}}]}'
    yield "not UTF-8", b'{"choices":[{"message":{"content":"\xff\xfe"}}]}'
    yield "only a BOM", b"\xef\xbb\xbf"
    yield "open string", b'{"a":"' + b'\\"' * 10_000 + b"[{" * 1000
    yield "nulls", b'{"choices":null,"usage":null,"output":null,"content":null,"candidates":null,"message":null}'
    yield "lists of nulls", b'{"choices":[null],"output":[null],"content":[null],"candidates":[null],"data":[null]}'
    yield "events of nothing", b"data:\n\ndata: \n\ndata: null\n\ndata: []\n\ndata: 1\n\nevent: x\n\n"
    yield "an event without an end", b"data: {"
    yield "huge index", b'{"choices":[{"index":99999999999999999999,"message":{"content":"a"}}]}'
    yield "a page", b"<!doctype html><title>502 Bad Gateway</title>"


@pytest.mark.parametrize("body", [body for _, body in hostile()], ids=[name for name, _ in hostile()])
def test_hostile_bodies(body: bytes) -> None:
    """Each of them is read without a failure, as request and as answer."""
    for status, kind in ((200, "application/json"), (200, "text/event-stream"), (500, "application/json")):
        read_by_all(body, body, status, kind)


STREAMS = {
    "openai.chat": (
        "/v1/chat/completions",
        [
            {"id": "c1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Grüße"}}]},
            {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f"}}]}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}},
        ],
    ),
    "openai.responses": (
        "/v1/responses",
        [
            {"type": "response.created", "response": {"id": "r1", "output": []}},
            {"type": "response.output_text.delta", "output_index": 0, "delta": "Grüße"},
            {"type": "response.completed", "response": {"id": "r1", "status": "completed", "output": []}},
        ],
    ),
    "anthropic.messages": (
        "/v1/messages",
        [
            {"type": "message_start", "message": {"id": "m1", "usage": {"input_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Grüße"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        ],
    ),
}


@pytest.mark.parametrize("path, events", STREAMS.values(), ids=STREAMS)
def test_cut_at_every_byte(path: str, events: list[dict[str, Any]]) -> None:
    """However early a stream breaks off, what came is read, its text is a prefix, and it has not ended."""
    body = b"".join(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n" for event in events)
    found = match("POST", "localhost", None, path)
    assert found is not None

    for end in range(len(body)):
        wire = Wire(
            path=path, response_headers={"content-type": "text/event-stream"}, response_body=body[:end], complete=False
        )
        reading = read(wire, found)
        assert reading.warnings == []
        assert "Grüße".startswith(reading.text)
        assert bool(reading.text) == (reading.content_offset is not None) or reading.tool_calls
    assert reading.text == "Grüße"
