"""Ollama, watsonx.ai and Replicate."""

import pytest

from asgi_llmobs.providers import match

OLLAMA = "http://localhost:11434"
LAST = {"model": "m", "done": True, "done_reason": "stop", "prompt_eval_count": 13, "eval_count": 10}


def test_ollama_chat(ask, ndjson):
    """Lines and whole answers read alike; it streams unless told otherwise."""
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    lines = ndjson(
        {"model": "m", "message": {"role": "assistant", "content": "", "thinking": "Hm."}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": "Hel"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": "lo", "tool_calls": [call]}, "done": False},
        {**LAST, "message": {"role": "assistant", "content": ""}},
    )
    whole = {**LAST, "message": {"role": "assistant", "content": "Hello", "thinking": "Hm.", "tool_calls": [call]}}
    request = {
        "model": "m",
        "messages": [{"role": "user", "content": "x", "images": ["aGVsbG8="]}],
        "options": {"temperature": 0},
        "think": True,
    }
    for body, stream in ((lines, True), (whole, False)):
        got = ask(OLLAMA + "/api/chat", {**request, "stream": stream}, body)
        assert (got.provider, got.api, got.stream, got.ended) == ("ollama", "ollama.chat", stream, True)
        assert (got.text, got.reasoning_text, got.finish_reasons) == ("Hello", "Hm.", ["stop"])
        assert got.tool_calls == [{"id": None, "name": "f", "arguments": {"a": 1}}]
        assert got.usage and (got.usage.input_tokens, got.usage.output_tokens) == (13, 10)
        assert got.parameters == {"think": True, "temperature": 0} and got.input[0].parts[1].size == 5
    assert ask(OLLAMA + "/api/chat", request, lines).stream_requested


def test_ollama_generate(ask, ndjson):
    """A prompt that was cached whole has no count, and gets none."""
    body = ndjson(
        {"model": "m", "response": "Hel"},
        {"model": "m", "response": "lo"},
        {"model": "m", "response": "", "done": True, "done_reason": "stop", "eval_count": 2, "context": [1]},
    )
    got = ask(OLLAMA + "/api/generate", {"model": "m", "prompt": "x", "system": "s"}, body)
    assert (got.api, got.text, got.operation) == ("ollama.generate", "Hello", "text_completion")
    assert got.usage and (got.usage.input_tokens, got.usage.output_tokens) == (None, 2)
    assert [item.role for item in got.input] == ["system", "user"]


def test_ollama_errors(ask, ndjson):
    """An error is a text, also in the middle of a stream."""
    got = ask(OLLAMA + "/api/chat", {"model": "m"}, {"error": "model 'm' not found"}, status=404)
    assert got.error and got.error["message"] == "model 'm' not found"
    got = ask(OLLAMA + "/api/chat", {"model": "m"}, ndjson({"message": {"content": "He"}}, {"error": "boom"}))
    assert got.error and got.error["message"] == "boom" and got.text == "He"


def test_ollama_embeddings(ask):
    """Both ways of asking for vectors."""
    got = ask(
        OLLAMA + "/api/embed",
        {"model": "m", "input": ["a", "b"]},
        {"model": "m", "embeddings": [[0.1, 0.2], [0.3, 0.4]], "prompt_eval_count": 4},
    )
    assert (got.api, got.details, got.usage and got.usage.input_tokens) == (
        "ollama.embed",
        {"input_count": 2, "dimensions": 2},
        4,
    )
    got = ask(OLLAMA + "/api/embeddings", {"model": "m", "prompt": "a"}, {"embedding": [0.1]})
    assert (got.details["dimensions"], got.usage) == (1, None)


@pytest.mark.parametrize(
    ("url", "provider", "api"),
    [
        ("https://ollama.com/api/chat", "ollama", "ollama.chat"),
        ("http://gpu-box:11434/api/chat", "ollama", "ollama.chat"),
        ("http://gpu-box:8080/api/chat", "unknown", "ollama.chat"),
        ("http://127.0.0.1:11434/v1/chat/completions", "ollama", "openai.chat"),
    ],
)
def test_where_ollama_answers(ask, url, provider, api):
    """The port names it; the path is enough elsewhere."""
    got = ask(url, {"model": "m"}, {})
    assert (got.provider, got.api) == (provider, api)


WATSONX = "https://us-south.ml.cloud.ibm.com/ml/v1"


def test_watsonx_text(ask, sse):
    """Running totals of a stream are not added up, and the input is counted once."""
    request = {"model_id": "ibm/granite", "input": "x", "parameters": {"max_new_tokens": 5}, "project_id": "p"}
    whole = {
        "model_id": "ibm/granite",
        "results": [
            {"generated_text": "Hello", "generated_token_count": 2, "input_token_count": 8, "stop_reason": "eos_token"}
        ],
    }
    pieces = sse(
        *(
            (
                "message",
                {
                    "model_id": "ibm/granite",
                    "results": [
                        {
                            "generated_text": text,
                            "generated_token_count": count,
                            "input_token_count": given,
                            "stop_reason": reason,
                        }
                    ],
                },
            )
            for text, count, given, reason in (
                ("", 0, 8, "not_finished"),
                ("Hel", 1, 0, "not_finished"),
                ("lo", 2, 0, "eos_token"),
            )
        )
    )
    for path, body in (("generation", whole), ("generation_stream", pieces)):
        got = ask(f"{WATSONX}/text/{path}?version=2024-02-15", request, body)
        assert (got.provider, got.api, got.text) == ("watsonx", "watsonx.generate", "Hello")
        assert (got.request_model, got.response_model) == ("ibm/granite", "ibm/granite")
        assert got.finish_reasons == ["eos_token"]
        assert got.usage and (got.usage.input_tokens, got.usage.output_tokens) == (8, 2)
        assert got.parameters == {"max_new_tokens": 5} and got.ended
        assert got.stream_requested is got.stream is (path == "generation_stream")


