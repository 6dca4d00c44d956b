"""A call of no known dialect that the app declares to be an LLM call: what any JSON body is likely to say."""

from asgi_llmobs.providers.base import Dialect, Match, Wire
from asgi_llmobs.providers.openai_chat import read_chat
from asgi_llmobs.records import Reading

__all__ = ["GENERIC"]


def read_generic(wire: Wire, reading: Reading) -> None:
    """Read the bodies as if they were of the API that most services copy; silent about what does not fit."""
    read_chat(wire, reading)
    reading.warnings.clear()


GENERIC = Match("unknown", Dialect("other", "other", read_generic))
