"""Chat and text completions of OpenAI and of those who copy it."""

import json
import random
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from asgi_llmobs.records import Message, Part, Reading, Usage

Ask = Callable[..., Reading]
Sse = Callable[..., bytes]

CHAT = "https://api.openai.com/v1/chat/completions"


def chat(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A whole answer with one choice."""
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c1", "model": "gpt-5", "choices": [choice], **more}


def delta(index: int = 0, finish: str | None = None, **piece: Any) -> dict[str, Any]:
    """A chunk with the next piece of a choice."""
    return {"id": "c1", "model": "gpt-5", "choices": [{"index": index, "delta": piece, "finish_reason": finish}]}


def test_whole_answer(ask: Ask) -> None:
    """Text, model, usage, parameters and messages of a plain exchange."""
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    request = {
        "model": "gpt-5",
        "messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "temperature": 0.5,
        "seed": 7,
        "user": "u-1",
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "auto",
    }
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0},
    }
    reading = ask(CHAT, request, chat({"role": "assistant", "content": "Hello"}, usage=usage, service_tier="flex"))

    assert (reading.request_model, reading.response_model, reading.response_id) == ("gpt-5", "gpt-5", "c1")
    assert (reading.text, reading.finish_reasons, reading.ended, reading.stream) == ("Hello", ["stop"], True, False)
    assert reading.usage == Usage(
        input_tokens=10,
        output_tokens=5,
        cache_read=4,
        reasoning=2,
        audio_input=1,
        audio_output=0,
        input_raw=10,
        output_raw=5,
        total_reported=15,
    )
    assert reading.usage_raw == usage
    assert (reading.service_tier, reading.user) == ("flex", "u-1")
    assert reading.parameters == {"temperature": 0.5, "seed": 7, "tool_choice": "auto"}
    assert reading.tools == [{"name": "f", "description": "d", "parameters": {"type": "object"}, "type": "function"}]
    assert [message.role for message in reading.input] == ["system", "user"]
    assert reading.output == [
        Message(role="assistant", parts=(Part(type="text", content="Hello"),), finish_reason="stop")
    ]


def test_stream(ask: Ask, sse: Sse) -> None:
    """Pieces are put together; the first content is the first piece of text, not the role; usage may come last."""
    first, second = delta(role="assistant", content=""), delta(content="Hel")
    body = sse(
        first,
        second,
        delta(content="lo"),
        delta(finish="stop"),
        {"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        "[DONE]",
    )
    reading = ask(CHAT, {"model": "gpt-5", "stream": True}, body)

    assert (reading.text, reading.finish_reasons, reading.ended) == ("Hello", ["stop"], True)
    assert (reading.stream, reading.stream_requested, reading.framing) == (True, True, "sse")
    assert reading.content_offset == len(sse(first, second))
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage.output_tokens) == (3, 2)


def test_stream_without_usage_or_end(ask: Ask, sse: Sse) -> None:
    """What a broken-off stream does not say stays unknown."""
    reading = ask(CHAT, {"stream": True}, sse(delta(content="Hel")) + b"data: {", complete=False)

    assert (reading.text, reading.usage, reading.ended, reading.finish_reasons) == ("Hel", None, False, [])
    assert reading.warnings == []


@pytest.mark.parametrize(
    "usage, expected",
    [
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 8}, {"cache_read": 8}),  # DeepSeek
        ({"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": 8}, {"cache_read": 8}),  # Together, Moonshot
        (  # Databricks
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "cache_read_input_tokens": 2,
                "cache_creation_input_tokens": 3,
            },
            {"cache_read": 2, "cache_write": 3},
        ),
        (  # OpenRouter
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "cost": 0.25,
                "prompt_tokens_details": {"cache_write_tokens": 4},
                "completion_tokens_details": {"image_tokens": 1},
            },
            {"cache_write": 4, "cost_usd": 0.25, "image_output": 1},
        ),
        ({"prompt_tokens": 1, "completion_tokens": 1, "cost": {"total_cost": 0.5}}, {"cost_usd": 0.5}),  # Perplexity
        (  # xAI: reasoning is in the total only, the price in ticks
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 115,
                "cost_in_usd_ticks": 25_000_000,
                "completion_tokens_details": {"reasoning_tokens": 100},
            },
            {"output_tokens": 105, "output_raw": 5, "reasoning": 100, "cost_usd": 0.0025},
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40}, {"output_tokens": 5}),  # nothing invented
        ({"prompt_tokens": -1, "completion_tokens": True}, {"input_tokens": None, "output_tokens": None}),
        ({"prompt_tokens": "12", "completion_tokens": 10**30}, {"input_tokens": None, "output_tokens": None}),
    ],
)
def test_usage_dialects(ask: Ask, usage: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each copy has its own place for cached tokens, reasoning and price."""
    reading = ask(CHAT, {}, chat({"content": "x"}, usage=usage))

    assert {name: getattr(reading.usage, name, None) for name in expected} == expected


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [], "x_groq": {"usage": {"prompt_tokens": 4, "completion_tokens": 6}}},  # Groq
        {"choices": [{"index": 0, "delta": {}, "usage": {"prompt_tokens": 4, "completion_tokens": 6}}]},  # Moonshot
        {"usage": {"prompt_tokens": 4, "completion_tokens": 6}},
    ],
)
def test_usage_places(ask: Ask, sse: Sse, chunk: dict[str, Any]) -> None:
    """Usage may stand beside the choices, inside one, or in a service's own object; empty ones don't count."""
    reading = ask(CHAT, {}, sse(delta(content="x"), chunk, {"choices": [], "usage": {"prompt_tokens": None}}))

    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage.output_tokens) == (4, 6)


