"""The search language as values: terms joined by and, or and not, and how they are written."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["And", "Expression", "Not", "Or", "Term", "both", "either", "quoted", "terms_of", "written"]

BARE_VALUE = re.compile(r'[^\s()"\\<>=][^\s()"\\]*')
BARE_WORD = re.compile(r'[^\s()"\\:\-][^\s()"\\:]*')
BARE_LABEL = re.compile(r'[^\s()"\\:\-.][^\s()"\\:]*')
OPERATORS = ("OR", "AND", "NOT")


@dataclass(frozen=True, slots=True)
class Term:
    """One condition.

    Args:
        key: A key of :data:`asgi_llmobs.filters.keys.KEYS`, or ``text`` for words in prompt or answer.
        op: ``:`` equals, with ``*`` for anything; ``=`` equals as it stands; ``>`` ``>=`` ``<`` ``<=``.
        value: Checked, in its shortest form: money in dollars, durations with ``s``.
        label: The name of the property or score.
    """

    key: str
    op: str
    value: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Not:
    """Whatever the condition does not hold for, also where it cannot be said: ``-user:x`` has rows without a user."""

    item: "Expression"


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more."""

    items: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """Any of two or more."""

    items: "tuple[Expression, ...]"


Expression = Term | Not | And | Or


def both(items: "list[Expression]") -> Expression | None:
    """All of *items*, as flat as it goes; ``None`` where there are none."""
    return joined(And, items)


def either(items: "list[Expression]") -> Expression | None:
    """Any of *items*, as flat as it goes; ``None`` where there are none."""
    return joined(Or, items)


def joined(kind: type[And] | type[Or], items: "list[Expression]") -> Expression | None:
    flat: list[Expression] = []
    for item in items:
        for one in item.items if isinstance(item, kind) else (item,):
            if one not in flat:
                flat.append(one)
    return kind(tuple(flat)) if len(flat) > 1 else flat[0] if flat else None


def terms_of(expression: Expression | None) -> Iterator[Term]:
    """Every term, in order."""
    if isinstance(expression, Term):
        yield expression
    elif isinstance(expression, Not):
        yield from terms_of(expression.item)
    elif expression is not None:
        for item in expression.items:
            yield from terms_of(item)


def written(expression: Expression | None) -> str:
    """The expression in the language, such that reading it gives the same one again."""
    if expression is None:
        return ""
    if isinstance(expression, And):
        return " ".join(inner(item) if isinstance(item, Or) else written(item) for item in expression.items)
    if isinstance(expression, Or):
        return in_list(expression) or " OR ".join(inner(item) for item in expression.items)
    if isinstance(expression, Not):
        return f"-{inner(expression.item)}"
    if expression.key == "text":
        return quoted(expression.value, BARE_WORD)
    return f"{head(expression)}{quoted(expression.value)}"


def inner(item: Expression) -> str:
    text = written(item)
    return f"({text})" if isinstance(item, And) or isinstance(item, Or) and not in_list(item) else text


def head(term: Term) -> str:
    label = f".{quoted(term.label, BARE_LABEL)}" if term.label else ""
    return f"{term.key}{label}:{'' if term.op == ':' else term.op}"


def in_list(expression: Or) -> str:
    """``key:(a OR b)`` where all alternatives are of one key; else empty."""
    terms = [item for item in expression.items if isinstance(item, Term) and item.key != "text" and item.op == ":"]
    if len(terms) < len(expression.items) or len({(term.key, term.label) for term in terms}) > 1:
        return ""
    return f"{head(terms[0])}({' OR '.join(quoted(term.value) for term in terms)})"


def quoted(text: str, bare: re.Pattern[str] = BARE_VALUE) -> str:
    """*text* as it stands, or in quotes where it would otherwise be read as something else."""
    if bare.fullmatch(text) and text not in OPERATORS:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
