"""Amazon Bedrock: Converse, InvokeModel, token counts, and what agents, flows and guardrails answer.

Reference: https://docs.aws.amazon.com/bedrock/latest/APIReference/. The model stands in the path.
"""

import base64
import binascii
from typing import Any

from asgi_llmobs.patterns import compiled
from asgi_llmobs.providers.anthropic import MESSAGES
from asgi_llmobs.providers.base import Dialect, Provider, Route, Wire, route
from asgi_llmobs.providers.bodies import answer_of, chunks, is_stream, request_of
from asgi_llmobs.providers.converse import aws_error, converse_answer, converse_events, converse_request
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.framing import aws_events
from asgi_llmobs.providers.invoke import read_invoke, request_side
from asgi_llmobs.providers.values import array, as_text, count, named, obj, string
from asgi_llmobs.records import Message, Part, Reading

__all__ = ["ANY_HOST", "PROVIDERS"]

MODEL = r"/model/(.+)/[a-z-]+$"


def streamed(wire: Wire, reading: Reading) -> bool:
    """Whether the answer is a stream, also where a proxy took its content type away."""
    if not is_stream(reading) and wire.response_body[:2] == b"\0\0":
        first = next(aws_events(wire.response_body), None)
        if first is not None and first.type:
            reading.framing, reading.stream = "aws-eventstream", True
    return is_stream(reading)


def model_request(wire: Wire, reading: Reading) -> dict[str, Any]:
    """The request's body; the model and whether a stream is asked for stand in the path."""
    body = request_of(wire, reading)
    found = compiled(MODEL).search(wire.path)
    reading.request_model = found[1] if found else None
    reading.stream_requested = wire.path.endswith("-stream")
    return body


def read_converse(wire: Wire, reading: Reading) -> None:
    """Converse and ConverseStream."""
    converse_request(model_request(wire, reading), reading)
    if streamed(wire, reading):
        converse_events(chunks(wire, reading), reading)
    else:
        converse_answer(answer_of(wire, reading), reading, len(wire.response_body))


def read_model(wire: Wire, reading: Reading) -> None:
    """InvokeModel and InvokeModelWithResponseStream."""
    request_side(model_request(wire, reading), reading)
    streamed(wire, reading)
    read_invoke(wire, reading)


def read_count_tokens(wire: Wire, reading: Reading) -> None:
    """CountTokens; the answer is no usage."""
    given = obj(model_request(wire, reading).get("input"))
    converse_request(obj(given.get("converse")), reading)
    counted = count(answer_of(wire, reading).get("inputTokens"), reading, "inputTokens")
    if counted is not None:
        reading.details["token_count"] = counted
        reading.notes.append("token count answer, not usage")


def agent_request(wire: Wire, reading: Reading) -> None:
    """Fill in what is asked of an agent, a knowledge base, a flow or a guardrail."""
    body = request_of(wire, reading)
    configuration = obj(obj(body.get("retrieveAndGenerateConfiguration")).get("knowledgeBaseConfiguration"))
    reading.request_model = named(body.get("foundationModel")) or named(configuration.get("modelArn"))
    texts = [body.get("inputText"), obj(body.get("input")).get("text"), obj(body.get("retrievalQuery")).get("text")]
    texts += [obj(obj(item).get("text")).get("text") for item in array(body.get("content"))]
    texts += [as_text(obj(obj(item).get("content")).get("document")) for item in array(body.get("inputs"))]
    parts = tuple(Part(type="text", content=text) for text in texts if isinstance(text, str) and text)
    if named(body.get("instruction")):
        reading.input.append(Message(role="system", parts=(Part(type="text", content=body["instruction"]),)))
    if parts:
        reading.input.append(Message(role="user", parts=parts))
    for name in ("source", "enableTrace", "sessionId"):
        if body.get(name) is not None:
            reading.parameters[name] = body[name]


