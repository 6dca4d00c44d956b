"""The scores: what all of one name come to, the latest of them, and the addresses that judge and take back."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from asgi_llmobs.admin.board import group_items
from asgi_llmobs.admin.charts import Chart, Line
from asgi_llmobs.admin.formats import reference
from asgi_llmobs.admin.judging import JUDGE, THUMBS, may_change, said, value_of
from asgi_llmobs.admin.page import Action, Denied, Done, NotFound, Page, Permission, View
from asgi_llmobs.errors import ScoreError
from asgi_llmobs.filters import Filter
from asgi_llmobs.filters.expression import Term, written
from asgi_llmobs.queries.figures import property_names
from asgi_llmobs.queries.judgements import BY, ScoreSum, days_of, score_groups, score_steps
from asgi_llmobs.queries.scores import ScoreName, get_score, latest_scores, list_days, list_names
from asgi_llmobs.records import Score, ScoreKind
from asgi_llmobs.scores import make_score
from asgi_llmobs.store.scores import give, take_back

__all__ = ["ROUTES"]

LATEST = 30
LATEST_OF_ONE = 40
MOST_LABELS = 5  # that a chart tells apart
PERIODS = ("24h", "7d", "30d")


def load(view: View) -> dict[str, Any]:
    """Every name with its distribution, day by day, and the latest scores."""
    given = [(name, view.get(name)) for name in ("since", "until") if view.get(name)]
    flt = Filter.from_query(given, project=view.project)
    only = view.get("name")
    days = list_days(view.database, flt)
    names = [
        {"name": each, "days": days.get((each.name, each.kind), []), **searches(each)}
        for each in list_names(view.database, flt)
        if only in ("", each.name)
    ]
    latest = latest_scores(view.database, flt, label=only, limit=LATEST_OF_ONE if only else LATEST)
    return {
        "one": one_of(view, flt, names[0]["name"]) if only and names else None,
        "names": names,
        "latest": [{"said": said(view, each), "to": address(each.score)} for each in latest],
        "only": only,
        "since": view.get("since"),
        "until": view.get("until"),
        "periods": list(PERIODS),
        "filter": given,
        "empty": not names and not only and not given,
    }


def one_of(view: View, flt: Filter, found: ScoreName) -> dict[str, Any]:
    """One name: day by day, and by what was judged."""
    by = view.get("by") or BY[0]
    window = days_of(flt.since_ns or found.first_ns, flt.until_ns or found.last_ns + 1)
    steps = score_steps(view.database, flt, found.name, found.kind, window)
    groups, since_ns = score_groups(view.database, flt, found.name, found.kind, by)
    properties = [f"property.{each}" for each in property_names(view.database, view.project)]
    return {
        "kind": found.kind,
        "window": window,
        "steps": steps,
        "charts": charts(found, steps),
        "by": by,
        "choices": [(each, each.removeprefix("property.").capitalize()) for each in (*BY, *properties)],
        "groups": [{"sum": each, "items": group_items((by,), (each.key,))} for each in groups],
        "partial_since_ns": since_ns,
    }


def charts(found: ScoreName, steps: Sequence[ScoreSum]) -> list[Chart]:
    """What is drawn over time: how many were given, and what they come to."""
    if found.kind == ScoreKind.THUMBS:
        lines = [
            Line(label="Up", mark="ok", values=[one.values.get("up", 0) for one in steps]),
            Line(label="Down", mark="bad", values=[one.values.get("down", 0) for one in steps]),
        ]
    elif found.values:
        shown = [word for word, _ in found.values[:MOST_LABELS]]
        lines = [
            Line(label=word, mark=f"c{place}", values=[one.values.get(word, 0) for one in steps])
            for place, word in enumerate(shown, start=1)
        ]
        rest = [one.count - sum(one.values.get(word, 0) for word in shown) for one in steps]
        lines += [Line(label="Other", mark="rest", values=rest)] if any(rest) else []
    else:
        lines = [Line(label="Given", mark="c1", values=[one.count for one in steps])]
    drawn = [Chart(title="Given", unit="count", kind="bars", lines=lines)]
    means = [one.mean for one in steps]
    if found.kind == ScoreKind.THUMBS:
        share = Line(label="Up", mark="ok", values=means)
        drawn.append(Chart(title="Share of thumbs up", unit="share", kind="lines", lines=[share]))
    elif found.least is not None and found.least >= 0:  # an axis begins at 0
        mean = Line(label="Mean", mark="c2", values=means)
        drawn.append(Chart(title="Mean", unit="plain", kind="lines", lines=[mean]))
    return drawn


def searches(found: ScoreName) -> dict[str, Any]:
    """The searches for the requests behind each number of a name."""
    last = len(found.bins) - 1
    return {
        "search": term(found.name, "", "*"),
        "values": [(word, count, term(found.name, "", word)) for word, count in found.values],
        "bins": [
            (low, high, count, f"{term(found.name, '>=', low)} {term(found.name, '<=' if at == last else '<', high)}")
            for at, (low, high, count) in enumerate(found.bins)
        ],
    }


def term(name: str, test: str, value: str | float) -> str:
    """One condition on a score, in the language of the search."""
    text = value if isinstance(value, str) else f"{value!r}"
    return written(Term("score", test or (":" if text == "*" or not isinstance(value, str) else "="), text, name))


def address(score: Score) -> str:
    """Where what was judged is shown, from the mount."""
    folder = {"span": "requests", "trace": "traces", "session": "sessions"}[score.target]
    if score.target == "span" and score.trace_id:
        return f"traces/{reference(score.trace_id)}?node={reference(score.target_id)}"
    return f"{folder}/{reference(score.target_id)}"


# -- what changes something ------------------------------------------------------------------------------------------


def judge(view: View) -> Done:
    """Say something: ``about`` (``span:…``, ``trace:…``, ``session:…``), ``name``, ``value``, ``kind``, ``comment``.

    ``replaces`` is the id of a note that this one is to stand for; an operator may name another ``author``.
    """
    sent = view.fields
    target, colon, id = sent.get("about", "").partition(":")
    if not colon:
        raise ScoreError("about", "write span:<id>, trace:<id> or session:<id>")
    kind = sent.get("kind", "").strip()
    score = make_score(
        sent.get("name", "").strip() or kind,
        value_of(sent.get("value", ""), kind),
        target=target,
        target_id=id,
        kind=kind or None,
        comment=sent.get("comment"),
        author=author_of(view),
        project=view.project,
    )
    if not score.says:
        raise ScoreError("value", "say up or down, a number, or a text")
    if sent.get("replaces"):
        remove(view, sent["replaces"])
    give(view.database, score)
    return Done(next=sent.get("next", "./scores"), value=score)


def author_of(view: View) -> str:
    """Whom a score is from: an operator's program may speak for another, nobody else."""
    named = view.fields.get("author", "").strip()
    return named if named and view.may(Permission.OPERATE) else view.author


