"""The help: what the words mean, the keys, and how to ask for what one looks for."""

from typing import Any

from asgi_llmobs.admin.keys import GOES, KEYS
from asgi_llmobs.admin.page import Page, Permission, View

__all__ = ["ROUTES"]

WORDS = (
    ("request", "one logical LLM call that the app made: a chat, an embedding, an image. One row of Requests."),
    (
        "attempt",
        "one HTTP exchange of a request. An SDK that tries again makes several, each with its own time and cost.",
    ),
    ("span", "any timed piece of work: an incoming HTTP request, a request to a model, a tool, a retriever, your own."),
    (
        "trace",
        "everything that one incoming request caused, as a tree: what called what, when, how long, how much.",
    ),
    ("session", "requests and traces under one session id, in order: a conversation, or a run of a workflow."),
    ("user", "who caused it, as the app or a header says."),
    ("property", "a name and a value that the app put on a span; the spans below it inherit it."),
    ("score", "a judgement on a span, a trace or a session: thumbs, a number, a label, a tag or a note."),
    ("project", "the boundary: lists, totals, tokens and roles of one project never reach into another."),
    (
        "no price",
        "the price of the model is not known. It is left out of sums and counted beside them, never taken for $0.",
    ),
)

SEARCHES = (
    ("model:gpt-4o*", "asked for or answered by; * stands for anything"),
    ("status:error", "an outcome, an HTTP code such as 429, or a class such as 5xx"),
    ("cost:>0.01 latency:>2s", "more than a cent and two seconds"),
    ("user:ada session:trip-1", "of one user in one session"),
    ("property.Feature:chat", "with this property"),
    ("route:/chat -model:gpt-4o", "from one endpoint, but not this model"),
    ("(model:gpt-4o OR model:o3)", "either"),
    ('"two children"', "these words in prompt or answer"),
)


def load(view: View) -> dict[str, Any]:
    """The same for everybody."""
    return {
        "words": [{"word": word, "means": means} for word, means in WORDS],
        "keys": [{"where": where, "keys": list(keys)} for where, keys in KEYS],
        "goes": dict(GOES),
        "searches": [list(pair) for pair in SEARCHES],
    }


ROUTES = (
    Page(slug="help", title="Help", template="pages/help.html", load=load, permission=Permission.METRICS, nav=True),
)
