"""Findings on both databases, each with an amount that was worked out by hand."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from asgi_llmobs.filters import Filter
from asgi_llmobs.pricing import Offer, Pricer, Rate, Rates
from asgi_llmobs.queries import insights as looking
from asgi_llmobs.queries.insights import calls_of, shared_beginning
from asgi_llmobs.queries.savings import Insight, insights
from asgi_llmobs.records import Attempt, Message, Part, Request, Usage
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, START, body, priced, request

PRICES = {"m-*": {"input": 2.0, "output": 8.0, "cache_read": 0.5}}  # dollars per million tokens
MINUTE = 60 * SECOND


def asked(text: str, *, tools: tuple[dict[str, Any], ...] = (), **given: Any) -> Request:
    """A call whose body, messages and tools say the same."""
    sent = {"model": "m-1", "messages": [{"role": "user", "content": text}], "tools": tools}
    values = {"request_model": "m-1", "response_model": "m-1", "request_body": body(sent), **given}
    made = request(text, **values)
    return replace(made, messages=(Message(role="user", parts=(Part(type="text", content=text),)),), tools=tools)


def found(database: Database, *calls: Request, pricer: Pricer | None = None, **flt: Any) -> dict[str, Insight]:
    Sink(database).write(list(calls))
    told = insights(database, Filter(**flt), pricer or Pricer(PRICES))
    assert len({each.kind for each in told.found}) == len(told.found)
    return {each.kind: each for each in told.found}


def test_asked_again(database: Database) -> None:
    """Three calls of $0.30 each with the same bytes: two of them, $0.60, need not have been."""
    calls = [asked("same", cost=priced("0.3"), start_ns=START + at * SECOND) for at in range(3)]
    calls += [asked("other", cost=priced("0.3")), asked("same", cost=priced("0.3"), outcome="error", status=500)]
    told = found(database, *calls)

    assert (told["repeated"].amount, told["repeated"].calls) == (Decimal("0.6"), 3)
    assert "$0.9 × 2 / 3 = $0.6" in " ".join(told["repeated"].sums)
    key = {"key": told["repeated"].key, "provider": "openai", "model": "m-1"}
    rows = calls_of(database, Filter(), "repeated", **key)
    assert [row.id for row in rows] == [each.id for each in reversed(calls[:3])]


def test_a_beginning_that_is_not_cached(database: Database) -> None:
    """Four calls begin with the same 6,000 of 8,000 characters; two of them came in time.

    Of 2,000 tokens three quarters are 1,500; two warm calls save 2 × 1,500 × ($2 − $0.5) / million = $0.0045.
    """
    usage = Usage(input_tokens=2000, output_tokens=1, cache_read=0)
    times = (0, 4, 8, 60)  # minutes: the second and the third come within five minutes of the one before
    calls = [
        asked("x" * 5_995 + str(at) * 2_000, usage=usage, start_ns=START + minute * MINUTE)
        for at, minute in enumerate(times)
    ]
    cached = asked("x" * 5_995 + "y" * 2_000, usage=replace(usage, cache_read=1_000), start_ns=START + 61 * MINUTE)
    told = found(database, *calls, cached)["prefixes"]

    # the role and a line feed come first: 5 + 5,995 characters of 8,000
    assert told.amount == Decimal("0.0045") and told.calls == 5
    assert "2 × 1,500 × ($2.0 − $0.5) / million = $0.0045" in " ".join(told.sums)


def test_no_saving_where_nothing_is_known_of_caching(database: Database) -> None:
    """A model whose price list has no price for cached input gets no such finding."""
    calls = [asked("x" * 5_000 + str(at), start_ns=START + at) for at in range(3)]

    assert "prefixes" not in found(database, *calls, pricer=Pricer({"m-*": {"input": 2.0, "output": 8.0}}))


def test_cut_off(database: Database) -> None:
    """What was paid for answers that a limit cut off; without a price it is said, not zero."""
    cut = {"finish_reasons": ("length",)}
    calls = [asked("a", cost=priced("0.2"), **cut), asked("b", cost=priced("0.1"), **cut), asked("c", **cut)]
    calls[2] = replace(calls[2], cost=replace(calls[2].cost, amount=None, reason="no price"))
    told = found(database, *calls)["truncated"]

    assert (told.amount, told.calls) == (Decimal("0.3"), 3)
    assert "1 of the 3 calls have no price" in " ".join(told.sums)


def test_sent_again(database: Database) -> None:
    """Two attempts of 2 s before the last, one of which had usage and cost $0.05."""
    made = asked("a", attempt=3, cost=priced("0.4"))
    earlier = tuple(
        Attempt(
            request_id=made.id, number=number, start_ns=START, duration_ns=2 * SECOND, outcome="error", status=500,
            cost_usd=cost,
        )
        for number, cost in ((1, None), (2, Decimal("0.05")))
    )  # fmt: skip
    told = found(database, replace(made, attempts=earlier))["retries"]

    assert (told.amount, told.calls) == (Decimal("0.05"), 1)
    assert "2 attempts before the last took 4.0 s" in " ".join(told.sums)
    key = {"key": 0, "provider": "openai", "model": "m-1"}
    assert [row.id for row in calls_of(database, Filter(), "retries", **key)] == [made.id]


def test_much_room_for_tools(database: Database) -> None:
    """10,000 bytes of tools are 2,500 tokens; 2 calls, half from the cache: 2 × 2,500 × $1.25 / million = $0.00625."""
    tools = ({"name": "t", "description": "x" * (10_000 - len('[{"name":"t","description":""}]'))},)
    usage = Usage(input_tokens=4_000, output_tokens=1, cache_read=2_000)
    calls = [asked(str(at), tools=tools, usage=usage, start_ns=START + at * 3_600 * SECOND) for at in range(2)]
    small = asked("x", tools=tools, usage=Usage(input_tokens=100_000, output_tokens=1), start_ns=START + 9 * MINUTE)
    told = found(database, *calls, small)["tools"]

    assert (told.amount, told.calls, told.key) == (Decimal("0.00625"), 2, 10_000)
    assert "2 × 2,500 × $1.25 / million = $0.00625" in " ".join(told.sums)


def test_nobody_waited(database: Database) -> None:
    """What was paid for streams that were left."""
    calls = [asked(word, outcome=word, cost=priced("0.01")) for word in ("cancelled", "abandoned", "ok")]

    assert found(database, *calls)["gone"].amount == Decimal("0.02")


class Listed(Pricer):
    """A price list of two providers: mine at $2 and $8, another at a tenth less or a hundredth less."""

    def __init__(self, factor: str) -> None:
        super().__init__()
        self.factor = Decimal(factor)

    def at(self, factor: Decimal) -> Rates:
        return Rates(
            {name: Rate(Decimal(price) * factor) for name, price in (("input_uncached", 2), ("output_text", 8))}
        )

    def rates(self, provider: str, model: str, time_ns: int) -> Rates:
        return self.at(Decimal(1))

    def offers(self, provider: str, model: str, time_ns: int) -> list[Offer]:
        return [Offer("Elsewhere", f"maker/{model}", self.at(self.factor)), Offer("Dear", model, self.at(Decimal(3)))]


def test_sold_for_less(database: Database) -> None:
    """1,000 in and 500 out are $0.006 here; a tenth less is $0.0006 less; a hundredth less is not worth a word."""
    call = asked("a", usage=Usage(input_tokens=1_000, output_tokens=500))
    told = found(database, call, pricer=Listed("0.9"))["cheaper"]

    assert (told.amount, told.calls) == (Decimal("0.0006"), 1)
    assert "Elsewhere sells maker/m-1" in " ".join(told.sums)
    assert "cheaper" not in found(database, pricer=Listed("0.99"))


def test_offers_have_the_same_name() -> None:
    """Of the price library: never a reseller, never the provider itself, and the name to the letter."""
    seen = 0
    for model in ("openai/gpt-oss-120b", "llama-3.3-70b-versatile", "qwen/qwen3-32b"):
        for offer in Pricer().offers("groq", model, START):
            seen += 1
            assert offer.model.rsplit("/")[-1].lower() == model.rsplit("/")[-1] and offer.rates.rates
            assert not offer.provider.lower().startswith(("openrouter", "groq", "hugging"))
    assert seen and Pricer({"qwen/*": {"input": 1}}).offers("groq", "qwen/qwen3-32b", START) == []


def test_of_one_project_and_time(database: Database) -> None:
    """Neither others' calls nor earlier ones are looked at."""
    theirs = [asked("same", project="theirs", cost=priced("0.3")) for _ in range(2)]
    early = [asked("same", cost=priced("0.3"), start_ns=START - 10 * MINUTE) for _ in range(2)]

    assert found(database, *theirs, *early, since_ns=START - MINUTE) == {}


def test_never_more_than_so_many(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more requests than are looked at the newest are, and it is said."""
    monkeypatch.setattr(looking, "NEWEST", 3)
    Sink(database).write([asked("same", cost=priced("0.3"), start_ns=START + at) for at in range(5)])
    told = insights(database, Filter(), Pricer(PRICES))

    assert (told.looked_at, told.capped, told.found[0].amount) == (3, True, Decimal("0.6"))


@pytest.mark.parametrize(
    ("texts", "same"),
    [(["x" * 5_000 + "a", "x" * 5_000 + "b"], 5_000), (["x" * 5_000, "x" * 6_000], 5_000), (["a", "b"], 4_096)],
)
def test_shared_beginning(texts: list[str], same: int) -> None:
    """As far as all of them are alike; no less than their fingerprint stands for."""
    assert shared_beginning(texts) == same
