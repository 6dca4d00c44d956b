"""The status: what is captured and what cannot be, the counters and their sum, the store, the options in force."""

import importlib.metadata
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from asgi_llmobs.admin.page import Page, Permission, View
from asgi_llmobs.config import OPTIONS, Config
from asgi_llmobs.queries.status import store_status
from asgi_llmobs.safely import failures

__all__ = ["ROUTES"]

CAPTURED = (
    (
        "httpx and httpx2 clients",
        "sync and async, also inside the SDKs of OpenAI, Anthropic, Google, Mistral, Cohere, Groq, Ollama and LiteLLM",
    ),
    ("streams", "server-sent events, NDJSON, JSON arrays and Amazon's event stream, with the time of the first token"),
    ("retries", "every attempt on its own, with the waits between them"),
)
NOT_CAPTURED = (
    ("WebSocket SDKs", "realtime and live APIs do not speak HTTP after the handshake"),
    ("boto3", "it brings its own HTTP client; Bedrock over httpx is seen"),
    ("gRPC", "clients of Vertex AI with transport grpc; use transport rest"),
    ("requests, aiohttp, urllib3", "other HTTP clients are not watched"),
)
HIDDEN = ("auth", "prices", "providers", "record", "session", "user", "redact")


def load(view: View) -> dict[str, Any]:
    """Everything on one page; the options only for operators."""
    stats = counters(view.stats() if view.stats is not None else None)
    return {
        "stats": stats,
        "balanced": balanced(stats),
        "failures": failures(),
        "store": store_status(view.database, project=view.project),
        "captured": CAPTURED,
        "not_captured": NOT_CAPTURED,
        "version": version(),
        "options": options(view.config) if view.may(Permission.OPERATE) else None,
    }


def counters(stats: Any) -> dict[str, Any] | None:
    if stats is None:
        return None
    return dict(stats) if isinstance(stats, Mapping) else dict(stats._asdict())


def balanced(stats: dict[str, Any] | None) -> bool | None:
    """Whether every captured call is stored, waiting or dropped for a stated reason."""
    if not stats or not {"captured", "stored", "spooled", "dropped"} <= stats.keys():
        return None
    return bool(stats["captured"] == stats["stored"] + stats["spooled"] + sum(stats["dropped"].values()))


def options(config: Config) -> list[dict[str, Any]]:
    rows = []
    for item in OPTIONS:
        value = getattr(config, item.name)
        if item.name in HIDDEN:
            shown = "set" if value else "not set"
        elif item.name == "store":
            shown = without_password(value) if value else "default"
        else:
            shown = "not set" if value is None else str(value)
        rows.append({"name": item.name, "value": shown, "default": value == item.default, "help": item.help})
    return rows


def without_password(url: str) -> str:
    try:
        host = urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return "set"
    return re.sub(r"^([^:]+://)[^/]*", lambda found: found.group(1) + host, url.partition("?")[0])


def version() -> str:
    try:
        return importlib.metadata.version("asgi_llmobs")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


ROUTES = (
    Page(slug="status", title="Status", template="pages/status.html", load=load, permission=Permission.VIEW, nav=True),
)
