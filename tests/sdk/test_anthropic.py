"""The anthropic SDK, bare and watched."""

import asyncio
import sys
from typing import Any

import pytest

from tests.sdk.conversation import ASYNC, EVERY_WAY, HELLO

anthropic = pytest.importorskip("anthropic")

PROVIDER = "anthropic"
MODEL = "claude-haiku-4-5"
GIVEN: Any = {"model": MODEL, "max_tokens": 500, "messages": HELLO}
TOOL: Any = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
SLOW = {"chunk_delay": 0.03}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's back-off starts at ten milliseconds."""
    monkeypatch.setattr("anthropic._base_client.INITIAL_RETRY_DELAY", 0.01)


def client(kit: Any, **options: Any) -> Any:
    kind = anthropic.AsyncAnthropic if kit.is_async else anthropic.Anthropic
    return kit.sdk(kind(api_key="sk-none", base_url=kit.url, http_client=kit.http(), **options))


@EVERY_WAY
class TestMessages:
    def test_whole(self, bench: Any) -> None:
        """One call is one record with model, text, usage, price and stop reason."""

        async def act(kit: Any) -> Any:
            return await kit.now(client(kit).messages.create(**GIVEN, system="Be kind."))

        seen = bench.compare(act)
        answer, record = seen.result, seen.one

        assert (record.provider, record.api, record.operation) == ("anthropic", "anthropic.messages", "chat")
        assert (record.request_model, record.response_model, record.response_id) == (MODEL, MODEL, answer.id)
        assert record.text == answer.content[0].text
        assert record.finish_reasons == ("end_turn",)
        assert (record.input_tokens, record.output_tokens) == (answer.usage.input_tokens, answer.usage.output_tokens)
        assert [message.role for message in record.messages] == ["system", "user"]
        assert record.provider_request_id == answer._request_id
        assert record.parameters["max_tokens"] == 500
        assert record.cost_usd is not None
        assert (record.outcome, record.status, len(record.attempts)) == ("ok", 200, 1)

    def test_stream_helper(self, bench: Any) -> None:
        """``messages.stream()`` with thinking and a tool: one record with all of it, and when the first token came."""
        asked = [{"role": "user", "content": "weather in Vienna"}]
        given = {"model": "claude-sonnet-4-6", "max_tokens": 2000, "messages": asked, "tools": [TOOL]}

        async def act(kit: Any) -> Any:
            thinking = {"type": "enabled", "budget_tokens": 1024}
            manager = client(kit).messages.stream(**given, thinking=thinking)
            if kit.is_async:
                async with manager as stream:
                    return [[event.type async for event in stream], await stream.get_final_message()]
            with manager as stream:
                return [[event.type for event in stream], stream.get_final_message()]

        seen = bench.compare(act, {"first_token_delay": 0.1})
        record, message = seen.one, seen.result[1]

        assert (record.outcome, record.finish_reasons, record.stream) == ("ok", ("tool_use",), True)
        assert record.reasoning_text == message.content[0].thinking
        assert [(call["id"], call["name"]) for call in record.tool_calls] == [(message.content[1].id, "get_weather")]
        assert "Vienna" in str(record.tool_calls[0]["arguments"])
        assert record.output_tokens == message.usage.output_tokens
        assert record.first_token_ns > record.headers_ns

    def test_stream_of_events(self, bench: Any) -> None:
        """``create(stream=True)`` to its end."""

        async def act(kit: Any) -> Any:
            stream = await kit.now(client(kit).messages.create(**GIVEN, stream=True))
            return [event async for event in stream] if kit.is_async else list(stream)

        seen = bench.compare(act)
        deltas = [event.delta for event in seen.result if event.type == "content_block_delta"]

        assert seen.one.text == "".join(delta.text for delta in deltas)
        assert (seen.one.outcome, seen.one.finish_reasons) == ("ok", ("end_turn",))
        assert seen.one.output_tokens == seen.result[-2].usage.output_tokens

    def test_overloaded_then_answer(self, bench: Any) -> None:
        """529 with Retry-After and then an answer are one request of two attempts."""

        async def act(kit: Any) -> Any:
            return await kit.now(client(kit).messages.create(**GIVEN))

        seen = bench.compare(act, {"status": 529, "retry_after": 0.02})
        attempts = seen.one.attempts

        assert [(item.number, item.status, item.retry_after) for item in attempts] == [(1, 529, "0.02"), (2, 200, None)]
        assert attempts[0].error_type == "overloaded_error"
        assert attempts[1].start_ns - (attempts[0].start_ns + attempts[0].duration_ns) > 15e6
        assert seen.one.outcome == "ok"

    def test_headers_of_ours(self, bench: Any) -> None:
        """Our headers are read and never sent."""

        async def act(kit: Any) -> Any:
            sdk = client(kit, default_headers={"LLMObs-Session-Id": "s-1", "LLMObs-Session-Name": "Trip"})
            return await kit.now(sdk.messages.create(**GIVEN, extra_headers={"helicone-user-id": "ada"}))

        record = bench.compare(act).one

        assert (record.session_id, record.session_name, record.user_id) == ("s-1", "Trip", "ada")

    def test_a_stream_helper_left_early(self, bench: Any) -> None:
        """``messages.stream()`` left at its first text is abandoned, with that text."""

        async def act(kit: Any) -> Any:
            manager = client(kit).messages.stream(**GIVEN)
            if kit.is_async:
                async with manager as stream:
                    async for text in stream.text_stream:
                        return text
            with manager as stream:
                for text in stream.text_stream:
                    return text

        seen = bench.compare(act, SLOW)

        assert seen.one.outcome == "abandoned"
        assert seen.one.text.startswith(seen.result)
        assert bench.gone(seen.received[0])


