"""Whatever the SDKs' own types allow is read as the SDK reads it: whole, as a stream in any framing, and cut short."""

import json

import cohere.types as cohere_v1_types
import cohere.v2.types as cohere_types
import groq.types.chat as groq_types
import mistralai.client.models as mistral_types
import ollama
import openai.types as openai_types
import openai.types.audio as audio_types
import openai.types.responses as response_types
import pytest
from anthropic.types import Message
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from google.genai import types as google_types
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from tests.providers.generated import Values

SEEDS = [range(30), pytest.param(range(30, 200), marks=pytest.mark.slow, id="many")]
BUILT_IN = ("computer_call", "shell_call", "local_shell_call", "apply_patch_call", "tool_search_call")
UNREAD = "this exchange could not be read in full"
CHAT = "https://api.openai.com/v1/chat/completions"


def of_many_seeds(one):
    """A test that goes through *one*, which is given an ``ask`` and a seed, with one seed after the other."""

    def test(ask, seeds):
        for seed in seeds:
            one(ask, seed)

    test.__name__, test.__doc__ = one.__name__, one.__doc__
    return pytest.mark.parametrize("seeds", SEEDS)(test)


def calls_of(reading):
    """Names and arguments of the app's own tools; an SDK has empty strings where we have nothing."""
    calls = [call for call in reading.tool_calls if call["name"] not in BUILT_IN]
    return [(call["name"] or "", call["arguments"] or "") for call in calls]


def functions(calls):
    """The same of calls as OpenAI writes them."""
    inner = [call.get("function") or call.get("custom") for call in calls or ()]
    return [(item["name"], item.get("arguments", item.get("input")) or "") for item in inner]


def check(reading, **wanted):
    """What the reading says of each name."""
    usage = reading.usage
    got = {name: getattr(reading, name) for name in wanted if hasattr(reading, name)}
    got |= {name: getattr(usage, name) for name in wanted if hasattr(usage, name)}
    if "calls" in wanted:
        got["calls"] = calls_of(reading)
    assert got == wanted


def openai_counts(usage):
    """Totals and parts of a usage in the naming of Chat Completions."""
    if usage is None:
        return {"usage": None}
    inputs, outputs = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return {
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
        "cache_read": inputs.get("cached_tokens"),
        "cache_write": inputs.get("cache_write_tokens"),
        "audio_input": inputs.get("audio_tokens"),
        "reasoning": outputs.get("reasoning_tokens"),
        "audio_output": outputs.get("audio_tokens"),
    }


def completion(values, model=ChatCompletion):
    """A chat completion whose choices are numbered and whose total is the sum."""
    body = values.model(model)
    for index, choice in enumerate(body["choices"]):
        choice["index"] = index
    usage = body.get("usage")
    if usage:
        usage["total_tokens"] = (usage.get("prompt_tokens") or 0) + (usage.get("completion_tokens") or 0)
    return body


def message_of(body):
    return (body["choices"][0].get("message") or {}) if body["choices"] else {}


@of_many_seeds
def test_openai_and_groq_chat(ask, seed):
    """A whole chat completion: the first choice's text and calls, every choice's reason."""
    values = Values(seed)
    for url, model in (
        (CHAT, ChatCompletion),
        ("https://api.groq.com/openai/v1/chat/completions", groq_types.ChatCompletion),
    ):
        body = completion(values, model)
        message = message_of(body)
        spoken = (message.get("audio") or {}).get("transcript") or ""
        legacy = message.get("function_call")
        check(
            ask(url, {"model": "m", "messages": []}, body),
            text=(message.get("content") or "") + spoken,
            refusal=message.get("refusal") or None,
            calls=functions(message.get("tool_calls")) + ([(legacy["name"], legacy["arguments"])] if legacy else []),
            finish_reasons=[choice["finish_reason"] for choice in body["choices"]],
            response_id=body["id"] or None,
            response_model=body["model"] or None,
            reasoning_text=message.get("reasoning") or "",
            error=None,
            warnings=[],
            **openai_counts(body.get("usage")),
        )


