"""What the fake provider says: one question in, one answer out, the same in every dialect."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "Question", "Tool", "ToolCall", "Turn", "answer", "embed", "tokens_of"]

TOPICS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "refund cancel cancellation money back",
        (
            "You can cancel free of charge until 48 hours before departure. The refund goes back to the card you paid "
            "with and arrives within five working days.",
            "Inside the last 48 hours we refund half of the fare. With the flexible rate you get all of it back, even "
            "on the day itself.",
        ),
    ),
    (
        "luggage baggage bag suitcase carry",
        (
            "One cabin bag of up to 8 kg (55 × 40 × 23 cm) is included in every fare. A checked bag of 23 kg costs €35 "
            "online and €50 at the airport.",
            "Skis, bicycles and instruments travel as special luggage. Book them at least 24 hours ahead, because the "
            "hold has room for only six of them.",
        ),
    ),
    (
        "weather rain sunny temperature pack",
        (
            "Lisbon stays mild in early December: 11 to 16 °C, with a shower every third day. A light raincoat and "
            "comfortable shoes are enough.",
            "Evenings by the river feel colder than the numbers say. Take a warm layer for the ferry and for the "
            "viewpoints after sunset.",
        ),
    ),
    (
        "hotel room stay breakfast check-in",
        (
            "I would stay in Alfama: the Casa do Rio is a two-minute walk from the Fado museum, has 14 rooms and costs "
            "€112 a night including breakfast.",
            "Check-in opens at 15:00. If you land earlier, the front desk keeps your bags and gives you the code for "
            "the rooftop.",
        ),
    ),
    (
        "flight fly train airport connection delay",
        (
            "The 07:40 from Berlin reaches Lisbon at 10:25, local time. There is a second direct flight at 16:15, and "
            "both have seats left on 4 December.",
            "If the delay is longer than three hours, you are owed €400 under EU rule 261. Keep the boarding pass and "
            "the receipts for meals.",
        ),
    ),
    (
        "visa passport border document",
        (
            "With a passport from the EU you need no visa. From the United States or Canada you may stay for 90 days "
            "in any 180 without one.",
        ),
    ),
    (
        "itinerary weekend plan things trip visit days",
        (
            "Here is a calm weekend in Lisbon.\n\nSaturday: tram 28 up to Graça before nine, lunch at the Time Out "
            "Market, the Tile Museum in the afternoon.\n\nSunday: ferry to Cacilhas, fish for lunch, and back to Belém "
            "for the tower and a pastel de nata.",
            "With children I would swap the Tile Museum for the Oceanário: it is step-free, takes two hours, and the "
            "cable car outside runs every few minutes.",
            "All of it fits in about €140 for two, tickets and meals included. The Lisboa Card (€27 a day) pays off "
            "from the third museum.",
        ),
    ),
    (
        "invoice bill pay payment receipt card",
        (
            "I have sent the invoice again to the address of your account. It carries the company name and the VAT "
            "number that you gave us in May.",
        ),
    ),
)
GENERAL = (
    "Happy to help. Tell me where you want to go and when, and I will look for connections, a place to stay and what "
    "is worth seeing.",
    "Good question. The short version: book the train early, keep the hotel flexible, and leave one afternoon without "
    "a plan.",
    "Yes, that works. I have noted it for your trip, and you can change it until the evening before.",
)
THOUGHTS = (
    "The traveller wants something practical. I weigh the dates, the budget and how far they want to walk, then answer "
    "in a few sentences."
)
CITIES = "Lisbon Porto Berlin Paris Madrid Rome Vienna Tokyo Kyoto London Amsterdam Copenhagen".split()
REASONING_MODELS = re.compile(r"(^|[/.])(o[134]\b|o[134]-|gpt-5|deepseek-reasoner|gemini-2\.5|gemini-3)")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the request offers."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the answer wants to be run, with the arguments as a mapping."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the request: ``role`` is ``system``, ``user``, ``assistant`` or ``tool``."""

    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request, whatever its dialect."""

    model: str
    turns: Sequence[Turn] = ()
    tools: Sequence[Tool] = ()
    tool_choice: str = "auto"  # auto, none, required, or the name of a tool
    schema: Mapping[str, Any] | None = None  # of the JSON that is asked for; {} for any JSON
    reasoning: bool = False
    max_tokens: int | None = None
    stream: bool = False
    choices: int = 1
    include_usage: bool = True

    @property
    def reasons(self) -> bool:
        """Whether the answer spends reasoning tokens."""
        return self.reasoning or REASONING_MODELS.search(self.model) is not None

    @property
    def last_user_text(self) -> str:
        """What the user said last."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, whatever its dialect. ``finish`` is ``stop``, ``length``, ``tool_calls`` or ``content_filter``."""

    text: str = ""
    reasoning: str = ""
    refusal: str | None = None
    tool_calls: Sequence[ToolCall] = ()
    finish: str = "stop"
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


