"""The openai SDK, bare and watched."""

import asyncio
import json
import sys
from typing import Any

import pytest

from tests.sdk.conversation import ASYNC, EVERY_WAY, HELLO

openai = pytest.importorskip("openai")

PROVIDER = "openai"
WEATHER: Any = [{"role": "user", "content": "What is the weather in Porto?"}]
FUNCTION = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS: Any = [{"type": "function", "function": FUNCTION}]
USAGE = {"stream_options": {"include_usage": True}}
MODEL = "gpt-4o-mini"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's back-off starts at ten milliseconds."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


def client(kit: Any, **options: Any) -> Any:
    kind = openai.AsyncOpenAI if kit.is_async else openai.OpenAI
    return kit.sdk(kind(api_key="sk-none", base_url=f"{kit.url}/v1", http_client=kit.http(), **options))


async def chunks_of(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream] if hasattr(stream, "__aiter__") else list(stream)


@EVERY_WAY
class TestChat:
    def test_whole(self, bench: Any) -> None:
        """One call is one record with model, text, usage, price, finish reason and parameters."""

        async def act(kit: Any) -> Any:
            return await kit.now(client(kit).chat.completions.create(model=MODEL, messages=HELLO, temperature=0.2))

        seen = bench.compare(act)
        answer, record = seen.result, seen.one

        assert (record.provider, record.api, record.operation) == ("openai", "openai.chat", "chat")
        assert (record.request_model, record.response_model) == (MODEL, answer.model)
        assert record.response_id == answer.id
        assert record.text == answer.choices[0].message.content
        assert record.finish_reasons == ("stop",)
        assert record.input_tokens == answer.usage.prompt_tokens
        assert record.output_tokens == answer.usage.completion_tokens
        assert record.parameters["temperature"] == 0.2
        assert record.messages[0].parts[0].content == HELLO[0]["content"]
        assert record.provider_request_id == answer._request_id
        assert record.cost_usd is not None
        assert (record.outcome, record.status, len(record.attempts), record.stream) == ("ok", 200, 1, False)

    def test_stream(self, bench: Any) -> None:
        """A stream is one record: the text joined, usage from its last chunk, and when the first token came."""

        async def act(kit: Any) -> Any:
            stream = await kit.now(
                client(kit).chat.completions.create(model=MODEL, messages=HELLO, stream=True, **USAGE)
            )
            return await chunks_of(stream)

        seen = bench.compare(act, {"first_token_delay": 0.1})
        chunks, record = seen.result, seen.one

        assert record.text == "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert record.output_tokens == chunks[-1].usage.completion_tokens
        assert (record.outcome, record.stream, record.framing) == ("ok", True, "sse")
        assert record.finish_reasons == ("stop",)
        assert record.headers_ns < record.first_token_ns <= record.last_chunk_ns <= record.duration_ns

    def test_tools_round_trip(self, bench: Any) -> None:
        """The call of a tool, its result and the answer from it are two records with all of it."""

        async def act(kit: Any) -> Any:
            sdk = client(kit)
            first = await kit.now(sdk.chat.completions.create(model=MODEL, messages=WEATHER, tools=TOOLS))
            call = first.choices[0].message.tool_calls[0]
            result = {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": "14 °C"}'}
            messages = [*WEATHER, first.choices[0].message, result]
            return [first, await kit.now(sdk.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS))]

        seen = bench.compare(act)
        first, second = seen.requests
        call = seen.result[0].choices[0].message.tool_calls[0]

        assert first.tool_calls == ({"id": call.id, "name": "get_weather", "arguments": call.function.arguments},)
        assert first.finish_reasons == ("tool_calls",)
        assert [tool["name"] for tool in first.tools] == ["get_weather"]
        assert [message.role for message in second.messages] == ["user", "assistant", "tool"]
        assert second.messages[2].parts[0].type == "tool_call_response"
        assert second.text == seen.result[1].choices[0].message.content

    def test_retry_after_then_answer(self, bench: Any) -> None:
        """Two refusals and an answer are one request of three attempts, with their waits."""

        async def act(kit: Any) -> Any:
            return await kit.now(client(kit).chat.completions.create(model=MODEL, messages=HELLO))

        seen = bench.compare(act, {"status": 429, "retry_after": 0.02, "times": 2, "message": "Slow down."})
        record = seen.one

        assert [received.headers["x-stainless-retry-count"] for received in seen.received] == ["0", "1", "2"]
        assert [(item.number, item.status, item.outcome) for item in record.attempts] == [
            (1, 429, "error"),
            (2, 429, "error"),
            (3, 200, "ok"),
        ]
        assert [item.retry_after for item in record.attempts] == ["0.02", "0.02", None]
        assert record.attempts[0].error_message == "Slow down."
        first, second, _ = record.attempts
        assert second.start_ns - (first.start_ns + first.duration_ns) > 15e6
        assert (record.outcome, record.status) == ("ok", 200)
        assert record.text

    def test_headers_of_ours(self, bench: Any) -> None:
        """Session, user and properties are read from the headers, which the server never gets."""

        async def act(kit: Any) -> Any:
            sdk = client(kit, default_headers={"Helicone-Session-Id": "s-1", "LLMObs-Property-Plan": "pro"})
            extra = {"LLMObs-User-Id": "ada", "Helicone-Session-Path": "/trip", "X-Own": "stays"}
            return await kit.now(sdk.chat.completions.create(model=MODEL, messages=HELLO, extra_headers=extra))

        seen = bench.compare(act)
        record = seen.one

        assert (record.session_id, record.session_path, record.user_id) == ("s-1", "/trip", "ada")
        assert {key.lower(): value for key, value in record.properties.items()}["plan"] == "pro"
        assert seen.received[0].headers["x-own"] == "stays"


