"""The requests: the list, one of them with all that is known of it, and its bodies to download."""

from typing import Any

from asgi_llmobs.admin.conversation import conversation
from asgi_llmobs.admin.curtain import bare_request, bare_row
from asgi_llmobs.admin.judging import judged
from asgi_llmobs.admin.narrow import filter_of, limit_of, list_context
from asgi_llmobs.admin.page import Download, File, NotFound, Page, Permission, View
from asgi_llmobs.admin.snippets import curl, python
from asgi_llmobs.queries.requests import find_request, get_request, list_requests

__all__ = ["ROUTES"]


def load_list(view: View) -> dict[str, Any]:
    """A page of the list."""
    flt = filter_of(view)
    listing = list_requests(view.database, flt, cursor=view.get("cursor") or None, limit=limit_of(view))
    context = list_context(view, flt, listing)
    if not view.content:
        context["rows"] = [bare_row(row) for row in listing.rows]
    return context


def load_one(view: View) -> dict[str, Any]:
    """One request, by its span id or by any other id that it is known as."""
    detail = get_request(view.database, view.params["id"], project=view.project)
    if detail is None:
        found = find_request(view.database, view.params["id"], view.project)
        detail = get_request(view.database, found, project=view.project) if found else None
    if detail is None:
        raise NotFound
    request = detail.request if view.content else bare_request(detail.request)
    return {
        "panel": view.get("panel") == "1",  # without what surrounds a page
        "request": request,
        "latency_ms": request.latency_ms,
        "time_to_first_token_ms": request.time_to_first_token_ms,
        "buckets": request.usage.buckets() if request.usage else {},
        "cost_usd": request.cost_usd,
        "formula": request.cost.formula,
        "conversation": conversation(request.messages, request.output_messages),
        "newer_id": detail.newer_id,
        "older_id": detail.older_id,
        "trace": detail.trace,
        "judged": judged(view, "span", request.id),
        "input_omitted": detail.input_omitted,
        "output_omitted": detail.output_omitted,
        "curl": curl(request) if view.content and request.url else None,  # only told of: nothing to call
        "python": python(request) if view.content and request.url else None,
    }


def download(part: str) -> Any:
    """The load function that hands out one of the two bodies."""

    def load(view: View) -> File:
        detail = get_request(view.database, view.params["id"], project=view.project)
        body = getattr(detail.request, f"{part}_body") if detail is not None else None
        if body is None:
            raise NotFound
        suffix = "bin" if b"\0" in body.content[:1024] else "txt"
        return File(content=body.content, name=f"{part}-body.{suffix}")

    return load


ROUTES = (
    Page(
        slug="requests",
        title="Requests",
        template="pages/requests.html",
        load=load_list,
        permission=Permission.VIEW,
        nav=True,
    ),
    Page(
        slug="requests/{id}", title="Request", template="pages/request.html", load=load_one, permission=Permission.VIEW
    ),
    Download(slug="requests/{id}/request-body", load=download("request"), permission=Permission.READ),
    Download(slug="requests/{id}/response-body", load=download("response"), permission=Permission.READ),
)
