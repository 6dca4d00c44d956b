"""The tables, on a registry and MetaData of their own: SQLModel's is the host's, and its migrations must not see ours.

A span of any kind is one narrow row of integers and short texts. What no list filters by, bodies too, is one compressed
piece beside it, and properties are keyed by name, value and time, so that a rare one is found at once.
Money is in integer picodollars (1e-12 US dollars), times are in nanoseconds.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

__all__ = [
    "AliasRow",
    "AttemptRow",
    "ContentRow",
    "MetaRow",
    "PARTITIONED",
    "PinRow",
    "PropertyRow",
    "RollupRow",
    "SCHEMA_VERSION",
    "ScoreRow",
    "SeriesRow",
    "SessionRow",
    "SignInRow",
    "SpanRow",
    "TextRow",
    "TraceRow",
    "WorkerRow",
    "UserRollupRow",
    "UserRow",
    "ViewRow",
    "metadata",
]

SCHEMA_VERSION = 10

metadata = MetaData()


def big(*, null: bool = True) -> Any:
    return Field(default=None if null else 0, sa_column=Column(BigInteger, nullable=null))


def small(*, null: bool = False) -> Any:
    return Field(default=None if null else 0, sa_column=Column(SmallInteger, nullable=null))


def words(*, null: bool = True) -> Any:
    return Field(default=None if null else "", sa_column=Column(Text, nullable=null))


def blob(*, null: bool = False) -> Any:
    return Field(default=None if null else b"", sa_column=Column(LargeBinary, nullable=null))


def row_key() -> Any:
    # integers in the order of arrival: new rows are appended, and the full-text index needs one
    kind = BigInteger().with_variant(Integer(), "sqlite")
    return Field(default=None, sa_column=Column(kind, primary_key=True, autoincrement=False))


class Table(SQLModel, registry=registry(metadata=metadata)):
    """The base of all our tables."""

    metadata = metadata


class MetaRow(Table, table=True):
    """Facts on the database itself: the version of the schema."""

    __tablename__ = "llmobs_meta"

    name: str = Field(sa_column=Column(Text, primary_key=True))
    value: str = words(null=False)


class WorkerRow(Table, table=True):
    """A process that captures: what it counted, told every few seconds."""

    __tablename__ = "llmobs_workers"

    id: str = Field(sa_column=Column(Text, primary_key=True))
    project: str = words(null=False)
    host: str = words(null=False)
    pid: int = big(null=False)
    started_ns: int = big(null=False)
    seen_ns: int = big(null=False)
    ended: int = small()  # it said goodbye
    counters: str = words(null=False)  # JSON


class SpanRow(Table, table=True):
    """Any timed node; the columns from ``provider`` on are those of LLM requests."""

    __tablename__ = "llmobs_spans"

    key: int = row_key()
    id: str = words(null=False)
    trace_id: str = words(null=False)
    parent_id: str | None = words()
    project: str = words(null=False)
    kind: str = words(null=False)
    is_request: int = small()
    name: str = words(null=False)
    start_ns: int = big(null=False)
    duration_ns: int | None = big()
    outcome: str = words(null=False)
    status: int | None = big()
    error_type: str | None = words()
    error_message: str | None = words()
    session_id: str | None = words()
    session_name: str | None = words()
    session_path: str | None = words()
    user_id: str | None = words()
    node_id: str | None = words()
    route: str | None = words()
    caller: str | None = words()
    properties: str | None = words()  # JSON, names as they were written
    input_preview: str | None = words()
    output_preview: str | None = words()
    provider: str | None = words()
    api: str | None = words()
    operation: str | None = words()
    request_model: str | None = words()
    response_model: str | None = words()
    request_id: str | None = words()
    response_id: str | None = words()
    provider_request_id: str | None = words()
    stream: int = small()
    first_token_ns: int | None = big()
    input_tokens: int | None = big()
    output_tokens: int | None = big()
    cache_read: int | None = big()
    cache_write: int | None = big()
    reasoning: int | None = big()
    audio_input: int | None = big()
    audio_output: int | None = big()
    image_input: int | None = big()
    image_output: int | None = big()
    estimated: int = small()
    cost: int | None = big()
    cost_reason: str | None = words()
    attempt: int = big(null=False)  # the newest that is stored
    attempts: int = big(null=False)
    truncated: int = small()  # a limit of tokens cut the answer off
    calls_tools: int = small()  # the answer calls tools
    prompt_hash: int | None = big()  # see fingerprints.py
    prefix_hash: int | None = big()
    tools_size: int | None = big()  # bytes of the definitions of tools that were sent
    marks: int | None = big()  # bits: what is in it, see marks.py; NULL where nobody looked
    finish: str | None = words()  # reasons, with commas between
    release: str | None = words()


class ContentRow(Table, table=True):
    """The rest of a span, see :mod:`asgi_llmobs.store.contents`: shown, never filtered by."""

    __tablename__ = "llmobs_contents"

    key: int = row_key()
    content: bytes = blob()


class AliasRow(Table, table=True):
    """The other id of a call that was both seen on the wire and told by an instrumentation, see ``merging``."""

    __tablename__ = "llmobs_aliases"
    __table_args__ = (
        PrimaryKeyConstraint("project", "trace_id", "id"),
        {"sqlite_with_rowid": False},
    )

    project: str = words(null=False)
    id: str = words(null=False)
    trace_id: str = words(null=False)
    request_id: str = words(null=False)  # of the span as it is stored


class AttemptRow(Table, table=True):
    """One HTTP exchange of a request that needed more than one, or whose only one failed."""

    __tablename__ = "llmobs_attempts"
    __table_args__ = (PrimaryKeyConstraint("key", "number"), {"sqlite_with_rowid": False})

    key: int = big(null=False)
    number: int = big(null=False)
    start_ns: int = big(null=False)
    duration_ns: int | None = big()
    outcome: str = words(null=False)
    status: int | None = big()
    error_type: str | None = words()
    error_message: str | None = words()
    retry_after: str | None = words()
    provider_request_id: str | None = words()
    cost: int | None = big()
    input_tokens: int | None = big()
    output_tokens: int | None = big()
    detail: bytes | None = blob(null=True)  # see attempts.py


class PropertyRow(Table, table=True):
    """The index of properties: folded name and value, then time."""

    __tablename__ = "llmobs_properties"
    __table_args__ = (
        PrimaryKeyConstraint("project", "name", "value", "start_ns", "key"),
        {"sqlite_with_rowid": False},
    )

    project: str = words(null=False)
    name: str = words(null=False)
    value: str = words(null=False)
    start_ns: int = big(null=False)
    key: int = big(null=False)


class TextRow(Table, table=True):
    """PostgreSQL's full-text index: in a column ``words`` that only it knows. SQLite's is a table of its own kind."""

    __tablename__ = "llmobs_texts"

    key: int = row_key()


class TraceRow(Table, table=True):
    """Totals of a trace, computed anew from its spans whenever one of them is written."""

    __tablename__ = "llmobs_traces"
    __table_args__ = (
        PrimaryKeyConstraint("project", "trace_id"),
        Index("llmobs_traces_start", "project", "start_ns", "trace_id"),
        {"sqlite_with_rowid": False},
    )

    project: str = words(null=False)
    trace_id: str = words(null=False)
    root_id: str | None = words()
    name: str = words(null=False)
    kind: str = words(null=False)
    route: str | None = words()
    session_id: str | None = words()
    user_id: str | None = words()
    start_ns: int = big(null=False)
    duration_ns: int | None = big()
    outcome: str = words(null=False)
    requests: int = big(null=False)
    finished: int = big(null=False)
    succeeded: int = big(null=False)
    spans: int = big(null=False)
    errors: int = big(null=False)
    depth: int = big(null=False)
    cost: int | None = big()
    unpriced: int = big(null=False)
    input_tokens: int | None = big()
    output_tokens: int | None = big()
    own_ns: int | None = big()  # how long the root itself took
    waited_ns: int | None = big()  # how much of that at least one model was waited for


class SessionRow(Table, table=True):
    """Totals of a session's requests, added to and taken from as they come, change and go."""

    __tablename__ = "llmobs_sessions"
    __table_args__ = (
        PrimaryKeyConstraint("project", "session_id"),
        Index("llmobs_sessions_end", "project", "end_ns", "session_id"),
        {"sqlite_with_rowid": False},
    )

    project: str = words(null=False)
    session_id: str = words(null=False)
    name: str | None = words()
    name_ns: int = big(null=False)  # start of the request that gave the name: the latest that has one; else -1
    user_id: str | None = words()
    user_ns: int = big(null=False)
    start_ns: int = big(null=False)
    end_ns: int = big(null=False)
    traces: int = big(null=False)
    requests: int = big(null=False)
    errors: int = big(null=False)
    priced: int = big(null=False)
    unpriced: int = big(null=False)
    cost: int = big(null=False)
    inputs: int = big(null=False)
    input_tokens: int = big(null=False)
    outputs: int = big(null=False)
    output_tokens: int = big(null=False)


