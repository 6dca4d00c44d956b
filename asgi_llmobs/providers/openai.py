"""OpenAI: its hosts and routes; the dialects stand in ``openai_chat``, ``openai_responses`` and ``openai_media``.

What else its hosts answer (models, files, batches, threads, vector stores, fine-tuning, polling …) is no LLM call.
"""

from asgi_llmobs.providers.base import Provider, Route, route
from asgi_llmobs.providers.decisions import OPENAI_DECISIONS
from asgi_llmobs.providers.openai_chat import CHAT, COMPLETIONS
from asgi_llmobs.providers.openai_media import (
    EMBEDDINGS,
    IMAGES,
    MODERATIONS,
    SPEECH,
    TRANSCRIPTION,
    TRANSLATION,
    VIDEOS,
)
from asgi_llmobs.providers.openai_responses import COUNT_TOKENS, RESPONSES

__all__ = ["ANY_HOST", "PROVIDERS", "ROUTES"]

# on hosts that are known to speak this API, whatever stands before
ROUTES: tuple[Route, ...] = (
    route("POST", r"/chat/completions/?$", CHAT),
    route("POST", r"/responses(/compact)?/?$", RESPONSES),
    route("POST", r"/responses/input_tokens/?$", COUNT_TOKENS),
    route("POST", r"/embeddings/?$", EMBEDDINGS),
    route("POST", r"/completions/?$", COMPLETIONS),
    route("POST", r"/images/(generations|edits|variations)/?$", IMAGES),
    route("POST", r"/audio/speech/?$", SPEECH),
    route("POST", r"/audio/transcriptions/?$", TRANSCRIPTION),
    route("POST", r"/audio/translations/?$", TRANSLATION),
    route("POST", r"/moderations/?$", MODERATIONS),
    route("POST", r"/v\d+/decisions/?$", OPENAI_DECISIONS),
    route("POST", r"/v\d+/videos(/edits|/extensions|/[^/]+/remix)?/?$", VIDEOS),
)

# anywhere: only where the path can hardly mean anything else
ANY_HOST: tuple[Route, ...] = (
    ROUTES[0],
    route("POST", r"/(openai|v\d+)/responses(/compact)?/?$", RESPONSES),
    route("POST", r"/(openai|v\d+)/responses/input_tokens/?$", COUNT_TOKENS),
    route("POST", r"/(openai|v\d+)(/deployments/[^/]+)?/embeddings/?$|^/embeddings/?$", EMBEDDINGS),
    route("POST", r"/(openai|v\d+)(/deployments/[^/]+)?/completions/?$|^/completions/?$", COMPLETIONS),
    route("POST", r"(/(openai|v\d+)(/.+)?|^)/images/(generations|edits|variations)/?$", IMAGES),
    route("POST", r"(/(openai|v\d+)(/.+)?|^)/audio/speech/?$", SPEECH),
    route("POST", r"(/(openai|v\d+)(/.+)?|^)/audio/transcriptions/?$", TRANSCRIPTION),
    route("POST", r"(/(openai|v\d+)(/.+)?|^)/audio/translations/?$", TRANSLATION),
    route("POST", r"/(openai|v\d+)/moderations/?$", MODERATIONS),
)

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="openai",
        otel="openai",
        label="OpenAI",
        hosts=(r"([\w-]+\.)?api\.openai\.com",),
        routes=ROUTES,
    ),
    Provider(
        name="openai",
        otel="openai",
        label="OpenAI",
        hosts=(r"chatgpt\.com",),
        routes=(route("POST", r"^/backend-api/codex/responses(/compact)?$", RESPONSES),),
    ),
)