def chunks_of(body, values):
    """A completion as a stream: each choice in pieces, the choices in any order."""
    envelope = {"id": body["id"], "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    lines = []
    for choice in body["choices"]:
        message, deltas = choice["message"], [{"role": "assistant", "content": ""}]
        for name in ("content", "refusal"):
            deltas += [{name: piece} for piece in values.pieces(message.get(name) or "")]
        for index, call in enumerate(message["tool_calls"]):
            function = {"name": call["function"]["name"], "arguments": ""}
            deltas.append({"tool_calls": [{**call, "index": index, "function": function}]})
            for piece in values.pieces(call["function"]["arguments"]):
                deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        ends = [None] * len(deltas) + [choice["finish_reason"]]
        lines.append(
            [
                {"index": choice["index"], "delta": delta, "finish_reason": end}
                for delta, end in zip([*deltas, {}], ends, strict=True)
            ]
        )
    found = [line.pop(0) for line in lines]  # the SDK wants the choices to begin in order
    while any(lines):
        found.append(values.random.choice([line for line in lines if line]).pop(0))
    stream = [{**envelope, "choices": [choice]} for choice in found]
    return [*stream, {**envelope, "choices": [], "usage": body["usage"]}] if body.get("usage") else stream


@of_many_seeds
def test_openai_chat_stream(ask, seed):
    """A stream says what the SDK's own accumulator says, also where ids are empty or the same."""
    values = Values(seed)
    body = completion(values)
    for choice in body["choices"]:
        calls = [call for call in choice["message"].get("tool_calls") or () if call["type"] == "function"]
        for place, call in enumerate(calls):
            call["id"] = values.random.choice((f"call_{place}", "", "same"))
            call["function"]["name"] = f"f{place}"
        choice["message"]["tool_calls"] = calls
    stream = chunks_of(body, values)
    state = ChatCompletionStreamState()
    for item in stream:
        state.handle_chunk(ChatCompletionChunk.model_validate(item))
    request = {"model": "m", "messages": [], "n": len(body["choices"]), "stream": True}
    reading = ask(CHAT, request, values.sse(stream, done=seed % 4 != 0))
    if not body["choices"]:
        return
    final = state.current_completion_snapshot
    first = final.choices[0].message
    check(
        reading,
        text=first.content or "",
        refusal=first.refusal or None,
        calls=[(call.function.name, call.function.arguments) for call in first.tool_calls or ()],
        finish_reasons=[choice.finish_reason for choice in sorted(final.choices, key=lambda choice: choice.index)],
        response_id=final.id or None,
        stream=True,
        ended=True,
        error=None,
        warnings=[],
        **openai_counts(body.get("usage")),
    )


def response_says(body):
    """What a response says by its items."""
    text = refusal = ""
    reasoning, calls = [], []
    for item in body["output"]:
        if item["type"] == "message":
            text += "".join(part.get("text", "") for part in item["content"])
            refusal += "".join(part.get("refusal", "") for part in item["content"])
        elif item["type"] == "reasoning":
            whole = "".join(part["text"] for part in item.get("content") or ())
            reasoning.append(whole or "\n\n".join(part["text"] for part in item["summary"] if part["text"]))
        elif item["type"] in ("function_call", "custom_tool_call"):
            calls.append((item["name"], item.get("arguments", item.get("input"))))
    return {"text": text, "refusal": refusal or None, "reasoning_text": "".join(reasoning), "calls": calls}


def response_counts(usage):
    if not usage:
        return {"usage": None}
    return {
        "input_tokens": usage["input_tokens"],
        "output_tokens": usage["output_tokens"],
        "cache_read": usage["input_tokens_details"]["cached_tokens"],
        "cache_write": usage["input_tokens_details"]["cache_write_tokens"],
        "reasoning": usage["output_tokens_details"]["reasoning_tokens"],
    }


PARTS = {"output_text": "response.output_text.delta", "refusal": "response.refusal.delta"}
GROWING = {
    "function_call": ("arguments", "response.function_call_arguments.delta"),
    "custom_tool_call": ("input", "response.custom_tool_call_input.delta"),
}


def item_events(item, values):
    """The events that bring one output item, without the one that repeats it whole."""
    kind, found = item["type"], []

    def grow(event, text, **where):
        found.extend((event, {"type": event, **where, "delta": piece}) for piece in values.pieces(text))

    begun = {**item, **({"content": [], "summary": []} if kind in ("message", "reasoning") else {})}
    if kind == "message":
        for place, part in enumerate(item["content"]):
            grow(PARTS[part["type"]], part.get("text") or part.get("refusal") or "", content_index=place)
    elif kind == "reasoning":
        for place, part in enumerate(item["summary"]):
            grow("response.reasoning_summary_text.delta", part["text"], summary_index=place)
        for place, part in enumerate(item.get("content") or ()):
            grow("response.reasoning_text.delta", part["text"], content_index=place)
    elif kind in GROWING:
        field, event = GROWING[kind]
        begun[field] = ""
        grow(event, item[field])
    added = {"type": "response.output_item.added", "item": begun}
    return [("response.output_item.added", added), *found, ("response.of_tomorrow", {"delta": {"x": 1}})]


@of_many_seeds
def test_openai_responses(ask, seed):
    """A response whole, as a stream, and as a stream that breaks off before any item is repeated whole."""
    values = Values(seed)
    url, request = "https://api.openai.com/v1/responses", {"model": "m", "input": "x"}
    body = {**values.model(Response), "error": None, "incomplete_details": None, "status": "completed"}
    for place, item in enumerate(body["output"]):
        item["id"] = f"i{place}"
        if item["type"] == "reasoning":
            item["summary"] = [part for part in item["summary"] if part["text"]]
    usage = body.get("usage")
    if usage:
        usage["total_tokens"] = usage["input_tokens"] + usage["output_tokens"]
    wanted = {**response_says(body), "response_id": body["id"] or None, "error": None, "warnings": []}
    begun = {**body, "output": [], "usage": None, "status": "in_progress"}
    events, grown = [], []
    for stream in (events, grown):
        stream.append(("response.created", {"type": "response.created", "response": begun}))
    for place, item in enumerate(body["output"]):
        found = [(name, {**data, "output_index": place}) for name, data in item_events(item, values)]
        grown += found
        done = {"type": "response.output_item.done", "output_index": place, "item": item}
        events += [*found, ("response.output_item.done", done)]
    last = {"type": "response.completed", "response": body}

    for answer in (body, values.sse([*events, ("response.completed", last)])):
        check(ask(url, request, answer), **wanted, ended=True, **response_counts(usage))
    check(ask(url, request, values.sse(grown), complete=False), **wanted, ended=False, usage=None)


def anthropic_says(body):
    blocks, usage = body["content"], body["usage"]
    written, lifetimes = usage.get("cache_creation_input_tokens"), usage.get("cache_creation") or {}
    if written is None and lifetimes:
        written = lifetimes["ephemeral_5m_input_tokens"] + lifetimes["ephemeral_1h_input_tokens"]
    return {
        "text": "".join(block["text"] for block in blocks if block["type"] == "text"),
        "reasoning_text": "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        "calls": [(block["name"], block["input"] or "") for block in blocks if block["type"] == "tool_use"],
        "finish_reasons": [body["stop_reason"]] if body.get("stop_reason") else [],
        "response_id": body["id"] or None,
        "response_model": body["model"] or None,
        "input_tokens": usage["input_tokens"] + (usage.get("cache_read_input_tokens") or 0) + (written or 0),
        "output_tokens": usage["output_tokens"],
        "cache_read": usage.get("cache_read_input_tokens"),
        "cache_write": written,
        "reasoning": (usage.get("output_tokens_details") or {}).get("thinking_tokens"),
        "error": None,
        "warnings": [],
        "ended": True,
    }


FIELDS = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}


