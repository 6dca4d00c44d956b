"""The fake provider, through the real SDKs and through bare HTTP."""

import json
import time
from typing import Any

import httpx
import pytest

from asgi_llmobs.providers import match
from asgi_llmobs.testing import FakeProvider

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
HELLO = [{"role": "user", "content": "Can I cancel my booking?"}]


def chat(url: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    body = {"model": "gpt-4o-mini", "messages": HELLO, **body}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, trust_env=False)


@pytest.fixture
def openai(fake_url: str) -> Any:
    module = pytest.importorskip("openai")
    with module.OpenAI(api_key="none", base_url=f"{fake_url}/v1", max_retries=2) as client:
        yield client


@pytest.fixture
def anthropic(fake_url: str) -> Any:
    module = pytest.importorskip("anthropic")
    with module.Anthropic(api_key="none", base_url=fake_url, max_retries=2) as client:
        yield client


@pytest.fixture
def gemini(fake_url: str) -> Any:
    module = pytest.importorskip("google.genai")
    with module.Client(api_key="none", http_options={"base_url": fake_url}) as client:
        yield client


@pytest.mark.sdk
class TestOpenAI:
    def test_chat_answers_the_topic(self, openai: Any) -> None:
        """The text fits the question, and usage adds up."""
        answer = openai.chat.completions.create(model="gpt-4o-mini", messages=HELLO)

        assert "cancel free of charge" in answer.choices[0].message.content
        assert answer.model == "gpt-4o-mini-2024-07-18"
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens

    def test_stream_joins_to_the_whole(self, openai: Any) -> None:
        """Streamed fragments are the text that the whole body has, and usage comes last when asked for."""
        whole = openai.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        options = {"include_usage": True}
        chunks = list(
            openai.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True, stream_options=options)
        )

        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
        assert chunks[-2].choices[0].finish_reason == "stop"

    @pytest.mark.parametrize("stream", [False, True])
    def test_tools_are_called_then_answered_from(self, openai: Any, stream: bool) -> None:
        """A user's message leads to a tool call, its result to an answer that repeats it."""
        messages: list[Any] = [{"role": "user", "content": "What is the weather in Porto?"}]
        with openai.chat.completions.stream(model="gpt-4o", messages=messages, tools=[TOOL]) as streamed:
            message = streamed.get_final_completion().choices[0].message
        if not stream:
            message = openai.chat.completions.create(model="gpt-4o", messages=messages, tools=[TOOL]).choices[0].message
        call = message.tool_calls[0]
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Porto"})

        messages += [message.model_dump(exclude_none=True, exclude={"parsed"})]
        messages += [{"role": "tool", "tool_call_id": call.id, "content": '{"temperature": "14 °C"}'}]
        final = openai.chat.completions.create(model="gpt-4o", messages=messages, tools=[TOOL])
        assert final.choices[0].message.content == "Here is what I found. temperature: 14 °C."

    def test_responses_whole_and_streamed(self, openai: Any) -> None:
        """The Responses API gives the same text both ways, with reasoning tokens of a reasoning model."""
        whole = openai.responses.create(model="gpt-5-mini", input="Can I cancel my booking?")
        with openai.responses.stream(model="gpt-5-mini", input="Can I cancel my booking?") as stream:
            events = [event.type for event in stream]
            final = stream.get_final_response()

        assert whole.output_text == final.output_text != ""
        assert whole.usage.output_tokens_details.reasoning_tokens > 0
        assert events[0] == "response.created"
        assert events[-1] == "response.completed"

    def test_responses_tools(self, openai: Any) -> None:
        """A function call comes first, the answer after its output."""
        tool = {"type": "function", **TOOL["function"]}
        first = openai.responses.create(model="gpt-4o", input="weather in Rome?", tools=[tool])
        call = next(item for item in first.output if item.type == "function_call")
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        second = openai.responses.create(
            model="gpt-4o", input=[{"role": "user", "content": "weather in Rome?"}, call, output], tools=[tool]
        )

        assert json.loads(call.arguments) == {"city": "Rome"}
        assert second.output_text == "Here is what I found. sunny."

    def test_structured_output_fits_its_schema(self, openai: Any) -> None:
        """Asked for JSON by a schema, the answer is JSON of that schema."""
        schema = {"type": "object", "properties": {"city": {"type": "string"}, "nights": {"type": "integer"}}}
        asked = {"type": "json_schema", "json_schema": {"name": "trip", "schema": schema}}
        answer = openai.chat.completions.create(model="gpt-4o", messages=HELLO, response_format=asked)

        assert json.loads(answer.choices[0].message.content) == {"city": "Lisbon", "nights": 2}

    def test_embeddings_are_near_for_shared_words(self, openai: Any) -> None:
        """Vectors decode, are of length one, and texts that share words are nearer than texts that do not."""
        texts = ["baggage allowance in the cabin", "cabin baggage", "visa for Canada"]
        answer = openai.embeddings.create(model="text-embedding-3-small", input=texts, dimensions=64)
        first, near, far = (item.embedding for item in answer.data)

        def product(one: list[float], other: list[float]) -> float:
            return sum(a * b for a, b in zip(one, other, strict=True))

        assert product(first, first) == pytest.approx(1, abs=1e-3)
        assert product(first, near) > product(first, far)

    def test_the_other_endpoints(self, openai: Any) -> None:
        """Completions, images, moderations, speech, transcription and models are understood by the SDK."""
        completion = openai.completions.create(model="gpt-3.5-turbo-instruct", prompt="luggage rules")
        image = openai.images.generate(model="gpt-image-1", prompt="a tram")
        moderation = openai.moderations.create(input="I could kill for a coffee")
        speech = openai.audio.speech.create(model="tts-1", voice="alloy", input="Hello")
        heard = openai.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", speech.content))

        assert completion.choices[0].text.startswith("One cabin bag")
        assert image.data[0].b64_json.startswith("iVBOR")
        assert moderation.results[0].flagged
        assert speech.content[:4] == b"RIFF"
        assert "Lisbon" in heard.text
        assert "gpt-4o" in [model.id for model in openai.models.list()]

    def test_retries_until_it_works(self, openai: Any, fake: FakeProvider) -> None:
        """The SDK's own retries see 429 with Retry-After and then the answer."""
        fake.script(status=429, retry_after=0.01, times=2)

        openai.chat.completions.create(model="gpt-4o-mini", messages=HELLO)

        assert [received.status for received in fake.log] == [429, 429, 200]

    def test_an_error_in_the_dialect_of_the_sdk(self, openai: Any, fake: FakeProvider) -> None:
        """The SDK raises its own exception with our message."""
        fake.script(status=400, message="messages: too many")

        with pytest.raises(Exception, match="messages: too many") as caught:
            openai.chat.completions.create(model="gpt-4o-mini", messages=HELLO)

        assert type(caught.value).__name__ == "BadRequestError"