def tokens_of(text: str) -> int:
    """A count of tokens that is plausible and always the same: one for four characters."""
    return math.ceil(len(text) / 4)


def answer(question: Question) -> Answer:
    """What the fake provider says when nothing else is scripted."""
    calls = _tool_calls(question)
    text = "" if calls else _text(question)
    finish = "tool_calls" if calls else "stop"
    if question.max_tokens is not None and tokens_of(text) > question.max_tokens:
        text, finish = text[: question.max_tokens * 4], "length"
    reasoning = THOUGHTS if question.reasons else ""
    said = text + "".join(call.name + json.dumps(call.arguments) for call in calls)
    return Answer(
        text=text,
        reasoning=reasoning,
        tool_calls=calls,
        finish=finish,
        input_tokens=sum(tokens_of(turn.text) + 4 for turn in question.turns)
        + sum(tokens_of(tool.name + tool.description + json.dumps(tool.schema)) for tool in question.tools),
        output_tokens=tokens_of(said) + tokens_of(reasoning),
        reasoning_tokens=tokens_of(reasoning),
    )


def _words(text: str) -> list[str]:
    return re.findall(r"[\w-]+", text.lower())


def _text(question: Question) -> str:
    if question.schema is not None:
        return json.dumps(example(question.schema or {"type": "object"}, "answer", question.last_user_text))
    results = _tool_results(question.turns)
    if results:
        return "Here is what I found. " + " ".join(_sentence(result) for result in results)
    asked = question.last_user_text
    source = re.search(r"\[1\]\s*(.+?)(?:\n|$)", "\n".join(turn.text for turn in question.turns))
    if source:
        return f"According to our guide: {source.group(1).strip()} [1]"
    turn = sum(item.role == "assistant" for item in question.turns)
    words = set(_words(asked))
    scored = [(len(words & set(keys.split())), texts) for keys, texts in TOPICS]
    hits, texts = max(scored, key=lambda pair: pair[0])
    return texts[turn % len(texts)] if hits else GENERAL[turn % len(GENERAL)]


def _tool_results(turns: Sequence[Turn]) -> list[str]:
    """The results of the tools that were run since the user spoke last."""
    results: list[str] = []
    for turn in turns:
        if turn.role == "user":
            results = []
        elif turn.role == "tool":
            results.append(turn.text)
    return results


def _sentence(result: str) -> str:
    try:
        value = json.loads(result)
    except ValueError:
        value = result
    if isinstance(value, dict):
        value = ", ".join(f"{key.replace('_', ' ')}: {item}" for key, item in value.items())
    return str(value)[:300].rstrip(". ") + "."


def _tool_calls(question: Question) -> tuple[ToolCall, ...]:
    if not question.tools or question.tool_choice == "none" or _tool_results(question.turns):
        return ()
    asked = question.last_user_text
    named = [tool for tool in question.tools if tool.name == question.tool_choice]
    words = set(_words(asked))
    fitting = [tool for tool in question.tools if words & (set(_words(tool.name.replace("_", " "))) - {"get", "find"})]
    wanted = named or fitting[:3] or list(question.tools[:1])
    return tuple(
        ToolCall(tool.name, example(tool.schema or {"type": "object"}, tool.name, asked), _call_id(number, asked))
        for number, tool in enumerate(wanted)
    )


def _call_id(number: int, asked: str) -> str:
    return hashlib.sha256(f"{number} {asked}".encode()).hexdigest()[:24]


def example(schema: Mapping[str, Any], name: str, asked: str) -> Any:
    """A value that fits a JSON schema, sensible by the *name* of the field and what was *asked*."""
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    match str(kind).lower():
        case "object":
            properties: Mapping[str, Any] = schema.get("properties") or {}
            return {key: example(value, key, asked) for key, value in properties.items()}
        case "array":
            return [example(schema.get("items") or {}, name, asked)]
        case "integer" | "number":
            return schema.get("minimum", 2)
        case "boolean":
            return True
        case "null":
            return None
    return _word(name.lower(), asked)


def _word(name: str, asked: str) -> str:
    cities: list[str] = re.findall("|".join(CITIES), asked, re.IGNORECASE) or ["Lisbon"]
    if name in ("from", "start") or "origin" in name:
        return cities[0] if len(cities) > 1 else "Berlin"
    if name == "to" or any(word in name for word in ("city", "place", "location", "destination")):
        return cities[-1]
    if "date" in name or "day" in name:
        return "2026-12-04"
    if any(word in name for word in ("query", "question", "text", "topic")):
        return asked[:200]
    return GENERAL[0] if name == "answer" else name


def embed(text: str, dimensions: int) -> list[float]:
    """A vector of length one in which texts that share words are near each other."""
    vector = [0.0] * dimensions
    for word in _words(text):
        digest = hashlib.sha256(word[:5].encode()).digest()
        vector[int.from_bytes(digest[:4]) % dimensions] += 1.0 if digest[4] % 2 else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    return [round(value / length, 6) for value in vector] if length else [1.0, *vector[1:]]
