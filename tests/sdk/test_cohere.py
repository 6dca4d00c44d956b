"""The cohere SDK, bare and watched: version 2 of chat, embeddings and reranking, with a server written for it here.

Written from https://docs.cohere.com/reference/chat, /chat-stream, /embed and /rerank.
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

cohere = pytest.importorskip("cohere")
errors = pytest.importorskip("cohere.core.api_error")

PROVIDER = "cohere"
MODEL = "command-a-03-2025"
FINISH = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"}


def as_json(value: Any) -> Reply:
    return Reply(body=json.dumps(value).encode())


def said(content: Any) -> str:
    return content if isinstance(content, str) else " ".join(part.get("text") or "" for part in content or ())


def read(call: Call) -> Question:
    return Question(
        model=call.body["model"],
        turns=[Turn(message["role"], said(message.get("content"))) for message in call.body["messages"]],
        tools=[
            Tool(item["function"]["name"], item["function"]["description"], item["function"]["parameters"])
            for item in call.body.get("tools") or ()
        ],
        stream=call.body.get("stream", False),
    )


def usage(answer: Answer) -> dict[str, Any]:
    counts = {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens}
    return {"billed_units": counts, "tokens": {**counts, "input_tokens": answer.input_tokens + 60}}


def tool_calls(answer: Answer) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}
        for call in answer.tool_calls
    ]


def chat(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    assert question is not None and answer is not None
    if question.stream:
        return Reply(pieces=events(call, answer), content_type="text/event-stream")
    message: dict[str, Any] = {"role": "assistant"}
    if answer.tool_calls:
        message |= {"tool_plan": "I will look it up.", "tool_calls": tool_calls(answer)}
    else:
        message["content"] = [{"type": "text", "text": answer.text}]
    finish = FINISH[answer.finish]
    return as_json({"id": f"c-{call.number}", "finish_reason": finish, "message": message, "usage": usage(answer)})


def events(call: Call, answer: Answer) -> Iterator[Piece]:
    def event(kind: str, content: bool = False, **fields: Any) -> Piece:
        return Piece(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode(), content)

    yield event("message-start", id=f"c-{call.number}", delta={"message": {"role": "assistant"}})
    for index, item in enumerate(tool_calls(answer)):
        whole = item["function"]["arguments"]
        opening = {**item, "function": {**item["function"], "arguments": ""}}
        yield event("tool-call-start", True, index=index, delta={"message": {"tool_calls": opening}})
        for part in (whole[:5], whole[5:]):
            piece = {"message": {"tool_calls": {"function": {"arguments": part}}}}
            yield event("tool-call-delta", True, index=index, delta=piece)
        yield event("tool-call-end", index=index)
    if answer.text:
        yield event("content-start", index=0, delta={"message": {"content": {"type": "text", "text": ""}}})
        for word in re.findall(r"\S+\s*", answer.text):
            yield event("content-delta", True, index=0, delta={"message": {"content": {"text": word}}})
        yield event("content-end", index=0)
    yield event("message-end", delta={"finish_reason": FINISH[answer.finish], "usage": usage(answer)})


def vectors(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    texts = call.body["texts"]
    billed = {"billed_units": {"input_tokens": sum(map(tokens_of, texts))}}
    floats = {"float": [embed(text, 64) for text in texts]}
    return as_json(
        {
            "id": f"e-{call.number}",
            "response_type": "embeddings_by_type",
            "embeddings": floats,
            "texts": texts,
            "meta": {"api_version": {"version": "2"}, **billed},
        }
    )


def rerank(call: Call, question: Question | None, answer: Answer | None) -> Reply:
    words = set(call.body["query"].lower().split())
    scores = [len(words & set(text.lower().split())) / len(words) for text in call.body["documents"]]
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    results = [{"index": index, "relevance_score": scores[index]} for index in order]
    return as_json({"id": f"r-{call.number}", "results": results, "meta": {"billed_units": {"search_units": 1}}})


def error(status: int, message: str) -> dict[str, Any]:
    return {"id": "x-1", "message": message}


def dialect(operation: str, ending: str, reply: Any, reader: Any = None) -> Dialect:
    path = re.compile(rf"^/v2/{ending}$")
    return Dialect(provider="cohere", operation=operation, path=path, reply=reply, read=reader, error=error)


DIALECTS = (
    dialect("chat", "chat", chat, read),
    dialect("embeddings", "embed", vectors),
    dialect("rerank", "rerank", rerank),
)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's back-off starts at twenty milliseconds."""
    monkeypatch.setattr("cohere.core.http_client.INITIAL_RETRY_DELAY_SECONDS", 0.02)


