"""llama.cpp's own completions, beside its copies of OpenAI's and Anthropic's APIs.

Reference: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from typing import Any

from asgi_llmobs.providers.base import Dialect, Provider, Route, Wire, route
from asgi_llmobs.providers.bodies import answer_of, chunks, is_stream, request_of
from asgi_llmobs.providers.draft import Draft
from asgi_llmobs.providers.failures import error_of
from asgi_llmobs.providers.values import count, named, obj, rest
from asgi_llmobs.records import Message, Part, Reading, Usage

__all__ = ["ANY_HOST", "PROVIDERS"]

TEXTS = ("input_prefix", "prompt", "input_suffix")  # the first and the last are what a gap is filled between
STOPS = {"stopped_eos": "eos", "stopped_limit": "limit", "stopped_word": "word"}  # of older servers


def request_side(wire: Wire, reading: Reading) -> None:
    """Fill in what a request says; a prompt is a text, or a list of texts and token ids."""
    body = request_of(wire, reading)
    for name in TEXTS:
        given = body.get(name)
        for item in given if isinstance(given, list) else [obj(given).get("prompt_string", given)]:
            if named(item):
                reading.input.append(Message(role="user", parts=(Part(type="text", content=item),)))
    reading.parameters = rest(body, ("model", "stream", *TEXTS))


def take(data: dict[str, Any], end: int, draft: Draft) -> None:
    """Take in an answer or the next piece of it, whose last one has the counts."""
    reading = draft.reading
    reading.response_model = named(data.get("model")) or reading.response_model
    draft.write("text", data.get("content"), end)
    if data.get("error"):
        reading.error = error_of(data)
        reading.ended = True
    if data.get("stop") is True:
        old = next((reason for name, reason in STOPS.items() if data.get(name) is True), None)
        draft.finish_reason = named(data.get("stop_type")) or old
        reading.usage = usage_of(data, reading)
        reading.ended = True


def usage_of(data: dict[str, Any], reading: Reading) -> Usage | None:
    """Tokens of the last object; the prompt's include those that were still in the server's cache."""
    prompt, output = (count(data.get(name), reading, name) for name in ("tokens_evaluated", "tokens_predicted"))
    timings = obj(data.get("timings"))
    if prompt is None and output is None:
        return None
    reading.usage_raw = {
        name: data[name] for name in ("tokens_evaluated", "tokens_predicted", "timings") if name in data
    }
    cached = count(timings.get("cache_n"), reading, "cache_n")
    return Usage(input_tokens=prompt, output_tokens=output, cache_read=cached, input_raw=prompt, output_raw=output)


def read_completion(wire: Wire, reading: Reading) -> None:
    """``/completion`` and ``/infill``."""
    request_side(wire, reading)
    draft = Draft(reading)
    if is_stream(reading):
        reading.ended = False
        for event in chunks(wire, reading):
            take(event.data, event.end, draft)
    else:
        answer = answer_of(wire, reading)
        if reading.error is None:
            take(answer, len(wire.response_body), draft)
    draft.publish()


COMPLETION = Dialect("llama_cpp.completion", "text_completion", read_completion)

ANY_HOST: tuple[Route, ...] = (route("POST", r"^/(completion|infill)$", COMPLETION),)

PROVIDERS: tuple[Provider, ...] = ()
