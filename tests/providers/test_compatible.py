"""Paths that are a service's own."""

from collections.abc import Callable
from typing import Any

import pytest

from asgi_llmobs.records import Reading

Ask = Callable[..., Reading]

ENDPOINT = "https://a.databricks.com/serving-endpoints/my-model/invocations"


@pytest.mark.parametrize(
    "request_body, answer, api, operation",
    [
        ({"messages": []}, {"choices": [{"message": {"content": "a"}}]}, "openai.chat", "chat"),
        ({"prompt": "x"}, {"choices": [{"text": "a"}]}, "openai.completions", "text_completion"),
        ({"input": ["x"]}, {"data": [{"embedding": [0.5, 0.5]}]}, "openai.embeddings", "embeddings"),
    ],
)
def test_served_model(ask: Ask, request_body: dict[str, Any], answer: Any, api: str, operation: str) -> None:
    """What a served model does, only the body of the request tells."""
    reading = ask(ENDPOINT, request_body, answer)

    assert (reading.api, reading.operation, reading.request_model) == (api, operation, "my-model")
    assert reading.text == ("" if operation == "embeddings" else "a")
    assert reading.content_offset is not None


def test_workers_ai_embeddings(ask: Ask) -> None:
    """Workers AI gives vectors as bare lists inside its wrapping."""
    url = "https://api.cloudflare.com/client/v4/accounts/a/ai/run/@cf/baai/bge-m3"
    reading = ask(url, {"text": ["a", "b"]}, {"result": {"shape": [2, 3], "data": [[0.5] * 3] * 2}, "success": True})

    assert reading.details == {"input_count": 2, "vectors": 2, "dimensions": 3}
    assert reading.request_model == "@cf/baai/bge-m3"


def test_stored_prompt(ask: Ask) -> None:
    """Portkey's stored prompts name no model and no messages."""
    reading = ask(
        "https://api.portkey.ai/v1/prompts/pp-1/completions",
        {"variables": {"city": "Rome"}},
        {"model": "gpt-4.1", "choices": [{"message": {"content": "sunny"}}]},
    )

    assert (reading.request_model, reading.response_model, reading.text) == (None, "gpt-4.1", "sunny")
    assert reading.parameters == {"variables": {"city": "Rome"}}