def anthropic_events(body, values):
    """A message as a stream; the usage at its start is not yet that at its end."""
    usage = {name: value for name, value in body["usage"].items() if name != "output_tokens_details"}
    start = {**body, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(body["content"]):
        begun, deltas = block, []
        if block["type"] in FIELDS:
            field, kind = FIELDS[block["type"]]
            begun = {**block, field: ""}
            deltas = [{"type": kind, field: piece} for piece in values.pieces(block[field])]
        elif block["type"].endswith("tool_use"):
            begun, text = {**block, "input": {}}, json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *values.pieces(text))]
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_delta", "index": index, "delta": {"type": "of_tomorrow", "x": "y"}})
        events += [{"type": "content_block_stop", "index": index}, {"type": "of_tomorrow", "index": index}]
    final = {name: body["usage"].get(name) for name in ("output_tokens", "output_tokens_details")}
    events.append({"type": "message_delta", "delta": {"stop_reason": body.get("stop_reason")}, "usage": final})
    return [(event["type"], event) for event in [*events, {"type": "message_stop"}]]


@of_many_seeds
def test_anthropic_messages(ask, seed):
    """A message of any blocks, of the beta too, whole and as a stream."""
    values = Values(seed)
    body = values.model(BetaMessage if seed % 2 else Message)
    for answer in (body, values.sse(anthropic_events(body, values))):
        reading = ask("https://api.anthropic.com/v1/messages", {"model": "m", "messages": []}, answer)
        check(reading, **anthropic_says(body))


