"""What the fake provider is told to do otherwise: rules by code, or by a word in the request itself."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from asgi_llmobs.testing.answers import Answer, ToolCall

__all__ = ["Received", "Rule", "Script"]

HEADER = "x-fake"


@dataclass(slots=True, kw_only=True, eq=False)
class Received:
    """One request as the fake provider got it."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str]  # names in lower case
    body: bytes = b""
    dialect: str | None = None  # openai, anthropic, google
    operation: str | None = None
    status: int | None = None  # what was answered
    disconnected: bool = False  # the client went away before the answer was complete

    @property
    def json(self) -> Any:
        """The body parsed, ``{}`` where it is no JSON object."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def parameters(self) -> dict[str, str]:
        """The query string parsed."""
        return dict(parse_qsl(self.query))


@dataclass(slots=True, kw_only=True, eq=False)
class Rule:
    """What to do with the requests it fits. What it leaves ``None`` stays as it would be."""

    when: str | Callable[[Received], bool] | None = None
    times: int | None = 1
    status: int | None = None
    message: str | None = None
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Mapping[str, Any] | None = None
    content_type: str = "application/json"
    text: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    finish: str | None = None
    tool_calls: Sequence[ToolCall | tuple[str, Mapping[str, Any]]] | None = None
    usage: dict[str, int] = field(default_factory=dict)
    delay: float | None = None
    first_token_delay: float | None = None
    chunk_delay: float | None = None
    drop_after: int | None = None
    end_after: int | None = None

    def __post_init__(self) -> None:
        unknown = set(self.usage) - {item.name for item in dataclasses.fields(Answer) if item.name.endswith("tokens")}
        if unknown:
            raise ValueError(f"usage: no such count: {', '.join(sorted(unknown))}")

    def fits(self, received: Received) -> bool:
        """Whether the rule is for this request."""
        if self.when is None or callable(self.when):
            return self.when is None or self.when(received)
        return self.when in received.path or self.when.encode() in received.body

    def change(self, answer: Answer) -> Answer:
        """The answer with what the rule says instead."""
        given: dict[str, Any] = {
            name: value
            for name in ("text", "reasoning", "refusal", "finish")
            if (value := getattr(self, name)) is not None
        }
        if self.text is not None or self.refusal is not None:
            given = {"text": "", "tool_calls": (), "finish": "stop", **given}
        if self.tool_calls is not None:
            calls = [
                item if isinstance(item, ToolCall) else ToolCall(item[0], item[1], f"{number:024x}")
                for number, item in enumerate(self.tool_calls, start=1)
            ]
            given = {"text": "", "finish": "tool_calls", **given, "tool_calls": tuple(calls)}
        return dataclasses.replace(answer, **given | self.usage)


NUMBERS: Mapping[str, Callable[[str], Any]] = {
    "status": int,
    "times": int,
    "retry_after": float,
    "delay": float,
    "first_token_delay": float,
    "chunk_delay": float,
    "drop_after": int,
    "end_after": int,
    "text": str,
    "message": str,
    "finish": str,
}


def parse(directive: str) -> Rule:
    """A rule from words such as ``status=429; times=2; retry_after=0.5``."""
    given: dict[str, Any] = {"times": None}
    for part in filter(None, (part.strip() for part in directive.split(";"))):
        name, _, value = part.partition("=")
        if name not in NUMBERS:
            raise ValueError(f"{HEADER}: {name!r} is not one of {', '.join(NUMBERS)}")
        given[name] = NUMBERS[name](value)
    return Rule(**given)


class Script:
    """The rules in force, asked in the order in which they were given."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._directed: Counter[tuple[str, str]] = Counter()

    def clear(self) -> None:
        """Forget every rule."""
        self.rules.clear()
        self._directed.clear()

    def rule_for(self, received: Received) -> Rule:
        """The first rule that fits and is not used up; an empty one where there is none."""
        directive = received.headers.get(HEADER) or self._metadata(received)
        if directive:
            return self._directed_rule(str(directive), received)
        for rule in self.rules:
            if rule.times != 0 and rule.fits(received):
                if rule.times is not None:
                    rule.times -= 1
                return rule
        return Rule()

    @staticmethod
    def _metadata(received: Received) -> Any:
        metadata = received.json.get("metadata")
        return metadata.get("fake") if isinstance(metadata, dict) else None

    def _directed_rule(self, directive: str, received: Received) -> Rule:
        rule = parse(directive)
        # the retries of one call send the same bytes: they share a count, other calls have their own
        key = directive, hashlib.sha256(received.body).hexdigest()
        self._directed[key] += 1
        return rule if rule.times is None or self._directed[key] <= rule.times else Rule()
