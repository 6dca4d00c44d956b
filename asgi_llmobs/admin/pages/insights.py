"""The insights: where money goes that need not, each finding with its amount, its arithmetic and its calls."""

from typing import Any

from asgi_llmobs.admin.curtain import bare_row
from asgi_llmobs.admin.page import NotFound, Page, Permission, View
from asgi_llmobs.errors import FilterError
from asgi_llmobs.filters import Filter
from asgi_llmobs.pricing import Pricer
from asgi_llmobs.queries.insights import KINDS, calls_of
from asgi_llmobs.queries.savings import insights

__all__ = ["ROUTES"]

PERIODS = ("24h", "7d", "30d")
USUAL = "7d"
# kind: heading, what it means, what to do
MEANINGS = {
    "repeated": (
        "Asked again, word for word",
        "The same bytes went to the same model more than once.",
        "Keep the answer: in a dictionary, in Redis, or with the provider. At a temperature above 0 each call gives "
        "another answer, which may be what you want.",
    ),
    "prefixes": (
        "Begins alike, and is not cached",
        "Calls share a long beginning, and nothing of it was read from the provider’s cache.",
        "Put what never changes first: tools, system prompt, documents. Then ask for caching where it is not automatic "
        "(cache_control at Anthropic).",
    ),
    "truncated": (
        "Cut off by a limit of tokens",
        "The answer ended where max_tokens did.",
        "Raise the limit, or ask for less. An answer that is cut off is paid for in full.",
    ),
    "retries": (
        "Sent again",
        "What the attempts before the last one took and cost.",
        "See which statuses they had: 429 wants fewer calls at a time, a timeout a longer one.",
    ),
    "tools": (
        "Much room for tools",
        "Definitions of tools are a third or more of what went in.",
        "Offer only those that fit the task, and shorten their descriptions.",
    ),
    "gone": (
        "Nobody waited for it",
        "The stream was left before it ended: the client went away, or the app did.",
        "Cancel the call when the client goes, and send what comes as it comes.",
    ),
    "cheaper": (
        "Sold for less elsewhere",
        "Another provider lists a model of the very same name for at least a twentieth less. The tokens are those of "
        "the whole time, the prices those of now; resellers and subscriptions are left out.",
        "Compare quality, speed and terms before you move.",
    ),
}


def load(view: View) -> dict[str, Any]:
    """All findings of a time, by kind."""
    since, flt = time_of(view)
    found = insights(view.database, flt, Pricer(view.config.prices))
    kinds = [
        {
            "kind": kind,
            "title": title,
            "means": means,
            "advice": advice,
            "found": [each for each in found.found if each.kind == kind],
        }
        for kind, (title, means, advice) in MEANINGS.items()
    ]
    dearest = {each.kind: each.amount or 0 for each in reversed(found.found)}
    kinds.sort(key=lambda each: -dearest.get(str(each["kind"]), -1))
    return {
        "kinds": kinds,
        "looked_at": found.looked_at,
        "capped": found.capped,
        "since": since,
        "until": view.get("until"),
        "periods": list(PERIODS),
        "until_ns": found.made_ns,
    }


def load_calls(view: View) -> dict[str, Any]:
    """The calls of one finding."""
    kind = view.params["kind"]
    if kind not in KINDS:
        raise NotFound
    since, flt = time_of(view)
    text = view.get("key") or "0"
    if not text.removeprefix("-").isdecimal() or len(text) > 20:
        raise FilterError("key", "is a number")
    provider, model = view.get("provider"), view.get("model")
    rows = calls_of(view.database, flt, kind, key=int(text), provider=provider, model=model)
    return {
        "kind": kind,
        "title": MEANINGS[kind][0],
        "model": model,
        "provider": provider,
        "since": since,
        "until": view.get("until"),
        "rows": [row if view.content else bare_row(row) for row in rows],
    }


def time_of(view: View) -> tuple[str, Filter]:
    since = view.get("since") or USUAL
    until = [("until", view.get("until"))] if view.get("until") else []
    return since, Filter.from_query([("since", since), *until], project=view.project)


ROUTES = (
    Page(
        slug="insights",
        title="Insights",
        template="pages/insights.html",
        load=load,
        permission=Permission.VIEW,
        nav=True,
    ),
    Page(
        slug="insights/{kind}",
        title="Calls of a finding",
        template="pages/insight.html",
        load=load_calls,
        permission=Permission.VIEW,
    ),
)
