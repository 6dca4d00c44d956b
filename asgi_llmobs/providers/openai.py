"""OpenAI: its hosts and routes; the dialects stand in ``openai_chat``, ``openai_responses`` and ``openai_media``."""

from asgi_llmobs.providers.base import Provider, Route, route
from asgi_llmobs.providers.openai_chat import CHAT, COMPLETIONS

__all__ = ["ANY_HOST", "PROVIDERS"]

ANY_HOST: tuple[Route, ...] = (
    route("POST", r"/chat/completions/?$", CHAT),
    route("POST", r"/v1/completions/?$", COMPLETIONS),
)

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="openai",
        otel="openai",
        label="OpenAI",
        hosts=(r"(\w+\.)?api\.openai\.com",),
        routes=(
            *ANY_HOST,
        ),
    ),
)
