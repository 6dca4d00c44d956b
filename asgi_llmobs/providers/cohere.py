"""Cohere: chat in both versions, generation, embeddings and reranking.

Reference: https://docs.cohere.com/reference. ``tokens`` is what was processed, ``billed_units`` what is charged.
"""

from typing import Any

from asgi_llmobs.providers.base import Dialect, Provider, Route, Wire, route
from asgi_llmobs.providers.bodies import Chunk, answer_of, chunks, is_stream, request_of
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.framing import parse_json
from asgi_llmobs.providers.messages import plain_message, plain_tools
from asgi_llmobs.providers.values import array, as_text, count, link, named, number, obj, rest, string
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["ANY_HOST", "PROVIDERS", "RERANK"]

NOT_PARAMETERS = frozenset(
    "model messages message chat_history preamble prompt text texts images inputs query documents tools tool_results"
    " stream".split()
)
V1_ROLES = {"CHATBOT": "assistant", "USER": "user", "SYSTEM": "system", "TOOL": "tool"}


def text_message(role: str, text: Any) -> Message:
    """A message of one text."""
    return Message(role=role, parts=(Part(type="text", content=string(text)),))


def request_side(wire: Wire, reading: Reading) -> dict[str, Any]:
    """Fill in what a request says; gives its body."""
    body = request_of(wire, reading)
    if named(body.get("preamble")):
        reading.input.append(text_message("system", body["preamble"]))
    for turn in map(obj, array(body.get("chat_history"))):
        message = plain_message({**turn, "content": turn.get("message")})
        reading.input.append(Message(role=V1_ROLES.get(message.role, message.role), parts=message.parts))
    reading.input.extend(map(plain_message, array(body.get("messages"))))
    texts = [body.get(name) for name in ("message", "prompt", "text", "query")] + array(body.get("texts"))
    reading.input.extend(text_message("user", text) for text in texts if named(text))
    for item in map(obj, array(body.get("inputs"))):
        reading.input.append(plain_message({"content": item.get("content")}))
    for image in array(body.get("images")):
        reading.input.append(Message(role="user", parts=(link(image, "image"),)))
    for result in map(obj, array(body.get("tool_results"))):
        part = Part(
            type="tool_call_response",
            name=named(obj(result.get("call")).get("name")),
            content=as_text(result.get("outputs")),
        )
        reading.input.append(Message(role="tool", parts=(part,)))
    reading.tools = plain_tools(body.get("tools"))
    reading.parameters = rest(body, NOT_PARAMETERS)
    return body


def cohere_usage(given: Any, reading: Reading) -> Usage | None:
    """Tokens of a ``usage`` (version 2) or ``meta`` (version 1) object."""
    usage = obj(given)
    tokens, billed = obj(usage.get("tokens")), obj(usage.get("billed_units"))
    if not tokens and not billed:
        return None
    raw, output = (count(tokens.get(name), reading, name) for name in ("input_tokens", "output_tokens"))
    charged, charged_output = (count(billed.get(name), reading, name) for name in ("input_tokens", "output_tokens"))
    image = tokens.get("image_tokens", billed.get("image_tokens"))
    reading.usage_raw = usage
    reading.details.update(rest(billed, ("input_tokens", "output_tokens", "search_units", "image_tokens")))
    return Usage(
        input_tokens=charged if raw is None else raw,
        output_tokens=charged_output if output is None else output,
        cache_read=count(usage.get("cached_tokens"), reading, "cached_tokens"),
        reasoning=count(tokens.get("reasoning_tokens"), reading, "reasoning_tokens"),
        image_input=count(image, reading, "image_tokens"),
        input_raw=raw,
        output_raw=output,
        billed_input=charged,
        billed_output=charged_output,
        search_units=count(billed.get("search_units"), reading, "search_units"),
    )


def warnings_of(meta: Any, reading: Reading) -> None:
    """What the provider warns about, such as a model that goes away."""
    reading.notes.extend(line for line in array(obj(meta).get("warnings")) if isinstance(line, str))


def take_content(block: dict[str, Any], key: Any, end: int, draft: Draft) -> None:
    """Take in a content block of version 2, whole or a piece of it."""
    draft.write("text", block.get("text"), end, key)
    draft.write("reasoning", block.get("thinking"), end, key)


def take_call(call: dict[str, Any], key: Any, end: int, draft: Draft) -> None:
    """Take in a tool call of version 2, whole or a piece of it."""
    function = obj(call.get("function"))
    given = function.get("arguments")
    draft.call(
        key,
        end,
        id=call.get("id"),
        name=function.get("name"),
        fragment=given,
        arguments=None if isinstance(given, str) else given,
    )


