"""The templates: one Jinja environment that escapes everything, made when the first page is shown."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from asgi_llmobs.admin.assets import asset_names, templates_directory
from asgi_llmobs.admin.formats import FILTERS

__all__ = ["render"]


def querystring(items: Iterable[tuple[str, str]]) -> str:
    """``?a=1&b=2``; nothing where there are no items."""
    text = urlencode(list(items), errors="replace")
    return f"?{text}" if text else ""


@functools.cache
def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(templates_directory()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(FILTERS)
    made.filters["querystring"] = querystring
    made.globals["files"] = asset_names()
    return made


def render(template: str, context: Mapping[str, Any]) -> bytes:
    """The page as UTF-8; what cannot be written in it (lone surrogates) becomes a question mark."""
    return environment().get_template(template).render(context).encode("utf-8", "replace")