@pytest.mark.sdk
class TestAnthropic:
    def test_message_and_stream(self, anthropic: Any) -> None:
        """Text is the same whole and streamed; the stream's final message has its usage."""
        given: Any = {"model": "claude-haiku-4-5", "max_tokens": 500, "messages": HELLO}
        whole = anthropic.messages.create(**given)
        with anthropic.messages.stream(**given) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()

        assert whole.content[0].text == text
        assert final.usage.output_tokens == whole.usage.output_tokens
        assert final.stop_reason == "end_turn"

    def test_tools_and_thinking(self, anthropic: Any) -> None:
        """Thinking comes first, then the tool call; the result leads to an answer."""
        tool = {"name": "get_weather", "description": "", "input_schema": TOOL["function"]["parameters"]}  # type: ignore[index]
        messages: list[Any] = [{"role": "user", "content": "weather in Vienna"}]
        given: Any = {"model": "claude-sonnet-4-6", "max_tokens": 2000, "tools": [tool]}
        thinking = {"type": "enabled", "budget_tokens": 1024}
        with anthropic.messages.stream(**given, messages=messages, thinking=thinking) as stream:
            first = stream.get_final_message()
        call = first.content[-1]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "9 °C"}]}
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        second = anthropic.messages.create(**given, messages=messages)

        assert [block.type for block in first.content] == ["thinking", "tool_use"]
        assert call.input == {"city": "Vienna"}
        assert second.content[0].text == "Here is what I found. 9 °C."

    def test_prompt_cache_is_written_then_read(self, anthropic: Any) -> None:
        """With cache_control the first call writes, the second reads, and input_tokens excludes both."""
        system = [{"type": "text", "text": "You are kind. " * 100, "cache_control": {"type": "ephemeral"}}]
        given: Any = {"model": "claude-haiku-4-5", "max_tokens": 500, "messages": HELLO, "system": system}
        first, second = (anthropic.messages.create(**given).usage for _ in range(2))

        assert first.cache_creation_input_tokens > 300
        assert first.cache_read_input_tokens == 0
        assert second.cache_read_input_tokens > 300
        assert sum((first.input_tokens, first.cache_creation_input_tokens)) == sum(
            (second.input_tokens, second.cache_creation_input_tokens, second.cache_read_input_tokens)
        )

    def test_count_tokens_and_overload(self, anthropic: Any, fake: FakeProvider) -> None:
        """Tokens can be counted, and 529 is retried by the SDK."""
        fake.script(status=529, retry_after=0.01)

        assert anthropic.messages.count_tokens(model="claude-haiku-4-5", messages=HELLO).input_tokens > 0
        assert [received.status for received in fake.log] == [529, 200]


