"""Gemini, Interactions and Vertex AI."""

import json

import pytest

from asgi_llmobs.providers import match

URL = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"
STREAM = URL.replace("generateContent", "streamGenerateContent")
VERTEX = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers"
REQUEST = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}


def answer(*parts, usage=None, finish="STOP", **more):
    return {
        "candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0}],
        "modelVersion": "gemini-2.5-flash-001",
        "responseId": "r1",
        "usageMetadata": usage or {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6},
        **more,
    }


def test_a_whole_answer(ask):
    """The model stands in the path; thoughts, calls, server tools and media are told apart."""
    got = ask(
        URL,
        REQUEST,
        answer(
            {"text": "Thinking.", "thought": True},
            {"executableCode": {"language": "PYTHON", "code": "1+1"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}},
            {"text": "Hi"},
            {"text": "!", "thoughtSignature": "abc"},
            {"functionCall": {"name": "f", "args": {"a": 1}}},
            {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}},
        ),
    )
    assert (got.provider, got.api, got.request_model) == ("google", "gemini.generate", "gemini-2.5-flash")
    assert (got.response_model, got.response_id) == ("gemini-2.5-flash-001", "r1")
    assert (got.text, got.reasoning_text, got.finish_reasons) == ("Hi!", "Thinking.", ["STOP"])
    assert got.tool_calls == [{"id": None, "name": "f", "arguments": {"a": 1}}]
    assert got.server_tools == ["executableCode", "codeExecutionResult"]
    picture = got.output[0].parts[-1]
    assert (picture.type, picture.mime_type, picture.size, picture.content) == ("blob", "image/png", 5, None)


def test_usage(ask):
    """Thoughts are added to the output, the prompts of tools to the input, and modalities are told apart."""
    usage = {
        "promptTokenCount": 300,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 80,
        "toolUsePromptTokenCount": 50,
        "cachedContentTokenCount": 100,
        "totalTokenCount": 450,
        "serviceTier": "flex",
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 10},
            {"modality": "IMAGE", "tokenCount": 258},
            {"modality": "AUDIO", "tokenCount": 32},
        ],
        "candidatesTokensDetails": [{"modality": 4, "tokenCount": 15}, {"modality": 1, "tokenCount": 5}],
    }
    got = ask(URL, REQUEST, answer({"text": "x"}, usage=usage))
    assert got.usage and (got.usage.input_tokens, got.usage.output_tokens) == (350, 100)
    assert (got.usage.input_raw, got.usage.output_raw, got.usage.total_reported) == (300, 20, 450)
    assert (got.usage.cache_read, got.usage.reasoning) == (100, 80)
    assert (got.usage.image_input, got.usage.audio_input, got.usage.audio_output) == (258, 32, 15)
    assert got.service_tier == "flex" and got.usage.image_output is None


PIECES = [
    {"candidates": [{"content": {"parts": [{"text": "Hel"}]}}], "usageMetadata": {"trafficType": "ON_DEMAND"}},
    {
        "candidates": [{"content": {"parts": [{"text": "lo"}]}}],
        "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4},
    },
    {
        "candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "MAX_TOKENS"}],
        "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 9, "totalTokenCount": 13},
    },
]


def test_both_forms_of_a_stream(ask, sse):
    """Server-sent events and the growing array of the same objects read alike."""
    array = json.dumps(PIECES, indent=1).encode()
    for url, body, framing in ((STREAM + "?alt=sse", sse(*PIECES), "sse"), (STREAM, array, "json-array-stream")):
        got = ask(url, REQUEST, body, headers={"content-type": "application/json"})
        assert (got.text, got.finish_reasons, got.ended) == ("Hello", ["MAX_TOKENS"], True)
        assert (got.stream, got.stream_requested, got.framing) == (True, True, framing)
        assert got.usage and (got.usage.input_tokens, got.usage.output_tokens) == (4, 9)
        assert got.content_offset is not None and got.content_offset < len(body) / 2


def test_an_array_that_breaks_off(ask):
    """Whole items are kept, and the stream has no end."""
    body = json.dumps(PIECES).encode()
    got = ask(STREAM, REQUEST, body[: len(body) - 120], complete=False)
    assert (got.text, got.ended, got.framing) == ("Hello", False, "json-array-stream")