def take_v2_event(event: Chunk, draft: Draft, reading: Reading) -> None:
    """Take in one event of a stream of version 2."""
    data, end = event.data, event.end
    index = data.get("index") if isinstance(data.get("index"), int) else 0
    delta = obj(data.get("delta"))
    message = obj(delta.get("message"))
    kind = string(data.get("type")) or event.type
    if kind == "message-start":
        reading.response_id = named(data.get("id"))
    elif kind in ("content-start", "content-delta"):
        take_content(obj(message.get("content")), index, end, draft)
    elif kind == "tool-plan-delta":
        plan(message.get("tool_plan"), end, draft, reading)
    elif kind in ("tool-call-start", "tool-call-delta"):
        calls = message.get("tool_calls")
        take_call(obj(calls[0] if isinstance(calls, list) and calls else calls), index, end, draft)
    elif kind == "message-end":
        draft.finish_reason = named(delta.get("finish_reason"))
        reading.usage = cohere_usage(delta.get("usage") or data.get("usage"), reading)
        if delta.get("error"):
            reading.error = {"type": draft.finish_reason, "code": None, "message": as_text(delta["error"])}
        reading.ended = True


def plan(text: Any, end: int, draft: Draft, reading: Reading) -> None:
    """Take in what the model says before it calls tools."""
    if isinstance(text, str) and text:
        reading.details["tool_plan"] = reading.details.get("tool_plan", "") + text
        draft.seen(end)


def read_v2_chat(wire: Wire, reading: Reading) -> None:
    """``POST /v2/chat``."""
    request_side(wire, reading)
    draft = Draft(reading)
    if is_stream(reading):
        reading.ended = False
        for event in chunks(wire, reading):
            take_v2_event(event, draft, reading)
    else:
        answer = answer_of(wire, reading)
        size = len(wire.response_body)
        message = obj(answer.get("message"))
        if message:
            reading.response_id = named(answer.get("id"))
        plan(message.get("tool_plan"), size, draft, reading)
        content = message.get("content")
        for key, block in enumerate(content if isinstance(content, list) else [{"text": content}]):
            take_content(obj(block), key, size, draft)
        for key, call in enumerate(map(obj, array(message.get("tool_calls")))):
            take_call(call, key, size, draft)
        draft.finish_reason = named(answer.get("finish_reason"))
        reading.usage = cohere_usage(answer.get("usage"), reading)
    draft.publish()


def take_v1(data: dict[str, Any], end: int, draft: Draft, reading: Reading, *, whole: bool) -> None:
    """Take in a version 1 answer, or an event of its stream, whose last one repeats the whole."""
    reading.response_id = named(data.get("generation_id")) or reading.response_id
    last = obj(data.get("response"))
    if data.get("event_type") == "tool-calls-generation" and not whole:
        last = last or data  # repeats what the chunks before it said
    if whole or not last:
        draft.write("text", data.get("text"), end)
    elif not draft.blocks:
        draft.write("text", last.get("text"), end)
    delta = obj(data.get("tool_call_delta"))
    if delta:
        index = delta.get("index") if isinstance(delta.get("index"), int) else 0
        draft.call(index, end, name=delta.get("name"), fragment=delta.get("parameters"))
    calls = array(data.get("tool_calls")) or array(last.get("tool_calls"))
    for key, call in enumerate(map(obj, calls)):
        draft.call(key, end, name=call.get("name"))
        block = draft.block("tool_call", key)
        block.fragments, block.arguments = [], call.get("parameters")
    draft.finish_reason = named(data.get("finish_reason")) or named(last.get("finish_reason")) or draft.finish_reason
    meta = data.get("meta") or last.get("meta")
    reading.usage = cohere_usage(meta, reading) or reading.usage
    warnings_of(meta, reading)
    if data.get("is_finished") is True or data.get("event_type") == "stream-end":
        reading.ended = True
        failure = data.get("error") or data.get("err")
        if draft.finish_reason in ("ERROR", "ERROR_TOXIC", "ERROR_LIMIT") and failure:
            reading.error = {"type": draft.finish_reason, "code": None, "message": as_text(failure)}


def read_v1_chat(wire: Wire, reading: Reading) -> None:
    """``POST /v1/chat``; a stream is JSON lines or server-sent events."""
    request_side(wire, reading)
    draft = Draft(reading, parse=True)
    if is_stream(reading):
        reading.ended = False
        for event in chunks(wire, reading):
            take_v1(event.data, event.end, draft, reading, whole=False)
    else:
        take_v1(answer_of(wire, reading), len(wire.response_body), draft, reading, whole=True)
    draft.publish()


