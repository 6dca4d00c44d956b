"""The pages: a file each; the order is that of the menu."""

from asgi_llmobs.admin.page import Route
from asgi_llmobs.admin.pages import (
    comparison,
    endpoints,
    help,
    insights,
    jump,
    models,
    overview,
    properties,
    replay,
    request,
    requests,
    scores,
    sessions,
    settings,
    status,
    traces,
    users,
)

__all__ = ["ROUTES"]

ROUTES: tuple[Route, ...] = (
    *overview.ROUTES,
    *requests.ROUTES,
    *request.ROUTES,
    *replay.ROUTES,
    *comparison.ROUTES,
    *traces.ROUTES,
    *sessions.ROUTES,
    *users.ROUTES,
    *properties.ROUTES,
    *models.ROUTES,
    *endpoints.ROUTES,
    *scores.ROUTES,
    *insights.ROUTES,
    *status.ROUTES,
    *settings.ROUTES,
    *help.ROUTES,
    *jump.ROUTES,
)
