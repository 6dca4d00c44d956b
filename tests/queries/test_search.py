"""The search language against a plain reading of the same records: store, page, JSON twin and command line agree."""

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_llmobs import cli
from asgi_llmobs.admin import Admin
from asgi_llmobs.filters import Filter
from asgi_llmobs.filters.expression import And, Expression, Not, Or, Term, both, either, written
from asgi_llmobs.filters.parsing import parsed
from asgi_llmobs.queries import paging, select
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.records import Cost, Request, Usage
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.rows import encode
from asgi_llmobs.store.tables import SpanRow
from asgi_llmobs.store.write import Sink
from tests.admin.reading import read
from tests.admin.visiting import Visitor
from tests.databases import BACKENDS, new_database
from tests.examples import some
from tests.making import SECOND, START, priced, request

CITIES = ["Paris", "Rome", "Oslo"]
WORDS = {
    "model": ["gpt-4o", "gpt-4o-mini", "o_3", "GPT-4O", "claude"],
    "provider": ["openai", "azure"],
    "user": ["ann", "Ann", "bob", "a*b", "x y"],
    "session": ["s1", "s2"],
    "route": ["/chat/{id}", "/search", "/search/[x]"],
    "operation": ["chat", "embeddings"],
    "finish": ["stop", "length", "tool_calls"],
    "error": ["rate_limit", "timeout"],
    "release": ["1.0", "1.1"],
    "name": ["plan", "answer"],
    "caller": ["app/bot.py", "bot.py", "app/bot.py:12", "app/bot.py:12 ask"],
}
CALLERS = ["app/bot.py:12 ask", "lib/bot.py:3 run", "x.py:1 f"]
PATTERNS = ["*", "gpt*", "*o*", "a*", "*[x]", "/search*", "app/*"]


def maybe(dice: random.Random, values: list[str]) -> str | None:
    return dice.choice([None, *values])


