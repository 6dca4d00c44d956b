"""The status: what is captured and what cannot be, the counters and their sum, the store."""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from asgi_llmobs.admin.page import Page, Permission, View
from asgi_llmobs.queries.status import store_status, workers
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
EVENTS = 20


def load(view: View) -> dict[str, Any]:
    """Everything on one page."""
    stats = counters(view.stats() if view.stats is not None else None)
    return {
        "stats": stats,
        "balanced": balanced(stats),
        "failures": failures(),
        "workers": workers(view.database, project=view.project),
        "overhead": overhead(stats),
        "events": view.database.events[-EVENTS:][::-1],
        "store": store_status(view.database, project=view.project),
        "captured": CAPTURED,
        "not_captured": NOT_CAPTURED,
        "version": version(),
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


def overhead(stats: dict[str, Any] | None) -> dict[str, int | None] | None:
    """What we cost this process, in nanoseconds: for each call, for each stored record, and now."""
    if not stats or "batch_ns" not in stats:
        return None
    return {
        "caller_ns": stats["caller_ns"],
        "writer_ns": stats["writer_cpu_ns"] // stats["stored"] if stats["stored"] else None,
        "writer_cpu_ns": stats["writer_cpu_ns"],
        "queue_age_ns": stats["queue_age_ns"],
        "batch_ns": stats["batch_ns"],
    }


def version() -> str:
    try:
        return importlib.metadata.version("asgi_llmobs")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


ROUTES = (
    Page(slug="status", title="Status", template="pages/status.html", load=load, permission=Permission.VIEW, nav=True),
)
