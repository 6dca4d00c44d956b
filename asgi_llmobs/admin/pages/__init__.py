"""The pages: a file each; the order is that of the menu."""

from asgi_llmobs.admin.page import Route
from asgi_llmobs.admin.pages import overview, requests, sessions, status, traces

__all__ = ["ROUTES"]

ROUTES: tuple[Route, ...] = (
    *overview.ROUTES,
    *requests.ROUTES,
    *traces.ROUTES,
    *sessions.ROUTES,
    *status.ROUTES,
)