class TestMore:
    def test_tools_round_trip(self, bench: Any) -> None:
        """The use of a tool and its result are two records."""

        async def act(kit: Any) -> Any:
            sdk = client(kit)
            messages: list[Any] = [{"role": "user", "content": "weather in Vienna"}]
            given: Any = {"model": MODEL, "max_tokens": 500, "tools": [TOOL]}
            first = await kit.now(sdk.messages.create(**given, messages=messages))
            result = {"type": "tool_result", "tool_use_id": first.content[0].id, "content": "9 °C"}
            messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
            return [first, await kit.now(sdk.messages.create(**given, messages=messages))]

        seen = bench.compare(act)
        first, second = seen.requests

        assert [(call["id"], call["name"]) for call in first.tool_calls] == [
            (seen.result[0].content[0].id, "get_weather")
        ]
        assert first.finish_reasons == ("tool_use",)
        assert "tool_call_response" in [part.type for message in second.messages for part in message.parts]
        assert second.text == seen.result[1].content[0].text

    def test_prompt_cache(self, bench: Any) -> None:
        """Tokens written to and read from the cache are told apart, and the total holds them."""
        system = [{"type": "text", "text": "You are kind. " * 100, "cache_control": {"type": "ephemeral"}}]

        async def act(kit: Any) -> Any:
            sdk = client(kit)
            return [await kit.now(sdk.messages.create(**GIVEN, system=system)) for _ in range(2)]

        seen = bench.compare(act)
        written, read = (record.usage for record in seen.requests)
        first, second = (answer.usage for answer in seen.result)

        assert written.cache_write == first.cache_creation_input_tokens > 300
        assert read.cache_read == second.cache_read_input_tokens > 300
        assert read.input_tokens == sum(
            (second.input_tokens, second.cache_creation_input_tokens, second.cache_read_input_tokens)
        )

    @pytest.mark.parametrize(("status", "kind"), [(400, "invalid_request_error"), (401, "authentication_error")])
    def test_an_error_is_the_same_exception(self, bench: Any, status: int, kind: str) -> None:
        """Type, status and message stay; the record has them."""

        async def act(kit: Any) -> Any:
            return await kit.now(client(kit).messages.create(**GIVEN))

        seen = bench.compare(act, {"status": status, "message": "No."}, fails=True)
        record = seen.one

        assert isinstance(seen.result, anthropic.APIStatusError)
        assert (record.outcome, record.status, record.error_type, record.error_message) == (
            "error",
            status,
            kind,
            "No.",
        )

    def test_an_error_inside_a_stream(self, bench: Any) -> None:
        """An ``error`` event after 200 raises in the SDK and fails the record."""
        body = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'

        async def act(kit: Any) -> Any:
            stream = await kit.now(client(kit).messages.create(**GIVEN, stream=True))
            return [event async for event in stream] if kit.is_async else list(stream)

        seen = bench.compare(act, {"body": body, "content_type": "text/event-stream"}, fails=True)

        assert isinstance(seen.result, anthropic.APIStatusError)
        assert (seen.one.outcome, seen.one.status, seen.one.error_type) == ("error", 200, "overloaded_error")

    def test_a_dropped_connection_is_tried_again(self, bench: Any) -> None:
        """A connection that breaks is the first attempt of the request."""

        async def act(kit: Any) -> Any:
            return await kit.now(client(kit).messages.create(**GIVEN))

        record = bench.compare(act, {"drop_after": 0}, {"status": 500}).one

        assert [(item.status, item.error_type) for item in record.attempts] == [
            (200, "RemoteProtocolError"),
            (500, "api_error"),
            (200, None),
        ]

    def test_a_stream_that_breaks(self, bench: Any) -> None:
        """A stream that is cut off raises as before, and its text so far is kept."""

        async def act(kit: Any) -> Any:
            manager = client(kit).messages.stream(**GIVEN)
            if kit.is_async:
                async with manager as stream:
                    return await stream.get_final_text()
            with manager as stream:
                return stream.get_final_text()

        seen = bench.compare(act, {"drop_after": 6}, fails=True)

        assert isinstance(seen.result, Exception)
        assert (seen.one.outcome, seen.one.error_type) == ("error", "RemoteProtocolError")
        assert seen.one.text.startswith("You can")

    def test_a_stream_that_ends_too_soon(self, bench: Any) -> None:
        """A stream that closes in order but without ``message_stop`` is no success, whatever the SDK makes of it."""

        async def act(kit: Any) -> Any:
            stream = await kit.now(client(kit).messages.create(**GIVEN, stream=True))
            return [event async for event in stream] if kit.is_async else list(stream)

        seen = bench.compare(act, {"end_after": 6})

        assert (seen.one.outcome, seen.one.error_type) == ("error", "IncompleteStream")

    def test_timeouts(self, bench: Any) -> None:
        """A timeout is the SDK's own exception, and one failed request of two attempts."""

        async def act(kit: Any) -> Any:
            return await kit.now(
                client(kit, timeout=kit.family.Timeout(40, read=0.08), max_retries=1).messages.create(**GIVEN)
            )

        seen = bench.compare(act, {"delay": 1.0, "times": None}, fails=True)

        assert isinstance(seen.result, anthropic.APITimeoutError)
        assert [item.error_type for item in seen.one.attempts] == ["ReadTimeout"] * 2

    @ASYNC
    @EVERY_WAY
    def test_a_cancelled_task(self, bench: Any) -> None:
        """A task that is cancelled in mid-stream: the same CancelledError, and the record is cancelled."""

        async def act(kit: Any) -> Any:
            async with client(kit).messages.stream(**GIVEN) as stream:
                async for _ in stream.text_stream:
                    asyncio.current_task().cancel()  # type: ignore[union-attr]

        seen = bench.compare(act, {"chunk_delay": 0.05}, fails=True)

        assert isinstance(seen.result, asyncio.CancelledError)
        assert (seen.one.outcome, seen.one.text[:7]) == ("cancelled", "You can")

    def test_raw_and_streaming_responses(self, bench: Any) -> None:
        """``with_raw_response`` and ``with_streaming_response`` give what they gave; each is one record."""

        async def act(kit: Any) -> Any:
            messages = client(kit).messages
            raw = await kit.now(messages.with_raw_response.create(**GIVEN))
            manager = messages.with_streaming_response.create(**GIVEN)
            if kit.is_async:
                async with manager as response:
                    return [
                        dict(raw.headers),
                        await kit.now(raw.parse()),
                        [line async for line in response.iter_lines()],
                    ]
            with manager as response:
                return [dict(raw.headers), raw.parse(), list(response.iter_lines())]

        seen = bench.compare(act)

        assert [record.outcome for record in seen.requests] == ["ok", "ok"]
        assert seen.requests[0].text == seen.requests[1].text == seen.result[1].content[0].text

    def test_the_line_of_the_call(self, bench: Any) -> None:
        """The record names the very line of the app."""
        lines = []

        async def act(kit: Any) -> Any:
            sdk = client(kit)
            lines.append(sys._getframe().f_lineno + 1)
            return await kit.now(sdk.messages.create(**GIVEN))

        caller = bench.compare(act).one.caller
        assert f"test_anthropic.py:{lines[-1]} " in caller

    def test_tokens_are_counted(self, bench: Any) -> None:
        """Counting tokens is an operation of its own, without a price."""

        async def act(kit: Any) -> Any:
            return await kit.now(client(kit).messages.count_tokens(model=MODEL, messages=HELLO))

        seen = bench.compare(act)

        assert seen.one.operation == "count_tokens"
        assert not seen.one.cost_usd
