"""Filters: what a query means, back to a query, and in words."""

import pytest

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.filters.expression import Term
from asgi_llmobs.filters.moments import LATEST_NS

NOW = 1_800_000_000_000_000_000


def read(*items: tuple[str, str]) -> Filter:
    return Filter.from_query(items, project="p", now_ns=NOW)


def test_every_field() -> None:
    """Repeated names are alternatives, all names are required."""
    found = read(
        ("model", "gpt-4o"), ("model", "claude-*"), ("status", "ERROR"), ("status", "429"), ("status", "5xx"),
        ("user", "u1"), ("property.Environment", "prod"), ("q", 'two "and more"'), ("since", "24h"),
        ("min_cost", "0.5"), ("max_latency", "3"), ("kind", "llm"), ("provider", ""), ("session", " s "),
    )  # fmt: skip

    assert found == Filter(
        project="p", model=("gpt-4o", "claude-*"), status=("error", "429", "5xx"), user=("u1",), session=("s",),
        properties=(("Environment", "prod"),), text='two "and more"', since="24h", since_ns=NOW - 86_400 * 10**9,
        min_cost=0.5, max_latency=3.0, kind=("llm",),
    )  # fmt: skip


def test_round_trip() -> None:
    """A filter's query means the same filter."""
    found = read(
        ("model", "a"), ("model", "b*"), ("property.A b", "x=y&z"), ("property.A b", ""), ("q", "ünï"),
        ("since", "2026-01-02T03:04:05.678901+02:00"), ("until", "1799999999"), ("max_cost", "0.000001"),
        ("trace", "ABC"), ("route", "/x/{id}"), ("operation", "chat"),
    )  # fmt: skip

    assert read(*found.to_query()) == found
    assert ("property.A b", "") in found.to_query()


def test_moments_without_words_survive_the_round_trip() -> None:
    """A filter made in code, without what its times were written as, gives times that mean the same."""
    found = Filter(project="p", since_ns=NOW - 5_000_000_000, until_ns=NOW + 1_234_000)

    again = read(*found.to_query())
    assert (again.since_ns, again.until_ns) == (found.since_ns, found.until_ns)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("25m", NOW // 10**9 - 1500),
        ("7d", NOW // 10**9 - 604_800),
        ("1700000000", 1_700_000_000),
        ("1700000000000", 1_700_000_000),
        ("2023-11-14T22:13:20", 1_700_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000),
        ("2023-11-15T00:13:20+02:00", 1_700_000_000),
        ("2023-11-14", 1_699_920_000),
        ("999999999w", 0),
        ("9999-12-31", LATEST_NS / 10**9),
    ],
)
def test_times(text: str, seconds: float) -> None:
    """ISO with and without zone, seconds and milliseconds since 1970, and so long ago."""
    assert read(("since", text)).since_ns == (LATEST_NS if text.startswith("9999-") else int(seconds) * 10**9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("colour", "red"),
        ("status", "fine"),
        ("status", "600"),
        ("status", "6xx"),
        ("kind", "robot"),
        ("since", "someday"),
        ("since", "2026-13-01"),
        ("until", "٣m"),
        ("min_cost", "much"),
        ("max_cost", "nan"),
        ("max_latency", "-1"),
        ("property.", "x"),
        ("q", "x" * 5_000),
    ],
)
def test_what_is_not_understood_is_named(name: str, value: str) -> None:
    """A wrong name or value is an error that names the field, never an empty list."""
    with pytest.raises(FilterError) as caught:
        read((name, value))

    assert caught.value.field == name
    assert str(caught.value).startswith(f"{name}: ")


def test_impossible_range() -> None:
    """A range that ends before it begins is an error."""
    with pytest.raises(FilterError, match="until"):
        read(("since", "1h"), ("until", "2h"))


def test_too_many_values() -> None:
    """A query cannot be made so long that the database suffers."""
    with pytest.raises(FilterError, match="at most"):
        read(*[("model", str(number)) for number in range(200)])


def test_words() -> None:
    """What a person reads; nothing where everything is meant."""
    found = read(
        ("model", "a"), ("model", "b"), ("property.Env", "x"), ("property.Env", "y"), ("q", "Paris"), ("since", "24h"),
        ("until", "2028-01-01"), ("min_cost", "0.5"),
    )  # fmt: skip

    assert found.words() == (
        "model a or b, Env = x or y, containing “Paris”, in the last 24 hours, until 2028-01-01T00:00:00Z, "
        "costing at least $0.5"
    )
    assert Filter().words() == ""