def gemini_says(body):
    candidates = body.get("candidates") or []
    parts = ((candidates[0].get("content") or {}).get("parts") or []) if candidates else []
    texts = [
        (part.get("thought"), part.get("text") or (part.get("audioTranscription") or {}).get("text") or "")
        for part in parts
    ]
    calls = [part["functionCall"] for part in parts if part.get("functionCall")]
    return {
        "text": "".join(text for thought, text in texts if not thought),
        "reasoning_text": "".join(text for thought, text in texts if thought),
        "calls": [(call["name"], call.get("args") or "") for call in calls],
        "finish_reasons": [item["finishReason"] for item in candidates if item.get("finishReason")],
        "response_id": body.get("responseId") or None,
        "response_model": body.get("modelVersion") or None,
        "error": None,
        "warnings": [],
    }


def gemini_counts(usage):
    def total(*names):
        known = [usage[name] for name in names if usage.get(name) is not None]
        return sum(known) if known else None

    if not any(name.endswith("TokenCount") for name in usage or ()):
        return {"usage": None}
    return {
        "input_tokens": total("promptTokenCount", "toolUsePromptTokenCount"),
        "output_tokens": total("candidatesTokenCount", "thoughtsTokenCount"),
        "cache_read": usage.get("cachedContentTokenCount"),
        "reasoning": usage.get("thoughtsTokenCount"),
    }


def gemini_objects(body):
    """An answer as a stream: a part in each object, at the end the reasons and the counts."""
    found = []
    for index, candidate in enumerate(body.get("candidates") or ()):
        for part in (candidate.get("content") or {}).get("parts") or ():
            found.append({"candidates": [{"index": index, "content": {"role": "model", "parts": [part]}}]})
        found.append({"candidates": [{"index": index, "finishReason": candidate.get("finishReason")}]})
    rest = {name: value for name, value in body.items() if name != "candidates"}
    return [{"usageMetadata": {"trafficType": "ON_DEMAND"}}, *found, rest]


@of_many_seeds
def test_gemini(ask, seed):
    """An answer of any parts, whole, as events and as one growing array."""
    values = Values(seed)
    body = values.model(google_types.GenerateContentResponse)
    for index, candidate in enumerate(body.get("candidates") or ()):
        candidate["index"] = index
        for part in (candidate.get("content") or {}).get("parts") or ():
            if part.get("functionCall"):  # its streamed form has tests of its own
                part["functionCall"] = {"name": "f", "args": part["functionCall"].get("args")}
    stream = gemini_objects(body)
    base = "https://generativelanguage.googleapis.com/v1beta/models/g:"
    for method, answer in (
        ("generateContent", body),
        ("streamGenerateContent?alt=sse", values.sse(stream)),
        ("streamGenerateContent", json.dumps(stream, indent=values.random.choice((None, 1)))),
    ):
        reading = ask(base + method, {"contents": []}, answer)
        check(reading, **gemini_says(body), **gemini_counts(body.get("usageMetadata")))


def interaction_says(body):
    steps = body.get("steps") or []
    contents = [part for step in steps if step["type"] == "model_output" for part in step.get("content") or ()]
    thoughts = [
        "\n".join(item["text"] for item in step.get("summary") or () if "text" in item)
        for step in steps
        if step["type"] == "thought"
    ]
    calls = [step for step in steps if step["type"] == "function_call"]
    usage = body.get("usage") or {}

    def total(*names):
        known = [usage[name] for name in names if usage.get(name) is not None]
        return sum(known) if known else None

    counts = {
        "input_tokens": total("total_input_tokens", "total_tool_use_tokens"),
        "output_tokens": total("total_output_tokens", "total_thought_tokens"),
        "cache_read": usage.get("total_cached_tokens"),
        "reasoning": usage.get("total_thought_tokens"),
    }
    return {
        "text": "".join(part["text"] for part in contents if part["type"] == "text"),
        "reasoning_text": "".join(thoughts),
        "calls": [(call["name"], call["arguments"] or "") for call in calls],
        "response_id": body["id"] or None,
        "finish_reasons": [body["status"]] if body["status"] else [],
        "warnings": [],
        "ended": True,
        **(counts if usage else {"usage": None}),
    }


