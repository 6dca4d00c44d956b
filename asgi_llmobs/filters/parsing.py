"""Reading the search language: text in, an expression out, or what is wrong with it and where.

error OR -env:dev                or, not; what stands side by side must all hold
(model:gpt-4o OR model:o3)       also model:(gpt-4o OR o3)
cost:>0.01 latency:1s..5s        comparisons and ranges
user:="a*" route:/chat/*         as it stands, and with * for anything
"quoted words" alone             words in prompt or answer
"""

import re

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters.expression import And, Expression, Not, Term, both, either, terms_of
from asgi_llmobs.filters.keys import COMPARED, KEYS, Key, key_of

__all__ = ["MAX_TERMS", "parsed"]

MAX_TERMS = 100
MAX_DEPTH = 20
SPACE = re.compile(r"\s*")
KEY = re.compile(r"([A-Za-z_][\w-]*)(?=[.:])")
LABEL = re.compile(r'[^\s()":]+')
WORD = re.compile(r'[^\s()"]+')
VALUE = re.compile(r'[^\s()"]*')
OPERATOR = re.compile(r">=|<=|=|>|<|")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
ESCAPED = re.compile(r"\\(.)", re.DOTALL)
JOINER = re.compile(r"(?:OR|AND)(?=[\s()]|$)")
NUMERIC = re.compile(r"-?[0-9]+(\.[0-9]+)?")
TIMES = ("since", "until", "time")


def parsed(text: str) -> Expression | None:
    """The expression that *text* means; ``None`` where it asks for nothing.

    Raises:
        FilterError: It is not understood: names the key, and the position in *text*.
    """
    return Reader(text).whole()