class TestFailures:
    @pytest.mark.parametrize("status", [400, 401, 404, 422])
    def test_an_error_is_the_same_exception(self, bench: Any, status: int) -> None:
        """Status, type and message of the SDK's exception stay, and the record has them too."""

        async def act(kit: Any) -> Any:
            return await kit.now(client(kit).chat.completions.create(model=MODEL, messages=HELLO))

        seen = bench.compare(act, {"status": status, "message": "messages: too many"}, fails=True)
        record = seen.one

        assert isinstance(seen.result, openai.APIStatusError)
        assert (record.outcome, record.status, record.error_message) == ("error", status, "messages: too many")
        assert record.error["type"] == "invalid_request_error"
        assert record.text == ""

    @pytest.mark.parametrize("drop", [0, 1])
    def test_a_dropped_connection_is_tried_again(self, bench: Any, drop: int) -> None:
        """A connection that breaks before or in the answer is the first attempt of the same request."""

        async def act(kit: Any) -> Any:
            return await kit.now(client(kit).chat.completions.create(model=MODEL, messages=HELLO))

        seen = bench.compare(act, {"drop_after": drop})
        record = seen.one

        assert [item.outcome for item in record.attempts] == ["error", "ok"]
        assert record.attempts[0].error_type == "RemoteProtocolError"

    def test_every_attempt_fails(self, bench: Any) -> None:
        """500 three times is one failed request of three attempts."""

        async def act(kit: Any) -> Any:
            return await kit.now(client(kit).chat.completions.create(model=MODEL, messages=HELLO))

        seen = bench.compare(act, {"status": 500, "times": None}, fails=True)

        assert isinstance(seen.result, openai.InternalServerError)
        assert [item.status for item in seen.one.attempts] == [500, 500, 500]
        assert seen.one.outcome == "error"

    def test_timeouts(self, bench: Any) -> None:
        """A timeout is the SDK's own exception after its retries, and one failed request."""

        async def act(kit: Any) -> Any:
            sdk = client(kit, timeout=kit.family.Timeout(40, read=0.08), max_retries=1)
            return await kit.now(sdk.chat.completions.create(model=MODEL, messages=HELLO))

        seen = bench.compare(act, {"delay": 1.0, "times": None}, fails=True)

        assert isinstance(seen.result, openai.APITimeoutError)
        assert [(item.error_type, item.status) for item in seen.one.attempts] == [("ReadTimeout", None)] * 2
        assert seen.one.outcome == "error"

    def test_nobody_answers(self, bench: Any) -> None:
        """A refused connection is the SDK's own exception and one failed request."""

        async def act(kit: Any) -> Any:
            kind = openai.AsyncOpenAI if kit.is_async else openai.OpenAI
            sdk = kit.sdk(kind(api_key="sk-none", base_url="http://127.0.0.1:9/v1", max_retries=1))
            return await kit.now(sdk.chat.completions.create(model=MODEL, messages=HELLO))

        seen = bench.compare(act, fails=True)

        assert isinstance(seen.result, openai.APIConnectionError)
        assert [item.error_type for item in seen.one.attempts] == ["ConnectError"] * 2

    def test_a_stream_that_breaks(self, bench: Any) -> None:
        """A stream that is cut off raises as before, and its text so far is kept."""

        async def act(kit: Any) -> Any:
            stream = await kit.now(client(kit).chat.completions.create(model=MODEL, messages=HELLO, stream=True))
            return await chunks_of(stream)

        seen = bench.compare(act, {"drop_after": 4}, fails=True)
        record = seen.one

        assert isinstance(seen.result, bench.family.RemoteProtocolError | openai.APIConnectionError)
        assert record.outcome == "error"
        assert record.error_type == "RemoteProtocolError"
        assert record.text.startswith("You can cancel")

    def test_an_error_inside_a_stream(self, bench: Any) -> None:
        """An error event after 200 raises in the SDK and fails the record."""
        event = {"error": {"message": "Something went wrong.", "type": "server_error", "code": None}}
        body = f"data: {json.dumps(event)}\n\n".encode()

        async def act(kit: Any) -> Any:
            stream = await kit.now(client(kit).chat.completions.create(model=MODEL, messages=HELLO, stream=True))
            return await chunks_of(stream)

        seen = bench.compare(act, {"body": body, "content_type": "text/event-stream"}, fails=True)

        assert isinstance(seen.result, openai.APIError)
        assert (seen.one.outcome, seen.one.status) == ("error", 200)
        assert seen.one.error_message == "Something went wrong."

    @ASYNC
    def test_parallel_retries_stay_apart(self, bench: Any) -> None:
        """Two calls at once, each refused once, are two requests of two attempts."""

        async def act(kit: Any) -> Any:
            sdk = client(kit)
            ask = sdk.chat.completions.create
            return await asyncio.gather(ask(model=MODEL, messages=HELLO), ask(model=MODEL, messages=WEATHER))

        refuse = {"status": 429, "retry_after": 0.02}
        # which of the two connections is served first is the server's choice: ids and order are not compared
        seen = bench.watch(act, {"when": "cancel", **refuse}, {"when": "Porto", **refuse})

        assert [[item.status for item in record.attempts] for record in seen.requests] == [[429, 200]] * 2
        assert [record.caller for record in seen.requests] == [None, None]  # tasks of gather have no caller
        assert {record.messages[0].parts[0].content for record in seen.requests} == {
            HELLO[0]["content"],
            WEATHER[0]["content"],
        }