class UserRow(Table, table=True):
    """Totals of a user's requests, kept like those of a session."""

    __tablename__ = "llmobs_users"
    __table_args__ = (
        PrimaryKeyConstraint("project", "user_id"),
        {"sqlite_with_rowid": False},
    )

    project: str = words(null=False)
    user_id: str = words(null=False)
    first_ns: int = big(null=False)
    last_ns: int = big(null=False)
    requests: int = big(null=False)
    errors: int = big(null=False)
    priced: int = big(null=False)
    unpriced: int = big(null=False)
    cost: int = big(null=False)
    inputs: int = big(null=False)
    input_tokens: int = big(null=False)
    outputs: int = big(null=False)
    output_tokens: int = big(null=False)


class UserRollupRow(Table, table=True):
    """What a user's requests of one hour, and of one day, add up to."""

    __tablename__ = "llmobs_user_rollups"
    __table_args__ = (PrimaryKeyConstraint("project", "hours", "start", "user_id"), {"sqlite_with_rowid": False})

    project: str = words(null=False)
    hours: int = small()  # 1 or 24
    start: int = big(null=False)  # in so many hours since 1970, UTC
    user_id: str = words(null=False)
    requests: int = big(null=False)
    errors: int = big(null=False)
    priced: int = big(null=False)
    unpriced: int = big(null=False)
    cost: int = big(null=False)
    inputs: int = big(null=False)
    input_tokens: int = big(null=False)
    outputs: int = big(null=False)
    output_tokens: int = big(null=False)
    latency: bytes = blob()  # a sketch


