"""The mistralai SDK, bare and watched. Its streams tell their usage without being asked."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from asgi_llmobs.testing.answers import Answer, Question
from asgi_llmobs.testing.dialects import Call, Dialect, Reply
from tests.sdk.conversation import ASYNC, EVERY_WAY, HELLO, TOOL, answered_at_the_third_attempt

mistral = pytest.importorskip("mistralai.client")
retries = pytest.importorskip("mistralai.client.utils.retries")
errors = pytest.importorskip("mistralai.client.errors")

PROVIDER = "mistral"
MODEL = "mistral-small-latest"


def change(dialect: Dialect) -> Dialect:
    """Usage comes with every stream, and embeddings have an id."""
    read = dialect.read

    def read_with_usage(call: Call) -> Question:
        assert read is not None
        return replace(read(call), include_usage=True)

    def reply_with_id(call: Call, question: Question | None, answer: Answer | None) -> Reply:
        inner = dialect.reply(call, question, answer)
        return replace(inner, body=json.dumps({"id": f"embd-{call.number}", **json.loads(inner.body)}).encode())

    if read is not None:
        return replace(dialect, read=read_with_usage)
    return replace(dialect, reply=reply_with_id) if dialect.operation == "embeddings" else dialect


def client(kit: Any, **options: Any) -> Any:
    http = kit.http()
    if http is not None:
        options["async_client" if kit.is_async else "client"] = http
    made = mistral.Mistral(api_key="none", server_url=kit.url, **options)
    leave = made.__aexit__ if kit.is_async else made.__exit__
    return kit.sdk(made, lambda: leave(None, None, None))


def quick() -> Any:
    return retries.RetryConfig("backoff", retries.BackoffStrategy(20, 40, 1.0, 3_000, jitter_ms=0), True)


def complete(kit: Any, **options: Any) -> Any:
    chat = client(kit, **options).chat
    return chat.complete_async if kit.is_async else chat.complete


def stream(kit: Any, **options: Any) -> Any:
    chat = client(kit, **options).chat
    return chat.stream_async if kit.is_async else chat.stream


@EVERY_WAY
class TestChat:
    def test_tools_round_trip(self, bench: Any) -> None:
        """The call of a tool and the answer from its result are two records under Mistral's name."""

        async def act(kit: Any) -> Any:
            ask = complete(kit)
            asked: list[Any] = [{"role": "user", "content": "weather in Porto"}]
            first = await kit.now(ask(model=MODEL, messages=asked, tools=[TOOL], temperature=0.1))
            message = first.choices[0].message
            call = message.tool_calls[0]
            asked += [message, {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": "14 °C"}]
            return [first, await kit.now(ask(model=MODEL, messages=asked, tools=[TOOL]))]

        seen = bench.compare(act)
        first, second = seen.requests

        assert (first.provider, first.api, first.request_model) == ("mistral", "openai.chat", MODEL)
        assert first.parameters["temperature"] == 0.1
        assert [call["name"] for call in first.tool_calls] == ["get_weather"]
        assert second.text == seen.result[1].choices[0].message.content
        assert second.input_tokens == seen.result[1].usage.prompt_tokens
        assert second.cost_usd is not None
        assert {first.outcome, second.outcome} == {"ok"}

    def test_stream(self, bench: Any) -> None:
        """A stream is one record with text, usage and the time of the first token."""

        async def act(kit: Any) -> Any:
            events = await kit.now(stream(kit)(model=MODEL, messages=HELLO))
            return [event async for event in events] if kit.is_async else list(events)

        seen = bench.compare(act, {"first_token_delay": 0.1})
        record = seen.one
        texts = [event.data.choices[0].delta.content for event in seen.result if event.data.choices]

        assert record.text == "".join(text for text in texts if isinstance(text, str))
        assert record.output_tokens == seen.result[-1].data.usage.completion_tokens
        assert (record.outcome, record.finish_reasons) == ("ok", ("stop",))
        assert record.first_token_ns > record.headers_ns

    def test_retry_then_answer(self, bench: Any) -> None:
        """The SDK does not say which attempt it is: they are one request all the same. Our headers stay here."""

        async def act(kit: Any) -> Any:
            headers = {"LLMObs-User-Id": "ada", "Helicone-Session-Id": "s"}
            return await kit.now(complete(kit, retry_config=quick())(model=MODEL, messages=HELLO, http_headers=headers))

        answered_at_the_third_attempt(bench.compare(act, {"status": 429, "retry_after": 0.02}, {"status": 503}).one)


class TestEnds:
    def test_left_early(self, bench: Any) -> None:
        """A stream left by its context manager is abandoned."""

        async def act(kit: Any) -> Any:
            events = await kit.now(stream(kit)(model=MODEL, messages=HELLO))
            got = []
            if kit.is_async:
                async with events:
                    async for event in events:
                        got.append(event)
                        if len(got) == 3:
                            return got
            with events:
                for event in events:
                    got.append(event)
                    if len(got) == 3:
                        return got

        seen = bench.compare(act, {"chunk_delay": 0.03})

        assert seen.one.outcome == "abandoned"
        assert seen.one.text == "".join(event.data.choices[0].delta.content for event in seen.result)
        assert bench.gone(seen.received[0])

    @ASYNC
    def test_a_cancelled_task(self, bench: Any) -> None:
        """A task that is cancelled in mid-stream: the same CancelledError, and the record is cancelled."""

        async def act(kit: Any) -> Any:
            async for event in await stream(kit)(model=MODEL, messages=HELLO):
                if event.data.choices[0].delta.content:
                    asyncio.current_task().cancel()  # type: ignore[union-attr]

        seen = bench.compare(act, {"chunk_delay": 0.05}, fails=True)

        assert isinstance(seen.result, asyncio.CancelledError)
        assert seen.one.outcome == "cancelled"

    def test_an_error_is_the_same_exception(self, bench: Any) -> None:
        """Type and message stay; the record has them."""

        async def act(kit: Any) -> Any:
            return await kit.now(complete(kit)(model=MODEL, messages=HELLO))

        seen = bench.compare(act, {"status": 401, "message": "Unauthorized"}, fails=True)

        assert isinstance(seen.result, errors.MistralError)
        assert (seen.one.outcome, seen.one.status, seen.one.error_message) == ("error", 401, "Unauthorized")

    def test_a_dropped_connection(self, bench: Any) -> None:
        """A connection that breaks raises as before, and is one failed request."""

        async def act(kit: Any) -> Any:
            return await kit.now(complete(kit)(model=MODEL, messages=HELLO))

        seen = bench.compare(act, {"drop_after": 0}, fails=True)

        assert isinstance(seen.result, bench.family.RemoteProtocolError)
        assert (seen.one.outcome, seen.one.error_type) == ("error", "RemoteProtocolError")

    def test_timeouts(self, bench: Any) -> None:
        """A timeout is the same exception, and a failed request."""

        async def act(kit: Any) -> Any:
            return await kit.now(complete(kit, timeout_ms=80)(model=MODEL, messages=HELLO))

        seen = bench.compare(act, {"delay": 0.5}, fails=True)

        assert isinstance(seen.result, bench.family.ReadTimeout)
        assert (seen.one.outcome, seen.one.error_type) == ("error", "ReadTimeout")


def test_embeddings_and_moderations(bench: Any) -> None:
    """The other endpoints are records of their own."""

    async def act(kit: Any) -> Any:
        sdk = client(kit)
        embed = sdk.embeddings.create_async if kit.is_async else sdk.embeddings.create
        moderate = sdk.classifiers.moderate_async if kit.is_async else sdk.classifiers.moderate
        vectors = await kit.now(embed(model="mistral-embed", inputs=["one", "two"]))
        return [vectors, await kit.now(moderate(model="mistral-moderation-latest", inputs=["I could kill"]))]

    seen = bench.compare(act)

    assert [record.operation for record in seen.requests] == ["embeddings", "moderation"]
    assert seen.requests[0].input_tokens == seen.result[0].usage.prompt_tokens
    assert {record.outcome for record in seen.requests} == {"ok"}
