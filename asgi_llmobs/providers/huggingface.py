"""Text generation as Hugging Face's own server (TGI) and inference API do it, beside their copies of OpenAI's.

Reference: https://huggingface.co/docs/text-generation-inference. Everything else of Hugging Face is in ``compatible``.
"""

from typing import Any

from asgi_llmobs.patterns import compiled
from asgi_llmobs.providers.base import Dialect, Provider, Route, Wire, route
from asgi_llmobs.providers.bodies import chunks, is_stream, request_of
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.failures import error_of
from asgi_llmobs.providers.framing import parse_json
from asgi_llmobs.providers.values import array, count, named, obj, rest
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["ANY_HOST", "PROVIDERS"]

MODEL = r"/models/([^/]+(?:/(?!generate)[^/]+)?)(?:/generate(?:_stream)?)?$"
ENDPOINTS = r"[\w.-]+\.endpoints\.huggingface\.cloud"


class Generation:
    """A generated text, whole or token by token."""

    def __init__(self, wire: Wire, reading: Reading) -> None:
        self.reading = reading
        self.draft = Draft(reading)
        self.prompt = header_count(wire, "x-prompt-tokens")
        self.output = header_count(wire, "x-generated-tokens")

    def take(self, data: dict[str, Any], end: int) -> None:
        """Take in an answer or the next token; the last event repeats the whole text."""
        token = obj(data.get("token"))
        if token and token.get("special") is not True:
            self.draft.write("text", token.get("text"), end)
        if not self.draft.blocks:  # the other two are of models that summarize, translate or transcribe
            names = ("generated_text", "summary_text", "translation_text", "text")
            self.draft.write("text", next((data[name] for name in names if named(data.get(name))), None), end)
        if isinstance(data.get("generated_text"), str):
            self.reading.ended = True
        if data.get("error") and self.reading.error is None:
            self.reading.error = error_of(data)
            self.reading.ended = True
        details = obj(data.get("details"))
        self.draft.finish_reason = named(details.get("finish_reason")) or self.draft.finish_reason
        output = count(details.get("generated_tokens"), self.reading, "generated_tokens")
        prompt = count(details.get("input_length"), self.reading, "input_length")
        if prompt is None:
            prompt = len(array(details.get("prefill"))) or None
        self.output = self.output if output is None else output
        self.prompt = self.prompt if prompt is None else prompt

    def publish(self) -> None:
        """Put the text and its counts into the reading."""
        self.draft.publish()
        if self.prompt is not None or self.output is not None:
            self.reading.usage_raw = {"input_length": self.prompt, "generated_tokens": self.output}
            self.reading.usage = Usage(
                input_tokens=self.prompt, output_tokens=self.output, input_raw=self.prompt, output_raw=self.output
            )


def header_count(wire: Wire, name: str) -> int | None:
    """A count of the response headers."""
    value = wire.response_headers.get(name, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else None


def read_generate(wire: Wire, reading: Reading) -> None:
    """``/generate``, ``/generate_stream`` and the address of a model."""
    body = request_of(wire, reading)
    found = compiled(MODEL).search(wire.path)
    reading.request_model = found[1] if found else reading.request_model
    reading.stream_requested = reading.stream_requested or wire.path.endswith("_stream")
    if named(body.get("inputs")):
        reading.input.append(Message(role="user", parts=(Part(type="text", content=body["inputs"]),)))
    parameters = obj(body.get("parameters"))
    reading.parameters = {**rest(body, ("inputs", "parameters", "stream", "model")), **rest(parameters, ())}
    generation = Generation(wire, reading)
    if is_stream(reading):
        reading.ended = False
        for event in chunks(wire, reading):
            generation.take(event.data, event.end)
    else:
        value = parse_json(wire.response_body)
        reading.ended = value is not None
        items = array(value) or [value]
        first = items[0]
        if isinstance(value, list) and isinstance(first, list | float):  # the model embeds, it does not write
            reading.operation = "embeddings"
            reading.details["dimensions"] = len(first if isinstance(first, list) else items)
        generation.take(obj(first), len(wire.response_body))
    generation.publish()


GENERATE = Dialect("tgi.generate", "text_completion", read_generate)

ANY_HOST: tuple[Route, ...] = (route("POST", r"/generate_stream$", GENERATE),)

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="huggingface",
        label="Hugging Face",
        hosts=(r"(router|api-inference)\.huggingface\.co", ENDPOINTS),
        routes=(*ANY_HOST, route("POST", r"/generate$", GENERATE), route("POST", MODEL, GENERATE)),
    ),
    Provider(name="huggingface", label="Hugging Face", hosts=(ENDPOINTS,), routes=(route("POST", r"^/?$", GENERATE),)),
)