@pytest.mark.parametrize(
    "message, text, reasoning",
    [
        ({"content": "a", "reasoning_content": "r"}, "a", "r"),
        ({"content": "a", "reasoning": "r", "reasoning_content": "r"}, "a", "r"),
        ({"content": "a", "reasoning_details": [{"type": "reasoning.text", "text": "r"}]}, "a", "r"),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "r"}]},
                    {"type": "text", "text": "a"},
                ]
            },
            "a",
            "r",
        ),
        (
            {
                "content": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "r"}]},
                    {"type": "text", "text": "a"},
                ]
            },
            "a",
            "r",
        ),
        ({"content": {"answer": 1}}, '{"answer":1}', ""),
        ({"content": None, "audio": {"id": "au", "transcript": "a", "data": "UklGRg=="}}, "a", ""),
    ],
)
def test_places_of_text_and_reasoning(ask: Ask, sse: Sse, message: dict[str, Any], text: str, reasoning: str) -> None:
    """Text and reasoning are found wherever a service puts them, whole and streamed."""
    for body in (chat(message), sse(delta(**message), "[DONE]")):
        reading = ask(CHAT, {}, body)
        assert (reading.text, reading.reasoning_text) == (text, reasoning)
        assert reading.content_offset == (
            len(body) - len("data: [DONE]\n\n") if isinstance(body, bytes) else reading.content_offset
        )
        assert reading.content_offset is not None


def test_audio_is_kept_by_reference(ask: Ask) -> None:
    """Sound that comes back is kept by size and hash only."""
    reading = ask(CHAT, {"audio": {"format": "wav"}}, chat({"audio": {"transcript": "hi", "data": "UklGRg=="}}))

    blob = reading.output[0].parts[0]
    assert (blob.type, blob.mime_type, blob.modality, blob.size) == ("blob", "audio/wav", "audio", 4)
    assert "UklGRg==" not in repr(reading)


def fragments(*pieces: dict[str, Any]) -> list[dict[str, Any]]:
    return [delta(tool_calls=[piece]) for piece in pieces]


