"""Where an exception came from, as text: bounded, and never with the values of variables."""

import linecache
from collections import deque
from collections.abc import Iterator
from types import TracebackType

from asgi_llmobs.capture.caller import HERE, short
from asgi_llmobs.safely import guarded, message_of

__all__ = ["STACKTRACE", "traceback_of"]

STACKTRACE = "exception.stacktrace"  # the attribute that holds it, as OpenTelemetry calls it
MAX_FRAMES = 20  # the innermost of each exception
MAX_EXCEPTIONS = 4  # that led to each other
MAX_DEPTH = 2  # of groups of exceptions
MAX_LINE = 200
MAX_CHARACTERS = 8_000  # the end of it, where the exception itself is
DURING = "During handling of the above exception, another exception occurred:"
CAUSED = "The above exception was the direct cause of the following exception:"


@guarded("traceback")
def traceback_of(error: BaseException) -> str | None:
    """As Python prints it, without our own frames: what led to *error* first, *error* itself last."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < MAX_EXCEPTIONS:
        seen.add(id(current))
        parts.append("\n".join(lines_of(current)))
        before = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        if before is not None:
            parts.append(CAUSED if current.__cause__ is not None else DURING)
        current = before
    if len(parts) % 2 == 0:  # more led to it than is told
        parts.pop()
    return "\n\n".join(reversed(parts))[-MAX_CHARACTERS:]


def lines_of(error: BaseException, depth: int = 0) -> Iterator[str]:
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):"
        yield from frames_of(error.__traceback__)
    name = type(error).__name__
    said = message_of(error)
    yield f"{name}: {said}" if said else name
    if isinstance(error, BaseExceptionGroup) and depth < MAX_DEPTH:
        for inner in error.exceptions[:MAX_EXCEPTIONS]:
            for line in "\n".join(lines_of(inner, depth + 1)).splitlines():
                yield f"  | {line}"


def frames_of(trace: TracebackType | None) -> Iterator[str]:
    kept: deque[TracebackType] = deque(maxlen=MAX_FRAMES)
    count = 0
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(HERE):
            kept.append(trace)
            count += 1
        trace = trace.tb_next
    if count > len(kept):
        yield f"  [{count - len(kept)} frames before]"
    for each in kept:
        code, number = each.tb_frame.f_code, each.tb_lineno
        yield f'  File "{short(code.co_filename)}", line {number}, in {code.co_name}'
        line = linecache.getline(code.co_filename, number or 0, each.tb_frame.f_globals).strip()
        if line:
            yield f"    {line[:MAX_LINE]}"
