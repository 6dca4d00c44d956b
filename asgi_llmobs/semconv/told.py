"""One OpenTelemetry span as it was told, before anything is read out of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["ERROR", "SERVER", "Event", "Log", "Told"]

ERROR = 2  # of status codes
SERVER = 2  # of span kinds


class Event(NamedTuple):
    """Something that happened during a span."""

    name: str
    time_ns: int
    attributes: Mapping[str, Any]


class Log(NamedTuple):
    """A log record of OTLP. One with a name is an event; it may belong to a span."""

    name: str
    time_ns: int
    trace_id: str
    span_id: str
    attributes: Mapping[str, Any]
    body: Any
    resource: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A span: ids in hex digits, times in nanoseconds since 1970, attributes in Python's own types.

    ``resource`` are the attributes of the process that it is from; ``None``: this one.
    """

    trace_id: str
    span_id: str
    parent_id: str | None = None
    name: str = ""
    kind: int = 0
    start_ns: int = 0
    end_ns: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[Event] = ()
    status_code: int = 0
    status_message: str = ""
    resource: Mapping[str, Any] | None = None
    scope: str = ""
