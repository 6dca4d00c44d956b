"""A store with something of everything, and canaries in every text that a page could show."""

import base64
import hashlib
from dataclasses import fields, replace
from typing import Any

from asgi_llmobs.records import Attempt, Kind, Message, Part, Request, Span
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, START, body, request, span

__all__ = ["CONTENT", "PICTURE", "PICTURE_SHA256", "canaries", "fill", "secretive"]

CONTENT = "TOPSECRETCONTENT"  # in all that only those with the role reader may see
# one dot, as a PNG
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
PICTURE_SHA256 = hashlib.sha256(PICTURE).hexdigest()


def secretive(**given: Any) -> Request:
    """A failed request with content wherever content can be: prompt, answer, error, tools, parameters, headers."""
    sent, got = f"{CONTENT} prompt", f"{CONTENT} answer"
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": f'{{"a": "{CONTENT}"}}'}}
    image = {"url": "data:image/png;base64," + base64.b64encode(PICTURE).decode()}
    messages = [
        {"role": "system", "content": sent},
        {"role": "user", "content": [{"type": "text", "text": sent}, {"type": "image_url", "image_url": image}]},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": sent},
    ]
    tool = {"name": "look_up", "description": CONTENT, "parameters": {"type": "object", "title": CONTENT}}
    made = request(
        sent,
        got,
        outcome="error",
        status=400,
        error_type="invalid_request_error",
        error_message=f"{CONTENT} is not allowed",
        error={"type": "invalid_request_error", "code": "bad", "message": f"{CONTENT} is not allowed"},
        parameters={"temperature": 0.5, "stop": CONTENT, "response_format": {"title": CONTENT}},
        tools=(tool,),
        tool_calls=({"id": "call_1", "name": "look_up", "arguments": CONTENT},),
        reasoning_text=CONTENT,
        refusal=CONTENT,
        attributes={"note": CONTENT},
        details={"voice": CONTENT, "dimensions": 3},
        warnings=(CONTENT,),
        notes=(CONTENT,),
        request_headers=(("content-type", "application/json"), ("x-note", CONTENT)),
        response_headers=(("content-type", "application/json"), ("x-note", CONTENT)),
        request_body=body(
            {
                "model": "gpt-4o",
                "messages": messages,
                "stop": CONTENT,
                "tools": [{"type": "function", "function": tool}],
            }
        ),
        **given,
    )
    attempts = tuple(
        Attempt(
            request_id=made.id,
            number=number,
            start_ns=made.start_ns + number * SECOND,
            duration_ns=SECOND // 2,
            outcome="error",
            status=429 if number == 1 else 400,
            error_type="rate_limit",
            error_message=CONTENT,
        )
        for number in (1, 2)
    )
    return replace(made, attempt=2, attempts=attempts)


def fill(database: Database, **given: Any) -> dict[str, Any]:
    """A conversation of two turns with tools, retries and failures in one session, and another request alone.

    Returns:
        The records by name: ``first``, ``second``, ``alone``, ``root``, ``tool``; ids are theirs.
    """
    common = {"session_id": "trip-1", "session_name": "Trip", "user_id": "ada", "properties": {"plan": "pro"}, **given}
    trace = "ab" * 16
    root = span(trace_id=trace, name="POST /chat", kind=Kind.HTTP, duration_ns=9 * SECOND, route="/chat", **common)
    tool = span(
        trace_id=trace, parent_id=root.id, name="look_up", kind=Kind.TOOL, start_ns=START + SECOND,
        input=CONTENT, output=CONTENT, outcome="error", error_type="LookupError", error_message=CONTENT, **common,
    )  # fmt: skip
    first = secretive(trace_id=trace, parent_id=root.id, request_id="mine-1", **common)
    second = request(
        "What is the capital of France?", "Paris, of course.", trace_id=trace, parent_id=root.id,
        start_ns=START + 400 * SECOND, first_token_ns=SECOND // 4, stream=True, **common,
    )  # fmt: skip
    project = {"project": given["project"]} if "project" in given else {}
    alone = request("Hello", "Hi!", start_ns=START + 500 * SECOND, request_model="claude-haiku", **project)
    Sink(database).write([root, tool, first, second, alone])
    return {"first": first, "second": second, "alone": alone, "root": root, "tool": tool}


def canaries(marker: str) -> tuple[Request, Span]:
    """A request and a span that carry *marker* in every text they have, with the name of the field behind it."""

    def mark(name: str) -> str:
        return f"{marker}{name}"

    part = {"content": mark("part"), "name": mark("part-name"), "id": mark("part-id"), "uri": mark("uri")}
    texts = {item.name: mark(item.name) for item in fields(Span) if item.type in (str, str | None)}
    texts.update(id="c" * 16, trace_id="d" * 32, parent_id="e" * 16, project="default", outcome="error", kind="tool")
    made = span(**texts, start_ns=START, duration_ns=SECOND, properties={mark("property"): mark("property-value")})
    more = {item.name: mark(item.name) for item in fields(Request) if item.type in (str, str | None)}
    texts.update(more)
    texts.update(id="f" * 16, trace_id="d" * 32, parent_id="c" * 16, project="default", outcome="error", kind="llm")
    texts.update(api="openai.chat", method="POST", framing="json")
    sent = [
        {"role": mark("role"), "name": mark("message-name"), "content": mark("prompt")},
        {"role": "user", "content": [
            {"type": "text", "text": mark("text-part")},
            {"type": "image_url", "image_url": {"url": mark("image-url")}},
        ]},
        {"role": "assistant", "tool_calls": [
            {"id": mark("call-id"), "type": "function",
             "function": {"name": mark("call-name"), "arguments": mark("call-arguments")}},
        ]},
        {"role": "tool", "tool_call_id": mark("call-id"), "content": mark("result")},
    ]  # fmt: skip
    message = {
        "role": "assistant", "content": mark("answer"), "refusal": mark("refusal"),
        "tool_calls": [{"id": "x", "type": "function", "function": {"name": mark("tool"), "arguments": mark("args")}}],
    }  # fmt: skip
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": mark("finish")}]}
    call = replace(
        request(**texts, start_ns=START, duration_ns=SECOND),
        properties={mark("property"): mark("property-value")},
        error={"type": mark("error-type"), "code": mark("error-code"), "message": mark("error-message")},
        finish_reasons=(mark("finish-reason"),),
        server_tools=(mark("server-tool"),),
        usage_raw={mark("usage-key"): mark("usage-value")},
        parameters={mark("parameter"): mark("parameter-value")},
        tools=({"name": mark("tool-name"), "description": mark("tool-description"), "parameters": {"a": mark("p")}},),
        messages=(Message(role=mark("m-role"), parts=(Part(type=mark("part-type"), **part),), name=mark("m-name")),),
        warnings=(mark("warning"),),
        notes=(mark("note"),),
        request_headers=((mark("header"), mark("header-value")),),
        response_headers=((mark("header"), mark("header-value")),),
        request_body=body(
            {
                "model": mark("model"),
                "messages": sent,
                "tools": [{"type": "function", "function": {"name": mark("t")}}],
            },
            mark("media-type"),
        ),
        response_body=body(answer),
        attempt=2,
    )
    attempts = tuple(
        Attempt(request_id=call.id, number=number, start_ns=START, duration_ns=1, outcome="error",
                error_type=mark("attempt-type"), error_message=mark("attempt-message"), retry_after=mark("retry-after"))
        for number in (1, 2)
    )  # fmt: skip
    return replace(call, attempts=attempts), made
