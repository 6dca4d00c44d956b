"""What is kept, and for how long: the option ``retention`` as a value."""

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from asgi_llmobs.errors import ConfigError
from asgi_llmobs.frozen import record

__all__ = ["Plan", "Retention"]

AGES = {"min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
SIZES = {
    "kb": 1_000, "mb": 1_000**2, "gb": 1_000**3, "tb": 1_000**4,
    "kib": 1_024, "mib": 1_024**2, "gib": 1_024**3, "tib": 1_024**4,
}  # fmt: skip
ADVICE = "write an age, a size or a count of spans, or several of them: 30d, 12h, 2GB, 500MB, 100000, bodies=7d"
BODIES = "bodies"
OTHERS = "*"


@record(frozen=True, slots=True, kw_only=True)
class Retention:
    """What of a project is kept; what lies beyond any of the limits goes, the oldest traces first. ``None`` is none.

    The ``bodies_`` limits are those of bodies and texts alone: their spans stay.
    """

    age_ns: int | None = None
    size_bytes: int | None = None
    spans: int | None = None
    bodies_age_ns: int | None = None
    bodies_size_bytes: int | None = None
    bodies_spans: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Retention":
        """The limits that *text* names, e.g. ``30d,2GB,100000,bodies=7d``.

        Args:
            text: An age in min, h, d or w, a size in KB to TB or KiB to TiB, and a number of spans, with commas; each
                may stand for bodies only, with ``bodies=`` before it.

        Raises:
            ConfigError: It names nothing, one kind twice, or something else.
        """
        limits: dict[str, int] = {}
        for part in text.split(","):
            kind, value = limit_of(part)
            if kind in limits:
                raise ConfigError("retention", f"{part.strip()!r} is a second limit of its kind; give each once")
            limits[kind] = value
        return cls(**limits)

    @property
    def records(self) -> bool:
        """Whether anything but bodies is limited."""
        return any(limit is not None for limit in (self.age_ns, self.size_bytes, self.spans))

    @property
    def bodies(self) -> bool:
        """Whether bodies have limits of their own."""
        return any(limit is not None for limit in (self.bodies_age_ns, self.bodies_size_bytes, self.bodies_spans))


def limit_of(part: str) -> tuple[str, int]:
    text, prefix = part.strip(), ""
    which, equals, rest = text.partition("=")
    if equals and which.strip().lower() == BODIES:
        text, prefix = rest.strip(), "bodies_"
    found = re.fullmatch(r"([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)", text[:40])
    if found is not None:
        number, unit = found[1].replace("_", ""), found[2].lower()
        for kind, units, scale in (("age_ns", AGES, 1_000_000_000), ("size_bytes", SIZES, 1), ("spans", {"": 1}, 1)):
            value = int(float(number) * units[unit] * scale) if unit in units else 0
            if 0 < value < 2**62 and (unit or "." not in number):
                return f"{prefix}{kind}", value
    raise ConfigError("retention", f"{part.strip()[:40]!r} cannot be kept to; {ADVICE}")


@record(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is kept of each project.

    ``own`` is for the engine's own project unless ``projects`` names it, ``others`` for all that are not named.
    """

    own: Retention | None = None
    projects: Mapping[str, Retention] = field(default_factory=dict)
    others: Retention | None = None

    @classmethod
    def parse(cls, value: Any) -> "Plan":
        """The limits that the option names: a text for the engine's own project, or a mapping of projects to texts.

        Args:
            value: ``30d,2GB``; or ``{"shop": "90d,bodies=7d", "*": "30d"}``, in a text ``shop: 90d,bodies=7d; *: 30d``.

        Raises:
            ConfigError: Something in it is no limit, or a project has two.
        """
        if isinstance(value, Mapping):
            pairs = list(value.items())
        elif isinstance(value, str):
            pairs = [split(part) for part in value.split(";")]
        else:
            raise ConfigError("retention", f"give a text or a mapping of projects, not {type(value).__name__}")
        found: dict[str | None, Retention] = {}
        for project, text in pairs:
            if not isinstance(text, str) or not (project is None or isinstance(project, str) and project.strip()):
                raise ConfigError("retention", f"{project!r}: {text!r} is no project with its limits; {ADVICE}")
            if project in found:
                raise ConfigError("retention", f"{project or 'the own project'!r} has limits already; give them once")
            found[project] = Retention.parse(text)
        own, others = found.pop(None, None), found.pop(OTHERS, None)
        return cls(own=own, projects={name: limits for name, limits in found.items() if name}, others=others)

    def of(self, project: str, *, own: bool) -> Retention | None:
        """The limits of *project*; ``None`` where all of it is kept.

        Args:
            project: Its name.
            own: Whether it is the engine's own one.
        """
        return self.projects.get(project) or (self.own if own else None) or self.others


def split(part: str) -> tuple[str | None, str]:
    project, colon, limits = part.rpartition(":")
    return (project.strip(), limits) if colon else (None, part)
