"""What one term of a search is in SQL, over ``llmobs_spans``; only :mod:`asgi_llmobs.queries.select` asks for it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import Boolean, TypeDecorator

from asgi_llmobs.filters.expression import And, Expression, Not, Or, Term
from asgi_llmobs.queries.scores import scored
from asgi_llmobs.store.marks import MARKS
from asgi_llmobs.store.rows import fold_name
from asgi_llmobs.store.search import found_keys
from asgi_llmobs.store.tables import PropertyRow, SpanRow, TraceRow
from asgi_llmobs.store.values import BIGGEST, name, picodollars

__all__ = ["TOKENS", "any_of", "as_sql", "has_property", "holds", "like", "status_of"]

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]
properties: Any = PropertyRow.__table__  # type: ignore[attr-defined]
traces: Any = TraceRow.__table__  # type: ignore[attr-defined]
columns = spans.c


class Pattern(TypeDecorator[str]):
    """A text in which ``*`` stands for anything and nothing else is special, as each database writes it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or dialect.name == "sqlite":
            return value and "".join(f"[{letter}]" if letter in "[?" else letter for letter in value)
        return value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")


class matches(GenericFunction[bool]):  # noqa: N801
    """That a column is like a pattern, upper and lower case apart on every database."""

    type = Boolean()
    inherit_cache = True


@compiles(matches)
def like_operator(element: Any, compiler: Any, **options: Any) -> str:
    column, pattern = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({column} LIKE {pattern})"


@compiles(matches, "sqlite")
def glob_operator(element: Any, compiler: Any, **options: Any) -> str:
    column, pattern = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({column} GLOB {pattern})"


def like(column: Any, pattern: str) -> ColumnElement[bool]:
    """That *column* is like *pattern*, in which ``*`` stands for anything."""
    return matches(column, literal(pattern, Pattern))


def any_of(column: Any, values: Sequence[str], *, wildcards: bool = False) -> ColumnElement[bool]:
    """That *column* is one of *values*; with *wildcards* ``*`` in them stands for anything."""
    exact = [name(value) for value in values if not (wildcards and "*" in value)]
    conditions: list[ColumnElement[bool]] = [column.in_(exact)] if exact else []
    conditions += [like(column, value) for value in values if wildcards and "*" in value]
    return or_(false(), *conditions)


def status_of(values: Sequence[str]) -> ColumnElement[bool]:
    """That the outcome, the HTTP status or its class is one of *values*."""
    conditions: list[ColumnElement[bool]] = []
    for value in values:
        if value.endswith("xx"):
            low = int(value[0]) * 100
            conditions.append(columns.status.between(low, low + 99))
        elif value.isdigit():
            conditions.append(columns.status == int(value))
        else:
            conditions.append(columns.outcome == value)
            if value != "ok":
                # the words of the partial index
                conditions[-1] = and_(conditions[-1], columns.outcome != literal("ok", literal_execute=True))
    return or_(false(), *conditions)


def as_sql(connection: Connection, project: str, expression: Expression) -> ColumnElement[bool]:
    """The expression as a condition. What cannot be said of a row is not true of it, so that its opposite is."""
    if isinstance(expression, And):
        return and_(true(), *(as_sql(connection, project, item) for item in expression.items))
    if isinstance(expression, Or):
        return or_(false(), *(as_sql(connection, project, item) for item in expression.items))
    if isinstance(expression, Not):
        # neither false nor unknown
        return func.coalesce(as_sql(connection, project, expression.item), false()).is_(false())
    return term_sql(connection, project, expression)


def term_sql(connection: Connection, project: str, term: Term) -> ColumnElement[bool]:
    if term.key in WORDS:
        return or_(false(), *(worded(column, term) for column in WORDS[term.key]))
    if term.key in NUMBERS:
        column, number = NUMBERS[term.key]
        return compared(column, term.op, number(term.value))
    if term.key == "status":
        return status_of([term.value]) if term.op == ":" else compared(columns.status, term.op, whole(term.value))
    if term.key == "root":
        own = and_(traces.c.project == (name(project) or ""), traces.c.trace_id == columns.trace_id)
        return exists().where(own, traces.c.outcome == term.value).correlate(spans)
    if term.key == "score":
        any_value = term.op == ":" and term.value == "*"
        return scored(project, term.label, "=" if term.op == ":" else term.op, "" if any_value else term.value)
    if term.key in PATTERNS:
        column, forms = PATTERNS[term.key]
        return or_(column == term.value, *(like(column, form.format(term.value)) for form in forms))
    if term.key == "has" and term.value == "score":
        return scored(project, "", "=", "")
    if term.key == "has":
        return PRESENT[term.value]
    if term.key == "stream":
        return compared(columns.stream, ":", int(term.value == "yes"))
    if term.key == "text":
        found = found_keys(connection.dialect.name, f'"{term.value.replace(chr(34), " ")}"')
        return false() if found is None else holds(connection, found)
    assert term.key == "property"
    if term.op == "=" or "*" not in term.value:
        return has_property(project, term.label, [term.value])
    return property_like(connection, project, term.label, term.value)


def worded(column: Any, term: Term) -> ColumnElement[bool]:
    if term.op == ":" and "*" in term.value:
        return like(column, term.value)
    return any_of(column, [term.value])