SLOW = {"chunk_delay": 0.03}


@EVERY_WAY
class TestEarlyEnd:
    def test_break(self, bench: Any) -> None:
        """A loop left early and closed is abandoned, with the text so far, and the server sees the client go."""

        async def act(kit: Any) -> Any:
            stream = await kit.now(client(kit).chat.completions.create(model=MODEL, messages=HELLO, stream=True))
            got = []
            if kit.is_async:
                async for chunk in stream:
                    got.append(chunk)
                    if len(got) == 3:
                        break
            else:
                for chunk in stream:
                    got.append(chunk)
                    if len(got) == 3:
                        break
            await kit.now(stream.close())
            return got

        seen = bench.compare(act, SLOW)
        record = seen.one

        assert record.outcome == "abandoned"
        assert record.text == "".join(chunk.choices[0].delta.content or "" for chunk in seen.result)
        assert record.usage is None
        assert record.counted.estimated
        assert bench.gone(seen.received[0])

    def test_left_by_its_context_manager(self, bench: Any) -> None:
        """``with create(stream=True) as stream`` and an exception inside it: abandoned, the exception as it was."""

        async def act(kit: Any) -> Any:
            stream = await kit.now(client(kit).chat.completions.create(model=MODEL, messages=HELLO, stream=True))
            if kit.is_async:
                async with stream:
                    async for _ in stream:
                        raise LookupError("the app's own")
            with stream:
                for _ in stream:
                    raise LookupError("the app's own")

        seen = bench.compare(act, SLOW, fails=True)

        assert isinstance(seen.result, LookupError)
        assert seen.one.outcome == "abandoned"

    @ASYNC
    def test_a_cancelled_task(self, bench: Any) -> None:
        """A task that is cancelled in mid-stream: the same CancelledError, and the record is cancelled."""

        async def act(kit: Any) -> Any:
            stream = await client(kit).chat.completions.create(model=MODEL, messages=HELLO, stream=True)
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    asyncio.current_task().cancel()  # type: ignore[union-attr]

        seen = bench.compare(act, {"chunk_delay": 0.05}, fails=True)

        assert isinstance(seen.result, asyncio.CancelledError)
        assert seen.one.outcome == "cancelled"
        assert seen.one.text.startswith("You can")

    @ASYNC
    def test_cancelled_before_the_headers(self, bench: Any) -> None:
        """A task that is cancelled while it waits for an answer."""

        async def act(kit: Any) -> Any:
            async with asyncio.timeout(0.5):
                await client(kit).chat.completions.create(model=MODEL, messages=HELLO)

        seen = bench.compare(act, {"delay": 1.0}, fails=True)

        assert isinstance(seen.result, TimeoutError)
        assert (seen.one.outcome, seen.one.status) == ("cancelled", None)


