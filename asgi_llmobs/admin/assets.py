"""The admin's files: where they are found, and the fixed table of what is served, under names with their hash."""

import functools
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from asgi_llmobs.errors import ConfigError

__all__ = ["Asset", "asset_names", "assets", "templates_directory"]

MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file as it is sent."""

    content: bytes
    gzipped: bytes
    media_type: str


@functools.cache
def templates_directory() -> Path:
    """Inside the package, as the wheel installs it, else beside it, as in a checkout.

    Raises:
        ConfigError: Neither is there: the installation is broken.
    """
    package = Path(__file__).resolve().parent.parent
    for place in (package / "admin_templates", package.parent / "admin_templates"):
        if (place / "base.html").is_file():
            return place
    raise ConfigError("admin", "the folder admin_templates is missing: install asgi-llmobs again")


@functools.cache
def load() -> tuple[dict[str, Asset], dict[str, str]]:
    table: dict[str, Asset] = {}
    names: dict[str, str] = {}
    for path in sorted((templates_directory() / "static").iterdir()):
        if path.suffix not in MEDIA_TYPES:
            continue
        content = path.read_bytes()
        served = f"{path.stem}.{hashlib.sha256(content).hexdigest()[:12]}{path.suffix}"
        names[path.name] = served
        table[served] = Asset(
            content=content, gzipped=gzip.compress(content, 9, mtime=0), media_type=MEDIA_TYPES[path.suffix]
        )
    return table, names


def assets() -> dict[str, Asset]:
    """The files by the name that they are served under."""
    return load()[0]


def asset_names() -> dict[str, str]:
    """The name that each file is served under, by its plain name."""
    return load()[1]
