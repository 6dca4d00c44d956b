"""Going straight to what somebody typed: an id, a session, a user or a model."""

from typing import Any
from urllib.parse import urlencode

from asgi_llmobs.admin.formats import reference
from asgi_llmobs.admin.page import Done, Page, Permission, View
from asgi_llmobs.queries.jump import Meant, meant

__all__ = ["ROUTES"]

LONGEST = 400  # characters
FOLDERS = {"request": "requests", "trace": "traces", "session": "sessions"}


def load(view: View) -> Any:
    """What ``to`` may mean; the page leads straight on where it is the whole name of one thing."""
    text = view.get("to").strip()[:LONGEST]
    found = meant(view.database, text, project=view.project)
    exact = [each for each in found if each.exact]
    if len(exact) == 1 and not view.get("list"):
        return Done(next=f"./{address(exact[0])}", value=answer(text, found))
    return answer(text, found)


def answer(text: str, found: list[Meant]) -> dict[str, Any]:
    return {"text": text, "found": [{"kind": each.kind, "name": each.name, "to": address(each)} for each in found]}


def address(thing: Meant) -> str:
    """Where it is shown, from the mount."""
    if thing.kind in FOLDERS:
        return f"{FOLDERS[thing.kind]}/{reference(thing.name)}"
    return f"requests?{urlencode([(thing.kind, thing.name)])}"


ROUTES = (Page(slug="jump", title="Go to", template="pages/jump.html", load=load, permission=Permission.VIEW),)