def read_generate(wire: Wire, reading: Reading) -> None:
    """``POST /v1/generate``, ``/v1/summarize`` and ``/v1/classify``."""
    request_side(wire, reading)
    drafts: dict[int, Draft] = {}
    if is_stream(reading):
        reading.ended = False
        for event in chunks(wire, reading):
            index = event.data.get("index")
            draft = drafts.setdefault(index if isinstance(index, int) else 0, Draft(reading))
            take_v1(event.data, event.end, draft, reading, whole=False)
            reading.response_id = named(obj(event.data.get("response")).get("id")) or reading.response_id
    else:
        answer = answer_of(wire, reading)
        size = len(wire.response_body)
        generations = array(answer.get("generations")) or [{"text": answer.get("summary")}]
        for place, generation in enumerate(map(obj, generations)):
            draft = drafts.setdefault(place, Draft(reading))
            draft.write("text", generation.get("text"), size)
            draft.finish_reason = named(generation.get("finish_reason"))
        if "message" not in answer:
            reading.response_id = named(answer.get("id"))
        if answer.get("classifications"):
            reading.details["classifications"] = answer["classifications"]
        reading.usage = cohere_usage(answer.get("meta"), reading)
        warnings_of(answer.get("meta"), reading)
    for place, index in enumerate(sorted(drafts)):
        drafts[index].publish(first=place == 0)


def read_embed(wire: Wire, reading: Reading) -> None:
    """``POST /v1/embed`` and ``/v2/embed``."""
    request_side(wire, reading)
    answer = answer_of(wire, reading)
    given = answer.get("embeddings")
    vectors = given if isinstance(given, list) else next((array(item) for item in obj(given).values() if item), [])
    reading.details["input_count"] = len(reading.input)
    if vectors and isinstance(vectors[0], list):
        reading.details["dimensions"] = len(vectors[0])
    if vectors:
        reading.response_id = named(answer.get("id"))
    reading.usage = cohere_usage(answer.get("meta"), reading)
    warnings_of(answer.get("meta"), reading)


def read_rerank(wire: Wire, reading: Reading) -> None:
    """``POST /v1/rerank`` and ``/v2/rerank``, also as Jina, Voyage and Hugging Face's server answer it."""
    body = request_side(wire, reading)
    documents = array(body.get("documents")) or array(body.get("texts"))
    reading.details["input_count"] = len(documents)
    whole = parse_json(wire.response_body)
    value = obj(whole)
    reading.ended = whole is not None
    given = (value.get(name) for name in ("results", "data", "rankings"))  # of Cohere, Voyage, NVIDIA
    results = next(filter(None, map(array, given)), array(whole))
    if results:
        reading.response_id = named(value.get("id"))
        reading.response_model = named(value.get("model"))
        reading.details["results"] = [rest(obj(item), ("document", "text")) for item in results[:100]]
    reading.usage = cohere_usage(value.get("meta"), reading) or rerank_usage(obj(value.get("usage")), reading)


def rerank_usage(usage: dict[str, Any], reading: Reading) -> Usage | None:
    """Tokens of those who count reranking in tokens."""
    total = count(usage.get("total_tokens"), reading, "total_tokens")
    prompt = count(usage.get("prompt_tokens"), reading, "prompt_tokens")
    cost = number(usage.get("cost"), reading, "cost")
    units = count(usage.get("search_units"), reading, "search_units")
    if total is None and prompt is None and cost is None and units is None:
        return None
    reading.usage_raw = usage
    tokens = total if prompt is None else prompt
    return Usage(input_tokens=tokens, input_raw=prompt, total_reported=total, cost_usd=cost, search_units=units)


V1_CHAT = Dialect("cohere.v1.chat", "chat", read_v1_chat)
V2_CHAT = Dialect("cohere.v2.chat", "chat", read_v2_chat)
GENERATE = Dialect("cohere.generate", "text_completion", read_generate)
EMBED = Dialect("cohere.embed", "embeddings", read_embed)
RERANK = Dialect("cohere.rerank", "rerank", read_rerank)

ANY_HOST: tuple[Route, ...] = (
    route("POST", r"/v2/chat$", V2_CHAT),
    route("POST", r"/v2/embed$", EMBED),
    route("POST", r"/rerank$", RERANK),
    route("POST", r"/cohere/v1/chat$", V1_CHAT),  # gateways put the provider's name before its own path
    route("POST", r"/cohere/v1/embed$", EMBED),
)

ROUTES: tuple[Route, ...] = (
    *ANY_HOST,
    # old SDKs name no version in the path
    route("POST", r"^(/v1)?/chat$", V1_CHAT),
    route("POST", r"^(/v1)?/embed$", EMBED),
    route("POST", r"^(/v1)?/(generate|summarize|classify)$", GENERATE),
)

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="cohere",
        otel="cohere",
        label="Cohere",
        hosts=(r"(?:api|stg\.api|production\.api|[\w-]+-api)\.cohere\.(com|ai)",),
        routes=ROUTES,
    ),
)
