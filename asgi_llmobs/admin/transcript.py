"""A request as a document: Markdown for people, JSON for programs."""

import json
import re
from collections.abc import Iterator
from typing import Any

from asgi_llmobs.admin.api import jsonable
from asgi_llmobs.admin.formats import duration, exact_money, iso
from asgi_llmobs.admin.snippets import address_of, text_of
from asgi_llmobs.records import Body, Message, Part, Request

__all__ = ["json_text", "markdown"]

TICKS = re.compile(r"`+")


def markdown(request: Request) -> str:
    """The conversation with its facts, as Markdown."""
    title = request.request_model or request.operation
    facts = [request.provider, request.operation, str(request.outcome), iso(request.start_ns)]
    facts += [duration(request.duration_ns)] if request.duration_ns is not None else []
    if request.usage is not None:
        facts.append(f"{request.input_tokens} tokens in, {request.output_tokens} out")
    facts.append("no price" if request.cost_usd is None else exact_money(request.cost_usd))
    lines = [f"# {one_line(title)}", "", one_line(" · ".join(facts)), ""]
    if request.error_message:
        lines += [f"> {one_line(request.error_type or 'error')}: {one_line(request.error_message)}", ""]
    for message in request.messages:
        lines += [f"## {one_line(message.role)}", "", *parts_of(message)]
    for message in request.output_messages:
        lines += [f"## {one_line(message.role)} (answer)", "", *parts_of(message)]
    return "\n".join(lines).rstrip() + "\n"


def parts_of(message: Message) -> Iterator[str]:
    for part in message.parts:
        yield from (*lines_of(part), "")


def lines_of(part: Part) -> list[str]:
    if part.type == "tool_call":
        return [f"Tool call `{one_line(part.name or '?')}`:", "", fenced(pretty(part.arguments), "json")]
    if part.type == "tool_call_response":
        text = part.content if part.content is not None else pretty(part.arguments)
        return [f"Result of `{one_line(part.name or part.id or '?')}`:", "", fenced(text)]
    if part.type == "reasoning":
        return ["Thoughts:", "", fenced(part.content or "")]
    if part.content is not None:
        return [part.content]
    return [f"[{one_line(part.modality or part.type)} {one_line(part.mime_type or part.uri or '')}]"]


def one_line(text: Any) -> str:
    return " ".join(str(text).split())


def pretty(value: Any) -> str:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return str(value)
    return json.dumps(jsonable(value), indent=2, ensure_ascii=False)


def fenced(text: str, language: str = "") -> str:
    """A block of code that nothing inside it can end."""
    longest = max((len(run) for run in TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def json_text(request: Request) -> str:
    """The exchange as JSON: what was sent, what came back, how long, how much."""
    found = {
        "id": request.id,
        "started": iso(request.start_ns),
        "provider": request.provider,
        "model": request.request_model,
        "outcome": request.outcome,
        "request": {"method": request.method, "url": address_of(request), "body": told(request.request_body)},
        "response": {"status": request.status, "body": told(request.response_body)},
        "latency_ms": request.latency_ms,
        "time_to_first_token_ms": request.time_to_first_token_ms,
        "usage": request.usage.buckets() if request.usage else None,
        "cost_usd": request.cost_usd,
        "error": request.error,
    }
    return json.dumps(jsonable(found), indent=2, ensure_ascii=True) + "\n"


def told(body: Body | None) -> Any:
    if body is None:
        return None
    text = text_of(body)
    if text is None:
        return f"({body.size} bytes of binary data)"
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
