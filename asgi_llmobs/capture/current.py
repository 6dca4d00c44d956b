"""The trace that runs now: what is said of it, where we are in it, and how it is taken into another thread."""

import contextvars
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar

from asgi_llmobs.capture.blocks import short, texts
from asgi_llmobs.context import current_place, place
from asgi_llmobs.safely import guarded, safely

__all__ = ["Current", "annotate", "current", "current_trace_id", "propagate"]

P = ParamSpec("P")
R = TypeVar("R")


def annotate(
    *,
    session: str | None = None,
    session_name: str | None = None,
    session_path: str | None = None,
    user: str | None = None,
    name: str | None = None,
    project: str | None = None,
    **properties: Any,
) -> None:
    """Say what is known about the trace that runs now; all its spans get it. Outside a trace nothing happens.

    Args:
        session: Id of the session (a conversation, a workflow run).
        session_name: What the session is called.
        session_path: Where in the session this happens, e.g. ``/research/summary``.
        user: Id of the user who caused it.
        name: What the trace is called.
        project: The project that it belongs to: say it first, what is over by then stays in the one before.
        **properties: Keys and values to filter and group by.
    """
    with safely("annotate"):
        here = current_place()
        if here is None:
            return
        shared = here.trace
        for attribute, value in (
            ("session_id", session),
            ("session_name", session_name),
            ("session_path", session_path),
            ("user_id", user),
            ("name", name),
            ("project", project or None),
        ):
            if value is not None:
                setattr(shared, attribute, short(value))
        shared.properties.update(texts(properties))
        shared.late = shared.late or shared.told


class Current(NamedTuple):
    """Where we are now."""

    trace_id: str
    span_id: str | None
    session_id: str | None
    user_id: str | None
    properties: Mapping[str, str]


@guarded("current")
def current() -> Current | None:
    """The current span and what is known about its trace; ``None`` outside any trace."""
    here = current_place()
    if here is None:
        return None
    shared = here.trace
    return Current(shared.id, here.span_id, shared.session_id, shared.user_id, {**shared.properties, **here.properties})


@guarded("current")
def current_trace_id() -> str | None:
    """The id of the trace that runs now; ``None`` outside any trace."""
    here = current_place()
    return None if here is None else here.trace.id


def propagate(fn: Callable[P, R]) -> Callable[P, R]:
    """*fn*, to be run in another thread or executor, with the context of here and now.

    ``loop.run_in_executor``, ``threading.Thread`` and ``ThreadPoolExecutor`` do not take it along by themselves. An
    async function, for a loop in another thread, keeps its place in the trace.
    """
    if inspect.iscoroutinefunction(fn):
        there = place.get()

        @functools.wraps(fn)
        async def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            before = place.get()
            place.set(there)
            try:
                return await fn(*args, **kwargs)
            finally:
                place.set(before)

        return run  # type: ignore[return-value]
    here = contextvars.copy_context()

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # a copy for each call: one context cannot be entered by two threads at once
        return here.copy().run(fn, *args, **kwargs)

    return call
