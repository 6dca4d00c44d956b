"""An answer while it is put together: the parts of one choice in order, from a whole body or a stream's pieces."""

from collections.abc import Hashable
from dataclasses import field
from typing import Any

from asgi_llmobs.frozen import record
from asgi_llmobs.providers.values import parsed_arguments
from asgi_llmobs.records import Message, Part, Reading

__all__ = ["Draft"]


@record(frozen=False, eq=False, repr=False, slots=True, kw_only=True)
class Block:
    """A part that is still growing."""

    type: str
    content: list[str] = field(default_factory=list)
    fragments: list[str] = field(default_factory=list)
    arguments: Any = None
    id: str | None = None
    name: str | None = None
    server: bool = False
    part: Part | None = None


class Draft:
    """One choice of an answer.

    Args:
        reading: Where the offset of the first content is noted, and where :meth:`publish` puts the result.
        parse: Whether arguments that came as JSON text are given as the value they stand for.
    """

    def __init__(self, reading: Reading, *, parse: bool = False) -> None:
        self.reading = reading
        self.parse = parse
        self.blocks: list[Block] = []
        self.by_key: dict[Hashable, Block] = {}
        self.finish_reason: Any = None

    def seen(self, end: int) -> None:
        """Note that content arrived in the event that ends at *end*."""
        if self.reading.content_offset is None:
            self.reading.content_offset = end

    def block(self, kind: str, key: Hashable) -> Block:
        """The block of *key*; without one the last block, if it is of the same kind; else a new one."""
        found = self.by_key.get((kind, key)) if key is not None else (self.blocks[-1] if self.blocks else None)
        if found is None or (key is None and (found.type != kind or found.part is not None)):
            found = Block(type=kind)
            self.blocks.append(found)
            if key is not None:
                self.by_key[kind, key] = found
        return found

    def write(self, kind: str, text: Any, end: int, key: Hashable = None) -> None:
        """Append *text* to the ``text``, ``reasoning`` or ``refusal`` block of *key*."""
        if isinstance(text, str) and text:
            self.block(kind, key).content.append(text)
            self.seen(end)

    def call(
        self,
        key: Hashable,
        end: int,
        *,
        id: Any = None,
        name: Any = None,
        fragment: Any = None,
        arguments: Any = None,
        server: bool = False,
    ) -> None:
        """Start or continue the tool call of *key*, by a whole value or a fragment of its JSON text."""
        block = self.block("tool_call", key)
        block.server = block.server or server
        if isinstance(id, str) and id:
            block.id = block.id or id
        if isinstance(name, str) and name:
            block.name = block.name or name
            self.seen(end)
        if isinstance(fragment, str) and fragment:
            block.fragments.append(fragment)
            self.seen(end)
        if arguments is not None:
            block.arguments = arguments
            self.seen(end)

    def add(self, part: Part, end: int) -> None:
        """Append a part that is whole."""
        self.blocks.append(Block(type=part.type, part=part))
        self.seen(end)

    def arguments(self, block: Block) -> Any:
        """The arguments of a tool call, in the form in which the provider gave them."""
        if block.fragments:
            text = "".join(block.fragments)
            return parsed_arguments(text) if self.parse else text
        return block.arguments

    def joined(self, kind: str) -> str:
        """All text of one kind."""
        return "".join(piece for block in self.blocks if block.type == kind for piece in block.content)

    def calls(self) -> list[dict[str, Any]]:
        """The tool calls that the app must run."""
        return [
            {"id": block.id, "name": block.name, "arguments": self.arguments(block)}
            for block in self.blocks
            if block.type == "tool_call" and not block.server and block.part is None
        ]

    def message(self) -> Message:
        """The choice as a message."""
        parts = []
        for block in self.blocks:
            if block.part is not None:
                parts.append(block.part)
            elif block.type == "tool_call":
                parts.append(Part(type="tool_call", id=block.id, name=block.name, arguments=self.arguments(block)))
            elif block.content:
                parts.append(Part(type=block.type, content="".join(block.content)))
        reason = self.finish_reason
        return Message(role="assistant", parts=tuple(parts), finish_reason=None if reason is None else str(reason))

    def publish(self, *, first: bool = True) -> None:
        """Put the choice into the reading; only the *first* one gives text, reasoning, refusal and tool calls."""
        reading = self.reading
        if first:
            reading.text = self.joined("text")
            reading.reasoning_text = self.joined("reasoning")
            reading.tool_calls = self.calls()
            reading.refusal = self.joined("refusal") or reading.refusal
        if self.finish_reason is not None:
            reading.finish_reasons.append(str(self.finish_reason))
        if self.blocks or self.finish_reason is not None:
            reading.output.append(self.message())
