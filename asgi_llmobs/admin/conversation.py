"""A request as a conversation: messages in order, each tool call with its result beside it."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from asgi_llmobs.records import Message, Part

__all__ = ["Item", "Turn", "conversation", "fresh_turns", "prefixes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One part of a message; of a tool call also the result that came back for it."""

    part: Part
    result: Part | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message as it is shown."""

    role: str
    items: Sequence[Item]
    answer: bool  # it came back from the model in this request
    name: str | None = None
    finish_reason: str | None = None
    choice: int | None = None  # its number, where the answer has several


def conversation(messages: Sequence[Message], answers: Sequence[Message]) -> list[Turn]:
    """The messages that were sent and the answers that came, tool results moved to their calls."""
    results = {
        part.id: part for message in messages for part in message.parts if part.type == "tool_call_response" and part.id
    }
    called = {
        part.id for message in (*messages, *answers) for part in message.parts if part.type == "tool_call" and part.id
    }
    turns = []
    for message in messages:
        items = items_of(message, results, called)
        if items or not message.parts:
            turns.append(Turn(role=message.role, items=items, answer=False, name=message.name))
    for number, message in enumerate(answers, start=1):
        turns.append(
            Turn(
                role=message.role,
                items=items_of(message, results, called),
                answer=True,
                name=message.name,
                finish_reason=message.finish_reason,
                choice=number if len(answers) > 1 else None,
            )
        )
    return turns


def items_of(message: Message, results: dict[str, Part], called: set[str]) -> list[Item]:
    return [
        Item(part=part, result=results.get(part.id or "") if part.type == "tool_call" else None)
        for part in message.parts
        if not (part.type == "tool_call_response" and part.id in called)
    ]


def prefixes(messages: Iterable[Message]) -> list[str]:
    """A name for each beginning of the conversation: equal beginnings have equal names."""
    chain, names = hashlib.sha256(), []
    for message in messages:
        parts = [{key: value for key, value in asdict(part).items() if value is not None} for part in message.parts]
        text = json.dumps([message.role, parts], sort_keys=True, default=str)
        chain.update(text.encode("utf-8", "surrogatepass"))
        names.append(chain.hexdigest())
    return names


def fresh_turns(messages: Sequence[Message], answers: Sequence[Message], seen: set[str]) -> tuple[list[Turn], int]:
    """What of a request is new in its session, and how many messages at its beginning are not.

    *seen* holds the beginnings of the requests before it, and takes in this one's.
    """
    names = prefixes(messages)
    known = max((place for place, name in enumerate(names, start=1) if name in seen), default=0)
    seen.update(names)
    if answers:
        seen.update(prefixes((*messages, answers[0]))[-1:])
    return conversation(messages[known:], answers), known
