"""Which requests are meant: one value, from an address or a search and back to both, and in words."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from math import isfinite
from typing import Any

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters.expression import (
    BARE_VALUE,
    BARE_WORD,
    And,
    Expression,
    Not,
    Or,
    Term,
    both,
    either,
    quoted,
    terms_of,
    written,
)
from asgi_llmobs.filters.keys import KEYS, shortest, suggestion
from asgi_llmobs.filters.moments import iso, moment_ns, spoken
from asgi_llmobs.filters.parsing import OPERATOR, parsed

__all__ = ["Condition", "Filter"]

LISTS = ("model", "provider", "status", "operation", "kind", "user", "session", "trace", "route")
WILD = ("model", "route")  # fields in which * stands for anything
BOUNDS = ("min_cost", "max_cost", "min_latency", "max_latency")
BOUND_OF = {
    ("cost", ">="): "min_cost",
    ("cost", "<="): "max_cost",
    ("latency", ">="): "min_latency",
    ("latency", "<="): "max_latency",
}
ROLLED_UP = ("provider", "model", "operation", "status", "route")
MAX_VALUE = 4_000
MAX_VALUES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which requests are meant. Values of one field are alternatives, fields are all required.

    Args:
        project: The isolation boundary; always applies, never comes from a query.
        model: Requested or answering model; ``*`` stands for anything, as in ``route``. Other values are exact.
        status: Outcomes (``ok`` … ``running``), HTTP status codes (``429``) or their classes (``4xx`` ``5xx``).
        properties: Pairs of name (any case) and value.
        text: Words that must all occur in input or output; ``"quoted words"`` as a phrase.
        where: Everything else that a search can say, see :mod:`asgi_llmobs.filters.parsing`.
        since_ns: Inclusive, nanoseconds since 1970.
        until_ns: Exclusive, nanoseconds since 1970.
        since: What ``since_ns`` was written as (``24h``), so that the address keeps its meaning.
        until: What ``until_ns`` was written as.
        min_cost: In US dollars, like ``max_cost``.
        min_latency: In seconds, like ``max_latency``.
    """

    project: str = "default"
    model: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    operation: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    session: tuple[str, ...] = ()
    trace: tuple[str, ...] = ()
    route: tuple[str, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    text: str = ""
    where: Expression | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    since: str = ""
    until: str = ""
    min_cost: float | None = None
    max_cost: float | None = None
    min_latency: float | None = None
    max_latency: float | None = None

    @classmethod
    def from_query(
        cls, items: Iterable[tuple[str, str]], *, project: str = "default", now_ns: int | None = None
    ) -> "Filter":
        """The filter that a query string means.

        Args:
            items: Names and values in order, repeated names allowed: ``request.query_params.multi_items()`` less
                the names that are not the filter's (``cursor``, ``limit`` …). ``q`` is a search in the language, and
                what it says of the time goes before ``since`` and ``until``.
            project: The project whose data may be seen.
            now_ns: What relative times count from; now unless given.

        Raises:
            FilterError: A name or a value is not understood; it names the field, and the position in a search.
        """
        found: dict[str, Any] = {"project": project}
        now_ns = time.time_ns() if now_ns is None else now_ns
        searches: list[Expression] = []
        count = 0
        for name, value in items:
            value = value.strip()
            if len(value) > MAX_VALUE:
                raise FilterError(name, f"a value has at most {MAX_VALUE} characters")
            if not value and not name.startswith("property."):
                continue  # an empty field of a form asks for nothing
            count += 1
            if count > MAX_VALUES:
                raise FilterError(name, f"a filter has at most {MAX_VALUES} values")
            search = take(found, name, value, now_ns)
            searches += search.items if isinstance(search, And) else [search] if search is not None else []
        absorb(found, searches, now_ns)
        since, until = found.get("since_ns"), found.get("until_ns")
        if since is not None and until is not None and since >= until:
            raise FilterError("until", "must be later than since")
        return cls(**found)

    def to_query(self) -> list[tuple[str, str]]:
        """Names and values that :meth:`from_query` turns into this filter again."""
        out = [(name, value) for name in LISTS for value in getattr(self, name)]
        out += [(f"property.{label}", value) for label, value in self.properties]
        search = both([*self.phrases(), *items_of(self.where)])
        if search is not None:
            out.append(("q", written(search)))
        for name in ("since", "until"):
            moment = getattr(self, f"{name}_ns")
            if moment is not None:
                out.append((name, getattr(self, name) or iso(moment)))
        out += [(name, f"{value:.12g}") for name in BOUNDS if (value := getattr(self, name)) is not None]
        return out

    def phrases(self) -> list[Term]:
        """The words of ``text``, each a condition; what is quoted there is one."""
        if not self.text:
            return []
        try:
            found = items_of(parsed(self.text))
        except FilterError:
            found = ()
        if all(isinstance(item, Term) and item.key == "text" for item in found):
            return [item for item in found if isinstance(item, Term)]
        return [Term("text", ":", word) for word in self.text.split()]

    @property
    def searched(self) -> str:
        """``text`` with each phrase in quotes and nothing escaped."""
        return " ".join(f'"{term.value.replace(chr(34), " ")}"' for term in self.phrases())

    def conditions(self) -> "list[Condition]":
        """Every condition but the times, each with the filter that remains without it."""
        return [*self._field_conditions(), *self._other_conditions()]

    def _field_conditions(self) -> "Iterator[Condition]":
        for name in LISTS:
            values = getattr(self, name)
            for value in values:
                yield self._less(field_term(name, value), name, tuple(other for other in values if other != value))
        for place, (label, value) in enumerate(self.properties):
            others = self.properties[:place] + self.properties[place + 1 :]
            yield self._less(field_term("property", value, label), "properties", others)

    def _other_conditions(self) -> "Iterator[Condition]":
        words = both(list(self.phrases()))
        if words is not None:
            yield self._less(words, "text", "")
        for (key, op), name in BOUND_OF.items():
            if (bound := getattr(self, name)) is not None:
                unit = "s" if key == "latency" else ""
                yield self._less(Term(key, op, shortest(Decimal(f"{bound:.12g}")) + unit), name, None)
        rest = items_of(self.where)
        for item in rest:
            yield self._less(item, "where", both([one for one in rest if one != item]))

    def _less(self, item: Expression, field: str, left: Any) -> "Condition":
        changes: dict[str, Any] = {field: left}
        return Condition(item, replace(self, **changes))

    def chosen(self, key: str, label: str = "") -> tuple[str, ...]:
        """The values of a field that are alternatives now; *label* is the name of a property."""
        if key != "property":
            return tuple(getattr(self, key))
        return tuple(value for name, value in self.properties if same(name, label))

    def toggled(self, key: str, value: str, label: str = "") -> "Filter":
        """The filter with *value* as a further alternative of a field, or without it where it is one already."""
        there = value in self.chosen(key, label)
        if key != "property":
            values = getattr(self, key)
            changes: dict[str, Any] = {key: tuple(one for one in values if one != value) if there else (*values, value)}
            return replace(self, **changes)
        left = tuple(pair for pair in self.properties if not (same(pair[0], label) and pair[1] == value))
        return replace(self, properties=left if there else (*left, (label, value)))

    def excluding(self, term: Term) -> "Filter":
        """The filter for which *term* must not hold."""
        base = (
            self.toggled(term.key, term.value, term.label) if term.value in self.chosen(term.key, term.label) else self
        )
        return replace(base, where=both([*items_of(base.where), Not(term)]))

    @property
    def expression(self) -> Expression | None:
        """Everything but project and times as one expression: what the search bar shows."""
        groups: dict[tuple[str, str], list[Expression]] = {}
        for condition in self._field_conditions():
            term = condition.item
            assert isinstance(term, Term)
            group = groups.setdefault((term.key, term.label.casefold()), [])
            first = group[0].label if group and isinstance(group[0], Term) else term.label  # as it was written first
            group.append(replace(term, label=first))
        alternatives = [one for group in groups.values() if (one := either(group)) is not None]
        rest = [item for condition in self._other_conditions() for item in items_of(condition.item)]
        return both([*alternatives, *rest])

    @property
    def search(self) -> str:
        """:attr:`expression` in the language, to be shown in the search bar."""
        return written(self.expression)

    @property
    def beyond_rollups(self) -> tuple[str, ...]:
        """The keys of what the hourly rollups cannot tell apart; empty where they answer for this filter."""
        found = [term.key for term in terms_of(self.where)]
        found += [key for key in self.keys if key not in ROLLED_UP]
        return tuple(dict.fromkeys(found))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all that is asked for but times, ``text`` for words in prompt or answer."""
        return tuple(dict.fromkeys(term.key for term in terms_of(self.expression)))

    def words(self) -> str:
        """The filter in words for people; empty where everything is meant."""
        said = [f"{name} {' or '.join(getattr(self, name))}" for name in LISTS if getattr(self, name)]
        labels: dict[str, list[str]] = {}
        for label, value in self.properties:
            labels.setdefault(label, []).append(value)
        said += [f"{label} = {' or '.join(values)}" for label, values in labels.items()]
        if self.text:
            said.append(f"containing “{self.text}”")
        said += [written(item) for item in items_of(self.where)]
        for word, text, moment in (("since", self.since, self.since_ns), ("until", self.until, self.until_ns)):
            if moment is not None:
                said.append(spoken(word, text) or f"{word} {iso(moment)}")
        for name, form in (
            ("min_cost", "costing at least ${:g}"),
            ("max_cost", "costing at most ${:g}"),
            ("min_latency", "taking at least {:g} s"),
            ("max_latency", "taking at most {:g} s"),
        ):
            if (value := getattr(self, name)) is not None:
                said.append(form.format(value))
        return ", ".join(said)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a filter, and the filter without it."""

    item: Expression
    without: Filter


def same(name: str, other: str) -> bool:
    """Whether two names mean one property."""
    return name.strip().casefold() == other.strip().casefold()


def items_of(expression: Expression | None) -> tuple[Expression, ...]:
    """What must all hold."""
    return () if expression is None else expression.items if isinstance(expression, And) else (expression,)


def field_term(name: str, value: str, label: str = "") -> Term:
    """The term that a value of a field stands for."""
    return Term(name, "=" if "*" in value and name not in WILD else ":", value, label)


def take(found: dict[str, Any], name: str, value: str, now_ns: int) -> Expression | None:
    """Add one pair of a query to the fields *found* so far; what is a search is given back."""
    if name.startswith("property."):
        label = name.removeprefix("property.").strip()
        if not label:
            raise FilterError(name, "write property.<Name>=value")
        found["properties"] = (*found.get("properties", ()), (label, value))
    elif name in LISTS:
        value = KEYS[name].read(name, value)
        if value not in found.get(name, ()):
            found[name] = (*found.get(name, ()), value)
    elif name in ("q", "text"):
        return parsed(value)
    elif name in ("since", "until"):
        found[name], found[f"{name}_ns"] = value, moment_ns(name, value, now_ns)
    elif name in BOUNDS:
        found[name] = bound(name, value)
    elif name.partition(".")[0] in KEYS and name != "property":
        op = OPERATOR.match(value)
        sign = op[0] if op else ""
        return parsed(f"{name}:{sign}{quoted(value[len(sign) :].strip(), BARE_VALUE)}")
    else:
        known = (*KEYS, *BOUNDS, "q")
        raise FilterError(name, f"there is no such filter{suggestion(name, known)}; there are {', '.join(known)}")
    return None


def absorb(found: dict[str, Any], searches: Iterable[Expression], now_ns: int) -> None:
    """Put what a search says into the fields that can say it; the rest is ``where``."""
    words: list[Expression] = []
    rest: list[Expression] = []
    said: set[str] = set()
    for item in searches:
        if isinstance(item, Term) and item.key == "text":
            words.append(item)
        elif isinstance(item, Term) and item.key in ("since", "until"):
            if item.key in said:
                raise FilterError(item.key, "is said twice")
            said.add(item.key)
            found[item.key], found[f"{item.key}_ns"] = item.value, moment_ns(item.key, item.value, now_ns)
        elif not as_field(found, item):
            rest.append(item)
    if words:
        text = both(words)
        found["text"] = " ".join(quoted(term.value, BARE_WORD) for term in terms_of(text))
    found["where"] = both(rest)


def as_field(found: dict[str, Any], item: Expression) -> bool:
    """Whether a field says the same as *item*; it does then."""
    if isinstance(item, Term) and (name := BOUND_OF.get((item.key, item.op))) is not None:
        exact = Decimal(item.value.removesuffix("s"))
        number = float(exact)
        fits = found.get(name) is None and isfinite(number) and Decimal(f"{number:.12g}") == exact
        if fits:
            found[name] = number
        return fits
    terms = item.items if isinstance(item, Or) else (item,)
    plain = [term for term in terms if isinstance(term, Term) and is_plain(term)]
    if len(plain) < len(terms) or len({(term.key, term.label.casefold()) for term in plain}) > 1:
        return False
    key, values = plain[0].key, tuple(term.value for term in plain)
    if key != "property":
        if found.get(key):
            return bool(found[key] == values)
        found[key] = values
        return True
    present = found.get("properties", ())
    pairs = tuple((term.label, term.value) for term in plain)
    if any(label.strip().casefold() == plain[0].label.casefold() for label, _ in present):
        return False
    found["properties"] = (*present, *pairs)
    return True


def is_plain(term: Term) -> bool:
    if term.key not in (*LISTS, "property"):
        return False
    if term.op == "=":
        return term.key not in WILD
    return term.op == ":" and (term.key in WILD or "*" not in term.value)


def bound(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not isfinite(number) or number < 0:
        raise FilterError(name, f"{value!r} is not a number of at least 0")
    return number
