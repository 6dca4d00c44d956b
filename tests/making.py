"""Records for the tests of store and queries: the least that a real one would have, anything else by keyword."""

import hashlib
from decimal import Decimal
from itertools import count
from typing import Any

import orjson

from asgi_llmobs.records import Attempt, Body, Cost, CostLine, Message, Part, Request, Span, Usage

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND
_ids = count(1)


def new_id() -> str:
    """A span id that no other test of this process has."""
    return f"{next(_ids):016x}"


def body(value: Any, media_type: str = "application/json") -> Body:
    """A body as the pipeline keeps it."""
    content = value if isinstance(value, bytes) else orjson.dumps(value)
    return Body(content=content, media_type=media_type, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def span(**given: Any) -> Span:
    """A finished span of its own trace."""
    id = given.pop("id", None) or new_id()
    values = {"trace_id": id * 2, "start_ns": START, "duration_ns": SECOND, "name": "work", **given}
    return Span(id=id, **values)


def request(sent: str = "What is the capital of France?", got: str = "Paris, of course.", **given: Any) -> Request:
    """A finished chat call of its own trace, with bodies in OpenAI's dialect."""
    id = given.pop("id", None) or new_id()
    model = given.pop("request_model", "gpt-4o")
    usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
    values: dict[str, Any] = {
        "trace_id": id * 2,
        "kind": "llm",
        "name": f"chat {model}",
        "start_ns": START,
        "duration_ns": SECOND,
        "method": "POST",
        "url": "https://api.openai.com/v1/chat/completions",
        "status": 200,
        "provider": "openai",
        "api": "openai.chat",
        "operation": "chat",
        "request_model": model,
        "response_model": f"{model}-2024-08-06",
        "response_id": f"chatcmpl-{id}",
        "framing": "json",
        "finish_reasons": ("stop",),
        "text": got,
        "usage": Usage(input_tokens=20, output_tokens=10),
        "usage_raw": usage,
        "cost": priced("0.00015"),
        "messages": (Message(role="user", parts=(Part(type="text", content=sent),)),),
        "parameters": {"temperature": 0.5},
        "request_headers": (("content-type", "application/json"),),
        "response_headers": (("content-type", "application/json"), ("x-request-id", f"req_{id}")),
        "provider_request_id": f"req_{id}",
        "request_body": body({"model": model, "temperature": 0.5, "messages": [{"role": "user", "content": sent}]}),
        "response_body": body(
            {
                "id": f"chatcmpl-{id}",
                "object": "chat.completion",
                "model": f"{model}-2024-08-06",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": got}, "finish_reason": "stop"}],
                "usage": usage,
            }
        ),
    }
    return Request(id=id, **{**values, **given})


def priced(amount: str) -> Cost:
    """A cost of one line."""
    dollars = Decimal(amount)
    line = CostLine(bucket="output_text", tokens=10, per_million=dollars * 100_000, amount=dollars)
    return Cost(amount=dollars, lines=(line,), source="genai-prices 0", price_date="2026-01-01")


def attempt(of: Request, number: int, **given: Any) -> Attempt:
    """One exchange of a request."""
    values = {"request_id": of.id, "number": number, "start_ns": of.start_ns, "duration_ns": SECOND, "outcome": "ok"}
    return Attempt(**{**values, **given})