@pytest.mark.parametrize(
    "pieces",
    [
        [  # OpenAI: index on every fragment, id and name on the first
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}},
            {"index": 0, "function": {"arguments": '{"x":'}},
            {"index": 0, "function": {"arguments": "1}"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
        ],
        [  # no index
            {"id": "a", "function": {"name": "f", "arguments": '{"x":'}},
            {"function": {"arguments": "1}"}},
            {"id": "b", "function": {"name": "g", "arguments": "{}"}},
        ],
        [  # every call under index 0
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"index": 0, "id": "b", "function": {"name": "g", "arguments": "{}"}},
        ],
        [  # the second call begins under the index of the first and goes on under its own
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"index": 0, "id": "b", "function": {"name": "g", "arguments": "{"}},
            {"index": 1, "function": {"arguments": "}"}},
        ],
        [  # an id of its own on every fragment
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}},
            {"index": 0, "id": "a2", "function": {"arguments": "1}"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
        ],
        [  # fragments of two calls mixed
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}},
            {"index": 0, "function": {"arguments": '{"x":1}'}},
            {"index": 1, "function": {"arguments": "}"}},
        ],
        [  # id and name repeated on every fragment
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}},
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "1}"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
        ],
    ],
)
def test_streamed_tool_calls(ask: Ask, sse: Sse, pieces: list[dict[str, Any]]) -> None:
    """Fragments find their call with and without index and id; arguments stay the text they were."""
    reading = ask(CHAT, {}, sse(*fragments(*pieces), delta(finish="tool_calls")))

    assert reading.tool_calls == [
        {"id": "a", "name": "f", "arguments": '{"x":1}'},
        {"id": "b", "name": "g", "arguments": "{}"},
    ]
    assert reading.finish_reasons == ["tool_calls"]


def test_whole_tool_calls_without_ids(ask: Ask) -> None:
    """Calls that have neither id nor index are as many as there are; arguments may be an object."""
    calls = [{"function": {"name": "f", "arguments": {"x": 1}}}, {"function": {"name": "f", "arguments": {"x": 2}}}]
    reading = ask(CHAT, {}, chat({"content": None, "tool_calls": calls}))

    assert [call["arguments"] for call in reading.tool_calls] == [{"x": 1}, {"x": 2}]


def test_legacy_function_call_and_refusal(ask: Ask, sse: Sse) -> None:
    """The first form of function calls, and a refusal that streams in."""
    called = ask(
        CHAT,
        {"functions": [{"name": "f", "parameters": {}}]},
        chat({"content": None, "function_call": {"name": "f", "arguments": "{}"}}),
    )
    refused = ask(CHAT, {}, sse(delta(refusal="I "), delta(refusal="can't"), delta(finish="stop")))

    assert called.tool_calls == [{"id": None, "name": "f", "arguments": "{}"}]
    assert called.tools[0]["name"] == "f"
    assert refused.refusal == "I can't"
    assert refused.text == ""


def test_streamed_calls_without_ids(ask: Ask, sse: Sse) -> None:
    """Calls that come whole, with neither id nor index, are told apart by their names."""
    reading = ask(
        CHAT,
        {},
        sse(
            *fragments(
                {"function": {"name": "f", "arguments": "{}"}},
                {"function": {"name": "f", "arguments": '{"x":2}'}},
            )
        ),
    )

    assert [(call["name"], call["arguments"]) for call in reading.tool_calls] == [("f", "{}"), ("f", '{"x":2}')]


def test_index_of_tokens(ask: Ask, sse: Sse) -> None:
    """Some servers count tokens in the index; where one choice was asked for there is one."""
    reading = ask(CHAT, {}, sse(delta(1, content="a"), delta(2, content="b"), delta(3, "length", content="c")))

    assert (reading.text, reading.finish_reasons) == ("abc", ["length"])


def test_several_choices(ask: Ask, sse: Sse) -> None:
    """The text is the first choice's; every choice is a message with its own reason."""
    chunks = delta(1, content="b"), delta(0, content="a"), delta(1, "length"), delta(0, "stop")
    reading = ask(CHAT, {"n": 2}, sse(*chunks))

    assert (reading.text, reading.finish_reasons) == ("a", ["stop", "length"])
    assert [message.parts[0].content for message in reading.output] == ["a", "b"]


@pytest.mark.parametrize(
    "chunk",
    [
        ("error", {"error": {"message": "no tool", "type": "bad", "code": "tool_use_failed"}}),
        {"error": {"message": "no tool", "type": "bad", "code": "tool_use_failed"}},
        {
            "id": "c",
            "choices": [
                {
                    "index": 0,
                    "delta": {},
                    "finish_reason": "error",
                    "error": {"message": "no tool", "type": "bad", "code": "tool_use_failed"},
                }
            ],
        },
    ],
)
def test_error_inside_a_stream(ask: Ask, sse: Sse, chunk: Any) -> None:
    """A stream that began well may end in an error; the text that came stays."""
    reading = ask(CHAT, {}, sse(delta(content="may"), chunk))

    assert reading.error == {"type": "bad", "code": "tool_use_failed", "message": "no tool"}
    assert (reading.text, reading.ended) == ("may", True)


