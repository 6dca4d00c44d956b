"""A page as a browser reads it: its tags, its links, its text."""

from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

__all__ = ["Reader", "read"]

LOADS = {"src", "srcset", "href", "action", "formaction", "poster", "data", "background", "cite", "ping", "xlink:href",
         "manifest", "longdesc", "icon"}  # fmt: skip


class Reader(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.pieces: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())

    def addresses(self) -> list[str]:
        """Every value that a browser may load or lead to."""
        return [
            value
            for _, attrs in self.tags
            for name, value in attrs.items()
            if name in LOADS and attrs.get("method") != "post"  # what changes something is no link
        ]

    def links(self) -> list[str]:
        return [attrs["href"] for tag, attrs in self.tags if tag == "a" and "href" in attrs]

    def rows(self) -> list[str]:
        """The last segment of what each row of a list opens."""
        opened = [attrs["href"] for tag, attrs in self.tags if tag == "a" and "data-open" in attrs]
        return [urlsplit(href).path.rsplit("/", 1)[1] for href in opened]

    def link(self, rel: str) -> str | None:
        """The address of the link with this relation."""
        return next((attrs["href"] for tag, attrs in self.tags if tag == "a" and attrs.get("rel") == rel), None)

    def marked(self, name: str, value: str) -> str | None:
        """The address of the link with this value of a data attribute."""
        return next((attrs["href"] for tag, attrs in self.tags if tag == "a" and attrs.get(name) == value), None)

    def field(self, name: str) -> str:
        """The value of a field of a form."""
        return next(attrs["value"] for tag, attrs in self.tags if tag == "input" and attrs.get("name") == name)

    def resolved(self, page: str) -> set[str]:
        """The addresses of the links, as a browser at *page* makes them out, without fragments."""
        return {urljoin(page, href).partition("#")[0] for href in self.links()}


def read(text: str) -> Reader:
    """The page behind *text*."""
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader
