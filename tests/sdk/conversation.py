"""What the tests of every SDK ask, in which ways they are watched, and what holds for each of them."""

from typing import Any

import pytest

__all__ = ["ASYNC", "EVERY_WAY", "HELLO", "QUESTION", "TOOL", "answered_at_the_third_attempt"]

ASYNC = pytest.mark.parametrize("is_async", [True], ids=["async"])
EVERY_WAY = pytest.mark.parametrize("way", ["auto", "sdk", "http", "transport"])
QUESTION = "Can I cancel my booking?"
HELLO: Any = [{"role": "user", "content": QUESTION}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def answered_at_the_third_attempt(record: Any) -> None:
    """Refused with 429 and a wait, then with 503, then answered: one request, with the names that our headers gave."""
    assert [(item.status, item.retry_after) for item in record.attempts] == [(429, "0.02"), (503, None), (200, None)]
    assert (record.user_id, record.session_id, record.outcome) == ("ada", "s", "ok")
