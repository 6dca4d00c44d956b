"""Decisions: a model answers questions about an input with a choice, a score or a probability, at OpenAI and Google.

Reference: https://platform.openai.com/docs/api-reference/decisions and https://ai.google.dev/api/decisions
"""

from typing import Any

from asgi_llmobs.providers.base import Dialect, Wire
from asgi_llmobs.providers.bodies import answer_of, request_of
from asgi_llmobs.providers.interactions import input_messages, interaction_usage
from asgi_llmobs.providers.openai_responses import input_message
from asgi_llmobs.providers.openai_usage import openai_usage
from asgi_llmobs.providers.values import array, named, obj, rest
from asgi_llmobs.records import Message, Part, Reading

__all__ = ["GOOGLE_DECISIONS", "OPENAI_DECISIONS"]

MAX_ANSWERS = 400  # as many questions as one request may ask


def request_side(wire: Wire, reading: Reading) -> Any:
    """Fill in what a request says but for its input, which is given back."""
    body = request_of(wire, reading)
    reading.user = named(body.get("safety_identifier"))
    reading.parameters = rest(body, ("model", "input", "safety_identifier"))
    return body.get("input")


def take_answers(answers: Any, wire: Wire, reading: Reading) -> None:
    """Keep the answers, which are no text: a list in the order of the questions, or by their names."""
    if isinstance(answers, dict):
        reading.details["answers"] = dict(list(answers.items())[:MAX_ANSWERS])
    else:
        reading.details["answers"] = array(answers)[:MAX_ANSWERS]
    if answers:
        reading.content_offset = len(wire.response_body)


def read_openai(wire: Wire, reading: Reading) -> None:
    """``POST /v1/decisions`` at OpenAI."""
    given = request_side(wire, reading)
    if isinstance(given, str):
        reading.input.append(Message(role="user", parts=(Part(type="text", content=given),)))
    reading.input.extend(input_message(item) for item in array(given))
    answer = answer_of(wire, reading)
    reading.response_model = named(answer.get("model"))
    if answer.get("answers") is not None:
        take_answers(answer["answers"], wire, reading)
    if obj(answer.get("usage")):
        reading.usage = openai_usage(answer["usage"], reading)


def read_google(wire: Wire, reading: Reading) -> None:
    """``POST /v1beta/decisions`` at Google."""
    reading.input.extend(input_messages(request_side(wire, reading)))
    if reading.request_model is not None:
        reading.request_model = reading.request_model.removeprefix("models/")
    answer = answer_of(wire, reading)
    if answer.get("answers") is not None:
        take_answers(answer["answers"], wire, reading)
    feedback = obj(answer.get("prompt_feedback"))
    if feedback.get("block_reason"):
        reading.refusal = named(feedback.get("block_reason_message")) or str(feedback["block_reason"])
    if obj(answer.get("usage")):
        reading.usage = interaction_usage(answer["usage"], reading)


OPENAI_DECISIONS = Dialect("openai.decisions", "decision", read_openai)
GOOGLE_DECISIONS = Dialect("gemini.decisions", "decision", read_google)
