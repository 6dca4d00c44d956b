"""What a request cost: reported by the provider, priced by the user, or by the price library.

A price is never guessed: whatever cannot be priced has no amount and the reason in words.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from asgi_llmobs.errors import ConfigError
from asgi_llmobs.records import Cost, CostLine, Reading, Usage

__all__ = ["Known", "Offer", "Pricer", "Rate", "Rates", "catalogued"]

MILLION = Decimal(1_000_000)
CACHE_SIZE = 4_096
SLOT = 900  # seconds: some prices change with the time of day, on quarters of an hour

# our names to those of genai-prices, where they differ
PROVIDERS = {
    "aws_bedrock": "aws",
    "vertexai": "google",
    "xai": "x-ai",
    "moonshot": "moonshotai",
    "voyage": "voyageai",
    "zhipu": "zhipuai",
}
# who sells what others serve, or for a subscription: what it costs there is not the price of the model
RESELLERS = ("cursor", "github-copilot", "huggingface", "openrouter", "quicksilverpro")
# who makes a model that an unknown host serves: its list price is not known to hold there
UNKNOWN = frozenset(("unknown", ""))

# the price keys of a bucket, the most specific first: without a price of its own it is priced like what it is part of
BUCKETS: Mapping[str, tuple[str, ...]] = {
    "input_uncached": ("input_mtok", "input_text_mtok"),
    "cache_read": ("cache_read_mtok", "cache_text_read_mtok", "input_mtok", "input_text_mtok"),
    "cache_write": ("cache_write_mtok", "cache_write_5m_mtok", "cache_text_write_mtok", "input_mtok"),
    "cache_write_5m": ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
    "cache_write_1h": ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    "audio_input": ("input_audio_mtok", "input_mtok"),
    "image_input": ("input_image_mtok", "input_mtok"),
    "output_text": ("output_mtok", "output_text_mtok"),
    "reasoning": ("output_reasoning_mtok", "output_mtok"),
    "audio_output": ("output_audio_mtok", "output_mtok"),
    "image_output": ("output_image_mtok", "output_mtok"),
}
# the names of an override, and what a bucket falls back to
OWN: Mapping[str, tuple[str, ...]] = {
    "input_uncached": ("input",),
    "cache_read": ("cache_read", "input"),
    "cache_write": ("cache_write", "input"),
    "cache_write_5m": ("cache_write_5m", "cache_write", "input"),
    "cache_write_1h": ("cache_write_1h", "cache_write", "input"),
    "audio_input": ("audio_input", "input"),
    "image_input": ("image_input", "input"),
    "output_text": ("output",),
    "reasoning": ("reasoning", "output"),
    "audio_output": ("audio_output", "output"),
    "image_output": ("image_output", "output"),
}
OWN_NAMES = tuple(dict.fromkeys(label for labels in OWN.values() for label in labels))

DATE_SUFFIX = re.compile(r"[-@](?:20\d{2}-?\d{2}-?\d{2}|\d{4})(?=$|:)")
FINE_TUNED = re.compile(r"^ft:([^:]+)")
BEDROCK_REGION = re.compile(r"^(?:us|eu|apac|ap|au|jp|ca|sa|global|us-gov)\.(?=[a-z])")
BEDROCK_VERSION = re.compile(r"-v\d+(?::\d+)?(?::\d+k)?$")
ARN = re.compile(r"^arn:[^:]*:bedrock:[^/]*/(.+)$")
TIERS = {"auto": "default", "standard": "default", "standard_only": "default"}


@dataclass(frozen=True, slots=True)
class Override:
    """One price of the user's own."""

    pattern: re.Pattern[str]
    name: str
    provider: str | None
    since: date
    prices: Mapping[str, Decimal]


class Rate(NamedTuple):
    """The price of a bucket per million tokens, and from how many input tokens on it is another."""

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()

    def at(self, input_tokens: int) -> Decimal:
        """The rate that holds for a request of so many input tokens."""
        rate = self.base
        for start, price in self.tiers:
            if input_tokens > start:
                rate = price
        return rate


class Rates(NamedTuple):
    """All a model's rates by bucket, or the reason why there are none."""

    rates: Mapping[str, Rate]
    fee: Decimal | None = None  # for a thousand requests
    source: str | None = None
    price_date: str | None = None
    reason: str | None = None


class Offer(NamedTuple):
    """A model at another provider."""

    provider: str
    model: str
    rates: Rates


