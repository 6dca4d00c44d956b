"""Calls and spans as bytes: what comes back, and what must not be in there at all."""

from dataclasses import replace
from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llmobs.capture.annotations import Annotations
from asgi_llmobs.records import Exchange, Outcome, columns
from asgi_llmobs.spool import revival, serial
from asgi_llmobs.spool.frames import Kind
from tests.spool.calls import TOKEN, call, finish, span, stream

RESOLVE = revival.resolver(())
NOT_KEPT = {"trace", "suspect", "request_headers", "response_headers", "origin"}


def through(exchange: Exchange) -> Exchange:
    """The call as it comes back from one record of its end."""
    payload = serial.end(exchange, serial.secrets_in(exchange), 0, started=False)
    return revival.exchange_of([(Kind.END, payload)], RESOLVE)


def test_a_call_comes_back_as_it_was() -> None:
    """Every field, but for the trace, and headers that are not kept."""
    before = finish(
        call(
            annotations=Annotations(request_id="r", node_id="a:b", prompt_id="p", model_override="m"),
            properties={"tier": "gold"},
            session_id="s",
            user_id="u",
            caller="app.py:3 ask",
            attempt=2,
            stages={"queue": 5, "send": 7},
        ),
        b'{"a":',
        b"1}",
    )

    after = through(before)

    for name in set(columns(Exchange)) - NOT_KEPT:
        assert getattr(after, name) == getattr(before, name), name
    assert after.request_headers == [(b"content-type", b"application/json")]
    assert after.response_headers == [(b"content-type", b"application/json")]