def interaction_events(body, values):
    """The steps of an interaction as a stream: texts, thoughts and arguments in pieces."""
    for index, step in enumerate(body.get("steps") or ()):
        kind, begun, deltas = step["type"], step, []
        if kind == "model_output":
            begun = {"type": kind}
            for part in step.get("content") or ():
                pieces = values.pieces(part["text"]) if part["type"] == "text" else ()
                deltas += [{"type": "text", "text": piece} for piece in pieces]
        elif kind == "function_call":
            begun = {**step, "arguments": {}}
            pieces = values.pieces(json.dumps(step["arguments"]))
            deltas = [{"type": "arguments_delta", "arguments": piece} for piece in pieces]
        yield {"event_type": "step.start", "index": index, "step": begun}
        yield from ({"event_type": "step.delta", "index": index, "delta": delta} for delta in deltas)
        yield {"event_type": "step.delta", "index": index, "delta": {"type": "thought_signature", "signature": "x"}}
        yield {"event_type": "step.stop", "index": index}
    yield {"event_type": "interaction.completed", "interaction": {**body, "steps": None}}


@pytest.mark.parametrize("seeds", SEEDS)
def test_interactions(ask, seeds):
    """The steps of an interaction, whole and as a stream."""
    interactions = pytest.importorskip("google.genai.interactions")  # half a second that only this test is to take
    for seed in seeds:
        values = Values(seed)
        body = {**values.model(interactions.Interaction), "id": f"i{seed}"}
        body["steps"] = [step for step in body.get("steps") or () if step["type"] not in ("user_input", "UNKNOWN")]
        for step in body["steps"]:
            step["error"] = None
        url = "https://generativelanguage.googleapis.com/v1beta/interactions"
        for answer in (body, values.sse(interaction_events(body, values), done=True)):
            check(ask(url, {"model": "m", "input": "x"}, answer), **interaction_says(body))


def texts_of(content):
    """Text and reasoning of a content: a string, or blocks."""
    if not isinstance(content, list):
        return content or "", ""
    text = "".join(item["text"] for item in content if item["type"] == "text")
    thoughts = [item["thinking"] for item in content if item["type"] == "thinking"]
    pieces = [item for thought in thoughts for item in ([thought] if isinstance(thought, str) else thought)]
    return text, "".join(item if isinstance(item, str) else item.get("text", "") for item in pieces)


@of_many_seeds
def test_mistral(ask, seed):
    """A chat completion, and the outputs of a conversation."""
    values = Values(seed)
    body = completion(values, mistral_types.ChatCompletionResponse)
    message = message_of(body)
    text, reasoning = texts_of(message.get("content"))
    reading = ask("https://api.mistral.ai/v1/chat/completions", {"model": "m"}, body)
    check(
        reading,
        text=text,
        reasoning_text=reasoning,
        calls=functions(message.get("tool_calls")),
        response_id=body["id"] or None,
        error=None,
        warnings=[],
    )
    body = values.model(mistral_types.ConversationResponse)
    said = [texts_of(item["content"]) for item in body["outputs"] if item["type"] == "message.output"]
    calls = [item for item in body["outputs"] if item["type"] == "function.call"]
    check(
        ask("https://api.mistral.ai/v1/conversations", {"model": "m"}, body),
        text="".join(text for text, _ in said),
        reasoning_text="".join(reasoning for _, reasoning in said),
        calls=[(item["name"], item["arguments"] or "") for item in calls],
        response_id=body["conversation_id"] or None,
        error=None,
    )