class TestHelpers:
    @EVERY_WAY
    def test_stream_helper(self, bench: Any) -> None:
        """``chat.completions.stream()`` to its end, with its events and the final completion."""

        async def act(kit: Any) -> Any:
            manager = client(kit).chat.completions.stream(model=MODEL, messages=WEATHER, tools=TOOLS)
            if kit.is_async:
                async with manager as stream:
                    return [[event.type async for event in stream], await stream.get_final_completion()]
            with manager as stream:
                return [[event.type for event in stream], stream.get_final_completion()]

        seen = bench.compare(act)
        record = seen.one

        call = seen.result[1].choices[0].message.tool_calls[0]
        assert record.tool_calls == ({"id": call.id, "name": "get_weather", "arguments": call.function.arguments},)
        assert (record.outcome, record.finish_reasons) == ("ok", ("tool_calls",))
        assert record.first_token_ns is not None

    def test_stream_helper_left_early(self, bench: Any) -> None:
        """``chat.completions.stream()`` left after some events is abandoned."""

        async def act(kit: Any) -> Any:
            manager = client(kit).chat.completions.stream(model=MODEL, messages=HELLO)
            if kit.is_async:
                async with manager as stream:
                    async for event in stream:
                        if event.type == "content.delta" and event.delta:
                            return event.snapshot
            with manager as stream:
                for event in stream:
                    if event.type == "content.delta" and event.delta:
                        return event.snapshot

        seen = bench.compare(act, SLOW)

        assert seen.one.outcome == "abandoned"
        assert seen.one.text.startswith(seen.result)

    @pytest.mark.parametrize("stream", [False, True])
    def test_raw_response(self, bench: Any, stream: bool) -> None:
        """``with_raw_response`` gives headers and the parsed answer; the record is the same as without it."""

        async def act(kit: Any) -> Any:
            raw = client(kit).chat.completions.with_raw_response
            response = await kit.now(raw.create(model=MODEL, messages=HELLO, stream=stream))
            parsed = await kit.now(response.parse())
            told = [response.status_code, response.http_version, dict(response.headers), response.retries_taken]
            return [told, await chunks_of(parsed) if stream else parsed]

        seen = bench.compare(act)

        assert seen.one.outcome == "ok"
        assert seen.one.text.startswith("You can cancel")

    @pytest.mark.parametrize("reader", ["read", "iter_lines", "iter_bytes", "parse", "nothing"])
    def test_streaming_response(self, bench: Any, reader: str) -> None:
        """``with_streaming_response`` in every way of reading, and without reading."""

        async def act(kit: Any) -> Any:
            calls = client(kit).chat.completions.with_streaming_response
            manager = calls.create(model=MODEL, messages=HELLO)
            if kit.is_async:
                async with manager as response:
                    if reader == "nothing":
                        return response.status_code
                    got = getattr(response, reader)()
                    return (
                        b"".join([piece if isinstance(piece, bytes) else piece.encode() async for piece in got])
                        if (reader.startswith("iter"))
                        else await got
                    )
            with manager as response:
                if reader == "nothing":
                    return response.status_code
                got = getattr(response, reader)()
                return (
                    b"".join(piece if isinstance(piece, bytes) else piece.encode() for piece in got)
                    if (reader.startswith("iter"))
                    else got
                )

        seen = bench.compare(act)
        record = seen.one

        assert record.status == 200
        if reader == "nothing":
            assert (record.outcome, record.text) == ("abandoned", "")
        else:
            assert record.outcome == "ok"
            assert record.text.startswith("You can cancel")

    def test_parse_into_a_model(self, bench: Any) -> None:
        """Structured output is parsed by the SDK as before; the schema is in the record's parameters."""
        pydantic = pytest.importorskip("pydantic")
        trip = pydantic.create_model("Trip", city=(str, ...), nights=(int, ...))

        async def act(kit: Any) -> Any:
            parse = client(kit).chat.completions.parse
            return await kit.now(parse(model=MODEL, messages=HELLO, response_format=trip))

        seen = bench.compare(act)

        assert seen.result.choices[0].message.parsed == trip(city="Lisbon", nights=2)
        assert "json_schema" in json.dumps(seen.one.parameters["response_format"])

    def test_the_line_of_the_call(self, bench: Any) -> None:
        """The record names the very line of the app."""
        lines = []

        async def act(kit: Any) -> Any:
            sdk = client(kit)
            lines.append(sys._getframe().f_lineno + 1)
            return await kit.now(sdk.chat.completions.create(model=MODEL, messages=HELLO))

        seen = bench.compare(act)

        assert seen.one.caller.startswith("tests/sdk/test_openai.py:")
        assert f":{lines[-1]} " in seen.one.caller

    def test_with_options_and_copy(self, bench: Any) -> None:
        """A copy of the client with other options shares the HTTP client and is watched like it."""

        async def act(kit: Any) -> Any:
            sdk = client(kit).with_options(max_retries=0, default_headers={"LLMObs-User-Id": "eve"})
            return await kit.now(sdk.chat.completions.create(model=MODEL, messages=HELLO))

        seen = bench.compare(act)

        assert seen.one.user_id == "eve"


