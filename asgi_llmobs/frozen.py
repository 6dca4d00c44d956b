"""Classes of values, mostly such as nobody changes, made in a third of the time that a frozen dataclass takes."""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any

__all__ = ["record"]

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen: bool, eq: bool = True, repr: bool = True, **options: bool) -> Any:
        """A dataclass of keyword-only fields, frozen for the type checker only: a lock costs thrice the time.

        How its instances compare and read is written once for all of them, not for each anew at every import; how they
        are made is compiled for each, from a third of the text that :mod:`dataclasses` has for it.
        """

        def made(cls: type) -> type:
            if eq:
                cls.__eq__, cls.__hash__ = equal, hashed if frozen else None
            if repr:
                cls.__repr__ = told
            cls = dataclass(init=False, eq=False, repr=False, **options)(cls)
            cls.__init__ = maker(cls)
            return cls

        return made

    def maker(cls: type) -> Callable[..., None]:
        """``__init__`` of a dataclass."""
        lines, defaults, scope = [], {}, {"MISSING": MISSING}
        for item in fields(cls):
            value = name = item.name
            if item.default_factory is not MISSING:
                scope[f"new_{name}"], defaults[name] = item.default_factory, MISSING
                value = f"new_{name}() if {name} is MISSING else {name}"
            elif item.default is not MISSING:
                defaults[name] = item.default
            lines.append(f" self.{name} = {value}")
        if hasattr(cls, "__post_init__"):
            lines.append(" self.__post_init__()")
        names = ", ".join(item.name for item in fields(cls))
        exec(f"def __init__(self, *, {names}):\n" + "\n".join(lines), scope)  # noqa: S102 - of names of fields
        made = scope["__init__"]
        made.__kwdefaults__, made.__qualname__ = defaults, f"{cls.__qualname__}.__init__"
        return made

    def equal(self: Any, other: Any) -> Any:
        return values(self) == values(other) if self.__class__ is other.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(values(self))

    def told(self: Any) -> str:
        named = ", ".join(f"{item.name}={getattr(self, item.name)!r}" for item in fields(self))
        return f"{type(self).__qualname__}({named})"

    def values(self: Any) -> tuple[Any, ...]:
        return tuple([getattr(self, item.name) for item in fields(self) if item.compare])