def client(kit: Any, **options: Any) -> Any:
    kind = cohere.AsyncClientV2 if kit.is_async else cohere.ClientV2
    made = kind(api_key="none", base_url=kit.url, httpx_client=kit.http(), **options)
    inner = made._client_wrapper.httpx_client.httpx_client
    return kit.sdk(made, inner.aclose if kit.is_async else inner.close)


@EVERY_WAY
class TestChat:
    def test_tools_round_trip(self, bench: Any) -> None:
        """The call of a tool, its plan and the answer from its result are two records."""

        async def act(kit: Any) -> Any:
            ask = client(kit).chat
            asked: list[Any] = [{"role": "user", "content": "weather in Porto"}]
            first = await kit.now(ask(model=MODEL, messages=asked, tools=[TOOL], temperature=0.1))
            call = first.message.tool_calls[0]
            asked += [first.message, {"role": "tool", "tool_call_id": call.id, "content": "14 °C"}]
            return [first, await kit.now(ask(model=MODEL, messages=asked, tools=[TOOL]))]

        seen = bench.compare(act)
        first, second = seen.requests
        answer = seen.result[1]

        assert (first.provider, first.api, first.request_model) == ("cohere", "cohere.v2.chat", MODEL)
        assert [(call["name"], call["arguments"]) for call in first.tool_calls] == [
            ("get_weather", '{"city": "Porto"}')
        ]
        assert first.finish_reasons == ("TOOL_CALL",)
        assert first.details["tool_plan"] == "I will look it up."
        assert first.parameters["temperature"] == 0.1
        assert (second.text, second.response_id) == (answer.message.content[0].text, answer.id)
        assert second.input_tokens == answer.usage.tokens.input_tokens
        assert second.usage.billed_input == answer.usage.billed_units.input_tokens
        assert second.cost_usd is not None
        assert {first.outcome, second.outcome} == {"ok"}

    def test_stream(self, bench: Any) -> None:
        """A stream is one record with text, usage and the time of the first token."""

        async def act(kit: Any) -> Any:
            events = client(kit).chat_stream(model=MODEL, messages=HELLO)
            return [event async for event in events] if kit.is_async else list(events)

        seen = bench.compare(act, {"first_token_delay": 0.1})
        record = seen.one
        deltas = [event.delta for event in seen.result if event.type == "content-delta"]

        assert record.text == "".join(delta.message.content.text for delta in deltas)
        assert record.output_tokens == seen.result[-1].delta.usage.tokens.output_tokens
        assert (record.outcome, record.finish_reasons, record.framing) == ("ok", ("COMPLETE",), "sse")
        assert record.first_token_ns > record.headers_ns

    def test_retry_then_answer(self, bench: Any) -> None:
        """The SDK does not say which attempt it is: they are one request all the same. Our headers stay here."""

        async def act(kit: Any) -> Any:
            options: Any = {"additional_headers": {"LLMObs-User-Id": "ada", "Helicone-Session-Id": "s"}}
            return await kit.now(client(kit).chat(model=MODEL, messages=HELLO, request_options=options))

        record = bench.compare(act, {"status": 429, "retry_after": 0.02, "message": "Slow down."}, {"status": 503}).one

        assert [(item.status, item.retry_after) for item in record.attempts] == [
            (429, "0.02"),
            (503, None),
            (200, None),
        ]
        assert record.attempts[0].error_message == "Slow down."
        assert (record.user_id, record.session_id, record.outcome) == ("ada", "s", "ok")


