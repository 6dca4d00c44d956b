"""The users: who costs what and was seen when, and one of them with a dashboard of their own."""

from typing import Any

from asgi_llmobs.admin.board import EVER, board, picks, span_of, step_rows, without
from asgi_llmobs.admin.curtain import bare_row
from asgi_llmobs.admin.formats import reference
from asgi_llmobs.admin.narrow import filter_of
from asgi_llmobs.admin.page import NotFound, Page, Permission, View
from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.figures import edges
from asgi_llmobs.queries.requests import newest_requests
from asgi_llmobs.queries.users import SORTS, get_user, ranked_users
from asgi_llmobs.store.rollups import HOUR_NS

__all__ = ["ROUTES"]

PER_PAGE = 50
NEWEST = 12


def load_list(view: View) -> dict[str, Any]:
    """The users of a range of hours."""
    flt = filter_of(without(view))
    if flt.keys:
        raise FilterError("filter", "users are listed by time; group the overview by user for anything else")
    sort = view.get("sort") or "cost"
    if sort not in SORTS:
        raise FilterError("sort", f"{sort!r} is none of {', '.join(SORTS)}")
    page = view.get("page") or "1"
    if not (page.isascii() and page.isdigit() and 1 <= len(page) < 7 and int(page) > 0):
        raise FilterError("page", "write a number from 1 on")
    span = span_of(flt, *edges(view.database, view.project))
    rows, count = ranked_users(
        view.database, view.project, start_ns=span.since_ns, end_ns=span.until_ns, by=sort,
        offset=(int(page) - 1) * PER_PAGE, limit=PER_PAGE,
    )  # fmt: skip
    first, last = span.since_ns // HOUR_NS, -(-span.until_ns // HOUR_NS)
    kept = [("sort", sort)] if view.get("sort") else []
    return {
        "slug": "users",
        "span": {"word": span.word, "chosen": span.chosen},
        "picks": [pick for pick in picks([], kept) if pick.word in ("24h", "7d", "30d", EVER)],
        "time": [(name, value) for name, value in flt.to_query() if name in ("since", "until")],
        "hours": step_rows([], first * HOUR_NS, (last - first) * HOUR_NS),
        "hours_since_ns": first * HOUR_NS,
        "rows": rows,
        "count": count,
        "sort": sort,
        "sorts": SORTS,
        "page_number": int(page),
        "pages": max(1, -(-count // PER_PAGE)),
    }


def load_one(view: View) -> dict[str, Any]:
    """One user."""
    user = get_user(view.database, view.params["id"], project=view.project)
    if user is None:
        raise NotFound
    found = board(
        view, f"users/{reference(user.user_id)}", fixed=[("user", user.user_id)], by=("model",),
        seen=(user.first_ns, user.last_ns),
    )  # fmt: skip
    rows = newest_requests(view.database, Filter(project=view.project, user=(user.user_id,)), limit=NEWEST)
    return {**found, "user": user, "newest": [row if view.content else bare_row(row) for row in rows]}


ROUTES = (
    Page(
        slug="users", title="Users", template="pages/users.html", load=load_list, permission=Permission.VIEW, nav=True
    ),
    Page(slug="users/{id}", title="User", template="pages/user.html", load=load_one, permission=Permission.VIEW),
)
