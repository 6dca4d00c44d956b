"""Replicate: predictions of any model, whose inputs and outputs every model names as it likes.

Reference: https://replicate.com/docs/reference/http. A prediction is made by one call and looked up by later ones.
"""

import re
from typing import Any

from asgi_llmobs.patterns import compiled
from asgi_llmobs.providers.base import Dialect, Provider, Wire, route
from asgi_llmobs.providers.bodies import answer_of, is_stream, request_of
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.framing import sse_events
from asgi_llmobs.providers.messages import plain_message
from asgi_llmobs.providers.values import array, as_text, count, link, named, number, obj, rest
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["ANY_HOST", "PROVIDERS"]

MODEL = r"(?:^/|/replicate/)(?:v1/)?(?:models|deployments)/([^/]+/[^/]+)/predictions$"
PROMPTS = ("prompt", "text", "input", "query")
TERMINAL = ("succeeded", "failed", "canceled", "aborted")


def request_side(wire: Wire, reading: Reading) -> None:
    """Fill in what a request says."""
    body = request_of(wire, reading)
    found = compiled(MODEL).search(wire.path)
    reading.request_model = found[1] if found else named(body.get("model")) or named(body.get("version"))
    given = obj(body.get("input"))
    system = named(given.get("system_prompt"))
    if system:
        reading.input.append(Message(role="system", parts=(Part(type="text", content=system),)))
    reading.input.extend(map(plain_message, array(given.get("messages"))))
    texts = [Part(type="text", content=given[name]) for name in PROMPTS if named(given.get(name))]
    texts += [link(given[name], "image") for name in ("image", "input_image") if named(given.get(name))]
    if texts:
        reading.input.append(Message(role="user", parts=tuple(texts)))
    reading.parameters = rest(given, (*PROMPTS, "system_prompt", "messages", "image", "input_image"))


def take_output(output: Any, size: int, draft: Draft) -> None:
    """Take in an output: a text, its pieces, or the addresses of files."""
    for item in output if isinstance(output, list) else [output]:
        if isinstance(item, str) and re.match(r"(https?|data):", item):
            draft.add(link(item, "file"), size)
        elif isinstance(item, str):
            draft.write("text", item, size)
        elif item is not None:
            draft.write("text", as_text(item), size)


def metrics_usage(metrics: dict[str, Any], reading: Reading) -> Usage | None:
    """Tokens of language models, seconds of all."""
    prompt, output = (count(metrics.get(name), reading, name) for name in ("input_token_count", "output_token_count"))
    seconds = number(metrics.get("predict_time"), reading, "predict_time")
    if prompt is None and output is None and seconds is None:
        return None
    reading.usage_raw = metrics
    return Usage(input_tokens=prompt, output_tokens=output, input_raw=prompt, output_raw=output, seconds=seconds)


def read_prediction(wire: Wire, reading: Reading) -> None:
    """Making a prediction, or the stream of one. Looking it up later is no call of its own."""
    if wire.method == "POST":
        request_side(wire, reading)
    draft = Draft(reading)
    if is_stream(reading):
        read_stream(wire, draft, reading)
    else:
        answer = answer_of(wire, reading)
        if "id" in answer:
            reading.response_id = named(answer.get("id"))
            reading.response_model = named(answer.get("model"))
        take_output(answer.get("output"), len(wire.response_body), draft)
        state = answer.get("status")
        draft.finish_reason = state if state in TERMINAL else None
        if isinstance(state, str):
            reading.details["prediction_status"] = state
        if answer.get("error"):
            reading.error = {"type": None, "code": None, "message": as_text(answer["error"])}
        reading.usage = metrics_usage(obj(answer.get("metrics")), reading)
    draft.publish()


def read_stream(wire: Wire, draft: Draft, reading: Reading) -> None:
    """The stream of a prediction, whose events hold plain text."""
    reading.ended = False
    for event in sse_events(wire.response_body):
        text = event.data.decode("utf-8", "replace")
        if event.type == "output":
            draft.write("text", text, event.end)
        elif event.type == "error":
            reading.error = {"type": None, "code": None, "message": text}
        if event.type in ("done", "error"):
            reading.ended = True


PREDICTION = Dialect("replicate", "other", read_prediction)

# gateways put the provider's name before its own path
ANY_HOST = (
    route("POST", r"/replicate/(v1/)?predictions$", PREDICTION),
    route("POST", r"/replicate/(v1/)?(models|deployments)/[^/]+/[^/]+/predictions$", PREDICTION),
)

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="replicate",
        label="Replicate",
        hosts=(r"api\.replicate\.com",),
        routes=(
            route("POST", r"^/v1/predictions$", PREDICTION),
            route("POST", MODEL, PREDICTION),
        ),
    ),
    Provider(
        name="replicate",
        label="Replicate",
        hosts=(r"stream(-[\w-]+)?\.replicate\.com",),
        routes=(route("GET", r"^/v1/", PREDICTION),),
    ),
)
