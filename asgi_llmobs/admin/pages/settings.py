"""The settings: every option with its value, where it came from, and how to change it."""

from typing import Any

from asgi_llmobs.admin.page import Page, Permission, View
from asgi_llmobs.config import OPTIONS, VARIABLES, Config, Option

__all__ = ["ROUTES"]

# who says which project a call belongs to; the first that says anything wins
PROJECT_ORDER = (
    ("the call", "the header LLMObs-Project of the outgoing call, which is removed before the call is sent"),
    ("the context", 'annotate(project="…"), or trace("…", project="…") around it'),
    ("the argument", 'add_middleware(LLMObsMiddleware, project="…"), or LLMObs(project="…") and its wrap(client)'),
    ("the environment", "LLMOBS_PROJECT"),
    ("the default", "default"),
)


def load(view: View) -> dict[str, Any]:
    """All options of the engine that serves this admin."""
    return {
        "options": [row_of(item, view.config) for item in OPTIONS],
        "variables": [
            {"name": name, "set": view.variables.get(name, False), "help": help} for name, help in VARIABLES.items()
        ],
        "project_order": [{"who": who, "how": how} for who, how in PROJECT_ORDER],
    }


def row_of(item: Option, config: Config) -> dict[str, Any]:
    """One option; a configuration that was made in code, field by field, knows no origins."""
    value = getattr(config, item.name)
    default = "default" if value == item.default else "argument"
    return {
        "name": item.name,
        "value": item.shown(value),
        "default": item.shown(item.default),
        "origin": config.origins.get(item.name, default),
        "environment": item.env if item.parse is not None else None,
        "help": item.help,
    }


ROUTES = (
    Page(
        slug="settings",
        title="Settings",
        template="pages/settings.html",
        load=load,
        permission=Permission.OPERATE,
        nav=True,
    ),
)
