"""What a spool is: where finished calls wait for the writer, every loss counted by its reason."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from asgi_llmobs.records import Exchange, Span

__all__ = ["Counters", "Entry", "Spool", "shed_bodies", "weight"]

Entry = Exchange | Span


class Counters(NamedTuple):
    """The accounting identity: ``captured == stored + spooled + sum(dropped.values())``.

    ``adopted`` of the captured ones come from processes that died. ``damaged`` counts what could not be read of files,
    by reason; how many calls that were is not known. ``durable`` says whether what is captured now would outlive the
    process.
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


class Spool(Protocol):
    """What capture and the writer need of a spool, whether it lives in memory or in mapped files."""

    wake: Callable[[], None]

    def begin(self, entry: Exchange) -> None:
        """Note that a call has started; it may never finish."""

    def progress(self, entry: Exchange) -> None:
        """More of the answer of a call that has begun came in."""

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
    if isinstance(entry, Exchange):
        return 2_000 + entry.request_size + entry.response_size
    return 1_000 + len(entry.input or "") + len(entry.output or "")


def shed_bodies(entry: Entry) -> bool:
    """Give up the bodies of a waiting call, keep the rest; whether there were any."""
    if not isinstance(entry, Exchange) or not (entry.request_chunks or entry.response_chunks):
        return False
    entry.request_chunks = []
    entry.response_chunks = []
    entry.request_truncated = entry.response_truncated = True
    return True
