"""The bulk write: records in, rows out, once and only once, in one transaction a batch."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, select
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, ProgrammingError

from asgi_llmobs.errors import StoreError, Trouble
from asgi_llmobs.pace import paced
from asgi_llmobs.records import Attempt, Outcome, Request, Span, Written
from asgi_llmobs.scores import is_score, score_of
from asgi_llmobs.store import scores, search
from asgi_llmobs.store.attempts import attempt_of, attempt_row, attempts_of, superseded
from asgi_llmobs.store.contents import unpacked_content
from asgi_llmobs.store.database import Database, first_key, in_chunks, insert, new_keys
from asgi_llmobs.store.fitting import fitted
from asgi_llmobs.store.merging import Merging
from asgi_llmobs.store.rows import (
    MESSAGE,
    Rows,
    clean_properties,
    encode,
    fold_name,
    property_rows,
    without_content,
)
from asgi_llmobs.store.salvage import Salvage
from asgi_llmobs.store.tables import AttemptRow, ContentRow, PropertyRow, SpanRow
from asgi_llmobs.store.totals import Totals
from asgi_llmobs.store.values import bounded, dollars, integer, json_bytes, name, picodollars

__all__ = ["Sink", "Written"]

_spans = SpanRow.__table__  # type: ignore[attr-defined]
_contents = ContentRow.__table__  # type: ignore[attr-defined]
_attempts = AttemptRow.__table__  # type: ignore[attr-defined]
_properties = PropertyRow.__table__  # type: ignore[attr-defined]

# what one bad value causes, unlike a full disk or a lock
BAD_VALUE = (ValueError, TypeError, OverflowError, RecursionError, AttributeError)
BAD_VALUE_IN_DATABASE = (DataError, IntegrityError, InterfaceError, ProgrammingError)
NO_PARTITION = "23514"


class Stored(NamedTuple):
    """What of a stored row decides what a further record of it changes, and what it counts for: columns of it."""

    key: int
    id: str
    attempt: int
    outcome: str
    is_request: int
    start_ns: int
    duration_ns: int | None
    status: int | None
    error_type: str | None
    error_message: str | None
    cost: int | None
    input_tokens: int | None
    output_tokens: int | None
    properties: str | None
    session_id: str | None
    provider_request_id: str | None
    project: str
    trace_id: str
    session_name: str | None
    user_id: str | None
    route: str | None
    provider: str | None
    operation: str | None
    request_model: str | None
    response_model: str | None
    first_token_ns: int | None
    cache_read: int | None
    cache_write: int | None
    reasoning: int | None
    audio_input: int | None
    audio_output: int | None
    image_input: int | None
    image_output: int | None
    estimated: int
    truncated: int
    calls_tools: int


FIND = f"SELECT {', '.join(Stored._fields)} FROM llmobs_spans WHERE project = :mark AND id IN (:ids)"  # noqa: S608


class Sink:
    """Writes records into *database*, and looks after it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._salvage = Salvage(database, Batch)

    def write(self, batch: Sequence[Span]) -> Written:
        """Store all of *batch* in one transaction; a record that was stored before is not stored twice.

        A record that the database refuses is left out and counted, if it does so without most of the content too; its
        neighbours are stored.

        Raises:
            StoreError: The database cannot be reached or is full; nothing of the batch was stored, try again later.
            SchemaTooNew: It was written by a newer version.
        """
        if not batch:
            return Written(0, 0)
        if self.database.low() and any(map(has_content, batch)):
            raise StoreError("what room is left is for deleting, and for what has no content", Trouble.FULL)
        try:
            with self.database.write() as connection:
                Batch(connection).store(batch)
            return Written(len(batch), 0)
        except BAD_VALUE:
            pass
        except StoreError as error:
            if error.trouble == Trouble.FULL and self.database.relieve():
                return self.write(batch)
            if not from_a_bad_value(error.__cause__):
                raise
        if len(batch) == 1:
            smaller = fitted(batch[0])
            return Written(0, 1) if smaller is None else self.write([smaller])
        half = len(batch) // 2
        left, right = self.write(batch[:half]), self.write(batch[half:])
        return Written(left.stored + right.stored, left.refused + right.refused)

    def tend(self) -> None:
        """A small step of what keeps the database in order, if one is due.

        Raises:
            StoreError: The database cannot be reached.
        """
        self.database.tend()
        self._salvage.step()


