"""``score``: what the app, or its user, thinks of what was done."""

from typing import TypedDict, Unpack

from asgi_llmobs.capture.recorder import Recorder, active_recorder
from asgi_llmobs.context import Place, current_place, left_place
from asgi_llmobs.errors import ScoreError
from asgi_llmobs.records import Score
from asgi_llmobs.safely import report, safely
from asgi_llmobs.scores import Value, carried, make_score

__all__ = ["Details", "score", "score_with"]


class Details(TypedDict, total=False):
    """The further arguments of :func:`score`."""

    kind: str | None
    comment: str | None
    span: str | None
    trace: str | None
    session: str | None
    author: str | None
    id: str | None
    keep: bool


def score(
    name: str,
    value: Value = None,
    *,
    kind: str | None = None,
    comment: str | None = None,
    span: str | None = None,
    trace: str | None = None,
    session: str | None = None,
    author: str | None = None,
    id: str | None = None,
    keep: bool = True,
) -> str | None:
    """Say what you think of a span, a trace or a session: ``score("helpful", True, trace=trace_id)``.

    Without *span*, *trace* and *session* it is about the innermost ``span`` or observed function that is open here,
    else about the trace. Never raises: what cannot be kept is counted and logged.

    Args:
        name: What is judged; of a tag the tag itself.
        value: ``True`` or ``False``, a finite number, or a label. ``None`` takes back what the same author said before.
        kind: ``thumbs number label note tag``; told by the value unless given.
        comment: Why; alone it is a note.
        span: Id of a span, or of a request, also the one that the app gave it in ``LLMObs-Request-Id``.
        trace: Id of a trace, see ``current_trace_id``.
        session: Id of a session.
        author: Who says so. Of one author the latest value of a name counts.
        id: Where the same judgement may be sent again: it is stored once. A new one unless given.
        keep: Whether retention leaves the trace alone because of it; ``False`` for what judges everything.

    Returns:
        The id of the score; ``None`` where it is not kept.
    """
    return score_with(
        None, name, value, kind=kind, comment=comment, span=span, trace=trace, session=session, author=author, id=id,
        keep=keep,
    )  # fmt: skip


def score_with(own: Recorder | None, name: str, value: Value = None, **details: Unpack[Details]) -> str | None:
    """:func:`score` with the recorder of an engine; with that of the trace, or the current one, where ``None``."""
    with safely("score"):
        here = current_place() or left_place()
        recorder = active_recorder(here.trace if here is not None else None, own)
        if recorder is None:
            return None
        try:
            score = judged(recorder, here, own is None, name, value, details)
        except ScoreError as error:
            report("score", error, f"a score is not kept: {error}")
            return None
        if score is not None:
            recorder.record(carried(score))
            return score.id
    return None


def judged(
    recorder: Recorder, here: Place | None, shared: bool, name: str, value: Value, details: Details
) -> Score | None:
    """The score; ``None`` where what it is about is not kept. *shared*: whoever claims the trace claims it too.

    Raises:
        ScoreError: It cannot be understood.
    """
    target, target_id, known = meant(here, details.get("span"), details.get("trace"), details.get("session"))
    if known and here is not None and not here.trace.sampled:
        return None
    project = here.trace.project if here is not None and (shared or known) else recorder.config.project
    trace_id = here.trace.id if here is not None and known else None
    return make_score(
        name, value, target=target, target_id=target_id, trace_id=trace_id, project=project,
        kind=details.get("kind"), comment=details.get("comment"), author=details.get("author"), id=details.get("id"),
        keep=details.get("keep", True),
    )  # fmt: skip


def meant(here: Place | None, span: str | None, trace: str | None, session: str | None) -> tuple[str, str, bool]:
    """What is judged, its id, and whether it is what goes on here.

    Raises:
        ScoreError: It is said more than once, or not at all.
    """
    said = [(target, id) for target, id in (("span", span), ("trace", trace), ("session", session)) if id]
    if len(said) > 1:
        raise ScoreError("target", "is one of span, trace and session")
    if said:
        return *said[0], False
    if here is None:
        raise ScoreError("target", "outside a trace say which span, trace or session")
    return ("span", here.span_id, True) if here.open and here.span_id else ("trace", here.trace.id, True)
