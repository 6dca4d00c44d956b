"""The ollama SDK, bare and watched, with a server written for it here: JSON lines instead of events.

Written from https://docs.ollama.com/api. It takes no HTTP client: its own is wrapped, or is given a transport.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_llmobs.testing.answers import Answer, Question, Tool, Turn, embed, tokens_of
from asgi_llmobs.testing.dialects import Call, Dialect, Piece, Reply
from tests.sdk.conversation import ASYNC, EVERY_WAY, HELLO, TOOL

ollama = pytest.importorskip("ollama")

PROVIDER = "ollama"
MODEL = "llama3.2"
WHEN = {"created_at": "2026-01-01T00:00:00Z"}


def read(call: Call) -> Question:
    body = call.body
    turns = [Turn(message["role"], message.get("content") or "") for message in body.get("messages") or ()]
    if body.get("prompt"):
        turns = [Turn("user", body["prompt"])]
    tools = [
        Tool(item["function"]["name"], item["function"]["description"], item["function"]["parameters"])
        for item in body.get("tools") or ()
    ]
    return Question(model=body["model"], turns=turns, tools=tools, stream=body.get("stream", True))


def reply(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    assert question is not None and answer is not None
    chat = call.path.endswith("/chat")

    def content(text: str, calls: tuple[Any, ...] = ()) -> dict[str, Any]:
        if not chat:
            return {"response": text}
        wanted = [{"function": {"name": item.name, "arguments": item.arguments}} for item in calls]
        return {"message": {"role": "assistant", "content": text, **({"tool_calls": wanted} if wanted else {})}}

    base = {"model": question.model, **WHEN}
    last = {
        "done": True,
        "done_reason": answer.finish if answer.finish == "length" else "stop",
        "total_duration": 5_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": answer.input_tokens,
        "prompt_eval_duration": 1_000_000,
        "eval_count": answer.output_tokens,
        "eval_duration": 2_000_000,
    }
    calls = tuple(answer.tool_calls)
    if not question.stream:
        return Reply(body=json.dumps({**base, **content(answer.text, calls), **last}).encode())

    def lines() -> Iterator[Piece]:
        words = re.findall(r"\S+\s*", answer.text)
        parts = [content(word) for word in words] + ([content("", calls)] if calls else [])
        for part in parts:
            yield Piece(json.dumps({**base, **part, "done": False}).encode() + b"\n", True)
        yield Piece(json.dumps({**base, **content(""), **last}).encode() + b"\n")

    return Reply(pieces=lines(), content_type="application/x-ndjson")


def vectors(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    given = call.body["input"]
    texts = [given] if isinstance(given, str) else given
    body = {
        "model": call.body["model"],
        "embeddings": [embed(text, 64) for text in texts],
        "total_duration": 1,
        "load_duration": 1,
        "prompt_eval_count": sum(map(tokens_of, texts)),
    }
    return Reply(body=json.dumps(body).encode())


def error(status: int, message: str) -> dict[str, Any]:
    return {"error": message}


def dialect(operation: str, ending: str, answer: Any, reader: Any = None) -> Dialect:
    path = re.compile(rf"^/api/{ending}$")
    return Dialect(provider="ollama", operation=operation, path=path, reply=answer, read=reader, error=error)


DIALECTS = (dialect("chat", "(?:chat|generate)", reply, read), dialect("embeddings", "embed", vectors))


def client(kit: Any, **options: Any) -> Any:
    if kit.way == "transport":
        options["transport"] = kit.transport()
    sdk = (ollama.AsyncClient if kit.is_async else ollama.Client)(host=kit.url, **options)
    if kit.way == "http" and kit.obs is not None:
        kit.obs.wrap(sdk._client)
    return kit.sdk(sdk)


@EVERY_WAY
class TestChat:
    def test_tools_round_trip(self, bench: Any) -> None:
        """The call of a tool and the answer from its result are two records."""

        async def act(kit: Any) -> Any:
            ask = client(kit).chat
            asked: list[Any] = [{"role": "user", "content": "weather in Porto"}]
            first = await kit.now(ask(model=MODEL, messages=asked, tools=[TOOL], options={"temperature": 0.1}))
            asked += [first.message, {"role": "tool", "content": "14 °C", "tool_name": "get_weather"}]
            return [first, await kit.now(ask(model=MODEL, messages=asked, tools=[TOOL]))]

        seen = bench.compare(act)
        first, second = seen.requests

        assert (first.provider, first.api, first.request_model) == ("ollama", "ollama.chat", MODEL)
        assert first.parameters["temperature"] == 0.1
        assert [call["name"] for call in first.tool_calls] == ["get_weather"]
        assert "Porto" in str(first.tool_calls[0]["arguments"])
        assert second.text == seen.result[1].message.content
        assert second.input_tokens == seen.result[1].prompt_eval_count
        assert [message.role for message in second.messages] == ["user", "assistant", "tool"]
        assert {first.outcome, second.outcome} == {"ok"}

    @pytest.mark.parametrize("call", ["chat", "generate"])
    def test_stream(self, bench: Any, call: str) -> None:
        """A stream of lines is one record with text, usage and the time of the first token."""

        async def act(kit: Any) -> Any:
            ask = getattr(client(kit), call)
            given: Any = {"messages": HELLO} if call == "chat" else {"prompt": HELLO[0]["content"]}
            parts = await kit.now(ask(model=MODEL, stream=True, **given))
            return [part async for part in parts] if kit.is_async else list(parts)

        seen = bench.compare(act, {"first_token_delay": 0.1})
        record = seen.one
        texts = [part.message.content if call == "chat" else part.response for part in seen.result]

        assert record.text == "".join(texts)
        assert record.output_tokens == seen.result[-1].eval_count
        assert (record.outcome, record.finish_reasons, record.framing) == ("ok", ("stop",), "ndjson")
        assert record.first_token_ns > record.headers_ns
        assert record.api == f"ollama.{call}"

    def test_headers_of_ours(self, bench: Any) -> None:
        """Our headers are read and never sent."""

        async def act(kit: Any) -> Any:
            ask = client(kit, headers={"LLMObs-User-Id": "ada", "Helicone-Session-Id": "s"}).chat
            return await kit.now(ask(model=MODEL, messages=HELLO))

        record = bench.compare(act).one

        assert (record.user_id, record.session_id, record.outcome) == ("ada", "s", "ok")


class TestEnds:
    def test_left_early(self, bench: Any) -> None:
        """A stream that is closed after its first line is abandoned."""

        async def act(kit: Any) -> Any:
            parts = await kit.now(client(kit).chat(model=MODEL, messages=HELLO, stream=True))
            if kit.is_async:
                async for part in parts:
                    await parts.aclose()
                    return part
            for part in parts:
                parts.close()
                return part

        seen = bench.compare(act, {"chunk_delay": 0.03})

        assert (seen.one.outcome, seen.one.text) == ("abandoned", seen.result.message.content)
        assert bench.gone(seen.received[0])

    @ASYNC
    def test_a_cancelled_task(self, bench: Any) -> None:
        """A task that is cancelled in mid-stream: the same CancelledError, and the record is cancelled."""

        async def act(kit: Any) -> Any:
            async for _ in await client(kit).chat(model=MODEL, messages=HELLO, stream=True):
                asyncio.current_task().cancel()  # type: ignore[union-attr]

        seen = bench.compare(act, {"chunk_delay": 0.05}, fails=True)

        assert isinstance(seen.result, asyncio.CancelledError)
        assert (seen.one.outcome, seen.one.text[:4]) == ("cancelled", "You ")

    @pytest.mark.parametrize("stream", [False, True])
    def test_an_error_is_the_same_exception(self, bench: Any, stream: bool) -> None:
        """Type and message stay; the record has them."""

        async def act(kit: Any) -> Any:
            parts = await kit.now(client(kit).chat(model=MODEL, messages=HELLO, stream=stream))
            return [part async for part in parts] if kit.is_async else list(parts)

        seen = bench.compare(act, {"status": 404, "message": "model 'llama3.2' not found"}, fails=True)

        assert isinstance(seen.result, ollama.ResponseError)
        assert (seen.one.outcome, seen.one.status) == ("error", 404)
        assert seen.one.error_message == "model 'llama3.2' not found"

    def test_an_error_inside_a_stream(self, bench: Any) -> None:
        """A line with an error after 200 raises in the SDK and fails the record."""
        body = b'{"error": "out of memory"}\n'

        async def act(kit: Any) -> Any:
            parts = await kit.now(client(kit).chat(model=MODEL, messages=HELLO, stream=True))
            return [part async for part in parts] if kit.is_async else list(parts)

        seen = bench.compare(act, {"body": body, "content_type": "application/x-ndjson"}, fails=True)

        assert isinstance(seen.result, ollama.ResponseError)
        assert (seen.one.outcome, seen.one.status, seen.one.error_message) == ("error", 200, "out of memory")

    def test_nobody_answers(self, bench: Any) -> None:
        """A refused connection is the SDK's own exception and one failed request."""

        async def act(kit: Any) -> Any:
            kind = ollama.AsyncClient if kit.is_async else ollama.Client
            return await kit.now(kit.sdk(kind(host="http://127.0.0.1:9")).chat(model=MODEL, messages=HELLO))

        seen = bench.compare(act, fails=True)

        assert isinstance(seen.result, ConnectionError)
        assert (seen.one.outcome, seen.one.error_type) == ("error", "ConnectError")


def test_embeddings(bench: Any) -> None:
    """Vectors reach the app unchanged; the record counts them."""

    async def act(kit: Any) -> Any:
        return await kit.now(client(kit).embed(model="nomic-embed-text", input=["one", "two"]))

    seen = bench.compare(act)

    assert (seen.one.operation, seen.one.details["input_count"]) == ("embeddings", 2)
    assert seen.one.input_tokens == seen.result.prompt_eval_count
