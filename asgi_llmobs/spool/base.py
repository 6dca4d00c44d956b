"""What a spool is: where finished calls wait for the writer, every loss counted by its reason."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple, Protocol

from asgi_llmobs.records import Exchange, Span

__all__ = ["CALL_BYTES", "Counters", "Entry", "Spool", "weight", "without_bodies"]

Entry = Exchange | Span
CALL_BYTES = 3_000  # of Python's own, for every call with its headers
CHUNK_BYTES = 100  # of Python's own, for every chunk and its time


class Counters(NamedTuple):
    """The accounting identity: ``captured == stored + spooled + sum(dropped.values())``.

    ``adopted`` of the captured ones come from processes that died. ``damaged`` counts what could not be read of files,
    by reason; how many calls that were is not known. ``durable`` says whether what is captured now would outlive the
    process, ``trouble`` why not, where it was meant to. ``oldest_clock_ns`` is the monotonic clock at which the oldest
    of those that wait came.
    """

    captured: int
    stored: int
    spooled: int
    dropped: dict[str, int]
    bodies_dropped: int
    spooled_bytes: int
    open: int
    adopted: int = 0
    damaged: Mapping[str, int] = MappingProxyType({})
    durable: bool = False
    trouble: str | None = None
    oldest_clock_ns: int | None = None


class Spool(Protocol):
    """What capture and the writer need of a spool, whether it lives in memory or in mapped files."""

    wake: Callable[[], None]

    def begin(self, entry: Exchange) -> None:
        """Note that a call has started; it may never finish."""

    def progress(self, entry: Exchange) -> None:
        """More of the answer of a call that has begun came in."""

    def opened(self, id: str, tell: Callable[[], Span | None]) -> None:
        """Note a span that has begun: *tell*, a method, gives it as it stands. It is put when it is complete."""

    def put(self, entry: Entry) -> None:
        """Take over a finished call or span. Never blocks, never raises for lack of room: drops and counts."""

    def refuse(self, reason: str) -> None:
        """Something happened that is not taken over at all: count it as dropped for this *reason*."""

    def take(self, limit: int) -> Sequence[Entry]:
        """Up to *limit* entries, oldest first. They stay spooled until :meth:`done`."""

    def done(self, stored: int, dropped: dict[str, int]) -> None:
        """The entries last taken are in the store, or given up for the reasons counted in *dropped*."""

    def running(self, older_than_ns: int) -> Sequence[Exchange]:
        """Calls that began more than *older_than_ns* ago and are not finished, each given once."""

    def empty(self) -> bool:
        """Whether nothing waits."""

    def waiting(self) -> int:
        """How many wait, about: nobody is waited for to tell."""

    def counters(self) -> Counters:
        """Exact numbers, at this moment."""

    def tend(self) -> None:
        """What has to be done now and then, by the writer's thread."""

    def close(self) -> None:
        """Leave nothing behind where nothing waits; the next call starts again."""

    def reset_after_fork(self) -> None:
        """A forked child starts with nothing: what waited belongs to the parent."""


def weight(entry: Entry) -> int:
    """The bytes that an entry holds, roughly."""
    if isinstance(entry, Span):
        return 1_000 + len(entry.input or "") + len(entry.output or "")
    return (
        CALL_BYTES
        + held(entry.request_chunks, entry.request_size, entry.request_truncated)
        + held(entry.response_chunks, entry.response_size, entry.response_truncated)
    )


def held(chunks: Sequence[bytes], size: int, truncated: bool) -> int:
    return CHUNK_BYTES * len(chunks) + (sum(map(len, chunks)) if truncated else size)


def without_bodies(entry: Entry) -> Entry | None:
    """A waiting entry with its bodies given up, the rest kept; ``None`` where it has none."""
    if isinstance(entry, Span):
        return replace(entry, input=None, output=None) if entry.input or entry.output else None
    if not (entry.request_chunks or entry.response_chunks):
        return None
    entry.request_truncated = entry.request_truncated or bool(entry.request_chunks)
    entry.response_truncated = entry.response_truncated or bool(entry.response_chunks)
    entry.request_chunks, entry.response_chunks = [], []
    return entry
