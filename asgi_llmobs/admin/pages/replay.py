"""Sending a request again, changed or not, through a client of the host's: off unless the host hands one over."""

import json
import threading
from typing import Any
from urllib.parse import urlsplit

from asgi_llmobs.admin.formats import reference
from asgi_llmobs.admin.page import Action, Done, Page, Permission, View
from asgi_llmobs.admin.pages.request import detail_of
from asgi_llmobs.admin.snippets import address_of, body_of, values_of
from asgi_llmobs.errors import FilterError
from asgi_llmobs.queries.kin import find_in_trace
from asgi_llmobs.records import Request
from asgi_llmobs.store.deadline import within

__all__ = ["ROUTES"]

LARGEST = 200_000  # characters of a body that can be edited on a page
READ_SECONDS = 5.0  # after the call
AT_ONCE = threading.BoundedSemaphore(2)  # each takes one of the admin's threads while it lasts

OFF = (
    "This app does not allow it: hand over a client with add_middleware(LLMObsMiddleware, replay=…) or "
    "obs.admin(replay=…), see docs/replay.md."
)
SHORTENED = "The body was shortened when it was stored: it cannot be sent again."
NOT_JSON = "Only bodies that are JSON objects can be sent again."
TOO_LONG = "The body is too long to be edited on a page."
MORE = "Two are under way already. Wait for one of them to end."
UNCONFIRMED = "confirm that it is to be sent: it is a real call, at the app's cost"


def load_form(view: View) -> dict[str, Any]:
    """The body to edit, and where it would go."""
    request = detail_of(view).request
    text, _ = body_of(request)
    return {
        "request": request,
        "host": urlsplit(address_of(request)).netloc,
        "body": "" if text is None else pretty(text),
        "refused": refusal(view, request),
    }


def refusal(view: View, request: Request) -> str | None:
    """Why it cannot be sent again."""
    if view.replay is None:
        return OFF
    body, (text, _) = request.request_body, body_of(request)
    if body is not None and (body.truncated or body.slimmed):
        return SHORTENED
    if text is None or values_of(text) is None:
        return NOT_JSON
    if len(pretty(text)) > LARGEST:
        return TOO_LONG
    reason: str | None = view.replay.refusal(address_of(request))
    return reason


def pretty(text: str) -> str:
    values = values_of(text)
    return text if values is None else json.dumps(values, indent=2, ensure_ascii=False)


def send_again(view: View) -> Done:
    """Send it, and go on to the result beside the first."""
    request = detail_of(view).request
    reason = refusal(view, request)
    if reason is not None:
        raise FilterError("replay", reason)
    values = values_of(view.fields.get("body", ""))
    if values is None:
        raise FilterError("body", "this is no JSON object")
    if view.fields.get("confirm") != "yes":
        raise FilterError("confirm", UNCONFIRMED)
    if not AT_ONCE.acquire(blocking=False):
        raise FilterError("replay", MORE)
    try:
        trace_id = view.replay.send(address_of(request), values, request)
    finally:
        AT_ONCE.release()
    with within(READ_SECONDS):
        made = find_in_trace(view.database, trace_id, project=view.project) if trace_id else None
    if made is None:
        return Done(next=f"./requests/{reference(request.id)}", value={"id": None})
    return Done(next=f"./requests/{reference(made)}?compare={reference(request.id)}", value={"id": made})


ROUTES = (
    Page(
        slug="requests/{id}/replay",
        title="Send again",
        template="pages/replay.html",
        load=load_form,
        permission=Permission.OPERATE,
    ),
    Action(slug="requests/{id}/replay", load=send_again, permission=Permission.OPERATE),
)