class SeriesRow(Table, table=True):
    """Requests that are alike in all that the rollups tell apart."""

    __tablename__ = "llmobs_series"

    key: int = row_key()  # made from the other columns: see rollups.py
    project: str = words(null=False)
    provider: str = words(null=False)
    model: str = words(null=False)
    operation: str = words(null=False)
    outcome: str = words(null=False)
    status: int = big(null=False)  # 0: none came
    route: str = words(null=False)


class RollupRow(Table, table=True):
    """What the requests of one series add up to in one hour, and in one day.

    ``inputs`` is how many of them say how many tokens went in, ``priced`` how many have a price: what is unknown is in
    no sum.
    """

    __tablename__ = "llmobs_rollups"
    __table_args__ = (PrimaryKeyConstraint("project", "hours", "start", "series"), {"sqlite_with_rowid": False})

    project: str = words(null=False)
    hours: int = small()  # 1 or 24
    start: int = big(null=False)  # in so many hours since 1970, UTC
    series: int = big(null=False)
    requests: int = big(null=False)
    priced: int = big(null=False)
    unpriced: int = big(null=False)
    cost: int = big(null=False)
    inputs: int = big(null=False)
    input_tokens: int = big(null=False)
    outputs: int = big(null=False)
    output_tokens: int = big(null=False)
    cache_read: int = big(null=False)
    cache_write: int = big(null=False)
    reasoning: int = big(null=False)
    audio_input: int = big(null=False)
    audio_output: int = big(null=False)
    image_input: int = big(null=False)
    image_output: int = big(null=False)
    estimated: int = big(null=False)
    truncated: int = big(null=False)
    calls_tools: int = big(null=False)
    timed: int = big(null=False)
    duration_ns: int = big(null=False)  # the sum
    latency: bytes = blob()  # sketches
    first_token: bytes = blob()


