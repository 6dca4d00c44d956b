"""Calls on their way out: ways of watching, retries, redirects, early ends, secrets, threads, our own bugs."""

import asyncio
import gc
import inspect
import json
import logging
import sys
import threading
import time
import tracemalloc

import httpx
import httpx2
import pytest

from asgi_llmobs import LLMObs, annotate, trace, uninstrument_httpx
from asgi_llmobs.capture import annotations, call, caller, clients, outbound, retries, streams
from asgi_llmobs.context import Place, Trace, place, suppress
from asgi_llmobs.errors import UnsupportedClient
from asgi_llmobs.records import Outcome
from asgi_llmobs.safely import failures
from asgi_llmobs.testing import capture

URL = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
BUSY = {"error": {"message": "slow down", "type": "rate_limit_error", "code": None}}


@pytest.fixture(params=["httpx", "httpx2"])
def family(request):
    """Each of the two client libraries."""
    return sys.modules[request.param]


@pytest.fixture
def captured():
    """Everything is watched and recorded in memory."""
    retries.retries.reset_after_fork()
    with capture() as captured:
        yield captured
    clients.uninstrument()


@pytest.fixture
def unwatched():
    """Only what is wrapped is recorded."""
    retries.retries.reset_after_fork()
    uninstrument_httpx()  # an engine of another test may have left every client watched
    with capture(instrument="off") as captured:
        yield captured


def scripted(family, *answers):
    """A transport that gives these answers one after the other, the last one for ever; what it was sent is kept."""
    left = list(answers) or [(200, ANSWER)]
    seen = []

    def handle(request):
        seen.append(request)
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, BaseException):
            raise answer
        status, body, *headers = answer
        return family.Response(status, json=body, headers=dict(headers[0]) if headers else None)

    transport = family.MockTransport(handle)
    transport.seen = seen
    return transport


def sse(family, events, *, hold=None, is_async=False):
    """A transport whose answer is a stream of these events."""
    base = family.AsyncByteStream if is_async else family.SyncByteStream

    class Stream(base):
        def __iter__(self):
            yield from events
            if hold:
                hold()

        async def __aiter__(self):
            for event in events:
                yield event
            if hold:
                await hold()

    def handle(request):
        return family.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream())

    return family.MockTransport(handle)


