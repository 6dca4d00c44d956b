"""OpenTelemetry's own protocol: traces in, from any process, and out, to any collector."""

from asgi_llmobs.otlp.limits import Limits
from asgi_llmobs.otlp.receive import Answer, Receiver

__all__ = ["Answer", "Limits", "Receiver"]