def test_watsonx_chat(ask, sse):
    """OpenAI's chat with another name for the model."""
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    whole = {
        "id": "c",
        "model_id": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": usage,
    }
    pieces = sse(
        {"id": "c", "model_id": "m", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]},
        {"id": "c", "model_id": "m", "choices": [], "usage": usage},
    )
    request = {"model_id": "m", "project_id": "p", "messages": [{"role": "user", "content": "x"}], "temperature": 0}
    for path, body in (("text/chat", whole), ("text/chat_stream", pieces), ("deployments/d/text/chat", whole)):
        got = ask(f"{WATSONX}/{path}", request, body)
        assert (got.api, got.text, got.request_model, got.response_model) == ("watsonx.chat", "Hi", "m", "m")
        assert got.usage and got.usage.total_tokens == 4 and got.parameters == {"temperature": 0}
    deployed = ask(f"{WATSONX}/deployments/d/text/chat", {"messages": []}, whole)
    assert deployed.request_model == "d"


def test_watsonx_vectors_and_errors(ask):
    """Embeddings count their input; errors come as a list."""
    got = ask(
        f"{WATSONX}/text/embeddings",
        {"model_id": "m", "inputs": ["a"]},
        {"model_id": "m", "results": [{"embedding": [0.1, 0.2]}], "input_token_count": 3},
    )
    assert got.usage and got.usage.input_tokens == 3 and got.details == {"input_count": 1, "dimensions": 2}
    got = ask(
        f"{WATSONX}/text/generation",
        {"model_id": "m", "input": "x"},
        {"errors": [{"code": "model_not_supported", "message": "Model 'm' is not supported"}], "status_code": 404},
        status=404,
    )
    assert got.error and got.error["message"] == "Model 'm' is not supported"
    assert got.error["code"] == "model_not_supported" or got.error["type"] == "model_not_supported"


REPLICATE = "https://api.replicate.com/v1"


def test_replicate(ask):
    """A prediction's model, output and metrics; looking it up again is no call of its own."""
    done = {
        "id": "p1",
        "model": "meta/llama",
        "version": "v",
        "status": "succeeded",
        "output": ["Hel", "lo"],
        "metrics": {"predict_time": 1.5, "input_token_count": 3, "output_token_count": 2},
    }
    got = ask(REPLICATE + "/models/meta/llama/predictions", {"input": {"prompt": "x", "top_p": 1}}, done, status=201)
    assert (got.provider, got.api, got.operation) == ("replicate", "replicate", "other")
    assert got.request_model == got.response_model == "meta/llama"
    assert (got.text, got.response_id, got.finish_reasons) == ("Hello", "p1", ["succeeded"])
    assert got.usage and (got.usage.total_tokens, got.usage.seconds) == (5, 1.5) and got.parameters == {"top_p": 1}
    assert match("GET", "api.replicate.com", None, "/v1/predictions/p1") is None
    got = ask(
        REPLICATE + "/predictions",
        {"version": "v", "input": {"prompt": "x"}},
        {"id": "p1", "status": "starting", "output": None},
        status=201,
    )
    assert (got.request_model, got.finish_reasons, got.usage, got.text) == ("v", [], None, "")


def test_replicate_files_and_streams(ask, sse):
    """Files are addresses; the stream is plain text in events."""
    got = ask(
        REPLICATE + "/predictions",
        {"input": {}},
        {"id": "p", "status": "succeeded", "output": ["https://replicate.delivery/x.png"]},
    )
    assert got.output[0].parts[0].uri == "https://replicate.delivery/x.png" and got.text == ""
    body = sse(("output", "Hel"), ("output", "lo"), ("done", "{}"))
    got = ask("https://stream.replicate.com/v1/files/abc", None, body, method="GET")
    assert (got.text, got.stream, got.ended) == ("Hello", True, True)
    got = ask(REPLICATE + "/predictions", {"input": {}}, {"id": "p", "status": "failed", "error": "out of memory"})
    assert got.error and got.error["message"] == "out of memory" and got.finish_reasons == ["failed"]


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", OLLAMA + "/api/show"),
        ("GET", OLLAMA + "/api/tags"),
        ("POST", OLLAMA + "/api/pull"),
        ("POST", WATSONX + "/text/tokenization"),
        ("GET", WATSONX + "/foundation_model_specs"),
        ("GET", REPLICATE + "/models/meta/llama"),
        ("POST", REPLICATE + "/predictions/p1/cancel"),
    ],
)
def test_what_is_not_recorded(recorded, method, url):
    """Lists of models and the like are no LLM calls."""
    assert not recorded(method, url)