def test_input_parts(ask: Ask) -> None:
    """Images, sound and files are kept by address, id, or size and hash; tool results and calls keep their ids."""
    content = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]
    messages = [
        {"role": "user", "content": content},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "t1", "content": [{"type": "text", "text": "42"}]},
    ]
    reading = ask(CHAT, {"messages": messages}, chat({"content": "ok"}))

    user, assistant, tool = reading.input
    assert [(part.type, part.modality, part.size) for part in user.parts] == [
        ("text", None, None),
        ("uri", "image", None),
        ("blob", "image", 8),
        ("blob", "audio", 4),
        ("file", "file", None),
    ]
    assert [(part.type, part.id) for part in assistant.parts] == [("reasoning", None), ("tool_call", "t1")]
    assert tool.parts == (Part(type="tool_call_response", id="t1", content="42"),)
    assert "iVBORw0KGgo" not in repr(reading)


def test_text_completion(ask: Ask, sse: Sse) -> None:
    """Completions: prompts as text or token ids, choices with text."""
    url = "https://api.openai.com/v1/completions"
    whole = ask(
        url,
        {"model": "m", "prompt": ["a", "b"]},
        {
            "id": "x",
            "choices": [
                {"text": "1", "index": 0, "finish_reason": "length"},
                {"text": "2", "index": 1, "finish_reason": "stop"},
            ],
        },
    )
    stream = ask(url, {"prompt": [[1, 2, 3]]}, sse({"choices": [{"text": "a", "index": 0}]}, "[DONE]"))

    assert (whole.operation, whole.text, whole.finish_reasons) == ("text_completion", "1", ["length", "stop"])
    assert len(whole.input) == 2
    assert stream.details["prompt_token_ids"] == 3
    assert (stream.text, stream.ended) == ("a", True)


@pytest.mark.parametrize(
    "url, model",
    [
        ("https://x.openai.azure.com/openai/deployments/gpt-4o/chat/completions?api-version=1", "gpt-4o"),
        ("https://api.openai.com/v1/engines/davinci/completions", "davinci"),
        ("https://a.databricks.com/serving-endpoints/my-llm/invocations", "my-llm"),
        ("https://api.cloudflare.com/client/v4/accounts/a/ai/run/@cf/meta/llama-3", "@cf/meta/llama-3"),
        ("https://router.huggingface.co/hf-inference/models/org/m/v1/chat/completions", "org/m"),
        (CHAT, None),
    ],
)
def test_model_in_the_path(ask: Ask, url: str, model: str | None) -> None:
    """Where the request names no model the path may."""
    assert ask(url, {"messages": []}, chat({"content": "x"})).request_model == model


