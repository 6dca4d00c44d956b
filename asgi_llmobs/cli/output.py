"""What all commands print: a line at once, an option without its password."""

from collections.abc import Mapping
from typing import Any

__all__ = ["say", "shown"]


def say(text: str = "") -> None:
    """One line, at once, also into a pipe."""
    print(text, flush=True)


def shown(name: str, value: Any) -> str:
    """An option's value without a password in it."""
    if name in ("store", "read_url") and isinstance(value, str) and "@" in value:
        scheme, _, rest = value.partition("://")
        return f"{scheme}://***@{rest.rpartition('@')[2]}"
    if isinstance(value, Mapping):
        return f"{len(value)} entries"
    return str(value)
