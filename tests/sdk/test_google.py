"""The google-genai SDK, bare and watched.

Where ``aiohttp`` is installed its async calls go over that unless it is given something of httpx: a transport here.
"""

import asyncio
import sys
from typing import Any

import pytest

from tests.sdk.conversation import ASYNC, EVERY_WAY, QUESTION

genai = pytest.importorskip("google.genai")
errors = pytest.importorskip("google.genai.errors")

PROVIDER = "google"
MODEL = "gemini-2.0-flash"
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
QUICK = {"attempts": 3, "initial_delay": 0.02, "max_delay": 0.05, "jitter": 0.0}


def models(kit: Any, **options: Any) -> Any:
    """``client.models`` or ``client.aio.models``."""
    return client(kit, **options).models


def client(kit: Any, **options: Any) -> Any:
    http = kit.http()
    if http is not None:
        options["httpx_async_client" if kit.is_async else "httpx_client"] = http
    elif kit.is_async:
        options["async_client_args"] = {"transport": kit.family.AsyncHTTPTransport()}
    made = genai.Client(api_key="none", http_options={"base_url": kit.url, **options})
    if kit.is_async and http is None:
        kit.later(made.aio.aclose)
    return kit.sdk(made).aio if kit.is_async else kit.sdk(made)


@EVERY_WAY
class TestGenerate:
    def test_whole(self, bench: Any) -> None:
        """One call is one record with model, text, usage, price and finish reason."""

        async def act(kit: Any) -> Any:
            config = {"system_instruction": "Be kind.", "temperature": 0.3}
            return await kit.now(models(kit).generate_content(model=MODEL, contents=QUESTION, config=config))

        seen = bench.compare(act)
        answer, record = seen.result, seen.one

        assert (record.provider, record.operation, record.request_model) == ("google", "chat", MODEL)
        assert record.response_model == answer.model_version
        assert record.text == answer.text
        assert record.finish_reasons == ("STOP",)
        assert record.input_tokens == answer.usage_metadata.prompt_token_count
        assert record.output_tokens == answer.usage_metadata.candidates_token_count
        assert [message.role for message in record.messages] == ["system", "user"]
        assert record.parameters["temperature"] == 0.3
        assert record.cost_usd is not None
        assert (record.outcome, record.status, len(record.attempts), record.stream) == ("ok", 200, 1, False)
        assert "none" not in (record.url or "").rpartition("?")[2]

    def test_stream(self, bench: Any) -> None:
        """A stream is one record with the usage of its last chunk, and when the first token came."""

        async def act(kit: Any) -> Any:
            stream = await kit.now(models(kit).generate_content_stream(model=MODEL, contents=QUESTION))
            return [chunk async for chunk in stream] if kit.is_async else list(stream)

        seen = bench.compare(act, {"first_token_delay": 0.1})
        record = seen.one

        assert record.text == "".join(chunk.text or "" for chunk in seen.result)
        assert record.output_tokens == seen.result[-1].usage_metadata.candidates_token_count
        assert (record.outcome, record.stream, record.finish_reasons) == ("ok", True, ("STOP",))
        assert record.first_token_ns > record.headers_ns

    def test_retry_then_answer(self, bench: Any) -> None:
        """This SDK does not say which attempt it is: they are one request all the same."""

        async def act(kit: Any) -> Any:
            return await kit.now(models(kit, retry_options=QUICK).generate_content(model=MODEL, contents=QUESTION))

        seen = bench.compare(act, {"status": 429, "message": "Slow down."}, {"status": 503})
        attempts = seen.one.attempts

        assert [(item.number, item.status) for item in attempts] == [(1, 429), (2, 503), (3, 200)]
        assert attempts[0].error_message == "Slow down."
        assert attempts[1].start_ns - (attempts[0].start_ns + attempts[0].duration_ns) > 10e6
        assert (seen.one.outcome, seen.one.text) == ("ok", seen.result.text)

    def test_headers_of_ours(self, bench: Any) -> None:
        """Our headers are read and never sent."""

        async def act(kit: Any) -> Any:
            config = {"http_options": {"headers": {"Helicone-User-Id": "ada"}}}
            ask = models(kit, headers={"LLMObs-Session-Id": "s-1"}).generate_content
            return await kit.now(ask(model=MODEL, contents=QUESTION, config=config))

        record = bench.compare(act).one

        assert (record.session_id, record.user_id) == ("s-1", "ada")


