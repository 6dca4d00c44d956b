"""Takes out everything of a user, a session, a trace or a request, so that no byte of it is left."""

import os
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from asgi_llmobs.store import removal, scores
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.values import name

__all__ = ["Erased", "erase", "mentions"]

STEP = 200  # spans that go in one transaction at most
PAUSE_SECONDS = 0.02  # in which others may write
CHECKPOINT_SECONDS = 10.0  # that emptying the log waits for readers


class Erased(NamedTuple):
    """What went: traces that are gone, spans of any kind; and whether a SQLite file and its log hold no trace of it."""

    traces: int
    spans: int
    clean: bool


def erase(
    database: Database,
    *,
    project: str,
    user: str | None = None,
    session: str | None = None,
    id: str | None = None,
    trace: str | None = None,
) -> Erased:
    """Delete everything of what is named, also what is pinned. Blocking, and it takes its time; writers go on.

    Of a user or a session every trace goes that has a span of theirs.

    Args:
        database: The store.
        project: In which project.
        user: All of a user.
        session: All of a session.
        id: One span or request alone.
        trace: A whole trace.

    Raises:
        StoreError: The database cannot be read or written.
    """
    place = name(project) or ""
    spans = 0
    if id is not None:
        with database.write() as connection:
            spans += removal.remove_one(connection, place, name(id) or "")
    with database.read(fresh=True) as connection:
        traces = removal.traces_of(connection, place, user=name(user), session=name(session))
    if trace is not None:
        traces.append(name(trace) or "")
    with database.write() as connection:
        scores.forget(connection, place, traces=traces, session=name(session), author=name(user))
    for first in range(0, len(traces), STEP):
        chosen = traces[first : first + STEP]
        left = True
        while left:
            with database.write() as connection:
                gone = removal.remove(connection, place, chosen, limit=STEP)
                removal.unpin(connection, place, chosen)
            spans, left = spans + gone, gone >= STEP
            time.sleep(PAUSE_SECONDS)
    for _ in removal.shrink(database, whole=True):
        time.sleep(PAUSE_SECONDS)
    return Erased(len(traces), spans, emptied(database))


def emptied(database: Database) -> bool:
    """Whether what was deleted is out of the log of a SQLite file as well; readers of old states can hold it up."""
    deadline = time.monotonic() + CHECKPOINT_SECONDS
    while True:
        database.checkpoint()
        log = f"{database.path}-wal"
        if database.path is None or not os.path.exists(log) or os.path.getsize(log) == 0:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)


def mentions(folder: str, texts: Sequence[str]) -> Iterator[str]:
    """The files in and below *folder*, which processes let calls wait in, that hold one of *texts*."""
    needles = [text.encode() for text in texts if text]
    for path in sorted(os.path.join(parent, file) for parent, _, files in os.walk(folder) for file in files):
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:  # gone in the meantime
            continue
        if any(needle in content for needle in needles):
            yield path