def holds(connection: Connection, found: Select[Any]) -> ColumnElement[bool]:
    """That a span's texts are among *found*."""
    if connection.dialect.name == "sqlite":
        return inside(found)
    # row by row, and by the offset it stays so: the keys of a frequent word would be gone through for the first few,
    # and below NOT and OR again for each row
    own = found.selected_columns[0] == columns.key
    return exists(found.where(own).correlate(spans).offset(0))


def inside(keys: Select[Any]) -> ColumnElement[bool]:
    found: ColumnElement[bool] = columns.key.in_(keys)
    return found


def compared(column: Any, op: str, value: int) -> ColumnElement[bool]:
    return COMPARE[op](column, value)


def has_property(project: str, label: str, values: Sequence[str]) -> ColumnElement[bool]:
    """That a span has the property *label* with one of *values*."""
    entry = properties.c
    own = and_(entry.project == name(project), entry.name == fold_name(label))
    place = and_(entry.start_ns == columns.start_ns, entry.key == columns.key)
    return exists().where(own, entry.value.in_([name(value) for value in values]), place).correlate(spans)


def property_like(connection: Connection, project: str, label: str, pattern: str) -> ColumnElement[bool]:
    """That a span has the property *label* with a value like *pattern*: read from its own row, where that can be."""
    folded = fold_name(label)
    if not folded.isascii():  # what the index is for: databases fold no other letters
        entry = properties.c
        return inside(
            select(entry.key).where(entry.project == name(project), entry.name == folded, like(entry.value, pattern))
        )
    if connection.dialect.name == "sqlite":
        pairs = func.json_each(columns.properties).table_valued("key", "value")
    else:
        pairs = func.json_each_text(cast(columns.properties, JSON)).table_valued("key", "value")
    return exists().where(func.lower(func.trim(pairs.c.key)) == folded, like(pairs.c.value, pattern)).correlate(spans)


def whole(value: str) -> int:
    return min(BIGGEST, int(value))


def nanoseconds(value: str) -> int:
    return min(BIGGEST, int(Decimal(value.removesuffix("s")) * 1_000_000_000))


def pico(value: str) -> int:
    return picodollars(Decimal(value)) or 0


def any_present(*found: Any) -> ColumnElement[bool]:
    return or_(false(), *(column.is_not(None) for column in found))


def marked(mark: str, *others: ColumnElement[bool]) -> ColumnElement[bool]:
    return or_(columns.marks.bitwise_and(1 << MARKS.index(mark)) > 0, *others)


COMPARE: Mapping[str, Callable[[Any, int], ColumnElement[bool]]] = {
    ":": lambda column, value: column == value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
}
WORDS: Mapping[str, Iterable[Any]] = {
    "model": (columns.request_model, columns.response_model),
    "provider": (columns.provider,),
    "operation": (columns.operation,),
    "kind": (columns.kind,),
    "user": (columns.user_id,),
    "session": (columns.session_id,),
    "trace": (columns.trace_id,),
    "route": (columns.route,),
    "error": (columns.error_type,),
    "name": (columns.name,),
    "release": (columns.release,),
    "path": (columns.session_path,),
    "node": (columns.node_id,),
    "id": (columns.id, columns.request_id, columns.response_id, columns.provider_request_id),
}
# a file and what stands behind it; reasons with commas between
PATTERNS: Mapping[str, tuple[Any, Sequence[str]]] = {
    "caller": (columns.caller, ("{}", "{}:*", "*/{}:*", "{} *")),
    "finish": (columns.finish, ("{}", "{},*", "*,{}", "*,{},*")),
}
TOKENS = case(
    (any_present(columns.input_tokens, columns.output_tokens),
     func.coalesce(columns.input_tokens, 0) + func.coalesce(columns.output_tokens, 0)),
)  # fmt: skip
NUMBERS: Mapping[str, tuple[Any, Callable[[str], int]]] = {
    "cost": (columns.cost, pico),
    "latency": (columns.duration_ns, nanoseconds),
    "ttft": (columns.first_token_ns, nanoseconds),
    "tokens": (TOKENS, whole),
    "input": (columns.input_tokens, whole),
    "output": (columns.output_tokens, whole),
    "cached": (columns.cache_read, whole),
    "reasoning": (columns.reasoning, whole),
    "attempts": (columns.attempts, whole),
}
PRESENT: Mapping[str, ColumnElement[bool]] = {
    **{mark: marked(mark) for mark in MARKS},
    "images": marked("images", columns.image_input > 0, columns.image_output > 0),
    "audio": marked("audio", columns.audio_input > 0, columns.audio_output > 0),
    "reasoning": marked("reasoning", columns.reasoning > 0),
    "answer": any_present(columns.output_preview),
    "attempts": columns.attempts > 1,
    "cache": columns.cache_read > 0,
    "caller": any_present(columns.caller),
    "error": or_(columns.error_type.is_not(None), columns.outcome == "error"),
    "estimate": columns.estimated == 1,
    "finish": any_present(columns.finish),
    "path": any_present(columns.session_path),
    "price": any_present(columns.cost),
    "prompt": any_present(columns.input_preview),
    "release": any_present(columns.release),
    "route": any_present(columns.route),
    "session": any_present(columns.session_id),
    "status": any_present(columns.status),
    "tool_calls": columns.calls_tools == 1,
    "truncated": columns.truncated == 1,
    "ttft": any_present(columns.first_token_ns),
    "usage": any_present(columns.input_tokens, columns.output_tokens),
    "user": any_present(columns.user_id),
}
