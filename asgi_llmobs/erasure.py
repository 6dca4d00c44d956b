"""Takes out everything of a user, a session, a trace or a request, so that no byte of it is left."""

import os
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Required, TypedDict, Unpack

from asgi_llmobs.errors import StoreError, Trouble
from asgi_llmobs.store import removal, scores
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.values import name

__all__ = ["Erased", "Target", "clean", "erase", "mentions", "take_out"]

STEP = 200  # spans that go in one transaction at most
PAUSE_SECONDS = 0.02  # in which others may write
CLEAN_SECONDS = 10.0  # that writers and readers are waited for
READER = "a reader holds on to an older state, which the log of the database still has: run it again later"
SHARED = "the file has tables of somebody else, so it is not written anew: VACUUM it, then no page has pieces of it"


class Erased(NamedTuple):
    """What went: traces that are gone, spans of any kind; and why bytes of it may still be in a SQLite file or its log,
    if so."""

    traces: int
    spans: int
    left: str | None = None


class Target(TypedDict, total=False):
    """What is to go."""

    project: Required[str]  # in which it is
    user: str | None  # all of a user
    session: str | None  # all of a session
    id: str | None  # one span or request alone
    trace: str | None  # a whole trace


def erase(database: Database, **target: Unpack[Target]) -> Erased:
    """Delete everything of what is named, also what is pinned, and every byte of it. Blocking, and it takes its time.

    Of a user or a session every trace goes that has a span of theirs. Writers go on, but for the end: they wait while a
    SQLite file is written anew.

    Args:
        database: The store.
        target: Of whom or what, see :class:`Target`.

    Raises:
        StoreError: The database cannot be read or written.
    """
    traces, spans = take_out(database, **target)
    return Erased(traces, spans, clean(database))


def take_out(database: Database, **target: Unpack[Target]) -> tuple[int, int]:
    """As :func:`erase`, but for the bytes: those are left where they were until :func:`clean`; how many traces and
    spans."""
    place, user, session = name(target["project"]) or "", name(target.get("user")), name(target.get("session"))
    spans = 0
    if (id := target.get("id")) is not None:
        with database.write() as connection:
            spans += removal.remove_one(connection, place, name(id) or "")
    with database.read(fresh=True) as connection:
        traces = removal.traces_of(connection, place, user=user, session=session)
    if (trace := target.get("trace")) is not None:
        traces.append(name(trace) or "")
    with database.write() as connection:
        scores.forget(connection, place, traces=traces, session=session, author=user)
    for first in range(0, len(traces), STEP):
        chosen = traces[first : first + STEP]
        left = True
        while left:
            with database.write() as connection:
                gone = removal.remove(connection, place, chosen, limit=STEP)
                removal.unpin(connection, place, chosen)
            spans, left = spans + gone, gone >= STEP
            time.sleep(PAUSE_SECONDS)
    return len(traces), spans


def clean(database: Database) -> str | None:
    """Leave no byte of whatever was deleted, at any time; why some may be left, if so.

    That SQLite overwrites what it deletes is not enough: where it moves rows from page to page, copies of them stay in
    the free room between, and nobody knows of those when the rows go. Only a file written anew has none.
    """
    for _ in removal.shrink(database, whole=True):
        time.sleep(PAUSE_SECONDS)
    deadline = time.monotonic() + CLEAN_SECONDS
    while True:
        try:
            if not database.rewrite():
                return SHARED
            break
        except StoreError as error:
            if error.trouble != Trouble.TRANSIENT or time.monotonic() > deadline:
                return f"the file could not be written anew, so its pages may have pieces of it ({error}): run it again"
    deadline = time.monotonic() + CLEAN_SECONDS
    while not emptied(database):
        if time.monotonic() > deadline:
            return READER
        time.sleep(0.2)
    return None


def emptied(database: Database) -> bool:
    """Whether all of the log of a SQLite file is in the file; readers of old states can hold it up."""
    database.checkpoint()
    log = f"{database.path}-wal"
    return database.path is None or not os.path.exists(log) or os.path.getsize(log) == 0


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