class TestMore:
    def test_tools_round_trip(self, bench: Any) -> None:
        """A function call and its response are two records."""

        async def act(kit: Any) -> Any:
            ask = models(kit).generate_content
            config: Any = {"tools": [{"function_declarations": [WEATHER]}]}
            contents: list[Any] = [{"role": "user", "parts": [{"text": "weather in Kyoto"}]}]
            first = await kit.now(ask(model=MODEL, contents=contents, config=config))
            told = {"function_response": {"name": "get_weather", "response": {"temperature": "14 °C"}}}
            contents += [first.candidates[0].content, {"role": "user", "parts": [told]}]
            return [first, await kit.now(ask(model=MODEL, contents=contents, config=config))]

        seen = bench.compare(act)
        first, second = seen.requests

        assert [call["name"] for call in first.tool_calls] == ["get_weather"]
        assert "Kyoto" in str(first.tool_calls[0]["arguments"])
        assert [tool["name"] for tool in first.tools] == ["get_weather"]
        assert "tool_call_response" in [part.type for message in second.messages for part in message.parts]
        assert second.text == seen.result[1].text

    def test_functions_that_the_sdk_calls(self, bench: Any) -> None:
        """The SDK runs a function and asks again by itself: two records, the function run once."""
        ran: list[str] = []

        def get_weather(city: str) -> str:
            """The weather in a city."""
            ran.append(city)
            return "14 °C"

        async def act(kit: Any) -> Any:
            ran.clear()
            config = {"tools": [get_weather]}
            return await kit.now(models(kit).generate_content(model=MODEL, contents="weather in Kyoto", config=config))

        seen = bench.compare(act)

        assert ran == ["Kyoto"]
        assert [len(record.tool_calls) for record in seen.requests] == [1, 0]
        assert seen.requests[1].text == seen.result.text

    def test_a_chat(self, bench: Any) -> None:
        """Two messages of a chat are two records, the second with the whole conversation."""

        async def act(kit: Any) -> Any:
            chat = client(kit).chats.create(model=MODEL)
            first = await kit.now(chat.send_message(QUESTION))
            stream = await kit.now(chat.send_message_stream("And the luggage?"))
            return [first, [chunk async for chunk in stream] if kit.is_async else list(stream)]

        seen = bench.compare(act)

        assert [message.role for message in seen.requests[1].messages] == ["user", "assistant", "user"]
        assert [record.outcome for record in seen.requests] == ["ok", "ok"]

    def test_thoughts(self, bench: Any) -> None:
        """Thoughts and their tokens are told apart from the answer."""

        async def act(kit: Any) -> Any:
            config = {"thinking_config": {"include_thoughts": True, "thinking_budget": 512}}
            return await kit.now(
                models(kit).generate_content(model="gemini-2.5-flash", contents=QUESTION, config=config)
            )

        seen = bench.compare(act)
        usage = seen.result.usage_metadata

        assert seen.one.reasoning_text == seen.result.candidates[0].content.parts[0].text
        assert seen.one.usage.reasoning == usage.thoughts_token_count > 0
        assert seen.one.output_tokens == usage.thoughts_token_count + usage.candidates_token_count

    def test_embeddings_and_tokens(self, bench: Any) -> None:
        """Embeddings and the counting of tokens are operations of their own."""

        async def act(kit: Any) -> Any:
            use = models(kit)
            vectors = await kit.now(use.embed_content(model="gemini-embedding-001", contents=["one", "two"]))
            return [vectors, await kit.now(use.count_tokens(model=MODEL, contents=QUESTION))]

        seen = bench.compare(act)

        assert [record.operation for record in seen.requests] == ["embeddings", "count_tokens"]
        assert len(seen.requests[0].response_body.content) < 1_000

    @pytest.mark.parametrize(("status", "name"), [(400, "INVALID_ARGUMENT"), (500, "INTERNAL")])
    def test_an_error_is_the_same_exception(self, bench: Any, status: int, name: str) -> None:
        """Type, code and message stay; the record has them."""

        async def act(kit: Any) -> Any:
            return await kit.now(models(kit).generate_content(model=MODEL, contents=QUESTION))

        seen = bench.compare(act, {"status": status, "message": "No."}, fails=True)

        assert isinstance(seen.result, errors.APIError)
        assert (seen.one.outcome, seen.one.status, seen.one.error_message) == ("error", status, "No.")
        assert seen.one.error_type == name

    def test_a_stream_that_breaks(self, bench: Any) -> None:
        """A stream that is cut off raises as before, and its text so far is kept."""

        async def act(kit: Any) -> Any:
            stream = await kit.now(models(kit).generate_content_stream(model=MODEL, contents=QUESTION))
            return [chunk async for chunk in stream] if kit.is_async else list(stream)

        seen = bench.compare(act, {"drop_after": 1}, fails=True)

        assert isinstance(seen.result, bench.family.RemoteProtocolError)
        assert (seen.one.outcome, seen.one.error_type) == ("error", "RemoteProtocolError")
        assert seen.one.text.startswith("You can")

    def test_left_early(self, bench: Any) -> None:
        """A stream that is closed after its first chunk is abandoned."""

        async def act(kit: Any) -> Any:
            stream = await kit.now(models(kit).generate_content_stream(model=MODEL, contents=QUESTION))
            if kit.is_async:
                async for chunk in stream:
                    await stream.aclose()
                    return chunk
            for chunk in stream:
                stream.close()
                return chunk

        seen = bench.compare(act, {"chunk_delay": 0.03})

        assert (seen.one.outcome, seen.one.text) == ("abandoned", seen.result.text)

    @ASYNC
    def test_a_cancelled_task(self, bench: Any) -> None:
        """A task that is cancelled in mid-stream: the same CancelledError, and the record is cancelled."""

        async def act(kit: Any) -> Any:
            async for _ in await models(kit).generate_content_stream(model=MODEL, contents=QUESTION):
                asyncio.current_task().cancel()  # type: ignore[union-attr]

        seen = bench.compare(act, {"chunk_delay": 0.05}, fails=True)

        assert isinstance(seen.result, asyncio.CancelledError)
        assert (seen.one.outcome, seen.one.text[:7]) == ("cancelled", "You can")

    def test_timeouts(self, bench: Any) -> None:
        """A timeout is the same exception, and a failed request."""

        async def act(kit: Any) -> Any:
            return await kit.now(models(kit, timeout=80).generate_content(model=MODEL, contents=QUESTION))

        seen = bench.compare(act, {"delay": 0.5}, fails=True)

        assert isinstance(seen.result, bench.family.ReadTimeout)
        assert [(item.error_type, item.status) for item in seen.one.attempts] == [("ReadTimeout", None)]

    def test_the_line_of_the_call(self, bench: Any) -> None:
        """The record names the very line of the app."""
        lines = []

        async def act(kit: Any) -> Any:
            use = models(kit)
            lines.append(sys._getframe().f_lineno + 1)
            return await kit.now(use.generate_content(model=MODEL, contents=QUESTION))

        caller = bench.compare(act).one.caller
        assert f"test_google.py:{lines[-1]} " in caller
