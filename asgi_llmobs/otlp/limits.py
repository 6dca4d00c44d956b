"""How much one OTLP request may hold, and what is said to a sender of more."""

from typing import NamedTuple

__all__ = ["Limits", "Refused"]


class Limits(NamedTuple):
    """What one request may hold; more is refused as a whole, or span by span."""

    body: int = 8 * 1024 * 1024  # bytes as sent
    unpacked: int = 32 * 1024 * 1024  # bytes
    unpacked_json: int = 16 * 1024 * 1024  # what is parsed as a whole takes a multiple of it
    containers: int = 600_000  # objects and lists of JSON
    ratio: int = 250  # unpacked to sent, from 1 MB on
    spans: int = 20_000
    attributes: int = 1_000  # of one span, one event, one resource
    events: int = 1_000  # of one span
    value: int = 1024 * 1024  # bytes of one text
    values: int = 500_000  # attribute values of all kinds, of the whole request
    fields: int = 3_000_000  # of protobuf, at all levels
    depth: int = 32  # of values in values


class Refused(Exception):
    """A request cannot be taken.

    Args:
        status: The HTTP status that says so.
        message: Why, in words for the sender.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
