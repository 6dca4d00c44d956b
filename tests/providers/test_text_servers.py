"""Hugging Face's text generation server and Aleph Alpha's completions."""

import pytest

TGI = "http://localhost:8080/generate_stream"
DETAILS = {"finish_reason": "eos_token", "generated_tokens": 3, "input_length": 7}


def token(text, special=False, **more):
    return {
        "index": 1,
        "token": {"id": 1, "text": text, "logprob": -1, "special": special},
        "generated_text": None,
        "details": None,
        **more,
    }


def test_a_stream_of_tokens(ask, sse):
    """Special tokens are no text, and the whole text of the last event doubles nothing."""
    body = sse(token("Hel"), token("lo"), token("</s>", True, generated_text="Hello", details=DETAILS))
    got = ask(TGI, {"inputs": "x", "parameters": {"max_new_tokens": 5}}, body)
    assert (got.api, got.provider, got.text, got.finish_reasons) == ("tgi.generate", "unknown", "Hello", ["eos_token"])
    assert (got.stream, got.stream_requested, got.ended) == (True, True, True)
    assert got.usage and (got.usage.input_tokens, got.usage.output_tokens) == (7, 3)
    assert got.parameters == {"max_new_tokens": 5} and got.input[0].parts[0].content == "x"
    cut = ask(TGI, {}, sse(token("Hel")))
    assert (cut.text, cut.ended, cut.usage) == ("Hel", False, None)


def test_a_whole_text(ask):
    """A list of one text, whose counts may stand in headers."""
    got = ask(
        "https://api-inference.huggingface.co/models/org/gpt2",
        {"inputs": "x"},
        [{"generated_text": "Hello"}],
        headers={"x-prompt-tokens": "4", "x-generated-tokens": "2"},
    )
    assert (got.provider, got.request_model, got.text, got.ended) == ("huggingface", "org/gpt2", "Hello", True)
    assert got.usage and got.usage.total_tokens == 6
    got = ask("https://api-inference.huggingface.co/models/org/minilm", {"inputs": ["x"]}, [[0.1, 0.2]])
    assert (got.operation, got.details["dimensions"], got.text) == ("embeddings", 2, "")


def test_an_error_in_a_stream(ask, sse):
    """An error event ends the stream."""
    got = ask(TGI, {}, sse(token("Hel"), {"error": "Request failed during generation", "error_type": "generation"}))
    assert got.error and got.error["message"] == "Request failed during generation" and got.ended


@pytest.mark.parametrize("stream", [False, True])
def test_aleph_alpha(ask, sse, stream):
    """A completion whole and in pieces."""
    counts = {"num_tokens_prompt_total": 4, "num_tokens_generated": 2}
    completion = {"completion": "Hello", "finish_reason": "maximum_tokens"}
    whole = {"model_version": "v1", "completions": [completion], **counts}
    pieces = sse(
        {"type": "stream_chunk", "index": 0, "completion": "Hel"},
        {"type": "stream_chunk", "index": 0, "completion": "lo"},
        {"type": "stream_summary", "index": 0, "model_version": "v1", "finish_reason": "maximum_tokens"},
        {"type": "completion_summary", **counts},
    )
    request = {
        "model": "luminous",
        "prompt": [{"type": "text", "data": "x"}, {"type": "image", "data": "aGVsbG8="}],
        "maximum_tokens": 2,
    }
    got = ask("https://api.aleph-alpha.com/complete", request, pieces if stream else whole)
    assert (got.provider, got.api, got.text) == ("aleph_alpha", "aleph_alpha.complete", "Hello")
    assert (got.response_model, got.finish_reasons, got.ended) == ("v1", ["maximum_tokens"], True)
    assert got.usage and got.usage.total_tokens == 6 and got.stream is stream
    assert [part.type for part in got.input[0].parts] == ["text", "blob"]


@pytest.mark.parametrize(
    ("url", "provider", "api"),
    [
        ("https://x.services.ai.azure.com/anthropic/v1/messages", "azure", "anthropic.messages"),
        ("https://api.voyageai.com/v1/rerank", "voyage", "cohere.rerank"),
        ("https://api.jina.ai/v1/rerank", "jina", "cohere.rerank"),
        ("http://tei:8080/rerank", "unknown", "cohere.rerank"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/embeddings", "google", "openai.embeddings"),
        (
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/openapi/chat/completions",
            "vertexai",
            "openai.chat",
        ),
        ("https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/chat/completions", "aws_bedrock", "openai.chat"),
        ("https://api.cohere.ai/compatibility/v1/chat/completions", "cohere", "openai.chat"),
        ("http://localhost:11434/v1/embeddings", "ollama", "openai.embeddings"),
    ],
)
def test_dialects_on_the_hosts_of_others(ask, url, provider, api):
    """A host that is known keeps its name, whichever dialect it speaks on a path."""
    got = ask(url, {"model": "m"}, {})
    assert (got.provider, got.api) == (provider, api)


def test_llama_cpp_whole(ask):
    """What llama.cpp's own endpoint says: text, counts, why it stopped."""
    answer = {
        "content": "blue",
        "model": "gemma",
        "stop": True,
        "stop_type": "eos",
        "tokens_evaluated": 9,
        "tokens_predicted": 2,
        "timings": {"cache_n": 4, "prompt_n": 5},
    }
    reading = ask("http://127.0.0.1:8080/completion", {"prompt": "The sky is", "n_predict": 8}, answer)

    assert (reading.api, reading.operation, reading.text) == ("llama_cpp.completion", "text_completion", "blue")
    assert (reading.usage.input_tokens, reading.usage.cache_read, reading.usage.output_tokens) == (9, 4, 2)
    assert (reading.finish_reasons, reading.response_model) == (["eos"], "gemma")
    assert reading.parameters == {"n_predict": 8}
    assert reading.input[0].parts[0].content == "The sky is"


def test_llama_cpp_stream(ask, sse):
    """The last event has the counts; an older server says by three flags why it stopped."""
    last = {"content": "", "stop": True, "stopped_limit": True, "tokens_evaluated": 9, "tokens_predicted": 2}
    events = sse({"content": "bl", "stop": False}, {"content": "ue", "stop": False}, last)
    reading = ask("http://127.0.0.1:8080/completion", {"prompt": "x", "stream": True}, events)
    cut = ask("http://127.0.0.1:8080/completion", {"prompt": "x", "stream": True}, events[:60], complete=False)

    assert (reading.text, reading.finish_reasons, reading.ended) == ("blue", ["limit"], True)
    assert reading.usage.output_tokens == 2
    assert (cut.text, cut.ended, cut.usage) == ("bl", False, None)
