"""The judgements of what a page shows: who said what, and what the visitor may say or take back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from asgi_llmobs.admin.page import Permission, View
from asgi_llmobs.queries.scores import (
    GivenScore,
    scores_of_holders,
    scores_of_session,
    scores_of_span,
    scores_of_trace,
)
from asgi_llmobs.records import Score, ScoreKind

__all__ = ["JUDGE", "THUMBS", "Judged", "Said", "judged", "may_change", "said", "value_of"]

JUDGE = Permission.ANALYSE  # what judging takes
THUMBS = "thumbs"  # the name under which the keys + and - judge
READ = {"span": scores_of_span, "trace": scores_of_trace, "session": scores_of_session}
Target = Literal["span", "trace", "session"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One judgement as it is shown."""

    score: Score
    current: bool  # not taken back, and nothing later in its place
    mine: bool  # the visitor may take it back


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """All judgements of one thing and what it holds; *abouts* is what can be judged here, with its name."""

    abouts: Sequence[tuple[str, str]]
    now: Sequence[Said]
    before: Sequence[Said]
    around: Sequence[Said]  # of the trace and the session that it is in
    thumbs: bool | None  # the visitor's own, of the first of *abouts*
    may: bool


def judged(
    view: View,
    target: Target,
    id: str,
    *others: tuple[Target, str, str],
    trace_id: str | None = None,
    session_id: str | None = None,
) -> Judged:
    """What was said of a thing, for ``parts/scores.html``.

    Args:
        view: Of the page.
        target: What is judged.
        id: Its id.
        *others: What else can be judged on the page: target, id, and what it is called.
        trace_id: The trace that it is in: what was said of that is shown, too, and it can be judged.
        session_id: Its session, likewise.

    Raises:
        StoreError: The database cannot be read.
    """
    found = [said(view, given) for given in READ[target](view.database, view.project, id)]
    now = [each for each in found if each.current]
    own = (each.score for each in now if is_own_thumb(view, each.score, target, id))
    places: tuple[tuple[Target, str | None], ...] = (("trace", trace_id), ("session", session_id))
    holders = [(kind, holder) for kind, holder in places if holder]
    return Judged(
        abouts=[(f"{target}:{id}", f"this {'request' if target == 'span' else target}")]
        + [(f"{kind}:{other}", name) for kind, other, name in others]
        + [(f"{kind}:{holder}", f"its {kind}") for kind, holder in holders],
        now=now,
        around=[said(view, given) for given in scores_of_holders(view.database, view.project, holders)],
        before=[each for each in found if not each.current and each.score.says],
        thumbs=next((bool(score.value) for score in own), None),
        may=view.may(JUDGE),
    )


def is_own_thumb(view: View, score: Score, target: str, id: str) -> bool:
    mine = score.author == view.author and (score.target, score.target_id) == (target, id)
    return mine and score.name == THUMBS and score.kind == ScoreKind.THUMBS


def said(view: View, given: GivenScore) -> Said:
    """A score for the visitor: without its comment, which may quote a prompt, for who sees no content."""
    shown = given.score if view.content else replace(given.score, comment=None)
    return Said(score=shown, current=given.current, mine=given.current and may_change(view, given.score))


def may_change(view: View, score: Score) -> bool:
    """Whether the visitor may take *score* back or change it: its author, or an operator."""
    return view.may(Permission.OPERATE) or (view.may(JUDGE) and score.author == view.author)


def value_of(text: str, kind: str) -> Any:
    """What a field says: empty is no value; without a kind the words of thumbs and numbers are what they mean."""
    text = text.strip()
    word = {"true": True, "up": True, "false": False, "down": False}.get(text.lower())
    if kind in (ScoreKind.THUMBS, ScoreKind.TAG, "") and word is not None:
        return word
    if kind == "":
        try:
            return float(text)
        except ValueError:
            return text or None
    return text or None
