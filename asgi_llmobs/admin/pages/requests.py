"""The list of requests, with all that belongs to it: facets, columns, saved views, new rows as they come."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.responses import Response

from asgi_llmobs.admin.columns import COLUMNS, columns_of, picker, sorting_of
from asgi_llmobs.admin.curtain import bare_row
from asgi_llmobs.admin.feed import FeedAnswer
from asgi_llmobs.admin.narrow import Items, filter_of, kept, limit_of, list_context
from asgi_llmobs.admin.page import Action, Denied, Done, Feed, Page, Permission, View
from asgi_llmobs.admin.suggestions import suggestions
from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.filters.expression import Term, terms_of
from asgi_llmobs.filters.keys import KEYS
from asgi_llmobs.queries.completion import names_of
from asgi_llmobs.queries.facets import Facet, facets
from asgi_llmobs.queries.live import MOST_NEW, Mark, mark_now, news
from asgi_llmobs.queries.requests import RequestRow, list_requests, rows_by_id
from asgi_llmobs.store.rows import fold_name
from asgi_llmobs.store.views import delete_view, save_view, saved_views

__all__ = ["ROUTES"]

LISTS = ("requests", "traces", "sessions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One value of a facet: how often it occurs, whether it is chosen, and the query with or without it."""

    value: str
    count: int
    chosen: bool
    query: Items
    excluded: Items  # the query with everything but it


def load_list(view: View) -> dict[str, Any]:
    """A page of the list, and what stands around it."""
    flt, columns, sorting = filter_of(view), columns_of(view), sorting_of(view)
    first = not view.get("cursor") and sorting.by == "time"
    mark = mark_now(view.database, flt) if first and flt.until_ns is None else None  # before the rows: none is missed
    listing = list_requests(
        view.database,
        flt,
        cursor=view.get("cursor") or None,
        limit=limit_of(view),
        sort=sorting.by,
        lowest=sorting.lowest,
    )
    found, counted = facets(view.database, flt)
    return {
        **list_context(view, flt, listing),
        "rows": shown(view, listing.rows),
        "columns": columns,
        "all_columns": list(COLUMNS.values()),
        "sort": sorting,
        "sorted_within": listing.sorted_within,
        "headings": picker(view, flt, columns, sorting),
        "facets": [{"key": one.key, "label": one.label, "choices": choices(view, flt, one)} for one in found],
        "facet_rows": counted,
        "views": saved_views(view.database, view.project, "requests"),
        "author": view.author,
        "operates": view.may(Permission.OPERATE),
        "here_query": urlencode(flt.to_query() + kept(view)),
        "unknown": [] if listing.rows else unknown_properties(view, flt),
        "mark": None if mark is None else str(mark),
    }


def unknown_properties(view: View, flt: Filter) -> list[str]:
    """The properties that the search names and no request has: most likely a key that was misspelt."""
    named = dict.fromkeys(term.label for term in terms_of(flt.expression) if term.key == "property")
    return [
        label
        for label in named
        if fold_name(label) not in names_of(view.database, view.project, "property", label, limit=1)
    ]


def shown(view: View, rows: Sequence[RequestRow]) -> list[RequestRow]:
    return [row if view.content else bare_row(row) for row in rows]


def choices(view: View, flt: Filter, found: Facet) -> list[Choice]:
    """The values of a facet. What is chosen already and occurs no more stays, so that it can be taken away."""
    taken = flt.chosen(found.key, found.label)
    counts = dict(found.values)
    made = []
    for value in (*counts, *(value for value in taken if value not in counts)):
        term = Term(found.key, "=" if "*" in value else ":", value, found.label)
        made.append(
            Choice(
                value=value,
                count=counts.get(value, 0),
                chosen=value in taken,
                query=flt.toggled(found.key, value, found.label).to_query() + kept(view),
                excluded=flt.excluding(term).to_query() + kept(view),
            )
        )
    return made


def load_rows(view: View) -> dict[str, Any]:
    """Some rows by their ids, for a list that is open."""
    ids = [part for value in view.all("id") for part in value.split(",") if part]
    if len(ids) > 2 * MOST_NEW:
        raise FilterError("id", f"at most {2 * MOST_NEW} rows are given at a time")
    return {"rows": shown(view, rows_by_id(view.database, view.project, ids)), "columns": columns_of(view)}


def load_live(view: View) -> Response:
    """News of the list from the mark on that the address names, or that a browser names when it comes again."""
    flt = filter_of(view)
    after = view.resume or view.get("after")
    mark = Mark.read(after) if after else mark_now(view.database, flt)
    return FeedAnswer(lambda since: news(view.database, flt, since), mark)


def load_search(view: View) -> dict[str, Any]:
    """The keys of the language; for the search bar what could stand at its cursor."""
    text = view.get("q")
    at = view.get("at") or str(len(text))
    if len(text) > 4_000 or not (at.isascii() and at.isdigit() and len(at) < 6):
        raise FilterError("at", "write the place of the cursor, as a number")
    return {
        "suggestions": suggestions(view, text, int(at)),
        "keys": [{"name": key.name, "help": key.help, "values": key.values, "compared": key.compared,
                  "labelled": key.labelled} for key in KEYS.values()],
    }  # fmt: skip


def save(view: View) -> Done:
    """Save what the form names: a list, a name, and a query."""
    page, title, query = (view.fields.get(name, "").strip() for name in ("page", "name", "query"))
    if page not in LISTS:
        raise FilterError("page", f"write one of {', '.join(LISTS)}")
    if not title:
        raise FilterError("name", "a view needs a name")
    items = [(name, value) for name, value in parse_qsl(query) if name != "cursor"]
    Filter.from_query(
        [item for item in items if item[0] not in ("columns", "sort", "order", "limit")], project=view.project
    )
    id = save_view(view.database, view.project, page=page, title=title, query=urlencode(items), author=view.author)
    if id is None:
        raise FilterError("name", "there are 100 views already: delete one first")
    return Done(next=f"./{page}?{urlencode(items)}", value={"id": id})


def delete(view: View) -> Done:
    """Delete a view, by whoever saved it or an operator."""
    author = None if view.may(Permission.OPERATE) else view.author
    if not delete_view(view.database, view.project, view.params["id"], author=author):
        raise Denied
    page = view.fields.get("page", "")
    return Done(next=f"./{page if page in LISTS else 'requests'}", value={"deleted": view.params["id"]})


ROUTES = (
    Page(
        slug="requests",
        title="Requests",
        template="pages/requests.html",
        load=load_list,
        permission=Permission.VIEW,
        nav=True,
    ),
    Page(slug="rows", title="Rows", template="pages/rows.html", load=load_rows, permission=Permission.VIEW),
    Feed(slug="live", load=load_live, permission=Permission.VIEW),
    Page(slug="search", title="Search", template="pages/search.html", load=load_search, permission=Permission.VIEW),
    Action(slug="views", load=save, permission=Permission.VIEW),
    Action(slug="views/{id}/delete", load=delete, permission=Permission.VIEW),
)
