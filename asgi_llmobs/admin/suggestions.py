"""What the word under the cursor of the search bar could become."""

import re
from dataclasses import dataclass

from asgi_llmobs.admin.page import View
from asgi_llmobs.filters.expression import BARE_LABEL, quoted
from asgi_llmobs.filters.keys import KEYS, Key
from asgi_llmobs.queries.completion import names_of, values_of

__all__ = ["Suggestion", "suggestions"]

MOST = 12
# the beginning of a word, as far as the cursor: a key, perhaps its name, perhaps the beginning of a value
KEYED = re.compile(r'([A-Za-z_][\w-]*)(?:\.("[^"]*"|[^\s()":]*))?:(>=|<=|=|>|<|)\(?(?:[^()]*\sOR\s)?"?([^"()]*)$')
WORD = re.compile(r'(?:^|(?<=[\s(-]))([A-Za-z_][\w-]*)?(?:\.([^\s()":]*))?$')
START = re.compile(
    r'(?:^|(?<=[\s(-]))[A-Za-z_][\w-]*(?:\.(?:"[^"]*"|[^\s()":]*))?:(?:>=|<=|=|>|<|)(?:"[^"]*|[^\s()"]*|\([^()]*)$'
)
VALUE = re.compile(r'"?[^\s()":]*$|"[^"]*$')


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A word for the place from ``start`` on, and what it means."""

    text: str
    means: str
    start: int


def suggestions(view: View, text: str, at: int) -> list[Suggestion]:
    """What could stand at the cursor, best first.

    Args:
        view: Who asks.
        text: The search as far as it is typed.
        at: The cursor's place in it.
    """
    typed = text[: max(0, min(at, len(text)))]
    keyed = START.search(typed)
    if keyed is not None:
        found = KEYED.match(keyed[0])
        if found is not None:
            return values(view, found, keyed.start())
    word = WORD.search(typed)
    return [] if word is None else words(view, word[1] or "", word[2], word.start())


def words(view: View, word: str, label: str | None, start: int) -> list[Suggestion]:
    """Keys, and names of properties, that begin so."""
    if label is not None:
        key = KEYS.get(word.lower())
        if key is None or not key.labelled:
            return []
        names = names_of(view.database, view.project, key.name, label, limit=MOST)
        return [Suggestion(f"{key.name}.{quoted(name, BARE_LABEL)}:", key.help, start) for name in names]
    found = [
        Suggestion(f"{key.name}{'.' if key.labelled else ':'}", key.help, start)
        for key in KEYS.values()
        if key.name.startswith(word.lower()) and (view.content or key.name != "text")
    ]
    if word:
        names = names_of(view.database, view.project, "property", word, limit=MOST)
        found += [Suggestion(f"property.{quoted(name, BARE_LABEL)}:", "a property", start) for name in names]
    return found[:MOST]


def values(view: View, found: re.Match[str], start: int) -> list[Suggestion]:
    """Values of a key that begin so."""
    word, label, op, prefix = found[1].lower(), (found[2] or "").strip('"'), found[3], found[4]
    key = KEYS.get(word)
    if key is None:
        key, label = KEYS["property"], f"{found[1]}.{label}" if label else found[1]
    place = start + found.start(4) - (found.string[found.start(4) - 1 : found.start(4)] == '"')
    if key.values:
        fitting = [value for value in key.values if value.startswith(prefix.lower())]
    elif key.compared or op not in ("", "="):
        fitting = []
    else:
        fitting = list(values_of(view.database, view.project, key.name, label, prefix, limit=MOST))
    if not fitting:
        return hints(key, prefix, place)
    return [Suggestion(quoted(value), key.help, place) for value in fitting[:MOST]]


def hints(key: Key, prefix: str, place: int) -> list[Suggestion]:
    """What the value of a key can look like."""
    if prefix or key.name not in EXAMPLES:
        return []
    return [Suggestion(example, key.help, place) for example in EXAMPLES[key.name]]


EXAMPLES = {
    "cost": (">0.01", "<0.001", "0.01..0.1"),
    "latency": (">2s", "<350ms", "1s..5s"),
    "ttft": (">1s", "<200ms"),
    "tokens": (">10k", "<500"),
    "input": (">10k",),
    "output": (">1k",),
    "cached": (">0",),
    "reasoning": (">0",),
    "attempts": (">1",),
    "since": ("25m", "24h", "today"),
    "until": ("1h", "today"),
    "time": ("2h", "2026-01-01..2026-01-31"),
}
