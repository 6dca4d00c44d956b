"""Google's Interactions API: models and agents answer in steps, whole or as events.

Reference: https://ai.google.dev/api/interactions-api. The preview of 2025 calls the steps ``outputs`` and the events
``content.*``; both are read.
"""

from typing import Any

from asgi_llmobs.providers.base import Dialect, Wire
from asgi_llmobs.providers.bodies import Chunk, answer_of, chunks, is_stream, request_of
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.values import array, as_text, blob, count, link, named, obj, plus, rest, string
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["INTERACTIONS", "input_messages", "interaction_usage"]

NOT_PARAMETERS = frozenset("input model system_instruction tools stream generation_config".split())
MEDIA = ("image", "audio", "video", "document", "file")
TERMINAL = ("interaction.completed", "interaction.complete", "interaction.failed", "interaction.cancelled", "done")


def summary_of(thought: dict[str, Any]) -> str:
    """The texts of a thought's summary, which may hold images too."""
    given = thought.get("summary")
    texts = [item if isinstance(item, str) else obj(item).get("text") for item in array(given)]
    return given if isinstance(given, str) else "\n".join(text for text in texts if isinstance(text, str))


def content_part(content: Any) -> Part:
    """One content: text, media, a thought, or a call or result of a tool."""
    content = {"type": "text", "text": content} if isinstance(content, str) else obj(content)
    kind = string(content.get("type"))
    if kind == "text":
        return Part(type="text", content=string(content.get("text")))
    if kind in MEDIA:
        media_type = named(content.get("mime_type"))
        if named(content.get("uri")):
            return link(content["uri"], kind, media_type)
        return blob(content.get("data"), media_type, kind)
    if kind == "thought":
        return Part(type="reasoning", content=summary_of(content))
    if kind.endswith("_call"):
        return Part(
            type="tool_call",
            id=named(content.get("id")),
            name=named(content.get("name")) or kind,
            arguments=content.get("arguments"),
        )
    if kind.endswith("_result"):
        name = named(content.get("name")) or kind
        return Part(
            type="tool_call_response",
            id=named(content.get("call_id")),
            name=name,
            content=as_text(content.get("result")),
        )
    return Part(type=kind or "unknown", content=as_text(content.get("text")))


def input_messages(given: Any) -> list[Message]:
    """The input: a text, a content, contents, or the steps or turns of an earlier conversation."""
    items = given if isinstance(given, list) else [given] if given is not None else []
    out: list[Message] = []
    loose: list[Part] = []
    for item in items:
        step = obj(item)
        kind = string(step.get("type"))
        if "content" in step and ("role" in step or kind in ("user_input", "model_output")):
            role = "assistant" if kind == "model_output" or step.get("role") in ("model", "assistant") else "user"
            content = step["content"] if isinstance(step["content"], list) else [step["content"]]
            out.append(Message(role=role, parts=tuple(map(content_part, content))))
        elif kind == "thought" or kind.endswith("_call"):
            out.append(Message(role="assistant", parts=(content_part(step),)))
        elif kind.endswith("_result"):
            out.append(Message(role="tool", parts=(content_part(step),)))
        else:
            loose.append(content_part(item))
    return [*out, Message(role="user", parts=tuple(loose))] if loose else out


def by_modality(details: Any, name: str, reading: Reading) -> int | None:
    """The tokens of one modality in a list by modality."""
    return plus(
        *(
            count(item.get("tokens"), reading, "tokens")
            for item in map(obj, array(details))
            if string(item.get("modality")).lower() == name
        )
    )


def interaction_usage(usage: dict[str, Any], reading: Reading) -> Usage:
    """Tokens of a usage object, whose output leaves out thoughts and whose input leaves out tool use."""

    def get(name: str) -> int | None:
        return count(usage.get(name), reading, name)

    prompt, output = get("total_input_tokens"), get("total_output_tokens")
    thoughts = get("total_thought_tokens")
    if thoughts is None:
        thoughts = get("total_reasoning_tokens")
    tool_use = get("total_tool_use_tokens")
    if tool_use:
        reading.details["tool_use_input"] = tool_use
    reading.usage_raw = usage
    inputs, outputs = usage.get("input_tokens_by_modality"), usage.get("output_tokens_by_modality")
    return Usage(
        input_tokens=plus(prompt, tool_use),
        output_tokens=plus(output, thoughts),
        cache_read=get("total_cached_tokens"),
        reasoning=thoughts,
        audio_input=by_modality(inputs, "audio", reading),
        audio_output=by_modality(outputs, "audio", reading),
        image_input=by_modality(inputs, "image", reading),
        image_output=by_modality(outputs, "image", reading),
        input_raw=prompt,
        output_raw=output,
        total_reported=get("total_tokens"),
    )


