"""Errors in every shape in which services report them."""

from typing import Any

import pytest

from asgi_llmobs.providers.base import Wire
from asgi_llmobs.providers.failures import error_in, error_of


def error(type: Any = None, code: Any = None, message: Any = None) -> dict[str, Any]:
    return {"type": type, "code": code, "message": message}


@pytest.mark.parametrize(
    "body, expected",
    [
        ({"error": {"message": "m", "type": "t", "code": "c", "param": None}}, error("t", "c", "m")),  # OpenAI
        ({"type": "error", "error": {"type": "t", "message": "m"}}, error("t", None, "m")),  # Anthropic
        ({"error": {"code": 429, "message": "m", "status": "EXHAUSTED"}}, error("EXHAUSTED", 429, "m")),  # Google
        ([{"error": {"code": 400, "message": "m", "status": "INVALID"}}], error("INVALID", 400, "m")),  # Gemini stream
        ({"error": "m"}, error(message="m")),
        ({"error": "m", "error_type": "validation"}, error("validation", None, "m")),  # text-generation-inference
        ({"code": "c", "error": "m"}, error(None, "c", "m")),  # xAI
        ({"error": {"error": {"message": "m", "code": "c"}}}, error(None, "c", "m")),
        ({"message": "m", "type": "t", "code": 404, "object": "error"}, error("t", 404, "m")),  # vLLM
        ({"error_code": "BAD_REQUEST", "message": "m"}, error(None, "BAD_REQUEST", "m")),  # Databricks
        ({"errors": [{"code": 7, "message": "m"}, {"message": "n"}]}, error(None, 7, "m; n")),  # Cloudflare, watsonx
        ({"detail": "m"}, error(message="m")),
        ({"detail": [{"loc": ["body"], "msg": "m", "type": "missing"}]}, error("missing", None, "m")),  # FastAPI
        ({"__type": "ValidationException", "Message": "m"}, error("ValidationException", None, "m")),  # AWS
        ({"title": "t", "detail": "m", "status": 422}, error("t", None, "m")),  # Replicate
    ],
)
def test_shapes(body: Any, expected: dict[str, Any]) -> None:
    """Type, code and message are found wherever they stand."""
    assert error_of(body) == expected


@pytest.mark.parametrize("body", [None, {}, [], "", 7, {"error": None}, {"id": 3}, [[[]]], {"error": {}}])
def test_no_error(body: Any) -> None:
    """What says nothing is no error."""
    assert error_of(body) is None


def test_pages_and_empty_bodies() -> None:
    """Where the body is no JSON, the message is the status and the beginning of its text."""
    page = error_in(Wire(status=502, response_body=b"<h1>Bad gateway</h1>" + b"x" * 10_000))
    empty = error_in(Wire(status=500))

    assert page is not None
    assert page["message"].startswith("HTTP 502: <h1>Bad gateway</h1>")
    assert len(page["message"]) < 2100
    assert empty == error(message="HTTP 500")


def test_type_in_a_header() -> None:
    """Amazon names the type of an error in a header."""
    headers = {"x-amzn-errortype": "ThrottlingException:http://internal.amazon.com/x"}
    found = error_in(Wire(status=429, response_headers=headers, response_body=b'{"message":"slow down"}'))

    assert found == error("ThrottlingException", None, "slow down")


def test_status_200() -> None:
    """An answer of status 200 is an error where its body says so, and is none where it holds the word only."""
    failed = error_in(Wire(response_body=b'{"error":{"message":"m","code":503}}'))
    fine = error_in(Wire(response_body=b'{"error":null,"text":"\\"error\\": no"}'))

    assert failed == error(None, 503, "m")
    assert fine is None
    assert error_in(Wire(status=None)) is None
