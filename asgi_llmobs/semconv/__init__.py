"""What OpenTelemetry spans say, in any of the dialects of LLM observability, as what capture itself would have seen."""

from asgi_llmobs.semconv.events import entries_of
from asgi_llmobs.semconv.names import DIALECTS, REQUEST_KINDS
from asgi_llmobs.semconv.spans import entry_of, kind_of, speaks
from asgi_llmobs.semconv.told import Event, Log, Told

__all__ = ["DIALECTS", "REQUEST_KINDS", "Event", "Log", "Told", "entries_of", "entry_of", "kind_of", "speaks"]
