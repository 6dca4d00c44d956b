"""Prices: reported, overridden, from the library, or the reason why there is none."""

from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
import pytest

from asgi_llmobs.errors import ConfigError
from asgi_llmobs.pricing import Pricer, Rate, Rates, saved_by_cache
from asgi_llmobs.records import Cost, Reading, Usage

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 1_000_000_000


def cost(usage: Usage | None, provider: str = "openai", model: str | None = "gpt-4o", *, prices=None, **more) -> Cost:
    reading = Reading(provider=provider, request_model=model, usage=usage, **more)
    return Pricer(prices).price(reading, NOW_NS)


def test_amount_is_the_sum_of_its_lines() -> None:
    """Every token is in one line, and the lines add up to the amount to the last digit."""
    usage = Usage(input_tokens=10_007, output_tokens=503, cache_read=9_842, reasoning=100)
    found = cost(usage)

    assert found.amount == sum(line.amount for line in found.lines)
    assert sum(line.tokens for line in found.lines) == 10_510
    # 165 x 2.5 + 9842 x 1.25 + 503 x 10 dollars a million
    assert found.amount == Decimal("0.017745")
    assert found.source == f"genai-prices {genai_prices.__version__}"
    assert "9,842 cache_read × $1.25/M" in found.formula


@pytest.mark.parametrize(
    ("provider", "model", "usage", "their_id", "theirs"),
    [
        ("openai", "gpt-4o-mini", {"input_tokens": 1234, "output_tokens": 99}, "openai", {}),
        ("openai", "text-embedding-3-small", {"input_tokens": 1234, "output_tokens": 0}, "openai", {}),
        (
            "anthropic",
            "claude-sonnet-4-5-20250929",
            {"input_tokens": 5000, "output_tokens": 10, "cache_read": 4000, "cache_write": 900},
            "anthropic",
            {"cache_read_tokens": 4000, "cache_write_tokens": 900},
        ),
        # above a tier every token has the tier's price
        ("vertexai", "gemini-2.5-pro", {"input_tokens": 300_000, "output_tokens": 10}, "google", {}),
        ("groq", "openai/gpt-oss-120b", {"input_tokens": 70, "output_tokens": 10}, "groq", {}),
        ("xai", "grok-4", {"input_tokens": 70, "output_tokens": 10}, "x-ai", {}),
        ("mistral", "mistral-large-latest", {"input_tokens": 70, "output_tokens": 10}, "mistral", {}),
    ],
)
def test_agrees_with_the_library(provider, model, usage, their_id, theirs) -> None:
    """Our lines give what the library's own calculation gives."""
    expected = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"], **theirs),
        model,
        provider_id=their_id,
        genai_request_timestamp=NOW,
    )

    assert cost(Usage(**usage), provider, model).amount == expected.total_price


@pytest.mark.parametrize(
    ("provider", "model", "same_as"),
    [
        ("openai", "gpt-4o-2024-08-06", ("openai", "gpt-4o")),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc123", ("openai", "ft:gpt-4o-mini-2024-07-18:other::zzz")),
        ("aws_bedrock", "us.anthropic.claude-opus-4-1-20250805-v1:0", ("anthropic", "claude-opus-4-1")),
        ("google", "models/gemini-2.5-flash", ("google", "gemini-2.5-flash")),
        ("openrouter", "anthropic/claude-sonnet-4.5", ("anthropic", "claude-sonnet-4-5")),
        ("azure", "gpt-4o-2024-08-06", ("openai", "gpt-4o")),
    ],
)
def test_names_of_one_model(provider, model, same_as) -> None:
    """Dates, regions, versions, prefixes and fine-tunes lead to the model's price."""
    usage = Usage(input_tokens=1000, output_tokens=1000)
    found = cost(usage, provider, model)

    assert found.amount is not None and found.amount > 0
    assert found.amount == cost(usage, *same_as).amount


def test_azure_deployment_is_priced_by_the_answering_model() -> None:
    """The name of a deployment says nothing, the model that answers does."""
    usage = Usage(input_tokens=1_000_000, output_tokens=0)

    assert cost(usage, "azure", "my-deployment").amount is None
    assert cost(usage, "azure", "my-deployment", response_model="gpt-4o-2024-08-06").amount == Decimal("2.5")


@pytest.mark.parametrize(
    ("usage", "provider", "model", "reason"),
    [
        (None, "openai", "gpt-4o", "no usage"),
        (Usage(), "openai", "gpt-4o", "no usage"),
        (Usage(input_tokens=1), "openai", "no-such-model", "no price is known for no-such-model at openai"),
        (Usage(input_tokens=1), "ollama", "llama3", "no prices are known for ollama"),
        (Usage(input_tokens=1), "unknown", "gpt-4o", "no prices are known for an unknown provider"),
        (Usage(input_tokens=1), "openai", None, "no model is named"),
        (Usage(search_units=1), "cohere", "rerank-v3.5", "billed by search units, which have no price here"),
        (Usage(cost_usd=float("nan")), "openrouter", "x/y", "the provider reports a cost that is no amount"),
    ],
)
def test_unknown_is_never_zero(usage, provider, model, reason) -> None:
    """What cannot be priced has no amount and says why."""
    found = cost(usage, provider, model)

    assert found.amount is None
    assert found.reason == reason


