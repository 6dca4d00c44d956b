"""Two calls beside each other: which messages both have, which changed and how, which are new; parameters; answers."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from asgi_llmobs.admin.conversation import Calls, Turn, calls_in, conversation
from asgi_llmobs.admin.wording import Stretch, alike, difference
from asgi_llmobs.records import Message, Part, Request

__all__ = ["Change", "Step", "answer_difference", "parameter_changes", "steps_of"]

SHOWN = 40  # messages of one stretch; of more the first and the last
LAST = 8  # messages that are unfolded of a long conversation that nothing was before
MOST_ALIGNED = 400  # messages that are aligned, each side
LIKE = 0.4  # from here on a message is the same one, changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A stretch of messages: ``same`` in both, ``new``, ``gone`` from the earlier one, or one that ``changed``."""

    kind: str  # or ``earlier``: there is nothing to compare with, and these are not the last
    count: int
    turns: Sequence[Turn] = ()
    left_out: int = 0  # messages in the middle that are not among the turns
    role: str = ""  # of the message that changed
    words: Sequence[Stretch] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A parameter: ``same``, ``changed``, ``new`` or ``gone``."""

    name: str
    kind: str
    before: Any = None
    now: Any = None


def steps_of(before: Request | None, now: Request, elsewhere: Calls, *, whole: bool = False) -> list[Step]:
    """What was sent, in stretches; what the earlier call answered counts as known.

    Args:
        before: The earlier call; ``None``: everything is new.
        now: The call that is shown.
        elsewhere: Results of tool calls that stand in other requests.
        whole: Leave nothing out, however long a stretch is.
    """
    sent = now.messages
    known = (*before.messages, *before.output_messages[:1]) if before is not None else ()
    made = {**elsewhere.made, **calls_in((*known, *sent))}
    steps = []
    stretches = aligned(known, sent, len(before.messages)) if before is not None else parted(sent)
    for kind, messages in stretches:
        if kind == "changed":
            words = difference(text_of(messages[0]), text_of(messages[1]))
            steps.append(Step(kind=kind, count=1, role=messages[1].role, words=words))
            continue
        shown = messages if whole or len(messages) <= SHOWN else (*messages[: SHOWN // 4], *messages[-SHOWN * 3 // 4 :])
        turns = conversation(shown, (), Calls(made=made, answered=elsewhere.answered))
        steps.append(Step(kind=kind, count=len(messages), turns=turns, left_out=len(messages) - len(shown)))
    return steps


def parted(sent: Sequence[Message]) -> Iterator[tuple[str, Sequence[Message]]]:
    """What was sent, where nothing was before it: of a long conversation only the end is unfolded."""
    first = len(sent) - LAST if len(sent) > 2 * LAST else 0
    if first:
        yield "earlier", sent[:first]
    if sent:
        yield "new", sent[first:]


def aligned(known: Sequence[Message], sent: Sequence[Message], asked: int) -> Iterator[tuple[str, Sequence[Message]]]:
    """Stretches of messages in the order of *sent*; of *known*, the first *asked* were sent, the rest answered."""
    olds, news = [print_of(message) for message in known], [print_of(message) for message in sent]
    start = 0
    while start < min(len(olds), len(news)) and olds[start] == news[start]:
        start += 1
    if start:
        yield "same", sent[:start]
    left, right = olds[start:], news[start:]
    if max(len(left), len(right)) > MOST_ALIGNED:
        codes = [("replace", 0, len(left), 0, len(right))]
    else:
        codes = list(SequenceMatcher(None, left, right, autojunk=False).get_opcodes())
    for tag, old, old_end, new, new_end in codes:
        gone = [known[place] for place in range(start + old, start + old_end) if place < asked]
        fresh = sent[start + new : start + new_end]
        if tag == "equal":
            yield "same", fresh
        else:
            yield from replaced(gone, fresh)


def replaced(gone: Sequence[Message], fresh: Sequence[Message]) -> Iterator[tuple[str, Sequence[Message]]]:
    """Messages that took the place of others: those that are much alike are one that changed."""
    lost: list[Message] = []
    waiting: list[Message] = []
    left = list(gone)
    for message in fresh:
        other = next((each for each in left if each.role == message.role), None)
        if other is not None and len(fresh) <= MOST_ALIGNED and changed(other, message):
            lost += left[: left.index(other)]
            del left[: left.index(other) + 1]
            if lost:
                yield "gone", lost
            if waiting:
                yield "new", waiting
            lost, waiting = [], []
            yield "changed", (other, message)
        else:
            waiting.append(message)
    if lost or left:
        yield "gone", [*lost, *left]
    if waiting:
        yield "new", waiting


def changed(before: Message, now: Message) -> bool:
    one, other = text_of(before), text_of(now)
    if not one or not other or any(part.type != "text" for part in (*before.parts, *now.parts)):
        return False
    return alike(difference(one, other)) >= LIKE


def print_of(message: Message) -> str:
    """What a message is told apart by: not by thoughts, which are not sent back, nor by how arguments are written."""
    parts = [
        [part.type, part.content, part.name, arguments_of(part), part.id if part.type.startswith("tool") else None,
         part.uri, part.sha256]
        for part in message.parts
        if part.type != "reasoning" and (part.content or part.type != "text")
    ]  # fmt: skip
    return json.dumps([message.role, parts], sort_keys=True, default=str)


def arguments_of(part: Part) -> Any:
    if isinstance(part.arguments, str):
        try:
            return json.loads(part.arguments)
        except (ValueError, RecursionError):
            return part.arguments
    return part.arguments


def text_of(message: Message) -> str:
    return "\n".join(part.content for part in message.parts if part.type == "text" and part.content)


def answer_difference(before: Request, now: Request) -> list[Stretch]:
    """How the answer differs, tool calls as lines."""
    one, other = answer_text(before), answer_text(now)
    found = difference(one, other)
    if one and other and alike(found) < LIKE:  # word by word nobody could read it
        return [Stretch(kind="gone", text=one), Stretch(kind="same", text="\n\n"), Stretch(kind="new", text=other)]
    return found


def answer_text(request: Request) -> str:
    return "\n".join(lines_of(request.output_messages)) or request.text


def lines_of(messages: Iterable[Message]) -> Iterator[str]:
    for message in messages:
        for part in message.parts:
            if part.type == "tool_call":
                yield f"{part.name}({json.dumps(arguments_of(part), sort_keys=True, default=str)})"
            elif part.type != "reasoning" and part.content:
                yield part.content


def parameter_changes(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[Change]:
    """The parameters of a call, each beside that of the earlier one; gone ones last."""
    if before is None:
        return [Change(name=name, kind="same", before=value, now=value) for name, value in now.items()]
    found = []
    for name, value in now.items():
        kind = "new" if name not in before else "same" if before[name] == value else "changed"
        found.append(Change(name=name, kind=kind, before=before.get(name), now=value))
    return found + [Change(name=name, kind="gone", before=value) for name, value in before.items() if name not in now]
