"""The keys of the search language: what each takes, and values checked and in their shortest form."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches

from asgi_llmobs.errors import FilterError
from asgi_llmobs.records import Kind, Outcome

__all__ = ["COMPARED", "HAS", "KEYS", "Key", "key_of", "suggestion"]

OUTCOMES = tuple(str(outcome) for outcome in Outcome)
KINDS = tuple(str(kind) for kind in Kind)
HAS = (
    "answer", "attempts", "audio", "cache", "caller", "error", "estimate", "files", "finish", "images", "path", "price",
    "prompt", "reasoning", "refusal", "release", "route", "score", "server_tools", "session", "status",
    "tool_calls", "tools", "truncated", "ttft", "usage", "user", "warnings",
)  # fmt: skip
STATUS = re.compile(r"[1-5][0-9][0-9]|[1-5]xx")
NUMBER = re.compile(r"([0-9]{1,24}(?:\.[0-9]{1,24})?|\.[0-9]{1,24})\s*([a-zµ]*)", re.IGNORECASE)
SECONDS: dict[str, str | int] = {
    "": 1,
    "ns": "0.000000001",
    "us": "0.000001",
    "µs": "0.000001",
    "ms": "0.001",
    "s": 1,
    "m": 60,
    "h": 3600,
}
SCALE: dict[str, str | int] = {"": 1, "k": 1000, "m": 1_000_000, "b": 1_000_000_000}
MOST_STARS = 8


@dataclass(frozen=True, slots=True)
class Key:
    """One key: what it stands for, how its values are read, and those that it has, where they are few."""

    name: str
    help: str
    read: Callable[[str, str], str]
    values: tuple[str, ...] = ()
    compared: bool = False  # has an order: > < and ranges
    labelled: bool = False  # is followed by a name: property.<Name>


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` (did you mean …?)``, or nothing where no word of *known* is near."""
    near = get_close_matches(word.lower()[:64], list(known), n=1, cutoff=0.7)
    return f" (did you mean {near[0]}?)" if near else ""


def text(key: str, value: str) -> str:
    if value.count("*") > MOST_STARS:
        raise FilterError(key, f"a value has at most {MOST_STARS} times *")
    return value.replace("\0", "\u2400")  # as it is stored: PostgreSQL takes no NUL


def one_of(values: tuple[str, ...]) -> Callable[[str, str], str]:
    def read(key: str, value: str) -> str:
        word = value.lower()
        if word not in values:
            raise FilterError(key, f"{value!r} is none of {', '.join(values)}{suggestion(word, values)}")
        return word

    return read


def status(key: str, value: str) -> str:
    word = value.lower()
    if word not in OUTCOMES and not STATUS.fullmatch(word):
        known = f"{', '.join(OUTCOMES)}, a code such as 429, or 4xx, 5xx"
        raise FilterError(key, f"{value!r} is none of {known}{suggestion(word, OUTCOMES)}")
    return word


def flag(key: str, value: str) -> str:
    word = value.lower()
    if word not in ("yes", "no", "true", "false", "1", "0"):
        raise FilterError(key, f"{value!r} is neither yes nor no")
    return "yes" if word in ("yes", "true", "1") else "no"


def lower(key: str, value: str) -> str:
    return text(key, value.lower())


def amount(key: str, value: str, units: dict[str, str | int], example: str) -> Decimal:
    found = NUMBER.fullmatch(value.strip())
    factor = None if found is None else units.get(found[2].lower())
    if found is None or factor is None:
        raise FilterError(key, f"{value!r} is not a number of at least 0: write {example}")
    return Decimal(found[1]) * Decimal(factor)


def shortest(number: Decimal) -> str:
    return f"{number.normalize():f}" if number else "0"


def money(key: str, value: str) -> str:
    return shortest(amount(key, value.strip().removeprefix("$"), SCALE, "0.01, $2 or 1k"))


def seconds(key: str, value: str) -> str:
    return f"{shortest(amount(key, value, SECONDS, '2s, 350ms or 1m'))}s"


def count(key: str, value: str) -> str:
    number = amount(key, value, SCALE, "500 or 10k")
    if number != number.to_integral_value():
        raise FilterError(key, f"{value!r} is not a whole number")
    return shortest(number)


def score(key: str, value: str) -> str:
    """A number in its shortest form, also below 0; anything else is a label."""
    found = NUMBER.fullmatch(value.strip().removeprefix("-"))
    if found is None or found[2]:
        return text(key, value)
    number = shortest(Decimal(found[1]))
    return f"-{number}" if value.strip().startswith("-") and number != "0" else number


def moment(key: str, value: str) -> str:
    return value.strip()


KEYS = {
    key.name: key
    for key in (
        Key("model", "the model that was asked or that answered", text),
        Key("provider", "openai, anthropic …", text),
        Key("status", "how it ended, or its HTTP status", status, (*OUTCOMES, "4xx", "5xx")),
        Key("root", "how the trace it belongs to ended: what the app answered", one_of(OUTCOMES), OUTCOMES),
        Key("user", "who caused it", text),
        Key("session", "the conversation it belongs to", text),
        Key("trace", "the trace it belongs to", lower),
        Key("route", "template of the incoming request's route", text),
        Key("property", "a property: property.Feature:chat", text, labelled=True),
        Key("cost", "in US dollars", money, compared=True),
        Key("latency", "from start to end", seconds, compared=True),
        Key("ttft", "to the first token", seconds, compared=True),
        Key("tokens", "input and output together", count, compared=True),
        Key("input", "input tokens", count, compared=True),
        Key("output", "output tokens", count, compared=True),
        Key("cached", "input tokens from the provider's cache", count, compared=True),
        Key("reasoning", "output tokens spent on reasoning", count, compared=True),
        Key("attempts", "HTTP attempts", count, compared=True),
        Key("has", "that something is there", one_of(HAS), HAS),
        Key("operation", "chat, embeddings …", text),
        Key("kind", "kind of the span", one_of(KINDS), KINDS),
        Key("stream", "whether the answer was streamed", flag, ("yes", "no")),
        Key("finish", "finish reason: stop, length, tool_calls …", text),
        Key("error", "type of the error", text),
        Key("name", "name of the span", text),
        Key("release", "release of the app", text),
        Key("caller", "file and line, or file alone, that made the call", text),
        Key("path", "path inside the session", text),
        Key("node", "node id", text),
        Key("id", "any id of the request", text),
        Key("score", "a score: score.accuracy:>0.8, score.liked:up", score, compared=True, labelled=True),
        Key("since", "not before: 25m, today, 2026-01-31", moment),
        Key("until", "before: 1h, 2026-01-31T08:00", moment),
        Key("time", "a range: 2026-01-01..2026-01-31, or 2h", moment),
        Key("text", "words in prompt or answer", text),
    )
}
COMPARED = (">=", "<=", ">", "<")
ALIASES = {"outcome": "status", "duration": "latency", "props": "property", "properties": "property"}


def key_of(word: str) -> Key | None:
    """The key that *word* names; ``None``: it is the name of a property.

    Raises:
        FilterError: It is nearly a key, which a name of a property should not be.
    """
    known = KEYS.get(ALIASES.get(word.lower(), word.lower()))
    if known is not None:
        return known
    near = get_close_matches(word.lower()[:64], [*KEYS, *ALIASES], n=1, cutoff=0.8)
    if near:
        raise FilterError(word, f"there is no such key; did you mean {near[0]}? A property is property.{word}")
    return None