def test_cloudflare_wrapping(ask: Ask, sse: Sse) -> None:
    """Workers AI wraps its answers and has a plain form of its own."""
    url = "https://api.cloudflare.com/client/v4/accounts/a/ai/run/@cf/meta/llama-3"
    result = {"response": "hi", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    whole = ask(url, {"messages": []}, {"result": result, "success": True, "errors": [], "messages": []})
    stream = ask(url, {}, sse({"response": "h"}, {"response": "i"}, "[DONE]"))
    failed = ask(
        url, {}, {"result": None, "success": False, "errors": [{"code": 5007, "message": "No such model"}]}, status=400
    )

    assert (whole.text, whole.usage and whole.usage.output_tokens) == ("hi", 2)
    assert stream.text == "hi"
    assert failed.error == {"type": None, "code": 5007, "message": "No such model"}


def test_writer_streams_values(ask: Ask, sse: Sse) -> None:
    """Writer's text completions stream bare values."""
    reading = ask("https://api.writer.com/v1/completions", {"prompt": "a"}, sse({"value": "b"}, {"value": "c"}))

    assert reading.text == "bc"


def test_snowflake_inference(ask: Ask, sse: Sse) -> None:
    """Snowflake's own format streams a tool call as deltas of type tool_use."""
    url = "https://a.snowflakecomputing.com/api/v2/cortex/inference:complete"
    reading = ask(
        url,
        {"model": "claude"},
        sse(
            {"choices": [{"delta": {"type": "text", "content": "Let me see", "text": "Let me see"}}]},
            {"choices": [{"delta": {"type": "tool_use", "tool_use_id": "t", "name": "f"}}]},
            {"choices": [{"delta": {"type": "tool_use", "input": '{"x":'}}]},
            {"choices": [{"delta": {"type": "tool_use", "input": "1}"}}], "usage": {"prompt_tokens": 1}},
        ),
    )

    assert reading.text == "Let me see"
    assert reading.tool_calls == [{"id": "t", "name": "f", "arguments": '{"x":1}'}]


def test_no_answer(ask: Ask) -> None:
    """Where no answer came the request's side is read alone."""
    reading = ask(CHAT, {"model": "m", "messages": [{"role": "user", "content": "hi"}]}, None, status=None)

    assert (reading.request_model, reading.framing, reading.error) == ("m", "none", None)
    assert reading.input[0].parts[0].content == "hi"


def test_heartbeats_before_an_answer(ask: Ask) -> None:
    """A server may keep the connection open with comments until its answer, or its error, is there."""
    answer = b': ping\n\n: ping\n\n{"choices":[{"message":{"content":"hi"}}]}'
    reading = ask(CHAT, {}, answer, headers={"content-type": "text/event-stream"})
    failed = ask(CHAT, {}, b': ping\n\n{"error":{"message":"no"}}', status=502)

    assert (reading.text, reading.framing, reading.content_offset) == ("hi", "json", len(answer))
    assert failed.error == {"type": None, "code": None, "message": "no"}


def shown(reading: Reading) -> dict[str, Any]:
    """Everything that a reading says but for the place of the first content, which moves with what stands between."""
    return {item.name: getattr(reading, item.name) for item in fields(Reading) if item.name != "content_offset"}


PIECES: list[dict[str, Any]] = [
    {"content": "a"}, {"role": "assistant", "content": "b"}, {"content": None}, {"content": ""}, {"content": ["c"]},
    {"content": {"d": 1}}, {"reasoning_content": "e"}, {"refusal": "f"}, {}, {"content": "g", "audio": {"id": "x"}},
    {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "n", "arguments": "{}"}}]},
]  # fmt: skip
ENVELOPES: list[dict[str, Any]] = [
    {"id": "c1", "model": "gpt-5"}, {"id": "c2", "model": "gpt-5"}, {"id": "c1", "model": "gpt-5-2025"},
    {"id": "c1", "model": "gpt-5", "service_tier": "flex"}, {"id": "c1", "model": "gpt-5", "system_fingerprint": "fp"},
]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_plain_chunks_are_read_like_any_other(ask: Ask, seed: int) -> None:
    """A stream says the same whether its short cuts can be taken or not."""
    chance = random.Random(seed)
    request = {"model": "gpt-5", "stream": True, "n": chance.choice([None, 1, 2])}
    events = []
    for _ in range(chance.randrange(1, 12)):
        choice = {
            "index": chance.choice([0, 0, 0, 1, None, True, [1]]),
            "delta": chance.choice(PIECES[:4] if chance.random() < 0.7 else PIECES),
            "finish_reason": "stop" if chance.random() < 0.1 else None,
        }
        usage = {"prompt_tokens": 3} if chance.random() < 0.1 else None
        events.append({**chance.choice(ENVELOPES[: chance.choice([1, 5])]), "choices": [choice], "usage": usage})
    plain = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"
    longer = b"".join(b": beat\n\ndata: %s\n\n" % json.dumps({**event, "x": 1}).encode() for event in events)
    short, long = ask(CHAT, request, plain), ask(CHAT, request, longer + b"data: [DONE]\n\n")
    assert shown(short) == shown(long)
    assert (short.content_offset is None) == (long.content_offset is None)


def test_where_the_first_content_ends(ask: Ask, sse: Sse) -> None:
    """The offset is that of the event that brought the first text, in plain streams too."""
    first, rest = sse(delta(role="assistant", content=""), delta(content="Hi")), sse(delta(content=" you"), "[DONE]")
    assert ask(CHAT, {"model": "gpt-5", "stream": True}, first + rest).content_offset == len(first)