def take_interaction(data: dict[str, Any], draft: Draft, reading: Reading) -> None:
    """Take in what an interaction object says about itself."""
    reading.response_id = named(data.get("id")) or reading.response_id
    reading.response_model = named(data.get("model")) or reading.response_model
    reading.service_tier = named(data.get("service_tier")) or reading.service_tier
    draft.finish_reason = named(data.get("status")) or draft.finish_reason
    if isinstance(data.get("usage"), dict) and data["usage"]:
        reading.usage = interaction_usage(data["usage"], reading)
    for name in ("agent", "previous_interaction_id"):
        if named(data.get(name)):
            reading.details[name] = data[name]
    if isinstance(data.get("error"), dict):
        take_error(data["error"], reading)


def take_error(error: dict[str, Any], reading: Reading) -> None:
    """An error inside an answer that began well."""
    reading.error = {
        "type": named(error.get("status")),
        "code": error.get("code"),
        "message": named(error.get("message")) or as_text(error),
    }


def take_step(step: dict[str, Any], key: Any, end: int, draft: Draft, reading: Reading) -> None:
    """Take in a step (or an output of the preview), whole or at its start."""
    kind = string(step.get("type"))
    if kind == "model_output":
        for place, content in enumerate(array(step.get("content"))):
            take_step(obj(content), (key, place), end, draft, reading)
        if isinstance(step.get("error"), dict):
            take_error(step["error"], reading)
    elif kind == "text":
        draft.write("text", step.get("text"), end)
    elif kind == "thought":
        draft.write("reasoning", summary_of(step), end)
    elif kind == "function_call":
        arguments = step.get("arguments")
        draft.call(key, end, id=step.get("id"), name=step.get("name"), arguments=arguments or None)
    elif kind.endswith(("_call", "_result")):
        reading.server_tools.append(kind)
        draft.add(content_part(step), end)
    elif kind in MEDIA:
        draft.add(content_part(step), end)


def take_delta(delta: dict[str, Any], key: Any, end: int, draft: Draft, reading: Reading) -> None:
    """Take in the next piece of a step."""
    kind = string(delta.get("type"))
    if kind == "thought_summary":
        content = delta.get("content")
        draft.write("reasoning", content if isinstance(content, str) else obj(content).get("text"), end)
    elif kind == "arguments_delta":
        draft.call(key, end, fragment=delta.get("arguments"))
    elif kind in ("text", "function_call", *MEDIA):
        take_step(delta, key, end, draft, reading)
    elif kind.endswith(("_call", "_result")):
        # the preview has no step.start: there the first delta names the tool
        if kind not in reading.server_tools[-1:]:
            reading.server_tools.append(kind)


def take_event(event: Chunk, draft: Draft, reading: Reading) -> None:
    """Take in one event of a stream."""
    data = event.data
    kind = named(data.get("event_type")) or event.type
    index = data.get("index") if isinstance(data.get("index"), int) else 0
    take_interaction(obj(data.get("interaction")), draft, reading)
    if kind in ("step.start", "content.start"):
        take_step(obj(data.get("step") or data.get("content")), index, event.end, draft, reading)
    elif kind in ("step.delta", "content.delta"):
        take_delta(obj(data.get("delta")), index, event.end, draft, reading)
    elif kind == "interaction.status_update":
        reading.response_id = named(data.get("interaction_id")) or reading.response_id
        draft.finish_reason = named(data.get("status")) or draft.finish_reason
        if obj(data.get("usage")):
            reading.usage = interaction_usage(data["usage"], reading)
    elif kind == "error":
        take_error(obj(data.get("error")), reading)
    if kind in TERMINAL or kind in ("error", "[DONE]"):
        reading.ended = True


def read_interactions(wire: Wire, reading: Reading) -> None:
    """Creating an interaction. Looking it up later is no call of its own: its usage would be counted twice."""
    request_side(request_of(wire, reading), reading)
    draft = Draft(reading, parse=True)
    if is_stream(reading):
        reading.ended = False
        for event in chunks(wire, reading):
            take_event(event, draft, reading)
    else:
        answer = answer_of(wire, reading)
        if "error" not in answer or answer.get("id"):
            take_interaction(answer, draft, reading)
        for key, step in enumerate(array(answer.get("steps")) or array(answer.get("outputs"))):
            if obj(step).get("type") != "user_input":
                take_step(obj(step), key, len(wire.response_body), draft, reading)
    draft.publish()


def request_side(body: dict[str, Any], reading: Reading) -> None:
    """Fill in what a request says."""
    system = body.get("system_instruction")
    if isinstance(system, str) and system:
        reading.input.append(Message(role="system", parts=(Part(type="text", content=system),)))
    reading.input.extend(input_messages(body.get("input")))
    reading.tools = [
        {
            "name": tool.get("name") or tool.get("type"),
            "description": tool.get("description"),
            "parameters": tool.get("parameters"),
            "type": tool.get("type"),
        }
        for tool in map(obj, array(body.get("tools")))
    ]
    reading.parameters = {**rest(body, NOT_PARAMETERS), **rest(obj(body.get("generation_config")), ())}


INTERACTIONS = Dialect("gemini.interactions", "chat", read_interactions)
