"""The price library: which of its models is meant, what it costs there, and who else sells it."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from asgi_llmobs.pricing.rates import Offer, Rate, Rates, by_bucket

__all__ = ["PROVIDERS", "Known", "catalogued", "library_rates", "other_places"]

CACHE_SIZE = 4_096

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

DATE_SUFFIX = re.compile(r"[-@](?:20\d{2}-?\d{2}-?\d{2}|\d{4})(?=$|:)")
FINE_TUNED = re.compile(r"^ft:([^:]+)")
BEDROCK_REGION = re.compile(r"^(?:us|eu|apac|ap|au|jp|ca|sa|global|us-gov)\.(?=[a-z])")
BEDROCK_VERSION = re.compile(r"-v\d+(?::\d+)?(?::\d+k)?$")
ARN = re.compile(r"^arn:[^:]*:bedrock:[^/]*/(.+)$")


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
