"""What GenAI instrumentations tell in events of their own, as log records: what was said, and how it was judged."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from asgi_llmobs.errors import ScoreError
from asgi_llmobs.providers.otel import dumped, told
from asgi_llmobs.records import Kind, Message, Score, Span
from asgi_llmobs.scores import carried, make_score
from asgi_llmobs.semconv.messages import decoded, messages_of
from asgi_llmobs.semconv.spans import CHOICE_EVENT, DETAILS_EVENT, PROMPT_EVENTS, ROLE_EVENTS, choices_of, of_events
from asgi_llmobs.semconv.told import Event, Log

__all__ = ["entries_of"]

EVALUATION = "gen_ai.evaluation.result"
CONTENT_EVENTS = frozenset((*ROLE_EVENTS, *PROMPT_EVENTS, CHOICE_EVENT, DETAILS_EVENT))


def entries_of(logs: Iterable[Log], project: str, *, full: bool) -> tuple[list[Span], int]:
    """What *logs* tell, and how many of them tell nothing that is kept.

    The content of a call becomes a node below it; an evaluation becomes a score of it.

    Args:
        logs: Records that were sent together.
        project: Where what they tell belongs.
        full: Whether content is kept.
    """
    found: list[Span] = []
    said: dict[tuple[str, str], list[Log]] = defaultdict(list)
    unknown = 0
    for log in logs:
        name = name_of(log)
        if name == EVALUATION and (log.span_id or log.trace_id):
            score = score_of(log, project)
            unknown += score is None
            found += [carried(score)] if score is not None else []
        elif name in CONTENT_EVENTS and log.span_id and log.trace_id:
            said[log.trace_id, log.span_id].append(log)
        else:
            unknown += 1
    found += [node for events in said.values() if (node := node_of(events, project, full=full)) is not None]
    return found, unknown


def name_of(log: Log) -> str:
    name = log.name or log.attributes.get("event.name")
    return name if isinstance(name, str) else ""


def score_of(log: Log, project: str) -> Score | None:
    values = log.attributes
    name, number = values.get("gen_ai.evaluation.name"), values.get("gen_ai.evaluation.score.value")
    label, why = values.get("gen_ai.evaluation.score.label"), values.get("gen_ai.evaluation.explanation")
    by = log.resource.get("service.name")
    try:
        return make_score(
            str(name or "evaluation"),
            number if number is not None else label,
            target="span" if log.span_id else "trace",
            target_id=log.span_id or log.trace_id,
            trace_id=log.trace_id or None,
            comment=why if label is None or number is None else f"{label}: {why}" if why else str(label),
            author=by if isinstance(by, str) else None,
            project=project,
            id=digest(log.trace_id, log.span_id, dumped([values, log.time_ns]), size=16),
            time_ns=log.time_ns or time.time_ns(),
        )
    except ScoreError:
        return None


def node_of(logs: Sequence[Log], project: str, *, full: bool) -> Span | None:
    """What was said in a call, as a node below it; ``None`` where nothing was."""
    if not full:
        return None
    first = logs[0]
    events = [Event(name_of(log), log.time_ns, {"body": log.body, **log.attributes}) for log in logs]
    sides: dict[str, list[Message]] = {"input": of_events(events), "output": choices_of(events)}
    for event in events:
        if event.name == DETAILS_EVENT:
            rules = decoded(event.attributes.get("gen_ai.system_instructions"))
            if rules:
                sides["input"] += messages_of({"role": "system", "parts": rules}, "system")
            sides["input"] += messages_of(event.attributes.get("gen_ai.input.messages"), "user")
            sides["output"] += messages_of(event.attributes.get("gen_ai.output.messages"), "assistant")
    if not any(sides.values()):
        return None
    content = dumped([[log.time_ns, log.attributes, log.body] for log in logs])
    return Span(
        id=digest(first.trace_id, first.span_id, content, size=8),
        trace_id=first.trace_id,
        parent_id=first.span_id,
        project=project,
        kind=Kind.PROMPT,
        name="messages",
        start_ns=first.time_ns or time.time_ns(),
        duration_ns=0,
        pid=0,
        input=as_text(sides["input"]),
        output=as_text(sides["output"]),
    )


def as_text(messages: Sequence[Message]) -> str | None:
    return dumped([told(message) for message in messages]).decode() if messages else None


def digest(trace: str, span: str, content: bytes, *, size: int) -> str:
    """An id that the same records have whenever they are sent."""
    return hashlib.blake2b(f"{trace}:{span}:".encode() + content, digest_size=size).hexdigest()