class Reader:
    """Goes through one text from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.count = 0

    def whole(self) -> Expression | None:
        found = self.alternatives()
        if self.at < len(self.text):
            raise self.wrong("q", "a ) without its (", self.at)
        for item in found.items if isinstance(found, And) else ():
            if not isinstance(item, Term):
                self.without_times(item)
        if not isinstance(found, And | Term):
            self.without_times(found)
        return found

    def without_times(self, expression: Expression | None) -> None:
        for term in terms_of(expression):
            if term.key in TIMES:
                raise self.wrong(
                    term.key, "times hold for the whole search: they stand neither after NOT nor beside OR",
                    self.text.find(term.key),
                )  # fmt: skip

    def wrong(self, field: str, problem: str, at: int) -> FilterError:
        return FilterError(field, problem, position=max(0, at))

    def peek(self, text: str) -> bool:
        self.at = SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.text.startswith(text, self.at)

    def joiner(self) -> str:
        """The ``OR`` or ``AND`` that comes next."""
        self.peek("")
        found = JOINER.match(self.text, self.at)
        return found[0] if found else ""

    def alternatives(self) -> Expression | None:
        start = self.at
        found = [self.together()]
        while self.joiner() == "OR":
            self.at += 2
            found.append(self.together())
        if len(found) == 1:
            return found[0]
        if None in found:
            raise self.wrong("q", "OR needs a condition on both sides", start)
        return either([item for item in found if item is not None])

    def together(self) -> Expression | None:
        found: list[Expression] = []
        while not self.peek(")") and self.at < len(self.text) and self.joiner() != "OR":
            if self.joiner() == "AND":
                self.at += 3
                if not found or self.peek(")") or self.at >= len(self.text) or self.joiner():
                    raise self.wrong("q", "AND needs a condition on both sides", self.at - 3)
            item = self.one()
            if item is not None:
                found.append(item)
        return both(found)

    def one(self) -> Expression | None:
        self.peek("")
        start = self.at
        word = self.text[self.at : self.at + 4]
        if word[:3] == "NOT" and (word[3:].isspace() or word[3:] == "("):
            return self.negated(3, start)
        if word[:1] == "-" and word[1:2].strip() and word[1:2] != ")":
            return self.negated(1, start)
        if word[:1] == "(":
            return self.group(start)
        return self.term(start)

    def negated(self, length: int, start: int) -> Expression:
        self.at += length
        with Deeper(self, start):
            self.peek("")
            item = None if self.at >= len(self.text) or self.peek(")") or self.joiner() else self.one()
        if item is None:
            raise self.wrong("q", "NOT needs a condition after it", start)
        return item.item if isinstance(item, Not) else Not(item)

    def group(self, start: int) -> Expression | None:
        self.at += 1
        with Deeper(self, start):
            found = self.alternatives()
        if not self.peek(")"):
            raise self.wrong("q", "a ( without its )", start)
        self.at += 1
        return found

    def counted(self, term: Expression) -> Expression:
        self.count += 1
        if self.count > MAX_TERMS:
            raise self.wrong("q", f"a search has at most {MAX_TERMS} conditions", self.at)
        return term

    def term(self, start: int) -> Expression | None:
        if self.text[start] == '"':
            words = self.quotation()
            return self.counted(Term("text", ":", words)) if words.strip() else None
        key = KEY.match(self.text, start)
        if key and not self.text.startswith("//", key.end() + 1):
            found = self.keyed(key, start)
            if found is not None:
                return found
        word = WORD.match(self.text, start)
        assert word is not None  # neither space, bracket nor quote
        self.at = word.end()
        return self.counted(Term("text", ":", word[0]))

    def quotation(self) -> str:
        found = QUOTED.match(self.text, self.at)
        if found is None:
            raise self.wrong("q", 'a " without its second', self.at)
        self.at = found.end()
        return ESCAPED.sub(r"\1", found[1])

    def keyed(self, word: re.Match[str], start: int) -> Expression | None:
        """The condition of a key; ``None`` where it is only a word with a dot in it."""
        try:
            key = key_of(word[0])
        except FilterError as error:
            if self.text[word.end()] == ".":
                return None  # example.com
            raise self.wrong(error.field, error.problem, start) from None
        label = ""
        self.at = word.end()
        if key is None:
            named = LABEL.match(self.text, start)
            assert named is not None
            self.at, key, label = named.end(), KEYS["property"], named[0]
        elif key.labelled:
            label = self.label(key, start)
        elif self.text[self.at] == "." and key.name != "text":
            named = LABEL.match(self.text, start)
            if named and self.text.startswith(":", named.end()):
                raise self.wrong(key.name, f"it has no parts; a property is property.{named[0]}", start)
        if self.text[self.at : self.at + 1] != ":":
            self.at = start
            return None
        self.at += 1
        return self.operand(key, label, start)

    def label(self, key: Key, start: int) -> str:
        form = f"{key.name}.<Name>:value"
        if self.text[self.at] != ".":
            raise self.wrong(key.name, f"write {form}", start)
        self.at += 1
        if self.text[self.at : self.at + 1] == '"':
            found = self.quotation()
        else:
            named = LABEL.match(self.text, self.at)
            found = named[0] if named else ""
            self.at += len(found)
        if not found.strip():
            raise self.wrong(key.name, f"write {form}", start)
        return found.strip()

    def operand(self, key: Key, label: str, start: int) -> Expression:
        if self.text[self.at : self.at + 1] != "(":
            return self.compared(key, label, start)
        opened = self.at
        self.at += 1
        found = []
        while True:
            self.peek("")
            found.append(self.compared(key, label, self.at))
            joiner = self.joiner()
            if joiner == "OR":
                self.at += 2
                continue
            if not self.peek(")"):
                problem = "a ( without its )" if self.at >= len(self.text) else "write OR between the values"
                raise self.wrong(key.name, problem, opened)
            self.at += 1
            return either(found) or found[0]

    def compared(self, key: Key, label: str, start: int) -> Expression:
        op = OPERATOR.match(self.text, self.at)
        self.at, sign = (op.end(), op[0]) if op else (self.at, "")
        if self.text[self.at : self.at + 1] == '"':
            value, plain = self.quotation(), False
        else:
            found = VALUE.match(self.text, self.at)
            value, plain = found[0] if found else "", True
            self.at += len(value)
        if plain and not value:
            raise self.wrong(key.name, "there is no value behind it; words to search for go in quotes", start)
        if sign in ("", "=") and ".." in value and plain and (key.compared or key.name == "time"):
            return self.between(key, label, value, start)
        if sign not in ("", "=") and not key.compared and key.name != "status":
            raise self.wrong(key.name, f"it has no order, so {sign} means nothing", start)
        return self.checked(key, label, sign or ":", value, start)

    def between(self, key: Key, label: str, value: str, start: int) -> Expression:
        low, _, high = value.partition("..")
        if key.name == "time":
            ends = [("since", low), ("until", high)]
            found = [self.checked(KEYS[name], "", ":", end, start) for name, end in ends if end]
        else:
            found = [self.checked(key, label, op, end, start) for op, end in ((">=", low), ("<=", high)) if end]
        if not found:
            raise self.wrong(key.name, "a range has at least one end", start)
        return both(found) or found[0]

    def checked(self, key: Key, label: str, op: str, value: str, start: int) -> Expression:
        try:
            if key.name == "status" and op in COMPARED:
                value = KEYS["tokens"].read("status", value)
            else:
                value = key.read(key.name, value)
        except FilterError as error:
            raise self.wrong(key.name, error.problem, start) from None
        if key.name == "score" and op in COMPARED and not NUMERIC.fullmatch(value):
            raise self.wrong(key.name, f"{value!r} is not a number", start)
        name = "since" if key.name == "time" else key.name
        if op == "=" and ("*" not in value or key.values or key.name == "text"):
            op = ":"
        return self.counted(Term(name, op, value, label))


class Deeper:
    """One bracket or NOT further in, of which there are not too many."""

    def __init__(self, reader: Reader, start: int) -> None:
        self.reader, self.start = reader, start

    def __enter__(self) -> None:
        self.reader.depth += 1
        if self.reader.depth > MAX_DEPTH:
            raise self.reader.wrong("q", f"a search has at most {MAX_DEPTH} brackets inside each other", self.start)

    def __exit__(self, *ended: object) -> None:
        self.reader.depth -= 1