@pytest.mark.sdk
class TestGemini:
    def test_generate_and_stream(self, gemini: Any) -> None:
        """Text is the same whole and streamed, with the usage on the last chunk."""
        given: Any = {"model": "gemini-2.0-flash", "contents": "Can I cancel my booking?"}
        whole = gemini.models.generate_content(**given)
        chunks = list(gemini.models.generate_content_stream(**given))

        assert "".join(chunk.text or "" for chunk in chunks) == whole.text
        assert chunks[-1].usage_metadata.total_token_count == whole.usage_metadata.total_token_count

    def test_tools_and_embeddings(self, gemini: Any) -> None:
        """A function is called with its arguments; texts become vectors."""
        declaration = TOOL["function"]
        config: Any = {"tools": [{"function_declarations": [declaration]}]}
        answer = gemini.models.generate_content(model="gemini-2.0-flash", contents="weather in Kyoto", config=config)
        vectors = gemini.models.embed_content(model="gemini-embedding-001", contents=["one", "two"])

        assert answer.function_calls[0].args == {"city": "Kyoto"}
        assert [len(item.values) for item in vectors.embeddings] == [256, 256]

    def test_stream_as_a_json_array(self, fake_url: str) -> None:
        """Without alt=sse the stream is one JSON array, sent piece by piece."""
        body = {"contents": [{"role": "user", "parts": [{"text": "visa"}]}]}
        path = "/v1beta/models/gemini-2.0-flash:streamGenerateContent"
        answer = httpx.post(fake_url + path, json=body, trust_env=False)

        assert answer.json()[-1]["candidates"][0]["finishReason"] == "STOP"


class TestScript:
    def test_delays_are_kept(self, fake: FakeProvider, fake_url: str) -> None:
        """Headers, first token and pieces wait as long as they are told."""
        fake.script(delay=0.1, first_token_delay=0.15, chunk_delay=0.01)
        times: dict[str, float] = {}
        started = time.monotonic()
        body = {"model": "m", "messages": HELLO, "stream": True}
        with httpx.stream("POST", f"{fake_url}/v1/chat/completions", json=body, trust_env=False) as response:
            times["headers"] = time.monotonic() - started
            for line in response.iter_lines():
                if '"content": "You' in line:
                    times["token"] = time.monotonic() - started

        assert 0.1 <= times["headers"] < 0.24
        assert 0.25 <= times["token"]

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("pieces", [0, 1])
    def test_a_dropped_connection(self, fake: FakeProvider, fake_url: str, stream: bool, pieces: int) -> None:
        """The client sees a connection that ends too early, with the pieces before it."""
        fake.script(drop_after=pieces)
        got = b""

        with pytest.raises(httpx.RemoteProtocolError):
            body = {"model": "m", "messages": HELLO, "stream": stream}
            with httpx.stream("POST", f"{fake_url}/v1/chat/completions", json=body, trust_env=False) as response:
                for chunk in response.iter_raw():
                    got += chunk

        assert bool(got) is bool(pieces)

    def test_a_stream_that_ends_early(self, fake: FakeProvider, fake_url: str) -> None:
        """end_after closes the stream in order, but without its last events."""
        fake.script(end_after=2)

        assert "[DONE]" not in chat(fake_url, stream=True).text

    def test_words_in_the_request(self, fake: FakeProvider, fake_url: str) -> None:
        """A header or the metadata of the body says what to do, as often as identical bodies come."""
        directive = {"x-fake": "status=503; times=1; retry_after=2; message=come back"}
        first, second = chat(fake_url, directive), chat(fake_url, directive)
        third = chat(fake_url, metadata={"fake": "text=as you wish"})

        assert (first.status_code, first.headers["retry-after"]) == (503, "2")
        assert first.json()["error"]["message"] == "come back"
        assert second.status_code == 200
        assert third.json()["choices"][0]["message"]["content"] == "as you wish"

    def test_wrong_words_are_refused(self, fake_url: str) -> None:
        """A word that is unknown is an error that names the ones that are known."""
        answer = chat(fake_url, {"x-fake": "colour=red"})

        assert answer.status_code == 400
        assert "drop_after" in answer.text

    def test_a_rule_for_some_requests(self, fake: FakeProvider, fake_url: str) -> None:
        """A rule waits for the request that it fits, by text or by callable."""
        fake.script(when="gpt-4.1", text="by text")
        fake.script(when=lambda received: received.headers.get("x-user") == "ada", text="by callable", times=None)

        texts = [
            chat(fake_url).json()["choices"][0]["message"]["content"],
            chat(fake_url, model="gpt-4.1").json()["choices"][0]["message"]["content"],
            chat(fake_url, {"x-user": "ada"}).json()["choices"][0]["message"]["content"],
        ]
        assert "cancel" in texts[0]
        assert texts[1:] == ["by text", "by callable"]

    def test_scripted_answer_parts(self, fake: FakeProvider, fake_url: str) -> None:
        """Text, refusal, finish, tool calls, usage, headers and raw bodies can be given."""
        fake.script(refusal="No.", finish="content_filter", headers={"X-Own": "1"})
        fake.script(tool_calls=[("book", {"seat": "2A"})], usage={"input_tokens": 10, "cached_tokens": 4})
        fake.script(body={"choices": []}, status=200)
        refused, called, raw = chat(fake_url), chat(fake_url), chat(fake_url)

        assert refused.json()["choices"][0]["message"]["refusal"] == "No."
        assert refused.json()["choices"][0]["finish_reason"] == "content_filter"
        assert refused.headers["x-own"] == "1"
        assert called.json()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"seat": "2A"}'
        assert called.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
        assert raw.json() == {"choices": []}

    def test_wrong_arguments_fail_at_once(self, fake: FakeProvider) -> None:
        """A misspelt argument or count is an error where it is written."""
        with pytest.raises(TypeError):
            fake.script(colour="red")
        with pytest.raises(ValueError, match="inputs"):
            fake.script(usage={"inputs": 1})