class TestEnds:
    def test_left_early(self, bench: Any) -> None:
        """A stream that is closed after its first text is abandoned."""

        async def act(kit: Any) -> Any:
            events = client(kit).chat_stream(model=MODEL, messages=HELLO)
            if kit.is_async:
                async for event in events:
                    if event.type == "content-delta":
                        await events.aclose()
                        return event
            for event in events:
                if event.type == "content-delta":
                    events.close()
                    return event

        seen = bench.compare(act, {"chunk_delay": 0.03})

        assert (seen.one.outcome, seen.one.text) == ("abandoned", seen.result.delta.message.content.text)
        assert bench.gone(seen.received[0])

    @ASYNC
    def test_a_cancelled_task(self, bench: Any) -> None:
        """A task that is cancelled in mid-stream: the same CancelledError, and the record is cancelled."""

        async def act(kit: Any) -> Any:
            async for event in client(kit).chat_stream(model=MODEL, messages=HELLO):
                if event.type == "content-delta":
                    asyncio.current_task().cancel()  # type: ignore[union-attr]

        seen = bench.compare(act, {"chunk_delay": 0.05}, fails=True)

        assert isinstance(seen.result, asyncio.CancelledError)
        assert (seen.one.outcome, seen.one.text[:4]) == ("cancelled", "You ")

    @pytest.mark.parametrize("status", [400, 401])
    def test_an_error_is_the_same_exception(self, bench: Any, status: int) -> None:
        """Type and message stay; the record has them."""

        async def act(kit: Any) -> Any:
            return await kit.now(client(kit).chat(model=MODEL, messages=HELLO))

        seen = bench.compare(act, {"status": status, "message": "invalid request"}, fails=True)

        assert isinstance(seen.result, errors.ApiError)
        assert (seen.one.outcome, seen.one.status, seen.one.error_message) == ("error", status, "invalid request")

    def test_a_stream_that_breaks(self, bench: Any) -> None:
        """A stream that is cut off raises as before, and its text so far is kept."""

        async def act(kit: Any) -> Any:
            events = client(kit).chat_stream(model=MODEL, messages=HELLO)
            return [event async for event in events] if kit.is_async else list(events)

        seen = bench.compare(act, {"drop_after": 4}, fails=True)

        assert isinstance(seen.result, bench.family.RemoteProtocolError)
        assert (seen.one.outcome, seen.one.error_type, seen.one.text) == ("error", "RemoteProtocolError", "You can ")

    def test_timeouts(self, bench: Any) -> None:
        """A timeout is the same exception, and a failed request."""

        async def act(kit: Any) -> Any:
            options: Any = {"max_retries": 0}
            ask = client(kit, timeout=0.08).chat
            return await kit.now(ask(model=MODEL, messages=HELLO, request_options=options))

        seen = bench.compare(act, {"delay": 0.5, "times": None}, fails=True)

        assert isinstance(seen.result, bench.family.ReadTimeout)
        assert (seen.one.outcome, seen.one.error_type) == ("error", "ReadTimeout")


def test_embeddings_and_reranking(bench: Any) -> None:
    """Vectors and orders reach the app unchanged; each is a record of its own operation."""
    documents = ["cabin baggage", "visa for Canada", "baggage allowance in the cabin"]

    async def act(kit: Any) -> Any:
        sdk = client(kit)
        embedding: Any = {"model": "embed-v4.0", "input_type": "search_document", "embedding_types": ["float"]}
        got = await kit.now(sdk.embed(texts=documents, **embedding))
        return [got, await kit.now(sdk.rerank(model="rerank-v3.5", query="cabin baggage", documents=documents))]

    seen = bench.compare(act)
    embedded, reranked = seen.requests

    assert (embedded.operation, reranked.operation, reranked.kind) == ("embeddings", "rerank", "reranker")
    assert embedded.details["input_count"] == 3
    assert embedded.usage.billed_input == seen.result[0].meta.billed_units.input_tokens
    assert reranked.usage.search_units == 1
    assert reranked.details["results"][0]["index"] == 0
