"""Google Vertex AI: Gemini, prediction of other models (embeddings, images, video), and the models of other publishers.

Reference: https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.publishers.models
"""

from dataclasses import replace
from typing import Any

from asgi_llmobs.providers import google
from asgi_llmobs.providers.anthropic import COUNT_TOKENS as ANTHROPIC_COUNT
from asgi_llmobs.providers.anthropic import MESSAGES
from asgi_llmobs.providers.base import Dialect, Provider, Route, Wire, route
from asgi_llmobs.providers.bodies import answer_of, request_of
from asgi_llmobs.providers.interactions import INTERACTIONS
from asgi_llmobs.providers.openai_chat import read_chat
from asgi_llmobs.providers.values import array, as_text, blob, count, link, named, obj, plus, rest, string
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["ANY_HOST", "PROVIDERS"]

MEDIA = ("image", "video", "audio", "lastFrame", "referenceImages")
COUNTS = ("inputTokenCount", "outputTokenCount")


def instance_parts(instance: Any) -> list[Part]:
    """What one instance of a prediction request asks about."""
    if isinstance(instance, str):
        return [Part(type="text", content=instance)]
    data = obj(instance)
    texts = [data[name] for name in ("content", "prompt", "text") if named(data.get(name))]
    parts = [Part(type="text", content=text) for text in texts]
    for name in MEDIA:
        for media in data[name] if isinstance(data.get(name), list) else [data.get(name)]:
            held = obj(obj(media).get("referenceImage") or media)
            kind = name if name in ("video", "audio") else "image"
            if held.get("bytesBase64Encoded"):
                parts.append(blob(held["bytesBase64Encoded"], named(held.get("mimeType")), kind))
            elif held.get("gcsUri"):
                parts.append(link(held["gcsUri"], kind, named(held.get("mimeType"))))
    return parts


def take_prediction(prediction: Any, reading: Reading, size: int) -> None:
    """Take in what came back for one instance."""
    data = obj(prediction)
    vectors = obj(data.get("embeddings")).get("values") or next(
        (data[name] for name in ("textEmbedding", "imageEmbedding") if data.get(name)), None
    )
    if isinstance(vectors, list):
        reading.details["dimensions"] = len(vectors)
    part = None
    text = prediction if isinstance(prediction, str) else named(data.get("content"))
    if text:
        part = Part(type="text", content=text)
        reading.text = reading.text or text
    elif data.get("bytesBase64Encoded"):
        part = blob(data["bytesBase64Encoded"], named(data.get("mimeType")), "image")
    elif data.get("gcsUri"):
        part = link(data["gcsUri"], "image", named(data.get("mimeType")))
    if part is not None:
        reading.output.append(Message(role="assistant", parts=(part,)))
        reading.content_offset = size
    if data.get("raiFilteredReason"):
        reading.refusal = as_text(data["raiFilteredReason"])


def prediction_usage(answer: dict[str, Any], reading: Reading) -> Usage | None:
    """Tokens of a prediction: counted for each embedded text, or in the metadata of a text model."""
    statistics = [obj(obj(obj(item).get("embeddings")).get("statistics")) for item in array(answer.get("predictions"))]
    counted = plus(*(count(item.get("token_count"), reading, "token_count") for item in statistics))
    metadata = obj(obj(answer.get("metadata")).get("tokenMetadata"))
    prompt, output = (count(obj(metadata.get(name)).get("totalTokens"), reading, name) for name in COUNTS)
    prompt = counted if prompt is None else prompt
    if prompt is None and output is None:
        return None
    reading.usage_raw = metadata or statistics
    return Usage(input_tokens=prompt, output_tokens=output, input_raw=prompt, output_raw=output)


def read_predict(wire: Wire, reading: Reading) -> None:
    """``predict`` and ``predictLongRunning``: text embeddings, Imagen, Veo and models of one's own."""
    body = request_of(wire, reading)
    reading.request_model = google.model_of(wire.path)
    if any(word in (reading.request_model or "") for word in ("imagen", "imagetext", "imageseg")):
        reading.operation = "image"
    elif "veo-" in (reading.request_model or ""):
        reading.operation = "video"
    instances = array(body.get("instances"))
    reading.input.extend(Message(role="user", parts=tuple(instance_parts(item))) for item in instances)
    reading.parameters = {**rest(body, ("instances", "parameters")), **rest(obj(body.get("parameters")), ())}
    answer = answer_of(wire, reading)
    reading.details["input_count"] = len(instances)
    for prediction in array(answer.get("predictions")):
        take_prediction(prediction, reading, len(wire.response_body))
    if named(answer.get("name")):
        reading.response_id = string(answer["name"])
    reading.usage = prediction_usage(answer, reading)


def read_raw_messages(wire: Wire, reading: Reading) -> None:
    """Claude on Vertex: the Messages API with its model in the path."""
    MESSAGES.read(wire, reading)
    reading.request_model = google.model_of(wire.path) or reading.request_model
    reading.stream_requested = reading.stream_requested or wire.path.endswith(":streamRawPredict")


def read_raw_chat(wire: Wire, reading: Reading) -> None:
    """Mistral and others who speak OpenAI's chat under a model in the path."""
    read_chat(wire, reading)
    reading.request_model = google.model_of(wire.path) or reading.request_model
    reading.stream_requested = reading.stream_requested or wire.path.endswith(":streamRawPredict")


PREDICT = Dialect("vertex.predict", "embeddings", read_predict)
RAW_MESSAGES = Dialect("anthropic.messages", "chat", read_raw_messages)
RAW_CHAT = Dialect("openai.chat", "chat", read_raw_chat)

ANY_HOST: tuple[Route, ...] = (
    route("POST", r"/publishers/anthropic/models/count-tokens:rawPredict$", ANTHROPIC_COUNT),
    route("POST", r"/publishers/anthropic/models/[^/]+:(rawPredict|streamRawPredict)$", RAW_MESSAGES),
    route("POST", r"/publishers/[^/]+/models/[^/]+:(rawPredict|streamRawPredict)$", RAW_CHAT),
    route("POST", r"/publishers/[^/]+/models/[^/]+:(predict|predictLongRunning)$", PREDICT),
)

ROUTES: tuple[Route, ...] = (
    *google.ANY_HOST,
    *ANY_HOST,
    route("POST", r"/endpoints/[^/]+:(predict|rawPredict|streamRawPredict)$", PREDICT),
    route("POST", r"/interactions$", INTERACTIONS),
)

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="vertexai",
        otel="gcp.vertex_ai",
        label="Google Vertex AI",
        hosts=(
            r"(?:[\w-]+-)?aiplatform(?:\.mtls)?\.googleapis\.com",
            r"aiplatform\.[\w-]+\.rep\.googleapis\.com",
            r"(?:[\w-]+-)?aiplatform\.[\w-]+\.p\.googleapis\.com",
            r"[\w.-]+\.prediction\.vertexai\.goog",
        ),
        routes=ROUTES,
    ),
    # the Gemini API makes images and videos in Vertex AI's way; elsewhere the path may be TensorFlow Serving's
    replace(google.PROVIDERS[0], routes=(route("POST", r"/models/[^/]+:(predict|predictLongRunning)$", PREDICT),)),
)