def some_requests() -> list[Request]:
    """A hundred that differ in all that can be searched for, with gaps everywhere."""
    dice, made = random.Random(11), []
    for number in range(100):
        status = dice.choice([200, 200, 429, 500, None])
        sent = dice.choice([None, 10, 20_000])
        usage = None if sent is None else Usage(input_tokens=sent, output_tokens=dice.choice([5, 900]),
                                                cache_read=dice.choice([0, 8, None]))  # fmt: skip
        made.append(
            request(
                f"Where is {dice.choice(CITIES)}?", f"{dice.choice(CITIES)}, of course",
                start_ns=START + number * SECOND, duration_ns=dice.choice([None, SECOND // 2, 2 * SECOND, 3 * SECOND]),
                status=status, outcome="ok" if status == 200 else dice.choice(["error", "cancelled", "running"]),
                request_model=dice.choice(WORDS["model"]), provider=dice.choice(WORDS["provider"]),
                session_id=maybe(dice, WORDS["session"]), user_id=maybe(dice, WORDS["user"]),
                route=maybe(dice, WORDS["route"]), operation=dice.choice(WORDS["operation"]),
                error_type=maybe(dice, WORDS["error"]), release=maybe(dice, WORDS["release"]),
                name=dice.choice(WORDS["name"]), caller=maybe(dice, CALLERS),
                finish_reasons=dice.choice([(), ("stop",), ("length",), ("stop", "tool_calls")]),
                cost=priced(dice.choice(["0.01", "0.2", "3"])) if dice.random() < 0.8 else Cost(reason="unknown"),
                usage=usage, usage_raw=None, first_token_ns=dice.choice([None, SECOND // 4]),
                stream=dice.random() < 0.5, tools=({"name": "t"},) if dice.random() < 0.3 else (),
                properties={name: value for name, value in (
                    (dice.choice(["Env", "env"]), dice.choice(["dev", "prod"])), ("City", dice.choice(CITIES))
                ) if dice.random() < 0.6},
                attempt=dice.choice([1, 1, 2]),
            )
        )  # fmt: skip
    return made


RECORDS = some_requests()
COLUMN = {column.name: place for place, column in enumerate(SpanRow.__table__.columns)}  # type: ignore[attr-defined]
ROWS = {record.id: encode(record, key).span for key, record in enumerate(RECORDS)}
TEXTS = {record.id: f"{record.messages[0].parts[0].content} {record.text}" for record in RECORDS}


def stored(record: Request, column: str) -> Any:
    return ROWS[record.id][COLUMN[column]]


def like(value: str | None, term: Term) -> bool:
    if value is None:
        return False
    if term.op == "=" or "*" not in term.value:
        return value == term.value
    return fnmatchcase(value, term.value.replace("[", "[[]").replace("?", "[?]"))


FIELDS = {
    "model": ("request_model", "response_model"), "provider": ("provider",), "user": ("user_id",),
    "session": ("session_id",), "route": ("route",), "operation": ("operation",), "error": ("error_type",),
    "release": ("release",), "name": ("name",), "id": ("id", "request_id", "response_id", "provider_request_id"),
}  # fmt: skip
NUMBERS = {
    "cost": ("cost", Decimal(10**12)), "latency": ("duration_ns", Decimal(10**9)),
    "ttft": ("first_token_ns", Decimal(10**9)), "input": ("input_tokens", Decimal(1)),
    "output": ("output_tokens", Decimal(1)), "cached": ("cache_read", Decimal(1)), "attempts": ("attempts", Decimal(1)),
}  # fmt: skip
COMPARE = {":": lambda a, b: a == b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "<": lambda a, b: a < b,
           "<=": lambda a, b: a <= b}  # fmt: skip
HAS = {
    "tools": lambda r: bool(r.tools), "error": lambda r: r.error_type is not None or r.outcome == "error",
    "price": lambda r: stored(r, "cost") is not None, "session": lambda r: r.session_id is not None,
    "user": lambda r: r.user_id is not None, "status": lambda r: r.status is not None,
    "usage": lambda r: stored(r, "input_tokens") is not None, "ttft": lambda r: r.first_token_ns is not None,
    "truncated": lambda r: "length" in r.finish_reasons, "finish": lambda r: bool(r.finish_reasons),
    "cache": lambda r: (stored(r, "cache_read") or 0) > 0, "route": lambda r: r.route is not None,
}  # fmt: skip


def holds(term: Term, record: Request) -> bool:
    """Whether one condition is true of a record, by a reading that knows nothing of databases."""
    if term.key in FIELDS:
        return any(like(stored(record, column), term) for column in FIELDS[term.key])
    if term.key in NUMBERS:
        column, unit = NUMBERS[term.key]
        value = stored(record, column)
        return value is not None and COMPARE[term.op](value, int(Decimal(term.value.removesuffix("s")) * unit))
    if term.key == "tokens":
        sent, got = stored(record, "input_tokens"), stored(record, "output_tokens")
        return sent is not None and COMPARE[term.op](sent + got, int(term.value))
    if term.key == "status":
        if term.op != ":" or term.value.isdigit():
            return record.status is not None and COMPARE[term.op](record.status, int(term.value))
        if term.value.endswith("xx"):
            return record.status is not None and record.status // 100 == int(term.value[0])
        return record.outcome == term.value
    if term.key == "property":
        values = [value for name, value in record.properties.items() if name.casefold() == term.label.casefold()]
        return any(like(value, term) for value in values)
    if term.key == "finish":
        return any(like(reason, term) for reason in record.finish_reasons)
    if term.key == "caller":
        caller = record.caller or ""
        file = caller.rpartition(":")[0]
        return bool(caller) and (
            any(like(each, term) for each in (caller, file, caller.partition(" ")[0]))
            or file.endswith(f"/{term.value}") or (term.value == "*")
        )  # fmt: skip
    if term.key == "stream":
        return record.stream is (term.value == "yes")
    if term.key == "has":
        return HAS[term.value](record)
    words = "".join(letter if letter.isalnum() else " " for letter in TEXTS[record.id].casefold()).split()
    wanted = term.value.casefold().split()
    found = any(words[place : place + len(wanted)] == wanted for place in range(len(words)))
    return found and record.outcome != "running"


def meant(expression: Expression | None, record: Request) -> bool:
    match expression:
        case None:
            return True
        case Term():
            return holds(expression, record)
        case Not(item=item):
            return not meant(item, record)
        case And(items=items):
            return all(meant(item, record) for item in items)
        case Or(items=items):
            return any(meant(item, record) for item in items)


TERMS = st.one_of(
    st.sampled_from(sorted(set(WORDS) - {"caller"})).flatmap(
        lambda key: st.builds(Term, st.just(key), st.just(":"), st.sampled_from([*WORDS[key], "nobody", *PATTERNS]))
    ),
    st.builds(Term, st.just("caller"), st.just(":"), st.sampled_from([*WORDS["caller"], "*"])),
    st.builds(Term, st.just("user"), st.just("="), st.just("a*b")),
    st.builds(Term, st.just("status"), st.just(":"), st.sampled_from(["ok", "error", "running", "429", "4xx", "5xx"])),
    st.builds(Term, st.just("status"), st.sampled_from([">", "<="]), st.sampled_from(["200", "429"])),
    st.builds(Term, st.just("cost"), st.sampled_from(list(COMPARE)), st.sampled_from(["0.01", "0.2", "1"])),
    st.builds(Term, st.sampled_from(["latency", "ttft"]), st.sampled_from(list(COMPARE)),
              st.sampled_from(["0.25s", "0.5s", "2s"])),
    st.builds(Term, st.sampled_from(["tokens", "input", "output", "cached", "attempts"]),
              st.sampled_from(list(COMPARE)), st.sampled_from(["1", "8", "15", "900", "20000"])),
    st.builds(Term, st.just("property"), st.just(":"), st.sampled_from(["dev", "prod", "Paris", "p*", "*", "Ro*"]),
              st.sampled_from(["env", "ENV", "City", "none"])),
    st.builds(Term, st.just("has"), st.just(":"), st.sampled_from(list(HAS))),
    st.builds(Term, st.just("stream"), st.just(":"), st.sampled_from(["yes", "no"])),
    st.builds(Term, st.just("id"), st.just(":"), st.sampled_from([RECORDS[3].id, f"req_{RECORDS[5].id}", "nothing"])),
    st.builds(Term, st.just("text"), st.just(":"), st.sampled_from(["paris", "of course", "course of", "oslo"])),
)  # fmt: skip


def grown(smaller: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    several = st.lists(smaller, min_size=2, max_size=3)
    return st.one_of(
        several.map(lambda items: both(items) or items[0]),
        several.map(lambda items: either(items) or items[0]),
        smaller.map(lambda item: item.item if isinstance(item, Not) else Not(item)),
    )


EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(TERMS, grown, max_leaves=6)


@pytest.fixture(scope="module", params=BACKENDS)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with new_database(request.param, tmp_path_factory.mktemp("search"), request) as url:
        made = Database(url)
        Sink(made).write(RECORDS)
        yield made
        made.dispose()


@given(EXPRESSIONS)
def test_what_is_written_is_read_again(expression: Expression) -> None:
    """An expression in the language is that expression, and the filter of an address is that filter."""
    text = written(expression)
    flt = Filter.from_query([("q", text)])

    assert parsed(text) == expression
    assert Filter.from_query(flt.to_query()) == flt
    assert Filter.from_query([("q", flt.search)]).search == flt.search


def ids(db: Database, flt: Filter) -> set[str]:
    found, cursor = set(), None
    while True:
        page = list_requests(db, flt, cursor=cursor, limit=40)
        found |= {row.id for row in page.rows}
        cursor = page.next_cursor
        if cursor is None:
            return found


def compare(filled: Database, expression: Expression) -> None:
    flt = Filter.from_query([("q", written(expression))])
    expected = {record.id for record in RECORDS if meant(expression, record)}
    ranked = list_requests(filled, flt, limit=500, sort="cost")

    assert ids(filled, flt) == expected, written(expression)
    assert {row.id for row in ranked.rows} == expected and ranked.sorted_within is None
    costs = [row.cost_usd for row in ranked.rows]
    assert costs == sorted(costs, key=lambda cost: -1 if cost is None else cost, reverse=True)


FEW = settings(max_examples=some(0.3), suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(FEW, max_examples=150)


@given(expression=EXPRESSIONS)
@FEW
def test_a_search_finds_what_it_says(filled: Database, expression: Expression) -> None:
    """Any mix of and, or and not gives the very records that a plain reading gives, in any order."""
    compare(filled, expression)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bounded", [False, True])
@given(expression=EXPRESSIONS)
@MANY
def test_many_searches_find_what_they_say(filled: Database, bounded: bool, expression: Expression) -> None:
    """The same many times, also where slices are small and nothing is few."""
    with pytest.MonkeyPatch.context() as patch:
        if bounded:
            patch.setattr(paging, "SLICE", 15)
            patch.setattr(select, "FEW", 0)
        compare(filled, expression)


SEARCHES = (
    "", "model:gpt-4o*", "-user:*", "status:>=400 -has:price", "(paris OR env:dev) -route:/search*",
    'user:="a*b" OR user:"x y"', "tokens:>10k latency:0.5s..2s", '-(status:ok OR "of course") has:user',
)  # fmt: skip


@pytest.mark.parametrize("search", SEARCHES)
def test_page_twin_and_command_line_agree(
    filled: Database, search: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same search gives the same ids wherever it is written."""
    expected = {record.id for record in RECORDS if meant(parsed(search), record)}
    visitor = Visitor(Admin(database=filled, auth=lambda request: True, environ={}))
    monkeypatch.setenv("LLMOBS_DATABASE_URL", filled.url)
    query = f"limit=200&q={quote(search)}"
    page, twin = read(visitor.get(f"/requests?{query}").text), visitor.get(f"/requests.json?{query}").json
    code = cli.main(["requests", "--json", "--limit", "1000", "--", search])
    printed = {json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()}

    assert (set(page.rows()), {row["id"] for row in twin["rows"]}, printed, code) == (expected, expected, expected, 0)
