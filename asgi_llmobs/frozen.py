"""Classes of values, mostly such as nobody changes, made in a third of the time that a frozen dataclass takes."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

__all__ = ["record"]

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen: bool, **options: bool) -> Any:
        """A dataclass that is frozen for the type checker only: to set fields past a lock takes three times as long.

        How its instances compare and read is written once for all of them, not for each anew at every import.
        """

        def made(cls: type) -> type:
            cls.__eq__, cls.__hash__, cls.__repr__ = equal, hashed if frozen else None, told
            return dataclass(eq=False, repr=False, **options)(cls)

        return made

    def equal(self: Any, other: Any) -> Any:
        return values(self) == values(other) if self.__class__ is other.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(values(self))

    def told(self: Any) -> str:
        named = ", ".join(f"{item.name}={getattr(self, item.name)!r}" for item in fields(self))
        return f"{type(self).__qualname__}({named})"

    def values(self: Any) -> tuple[Any, ...]:
        return tuple([getattr(self, item.name) for item in fields(self)])
