"""Judgements: how one is made of what somebody says, and how it travels among spans."""

import math
import time
from dataclasses import fields, replace
from typing import Any
from uuid import uuid4

from asgi_llmobs.errors import ScoreError
from asgi_llmobs.records import Score, ScoreKind, Span

__all__ = ["CARRIED", "TARGETS", "Value", "carried", "is_score", "make_score", "score_of", "taken_back"]

TARGETS = ("span", "trace", "session")
CARRIED = "score"  # kind of the span that a score travels as
MAX_NAME = 256
MAX_ID = 4_096
MAX_LABEL = 1_000
MAX_COMMENT = 10_000
OF_THE_SPAN = ("id", "project", "name", "time_ns", "trace_id", "comment")  # what a span has a place for
OWN = tuple(item.name for item in fields(Score) if item.name not in OF_THE_SPAN)
Value = bool | float | str | None


def make_score(
    name: str,
    value: Value = None,
    *,
    target: str,
    target_id: str,
    kind: str | None = None,
    comment: str | None = None,
    author: str | None = None,
    trace_id: str | None = None,
    project: str = "default",
    id: str | None = None,
    time_ns: int | None = None,
    keep: bool = True,
) -> Score:
    """A score out of what somebody says.

    Without *kind* a bool is thumbs, a number a number, a text a label, and a comment alone a note.

    Args:
        name: What is judged: ``helpful``, ``accuracy``. Of a tag the tag itself.
        value: ``True`` or ``False`` for thumbs and tags, a finite number, or the text of a label. ``None`` takes back
            what the same author said under this name, except for a note, whose text is the comment.
        target: ``span``, ``trace`` or ``session``.
        target_id: Its id. Of a request also the id that the app gave it.
        kind: ``thumbs number label note tag``.
        comment: Why; of a note what it says.
        author: Who says so.
        trace_id: Of the span, where it is known.
        project: In which project.
        id: The same judgement has the same id, and is stored once; a new one unless given.
        time_ns: When, in nanoseconds since 1970; now unless given.
        keep: Whether retention leaves the trace alone because of it.

    Raises:
        ScoreError: It cannot be understood; it names the field.
    """
    if target not in TARGETS:
        raise ScoreError("target", f"{target!r} is none of {', '.join(TARGETS)}")
    judged, named = text("target_id", target_id, MAX_ID), text("name", name, MAX_NAME)
    if judged is None:
        raise ScoreError("target_id", "say what is judged")
    if named is None:
        raise ScoreError("name", "a score needs a name")
    chosen = kind_of(value, kind, comment)
    number, label = value_of(value, chosen)
    return Score(
        id=text("id", id, MAX_NAME) or uuid4().hex,
        project=project,
        target=target,
        target_id=judged,
        trace_id=judged if target == "trace" else trace_id,
        name=named,
        kind=chosen,
        value=number,
        label=label,
        comment=text("comment", comment, MAX_COMMENT),
        author=text("author", author, MAX_NAME),
        time_ns=time.time_ns() if time_ns is None else time_ns,
        keep=keep,
    )


def kind_of(value: Value, kind: str | None, comment: str | None) -> ScoreKind:
    if kind is not None:
        if kind not in set(ScoreKind):
            raise ScoreError("kind", f"{kind!r} is none of {', '.join(ScoreKind)}")
        chosen = ScoreKind(kind)
        if chosen == ScoreKind.NOTE and not (comment or "").strip():
            raise ScoreError("comment", "a note needs a text")
        return chosen
    if isinstance(value, bool):
        return ScoreKind.THUMBS
    if isinstance(value, int | float):
        return ScoreKind.NUMBER
    if isinstance(value, str):
        return ScoreKind.LABEL
    if comment and comment.strip():
        return ScoreKind.NOTE
    raise ScoreError("value", "is True or False, a number or a text; a note has a comment")


def value_of(value: Value, kind: ScoreKind) -> tuple[float | None, str | None]:
    """Number and text of a value of this *kind*."""
    if kind == ScoreKind.NOTE or value is None:
        return None, None
    if kind == ScoreKind.LABEL:
        return None, text("value", str(value), MAX_LABEL)
    if kind == ScoreKind.NUMBER:
        return number_of(value), None
    if value not in (0, 1, False, True):
        raise ScoreError("value", f"{kind} is True or False")
    if kind == ScoreKind.TAG:  # one that is not there is one taken back
        return (1.0 if value else None), None
    return float(value), None


def number_of(value: Value) -> float:
    if isinstance(value, bool) or value is None:
        raise ScoreError("value", "is no number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ScoreError("value", "is no finite number")
    return number


def text(field: str, value: Any, limit: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ScoreError(field, "is a text")
    return value.strip()[:limit] or None


def taken_back(score: Score) -> Score:
    """What takes *score*, which is no note, back: said by the same author under the same name, without a value."""
    return replace(
        score, id=uuid4().hex, value=None, label=None, comment=None, time_ns=max(time.time_ns(), score.time_ns + 1)
    )


def carried(score: Score) -> Span:
    """*score* as the span that takes it through the spool, where it outlives the process as calls do."""
    said: dict[str, Any] = {name: value for name in OWN if (value := getattr(score, name)) is not None}
    return Span(
        id=score.id,
        trace_id=score.trace_id or "",
        project=score.project,
        kind=CARRIED,
        name=score.name,
        start_ns=score.time_ns,
        duration_ns=0,
        input=score.comment,
        attributes=said,
    )


def is_score(record: Span) -> bool:
    """Whether a span is a score under way."""
    return record.kind == CARRIED


def score_of(record: Span) -> Score:
    """The score that travels as *record*."""
    return Score(
        id=record.id,
        project=record.project,
        name=record.name,
        time_ns=record.start_ns,
        trace_id=record.trace_id or None,
        comment=record.input,
        **record.attributes,
    )