def has_content(record: Span) -> bool:
    if isinstance(record, Request):
        return record.request_body is not None or record.response_body is not None
    return record.input is not None or record.output is not None


def from_a_bad_value(cause: BaseException | None) -> bool:
    """Whether the database objects to what it was given, and not to being written at all, now or by us."""
    original: Any = getattr(cause, "orig", None)
    if hasattr(original, "sqlstate"):  # PostgreSQL says it exactly: data, integrity, program limits
        state = original.sqlstate
        if not state:
            return isinstance(cause, (DataError, ProgrammingError))
        return state[:2] in ("22", "23", "54") and state != NO_PARTITION
    return isinstance(cause, BAD_VALUE_IN_DATABASE)


class Batch:
    """One transaction: tells new rows from known ones, and writes both."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.totals = Totals(connection)

    def store(self, batch: Sequence[Span]) -> None:
        merging = Merging(self.connection, self.totals)
        records = merging.apply(folded([record for record in batch if not is_score(record)]))
        known = self.find(records) if records else {}
        new: list[Span] = []
        for place, record in records.items():
            stored = known.get(place)
            if stored is None:
                new.append(record)
            elif place in merging.replaced:
                self.replace(stored, record)
            else:
                self.update(stored, record)
        self.insert(new)
        scores.write(self.connection, [score_of(record) for record in batch if is_score(record)])
        scores.attach(self.connection, records.values())
        for record in records.values():
            if record.spread:
                self.spread(record)
        self.totals.refresh()

    def find(self, records: Mapping[tuple[str, str], Span]) -> dict[tuple[str, str], Stored]:
        """The rows that exist already, by project and id."""
        by_project: dict[str, list[str]] = defaultdict(list)
        for project, id in records:
            by_project[project].append(id)
        mark = "?" if self.connection.dialect.name == "sqlite" else "%s"
        lowest = first_key(self.connection, min(integer(record.start_ns) or 0 for record in records.values()))
        find = f"{FIND} AND key >= {lowest}" if lowest else FIND
        found = {}
        for project, ids in by_project.items():
            for chunk in in_chunks(ids):
                statement = find.replace(":mark", mark).replace(":ids", ", ".join([mark] * len(chunk)))
                for row in self.connection.exec_driver_sql(statement, (project, *chunk)):
                    stored = Stored(*row)
                    found[project, stored.id] = stored
        return found

    def insert(self, records: Sequence[Span]) -> None:
        if not records:
            return
        keys = new_keys(self.connection, [integer(record.start_ns) or 0 for record in records])
        self.insert_rows([encode(record, key) for key, record in paced(zip(keys, records, strict=True))])

    def insert_rows(self, rows: Sequence[Rows]) -> None:
        """Rows of spans that are not there yet, with all that hangs on them."""
        insert(self.connection, _spans, [row.span for row in rows])
        self.insert_children(rows)
        for row in paced(rows):
            self.totals.added(row.span)

    def insert_children(self, rows: Sequence[Rows]) -> None:
        insert(self.connection, _contents, [row.content for row in rows])
        insert(self.connection, _attempts, [attempt for row in rows for attempt in row.attempts])
        insert(self.connection, _properties, [entry for row in rows for entry in row.properties])
        search.index(self.connection, [row.words for row in rows if row.words is not None])

    def update(self, stored: Stored, record: Span) -> None:
        """A further record of a row: a later attempt, the end of what was running, or a replay."""
        if not isinstance(record, Request) or not stored.is_request:
            if rank(1, record.outcome) > rank(1, stored.outcome):
                self.replace(stored, record)
            return
        before = self.stored_attempts(stored)
        after = merged(before, attempts_of(without_content(record)))
        if rank(record.attempt, record.outcome) > rank(stored.attempt, stored.outcome):
            if stored.attempt < record.attempt:
                after = self.told(stored, after)
            self.replace(stored, in_whole(record, after, stored.start_ns))
        elif after != before:
            self.patch(stored, record, taken_down(record, after))

    def told(self, stored: Stored, attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
        """*attempts* with what is stored of the answer that another one replaces."""
        query = select(_contents.c.content).where(_contents.c.key == stored.key)
        packed = self.connection.execute(query).scalar()
        if packed is None:
            return attempts
        content = unpacked_content(packed)
        return superseded(attempts, stored.attempt, content.detail.get("response_headers") or (), content.bodies)

    def stored_attempts(self, stored: Stored) -> tuple[Attempt, ...]:
        rows = self.connection.execute(_attempts.select().where(_attempts.c.key == stored.key)).all()
        found = [attempt_of(row, stored.id) for row in rows]
        if not found:
            found.append(
                Attempt(
                    request_id=stored.id, number=stored.attempt, start_ns=stored.start_ns,
                    duration_ns=stored.duration_ns, outcome=stored.outcome, status=stored.status,
                    error_type=stored.error_type, error_message=stored.error_message,
                    provider_request_id=stored.provider_request_id, cost_usd=dollars(stored.cost),
                    input_tokens=stored.input_tokens, output_tokens=stored.output_tokens,
                )
            )  # fmt: skip
        return tuple(sorted(found, key=lambda attempt: attempt.number))

    def replace(self, stored: Stored, record: Span) -> None:
        """The row of *stored* becomes that of *record*, with all that hangs on it."""
        key = stored.key
        self.forget_properties(stored)
        search.forget(self.connection, [key])
        self.connection.execute(_attempts.delete().where(_attempts.c.key == key))
        self.connection.execute(_contents.delete().where(_contents.c.key == key))
        row = encode(record, key)
        insert(self.connection, _spans, [row.span], replace=True)
        self.insert_children([row])
        self.totals.changed(row.span, stored)

    def patch(self, stored: Stored, record: Request, attempts: tuple[Attempt, ...]) -> None:
        """An earlier attempt came late: the row stays, its sums and its start change."""
        start = min(stored.start_ns, integer(record.start_ns) or stored.start_ns)
        end = None if stored.duration_ns is None else stored.start_ns + stored.duration_ns
        self.forget_properties(stored)
        self.connection.execute(
            _spans.update().where(_spans.c.key == stored.key).values(
                start_ns=start,
                duration_ns=None if end is None else end - start,
                attempts=max(attempt.number for attempt in attempts),
                cost=summed(picodollars(attempt.cost_usd) for attempt in attempts),
                input_tokens=summed(attempt.input_tokens for attempt in attempts),
                output_tokens=summed(attempt.output_tokens for attempt in attempts),
            )
        )  # fmt: skip
        self.connection.execute(_attempts.delete().where(_attempts.c.key == stored.key))
        insert(self.connection, _attempts, [attempt_row(stored.key, attempt) for attempt in attempts])
        names = orjson.loads(stored.properties) if stored.properties else {}
        insert(self.connection, _properties, property_rows(stored.project, names, start, stored.key))
        row = self.connection.execute(_spans.select().where(_spans.c.key == stored.key)).one()
        self.totals.changed(tuple(row), stored)

    def spread(self, root: Span) -> None:
        """What was said of a trace after some of its spans were stored is put on those that say nothing themselves."""
        project, trace = name(root.project) or "", name(root.trace_id) or ""
        said = {
            "session_id": name(root.session_id),
            "session_name": name(root.session_name),
            "session_path": bounded(root.session_path, MESSAGE),
            "user_id": name(root.user_id),
        }
        properties = clean_properties(root.properties)
        chosen = (_spans.c.project == project) & (_spans.c.trace_id == trace)
        for row in self.connection.execute(_spans.select().where(chosen)).all():
            new: dict[str, Any] = {
                column: value for column, value in said.items() if value is not None and getattr(row, column) is None
            }
            own = orjson.loads(row.properties) if row.properties else {}
            known = {fold_name(label) for label in own}
            added = {label: value for label, value in properties.items() if fold_name(label) not in known}
            if added:
                new["properties"] = json_bytes({**added, **own}).decode()
                insert(self.connection, _properties, property_rows(project, added, row.start_ns, row.key))
            if new:
                this = _spans.c.key == row.key
                self.connection.execute(_spans.update().where(this).values(**new))
                changed = self.connection.execute(_spans.select().where(this)).one()
                self.totals.changed(tuple(changed), row)

    def forget_properties(self, stored: Stored) -> None:
        names = orjson.loads(stored.properties) if stored.properties else {}
        for project, label, value, start, key in property_rows(stored.project, names, stored.start_ns, stored.key):
            entry = _properties.c
            self.connection.execute(
                _properties.delete().where(
                    entry.project == project, entry.name == label, entry.value == value, entry.start_ns == start,
                    entry.key == key,
                )
            )  # fmt: skip


def rank(attempt: int, outcome: str) -> tuple[int, bool]:
    """Which of two records of one span says more: the later attempt, and of one attempt its end."""
    return attempt, outcome != Outcome.RUNNING


def folded(batch: Sequence[Span]) -> dict[tuple[str, str], Span]:
    """One record a span: several of one batch are put together."""
    out: dict[tuple[str, str], Span] = {}
    for record in batch:
        place = name(record.project) or "", name(record.id) or ""
        before = out.get(place)
        out[place] = record if before is None else together(before, record)
    return out


def together(first: Span, second: Span) -> Span:
    if not isinstance(first, Request) or not isinstance(second, Request):
        return second if rank(1, second.outcome) > rank(1, first.outcome) else first
    later = rank(second.attempt, second.outcome) > rank(first.attempt, first.outcome)
    winner, loser = (second, first) if later else (first, second)
    attempts = merged(attempts_of(without_content(winner)), attempts_of(without_content(loser)))
    if winner.attempt != loser.attempt:
        attempts = taken_down(loser, attempts)
    return in_whole(winner, attempts, loser.start_ns)


def taken_down(loser: Request, attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """*attempts* with what the answer of *loser* said, which is not the one that is shown."""
    bodies = {"request": loser.request_body, "response": loser.response_body}
    kept = {part: body for part, body in bodies.items() if body is not None}
    return superseded(attempts, loser.attempt, loser.response_headers, kept)


def merged(one: tuple[Attempt, ...], other: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """The attempts of both; of two with one number the finished one, else the first."""
    found: dict[int, Attempt] = {}
    for attempt in (*one, *other):
        before = found.get(attempt.number)
        if before is None or (before.outcome == Outcome.RUNNING and attempt.outcome != Outcome.RUNNING):
            found[attempt.number] = attempt
    return tuple(found[number] for number in sorted(found))


def in_whole(request: Request, attempts: tuple[Attempt, ...], start_ns: int) -> Request:
    """*request* from the start of its first attempt on, with all its attempts."""
    shift = request.start_ns - start_ns
    if shift <= 0:
        return replace(request, attempts=attempts)
    later: dict[str, Any] = {
        label: value + shift
        for label in ("duration_ns", "headers_ns", "first_chunk_ns", "first_token_ns", "last_chunk_ns")
        if (value := getattr(request, label)) is not None
    }
    later["chunk_times"] = tuple((time + shift, size) for time, size in request.chunk_times)
    return replace(request, start_ns=start_ns, attempts=attempts, **later)


def summed(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return integer(sum(known)) if known else None
