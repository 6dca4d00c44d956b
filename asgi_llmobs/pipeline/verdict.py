"""What is concluded from an exchange and its reading: how it ended, when the first token came, what may be told."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from asgi_llmobs.credentials import MARK, is_secret_member
from asgi_llmobs.encodings import Decoded
from asgi_llmobs.providers.framing import parse_json
from asgi_llmobs.records import Exchange, Message, Outcome, Reading, Usage

__all__ = ["Verdict", "chunk_times", "estimate", "first_token", "judge", "retold", "since", "unread", "without_answer"]

MAX_CHUNK_TIMES = 400
CHARACTERS_PER_TOKEN = 4


class Verdict(NamedTuple):
    """How a call ended. ``told`` says that the message is the provider's, so that it is read from what may be shown."""

    outcome: str
    error_type: str | None = None
    message: str | None = None
    told: bool = False


def judge(exchange: Exchange, reading: Reading, decoded: Decoded) -> Verdict:
    """How a call ended: the connection's word first, then the status and the body, then the dialect's last event."""
    status = exchange.status
    if exchange.outcome == Outcome.ERROR:
        return Verdict(Outcome.ERROR, exchange.error_type, exchange.error_message)
    if status is not None and status >= 300 or reading.error:
        said = reading.error or {}
        kind = said.get("type") or said.get("code") or (f"HTTP {status}" if status and status >= 300 else "error")
        return Verdict(Outcome.ERROR, str(kind), None, told=True)
    if decoded.broken:
        return Verdict(Outcome.ERROR, "DecodingError", decoded.problem)
    complete = reading.ended and reading.framing != "none"
    if exchange.outcome == Outcome.INTERRUPTED and not (complete and reading.stream):
        return Verdict(Outcome.INTERRUPTED, exchange.error_type, exchange.error_message)
    if exchange.outcome in (Outcome.CANCELLED, Outcome.ABANDONED) and not complete:
        gone = exchange.trace is not None and exchange.trace.client_gone
        outcome = Outcome.CANCELLED if gone else exchange.outcome
        return Verdict(outcome, exchange.error_type, exchange.error_message)
    if reading.stream and exchange.eof and not reading.ended:
        return Verdict(Outcome.ERROR, "IncompleteStream", "the stream ended without the terminal event of its dialect")
    return Verdict(Outcome.OK)


def unread(facts: Reading, response: bytes, status: int | None) -> list[str]:
    """What is plainly not what it should be, where the dialect found nothing in it."""
    empty = facts.response_id is None and facts.usage is None and not facts.text and not facts.error
    if response and empty and status == 200 and facts.framing in ("json", "other") and parse_json(response) is None:
        return ["the response body is no JSON"]
    return []


def estimate(exchange: Exchange, reading: Reading) -> Usage | None:
    """Tokens from the length of the texts, for an answered call that tells no usage."""
    usage = reading.usage
    if usage is not None and usage.total_tokens is not None:
        return None
    if exchange.status is None or exchange.status >= 300 or reading.operation not in ("chat", "text_completion"):
        return None
    said = sum(len(part.content or "") for message in reading.input for part in message.parts)
    answered = len(reading.text) + len(reading.reasoning_text)
    answered += sum(len(str(call.get("arguments") or "")) for call in reading.tool_calls)
    if not answered:
        return None
    return Usage(
        input_tokens=math.ceil(said / CHARACTERS_PER_TOKEN) or None,
        output_tokens=math.ceil(answered / CHARACTERS_PER_TOKEN),
        estimated=True,
    )


def first_token(exchange: Exchange, reading: Reading, ends: Sequence[int]) -> int | None:
    """Nanoseconds from the start to the chunk that brought the first content."""
    clocks = exchange.chunk_clocks
    if exchange.first_token_clock_ns is not None:
        return since(exchange.first_token_clock_ns, exchange.first_clock_ns)
    if not reading.stream or reading.content_offset is None or not ends or not clocks:
        return None
    index = bisect_left(ends, reading.content_offset)
    return since(clocks[min(index, len(clocks) - 1)], exchange.first_clock_ns)


def since(clock: int | None, base: int) -> int | None:
    """Nanoseconds from *base*, never below 0."""
    return None if clock is None else max(0, clock - base)


def chunk_times(clocks: Sequence[int], ends: Sequence[int], base: int) -> tuple[tuple[int, int], ...]:
    """At most a few hundred points of how the stream grew."""
    step = max(1, math.ceil(min(len(clocks), len(ends)) / MAX_CHUNK_TIMES))
    return tuple([(clock - base, end) for clock, end in zip(clocks[::step], ends[::step], strict=False)])


def without_answer(reading: Reading) -> Reading:
    """A reading of which the answer is not to be stored."""
    error = {**reading.error, "message": None} if reading.error else reading.error
    return replace(reading, text="", reasoning_text="", tool_calls=[], output=[], refusal=None, error=error)


def retold(reading: Reading, safe: Callable[[str], str]) -> Reading:
    """The answer's texts through *safe*: what came in pieces shows only once it is put together."""
    changed = replace(
        reading,
        text=safe(reading.text),
        reasoning_text=safe(reading.reasoning_text),
        refusal=safe(reading.refusal) if reading.refusal else reading.refusal,
        tool_calls=[{name: told(value, safe) for name, value in call.items()} for call in reading.tool_calls],
        output=[safe_message(message, safe) for message in reading.output],
        error={name: told(value, safe) for name, value in reading.error.items()} if reading.error else reading.error,
    )
    return reading if changed == reading else changed


def safe_message(message: Message, safe: Callable[[str], str]) -> Message:
    parts = tuple(
        replace(part, content=told(part.content, safe), arguments=told(part.arguments, safe)) for part in message.parts
    )
    return replace(message, parts=parts)


def told(value: Any, safe: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, dict):
        return {
            name: MARK if isinstance(item, str) and is_secret_member(name) else told(item, safe)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [told(item, safe) for item in value]
    return value
