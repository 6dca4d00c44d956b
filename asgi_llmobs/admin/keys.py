"""The keyboard in one table: what the help page, the sheet on ``?`` and the menu say is what the scripts do."""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["GOES", "KEYS", "Keys"]


class Keys(NamedTuple):
    """Keys that do one thing."""

    keys: tuple[str, ...]
    does: str


# after g: the page, by its slug
GOES: Mapping[str, str] = {
    "": "o",
    "requests": "r",
    "traces": "t",
    "sessions": "s",
    "users": "u",
    "properties": "p",
    "models": "m",
    "endpoints": "e",
    "scores": "c",
    "insights": "i",
    "status": "h",
    "settings": ",",
    "help": "?",
}

KEYS: tuple[tuple[str, tuple[Keys, ...]], ...] = (
    (
        "Everywhere",
        (
            Keys(("Ctrl K", "⌘ K"), "go to a page, an id, a model, a user or an action"),
            Keys(("?",), "show these keys"),
            Keys(("g",), "then the letter of a page: go there"),
            Keys(("/",), "search"),
            Keys(("Esc",), "leave a field, close what is open"),
        ),
    ),
    (
        "Lists",
        (
            Keys(("j", "k"), "next and previous row"),
            Keys(("Enter",), "open the row; a request beside the list"),
            Keys(("f",), "only rows with the value that is pointed at, else with the first one of the row"),
            Keys(("p",), "pause new requests, or go on"),
            Keys(("[", "]"), "previous and next page"),
        ),
    ),
    (
        "A request, a trace, a session",
        (
            Keys(("[", "]"), "previous and next one"),
            Keys(("+", "-"), "thumbs up and down"),
            Keys(("e",), "annotate: a score, a label, a tag"),
            Keys(("n",), "write a note"),
            Keys(("c",), "copy a request as curl"),
        ),
    ),
    (
        "The tree of a trace",
        (
            Keys(("b",), "the slowest node"),
            Keys(("$",), "the dearest node"),
            Keys(("x",), "the next failed node"),
        ),
    ),
)