SAME = {
    "model:gpt-4o status:error": [("model", "gpt-4o"), ("status", "error")],
    "user:(a OR b) -env:dev": [("user", "a"), ("user", "b"), ("q", "-property.env:dev")],
    "Feature:chat": [("property.Feature", "chat")],
    'property."A b":"c d" Paris': [("property.A b", "c d"), ("q", "Paris")],
    "cost:0.01..$2 latency:350ms..": [("min_cost", "0.01"), ("max_cost", "2"), ("min_latency", "0.35")],
    'time:2026-01-01..2026-02-01 since2 "x y"': [
        ("q", 'since2 "x y"'),
        ("since", "2026-01-01"),
        ("until", "2026-02-01"),
    ],
    "duration:>1m tokens:>=1.5k": [("q", "latency:>60s tokens:>=1500")],
    "NOT (a AND b) --c": [("q", "c -(a b)")],
    "finish:length": [("finish", "length")],
    'user:="a*"': [("user", "a*")],
    "example.com 12:30 https://x.y/z": [("q", 'example.com "12:30" "https://x.y/z"')],
    "()": [],
}


@pytest.mark.parametrize("search", SAME)
def test_a_search_and_an_address_mean_the_same(search: str) -> None:
    """What the language says and what parameters say is one filter."""
    assert read(("q", search)) == read(*SAME[search])


WRONG = """
modle:x       | modle  | 0 | did you mean model
a status:eror | status | 2 | did you mean error
has:tols      | has    | 0 | did you mean tools
cost:much     | cost   | 0 | not a number
tokens:1.5    | tokens | 0 | whole number
user:>5       | user   | 0 | no order
model.x:1     | model  | 0 | property.model.x
score:1       | score  | 0 | score.<Name>
score.a:>good | score  | 0 | not a number
cost:..       | cost   | 0 | at least one end
a OR          | q      | 0 | both sides
a AND         | q      | 2 | both sides
a -(          | q      | 3 | without its )
a)            | q      | 1 | without its (
b "a          | q      | 2 | without its second
user:(a b)    | user   | 5 | write OR
a -since:1h   | since  | 3 | whole search
since:1h OR a | since  | 0 | whole search
"""


def refused(search: str) -> FilterError:
    """The error that *search* ends in."""
    with pytest.raises(FilterError) as caught:
        read(("q", search))
    return caught.value


@pytest.mark.parametrize("line", WRONG.strip().splitlines())
def test_what_is_wrong_with_a_search_is_said(line: str) -> None:
    """The key, the place, and what to write instead."""
    search, field, position, hint = (part.strip() for part in line.split("|"))
    error = refused(search)

    assert (error.field, error.position) == (field, int(position)) and hint in str(error)


def test_how_large_a_search_may_be() -> None:
    """So deep, so many words, so many stars; a dash alone is a word."""
    deep = refused("(" * 30 + "a" + ")" * 30)
    assert (deep.field, deep.position) == ("q", 20) and "at most 20" in str(deep)
    many = refused(" ".join(f"a{number}" for number in range(101)))
    assert many.field == "q" and "at most 100" in str(many)
    stars = refused("user:" + "*" * 9)
    assert (stars.field, stars.position) == ("user", 0) and "at most 8" in str(stars)
    assert read(("q", "-")).text == '"-"'


def test_a_value_is_chosen_and_left_again() -> None:
    """Facets change the one filter that bar and address are made of."""
    flt = read(("q", "model:o3 Env:dev -user:x"))

    both = flt.toggled("model", "gpt-4o").toggled("property", "prod", "ENV")
    assert both.search == "model:(o3 OR gpt-4o) property.Env:(dev OR prod) -user:x"
    assert (
        both.toggled("model", "o3").toggled("property", "dev", "env").search == "model:gpt-4o property.ENV:prod -user:x"
    )
    assert flt.excluding(Term("model", ":", "o3")).search == "property.Env:dev -user:x -model:o3"
    assert flt.beyond_rollups == ("user", "property") and read(("model", "a")).beyond_rollups == ()
