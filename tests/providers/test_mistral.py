"""Mistral's conversations."""

from collections.abc import Callable

from asgi_llmobs.records import Reading

Ask = Callable[..., Reading]
Sse = Callable[..., bytes]

URL = "https://api.mistral.ai/v1/conversations"
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17, "connector_tokens": 0}


def test_whole_conversation(ask: Ask) -> None:
    """Text in parts, a call that the app must run, a tool that Mistral ran."""
    request = {
        "agent_id": "ag_1",
        "instructions": "Be brief.",
        "completion_args": {"temperature": 0.5},
        "store": False,
        "inputs": [
            {"role": "user", "content": "hi"},
            {"type": "function.result", "tool_call_id": "t0", "result": "42"},
        ],
    }
    reading = ask(
        URL,
        request,
        {
            "object": "conversation.response",
            "conversation_id": "conv_1",
            "usage": USAGE,
            "outputs": [
                {"type": "tool.execution", "name": "web_search", "id": "x"},
                {
                    "type": "message.output",
                    "model": "mistral-large",
                    "content": [
                        {"type": "text", "text": "Hello"},
                        {"type": "tool_reference", "title": "t", "url": "https://x.example"},
                    ],
                },
                {"type": "function.call", "tool_call_id": "t1", "name": "f", "arguments": '{"x":1}'},
            ],
        },
    )

    assert (reading.response_id, reading.response_model, reading.text) == ("conv_1", "mistral-large", "Hello")
    assert reading.server_tools == ["web_search"]
    assert reading.tool_calls == [{"id": "t1", "name": "f", "arguments": '{"x":1}'}]
    assert [message.role for message in reading.input] == ["system", "user", "tool"]
    assert reading.parameters == {"temperature": 0.5, "store": False}
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage.output_tokens) == (12, 5)
    assert (reading.request_model, reading.details["agent_id"]) == (None, "ag_1")


def test_streamed_conversation(ask: Ask, sse: Sse) -> None:
    """Events carry pieces; the last one carries the usage."""
    started = ("conversation.response.started", {"type": "conversation.response.started", "conversation_id": "conv_1"})
    first = ("message.output.delta", {"type": "message.output.delta", "output_index": 0, "content": "Hel"})
    reading = ask(
        URL + "/conv_1",
        {"inputs": "hi", "stream": True},
        sse(
            started,
            first,
            {"type": "message.output.delta", "output_index": 0, "content": {"type": "text", "text": "lo"}},
            {"type": "function.call.delta", "output_index": 1, "tool_call_id": "t1", "name": "f", "arguments": '{"x"'},
            {"type": "function.call.delta", "output_index": 1, "tool_call_id": "t1", "name": "f", "arguments": ":1}"},
            {"type": "conversation.response.done", "usage": USAGE},
        ),
    )

    assert (reading.text, reading.ended, reading.response_id) == ("Hello", True, "conv_1")
    assert reading.tool_calls == [{"id": "t1", "name": "f", "arguments": '{"x":1}'}]
    assert reading.content_offset == len(sse(started, first))
    assert reading.usage is not None


def test_error_in_a_stream(ask: Ask, sse: Sse) -> None:
    """A conversation may end in an error."""
    reading = ask(URL, {}, sse({"type": "conversation.response.error", "message": "oops", "code": 500}))

    assert reading.error == {"type": None, "code": 500, "message": "oops"}
    assert reading.ended


def test_what_is_managed(recorded: Callable[..., bool]) -> None:
    """Reading and deleting conversations are no LLM calls."""
    assert recorded("POST", URL + "/conv_1/restart")
    assert not recorded("GET", URL)
    assert not recorded("DELETE", URL + "/conv_1")
    assert not recorded("GET", URL + "/conv_1/history")
