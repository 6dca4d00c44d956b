"""The difference of two texts, word by word."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

from asgi_llmobs.bodies import equal_start

__all__ = ["Stretch", "alike", "difference"]

WORDS = re.compile(r"\s+|\w+|[^\w\s]")
MOST_WORDS = 3_000  # that are aligned, each side; longer differences are told as a whole
KEPT = 160  # characters of what is equal that are shown around a difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A piece of the texts: ``same``, ``gone`` (only before), ``new`` (only now), or ``left_out`` with its length."""

    kind: str
    text: str


def difference(before: str, now: str) -> list[Stretch]:
    """How *now* comes from *before*; long equal stretches are left out, but for what surrounds a difference."""
    return list(shortened(list(merged(stretches(before, now)))))


def alike(found: Sequence[Stretch]) -> float:
    """How much of the longer text is equal, 0.0 to 1.0."""
    sizes = {"same": 0, "gone": 0, "new": 0}
    for stretch in found:
        if stretch.kind == "left_out":
            sizes["same"] += int(stretch.text)
        else:
            sizes[stretch.kind] += len(stretch.text)
    whole = sizes["same"] + max(sizes["gone"], sizes["new"])
    return sizes["same"] / whole if whole else 1.0


def stretches(before: str, now: str) -> Iterator[Stretch]:
    start = whole_words(before, now)
    end = whole_words(before[start:][::-1], now[start:][::-1])
    yield Stretch(kind="same", text=now[:start])
    yield from changed(before[start : len(before) - end], now[start : len(now) - end])
    yield Stretch(kind="same", text=now[len(now) - end :])


def whole_words(one: str, other: str) -> int:
    """So many characters at the start are equal; not half a word."""
    low = equal_start(one, other)
    while low and low < max(len(one), len(other)) and one[low - 1].isalnum():
        low -= 1
    return low


def changed(before: str, now: str) -> Iterator[Stretch]:
    olds, news = WORDS.findall(before), WORDS.findall(now)
    if len(olds) > MOST_WORDS or len(news) > MOST_WORDS:
        yield Stretch(kind="gone", text=before)
        yield Stretch(kind="new", text=now)
        return
    for tag, old, old_end, new, new_end in SequenceMatcher(None, olds, news, autojunk=True).get_opcodes():
        if tag == "equal":
            yield Stretch(kind="same", text="".join(news[new:new_end]))
            continue
        yield Stretch(kind="gone", text="".join(olds[old:old_end]))
        yield Stretch(kind="new", text="".join(news[new:new_end]))


def merged(found: Iterator[Stretch]) -> Iterator[Stretch]:
    """Without empty ones, neighbours of a kind as one, and blanks between two differences counted to both."""
    pieces = [stretch for stretch in found if stretch.text]
    spread: list[Stretch] = []
    gone = new = ""
    for place, stretch in enumerate(pieces):
        differs_next = place + 1 < len(pieces) and pieces[place + 1].kind != "same"
        blank = stretch.text.isspace() and (gone or new) and differs_next
        gone += stretch.text if blank or stretch.kind == "gone" else ""
        new += stretch.text if blank or stretch.kind == "new" else ""
        if stretch.kind == "same" and not blank:
            spread += [Stretch(kind="gone", text=gone), Stretch(kind="new", text=new), stretch]
            gone = new = ""
    spread += [Stretch(kind="gone", text=gone), Stretch(kind="new", text=new)]
    for kind, some in groupby((stretch for stretch in spread if stretch.text), lambda each: each.kind):
        yield Stretch(kind=kind, text="".join(stretch.text for stretch in some))


def shortened(found: Sequence[Stretch]) -> Iterator[Stretch]:
    for place, stretch in enumerate(found):
        text = stretch.text
        first, last = place == 0, place == len(found) - 1
        head, tail = (0 if first else KEPT), (0 if last else KEPT)
        if stretch.kind != "same" or len(found) == 1 or len(text) <= head + tail + KEPT:
            yield stretch
            continue
        if head:
            yield Stretch(kind="same", text=text[:head])
        yield Stretch(kind="left_out", text=str(len(text) - head - tail))
        if tail:
            yield Stretch(kind="same", text=text[len(text) - tail :])