def piece(content, finish=None):
    data = {
        "id": "c1",
        "model": "gpt-4o",
        "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(data).encode() + b"\n\n"


EVENTS = [piece("he"), piece("llo", "stop"), b"data: [DONE]\n\n"]


class TestH01Wrap:
    def test_h01_gives_the_same_object_and_can_be_undone(self, family, unwatched):
        """Wrapping works in place, twice is once, and unwrapping restores every transport."""
        inner, mounted = scripted(family), scripted(family)
        client = family.Client(
            transport=inner, mounts={"http://local": mounted, "http://off": None, "all://x": mounted}
        )
        obs = unwatched.obs

        assert obs.wrap(client) is client and obs.wrap(client) is client
        client.post(URL, json=BODY)
        client.post("http://local/v1/chat/completions", json=BODY)
        assert len(unwatched.requests) == 2
        assert list(client._mounts.values()).count(None) == 1
        assert len({id(one) for one in client._mounts.values() if one is not None}) == 1

        assert obs.unwrap(client) is client and obs.unwrap(client) is client
        assert (client._transport, mounted in client._mounts.values()) == (inner, True)
        client.post(URL, json=BODY)
        assert len(unwatched.requests) == 2

    @pytest.mark.parametrize("name", ["OpenAI", "AsyncOpenAI", "Anthropic", "AsyncAnthropic"])
    def test_h01_finds_the_client_inside_an_sdk(self, unwatched, name):
        """An SDK's object stays what it is, with the client inside it watched."""
        sdk = getattr(pytest.importorskip("openai" if "OpenAI" in name else "anthropic"), name)(api_key="none")
        before = type(sdk._client)

        assert unwatched.obs.wrap(sdk) is sdk
        assert type(sdk._client) is before
        assert isinstance(sdk._client._transport, clients.WatchedTransport)
        unwatched.obs.unwrap(sdk)
        assert not isinstance(sdk._client._transport, clients.WatchedTransport)

    def test_h01_refuses_what_holds_no_client(self, unwatched):
        """The error says what to do instead."""
        with pytest.raises(UnsupportedClient, match="transport=obs.transport"):
            unwatched.obs.wrap(object())


def test_h02_response_streams_are_of_the_responses_family(family, captured):
    """The client insists on its own stream classes; attributes of the inner stream stay reachable."""
    client = family.Client(transport=sse(family, EVENTS))
    with client.stream("POST", URL, json=BODY) as response:
        assert isinstance(response.stream, family.SyncByteStream)
        response.read()

    assert response.elapsed.total_seconds() >= 0


def test_h02_a_stream_of_the_wrong_kind_is_refused_as_ever(family, unwatched):
    """A transport that is broken stays broken."""
    client = family.Client(transport=unwatched.obs.transport(sse(family, EVENTS, is_async=True)))
    with pytest.raises(AssertionError):
        client.post(URL, json=BODY)

    assert [record.outcome for record in unwatched.requests] == [Outcome.ABANDONED]


def test_h03_an_answer_that_was_read_already_is_finished_at_once(family, captured):
    """Mocks and caches give responses whose stream nobody iterates."""
    family.Client(transport=scripted(family)).post(URL, json=BODY)
    (record,) = captured.requests

    assert (record.outcome, record.text, captured.obs.stats().open) == (Outcome.OK, "hello", 0)


def test_h04_the_dialect_tells_the_end(family, captured):
    """A stream that is closed right after its last event is complete, though its end was never reached."""
    with family.Client(transport=sse(family, [*EVENTS, b"\n"])).stream("POST", URL, json=BODY) as response:
        for line in response.iter_lines():
            if "[DONE]" in line:
                break
    (record,) = captured.requests

    assert (record.outcome, record.text, record.usage) == (Outcome.OK, "hello", None)


@pytest.mark.parametrize(
    ("last", "ends"),
    [
        (b'event: message_stop\ndata: {"type":"message_stop"                    }\n\n', True),
        (b'data: {"type":"message_stop"}', True),
        (b'data: {"type":"message_stop"', False),
        (b"event: message_stop\n", False),
        (b'data: {"text": "\\"message_stop\\""}\n\n', False),
    ],
)
def test_h04_a_stream_that_nobody_closes_ends_with_its_last_event(family, captured, last, ends):
    """A client that stops reading after it, and never closes, leaves no call running."""
    client = family.Client(transport=sse(family, [*EVENTS[:-1], last]))
    response = client.send(client.build_request("POST", URL, json=BODY), stream=True)
    chunks = iter(response.stream)
    for _ in EVENTS:
        next(chunks)

    assert captured.obs.stats().open == (0 if ends else 1)
    response.close()
    assert (len(captured.requests), captured.obs.stats().open) == (1, 0)


@pytest.mark.parametrize("how", ["close", "never", "collect"])
def test_h05_what_is_left_early_is_abandoned(family, captured, how):
    """One record, with what was seen, and no usage that nobody told."""
    client = family.Client(transport=sse(family, [EVENTS[0], EVENTS[0]]))
    response = client.send(client.build_request("POST", URL, json=BODY), stream=True)
    if how != "never":
        next(iter(response.stream))
    if how == "close":
        response.close()
        response.close()
    del response
    gc.collect()
    (record,) = captured.requests

    assert (record.outcome, record.usage) == (Outcome.ABANDONED, None)
    assert record.text == ("" if how == "never" else "he")


@pytest.mark.parametrize("error", ["ConnectError", "ReadTimeout", "RemoteProtocolError", "PoolTimeout"])
def test_h06_exceptions_are_the_same_object(family, captured, error):
    """What the transport raises arrives, and is recorded with its type."""
    raised = getattr(family, error)("boom")
    with pytest.raises(getattr(family, error)) as info:
        family.Client(transport=scripted(family, raised)).post(URL, json=BODY)
    (record,) = captured.requests

    assert info.value is raised
    assert (record.outcome, record.error_type, record.error_message) == (Outcome.ERROR, error, "boom")


def test_h06_a_timeout_of_the_app_is_a_cancellation(family, captured):
    """``asyncio.timeout`` around a stream: cancelled, with the text that had come."""

    async def main():
        async def hang():
            await asyncio.sleep(30)

        client = family.AsyncClient(transport=sse(family, EVENTS[:1], hold=hang, is_async=True))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.post(URL, json=BODY)

    asyncio.run(main())
    (record,) = captured.requests

    assert (record.outcome, record.error_type, record.text) == (Outcome.CANCELLED, "CancelledError", "he")


def test_h07_accept_encoding_is_not_changed(family, captured):
    """What the client asks for is what it asked for."""
    transport = scripted(family)
    family.Client(transport=transport, headers={"accept-encoding": "zstd;q=0.1, br"}).post(URL, json=BODY)

    assert transport.seen[0].headers["accept-encoding"] == "zstd;q=0.1, br"


def test_h08_chunks_are_passed_on_at_once(family, captured):
    """The stream is not read ahead: what comes is seen before the next is asked for."""
    asked = []

    class Stream(family.SyncByteStream):
        def __iter__(self):
            for event in EVENTS:
                asked.append(event)
                yield event

    transport = family.MockTransport(lambda request: family.Response(200, stream=Stream()))
    with family.Client(transport=transport).stream("POST", URL, json=BODY) as response:
        for number, chunk in enumerate(response.iter_raw(), 1):
            assert (chunk, len(asked)) == (EVENTS[number - 1], number)


class TestH09Bounds:
    def test_h09_a_long_answer_does_not_grow_memory(self, family):
        """Head and tail are kept, the size is counted and the hash covers all of it; usage at the end is found."""
        import hashlib

        filler = b": " + b"x" * 65_533 + b"\n"
        usage = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\n'
        events = [EVENTS[0], *[filler] * 640, usage, b"data: [DONE]\n\n"]
        with capture(max_body=64 * 1024) as captured:
            client = family.Client(transport=sse(family, events))
            tracemalloc.start()
            with client.stream("POST", URL, json=BODY) as response:
                for _ in response.iter_raw():
                    pass
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            (record,) = captured.requests

        assert peak < 4_000_000
        assert record.response_body.size == sum(map(len, events)) == response.num_bytes_downloaded
        assert record.response_body.sha256 == hashlib.sha256(b"".join(events)).hexdigest()
        assert len(record.response_body.content) <= 64 * 1024 and record.response_body.truncated
        assert (record.usage.input_tokens, record.usage.output_tokens) == (3, 4)
        assert record.chunks == len(events)

    def test_h09_very_many_small_chunks(self, family, captured):
        """A hundred thousand chunks cost what their bytes cost; the text is whole."""
        events = [piece("a") for _ in range(20)]
        body = b"".join([*events, EVENTS[-1]])
        chunks = [body[at : at + 1] for at in range(len(body))] + [b":\n"] * 50_000
        with family.Client(transport=sse(family, chunks)).stream("POST", URL, json=BODY) as response:
            got = b"".join(response.iter_raw())
        (record,) = captured.requests

        assert got == b"".join(chunks)
        assert (record.text, record.chunks, record.warnings) == ("a" * 20, len(chunks), ())
        assert record.response_body.size == len(got)

    def test_h09_a_request_of_fifty_megabytes(self, family, captured):
        """A large image in a request: head and tail are kept, what is between is not held, and the record says so."""
        image = "A" * 50_000_000
        part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
        client = family.Client(transport=scripted(family))
        request = client.build_request("POST", URL, json={**BODY, "messages": [{"role": "user", "content": [part]}]})
        size = len(request.content)
        client.send(request)
        (record,) = captured.requests

        assert record.request_body.size == size > 50_000_000
        assert len(record.request_body.content) <= 2 * 1024 * 1024
        assert record.request_model == "gpt-4o"
        assert any("head and tail" in warning for warning in record.warnings)

    def test_h09_what_failed_is_not_held_on_to(self, family, captured):
        """A failed attempt is remembered for a retry without its body."""
        client = family.Client(transport=scripted(family, (500, BUSY)))
        response = client.post(URL, json={**BODY, "junk": "x" * 1_000_000})
        captured.obs.flush()

        (waiting,) = [past for found in retries.retries._failed.values() for past in found]
        marker = response.request.extensions[outbound.MARKER]
        assert (marker.exchange, marker.content, marker.past) == (None, b"", waiting)


class TestH10RequestBodies:
    def test_h10_a_generator_is_iterated_once(self, family, captured):
        """The pieces go out as they are made, and are noted."""
        made = []

        def pieces():
            for number in range(3):
                made.append(number)
                yield b'{"model": "gpt-4o"' if number == 0 else b" " if number == 1 else b"}"

        client = family.Client(transport=scripted(family))
        client.send(client.build_request("POST", URL, content=pieces()))
        (record,) = captured.requests

        assert made == [0, 1, 2]
        assert (record.request_body.content, record.request_model) == (b'{"model": "gpt-4o" }', "gpt-4o")

    def test_h10_an_upload_is_kept_by_name_type_and_size(self, family, captured):
        """Of files never the bytes."""
        files = {"file": ("talk.wav", b"RIFF" + bytes(5000), "audio/wav")}
        url = "https://api.openai.com/v1/audio/transcriptions"
        family.Client(transport=scripted(family, (200, {"text": "hello"}))).post(
            url, data={"model": "whisper-1"}, files=files
        )
        (record,) = captured.requests
        told = json.loads(record.request_body.content)["multipart"]

        assert told["files"] == [{"filename": "talk.wav", "type": "audio/wav", "size": 5004}]
        assert told["fields"] == {"model": "whisper-1"} and record.request_model == "whisper-1"
        assert b"RIFF" not in record.request_body.content


class TestH11Retries:
    def post(self, family, transport, count=None, body=BODY, **more):
        headers = {} if count is None else {"x-stainless-retry-count": str(count)}
        return family.Client(transport=transport).post(URL, json=body, headers=headers, **more)

    def test_h11_attempts_are_one_request(self, family, captured):
        """Told by the client's own count; each attempt keeps its status, error and Retry-After; only usage is paid."""
        transport = scripted(family, (429, BUSY, {"retry-after": "2"}), (503, BUSY), (200, ANSWER))
        for count in range(3):
            self.post(family, transport, count)
        (record,) = captured.requests

        assert [(one.number, one.status, one.outcome) for one in record.attempts] == [
            (1, 429, "error"),
            (2, 503, "error"),
            (3, 200, "ok"),
        ]
        assert [(one.retry_after, one.error_message) for one in record.attempts[:2]] == [
            ("2", "slow down"),
            (None, "slow down"),
        ]
        assert (record.outcome, record.usage.input_tokens, record.attempt) == (Outcome.OK, 5, 3)
        assert record.start_ns == record.attempts[0].start_ns

    def test_h11_without_a_count(self, family, captured):
        """The same body from the same place after a failure is the same request; after a success it is another one."""
        transport = scripted(family, (500, BUSY), (200, ANSWER), (200, ANSWER))
        for _ in range(3):
            self.post(family, transport)

        assert [len(record.attempts) for record in captured.requests] == [2, 1]

    def test_h11_network_errors_too(self, family, captured):
        """A connection that failed and was tried again."""
        transport = scripted(family, family.ConnectError("no route"), (200, ANSWER))
        with pytest.raises(family.ConnectError):
            self.post(family, transport, 0)
        self.post(family, transport, 1)
        (record,) = captured.requests

        assert [(one.outcome, one.error_type) for one in record.attempts] == [("error", "ConnectError"), ("ok", None)]

    def test_h11_what_differs_is_another_request(self, family, captured):
        """Another body, or a first attempt by the client's own count, starts anew."""
        transport = scripted(family, (500, BUSY))
        self.post(family, transport, 0)
        self.post(family, transport, 0)
        self.post(family, transport, 1, body={**BODY, "seed": 1})

        assert [len(record.attempts) for record in captured.requests] == [1, 1, 1]

    def test_h11_two_retried_calls_at_once(self, family, captured):
        """In the same trace, with the same body: two requests of three attempts each, not mixed."""

        async def one(name):
            left = [500, 503, 200]

            def handle(request):
                status = left.pop(0)
                return family.Response(status, json=ANSWER if status == 200 else BUSY, headers={"x-request-id": name})

            client = family.AsyncClient(transport=family.MockTransport(handle))
            for count in range(3):
                await asyncio.sleep(0)
                await client.post(URL, json=BODY, headers={"x-stainless-retry-count": str(count)})

        async def main():
            place.set(Place(Trace("a" * 32, "default", captured.obs.recorder), "b" * 16))
            await asyncio.gather(one("left"), one("right"))

        asyncio.run(main())
        records = captured.requests

        assert [[one.status for one in record.attempts] for record in records] == [[500, 503, 200]] * 2
        assert [len({one.provider_request_id for one in record.attempts}) for record in records] == [1, 1]
        assert {record.parent_id for record in records} == {"b" * 16}

    def test_h11_ten_thousand_failures_are_soon_forgotten(self, family, captured, monkeypatch):
        """What is remembered is bounded."""
        monkeypatch.setattr(retries, "MAX_WAITING", 20)
        transport = scripted(family, (500, BUSY))
        for number in range(50):
            self.post(family, transport, 0, body={**BODY, "seed": number})

        assert sum(map(len, retries.retries._failed.values())) <= 21
        assert len(captured.requests) == 50


class TestH12Redirects:
    @pytest.mark.parametrize("status", [307, 308])
    @pytest.mark.parametrize("mode", ["auto", "wrapped"])
    def test_h12_one_record(self, family, captured, status, mode):
        """However many hops, with the body, with and without wrapping."""
        if mode == "wrapped":
            clients.uninstrument()
        transport = scripted(
            family, (status, {}, {"location": "https://other.test/v1/chat/completions"}), (200, ANSWER)
        )
        client = family.Client(transport=transport, follow_redirects=True)
        if mode == "wrapped":
            captured.obs.wrap(client)
        client.post(URL, json=BODY, headers={"LLMObs-User-Id": "u1"})
        (record,) = captured.requests

        assert (record.status, record.text, record.user_id, record.provider) == (200, "hello", "u1", "openai")
        assert json.loads(transport.seen[1].content) == BODY
        assert json.loads(record.request_body.content) == BODY


class TestH15Delegation:
    def test_h15_contexts_and_closing_are_delegated_once(self, family, unwatched):
        """A wrapped transport is entered, left and closed as often as a bare one; its attributes are reachable."""
        log = []

        class Inner(family.BaseTransport):
            secret_sauce = 42

            def handle_request(self, request):
                return family.Response(200, json=ANSWER)

            def close(self):
                log.append("close")

            def __enter__(self):
                log.append("enter")
                return self

            def __exit__(self, *error):
                log.append("exit")

        transport = unwatched.obs.transport(Inner())
        with family.Client(transport=transport) as client:
            client.post(URL, json=BODY)
        assert (log, transport.secret_sauce, client.is_closed) == (["enter", "exit"], 42, True)
        transport.close()
        assert log[-1] == "close" and not hasattr(transport, "nothing_like_that")

    def test_h15_a_default_transport_is_made_where_none_is_given(self, family, unwatched, fake_url):
        """``obs.transport()`` is the family's own."""
        with family.Client(transport=unwatched.obs.transport()) as client:
            assert client.post(f"{fake_url}/v1/chat/completions", json=BODY).status_code == 200

        assert len(unwatched.requests) == 1


def test_h16_extensions_pass(family, captured):
    """What a transport says of its connection is still there."""

    def handle(request):
        return family.Response(200, json=ANSWER, extensions={"http_version": b"HTTP/2", "network_stream": "here"})

    response = family.Client(transport=family.MockTransport(handle)).post(URL, json=BODY, extensions={"own": 1})

    assert (response.http_version, response.extensions["network_stream"]) == ("HTTP/2", "here")
    assert response.request.extensions["own"] == 1


def test_h16_the_apps_own_extensions_are_not_written_to(family, captured):
    """A dict that the app shares between its requests stays its own."""
    shared = {"timeout": {"connect": 1.0, "read": 1.0, "write": 1.0, "pool": 1.0}}
    client = family.Client(transport=scripted(family))
    for _ in range(2):
        client.post(URL, json=BODY, extensions=shared)

    assert (list(shared), len(captured.requests)) == (["timeout"], 2)


CANARIES = {
    "authorization": "Bearer canary-authorization-1",
    "x-api-key": "canary-x-api-key-12",
    "api-key": "canary-api-key-1234",
    "x-goog-api-key": "canary-x-goog-api-key",
    "cookie": "session=canary-cookie-12345",
    "proxy-authorization": "Basic canary-proxy-auth",
}


class TestH17Secrets:
    def leak(self, family, status=200):
        """A provider that repeats everything it was told, and sets cookies."""

        def handle(request):
            echo = dict(request.headers.items())
            text = f"you sent {json.dumps(echo)} to {request.url}"
            body = {**ANSWER, "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
            headers = {"set-cookie": "s=canary-set-cookie-1", "x-echo": request.headers["authorization"]}
            return family.Response(
                status, json=body if status == 200 else {"error": {"message": text}}, headers=headers
            )

        return family.MockTransport(handle)

    @pytest.mark.parametrize("status", [200, 401])
    def test_h17_no_secret_is_in_a_record(self, family, captured, status):
        """Not in headers, address, bodies, texts or errors, even where the provider repeats them."""
        url = URL.replace("//", "//user:canary-password-1@") + "?key=canary-query-key-1&alt=sse"
        with family.Client(transport=self.leak(family, status)) as client:
            client.post(url, json={**BODY, "api_key": "canary-in-the-body"}, headers=CANARIES)
        (record,) = captured.requests

        assert "canary" not in repr(record)
        assert record.url.endswith("?key=[redacted]&alt=sse") and "api.openai.com" in record.url
        assert "[redacted]" in (record.text or record.error_message)
        assert record.status == status

    def test_h17_no_secret_is_in_the_database(self, family, tmp_path):
        """Nor in any file that the store writes."""
        store = tmp_path / "data" / "llmobs.db"
        obs = LLMObs(f"sqlite:///{store}", instrument="off")
        try:
            for status in (200, 401):
                client = obs.wrap(family.Client(transport=self.leak(family, status)))
                client.post(
                    f"{URL}?key=canary-query-key-1", json={**BODY, "api_key": "canary-body-1"}, headers=CANARIES
                )
            raising = obs.wrap(family.Client(transport=scripted(family, family.ReadError("with canary-x-api-key-12"))))
            with pytest.raises(family.ReadError):
                raising.post(URL, json=BODY, headers=CANARIES)
            assert obs.flush() and obs.stats().stored == 3
        finally:
            obs.close()

        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert files and not [path for path in files if b"canary" in path.read_bytes()]

    def test_h17_an_exception_that_quotes_a_header(self, family, captured):
        """The text of an error may hold what was sent."""
        error = family.LocalProtocolError("Illegal header value b'canary-x-api-key-12\\n'")
        with pytest.raises(family.LocalProtocolError):
            family.Client(transport=scripted(family, error)).post(URL, json=BODY, headers=CANARIES)
        (record,) = captured.requests

        assert "canary" not in repr(record) and record.error_message.startswith("Illegal header value")

    def test_h17_auth_flow_inside_a_send(self, family, captured):
        """A 401 and its second step: one record, in both ways of watching."""

        class Flow(family.Auth):
            def auth_flow(self, request):
                response = yield request
                if response.status_code == 401:
                    request.headers["authorization"] = "Bearer canary-second-step"
                    yield request

        family.Client(transport=scripted(family, (401, BUSY), (200, ANSWER)), auth=Flow()).post(URL, json=BODY)
        client = captured.obs.wrap(family.Client(transport=scripted(family, (401, BUSY), (200, ANSWER)), auth=Flow()))
        clients.uninstrument()
        client.post(URL, json={**BODY, "seed": 2})
        first, second = captured.requests

        assert [one.status for one in first.attempts] == [200]
        assert [one.status for one in second.attempts] == [401, 200]
        assert "canary" not in repr((first, second))


class TestH18Registry:
    @pytest.mark.parametrize("url", ["https://api.openai.com/v1/models", "https://example.com/v1/things"])
    def test_h18_other_calls_are_not_recorded(self, family, captured, url):
        """A list of models is no LLM call."""
        family.Client(transport=scripted(family)).get(url)

        assert captured.requests == []

    @pytest.mark.parametrize(
        "url", ["http://localhost:8080/v1/chat/completions", "https://gw.test/openai/v1/chat/completions"]
    )
    def test_h18_gateways_are_known_by_their_paths(self, family, captured, url):
        """Whatever the host."""
        family.Client(transport=scripted(family)).post(url, json=BODY)

        assert [record.text for record in captured.requests] == ["hello"]

    def test_h18_the_app_decides(self, family):
        """``record`` says yes or no; where it says nothing or fails, we decide."""

        def rule(method, url):
            if "broken" in url:
                raise ValueError("broken rule")
            return True if "mine" in url else False if "not-this" in url else None

        with capture(record=rule) as captured:
            client = family.Client(transport=scripted(family))
            for path in ("mine", "v1/chat/completions", "not-this/v1/chat/completions", "other"):
                client.post(f"https://x.test/{path}", json=BODY)
            client.post("https://x.test/broken/v1/chat/completions", json=BODY)
            client.post("https://x.test/broken/other", json=BODY)

            assert [record.url.partition("x.test")[2] for record in captured.requests] == [
                "/mine",
                "/v1/chat/completions",
                "/broken/v1/chat/completions",
            ]


def test_h19_the_body_is_not_touched(family, captured):
    """Nothing is injected to get at usage."""
    transport = scripted(family)
    family.Client(transport=transport).post(URL, json={**BODY, "stream": True})

    assert json.loads(transport.seen[0].content) == {**BODY, "stream": True}


class TestH20Headers:
    def test_h20_are_read_and_removed(self, family, captured):
        """In both spellings and any case, also from calls that are not recorded."""
        headers = {
            "LLMObs-Session-Id": "s1",
            "HELICONE-SESSION-PATH": "/a/b",
            "helicone-session-name": "chat",
            "llmobs-user-id": "u1",
            "Helicone-Property-Tenant": "acme",
            "LLMObs-Node-Id": "a:b",
            "Helicone-Auth": "Bearer canary-helicone-auth",
        }
        transport = scripted(family)
        client = family.Client(transport=transport)
        client.post(URL, json=BODY, headers=headers)
        client.get("https://example.com/other", headers=headers)
        (record,) = captured.requests

        for request in transport.seen:
            assert not [name for name in request.headers if name.startswith(("llmobs", "helicone"))]
        assert (record.session_id, record.session_path, record.session_name) == ("s1", "/a/b", "chat")
        assert (record.user_id, record.node_id, record.properties) == ("u1", "a:b", {"Tenant": "acme"})

    def test_h20_a_session_of_its_own_takes_no_name_of_another(self, family, captured):
        """A call that names another session than its trace keeps to that one."""
        client = family.Client(transport=scripted(family))
        with trace("job", session="outer"):
            annotate(session_name="The outer one", session_path="/outer")
            client.post(URL, json=BODY, headers={"LLMObs-Session-Id": "inner"})
            client.post(URL, json=BODY)
        own, inherited = captured.requests

        assert (own.session_id, own.session_name, own.session_path) == ("inner", None, None)
        assert (inherited.session_id, inherited.session_name) == ("outer", "The outer one")

    def test_h20_are_removed_while_nothing_is_recorded(self, family, captured):
        """Also inside ``suppress()``."""
        transport = scripted(family)
        with suppress():
            family.Client(transport=transport).post(URL, json=BODY, headers={"LLMObs-User-Id": "u"})

        assert "llmobs-user-id" not in transport.seen[0].headers
        assert captured.requests == []

    @pytest.mark.parametrize(
        ("host", "kept"), [("oai.helicone.ai", True), ("helicone.ai", True), ("evilhelicone.ai", False)]
    )
    def test_h20_the_gateway_of_that_name_gets_its_headers(self, family, captured, host, kept):
        """It alone, and of ours none."""
        transport = scripted(family)
        headers = {"Helicone-Auth": "x", "Helicone-User-Id": "u", "LLMObs-Session-Id": "s"}
        family.Client(transport=transport).post(f"https://{host}/v1/chat/completions", json=BODY, headers=headers)
        (record,) = captured.requests

        assert ("helicone-auth" in transport.seen[0].headers) == kept
        assert "llmobs-session-id" not in transport.seen[0].headers
        assert (record.user_id, record.session_id) == ("u", "s")

    def test_h20_omitted_bodies_are_not_recorded(self, family, captured):
        """Tokens are, texts are not."""
        headers = {"LLMObs-Omit-Request": "true", "Helicone-Omit-Response": "true"}
        family.Client(transport=scripted(family)).post(URL, json=BODY, headers=headers)
        (record,) = captured.requests

        assert (record.request_body, record.response_body, record.text, record.messages) == (None, None, "", ())
        assert "hello" not in repr(record) and "'hi'" not in repr(record)
        assert record.usage.input_tokens == 5


def test_h22_somebody_elses_patch_on_top_stays(family, captured):
    """Another library that patched after us is not undone by us, and nothing is recorded twice."""
    import functools

    ours = family.Client.send
    calls = []

    @functools.wraps(ours)
    def theirs(self, request, **options):
        calls.append(request)
        return ours(self, request, **options)

    family.Client.send = theirs
    try:
        clients.instrument()
        family.Client(transport=scripted(family)).post(URL, json=BODY)
        assert (len(captured.requests), len(calls)) == (1, 1)
        clients.uninstrument()
        assert family.Client.send is theirs
        family.Client(transport=scripted(family)).post(URL, json=BODY)
        assert (len(captured.requests), len(calls)) == (1, 2)
    finally:
        family.Client.send = ours.__wrapped__


def test_h24_one_client_in_many_threads(family, captured):
    """32 threads: 32 calls, each under its own parent."""
    client = family.Client(transport=scripted(family))

    def work(number):
        trace = Trace(f"{number:032x}", "default", captured.obs.recorder)
        place.set(Place(trace, f"{number:016x}"))
        for _ in range(5):
            client.post(URL, json={**BODY, "user": str(number)})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 33)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = captured.requests

    assert len(records) == 160
    assert all(int(record.trace_id, 16) == int(record.parent_id, 16) == int(record.user_id) for record in records)


class TestH25Running:
    def test_h25_a_long_call_is_seen_before_it_ends(self, family, captured, monkeypatch):
        """Written as running, completed later, one record."""
        monkeypatch.setattr("asgi_llmobs.writer.RUNNING_AFTER_NS", 50_000_000)
        seen = []

        def hold():
            deadline = time.monotonic() + 40
            while time.monotonic() < deadline and not seen:
                seen.extend(record for record in captured._records.values() if record.outcome == Outcome.RUNNING)
                time.sleep(0.01)

        with family.Client(transport=sse(family, EVENTS, hold=hold)).stream("POST", URL, json=BODY) as response:
            response.read()
        (record,) = captured.requests

        assert [(one.id, one.request_model) for one in seen] == [(record.id, "gpt-4o")]
        assert (record.outcome, record.text) == (Outcome.OK, "hello")


def test_c09_garbage_collection_at_any_moment(family, captured):
    """Streams that nobody closed end in a finalizer, which may interrupt us anywhere: no deadlock, none lost."""
    before = gc.get_threshold()
    gc.set_threshold(20, 2, 2)
    try:
        client = family.Client(transport=sse(family, EVENTS))
        for number in range(300):
            response = client.send(client.build_request("POST", URL, json={**BODY, "seed": number}), stream=True)
            response.itself = response  # only the collector ends it
            del response
    finally:
        gc.set_threshold(*before)
    gc.collect()

    assert [record.outcome for record in captured.requests] == [Outcome.ABANDONED] * 300
    stats = captured.obs.stats()
    assert stats.captured == stats.stored + stats.spooled + sum(stats.dropped.values()) == 300


def ours(module):
    """Every function and method of a module that is called in the app's own thread or task."""
    for name, thing in vars(module).items():
        if inspect.isfunction(thing) and thing.__module__ == module.__name__:
            yield module, name, thing
        if inspect.isclass(thing) and thing.__module__ == module.__name__ and thing.__name__ in ("Call", "Retries"):
            for method, function in vars(thing).items():
                if inspect.isfunction(function):
                    yield thing, method, function


# the boundary itself, which holds the rest: what stands in place of the client's own methods
BOUNDARY = {"send", "attach", "watch_send", "watch_async_send", "instrument", "instrument_for", "instrumented"}
BOUNDARY |= {"uninstrument", "wrap", "unwrap", "clients_in", "attributes", "client_classes", "watched"}
TARGETS = [
    target
    for module in (outbound, call, retries, streams, clients, annotations, caller)
    for target in ours(module)
    if target[1] not in BOUNDARY
    and target[:2] != (retries.Retries, "__init__")
    and not hasattr(target[2], "__llmobs_original__")
]


@pytest.mark.parametrize("failure", [RuntimeError, MemoryError, RecursionError])
@pytest.mark.parametrize(
    ("owner", "name", "function"), TARGETS, ids=[f"{owner.__name__}.{name}" for owner, name, _ in TARGETS]
)
def test_f25_our_own_bugs(captured, monkeypatch, caplog, owner, name, function, failure):
    """Each function of ours fails in turn: the app's result is the same, and the failure is counted and logged once."""

    def broken(*args, **kwargs):
        raise failure("ours")

    if hasattr(function, "__wrapped__"):  # it carries its own guard
        broken = function_guarded(function, broken)
    monkeypatch.setattr(owner, name, broken)
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("asgi_llmobs.safely._last_logged", {})
    before = sum(failures().values())
    results = [use(httpx), asyncio.run(use_async(httpx2))]
    monkeypatch.undo()

    assert results == [WANTED, WANTED]
    told = sum(failures().values()) - before
    places = {message.split(" failed")[0] for message in caplog.messages if message.startswith("asgi_llmobs")}
    assert len(places) == len([message for message in caplog.messages if message.startswith("asgi_llmobs")])
    assert bool(told) == bool(places)


def function_guarded(function, broken):
    from asgi_llmobs.safely import guarded

    return guarded(f"broken {function.__name__}")(broken)


WANTED = [b"".join(EVENTS), EVENTS, [EVENTS[0]], ANSWER, b"".join(EVENTS), "ReadError"]


def generated():
    yield json.dumps(BODY).encode()


def use(family):
    """Calls of all kinds; what the app gets from them."""
    client = family.Client(transport=sse(family, EVENTS), headers={"LLMObs-User-Id": "u"})
    got = [client.post(URL, json=BODY).content]
    with client.stream("POST", URL, json=BODY) as response:
        got.append(list(response.iter_raw()))
    with client.stream("POST", URL, json=BODY) as response:
        for chunk in response.iter_raw():
            got.append([chunk])
            break
    got.append(family.Client(transport=scripted(family, (200, ANSWER))).post(URL, json=BODY).json())
    got.append(client.post(URL, content=generated()).content)
    failing = family.Client(transport=scripted(family, family.ReadError("x")))
    for _ in range(2):
        try:
            failing.post(URL, json=BODY)
        except family.ReadError as error:
            name = type(error).__name__
    return [*got, name]


async def use_async(family):
    """The same with asynchronous clients."""

    async def body():
        for part in generated():
            yield part

    client = family.AsyncClient(transport=sse(family, EVENTS, is_async=True), headers={"LLMObs-User-Id": "u"})
    got = [(await client.post(URL, json=BODY)).content]
    async with client.stream("POST", URL, json=BODY) as response:
        got.append([chunk async for chunk in response.aiter_raw()])
    async with client.stream("POST", URL, json=BODY) as response:
        async for chunk in response.aiter_raw():
            got.append([chunk])
            break
    got.append((await family.AsyncClient(transport=scripted(family, (200, ANSWER))).post(URL, json=BODY)).json())
    got.append((await client.post(URL, content=body())).content)
    failing = family.AsyncClient(transport=scripted(family, family.ReadError("x")))
    for _ in range(2):
        try:
            await failing.post(URL, json=BODY)
        except family.ReadError as error:
            name = type(error).__name__
    return [*got, name]


def test_the_caller_is_the_apps_own_line(family, captured):
    """Where in the app the call was made, through any number of library frames."""
    family.Client(transport=scripted(family)).post(URL, json=BODY)
    (record,) = captured.requests

    path, _, function = record.caller.partition(" ")
    assert path.startswith("tests/capture/test_outbound.py:") and function == "test_the_caller_is_the_apps_own_line"


def test_the_working_directory_may_be_gone(family, captured, monkeypatch):
    """Calls are recorded all the same."""
    monkeypatch.setattr(caller, "_short", {})
    monkeypatch.setattr("os.getcwd", lambda: (_ for _ in ()).throw(FileNotFoundError()))
    family.Client(transport=scripted(family)).post(URL, json=BODY)

    assert captured.requests[0].caller.startswith("/")


def test_an_empty_list_of_providers(family):
    """An empty list is as good as an empty tuple."""
    with capture(providers=[]) as captured:
        family.Client(transport=scripted(family)).post(URL, json=BODY)

        assert len(captured.requests) == 1