def test_errors(ask, sse):
    """An error is read from an object, from an array and from the middle of a stream."""
    error = {"error": {"code": 429, "message": "Resource exhausted.", "status": "RESOURCE_EXHAUSTED"}}
    wanted = {"type": "RESOURCE_EXHAUSTED", "code": 429, "message": "Resource exhausted."}
    whole = ask(URL, REQUEST, error, status=429)
    array = ask(STREAM, REQUEST, [error], status=429)
    late = ask(STREAM, REQUEST, sse(PIECES[0], error))
    assert whole.error == array.error == late.error == wanted
    assert not array.stream and late.stream and late.text == "Hel" and late.ended


def test_a_blocked_prompt(ask):
    """A prompt that was blocked has no candidates, and says why."""
    got = ask(URL, REQUEST, {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}})
    assert got.refusal == "SAFETY" and got.details["block_reason"] == "SAFETY" and not got.finish_reasons


def test_several_candidates(ask):
    """Text comes from the first candidate, a finish reason from each."""
    two = [
        {"index": 1, "content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"},
        {"index": 0, "content": {"parts": [{"text": "a"}]}, "finishReason": "SAFETY"},
    ]
    got = ask(URL, REQUEST, {"candidates": two})
    assert (got.text, got.finish_reasons, len(got.output)) == ("a", ["SAFETY", "STOP"], 2)


def test_arguments_that_stream(ask, sse):
    """Arguments in pieces are put where their paths point."""

    def piece(**call):
        return {"candidates": [{"content": {"parts": [{"functionCall": call}]}}]}

    body = sse(
        piece(name="f", willContinue=True),
        piece(partialArgs=[{"jsonPath": "$.city", "stringValue": "New "}], willContinue=True),
        piece(
            partialArgs=[{"jsonPath": "$.city", "stringValue": "Delhi"}, {"jsonPath": "$.days[0].n", "numberValue": 3}]
        ),
        piece(),
        {"candidates": [{"finishReason": "STOP"}]},
    )
    got = ask(STREAM, REQUEST, body)
    assert got.tool_calls == [{"id": None, "name": "f", "arguments": {"city": "New Delhi", "days": [{"n": 3}]}}]


def test_the_request(ask):
    """System, media by reference, results of tools, tools and settings are read in both spellings."""
    body = {
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {
                "parts": [
                    {"inline_data": {"mime_type": "audio/wav", "data": "aGVsbG8"}},
                    {"fileData": {"fileUri": "gs://b/v.mp4", "mimeType": "video/mp4"}},
                ]
            },
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"r": 1}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}, {"googleSearch": {}}],
        "generationConfig": {"temperature": 0, "maxOutputTokens": 5},
        "safetySettings": [],
    }
    got = ask(URL, body, None, status=None)
    assert [item.role for item in got.input] == ["system", "user", "assistant", "tool"]
    sound, film = got.input[1].parts
    assert (sound.type, sound.modality, sound.size) == ("blob", "audio", 5)
    assert (film.type, film.uri, film.modality) == ("uri", "gs://b/v.mp4", "video")
    assert [tool["name"] for tool in got.tools] == ["f", "googleSearch"]
    assert got.parameters == {"temperature": 0, "maxOutputTokens": 5, "safetySettings": []}


def test_embeddings_and_counts(ask):
    """Vectors are counted, not kept; a token count is no usage."""
    url = URL.replace("gemini-2.5-flash:generateContent", "gemini-embedding-001:batchEmbedContents")
    requests = [{"content": {"parts": [{"text": text}]}, "outputDimensionality": 3} for text in "ab"]
    got = ask(url, {"requests": requests}, {"embeddings": [{"values": [0.1, 0.2, 0.3]}] * 2})
    assert (got.api, got.operation, got.request_model) == ("gemini.embed", "embeddings", "gemini-embedding-001")
    assert got.details == {"input_count": 2, "dimensions": 3} and got.usage is None
    got = ask(URL.replace("generateContent", "countTokens"), REQUEST, {"totalTokens": 4})
    assert got.usage is None and got.details["token_count"] == 4 and got.input


