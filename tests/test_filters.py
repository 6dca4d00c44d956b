"""Filters: what a query means, back to a query, and in words."""

import pytest

from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter

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
        ("9999-12-31", (2**63 - 1) / 10**9),
    ],
)
def test_times(text: str, seconds: float) -> None:
    """ISO with and without zone, seconds and milliseconds since 1970, and so long ago."""
    assert read(("since", text)).since_ns == (2**63 - 1 if text.startswith("9999-") else int(seconds) * 10**9)


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
