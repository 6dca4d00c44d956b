"""Aleph Alpha's own completions; its chat is OpenAI's and in ``compatible``.

Reference: https://docs.aleph-alpha.com/api/complete
"""

from asgi_llmobs.providers.base import Dialect, Provider, Route, Wire, route
from asgi_llmobs.providers.bodies import answer_of, chunks, is_stream, request_of
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.values import array, blob, count, named, obj, rest
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["ANY_HOST", "PROVIDERS"]

COUNTS = ("num_tokens_prompt_total", "num_tokens_generated")


def request_side(wire: Wire, reading: Reading) -> None:
    """Fill in what a request says; a prompt is a text or a list of texts and images."""
    body = request_of(wire, reading)
    prompt = body.get("prompt")
    parts = []
    for item in prompt if isinstance(prompt, list) else [{"type": "text", "data": prompt}]:
        data = obj(item).get("data")
        if obj(item).get("type") == "image":
            parts.append(blob(data, None, "image"))
        elif named(data):
            parts.append(Part(type="text", content=data))
    if parts:
        reading.input.append(Message(role="user", parts=tuple(parts)))
    reading.parameters = rest(body, ("model", "prompt", "stream"))


def read_complete(wire: Wire, reading: Reading) -> None:
    """``POST /complete``, whole or as events of ``stream_chunk`` and two summaries."""
    request_side(wire, reading)
    drafts: dict[int, Draft] = {}
    stream = is_stream(reading)
    found: dict[str, int | None] = {}
    reading.ended = not stream
    size = len(wire.response_body)
    for data, end in (
        [(item.data, item.end) for item in chunks(wire, reading)] if stream else [(answer_of(wire, reading), size)]
    ):
        reading.response_model = named(data.get("model_version")) or reading.response_model
        found.update({name: count(data[name], reading, name) for name in COUNTS if name in data})
        for place, item in enumerate(map(obj, array(data.get("completions")) or [data])):
            index = item.get("index")
            draft = drafts.setdefault(index if isinstance(index, int) else place, Draft(reading))
            draft.write("text", item.get("completion"), end)
            draft.finish_reason = named(item.get("finish_reason")) or draft.finish_reason
        reading.ended = reading.ended or data.get("type") == "completion_summary"
    for place, index in enumerate(sorted(drafts)):
        drafts[index].publish(first=place == 0)
    prompt, output = (found.get(name) for name in COUNTS)
    if prompt is not None or output is not None:
        reading.usage_raw = found
        reading.usage = Usage(input_tokens=prompt, output_tokens=output, input_raw=prompt, output_raw=output)


COMPLETE = Dialect("aleph_alpha.complete", "text_completion", read_complete)

ANY_HOST: tuple[Route, ...] = ()

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="aleph_alpha",
        label="Aleph Alpha",
        hosts=(r"api\.aleph-alpha\.com", r"inference-api\.pharia\.[\w.-]+"),
        routes=(route("POST", r"^/complete$", COMPLETE),),
    ),
)