INTERACTIONS = "https://generativelanguage.googleapis.com/v1beta/interactions"
INTERACTION_USAGE = {
    "total_tokens": 60,
    "total_input_tokens": 20,
    "total_output_tokens": 10,
    "total_cached_tokens": 5,
    "total_thought_tokens": 25,
    "total_tool_use_tokens": 5,
    "input_tokens_by_modality": [{"modality": "image", "tokens": 12}],
}


def test_an_interaction(ask):
    """Steps become text, reasoning, calls of the client and tools of the server."""
    steps = [
        {"type": "user_input", "content": [{"type": "text", "text": "Hello"}]},
        {"type": "thought", "summary": [{"type": "text", "text": "Hm."}], "signature": "x"},
        {"type": "google_search_call", "id": "s1", "arguments": {"queries": ["q"]}},
        {"type": "google_search_result", "call_id": "s1", "result": {"x": 1}},
        {"type": "model_output", "content": [{"type": "text", "text": "Hi"}]},
        {"type": "function_call", "id": "c1", "name": "f", "arguments": {"a": 1}},
    ]
    body = {
        "id": "i1",
        "status": "requires_action",
        "model": "gemini-3-pro",
        "steps": steps,
        "usage": INTERACTION_USAGE,
        "service_tier": "standard",
    }
    got = ask(
        INTERACTIONS,
        {
            "model": "gemini-3-pro",
            "input": "Hello",
            "tools": [{"type": "google_search"}],
            "generation_config": {"temperature": 1},
        },
        body,
    )
    assert (got.text, got.reasoning_text, got.finish_reasons) == ("Hi", "Hm.", ["requires_action"])
    assert got.tool_calls == [{"id": "c1", "name": "f", "arguments": {"a": 1}}]
    assert got.server_tools == ["google_search_call", "google_search_result"]
    assert got.usage and (got.usage.input_tokens, got.usage.output_tokens, got.usage.reasoning) == (25, 35, 25)
    assert (got.usage.cache_read, got.usage.image_input, got.usage.total_reported) == (5, 12, 60)
    assert got.parameters == {"temperature": 1} and got.input[0].parts[0].content == "Hello"


@pytest.mark.parametrize(
    "names",
    [
        ("interaction.created", "step.", "interaction.completed", "step"),
        ("interaction.start", "content.", "interaction.complete", "content"),
    ],
)
def test_an_interaction_that_streams(ask, sse, names):
    """The events of today and those of the preview are put together by index."""
    first, prefix, last, key = names
    events = [
        {"event_type": first, "interaction": {"id": "i1", "status": "in_progress", "model": "m"}},
        {"event_type": prefix + "start", "index": 0, key: {"type": "thought"}},
        {
            "event_type": prefix + "delta",
            "index": 0,
            "delta": {"type": "thought_summary", "content": {"type": "text", "text": "Hm."}},
        },
        {"event_type": prefix + "delta", "index": 1, "delta": {"type": "text", "text": "Hel"}},
        {"event_type": prefix + "delta", "index": 1, "delta": {"type": "text", "text": "lo"}},
        {
            "event_type": prefix + "start",
            "index": 2,
            key: {"type": "function_call", "id": "c", "name": "f", "arguments": {}},
        },
        {"event_type": prefix + "delta", "index": 2, "delta": {"type": "arguments_delta", "arguments": '{"a": 1}'}},
        {"event_type": last, "interaction": {"id": "i1", "status": "completed", "usage": INTERACTION_USAGE}},
    ]
    got = ask(
        INTERACTIONS,
        {"model": "m", "input": "x", "stream": True},
        sse(*((item["event_type"], item) for item in events), ("done", "[DONE]")),
    )
    assert (got.text, got.reasoning_text, got.finish_reasons, got.ended) == ("Hello", "Hm.", ["completed"], True)
    assert got.tool_calls == [{"id": "c", "name": "f", "arguments": {"a": 1}}]
    assert got.usage and got.usage.output_tokens == 35 and got.response_id == "i1"


def test_looking_an_interaction_up():
    """A later look at an interaction is no call of its own: its usage would be counted twice."""
    assert match("GET", "generativelanguage.googleapis.com", None, "/v1beta/interactions/i1") is None


