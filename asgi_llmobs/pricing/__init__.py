"""What a request cost: reported by the provider, priced by the user, or by the price library.

A price is never guessed: whatever cannot be priced has no amount and the reason in words.
"""

from asgi_llmobs.pricing.caching import saved_by_cache
from asgi_llmobs.pricing.catalogue import Known, catalogued
from asgi_llmobs.pricing.pricer import Pricer
from asgi_llmobs.pricing.rates import Offer, Rate, Rates

__all__ = ["Known", "Offer", "Pricer", "Rate", "Rates", "catalogued", "saved_by_cache"]
