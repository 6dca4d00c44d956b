"""IBM watsonx.ai: text generation, chat, embeddings and reranking.

Reference: https://cloud.ibm.com/apidocs/watsonx-ai. It says ``model_id`` where others say ``model``.
"""

from typing import Any

from asgi_llmobs.patterns import compiled
from asgi_llmobs.providers.base import Dialect, Provider, Route, Wire, route
from asgi_llmobs.providers.bodies import answer_of, chunks, is_stream, request_of
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.framing import parse_json
from asgi_llmobs.providers.openai_chat import read_chat
from asgi_llmobs.providers.values import array, as_text, count, named, obj, rest
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["ANY_HOST", "PROVIDERS"]

DEPLOYMENT = r"/deployments/([^/]+)/"
NOT_PARAMETERS = frozenset("model_id input inputs query parameters project_id space_id".split())


def named_request(wire: Wire, reading: Reading) -> dict[str, Any]:
    """The request's body; the model is named in it, or is a deployment in the path."""
    body = request_of(wire, reading)
    found = compiled(DEPLOYMENT).search(wire.path)
    reading.request_model = named(body.get("model_id")) or (found[1] if found else None)
    reading.stream_requested = wire.path.endswith("_stream")
    return body


def text_request(wire: Wire, reading: Reading) -> dict[str, Any]:
    """Fill in what a request for text, vectors or an order says; gives its body."""
    body = named_request(wire, reading)
    given = body.get("inputs")
    texts = [body.get("input"), body.get("query"), *(given if isinstance(given, list) and "query" not in body else [])]
    for text in texts:
        if named(text):
            reading.input.append(Message(role="user", parts=(Part(type="text", content=text),)))
    reading.parameters = {**rest(body, NOT_PARAMETERS), **rest(obj(body.get("parameters")), ())}
    return body


class Generation:
    """A generated text, whole or in pieces."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.draft = Draft(reading)
        self.prompt: int | None = None
        self.output: int | None = None

    def take(self, data: dict[str, Any], end: int) -> None:
        """Take in one answer object; the counts of a stream are running totals, the input's stands in the first."""
        reading = self.reading
        reading.response_model = named(data.get("model_id")) or reading.response_model
        for result in map(obj, array(data.get("results"))):
            self.draft.write("text", result.get("generated_text"), end)
            prompt = count(result.get("input_token_count"), reading, "input_token_count")
            output = count(result.get("generated_token_count"), reading, "generated_token_count")
            self.prompt = self.prompt if prompt is None else max(prompt, self.prompt or 0)
            self.output = self.output if output is None else max(output, self.output or 0)
            reason = named(result.get("stop_reason"))
            if reason and reason.lower() != "not_finished":
                self.draft.finish_reason = reason
                reading.ended = True
        for warning in map(obj, array(obj(data.get("system")).get("warnings"))):
            line = named(warning.get("message"))
            if line and line not in reading.notes:
                reading.notes.append(line)
        if data.get("errors") and reading.error is None:
            first = obj(next(iter(array(data["errors"])), None))
            message = named(first.get("message")) or as_text(data["errors"])
            reading.error = {"type": named(first.get("code")), "code": data.get("status_code"), "message": message}
            reading.ended = True

    def publish(self) -> None:
        """Put the text and its counts into the reading."""
        self.draft.publish()
        if self.prompt is None and self.output is None:
            return
        self.reading.usage_raw = {"input_token_count": self.prompt, "generated_token_count": self.output}
        self.reading.usage = Usage(
            input_tokens=self.prompt, output_tokens=self.output, input_raw=self.prompt, output_raw=self.output
        )


def read_generate(wire: Wire, reading: Reading) -> None:
    """``text/generation`` and ``text/generation_stream``, and the same under their beta names."""
    text_request(wire, reading)
    generation = Generation(reading)
    if is_stream(reading):
        reading.ended = False
        for event in chunks(wire, reading):
            generation.take(event.data, event.end)
    else:
        generation.take(answer_of(wire, reading), len(wire.response_body))
    generation.publish()


def read_watsonx_chat(wire: Wire, reading: Reading) -> None:
    """``text/chat`` and ``text/chat_stream``: OpenAI's chat but for the model's name and some parameters."""
    read_chat(wire, reading)
    named_request(wire, reading)
    for name in ("model_id", "project_id", "space_id"):
        reading.parameters.pop(name, None)
    if reading.response_model is None:
        answers = (event.data for event in chunks(wire, reading)) if is_stream(reading) else [whole(wire)]
        reading.response_model = next((named(data.get("model_id")) for data in answers if data.get("model_id")), None)


def whole(wire: Wire) -> dict[str, Any]:
    """The answer's object."""
    return obj(parse_json(wire.response_body))


def read_vectors(wire: Wire, reading: Reading) -> None:
    """``text/embeddings`` and ``text/rerank``."""
    body = text_request(wire, reading)
    answer = answer_of(wire, reading)
    reading.response_model = named(answer.get("model_id"))
    results = array(answer.get("results"))
    vector = array(obj(results[0]).get("embedding")) if results else []
    reading.details["input_count"] = len(array(body.get("inputs")))
    if vector:
        reading.details["dimensions"] = len(vector)
    elif results:
        reading.details["results"] = [rest(obj(item), ("input",)) for item in results[:100]]
    tokens = count(answer.get("input_token_count"), reading, "input_token_count")
    if tokens is not None:
        reading.usage_raw = {"input_token_count": tokens}
        reading.usage = Usage(input_tokens=tokens, input_raw=tokens)


def read_instance(wire: Wire, reading: Reading) -> None:
    """What a plan has used up; asked by the SDK, states nothing of a call."""
    answer_of(wire, reading)


GENERATE = Dialect("watsonx.generate", "text_completion", read_generate)
CHAT = Dialect("watsonx.chat", "chat", read_watsonx_chat)
EMBED = Dialect("watsonx.embed", "embeddings", read_vectors)
RERANK = Dialect("watsonx.rerank", "rerank", read_vectors)
INSTANCE = Dialect("other", "other", read_instance)

ANY_HOST: tuple[Route, ...] = (
    route("POST", r"/ml/v1[\w-]*/(deployments/[^/]+/)?text/generation(_stream)?$", GENERATE),
    route("POST", r"/ml/v1[\w-]*/(deployments/[^/]+/)?generation/text(_stream)?$", GENERATE),
    route("POST", r"/ml/v1[\w-]*/(deployments/[^/]+/)?text/chat(_stream)?$", CHAT),
    route("POST", r"/ml/v1[\w-]*/text/embeddings$", EMBED),
    route("POST", r"/ml/v1[\w-]*/text/rerank$", RERANK),
)

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="watsonx",
        otel="ibm.watsonx.ai",
        label="IBM watsonx.ai",
        hosts=(r"(private\.)?[\w-]+\.ml\.(private\.)?cloud\.ibm\.com", r"api\.[\w-]+\.aws\.wxai\.ibm\.com"),
        routes=(*ANY_HOST, route("GET", r"^/ml/v4/instances(/|$)", INSTANCE)),
    ),
)