class TestResponses:
    @EVERY_WAY
    def test_whole(self, bench: Any) -> None:
        """One record with text, reasoning tokens and the model's dated name."""

        async def act(kit: Any) -> Any:
            responses = client(kit).responses
            return await kit.now(responses.create(model="gpt-5-mini", input="Can I cancel?", instructions="Be kind."))

        seen = bench.compare(act)
        answer, record = seen.result, seen.one

        assert (record.provider, record.api) == ("openai", "openai.responses")
        assert record.text == answer.output_text
        assert record.response_id == answer.id
        assert record.usage.reasoning == answer.usage.output_tokens_details.reasoning_tokens > 0
        assert record.input_tokens == answer.usage.input_tokens
        assert [message.role for message in record.messages] == ["system", "user"]

    @EVERY_WAY
    def test_stream_helper(self, bench: Any) -> None:
        """``responses.stream()`` is one record with usage from its last event."""

        async def act(kit: Any) -> Any:
            manager = client(kit).responses.stream(model=MODEL, input="Can I cancel?")
            if kit.is_async:
                async with manager as stream:
                    return [[event.type async for event in stream], await stream.get_final_response()]
            with manager as stream:
                return [[event.type for event in stream], stream.get_final_response()]

        seen = bench.compare(act)
        record = seen.one

        assert record.outcome == "ok"
        assert record.text == seen.result[1].output_text
        assert record.output_tokens == seen.result[1].usage.output_tokens
        assert record.first_token_ns is not None

    def test_function_call_and_its_output(self, bench: Any) -> None:
        """A function is called, its output sent back: two records."""

        async def act(kit: Any) -> Any:
            responses = client(kit).responses
            tools = [{"type": "function", **FUNCTION}]
            given: list[Any] = [{"role": "user", "content": "weather in Rome?"}]
            first = await kit.now(responses.create(model=MODEL, input=given, tools=tools))
            call = next(item for item in first.output if item.type == "function_call")
            given += [call, {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
            return [first, await kit.now(responses.create(model=MODEL, input=given, tools=tools))]

        seen = bench.compare(act)
        first, second = seen.requests

        assert [(call["name"], call["arguments"]) for call in first.tool_calls] == [("get_weather", '{"city": "Rome"}')]
        assert second.text == seen.result[1].output_text
        assert "tool_call_response" in [part.type for message in second.messages for part in message.parts]

    def test_a_stream_left_early(self, bench: Any) -> None:
        """``responses.create(stream=True)`` that is closed early is abandoned."""

        async def act(kit: Any) -> Any:
            responses = client(kit).responses
            stream = await kit.now(responses.create(model=MODEL, input="Can I cancel?", stream=True))
            if kit.is_async:
                async for event in stream:
                    if event.type == "response.output_text.delta":
                        break
            else:
                for event in stream:
                    if event.type == "response.output_text.delta":
                        break
            await kit.now(stream.close())

        seen = bench.compare(act, SLOW)

        assert seen.one.outcome == "abandoned"
        assert seen.one.text


class TestOthers:
    @EVERY_WAY
    def test_embeddings(self, bench: Any) -> None:
        """Vectors reach the app unchanged; the record counts them and does not keep them."""

        async def act(kit: Any) -> Any:
            embeddings = client(kit).embeddings
            return await kit.now(embeddings.create(model="text-embedding-3-small", input=["one", "two"], dimensions=64))

        seen = bench.compare(act)
        record = seen.one

        assert [len(item.embedding) for item in seen.result.data] == [64, 64]
        assert (record.api, record.operation, record.kind) == ("openai.embeddings", "embeddings", "embedding")
        assert record.input_tokens == seen.result.usage.prompt_tokens
        assert record.details["input_count"] == 2
        assert len(record.response_body.content) < 1_000

    def test_completions(self, bench: Any) -> None:
        """The older completions, streamed."""

        async def act(kit: Any) -> Any:
            create = client(kit).completions.create
            return await chunks_of(
                await kit.now(create(model="gpt-3.5-turbo-instruct", prompt="luggage rules", stream=True))
            )

        seen = bench.compare(act)

        assert (seen.one.api, seen.one.outcome) == ("openai.completions", "ok")
        assert seen.one.text == "".join(chunk.choices[0].text for chunk in seen.result)
        assert seen.one.estimate.estimated

    def test_images_moderations_and_sound(self, bench: Any) -> None:
        """Each of the other endpoints is a record of its own operation, and their bytes are not kept."""

        async def act(kit: Any) -> Any:
            sdk = client(kit)
            image = await kit.now(sdk.images.generate(model="gpt-image-1", prompt="a tram"))
            moderation = await kit.now(sdk.moderations.create(input="I could kill for a coffee"))
            speech = await kit.now(sdk.audio.speech.create(model="tts-1", voice="alloy", input="Hello"))
            sound = await kit.now(speech.aread()) if kit.is_async else speech.read()
            file = ("a.wav", sound)
            heard = await kit.now(sdk.audio.transcriptions.create(model="gpt-4o-transcribe", file=file))
            return [image, moderation, sound, heard]

        seen = bench.compare(act)
        image, moderation, speech, heard = seen.requests

        assert [record.outcome for record in seen.requests] == ["ok"] * 4
        assert [record.operation for record in seen.requests] == [
            "image",
            "moderation",
            "speech",
            "transcription",
        ]
        assert image.output_tokens == seen.result[0].usage.output_tokens
        assert moderation.kind == "guardrail"
        assert speech.response_body.size == len(seen.result[2])
        assert speech.response_body.content == b""
        assert heard.text == seen.result[3].text
        assert seen.result[2] in seen.received[3].body
        assert seen.result[2] not in heard.request_body.content

    def test_speech_streamed_to_the_app(self, bench: Any) -> None:
        """``with_streaming_response`` of sound gives the same bytes."""

        async def act(kit: Any) -> Any:
            create = client(kit).audio.speech.with_streaming_response.create
            manager = create(model="tts-1", voice="alloy", input="Hello")
            if kit.is_async:
                async with manager as response:
                    return b"".join([piece async for piece in response.iter_bytes(256)])
            with manager as response:
                return b"".join(response.iter_bytes(256))

        seen = bench.compare(act)

        assert seen.result[:4] == b"RIFF"
        assert (seen.one.operation, seen.one.outcome) == ("speech", "ok")

    def test_what_is_no_call_of_a_model(self, bench: Any) -> None:
        """The list of models is not recorded, and our headers are still taken out."""

        async def act(kit: Any) -> Any:
            models = client(kit, default_headers={"LLMObs-User-Id": "ada"}).models.list()
            return [model.id async for model in models] if kit.is_async else [model.id for model in models]

        assert bench.compare(act).requests == []
