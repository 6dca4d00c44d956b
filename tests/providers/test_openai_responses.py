"""OpenAI's Responses, whole and streamed, and counting of its tokens."""

from collections.abc import Callable
from typing import Any

import pytest

from asgi_llmobs.records import Part, Reading, Usage

Ask = Callable[..., Reading]
Sse = Callable[..., bytes]

URL = "https://api.openai.com/v1/responses"


def message(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def response(*output: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "r1", "object": "response", "model": "gpt-5", "status": "completed", "output": list(output), **more}


REASONING = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}]}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"x":1}'}
CUSTOM = {"type": "custom_tool_call", "call_id": "call_2", "name": "sh", "input": "ls"}


def test_whole_response(ask: Ask) -> None:
    """Text, reasoning, calls, server tools, usage and status of a response."""
    usage = {
        "input_tokens": 20,
        "output_tokens": 9,
        "total_tokens": 29,
        "input_tokens_details": {"cached_tokens": 5},
        "output_tokens_details": {"reasoning_tokens": 4},
    }
    answer = response(
        REASONING,
        {"type": "web_search_call", "status": "completed"},
        message("Hi"),
        CALL,
        CUSTOM,
        usage=usage,
        service_tier="priority",
    )
    request = {
        "model": "gpt-5",
        "instructions": "Be brief.",
        "input": "Hello",
        "reasoning": {"effort": "low"},
        "tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}],
    }
    reading = ask(URL, request, answer)

    assert (reading.response_id, reading.response_model, reading.finish_reasons) == ("r1", "gpt-5", ["completed"])
    assert (reading.text, reading.reasoning_text, reading.server_tools) == ("Hi", "hm", ["web_search_call"])
    assert reading.tool_calls == [
        {"id": "call_1", "name": "f", "arguments": '{"x":1}'},
        {"id": "call_2", "name": "sh", "arguments": "ls"},
    ]
    assert reading.usage == Usage(
        input_tokens=20, output_tokens=9, cache_read=5, reasoning=4, input_raw=20, output_raw=9, total_reported=29
    )
    assert reading.service_tier == "priority"
    assert [message.role for message in reading.input] == ["system", "user"]
    assert [tool["name"] for tool in reading.tools] == ["f", "web_search"]
    assert reading.parameters == {"reasoning": {"effort": "low"}}


def test_stream_with_a_whole_response_at_its_end(ask: Ask, sse: Sse) -> None:
    """The last event's response is the answer; content begins with the first piece of it."""
    created = {"type": "response.created", "response": response(status="in_progress")}
    added = {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "content": []}}
    piece = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "H"}
    done = {"type": "response.completed", "response": response(message("Hi"), usage={"input_tokens": 1})}
    reading = ask(URL, {"stream": True}, sse(("response.created", created), added, piece, done))

    assert (reading.text, reading.finish_reasons, reading.ended) == ("Hi", ["completed"], True)
    assert reading.content_offset == len(sse(("response.created", created), added, piece))
    assert reading.usage is not None


def test_stream_that_breaks_off(ask: Ask, sse: Sse) -> None:
    """Without its last event a stream is put together from the pieces: text, reasoning, refusal and arguments."""
    reading = ask(
        URL,
        {},
        sse(
            {"type": "response.created", "response": response(status="in_progress")},
            {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "h"},
            {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "m"},
            {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "a"},
            {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "b"},
            {"type": "response.refusal.delta", "output_index": 2, "content_index": 0, "delta": "no"},
            {"type": "response.output_item.added", "output_index": 3, "item": {**CALL, "arguments": ""}},
            {"type": "response.function_call_arguments.delta", "output_index": 3, "delta": '{"x"'},
            {"type": "response.function_call_arguments.delta", "output_index": 3, "delta": ":1"},
            {"type": "response.output_item.done", "output_index": 4, "item": CUSTOM},
        ),
        complete=False,
    )

    assert (reading.text, reading.reasoning_text, reading.refusal) == ("ab", "hm", "no")
    assert [call["arguments"] for call in reading.tool_calls] == ['{"x":1', "ls"]
    assert (reading.ended, reading.finish_reasons, reading.usage) == (False, [], None)


@pytest.mark.parametrize(
    "more, reasons",
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, ["max_output_tokens"]),
        ({"status": "failed", "error": {"code": "server_error", "message": "oops"}}, ["failed"]),
        ({"status": "queued"}, ["queued"]),
    ],
)
def test_status(ask: Ask, sse: Sse, more: dict[str, Any], reasons: list[str]) -> None:
    """The status stands for the finish reason; an incomplete response says why."""
    whole = ask(URL, {}, response(**more))
    stream = ask(URL, {}, sse({"type": f"response.{more['status']}", "response": response(**more)}))

    assert whole.finish_reasons == stream.finish_reasons == reasons
    expected = {"type": None, "code": "server_error", "message": "oops"} if "error" in more else None
    assert whole.error == stream.error == expected


def test_error_event(ask: Ask, sse: Sse) -> None:
    """An error inside a stream, in the form of the reference and in the form of an error body."""
    flat = ask(URL, {}, sse(("error", {"type": "error", "code": "rate_limit", "message": "slow down", "param": None})))
    nested = ask(URL, {}, sse({"error": {"type": "t", "code": "c", "message": "m"}}))

    assert flat.error == {"type": None, "code": "rate_limit", "message": "slow down"}
    assert nested.error == {"type": "t", "code": "c", "message": "m"}


def test_who_runs_a_tool(ask: Ask) -> None:
    """Shell and computer calls are the app's to run, unless the answer holds their output already."""
    local = {"type": "local_shell_call", "call_id": "c1", "action": {"command": ["ls"]}}
    hosted = {"type": "shell_call", "call_id": "c2", "action": {"commands": ["ls"]}}
    reading = ask(
        URL,
        {},
        response(
            local,
            hosted,
            {"type": "shell_call_output", "call_id": "c2", "output": []},
            {"type": "mcp_call", "name": "f"},
            {"type": "image_generation_call", "result": "iVBORw0KGgo=", "output_format": "webp"},
        ),
    )

    assert reading.tool_calls == [{"id": "c1", "name": "local_shell_call", "arguments": {"command": ["ls"]}}]
    assert reading.server_tools == ["shell_call", "mcp_call", "image_generation_call"]
    image = next(part for part in reading.output[0].parts if part.type == "blob")
    assert (image.mime_type, image.size) == ("image/webp", 8)


def test_input_items(ask: Ask) -> None:
    """Messages, earlier calls with their results, reasoning, images and references of a request."""
    items = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "https://x.example/a.png"},
                {"type": "input_file", "file_id": "file-1"},
            ],
        },
        REASONING,
        CALL,
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
        {"type": "item_reference", "id": "msg_1"},
    ]
    reading = ask(URL, {"input": items}, response(message("ok")))

    assert [message.role for message in reading.input] == ["system", "user", "assistant", "assistant", "tool", "user"]
    assert [part.type for part in reading.input[1].parts] == ["text", "uri", "file"]
    assert reading.input[3].parts == (Part(type="tool_call", id="call_1", name="f", arguments='{"x":1}'),)
    assert reading.input[4].parts == (Part(type="tool_call_response", id="call_1", content="42"),)


def test_token_count(ask: Ask) -> None:
    """A count of tokens is a detail, no usage."""
    reading = ask(
        URL + "/input_tokens",
        {"model": "gpt-5", "input": "hi"},
        {"object": "response.input_tokens", "input_tokens": 15},
    )

    assert (reading.operation, reading.usage, reading.details["token_count"]) == ("count_tokens", None, 15)
