"""LLM observability that lives inside the application it observes.

    from asgi_llmobs import LLMObsMiddleware

    app.add_middleware(LLMObsMiddleware)

From then on every LLM call that the app makes over ``httpx`` or ``httpx2`` is captured, linked to the request, user and
session that caused it, priced, stored, and shown at ``/_llmobs``.
"""

from asgi_llmobs.capture.blocks import span, trace
from asgi_llmobs.capture.current import annotate, current, current_trace_id, propagate
from asgi_llmobs.capture.decorators import observe
from asgi_llmobs.capture.judging import score
from asgi_llmobs.capture.recording import record_call
from asgi_llmobs.context import suppress
from asgi_llmobs.errors import LLMObsError
from asgi_llmobs.middleware import LLMObsMiddleware
from asgi_llmobs.runtime import LLMObs, instrument_httpx, uninstrument_httpx, wrap

__version__ = "0.1.0"

__all__ = [
    "LLMObs",
    "LLMObsError",
    "LLMObsMiddleware",
    "annotate",
    "current",
    "current_trace_id",
    "instrument_httpx",
    "observe",
    "propagate",
    "record_call",
    "score",
    "span",
    "suppress",
    "trace",
    "uninstrument_httpx",
    "wrap",
]