@pytest.mark.parametrize(
    ("url", "model"),
    [
        (f"{VERTEX}/google/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro"),
        (
            "https://aiplatform.googleapis.com/v1/publishers/google/models/gemini-2.5-pro:generateContent?key=k",
            "gemini-2.5-pro",
        ),
        (
            "https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu/publishers/google/models/g:generateContent",
            "g",
        ),
        (
            "https://europe-west1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/77:generateContent",
            "endpoints/77",
        ),
    ],
)
def test_vertex_hosts(ask, url, model):
    """Regional, global, jurisdictional and express addresses all are Vertex AI."""
    got = ask(url, REQUEST, answer({"text": "Hi"}, finish=1))
    assert (got.provider, got.api, got.request_model) == ("vertexai", "gemini.generate", model)
    assert got.finish_reasons == ["1"]


def test_claude_on_vertex(ask, sse):
    """The Messages API with its model in the path."""
    body = {"anthropic_version": "vertex-2023-10-16", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    whole = {
        "id": "m",
        "type": "message",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    got = ask(f"{VERTEX}/anthropic/models/claude-sonnet-4-5@20250929:rawPredict", body, whole)
    assert (got.provider, got.api, got.text) == ("vertexai", "anthropic.messages", "Hi")
    assert got.request_model == "claude-sonnet-4-5@20250929" and not got.stream_requested
    url = f"{VERTEX}/anthropic/models/claude-sonnet-4-5@20250929:streamRawPredict"
    assert ask(url, body, sse({"type": "message_stop"})).stream_requested


def test_mistral_on_vertex(ask):
    """A publisher that speaks OpenAI's chat."""
    whole = {
        "id": "c",
        "model": "mistral-large",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
    got = ask(f"{VERTEX}/mistralai/models/mistral-large:rawPredict", {"model": "mistral-large", "messages": []}, whole)
    assert (got.api, got.provider, got.text, got.request_model) == ("openai.chat", "vertexai", "Hi", "mistral-large")
    assert got.usage and got.usage.input_tokens == 3


def test_predictions(ask):
    """Embeddings add up their counts; images are kept by reference."""
    body = {"instances": [{"content": "a"}, {"content": "b"}], "parameters": {"outputDimensionality": 2}}
    predictions = [{"embeddings": {"statistics": {"token_count": count}, "values": [0, 1]}} for count in (3, 4)]
    got = ask(f"{VERTEX}/google/models/text-embedding-005:predict", body, {"predictions": predictions})
    assert (got.api, got.operation, got.details["dimensions"]) == ("vertex.predict", "embeddings", 2)
    assert got.usage and (got.usage.input_tokens, got.usage.output_tokens) == (7, None)
    assert got.parameters == {"outputDimensionality": 2} and len(got.input) == 2
    got = ask(
        f"{VERTEX}/google/models/imagen-4.0-generate-001:predict",
        {"instances": [{"prompt": "a cat"}]},
        {"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": "aGVsbG8="}]},
    )
    assert (got.operation, got.output[0].parts[0].size, got.usage) == ("image", 5, None)


def test_the_copy_of_openai(ask):
    """Google's own copy of OpenAI's API is that dialect on Google's host."""
    got = ask(
        "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        {"model": "gemini-2.0-flash", "messages": []},
        {"choices": []},
    )
    assert (got.provider, got.api) == ("google", "openai.chat")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1beta/cachedContents"),
        ("GET", "/v1beta/models"),
        ("POST", "/upload/v1beta/files"),
        ("POST", "/v1beta/models/gemini-2.5-flash:batchGenerateContent"),
        ("POST", "/v1beta/interactions/i1:cancel"),
    ],
)
def test_what_is_not_recorded(recorded, method, path):
    """Caches, files, batches and lists of models are no LLM calls."""
    assert not recorded(method, "https://generativelanguage.googleapis.com" + path)


def test_tensorflow_serving_is_no_llm(recorded):
    """A path that other servers use too is believed only on Google's hosts."""
    assert not recorded("POST", "http://localhost:8501/v1/models/half_plus_two:predict")
    assert recorded("POST", "https://generativelanguage.googleapis.com/v1beta/models/veo-3.0:predictLongRunning")
