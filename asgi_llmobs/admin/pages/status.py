"""The status: what is captured and what cannot be, the counters and their sum, the store."""

import importlib.metadata
import time
from collections.abc import Mapping
from typing import Any

from asgi_llmobs.admin.formats import duration, size
from asgi_llmobs.admin.page import Page, Permission, View
from asgi_llmobs.limits import Plan
from asgi_llmobs.queries.status import DAY_NS, Growth, growth, store_status, workers
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
    (
        "requests, aiohttp, urllib3",
        "other HTTP clients are not watched. google-genai takes aiohttp for async calls where it is installed; with "
        "http_options={'httpx_async_client': httpx2.AsyncClient()} they are seen",
    ),
)
EVENTS = 20


def load(view: View) -> dict[str, Any]:
    """Everything on one page."""
    stats = counters(view.stats() if view.stats is not None else None)
    store = store_status(view.database, project=view.project)
    grown = growth(view.database, project=view.project, now_ns=time.time_ns(), span_count=store.spans)
    return {
        "stats": stats,
        "balanced": balanced(stats),
        "failures": failures(),
        "workers": workers(view.database, project=view.project),
        "overhead": overhead(stats),
        "memory_only": memory_only(stats, view),
        "growth": grown,
        "forecast": forecast(grown, view),
        "events": view.database.events[-EVENTS:][::-1],
        "store": store,
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


def memory_only(stats: dict[str, Any] | None, view: View) -> str | None:
    """Why what waits to be stored would not outlive a killed process; ``None`` where it would."""
    if stats is None or stats.get("durable", True):
        return None
    if stats.get("trouble"):
        return str(stats["trouble"])
    if not view.config.spool_bytes:
        return "spool_bytes is 0, so what waits to be stored waits in memory"
    if view.database.sqlite and view.database.path is None:
        return "the store itself is in memory"
    return "this platform has no files that can be shared and locked as we need it"


def forecast(grown: Growth, view: View) -> list[str]:
    """What retention will do at the growth of the last week, in sentences."""
    plan = Plan() if view.config.retention is None else Plan.parse(view.config.retention)
    limits = plan.of(view.project, own=view.project == view.config.project)
    if limits is None or not (limits.records or limits.bodies):
        month = grown.size_bytes + 30 * grown.bytes_a_day
        return [
            f"Everything is kept. In 30 days this will be about {size(int(month))}. To set limits: retention=30d,2GB."
        ]
    said = []
    if limits.age_ns is not None:
        days = limits.age_ns / DAY_NS
        said.append(f"Kept for {duration(limits.age_ns)}: at this rate about {size(int(days * grown.bytes_a_day))}.")
    if limits.size_bytes is not None:
        said.append(
            f"Kept up to {size(limits.size_bytes)}: {reached(grown.size_bytes, grown.bytes_a_day, limits.size_bytes)}."
        )
    if limits.spans is not None:
        said.append(f"Kept up to {limits.spans:,} spans: {reached(grown.spans, grown.spans_a_day, limits.spans)}.")
    if limits.bodies_age_ns is not None:
        said.append(f"Bodies and texts go after {duration(limits.bodies_age_ns)}; their spans stay.")
    if limits.bodies_size_bytes is not None:
        said.append(f"Bodies and texts are kept up to {size(limits.bodies_size_bytes)}; their spans stay.")
    if limits.bodies_spans is not None:
        said.append(f"Bodies and texts are kept of the newest {limits.bodies_spans:,} spans.")
    return [*said, "What is pinned or was judged stays."]


def reached(now: float, a_day: float, limit: int) -> str:
    if now >= limit:
        return "the oldest traces go as new ones come"
    if a_day <= 0:
        return "nothing came in the last week, so it is not reached"
    return f"reached in about {duration(int((limit - now) / a_day * DAY_NS))}"


def version() -> str:
    try:
        return importlib.metadata.version("asgi_llmobs")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


ROUTES = (
    Page(slug="status", title="Status", template="pages/status.html", load=load, permission=Permission.VIEW, nav=True),
)
