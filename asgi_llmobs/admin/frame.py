"""What surrounds a page: its head and menu, and the pages that say what went wrong or that one must sign in first."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from asgi_llmobs.admin.answers import html, plain, problem, redirect
from asgi_llmobs.admin.keys import GOES
from asgi_llmobs.admin.lock import Lock
from asgi_llmobs.admin.page import Page, Permission, Route, allowed
from asgi_llmobs.admin.templating import render
from asgi_llmobs.admin.visit import Visit, asked
from asgi_llmobs.errors import FilterError

__all__ = ["Frame"]

ERRORS = {
    400: "This call is not understood.",
    403: "You may not see or do this.",
    404: "There is nothing here.",
    405: "This cannot be done here.",
    408: "This took too long to arrive.",
    413: "This is more than is taken at a time.",
    415: "This call is not understood.",
    422: "This is not understood.",
    429: "Too many tries. Wait a moment.",
    500: "This page failed. The app is not affected; its log names the place.",
    503: "The store cannot be read right now. Recording goes on; try again in a moment.",
}


class Frame:
    """The pages of one admin, whatever stands in them. All of it blocks: it belongs into a worker thread.

    Args:
        routes: All addresses; the menu is made of them.
        title: What the pages are headed with.
        project: The project that is shown.
        lock: Says how a stranger signs in.
    """

    def __init__(self, routes: tuple[Route, ...], title: str, project: str, lock: Lock) -> None:
        self.routes = routes
        self.title = title
        self.project = project
        self.lock = lock

    def page(
        self,
        visit: Visit,
        template: str,
        context: Mapping[str, Any],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """The *template* with *context* in it, below a menu of the pages that the visitor may open."""
        role = visit.decision.role
        chrome = {
            "base": visit.base,
            "nonce": visit.nonce,
            "title": self.title,
            "project": self.project,
            "role": role,
            "content_visible": allowed(role, Permission.READ),
            "development": visit.decision.development,
            "may_sign_out": self.lock.challenge == "form" and role is not None and not visit.decision.development,
            "menu": [
                page for page in self.routes if isinstance(page, Page) and page.nav and allowed(role, page.permission)
            ],
            "goes": GOES,
            "here": visit.segments[0],
            "twin": visit.twin,
            "this_page": visit.path + asked(visit.request),
        }
        content = render(template, {**chrome, **context})
        return html(content, visit.nonce, status=status, gzipped=visit.gzipped, headers=headers)

    def error(
        self,
        visit: Visit,
        status: int,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **more: str,
    ) -> Response:
        """What went wrong, as a page or as JSON; *detail* in place of our own words for *status*."""
        text = detail or ERRORS[status]
        if visit.as_json:
            return problem(status, text, headers=headers, **more)
        context = {"page": None, "page_title": ERRORS[status], "status": status, "detail": text, "search": ""}
        return self.page(visit, "pages/error.html", context, status=status, headers=headers)

    def unread(self, visit: Visit, error: FilterError) -> Response:
        """A search that is not understood: what is wrong and where, with its text to be mended."""
        text, place = str(error), error.position
        if visit.as_json:
            more: dict[str, Any] = (
                {"field": error.field} if place is None else {"field": error.field, "position": place}
            )
            return problem(422, text, **more)
        sent = visit.request.query_params
        context = {
            "page": None,
            "page_title": ERRORS[422],
            "status": 422,
            "detail": text,
            "search": sent.get("q", ""),
            "place": place,
            "others": [(name, value) for name, value in sent.multi_items() if name not in ("q", "cursor", error.field)],
        }
        return self.page(visit, "pages/error.html", context, status=422)

    def refusal(self, visit: Visit) -> Response:
        """What a stranger gets, whatever the address: it says nothing on what is there."""
        decision = visit.decision
        if decision.retry_after:
            return self.error(visit, 429, headers={"retry-after": str(decision.retry_after)})
        if decision.challenge == "basic":
            return plain(401, headers={"www-authenticate": 'Basic realm="llmobs", charset="UTF-8"'})
        if decision.challenge == "none":
            return self.error(visit, 403)
        if visit.as_json or "authorization" in visit.request.headers:
            return problem(401, headers={"www-authenticate": "Bearer"})
        wanted = visit.path + asked(visit.request)
        return redirect(f"{visit.base}login" + (f"?next={quote(wanted, safe='')}" if wanted else ""))
