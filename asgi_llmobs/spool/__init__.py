"""Where finished calls wait for the writer: in memory, or in files that outlive the process."""

from asgi_llmobs.spool.base import Counters, Entry, Spool
from asgi_llmobs.spool.folder import available as durable_here
from asgi_llmobs.spool.memory import MemorySpool

__all__ = ["Counters", "Entry", "MemorySpool", "Spool", "durable_here"]