@of_many_seeds
def test_cohere_and_ollama(ask, seed):
    """A chat of Cohere's second version, and one of Ollama."""
    values = Values(seed)
    body = values.model(cohere_types.V2ChatResponse)
    message = body["message"]
    text, reasoning = texts_of(message.get("content"))
    calls = [call.get("function") or {} for call in message.get("tool_calls") or ()]
    check(
        ask("https://api.cohere.com/v2/chat", {"model": "m", "messages": []}, body),
        text=text,
        reasoning_text=reasoning,
        calls=[(call.get("name") or "", call.get("arguments") or "") for call in calls],
        finish_reasons=[body["finish_reason"]],
        error=None,
    )
    body = values.model(ollama.ChatResponse)
    message = body["message"]
    check(
        ask("http://localhost:11434/api/chat", {"model": "m", "stream": False}, body),
        text=message.get("content") or "",
        reasoning_text=message.get("thinking") or "",
        calls=functions(message.get("tool_calls")),
        error=None,
    )


OPENAI, MISTRAL, COHERE, OLLAMA, GEMINI = (
    "https://api.openai.com/v1/",
    "https://api.mistral.ai/v1/",
    "https://api.cohere.com/",
    "http://localhost:11434/api/",
    "https://generativelanguage.googleapis.com/v1beta/models/g:",
)
WHOLE = {
    OPENAI + "completions": openai_types.Completion,
    OPENAI + "embeddings": openai_types.CreateEmbeddingResponse,
    OPENAI + "images/generations": openai_types.ImagesResponse,
    OPENAI + "decisions": openai_types.Decision,
    OPENAI + "moderations": openai_types.ModerationCreateResponse,
    OPENAI + "audio/transcriptions": audio_types.TranscriptionCreateResponse,
    OPENAI + "audio/translations": audio_types.TranslationCreateResponse,
    MISTRAL + "embeddings": mistral_types.EmbeddingResponse,
    MISTRAL + "moderations": mistral_types.ModerationResponse,
    MISTRAL + "audio/transcriptions": mistral_types.TranscriptionResponse,
    MISTRAL + "audio/speech": mistral_types.SpeechResponse,
    COHERE + "v1/chat": cohere_v1_types.NonStreamedChatResponse,
    COHERE + "v1/generate": cohere_v1_types.Generation,
    COHERE + "v1/summarize": cohere_v1_types.SummarizeResponse,
    COHERE + "v1/classify": cohere_v1_types.ClassifyResponse,
    COHERE + "v1/embed": cohere_v1_types.EmbedFloatsResponse,
    COHERE + "v2/embed": cohere_v1_types.EmbedByTypeResponse,
    COHERE + "v2/rerank": cohere_v1_types.RerankResponse,
    OLLAMA + "generate": ollama.GenerateResponse,
    OLLAMA + "embed": ollama.EmbedResponse,
    GEMINI + "embedContent": google_types.EmbedContentResponse,
    GEMINI + "countTokens": google_types.CountTokensResponse,
}
STREAMED = {
    OPENAI + "chat/completions": ChatCompletionChunk,
    OPENAI + "responses": response_types.ResponseStreamEvent,
    OPENAI + "images/generations": openai_types.ImageGenStreamEvent,
    OPENAI + "images/edits": openai_types.ImageEditStreamEvent,
    OPENAI + "audio/transcriptions": audio_types.TranscriptionStreamEvent,
    "https://api.anthropic.com/v1/messages": BetaRawMessageStreamEvent,
    MISTRAL + "chat/completions": mistral_types.CompletionChunk,
    MISTRAL + "conversations": mistral_types.ConversationEventsData,
    MISTRAL + "audio/transcriptions": mistral_types.TranscriptionStreamEventsData,
    COHERE + "v1/chat": cohere_v1_types.StreamedChatResponse,
    COHERE + "v1/generate": cohere_v1_types.GenerateStreamedResponse,
    COHERE + "v2/chat": cohere_types.V2ChatStreamResponse,
}


@pytest.mark.parametrize("seeds", SEEDS)
def test_every_answer_and_every_event(ask, seeds, caplog):
    """Answers of every other endpoint, and events of every stream in any order, are read to the end."""
    for seed in seeds:
        values = Values(seed)
        for url, annotation in WHOLE.items():
            reading = ask(url, {"model": "m"}, values.of(annotation))
            assert (UNREAD in reading.warnings, reading.ended, reading.error) == (False, True, None), url
        for url, annotation in STREAMED.items():
            events = [values.of(annotation) for _ in range(5)]
            named = [(event.get("type") or "", event) for event in events]
            for stream in (values.sse(events), values.sse(named, done=True)):
                reading = ask(url, {"model": "m"}, stream)
                assert (reading.stream, UNREAD in reading.warnings) == (True, False), url
    assert caplog.records == []