class TestProviders:
    def test_calls_are_named_as_the_real_ones(self, fake: FakeProvider) -> None:
        """With the option ``providers`` the dialect decides whose call it is."""
        paths = ("/v1/chat/completions", "/v1/messages", "/v1beta/models/gemini-2.0-flash:generateContent")
        found = [match("POST", "127.0.0.1", 8000, path, fake.providers) for path in paths]

        assert [item and item.provider for item in found] == ["openai", "anthropic", "google"]


class TestWire:
    def test_the_log_has_what_came(self, fake: FakeProvider, fake_url: str) -> None:
        """Method, path, headers in lower case, body and answer are kept."""
        chat(fake_url, {"X-Own": "yes"})

        received = fake.log[0]
        assert (received.method, received.path, received.dialect, received.operation, received.status) == (
            "POST",
            "/v1/chat/completions",
            "openai",
            "chat",
            200,
        )
        assert received.headers["x-own"] == "yes"
        assert received.json["messages"] == HELLO

    def test_unknown_address_and_bad_json(self, fake_url: str) -> None:
        """What no provider has is 404; a body that is no JSON is 400."""
        assert httpx.get(f"{fake_url}/health", trust_env=False).status_code == 404
        bad = httpx.post(
            f"{fake_url}/v1/messages", content=b"{", headers={"content-type": "application/json"}, trust_env=False
        )
        assert (bad.status_code, bad.json()["error"]["type"]) == (400, "invalid_request_error")

    def test_a_client_that_leaves(self, fake: FakeProvider, fake_url: str) -> None:
        """A stream that is closed early stops, and the log says so."""
        fake.script(chunk_delay=0.02)
        body = {"model": "m", "messages": HELLO, "stream": True}
        with httpx.stream("POST", f"{fake_url}/v1/chat/completions", json=body, trust_env=False) as response:
            next(response.iter_lines())
        deadline = time.monotonic() + 40
        while not fake.log[0].disconnected and time.monotonic() < deadline:
            time.sleep(0.01)

        assert fake.log[0].disconnected

    async def _in_process(self, fake: FakeProvider) -> httpx.Response:
        transport = httpx.ASGITransport(app=fake)
        async with httpx.AsyncClient(transport=transport, base_url="http://fake") as client:
            return await client.post("/v1/chat/completions", json={"model": "m", "messages": HELLO, "n": 2})

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_inside_the_process(self, fake: FakeProvider, backend: str) -> None:
        """Without any socket, on both event loops."""
        import anyio

        answer = anyio.run(self._in_process, fake, backend=backend)

        assert [choice["index"] for choice in answer.json()["choices"]] == [0, 1]
        assert not fake.log[0].disconnected

    def test_a_conversation_reports_cached_tokens(self, fake_url: str) -> None:
        """The beginning that was sent before counts as cached."""
        turns = [{"role": "system", "content": "Be brief. " * 60}, *HELLO]
        first = chat(fake_url, messages=turns).json()
        reply = first["choices"][0]["message"]
        second = chat(fake_url, messages=[*turns, reply, *HELLO]).json()

        cached = [answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in (first, second)]
        assert cached[0] == 0 < cached[1] <= first["usage"]["prompt_tokens"]

    def test_reset_forgets(self, fake: FakeProvider, fake_url: str) -> None:
        """After a reset nothing of before matters."""
        fake.script(status=500)
        chat(fake_url)
        fake.script(status=500)
        fake.reset()

        assert chat(fake_url).status_code == 200
        assert len(fake.log) == 1
