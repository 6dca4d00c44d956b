"""A request as a conversation: messages in order, each tool call with its result beside it."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import NamedTuple

from asgi_llmobs.records import Message, Part

__all__ = ["Calls", "Item", "Turn", "calls_in", "conversation", "fresh_turns", "prefixes", "results_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One part of a message; of a tool call also the result that came back for it."""

    part: Part
    result: Part | None = None
    result_in: str | None = None  # the id of the later request that brought the result, where this one does not


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message as it is shown."""

    role: str
    items: Sequence[Item]
    answer: bool  # it came back from the model in this request
    name: str | None = None
    finish_reason: str | None = None
    choice: int | None = None  # its number, where the answer has several

    @property
    def groups(self) -> list[list[Item]]:
        """The parts, tool calls that stand side by side together."""
        together = groupby(enumerate(self.items), lambda each: -1 if each[1].part.type == "tool_call" else each[0])
        return [[item for _, item in some] for _, some in together]


class Calls(NamedTuple):
    """Tool calls and results that stand in other requests, by the id of the call."""

    made: Mapping[str, Part] = {}
    answered: Mapping[str, tuple[Part, str]] = {}  # the result, and the request that brought it


NOTHING = Calls()


def conversation(messages: Sequence[Message], answers: Sequence[Message], elsewhere: Calls = NOTHING) -> list[Turn]:
    """The messages that were sent and the answers that came, tool results moved to their calls.

    Args:
        messages: What was sent.
        answers: What came back.
        elsewhere: Calls whose results are in *messages*, and results of calls in *answers*.
    """
    joined = Joined(messages, answers, elsewhere)
    turns = []
    for message in messages:
        items = joined.items(message)
        if items or not message.parts:
            turns.append(Turn(role=message.role, items=items, answer=False, name=message.name))
    for number, message in enumerate(answers, start=1):
        turns.append(
            Turn(
                role=message.role,
                items=joined.items(message),
                answer=True,
                name=message.name,
                finish_reason=message.finish_reason,
                choice=number if len(answers) > 1 else None,
            )
        )
    return turns


def calls_in(messages: Iterable[Message]) -> dict[str, Part]:
    """The tool calls among *messages*, by their ids."""
    return {part.id: part for message in messages for part in message.parts if part.type == "tool_call" and part.id}


def results_in(messages: Iterable[Message]) -> dict[str, Part]:
    """The results of tool calls among *messages*, by the ids of the calls."""
    return {
        part.id: part for message in messages for part in message.parts if part.type == "tool_call_response" and part.id
    }


@dataclass(slots=True)
class Joined:
    """Puts calls and results together."""

    messages: Sequence[Message]
    answers: Sequence[Message]
    elsewhere: Calls
    called: set[str] = field(init=False)
    results: dict[str, Part] = field(init=False)

    def __post_init__(self) -> None:
        self.called = {*calls_in(self.messages), *calls_in(self.answers)}
        self.results = results_in(self.messages)

    def items(self, message: Message) -> list[Item]:
        return [item for part in message.parts if (item := self.item(part)) is not None]

    def item(self, part: Part) -> Item | None:
        """How a part is shown; ``None`` where it is shown with its call."""
        id = part.id or ""
        if part.type == "tool_call":
            found, request = self.results.get(id), None
            if found is None:
                found, request = self.elsewhere.answered.get(id, (None, None))
            return Item(part=part, result=found, result_in=request)
        if part.type == "tool_call_response" and id:
            if id in self.called:
                return None
            if id in self.elsewhere.made:
                return Item(part=self.elsewhere.made[id], result=part)
        return Item(part=part)


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
    return conversation(messages[known:], answers, Calls(made=calls_in(messages[:known]))), known