def take_agent_event(kind: str, data: dict[str, Any], end: int, draft: Draft, reading: Reading) -> None:
    """Take in one event of an agent's or flow's stream."""
    if isinstance(data.get("bytes"), str):
        try:
            draft.write("text", base64.b64decode(data["bytes"]).decode("utf-8", "replace"), end)
        except (binascii.Error, ValueError):
            reading.warnings.append("a chunk holds no base64")
    elif kind == "output":
        draft.write("text", data.get("text"), end)
    elif kind == "flowOutputEvent":
        draft.write("text", as_text(obj(data.get("content")).get("document")), end)
    elif kind == "flowCompletionEvent":
        draft.finish_reason = named(data.get("completionReason"))
    elif kind == "returnControl":
        for place, asked in enumerate(map(obj, array(data.get("invocationInputs")))):
            call = obj(asked.get("functionInvocationInput")) or obj(asked.get("apiInvocationInput"))
            given = map(obj, array(call.get("parameters")))
            arguments = {string(item.get("name")): item.get("value") for item in given}
            name = named(call.get("function")) or named(call.get("apiPath"))
            draft.call(place, end, id=data.get("invocationId"), name=name, arguments=arguments)
    elif kind.endswith(("Exception", "Error")):
        reading.error = aws_error(kind, data)


def read_agent(wire: Wire, reading: Reading) -> None:
    """Agents, knowledge bases, flows and guardrails; they state no usage of the whole."""
    agent_request(wire, reading)
    draft = Draft(reading)
    if streamed(wire, reading):
        for event in chunks(wire, reading):
            take_agent_event(event.type, event.data, event.end, draft, reading)
        # there is no terminal event: the answer stands in the last ones
        reading.ended = bool(draft.blocks) or reading.error is not None
    else:
        answer = answer_of(wire, reading)
        size = len(wire.response_body)
        draft.write("text", obj(answer.get("output")).get("text"), size)
        for output in array(answer.get("outputs")):
            draft.write("text", obj(output).get("text"), size)
        for name in ("action", "actionReason", "guardrailAction"):
            if named(answer.get(name)):
                reading.details[name] = answer[name]
    draft.publish()


CONVERSE = Dialect("bedrock.converse", "chat", read_converse)
INVOKE = Dialect("bedrock.invoke", "chat", read_model)
COUNT_TOKENS = Dialect("bedrock.count_tokens", "count_tokens", read_count_tokens)
AGENT = Dialect("bedrock.agent", "other", read_agent)

ANY_HOST: tuple[Route, ...] = (
    route("POST", r"/model/.+/converse(-stream)?$", CONVERSE),
    route("POST", r"/model/.+/invoke(-with-response-stream)?$", INVOKE),
)

ROUTES: tuple[Route, ...] = (
    *ANY_HOST,
    route("POST", r"/model/.+/count-tokens$", COUNT_TOKENS),
    route("POST", r"/v1/messages$", MESSAGES),
    route("POST", r"^/guardrail/.+/version/[^/]+/apply$", AGENT),
    route("POST", r"^/agents/[^/]+/agentAliases/[^/]+/sessions/[^/]+/text$", AGENT),
    route("POST", r"^/agents/[^/]+$", AGENT),
    route("POST", r"^/flows/[^/]+/aliases/[^/]+$", AGENT),
    route("POST", r"^/retrieveAndGenerate(Stream)?$", AGENT),
    route("POST", r"^/(knowledgebases/[^/]+/retrieve|rerank|generateQuery|optimize-prompt)$", AGENT),
)

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="aws_bedrock",
        otel="aws.bedrock",
        label="Amazon Bedrock",
        hosts=(
            r"(?:[\w-]+\.)?bedrock(-agent)?-runtime(-fips)?\.[\w-]+\.(vpce\.)?amazonaws\.com(\.cn)?",
            r"bedrock(-agent)?-(runtime|mantle)(-fips)?\.[\w-]+\.api\.aws",
        ),
        routes=ROUTES,
    ),
)
