"""The columns of the list of requests: which there are, which are shown, and what the list is sorted by."""

from collections.abc import Iterable
from dataclasses import dataclass

from asgi_llmobs.admin.narrow import Items, kept
from asgi_llmobs.admin.page import View
from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.select import RANKS

__all__ = ["COLUMNS", "Column", "Sorting", "columns_of", "headings", "picker", "sorting_of"]

MOST = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its name in the address, its heading, and how wide it is."""

    name: str
    title: str
    width: str = ""  # a class of the stylesheet; empty: what is left
    number: bool = False
    wide: bool = False  # left out where there is little room
    spare: bool = False  # left out where a request is shown beside the list
    shown: bool = True  # unless the address says otherwise
    hint: str = ""


COLUMNS = {
    column.name: column
    for column in (
        Column(name="time", title="Time", width="c-time"),
        Column(name="model", title="Model", width="c-model"),
        Column(name="text", title="Question → answer"),
        Column(name="status", title="Outcome", width="c-out"),
        Column(name="latency", title="Latency", width="c-n", number=True),
        Column(name="ttft", spare=True, title="TTFT", width="c-n", number=True, hint="Time to the first content token"),
        Column(name="input", spare=True, title="In", width="c-t", number=True, hint="Input tokens"),
        Column(
            name="cached", title="Cache", width="c-t", number=True, wide=True,
            hint="Input tokens read from the provider's cache",
        ),
        Column(name="output", spare=True, title="Out", width="c-t", number=True, hint="Output tokens"),
        Column(
            name="reasoning", title="Think", width="c-t", number=True, wide=True,
            hint="Output tokens spent on reasoning",
        ),
        Column(
            name="tokens", spare=True, title="Tokens", width="c-n", number=True, shown=False,
            hint="Input and output together",
        ),
        Column(name="cost", title="Cost", width="c-cost", number=True),
        Column(name="user", title="User", width="c-who", wide=True),
        Column(name="session", title="Session", width="c-who", wide=True),
        Column(name="provider", title="Provider", width="c-who", shown=False),
        Column(name="operation", title="Operation", width="c-who", shown=False),
        Column(name="route", title="Route", width="c-model", shown=False),
        Column(name="finish", title="Finish", width="c-who", shown=False),
        Column(name="error", title="Error", width="c-model", shown=False),
        Column(name="attempts", spare=True, title="Attempts", width="c-n", number=True, shown=False),
        Column(name="name", title="Name", width="c-model", shown=False),
        Column(name="caller", title="Called at", width="c-model", shown=False),
        Column(name="release", title="Release", width="c-who", shown=False),
        Column(name="properties", title="Properties", width="c-sum", shown=False),
        Column(name="trace", spare=True, title="Trace", width="c-link"),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorting:
    """What the list is in the order of: highest or newest first unless ``lowest``."""

    by: str = "time"
    lowest: bool = False


def columns_of(view: View) -> list[Column]:
    """The columns that the address asks for, in its order: names with commas between, ``property.<Name>`` among them.

    Raises:
        FilterError: One is not there, or they are too many.
    """
    asked = [part.strip() for value in view.all("columns") for part in value.split(",") if part.strip()]
    names = list(dict.fromkeys(asked))
    if not names:
        return [column for column in COLUMNS.values() if column.shown]
    if len(names) > MOST:
        raise FilterError("columns", f"at most {MOST} columns are shown")
    return [column_of(each) for each in names]


def column_of(name: str) -> Column:
    if name.startswith("property.") and len(name) > len("property."):
        return Column(name=name, title=name.removeprefix("property."), width="c-who")
    if name not in COLUMNS:
        raise FilterError("columns", f"there is no column {name!r}; there are {', '.join(COLUMNS)}, property.<Name>")
    return COLUMNS[name]


def sorting_of(view: View, known: Iterable[str] = RANKS) -> Sorting:
    """What the address asks the list to be sorted by: time, or one of *known*.

    Raises:
        FilterError: The list cannot be sorted by that.
    """
    by, order = view.get("sort") or "time", view.get("order") or "highest"
    if by not in ("time", *known):
        raise FilterError("sort", f"there is no order by {by!r}; there are time, {', '.join(known)}")
    if order not in ("highest", "lowest") or (by == "time" and order == "lowest"):
        raise FilterError("order", "write highest or lowest; time is always newest first")
    return Sorting(by=by, lowest=order == "lowest")


def picker(view: View, flt: Filter, columns: list[Column], sorting: Sorting) -> dict[str, Items]:
    """Where the heading of each column leads that the list can be sorted by."""
    return headings(view, flt, [column.name for column in columns], sorting, RANKS)


def headings(view: View, flt: Filter, names: Iterable[str], sorting: Sorting, known: Iterable[str]) -> dict[str, Items]:
    """The queries behind the names of columns: of time, and of those of *known*; a second time it is lowest first."""
    others = [item for item in kept(view) if item[0] not in ("sort", "order")]
    found: dict[str, Items] = {}
    for name in names:
        if name == "time":
            found["time"] = flt.to_query() + others
        elif name in known:
            turned = sorting.by == name and not sorting.lowest
            order = [("sort", name), *([("order", "lowest")] if turned else [])]
            found[name] = flt.to_query() + others + order
    return found