class Pricer:
    """Turns usage into dollars.

    Args:
        prices: Own prices by model pattern (``*`` stands for anything), in dollars per million tokens:
            ``{"my-model*": {"input": 1.0, "output": 2.0, "cache_read": 0.1, "from": "2026-01-01",
            "provider": "openai"}}``; several prices of one pattern as a list. The latest ``from`` that has come
            holds, and of several patterns the longest.

    Raises:
        ConfigError: A price cannot work; it names what to write instead.
    """

    def __init__(self, prices: Mapping[str, Any] | None = None) -> None:
        self._overrides = read_overrides(prices or {})

    def price(self, reading: Reading, start_ns: int, url_or_provider: str | None = None) -> Cost:
        """The price of what *reading* says.

        Args:
            reading: Provider, models, usage and service tier of an answer.
            start_ns: When the request began: prices change.
            url_or_provider: Its address, or the provider's name; helps where the reading names no provider.

        Returns:
            The amount with its lines, or no amount and the reason.
        """
        usage = reading.usage
        if usage is None:
            return Cost(reason="no usage")
        if usage.cost_usd is not None:
            return reported(usage)
        if usage.total_tokens is None:
            return Cost(reason=unpriced_units(usage))
        moment = slot(max(0, min(start_ns, 2**62)) // (SLOT * 1_000_000_000))
        models = [model for model in (reading.response_model, reading.request_model) if model]
        if not models:
            return Cost(reason="no model is named")
        own = self._own(reading, moment.date())
        if own is not None:
            return priced(usage, own)
        tier = tier_of(reading)
        place = provider_of(reading, url_or_provider)
        found = Rates({}, reason="no model is named")
        for model in models:
            found = library_rates(place, model, moment, tier)
            if found.reason is None:
                return priced(usage, found)
        return Cost(reason=found.reason)

    def rates(self, provider: str, model: str, time_ns: int) -> Rates:
        """The rates by bucket that hold for *model* at *provider*, or the reason why none are known.

        Args:
            provider: As in a record.
            model: As it was asked for.
            time_ns: When.
        """
        moment = slot(max(0, min(time_ns, 2**62)) // (SLOT * 1_000_000_000))
        reading = Reading(provider=provider, request_model=model)
        own = self._own(reading, moment.date())
        return own if own is not None else library_rates(provider_of(reading, None), model, moment, "default")

    def offers(self, provider: str, model: str, time_ns: int) -> list[Offer]:
        """Who else sells the very model that *provider* serves under the name *model*: for prices of the library only.

        The name must be the same to the letter, apart from the maker's name before a slash. Who resells what others
        serve, or sells it with a subscription, is left out.
        """
        moment = slot(max(0, min(time_ns, 2**62)) // (SLOT * 1_000_000_000))
        reading = Reading(provider=provider, request_model=model)
        if self._own(reading, moment.date()) is not None:
            return []
        return other_places(provider_of(reading, None), model, moment)

    def _own(self, reading: Reading, day: date) -> Rates | None:
        if not self._overrides:
            return None
        models = [model.lower() for model in (reading.request_model, reading.response_model) if model]
        for override in self._overrides:
            if override.since > day or override.provider not in (None, reading.provider):
                continue
            if any(override.pattern.fullmatch(model) for model in models):
                rates = by_bucket({label: Rate(price) for label, price in override.prices.items()}, OWN)
                since = override.since.isoformat() if override.since > date.min else None
                return Rates(rates, source="override", price_date=since)
        return None


@lru_cache(maxsize=64)
def slot(number: int) -> datetime:
    """The start of the slot of time with that number."""
    return datetime.fromtimestamp(number * SLOT, UTC)


def reported(usage: Usage) -> Cost:
    """The price that the provider itself names."""
    amount = Decimal(repr(usage.cost_usd))
    if not amount.is_finite() or amount < 0:
        return Cost(reason="the provider reports a cost that is no amount")
    return Cost(amount=amount, source="provider")


def unpriced_units(usage: Usage) -> str:
    if usage.search_units is not None:
        return "billed by search units, which have no price here"
    if usage.seconds is not None:
        return "billed by seconds, which have no price here"
    return "no usage"


def by_bucket(rates: Mapping[str, Rate], keys: Mapping[str, tuple[str, ...]]) -> dict[str, Rate]:
    """The rate of each bucket that has one, from *rates* under the names that *keys* gives, the first that is known."""
    found = {bucket: next((rates[key] for key in names if key in rates), None) for bucket, names in keys.items()}
    return {bucket: rate for bucket, rate in found.items() if rate is not None}


def priced(usage: Usage, found: Rates) -> Cost:
    """Each bucket of *usage* at its rate; the amount is exactly the sum of the lines."""
    lines = []
    whole = Decimal(0)
    size = usage.input_tokens or 0
    for bucket, tokens in usage.buckets().items():
        rate = found.rates.get(bucket)
        if rate is None:
            return Cost(reason=f"no price for {bucket} tokens", source=found.source)
        per_million = rate.at(size) if rate.tiers else rate.base
        amount = tokens * per_million / MILLION
        whole += amount
        lines.append(CostLine(bucket=bucket, tokens=tokens, per_million=per_million, amount=amount))
    if found.fee is not None:
        amount = found.fee / 1_000
        whole += amount
        lines.append(CostLine(bucket="request", tokens=1, per_million=found.fee * 1_000, amount=amount))
    return Cost(amount=whole, lines=tuple(lines), source=found.source, price_date=found.price_date)


def tier_of(reading: Reading) -> str:
    tier = (reading.service_tier or "default").lower()
    return TIERS.get(tier, tier)


def provider_of(reading: Reading, url_or_provider: str | None) -> str:
    """The price library's name for who answers: its id, or the address for it to know."""
    if reading.provider == "huggingface" and url_or_provider:
        return url_or_provider  # its address names who serves the model
    if reading.provider not in UNKNOWN:
        return PROVIDERS.get(reading.provider, reading.provider)
    return url_or_provider or ""


@lru_cache(maxsize=CACHE_SIZE)
def library_rates(place: str, model: str, moment: datetime, tier: str) -> Rates:
    """The library's rates of *model* at *place*, an id or an address, at that moment in that service tier."""
    from genai_prices.data_snapshot import find_provider_by_id, get_snapshot

    snapshot = get_snapshot()
    if "://" in place:
        provider = next((one for one in snapshot.providers if re.match(one.api_pattern, place)), None)
    else:
        provider = find_provider_by_id(snapshot.providers, place) if place else None
    if provider is None:
        return Rates({}, reason=f"no prices are known for {shown(place)}")
    for name in candidates(model, provider.id):
        found = provider.find_model(name, all_providers=snapshot.providers)
        if found is not None:
            break
    else:
        return Rates({}, reason=f"no price is known for {model[:100]} at {provider.id}")
    context = {"service_tier": tier} if tier != "batch" else {"processing": "batch"}
    variants = found.price_variants or ()
    known = {variant.when.get("service_tier") or variant.when.get("processing") for variant in variants}
    if tier in ("flex", "priority", "batch") and tier not in known and provider.id in ("openai", "azure"):
        return Rates({}, reason=f"no price is known for {model[:100]} in the service tier {tier}")
    prices = found.get_prices(moment, context)
    rates = {key: rate for key, value in vars(prices).items() if (rate := rate_of(value)) is not None}
    if not any(key.endswith("_mtok") for key in rates):
        return Rates({}, reason=f"{model[:100]} is not priced by tokens")
    fee = rates.get("requests_kcount")
    return Rates(
        by_bucket(rates, BUCKETS),
        fee=None if fee is None else fee.base,
        source=f"genai-prices {version('genai-prices')}",
        price_date=started(found.prices, moment),
    )


class Known(NamedTuple):
    """What the price library says of a model."""

    name: str | None
    deprecated: bool
    context_window: int | None  # tokens


@lru_cache(maxsize=CACHE_SIZE)
def catalogued(provider: str, model: str) -> Known | None:
    """What the price library knows of *model* at *provider*; ``None`` where it does not know it."""
    found = in_library(PROVIDERS.get(provider, provider), model)
    return None if found is None else Known(found.name, bool(found.deprecated), found.context_window)


def in_library(place: str, model: str) -> Any:
    """The library's entry of *model* at the provider with the library's id *place*; ``None`` where it has none."""
    from genai_prices.data_snapshot import find_provider_by_id, get_snapshot

    snapshot = get_snapshot()
    provider = find_provider_by_id(snapshot.providers, place) if place else None
    if provider is None:
        return None
    names = (provider.find_model(name, all_providers=snapshot.providers) for name in candidates(model, provider.id))
    return next((found for found in names if found is not None), None)


@lru_cache(maxsize=256)
def other_places(place: str, model: str, moment: datetime) -> list[Offer]:
    """The same model at other providers of the library."""
    from genai_prices.data_snapshot import get_snapshot

    known = in_library(place, model)
    found = []
    for other in get_snapshot().providers if known is not None else ():
        if other.id == place or other.id.startswith(RESELLERS):
            continue
        for one in other.models:
            if bare_name(one.id) == bare_name(known.id):
                rates = library_rates(other.id, one.id, moment, "default")
                if rates.reason is None:
                    found.append(Offer(other.name, one.id, rates))
    return found


def bare_name(model: str) -> str:
    return model.rsplit("/", 1)[-1].lower()


def shown(place: str) -> str:
    return (urlsplit(place).hostname or place)[:100] if place else "an unknown provider"


def rate_of(value: Any) -> Rate | None:
    if value is None:
        return None
    if isinstance(value, Decimal):
        return Rate(value)
    return Rate(value.base, tuple((tier.start, tier.price) for tier in value.tiers))


def started(prices: Any, moment: datetime) -> str | None:
    """Since when the price that holds at *moment* does, where the library says so."""
    if not isinstance(prices, list):
        return None
    for conditional in reversed(prices):
        if conditional.constraint is None or conditional.constraint.active(moment):
            since = getattr(conditional.constraint, "start_date", None)
            return since.isoformat() if since is not None else None
    return None


def candidates(model: str, provider: str) -> Iterable[str]:
    """The names under which the library may know *model*, the most exact first."""
    name = model.strip().lower()
    arn = ARN.match(name)
    if arn:
        name = arn[1]
    name = name.removeprefix("models/").removeprefix("publishers/google/models/")
    found = [name]
    tuned = FINE_TUNED.match(name)
    if tuned:
        found.append(tuned[1])
    if provider == "aws":
        bare = BEDROCK_REGION.sub("", name)
        found += [bare, BEDROCK_VERSION.sub("", bare)]
    if provider == "openrouter":
        found.append(name.split(":", 1)[0] if not name.endswith(":free") else name)
    elif "/" in name:
        found.append(name.rsplit("/", 1)[1])
    found += [DATE_SUFFIX.sub("", one) for one in found]
    return dict.fromkeys(found)


def read_overrides(prices: Mapping[str, Any]) -> list[Override]:
    """The user's prices, the longest pattern and the latest date first."""
    if not isinstance(prices, Mapping):
        raise ConfigError("prices", 'give a mapping such as {"my-model*": {"input": 1.0, "output": 2.0}}')
    found = [
        read_override(pattern, one)
        for pattern, given in prices.items()
        for one in (given if isinstance(given, list | tuple) else [given])
    ]
    found.sort(key=lambda override: (len(override.name), override.provider is not None, override.since), reverse=True)
    return found


def read_override(pattern: Any, given: Any) -> Override:
    if not isinstance(pattern, str) or not pattern.strip():
        raise ConfigError("prices", f"{pattern!r} is no model pattern; write a name such as gpt-4o or my-model*")
    if not isinstance(given, Mapping):
        raise ConfigError("prices", f'{pattern}: give a mapping such as {{"input": 1.0, "output": 2.0}}')
    values = dict(given)
    since = values.pop("from", None)
    provider = values.pop("provider", None)
    if provider is not None and not isinstance(provider, str):
        raise ConfigError("prices", f"{pattern}: provider is a name such as openai, not {provider!r}")
    for label in values:
        if label not in OWN_NAMES:
            known = ", ".join(OWN_NAMES)
            raise ConfigError("prices", f"{pattern}: there is no {label!r}; write {known}, from or provider")
    if not values:
        raise ConfigError("prices", f"{pattern}: name at least one price, e.g. input or output")
    text = ".*".join(re.escape(part) for part in pattern.strip().lower().split("*"))
    return Override(
        re.compile(text, re.DOTALL),
        pattern.strip(),
        provider,
        read_date(pattern, since),
        {label: read_price(pattern, label, value) for label, value in values.items()},
    )


def read_date(pattern: str, value: Any) -> date:
    if value is None:
        return date.min
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ConfigError("prices", f"{pattern}: from is a date such as 2026-01-31, not {value!r}") from None


def read_price(pattern: str, label: str, value: Any) -> Decimal:
    try:
        price = Decimal(str(value)) if not isinstance(value, bool) else Decimal("NaN")
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite() or price < 0:
        raise ConfigError("prices", f"{pattern}: {label} is dollars per million tokens, at least 0, not {value!r}")
    return price
