"""The groq SDK, bare and watched. Groq speaks OpenAI's format, with usage of its own at the end of a stream."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from asgi_llmobs.testing.answers import Answer, Question
from asgi_llmobs.testing.dialects import Call, Dialect, Piece, Reply
from tests.sdk.conversation import ASYNC, EVERY_WAY, HELLO, TOOL, answered_at_the_third_attempt

groq = pytest.importorskip("groq")

PROVIDER = "groq"
MODEL = "llama-3.3-70b-versatile"


def change(dialect: Dialect) -> Dialect:
    """Groq's stream tells its usage in ``x_groq`` of the chunk with the finish reason, without being asked."""

    def pieces(call: Call, question: Question, answer: Answer, inner: Reply) -> Iterator[Piece]:
        for piece in inner.pieces or ():
            data = piece.data.removeprefix(b"data: ").strip()
            chunk = {} if data == b"[DONE]" else json.loads(data)
            if chunk.get("choices") and chunk["choices"][0]["finish_reason"]:
                usage = {
                    "prompt_tokens": answer.input_tokens,
                    "completion_tokens": answer.output_tokens,
                    "total_tokens": answer.input_tokens + answer.output_tokens,
                    "queue_time": 0.01,
                    "prompt_time": 0.01,
                    "completion_time": 0.02,
                    "total_time": 0.03,
                }
                chunk["x_groq"] = {"id": f"req_{call.number}", "usage": usage}
                piece = Piece(b"data: " + json.dumps(chunk).encode() + b"\n\n", piece.content)
            yield piece

    def reply(call: Call, question: Question | None, answer: Answer | None) -> Reply:
        inner = dialect.reply(call, question, answer)
        if inner.pieces is None:
            return inner
        assert question is not None and answer is not None
        return replace(inner, pieces=pieces(call, question, answer, inner))

    return replace(dialect, reply=reply)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's back-off starts at ten milliseconds."""
    monkeypatch.setattr("groq._base_client.INITIAL_RETRY_DELAY", 0.01)


def client(kit: Any, **options: Any) -> Any:
    kind = groq.AsyncGroq if kit.is_async else groq.Groq
    return kit.sdk(kind(api_key="gsk-none", base_url=kit.url, http_client=kit.http(), **options))


@EVERY_WAY
class TestChat:
    def test_tools_round_trip(self, bench: Any) -> None:
        """The call of a tool and the answer from its result are two records under Groq's name."""

        async def act(kit: Any) -> Any:
            create = client(kit).chat.completions.create
            asked: list[Any] = [{"role": "user", "content": "weather in Porto"}]
            first = await kit.now(create(model=MODEL, messages=asked, tools=[TOOL]))
            call = first.choices[0].message.tool_calls[0]
            asked += [
                {"role": "assistant", "tool_calls": [call.model_dump()]},
                {"role": "tool", "tool_call_id": call.id, "content": "14 °C"},
            ]
            return [first, await kit.now(create(model=MODEL, messages=asked, tools=[TOOL]))]

        seen = bench.compare(act)
        first, second = seen.requests

        assert (first.provider, first.api, first.request_model) == ("groq", "openai.chat", MODEL)
        assert [call["name"] for call in first.tool_calls] == ["get_weather"]
        assert second.text == seen.result[1].choices[0].message.content
        assert second.output_tokens == seen.result[1].usage.completion_tokens
        assert {first.outcome, second.outcome} == {"ok"}

    def test_stream(self, bench: Any) -> None:
        """A stream is one record with the usage of ``x_groq``."""

        async def act(kit: Any) -> Any:
            stream = await kit.now(client(kit).chat.completions.create(model=MODEL, messages=HELLO, stream=True))
            return [chunk async for chunk in stream] if kit.is_async else list(stream)

        seen = bench.compare(act)
        record = seen.one

        assert record.text == "".join(chunk.choices[0].delta.content or "" for chunk in seen.result)
        assert record.output_tokens == seen.result[-1].x_groq.usage.completion_tokens
        assert (record.outcome, record.estimate) == ("ok", None)
        assert record.first_token_ns is not None

    def test_retry_then_answer(self, bench: Any) -> None:
        """Two failures and an answer are one request of three attempts; our headers stay here."""

        async def act(kit: Any) -> Any:
            create = client(kit, default_headers={"Helicone-User-Id": "ada"}).chat.completions.create
            return await kit.now(create(model=MODEL, messages=HELLO, extra_headers={"LLMObs-Session-Id": "s"}))

        answered_at_the_third_attempt(bench.compare(act, {"status": 429, "retry_after": 0.02}, {"status": 503}).one)


class TestEnds:
    def test_left_early(self, bench: Any) -> None:
        """A stream left by its context manager is abandoned."""

        async def act(kit: Any) -> Any:
            stream = await kit.now(client(kit).chat.completions.create(model=MODEL, messages=HELLO, stream=True))
            if kit.is_async:
                async with stream:
                    return [await anext(stream), await anext(stream)]
            with stream:
                return [next(stream), next(stream)]

        seen = bench.compare(act, {"chunk_delay": 0.03})

        assert seen.one.outcome == "abandoned"
        assert seen.one.text == seen.result[1].choices[0].delta.content
        assert bench.gone(seen.received[0])

    @ASYNC
    def test_a_cancelled_task(self, bench: Any) -> None:
        """A call that is cancelled while it waits for a retry ends with the failed attempt it had."""

        async def act(kit: Any) -> Any:
            async with asyncio.timeout(0.6):
                await client(kit).chat.completions.create(model=MODEL, messages=HELLO)

        seen = bench.compare(act, {"status": 429, "retry_after": 5}, fails=True)

        assert isinstance(seen.result, TimeoutError)
        assert [(item.status, item.retry_after) for item in seen.one.attempts] == [(429, "5")]
        assert seen.one.outcome == "error"

    def test_an_error_is_the_same_exception(self, bench: Any) -> None:
        """Type and message stay; the record has them."""

        async def act(kit: Any) -> Any:
            return await kit.now(client(kit).chat.completions.create(model=MODEL, messages=HELLO))

        seen = bench.compare(act, {"status": 401, "message": "Invalid API Key"}, fails=True)

        assert isinstance(seen.result, groq.AuthenticationError)
        assert (seen.one.outcome, seen.one.error_message) == ("error", "Invalid API Key")

    def test_raw_response(self, bench: Any) -> None:
        """``with_raw_response`` gives the same bytes."""

        async def act(kit: Any) -> Any:
            raw = await kit.now(client(kit).chat.completions.with_raw_response.create(model=MODEL, messages=HELLO))
            content = await kit.now(raw.read())
            return [content, await kit.now(raw.parse())]

        seen = bench.compare(act)

        assert json.loads(seen.result[0])["id"] == seen.one.response_id

    def test_embeddings_and_transcription(self, bench: Any) -> None:
        """The other endpoints are records of their own."""

        async def act(kit: Any) -> Any:
            sdk = client(kit)
            vectors = await kit.now(sdk.embeddings.create(model="nomic-embed-text-v1_5", input="one"))
            file = ("a.wav", b"RIFF" + bytes(200))
            heard = await kit.now(sdk.audio.transcriptions.create(model="whisper-large-v3", file=file))
            return [vectors, heard]

        seen = bench.compare(act)

        assert [record.operation for record in seen.requests] == ["embeddings", "transcription"]
        assert seen.requests[1].text == seen.result[1].text
