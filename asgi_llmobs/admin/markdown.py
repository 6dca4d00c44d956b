"""Markdown from prompts and answers, made inert: no link leads anywhere, no picture is fetched, no markup passes.

Needs the extra ``ui`` (markdown-it-py and nh3); without it texts are shown as they are.
"""

import functools
import importlib.util
from collections.abc import Callable

from markupsafe import Markup

__all__ = ["available", "render_markdown"]

LONGEST = 200_000  # characters; longer ones are shown as they are
TAGS = {
    "p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "h3", "h4", "h5", "h6",
    "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
OFF = ["link", "image", "autolink", "reference", "html_block", "html_inline"]


@functools.cache
def available() -> bool:
    """Whether both libraries are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("markdown_it", "nh3"))


@functools.cache
def renderer() -> Callable[[str], str]:
    from markdown_it import MarkdownIt  # the extra `ui`
    from nh3 import clean

    # links and pictures stay the text that they are: where they would lead is seen, and they lead nowhere
    made = MarkdownIt("commonmark", {"html": False, "linkify": False, "maxNesting": 30})
    made.enable(["table", "strikethrough"]).disable(
        ["link", "image", "autolink", "reference", "html_block", "html_inline"]
    )

    def render(text: str) -> str:
        lowered = made.render(text)
        for level in (4, 3, 2, 1):  # the page has headings of its own
            lowered = lowered.replace(f"<h{level}>", f"<h{level + 2}>").replace(f"</h{level}>", f"</h{level + 2}>")
        return clean(lowered, tags=TAGS, attributes={}, link_rel=None)

    return render


def render_markdown(text: str) -> Markup | None:
    """*text* as HTML that does nothing; ``None`` where it is too long or the libraries are not there."""
    if not available() or len(text) > LONGEST:
        return None
    return Markup(renderer()(text))  # noqa: S704 — cleaned by nh3
