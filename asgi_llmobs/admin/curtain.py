"""What a visitor sees who may not read content: the same records without prompts, answers, bodies and their like."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from asgi_llmobs.records import Request

__all__ = ["bare_request", "bare_row"]

R = TypeVar("R")
# an error of a provider quotes the prompt: its type says enough
CONTENT = {
    "error_message": None,
    "input": None,
    "input_preview": None,
    "output": None,
    "output_preview": None,
    "response_headers": (),
    "response_preview": None,
}
PLAIN_PARAMETERS = {
    "dimensions",
    "effort",
    "frequency_penalty",
    "logprobs",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "reasoning_effort",
    "seed",
    "service_tier",
    "store",
    "stream",
    "temperature",
    "top_k",
    "top_logprobs",
    "top_p",
    "verbosity",
}


def bare_row(row: R) -> R:
    """A line of a list or a node of a tree without its content."""
    present = {item.name for item in fields(row)}  # type: ignore[arg-type]
    return replace(row, **{name: value for name, value in CONTENT.items() if name in present})  # type: ignore[type-var]


def bare_request(request: Request) -> Request:
    """A request without its content: what remains are names, numbers and times."""
    return replace(
        bare_row(request),
        attributes={},
        attempts=tuple(bare_row(attempt) for attempt in request.attempts),
        details=numbers(request.details),
        error={key: value for key, value in (request.error or {}).items() if key in ("type", "code")} or None,
        messages=(),
        notes=(),
        output_messages=(),
        parameters={key: value for key, value in request.parameters.items() if key in PLAIN_PARAMETERS},
        reasoning_text="",
        refusal=None,
        request_body=None,
        request_headers=(),
        response_body=None,
        text="",
        tool_calls=(),
        tools=tuple({"name": tool.get("name")} for tool in request.tools),
        warnings=(),
    )


def numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if isinstance(value, int | float)}