def test_unknown_host_is_named_without_its_path() -> None:
    """The reason names the host of an address that the library does not know."""
    reading = Reading(request_model="gpt-4o", usage=Usage(input_tokens=1))
    found = Pricer().price(reading, NOW_NS, "https://gateway.example/v1/chat/completions?key=abc")

    assert found.reason == "no prices are known for gateway.example"


def test_known_host_of_an_unnamed_provider() -> None:
    """An address that the library knows is enough."""
    reading = Reading(request_model="gpt-4o", usage=Usage(input_tokens=1_000_000))

    assert Pricer().price(reading, NOW_NS, "https://api.openai.com/v1/chat/completions").amount == Decimal("2.5")


def test_reported_cost_wins() -> None:
    """What the provider says it charges stands above any price list, also above the user's."""
    found = cost(
        Usage(input_tokens=10, output_tokens=10, cost_usd=0.00012345), "openrouter", "openai/gpt-4o",
        prices={"*": {"input": 1, "output": 1}},
    )  # fmt: skip

    assert (found.amount, found.source) == (Decimal("0.00012345"), "provider")


def test_what_is_charged_is_priced() -> None:
    """Cohere processes more than it charges."""
    processed = Usage(input_tokens=1_496, output_tokens=56, cache_read=1_392, billed_input=60, billed_output=27)
    plain = cost(Usage(input_tokens=60, output_tokens=27), "cohere", "command-a-03-2025")

    assert plain.amount
    assert cost(processed, "cohere", "command-a-03-2025") == plain


def test_service_tier() -> None:
    """A tier with a price of its own is priced by it, one without has none."""
    usage = Usage(input_tokens=1_000_000, output_tokens=0)

    assert cost(usage, service_tier="priority").amount == Decimal("4.25")
    assert cost(usage, service_tier="default").amount == Decimal("2.5")
    assert cost(usage, model="gpt-4-turbo", service_tier="flex").amount is None


def test_overrides_by_pattern_provider_and_date() -> None:
    """The longest pattern wins, then the provider's own, then the latest date that has come."""
    prices = {
        "*": {"input": 9, "output": 9},
        "my-*": [
            {"input": 1, "output": 2, "cache_read": "0.1", "from": "2026-01-01"},
            {"input": 5, "output": 5, "from": "2026-12-01"},
        ],
        "my-model": {"input": 7, "output": 7, "provider": "groq"},
    }
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000, cache_read=500_000)
    mine = cost(usage, "openai", "MY-Model", prices=prices)

    assert mine.amount == Decimal("2.55")
    assert (mine.source, mine.price_date) == ("override", "2026-01-01")
    assert cost(usage, "groq", "my-model", prices=prices).amount == Decimal("14")
    assert cost(usage, "openai", "another", prices=prices).amount == Decimal("18")


def test_override_lacks_a_price() -> None:
    """A bucket without a price makes the whole unpriced, not cheaper."""
    found = cost(Usage(input_tokens=10, output_tokens=10), prices={"gpt-4o": {"input": 1}})

    assert (found.amount, found.reason) == (None, "no price for output_text tokens")


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ([], "give a mapping"),
        ({"": {"input": 1}}, "is no model pattern"),
        ({"m": 1}, "give a mapping such as"),
        ({"m": {}}, "name at least one price"),
        ({"m": {"prompt": 1}}, "there is no 'prompt'; write input, cache_read"),
        ({"m": {"input": "cheap"}}, "at least 0, not 'cheap'"),
        ({"m": {"input": -1}}, "at least 0, not -1"),
        ({"m": {"input": float("nan")}}, "at least 0"),
        ({"m": {"input": True}}, "at least 0"),
        ({"m": {"input": 1, "from": "soon"}}, "from is a date such as"),
        ({"m": {"input": 1, "provider": 3}}, "provider is a name"),
    ],
)
def test_wrong_override(prices, message) -> None:
    """A price that cannot work is refused at construction, with what to write instead."""
    with pytest.raises(ConfigError, match="^prices: ") as caught:
        Pricer(prices or [("m", 1)])

    assert message in str(caught.value)


def test_estimated_usage_is_priced() -> None:
    """An estimate has a price too; that it is one is said by the usage."""
    assert cost(Usage(input_tokens=1_000_000, output_tokens=0, estimated=True)).amount == Decimal("2.5")


def test_extreme_times() -> None:
    """A clock far off never breaks a price."""
    reading = Reading(provider="openai", request_model="gpt-4o", usage=Usage(input_tokens=1))

    for moment in (-1, 0, 2**63 - 1):
        assert Pricer().price(reading, moment).amount is not None


def test_what_a_cache_saved() -> None:
    """What was read from it is cheaper, what was written into it dearer; an unknown price makes no amount."""
    rate = Rate(Decimal(3), tiers=((200_000, Decimal(6)),))
    rates = Rates({"input_uncached": rate, "cache_read": Rate(Decimal("0.3")), "cache_write": Rate(Decimal("3.75"))})

    assert saved_by_cache(rates, {"cache_read": 1_000_000}) == Decimal("2.7")
    assert saved_by_cache(rates, {"cache_read": 1_000_000, "cache_write": 1_000_000}) == Decimal("1.95")
    assert saved_by_cache(rates, {"cache_write": 1_000_000}) == Decimal("-0.75")
    assert saved_by_cache(rates, {"cache_read": 1_000_000}, 300_000) == Decimal("5.7")
    assert saved_by_cache(rates, {"cache_write_1h": 5}) is None
    assert saved_by_cache(Rates({}), {"cache_read": 5}) is None