def withdraw(view: View) -> Done:
    """Take a score back; it stays in the history."""
    remove(view, view.params["id"])
    return Done(next=view.fields.get("next", "./scores"), value={"id": view.params["id"]})


def remove(view: View, id: str) -> None:
    given = get_score(view.database, view.project, id)
    if given is None:
        raise NotFound
    if not may_change(view, given.score):
        raise Denied
    take_back(view.database, view.project, given.score.id)


def feedback(target: str) -> Any:
    """Thumbs as Helicone's clients send them: ``{"rating": true}``."""

    def load(view: View) -> Done:
        rating = view.fields.get("rating", "")
        if rating not in ("true", "false"):
            raise ScoreError("rating", "is true or false")
        fields = {"about": f"{target}:{view.params['id']}", "name": THUMBS, "kind": ScoreKind.THUMBS, "value": rating}
        return judge(replace(view, fields=fields))

    return load


def many(view: View) -> Done:
    """Scores as Helicone's clients send them: ``{"scores": {"accuracy": 0.9, "helpful": true}}``."""
    try:
        scores = json.loads(view.fields.get("scores", ""))
    except (ValueError, RecursionError):
        scores = None
    if not isinstance(scores, dict) or not scores:
        raise ScoreError("scores", 'send {"scores": {"accuracy": 0.9}}')
    made = [
        make_score(
            name, value, target="span", target_id=view.params["id"], author=author_of(view), project=view.project
        )
        for name, value in scores.items()
    ]
    give(view.database, *made)
    return Done(next="./scores", value=made)


ROUTES = (
    Page(slug="scores", title="Scores", template="pages/scores.html", load=load, permission=Permission.VIEW, nav=True),
    Action(slug="scores", load=judge, permission=JUDGE),
    Action(slug="scores/{id}/delete", load=withdraw, permission=JUDGE),
    Action(slug="v1/request/{id}/score", load=many, permission=JUDGE),
    Action(slug="v1/request/{id}/feedback", load=feedback("span"), permission=JUDGE),
    Action(slug="v1/session/{id}/feedback", load=feedback("session"), permission=JUDGE),
)