class PinRow(Table, table=True):
    """A trace that no retention deletes."""

    __tablename__ = "llmobs_pins"
    __table_args__ = (PrimaryKeyConstraint("project", "trace_id"), {"sqlite_with_rowid": False})

    project: str = words(null=False)
    trace_id: str = words(null=False)


class ScoreRow(Table, table=True):
    """A judgement, as it was given. Of all that one author says of one thing under one name the latest is current."""

    __tablename__ = "llmobs_scores"
    __table_args__ = (
        PrimaryKeyConstraint("project", "id"),
        Index("llmobs_scores_target", "project", "target", "target_id"),
        Index("llmobs_scores_trace", "project", "trace_id"),
        Index("llmobs_scores_name", "project", "name", "time_ns"),
        Index("llmobs_scores_author", "project", "author"),
        {"sqlite_with_rowid": False},
    )

    project: str = words(null=False)
    id: str = words(null=False)
    target: str = words(null=False)  # span, trace, session
    target_id: str = words(null=False)
    trace_id: str | None = words()  # None: of a session; empty: of a span that is not stored yet
    name: str = words(null=False)
    kind: str = words(null=False)
    value: float | None = Field(default=None, sa_column=Column(Double))
    label: str | None = words()
    comment: str | None = words()
    author: str = words(null=False)
    time_ns: int = big(null=False)
    keep: int = small()
    current: int = small()


class ViewRow(Table, table=True):
    """A view of a list that somebody gave a name."""

    __tablename__ = "llmobs_views"
    __table_args__ = (PrimaryKeyConstraint("project", "id"), {"sqlite_with_rowid": False})

    project: str = words(null=False)
    id: str = words(null=False)
    page: str = words(null=False)  # requests, traces, sessions
    name: str = words(null=False)
    query: str = words(null=False)
    author: str = words(null=False)
    time_ns: int = big(null=False)


class SignInRow(Table, table=True):
    """A sign-in code or session of the admin, hashed: what is stored opens nothing."""

    __tablename__ = "llmobs_sign_ins"

    hash: str = Field(sa_column=Column(Text, primary_key=True))
    role: str = words(null=False)
    expires_ns: int = big(null=False)


REQUESTS = text("is_request = 1")
SESSIONS = text("is_request = 1 AND session_id IS NOT NULL")
USERS = text("is_request = 1 AND user_id IS NOT NULL")
FAILURES = text("is_request = 1 AND outcome <> 'ok'")
NAMED = text("request_id IS NOT NULL")

_spans = SpanRow.__table__.c  # type: ignore[attr-defined]
Index("llmobs_spans_id", _spans.project, _spans.id, unique=True)
Index("llmobs_spans_trace", _spans.project, _spans.trace_id)
for _name, _columns, _where in (
    ("start", (_spans.start_ns,), REQUESTS),
    ("model", (_spans.request_model, _spans.start_ns), REQUESTS),
    ("answered", (_spans.response_model, _spans.start_ns), REQUESTS),
    ("session", (_spans.session_id, _spans.start_ns), SESSIONS),
    ("user", (_spans.user_id, _spans.start_ns), USERS),
    ("failures", (_spans.outcome, _spans.start_ns), FAILURES),
    ("named", (_spans.request_id,), NAMED),
):
    Index(f"llmobs_spans_{_name}", _spans.project, *_columns, _spans.key, sqlite_where=_where, postgresql_where=_where)

# on PostgreSQL these are parted by days; all have a key that begins with that of a span
PARTITIONED: tuple[Any, ...] = tuple(
    metadata.tables[row.__tablename__] for row in (SpanRow, ContentRow, AttemptRow, PropertyRow, TextRow)
)
