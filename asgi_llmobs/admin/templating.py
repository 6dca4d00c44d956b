"""The templates: one Jinja environment that escapes everything, made when the first page is shown."""

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from asgi_llmobs.admin.assets import asset_names, templates_directory
from asgi_llmobs.admin.board import group_items, in_range, stamp, step_rows
from asgi_llmobs.admin.charts import drawn, exact_figure, figure, spark
from asgi_llmobs.admin.columns import COLUMNS
from asgi_llmobs.admin.formats import FILTERS
from asgi_llmobs.admin.markdown import render_markdown
from asgi_llmobs.pace import give_way

__all__ = ["render"]

EVERYWHERE = ("duration", "short", "when")  # filters that every row of every page has
ROOM_SECONDS = 0.0002
_turn = threading.Lock()  # several at once would take the interpreter from the app in turns


def querystring(items: Iterable[tuple[str, str]]) -> str:
    """``?a=1&b=2``; nothing where there are no items."""
    text = urlencode(list(items), errors="replace")
    return f"?{text}" if text else ""


def giving_way(filter: Any) -> Callable[..., Any]:
    @functools.wraps(filter)
    def call(*args: Any, **options: Any) -> Any:
        give_way(ROOM_SECONDS)
        return filter(*args, **options)

    return call


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
    made.filters.update({name: giving_way(FILTERS[name]) for name in EVERYWHERE})
    made.filters.update(querystring=querystring, figure=figure, exact_figure=exact_figure, stamp=stamp)
    made.filters["markdown"] = render_markdown
    made.filters.update(group_items=group_items, in_range=in_range, step_rows=step_rows)
    made.globals.update(files=asset_names(), drawn=drawn, spark=spark)
    made.globals["usual_columns"] = [column for column in COLUMNS.values() if column.shown]
    return made


def render(template: str, context: Mapping[str, Any]) -> bytes:
    """The page as UTF-8; what cannot be written in it (lone surrogates) becomes a question mark."""
    made = environment().get_template(template)
    with _turn:
        return made.render(context).encode("utf-8", "replace")
