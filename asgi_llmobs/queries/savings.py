"""What could be saved: the groups of :mod:`insights` as sentences, each with its amount and how that was reckoned."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from asgi_llmobs.filters import Filter
from asgi_llmobs.pricing import Pricer, Rates
from asgi_llmobs.queries.content import stored_requests
from asgi_llmobs.queries.insights import Group, Groups, groups_of, shared_beginning
from asgi_llmobs.queries.overview import Cell, overview
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.fingerprints import prompt_text
from asgi_llmobs.store.tables import SpanRow
from asgi_llmobs.store.values import dollars

__all__ = ["Insight", "Insights", "insights"]

MILLION = Decimal(1_000_000)
LONGEST = 400_000  # characters of a prompt that are compared
BYTES_A_TOKEN = 4
LEAST_CHEAPER = Decimal("0.05")  # a twentieth of what it costs now
SMALLEST = Decimal("0.000001")  # dollars
# a bucket of a rollup, and how the price list calls it
BUCKETS = (
    ("cache_read", "cache_read"),
    ("cache_write", "cache_write"),
    ("reasoning", "reasoning"),
)

spans: Any = SpanRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """One finding.

    ``amount`` is in dollars over the time that was looked at, ``None`` where prices are not known; ``sums`` is how it
    was reckoned, line by line.
    """

    kind: str  # repeated prefixes truncated retries tools gone cheaper
    key: int
    provider: str
    model: str
    calls: int
    amount: Decimal | None
    sums: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Insights:
    """All findings, the dearest of each kind first, and what they were found in."""

    found: Sequence[Insight]
    looked_at: int
    capped: bool
    made_ns: int


def insights(db: Database, flt: Filter, pricer: Pricer) -> Insights:
    """What could be saved in the filter's project and time.

    Raises:
        StoreError: The database cannot be read.
    """
    now = time.time_ns()
    groups = groups_of(db, flt)
    cells = overview(db, flt, bucket="range", by=("provider", "model"), shares=(), sketches=())
    found = [*told(db, groups, pricer, now), *cheaper(cells, pricer, now)]
    found = [each for each in found if each.amount is None or each.amount >= SMALLEST]
    found.sort(key=lambda each: (each.amount is None, -(each.amount or 0), -each.calls))
    return Insights(found=found, looked_at=groups.looked_at, capped=groups.capped, made_ns=now)


def told(db: Database, groups: Groups, pricer: Pricer, now: int) -> Iterator[Insight]:
    for group in groups.found:
        rates = pricer.rates(group.provider, group.model, now)
        if group.kind == "prefixes":
            amount, sums = of_prefix(group, rates, shared_share(db, group))
            if not sums:
                continue
        elif group.kind == "tools":
            amount, sums = of_tools(group, rates)
        else:
            amount, sums = PLAIN[group.kind](group)
        yield Insight(
            kind=group.kind, key=group.key, provider=group.provider, model=group.model, calls=group.calls,
            amount=amount, sums=sums,
        )  # fmt: skip


Reckoned = tuple[Decimal | None, list[str]]


def unpriced(group: Group) -> list[str]:
    """What to say of calls that have no price; nothing where all have one."""
    missing = group.calls - group.priced
    return [f"{missing} of the {group.calls} calls have no price and are in no sum."] if missing > 0 else []


def of_repeated(group: Group) -> Reckoned:
    cost = dollars(group.cost)
    if cost is None:
        return None, unpriced(group)
    amount = cost * (group.priced - 1) / group.priced
    return amount, [
        f"{group.priced} calls sent the same bytes to the same model and cost {exact(cost)} together.",
        f"One of them would have done: {exact(cost)} × {group.priced - 1} / {group.priced} = {exact(amount)}.",
        *unpriced(group),
    ]


def of_truncated(group: Group) -> Reckoned:
    cost = dollars(group.cost)
    answers = counted(group.calls, "answer")
    said = [f"A limit of tokens cut {answers} off, at a cost of {exact(cost)}."] if cost is not None else []
    return cost, [*said, *unpriced(group)]


def of_retries(group: Group) -> Reckoned:
    cost = dollars(group.cost)
    took = f"{group.time_ns / 1e9:,.1f} s"
    return cost, [
        f"{counted(group.calls, 'request')} sent again; {counted(group.more, 'attempt')} before the last took {took}.",
        f"Of these {group.priced} returned usage and cost {exact(cost)}."
        if cost is not None
        else "None of these attempts returned usage, so none is known to have cost anything but time.",
    ]


def of_gone(group: Group) -> Reckoned:
    cost = dollars(group.cost)
    answers = counted(group.calls, "answer")
    said = [f"{answers} not read to the end; what had come cost {exact(cost)}."] if cost is not None else []
    return cost, [*said, *unpriced(group)]


PLAIN = {"repeated": of_repeated, "truncated": of_truncated, "retries": of_retries, "gone": of_gone}


def of_prefix(group: Group, rates: Rates, share: Decimal | None) -> Reckoned:
    """A beginning that could have been read from the cache: what that costs less than sending it anew."""
    sent, read = rates.rates.get("input_uncached"), rates.rates.get("cache_read")
    if share is None or sent is None or read is None or sent.tiers or read.tiers or sent.base <= read.base:
        return None, []
    write = rates.rates.get("cache_write", sent)
    tokens = int(share * group.tokens / group.calls)
    cold = group.calls - group.more
    less = group.more * tokens * (sent.base - read.base) / MILLION
    extra = cold * tokens * max(Decimal(0), write.base - sent.base) / MILLION
    if less <= extra:
        return None, []
    sums = [
        f"{group.calls} calls begin alike. In the first and the last of them that is {share:.0%} of the prompt, about "
        f"{tokens:,} tokens.",
        f"{group.more} came within five minutes of the one before and read nothing from the cache: {group.more} × "
        f"{tokens:,} × (${sent.base} − ${read.base}) / million = {exact(less)}.",
    ]
    if extra:
        sums.append(
            f"Less what writing the cache costs for the other {cold}: {cold} × {tokens:,} × (${write.base} − "
            f"${sent.base}) / million = {exact(extra)}."
        )
    return less - extra, sums


def shared_share(db: Database, group: Group) -> Decimal | None:
    """Which part of the prompt the first and the last of the calls share; ``None`` where their texts are not stored."""
    with db.read() as connection:
        rows = connection.execute(select(spans).where(spans.c.key.in_((group.first, group.last)))).all()
        texts = [text for request in stored_requests(connection, rows) if (text := prompt_text(request, LONGEST))]
    if len(texts) < 2:
        return None
    return Decimal(shared_beginning(texts)) / max(len(text) for text in texts)


def of_tools(group: Group, rates: Rates) -> Reckoned:
    """What carrying the definitions of tools along costs."""
    tokens = group.key // BYTES_A_TOKEN
    said = [
        f"{group.calls} calls carried {group.key:,} bytes of tool definitions, about {tokens:,} tokens of the "
        f"{group.tokens // group.calls:,} that went in; {group.more} of them called a tool."
    ]
    sent, read = rates.rates.get("input_uncached"), rates.rates.get("cache_read")
    if sent is None or read is None or sent.tiers:
        return None, [*said, rates.reason or "Its price depends on how much is sent."]
    share = Decimal(group.cached) / group.tokens if group.tokens else Decimal(0)
    rate = (sent.base * (1 - share) + read.base * share).quantize(Decimal("0.0001"))
    amount = group.calls * tokens * rate / MILLION
    return amount, [
        *said,
        f"{share:.0%} of what went in came from the cache, so a million tokens cost ${rate.normalize():f}: "
        f"{group.calls} × {tokens:,} × ${rate.normalize():f} / million = {exact(amount)}.",
    ]


def cheaper(cells: Sequence[Cell], pricer: Pricer, now: int) -> Iterator[Insight]:
    """Models that another provider sells for at least a twentieth less, at the prices of now."""
    for cell in cells:
        provider, model = (str(part) for part in cell.key)
        mine = reckoned(cell, pricer.rates(provider, model, now))
        if not mine:
            continue
        offers = [(reckoned(cell, offer.rates), offer) for offer in pricer.offers(provider, model, now)]
        known = [(theirs, offer) for theirs, offer in offers if theirs is not None]
        best = min(known, key=lambda pair: pair[0], default=None)
        if best is None or mine - best[0] < mine * LEAST_CHEAPER:
            continue
        sums = [
            f"The {cell.requests} calls cost {exact(mine)} at the list prices of {provider}.",
            f"{best[1].provider} sells {best[1].model}, the same name to the letter: {exact(best[0])} for the same "
            f"tokens. {exact(mine)} − {exact(best[0])} = {exact(mine - best[0])}.",
            "Whether it is as fast, as precise and allowed for your data there, no price list says.",
        ]
        yield Insight(
            kind="cheaper", key=0, provider=provider, model=model, calls=cell.requests, amount=mine - best[0], sums=sums
        )


def reckoned(cell: Cell, rates: Rates) -> Decimal | None:
    """What the tokens of *cell* cost at these rates; ``None`` where a bucket has no plain price."""
    if rates.fee is not None or cell.input_tokens is None or cell.audio_input or cell.audio_output:
        return None
    if cell.image_input or cell.image_output:
        return None
    counts = {bucket: getattr(cell, field) for field, bucket in BUCKETS}
    counts["input_uncached"] = cell.input_tokens - cell.cache_read - cell.cache_write
    counts["output_text"] = (cell.output_tokens or 0) - cell.reasoning
    amount = Decimal(0)
    for bucket, tokens in counts.items():
        rate = rates.rates.get(bucket)
        if tokens <= 0:
            continue
        if rate is None or rate.tiers:
            return None
        amount += tokens * rate.base / MILLION
    return amount


def counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def exact(amount: Decimal | None) -> str:
    """Dollars with as many digits as it takes."""
    if amount is None:
        return "an unknown amount"
    return f"${amount:,.2f}" if amount >= 10 else f"${amount.quantize(SMALLEST).normalize():f}" if amount else "$0"