def test_what_an_earlier_version_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record without the field that was added last is read, and has nothing in it."""
    before = finish(call(stages={"queue": 5}))
    monkeypatch.setattr(serial, "plain_values", attrgetter(*serial.PLAIN[:-1]))

    after = through(before)

    assert (after.stages, after.caller, after.status) == (None, before.caller, 200)


@given(
    st.binary(max_size=300),
    st.lists(st.binary(min_size=1, max_size=50), max_size=20),
    st.dictionaries(st.text(st.characters(), max_size=9), st.text(st.characters(), max_size=9), max_size=3),
    st.text(st.characters(), max_size=30),
)
def test_whatever_its_bytes_and_texts_are(
    request: bytes, chunks: list[bytes], properties: dict[str, str], text: str
) -> None:
    """Any bytes, lone surrogates and NULs too."""
    before = finish(call(request, properties=properties, caller=text), *chunks)

    after = through(before)

    assert (b"".join(after.request_chunks), after.response_chunks) == (request, chunks)
    assert (after.chunk_clocks, after.properties, after.caller) == (before.chunk_clocks, properties, text)


def test_a34_no_credential_enters() -> None:
    """Headers that are not on the list, secrets of the address, and bodies and errors that quote them."""
    url = "https://user:pass-word-1234567890@h.example/v1/chat/completions?api_key=query-secret-123456&x=1"
    secret = TOKEN.encode()
    before = finish(call(b'{"k":"' + secret + b'"}', url=url), b"your key query-secret-123456 ", b"is wrong")
    before.error_type, before.error_message = "E", f"{TOKEN} refused"

    secrets = serial.secrets_in(before)
    whole = serial.begun(before, secrets) + serial.part(before, secrets, 0, 2)
    whole += serial.end(before, secrets, 0, started=False)

    for word in (secret, b"query-secret", b"pass-word", b"secret=1"):
        assert word not in whole
    assert through(before).url.endswith("?api_key=[redacted]&x=1")


def test_what_was_looked_through_is_remembered() -> None:
    """In whole and without a find; what is omitted, quotes a credential, or is not written was not looked through."""

    def told(exchange: Exchange, **given: bool) -> bool | None:
        finish(exchange, b'{"content":"hello"}')
        serial.end(exchange, serial.secrets_in(exchange), 0, started=False, **given)
        return exchange.suspect

    assert told(call()) is False
    assert told(call(), bodies=False) is None
    assert told(call(omit_request=True)) is True
    assert told(call(b"sk-0123456789abcdef0123")) is True
    assert told(call(TOKEN.encode())) is True
    assert told(call(suspect=True)) is True  # as an earlier record told


def test_omitted_bodies_never_enter() -> None:
    """Neither side, nor an error that may quote it; sizes stay."""
    before = finish(call(b"sent-words", omit_request=True, omit_response=True), b"got-words")
    before.error_type, before.error_message = "E", "got-words"
    secrets = serial.secrets_in(before)

    whole = serial.begun(before, secrets) + serial.part(before, secrets, 0, 1)
    whole += serial.end(before, secrets, 0, started=False)

    assert b"words" not in whole
    after = through(before)
    assert (after.request_size, after.response_size, after.request_truncated) == (10, 9, False)


def test_a_call_of_start_parts_and_end() -> None:
    """Each chunk is written once and comes back once."""
    exchange = call(b"sent")
    secrets = serial.secrets_in(exchange)
    records: list[tuple[int, bytes]] = [(Kind.START, serial.begun(exchange, secrets))]
    stream(exchange, b"a", b"b")
    records.append((Kind.PART, serial.part(exchange, secrets, 0, 2)))
    finish(exchange, b"c")
    records.append((Kind.END, serial.end(exchange, secrets, 2, started=True)))

    after = revival.exchange_of(records, RESOLVE)

    assert (after.request_chunks, after.response_chunks, after.outcome) == ([b"sent"], [b"a", b"b", b"c"], "ok")
    assert after.chunk_clocks == exchange.chunk_clocks
    # the part is damaged: the gap is told
    gap = revival.exchange_of([records[0], records[2]], RESOLVE)
    assert (gap.response_chunks, gap.response_truncated) == ([b"c"], True)
    # the start is damaged: the request is
    cut = revival.exchange_of(records[1:], RESOLVE)
    assert (cut.request_chunks, cut.request_truncated, cut.response_chunks) == ([], True, [b"a", b"b", b"c"])


def test_without_its_end_it_was_interrupted() -> None:
    """It lasted until the last chunk, and keeps what had streamed."""
    exchange = call()
    secrets = serial.secrets_in(exchange)
    begun = serial.begun(exchange, secrets)
    stream(exchange, b"hel", b"lo")

    after = revival.exchange_of([(Kind.START, begun), (Kind.PART, serial.part(exchange, secrets, 0, 2))], RESOLVE)

    assert (after.outcome, after.response_chunks, after.eof) == (Outcome.INTERRUPTED, [b"hel", b"lo"], False)
    assert (after.end_clock_ns, after.status, after.chunks) == (exchange.chunk_clocks[-1], 200, 2)
    assert (after.response_size, after.headers_clock_ns) == (5, exchange.headers_clock_ns)


def test_a_start_written_again_stands_for_what_was_before() -> None:
    """A call that was moved has its parts once."""
    exchange = call()
    secrets = serial.secrets_in(exchange)
    begun = (Kind.START, serial.begun(exchange, secrets))
    stream(exchange, b"a")
    piece = (Kind.PART, serial.part(exchange, secrets, 0, 1))

    assert revival.exchange_of([begun, piece, begun, piece], RESOLVE).response_chunks == [b"a"]


def test_a_span_comes_back() -> None:
    """Every field; one that was open comes back as interrupted; without texts where they are not kept."""
    before = span(input="in", output="out", attributes={"a": [1, {"b": None}]}, properties={"x": "y"}, status=200)
    payload = serial.span(before, full=True)

    assert revival.span_of(payload, None) == before
    assert revival.root_of(payload, {"pid": 7}) == replace(before, outcome="interrupted", pid=7)
    bare = revival.span_of(serial.span(before, full=False), None)
    assert (bare.input, bare.output, bare.status) == (None, None, 200)


def test_an_unknown_dialect_is_read_as_plain_json() -> None:
    """A provider that the app no longer adds does not cost the call."""
    found = RESOLVE("mine", "mine.chat", "chat", "POST", "http://localhost:1/mine")

    assert (found.provider, found.dialect.api) == ("mine", "other")
    assert RESOLVE("x", "openai.chat", "chat", "POST", "http://localhost:1/?").dialect.api == "openai.chat"


@pytest.mark.parametrize("payload", [b"", b"\0" * 28, b"x" * 40])
def test_garbage_is_refused(payload: bytes) -> None:
    """What is no record of ours raises, and is counted above."""
    with pytest.raises((ValueError, Exception)):
        revival.exchange_of([(Kind.END, payload)], RESOLVE)
