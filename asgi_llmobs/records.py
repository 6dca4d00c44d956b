"""The spine: what crosses from capture to the store and back to the pages, as frozen values.

Where the wire has a name for a thing (``input_tokens``, ``cache_read``, ``finish_reasons``, ``status``), it is used.
Times are integers: ``*_ns`` that name a moment are nanoseconds since 1970 UTC, durations are nanoseconds of the
monotonic clock counted from the start of the span.
"""

import enum
from collections.abc import Mapping
from dataclasses import field, fields
from decimal import Decimal
from typing import Any, NamedTuple

from asgi_llmobs.frozen import record

__all__ = [
    "Annotations",
    "Attempt",
    "Body",
    "Cost",
    "CostLine",
    "Exchange",
    "Kind",
    "Message",
    "Outcome",
    "Part",
    "REPLAY_OF",
    "Reading",
    "Request",
    "Score",
    "ScoreKind",
    "Span",
    "Usage",
    "Written",
    "node_path",
]


REPLAY_OF = "Replay-Of"  # the property of a call that was sent again: the span id of the first


class Outcome(enum.StrEnum):
    """How a span ended (``status`` is the HTTP status code and stands beside it)."""

    OK = "ok"
    ERROR = "error"  # provider or network
    CANCELLED = "cancelled"  # the app or its client went away
    ABANDONED = "abandoned"  # the answer was never read to its end
    INTERRUPTED = "interrupted"  # the process died
    BLOCKED = "blocked"  # a budget refused it
    RUNNING = "running"


class Kind(enum.StrEnum):
    """What a span is."""

    HTTP = "http"
    WEBSOCKET = "websocket"
    SPAN = "span"
    AGENT = "agent"
    CHAIN = "chain"
    TOOL = "tool"
    RETRIEVER = "retriever"
    EMBEDDING = "embedding"
    RERANKER = "reranker"
    GUARDRAIL = "guardrail"
    EVALUATOR = "evaluator"
    PROMPT = "prompt"
    LLM = "llm"


@record(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one answer. ``None`` means that the answer does not say; it is never turned into 0.

    ``input_tokens`` and ``output_tokens`` are totals: cached, cache-write and tool-use input is inside the first,
    reasoning inside the second, whatever the provider's own convention is. The other counts are parts of those two;
    :meth:`buckets` splits the totals into the disjoint parts that are priced.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    image_input: int | None = None
    image_output: int | None = None
    input_raw: int | None = None
    output_raw: int | None = None
    total_reported: int | None = None
    billed_input: int | None = None
    billed_output: int | None = None
    search_units: int | None = None
    seconds: float | None = None
    cost_usd: float | None = None
    estimated: bool = False

    @property
    def total_tokens(self) -> int | None:
        """Input plus output; ``None`` where both are unknown."""
        if self.input_tokens is None and self.output_tokens is None:
            return None
        return (self.input_tokens or 0) + (self.output_tokens or 0)

    def buckets(self) -> dict[str, int]:
        """The totals in disjoint parts (only those above 0), so that nothing can be counted twice.

        Input: ``input_uncached cache_read cache_write_5m cache_write_1h cache_write audio_input image_input``
        (``cache_write``: writes of no stated lifetime). Output: ``output_text reasoning audio_output image_output``.
        """
        write = self.cache_write or 0
        five = min(self.cache_write_5m or 0, write)
        hour = min(self.cache_write_1h or 0, write - five)
        left = self.input_tokens or 0
        out: dict[str, int] = {"input_uncached": left}
        for name, count in (
            ("cache_read", self.cache_read),
            ("cache_write_5m", five),
            ("cache_write_1h", hour),
            ("cache_write", write - five - hour),
            ("audio_input", self.audio_input),
            ("image_input", self.image_input),
        ):
            if count and left:
                out[name] = min(count, left)
                left -= out[name]
        out["input_uncached"] = left
        if not left:
            del out["input_uncached"]
        left = self.output_tokens or 0
        for name, count in (
            ("reasoning", self.reasoning),
            ("audio_output", self.audio_output),
            ("image_output", self.image_output),
        ):
            if count and left:
                out[name] = min(count, left)
                left -= out[name]
        if left:
            out["output_text"] = left
        return out


@record(frozen=True, slots=True, kw_only=True)
class Part:
    """One piece of a message, named as in the OpenTelemetry GenAI message schema.

    ``type`` is ``text``, ``reasoning``, ``tool_call``, ``tool_call_response``, ``refusal``, or, for what is kept by
    reference, ``uri`` (``uri``), ``file`` (``id``) or ``blob`` (``mime_type``, ``size`` in bytes, ``sha256``).
    """

    type: str
    content: str | None = None
    id: str | None = None
    name: str | None = None
    arguments: Any = None
    mime_type: str | None = None
    modality: str | None = None
    uri: str | None = None
    size: int | None = None
    sha256: str | None = None


@record(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation. ``role`` is ``system``, ``user``, ``assistant`` or ``tool``."""

    role: str
    parts: tuple[Part, ...] = ()
    name: str | None = None
    finish_reason: str | None = None


@record(frozen=False, slots=True, kw_only=True)
class Reading:
    """What a provider's dialect reads out of one exchange. Filled by ``providers/<name>.py``, piece by piece."""

    provider: str = "unknown"
    api: str = "other"
    operation: str = "other"
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    stream: bool = False  # the answer is a stream
    stream_requested: bool = False
    framing: str = "none"  # none json sse ndjson aws-eventstream json-array-stream binary empty other
    finish_reasons: list[str] = field(default_factory=list)  # raw, one a choice
    text: str = ""  # of the first choice
    reasoning_text: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)  # {id, name, arguments}: those the app must run
    server_tools: list[str] = field(default_factory=list)  # types of the blocks of tools the provider ran
    refusal: str | None = None
    error: dict[str, Any] | None = None  # {type, code, message}
    usage: Usage | None = None
    usage_raw: Any = None  # the provider's own usage object
    service_tier: str | None = None
    user: str | None = None  # end user named in the request body
    input: list[Message] = field(default_factory=list)
    output: list[Message] = field(default_factory=list)  # one a choice
    parameters: dict[str, Any] = field(default_factory=dict)  # sampling parameters, tool_choice, response_format …
    tools: list[dict[str, Any]] = field(default_factory=list)  # definitions: {name, description, parameters, type}
    details: dict[str, Any] = field(default_factory=dict)  # e.g. dimensions, input_count, media sizes
    ended: bool = True  # False: a stream without its dialect's terminal event
    content_offset: int | None = None  # where in the decoded body the first event with content ends
    warnings: list[str] = field(default_factory=list)  # what could not be read
    notes: list[str] = field(default_factory=list)


@record(frozen=True, slots=True, kw_only=True)
class CostLine:
    """One term of a cost: *tokens* × *per_million* = *amount*, in US dollars."""

    bucket: str
    tokens: int
    per_million: Decimal
    amount: Decimal


@record(frozen=True, slots=True, kw_only=True)
class Cost:
    """The price of one request in US dollars, or the reason why it has none."""

    amount: Decimal | None = None
    lines: tuple[CostLine, ...] = ()
    source: str | None = None  # provider, genai-prices <version>, override
    price_date: str | None = None
    reason: str | None = None  # why amount is None

    @property
    def formula(self) -> str:
        """The terms as one line, e.g. ``9,842 cache_read × $0.30/M + 500 output_text × $15/M``."""
        return " + ".join(f"{line.tokens:,} {line.bucket} × ${line.per_million.normalize():f}/M" for line in self.lines)


@record(frozen=True, slots=True, kw_only=True)
class Body:
    """A request or response body as it is kept: content-encoding undone, secrets taken out, bounded."""

    content: bytes
    media_type: str | None = None
    size: int = 0  # bytes of the whole, before bounding
    sha256: str | None = None  # of the whole; None where content is the whole and was not read from the store
    truncated: bool = False  # head and tail only
    slimmed: bool = False  # long base64 runs replaced by their size and hash


@record(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One HTTP exchange of a request; retries make several."""

    request_id: str  # Span.id of the request
    number: int  # 1, 2, …
    start_ns: int
    duration_ns: int | None
    outcome: str
    status: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    retry_after: str | None = None
    provider_request_id: str | None = None
    cost_usd: Decimal | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    stages: Mapping[str, int] = field(default_factory=dict)  # see Request.stages
    response_headers: tuple[tuple[str, str], ...] = ()  # of one that another one followed: why, and when next
    response_preview: str | None = None  # of such a one, too


@record(frozen=True, slots=True, kw_only=True)
class Span:
    """Any timed node of a trace."""

    id: str  # 16 hex digits
    trace_id: str  # 32 hex digits
    parent_id: str | None = None
    project: str = "default"
    kind: str = Kind.SPAN
    name: str = ""
    start_ns: int = 0
    duration_ns: int | None = None
    outcome: str = Outcome.OK
    error_type: str | None = None
    error_message: str | None = None
    session_id: str | None = None
    session_name: str | None = None
    session_path: str | None = None
    user_id: str | None = None
    node_id: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    method: str | None = None
    url: str | None = None  # of an incoming request its path, of an LLM request its address, secrets taken out
    status: int | None = None  # HTTP status code
    route: str | None = None  # template of the incoming request's route
    caller: str | None = None  # path:line function
    service: str | None = None
    release: str | None = None
    host: str | None = None
    pid: int | None = None
    input: str | None = None
    output: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    spread: bool = False  # its session, user and properties are meant for all spans of its trace that name none

    @property
    def end_ns(self) -> int | None:
        """When it ended, in nanoseconds since 1970; ``None`` while it runs."""
        return None if self.duration_ns is None else self.start_ns + self.duration_ns


# how providers say, in any case, that a limit of tokens cut an answer off, and that an answer calls tools
CUT_OFF = frozenset(
    ("length", "max_length", "max_tokens", "maximum_tokens", "max_output_tokens", "model_length", "token_limit",
     "model_context_window_exceeded", "incomplete")
)  # fmt: skip
CALLS_TOOLS = frozenset(("function_call", "tool_call", "tool_calls", "tool_use"))


@record(frozen=True, slots=True, kw_only=True)
class Request(Span):
    """One logical LLM call."""

    request_id: str | None = None  # as the app sent it in LLMObs-Request-Id or Helicone-Request-Id
    prompt_id: str | None = None
    provider: str = "unknown"
    api: str = "other"
    operation: str = "other"
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    stream: bool = False
    stream_requested: bool = False
    framing: str = "none"
    finish_reasons: tuple[str, ...] = ()
    text: str = ""
    reasoning_text: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    server_tools: tuple[str, ...] = ()
    refusal: str | None = None
    error: Mapping[str, Any] | None = None
    usage: Usage | None = None  # as the provider says it; None where it does not
    estimate: Usage | None = None  # ours, where the provider says nothing
    usage_raw: Any = None
    service_tier: str | None = None
    cost: Cost = Cost(reason="not priced")
    messages: tuple[Message, ...] = ()  # input
    output_messages: tuple[Message, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[dict[str, Any], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    # when queue, connect, tls, send and wait of the last attempt began, in ns since its start; as far as it is known
    stages: Mapping[str, int] = field(default_factory=dict)
    headers_ns: int | None = None  # start to response headers
    first_chunk_ns: int | None = None
    first_token_ns: int | None = None  # first content token: role-only chunks do not count
    last_chunk_ns: int | None = None
    chunks: int = 0
    chunk_times: tuple[tuple[int, int], ...] = ()  # (ns since start, decoded bytes so far), for the stream lane
    attempt: int = 1
    attempts: tuple[Attempt, ...] = ()
    retry_after: str | None = None
    provider_request_id: str | None = None
    request_headers: tuple[tuple[str, str], ...] = ()
    response_headers: tuple[tuple[str, str], ...] = ()
    request_body: Body | None = None  # None: omitted or none sent
    response_body: Body | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def cost_usd(self) -> Decimal | None:
        """The price in US dollars; ``None``, never 0, where it is unknown."""
        return self.cost.amount

    @property
    def counted(self) -> Usage | None:
        """The usage, or where there is none our estimate of it (``estimated`` is true then)."""
        return self.estimate or self.usage

    @property
    def input_tokens(self) -> int | None:
        """All input tokens, cached ones included."""
        return self.usage.input_tokens if self.usage else None

    @property
    def output_tokens(self) -> int | None:
        """All output tokens, reasoning included."""
        return self.usage.output_tokens if self.usage else None

    @property
    def cache_read(self) -> int | None:
        """Input tokens that came from the provider's cache."""
        return self.usage.cache_read if self.usage else None

    @property
    def cache_write(self) -> int | None:
        """Input tokens that were written to the provider's cache."""
        return self.usage.cache_write if self.usage else None

    @property
    def reasoning(self) -> int | None:
        """Output tokens spent on reasoning."""
        return self.usage.reasoning if self.usage else None

    @property
    def audio_input(self) -> int | None:
        """Input tokens that were audio."""
        return self.usage.audio_input if self.usage else None

    @property
    def audio_output(self) -> int | None:
        """Output tokens that were audio."""
        return self.usage.audio_output if self.usage else None

    @property
    def truncated(self) -> bool:
        """Whether a limit of tokens cut the answer off."""
        return any(reason.lower() in CUT_OFF for reason in self.finish_reasons)

    @property
    def calls_tools(self) -> bool:
        """Whether the answer calls tools that the app is to run."""
        return bool(self.tool_calls) or any(reason.lower() in CALLS_TOOLS for reason in self.finish_reasons)

    @property
    def time_to_first_token_ms(self) -> float | None:
        """Milliseconds from the start to the first content token."""
        return None if self.first_token_ns is None else self.first_token_ns / 1e6

    @property
    def latency_ms(self) -> float | None:
        """Milliseconds from the start of the first attempt to the end of the last."""
        return None if self.duration_ns is None else self.duration_ns / 1e6


class ScoreKind(enum.StrEnum):
    """What a score says."""

    THUMBS = "thumbs"  # value: 1 up, 0 down
    NUMBER = "number"  # value
    LABEL = "label"  # label
    NOTE = "note"  # comment
    TAG = "tag"  # its name; value: 1


@record(frozen=True, slots=True, kw_only=True)
class Score:
    """What somebody, or something, thinks of a span, a trace or a session. See :func:`asgi_llmobs.scores.make_score`.

    Of all that one author says of one thing under one name the latest counts; notes stand side by side.
    """

    id: str
    target: str  # span, trace, session
    target_id: str
    name: str
    kind: str
    project: str = "default"
    value: float | None = None
    label: str | None = None
    comment: str | None = None
    author: str | None = None
    time_ns: int = 0
    trace_id: str | None = None  # of the target, where it is known and no session
    keep: bool = True  # retention leaves the trace alone

    @property
    def says(self) -> bool:
        """Whether it says something; else it takes back what its author said before."""
        return self.kind == ScoreKind.NOTE or self.value is not None or self.label is not None


@record(frozen=True, slots=True, kw_only=True)
class Annotations:
    """The annotations of one call. ``None`` where a header is absent."""

    session_id: str | None = None
    session_path: str | None = None
    session_name: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    node_id: str | None = None
    prompt_id: str | None = None
    model_override: str | None = None
    project: str | None = None
    omit_request: bool = False
    omit_response: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)


@record(frozen=False, eq=False, repr=False, slots=True, kw_only=True)
class Exchange:
    """One attempt as capture saw it: bytes and clocks, nothing read yet. The pipeline turns it into a record.

    The caller's side only appends to it, so it is the one record that is not frozen until it is handed over.
    """

    id: str
    trace_id: str
    parent_id: str | None
    match: Any  # providers.base.Match
    method: str
    url: str
    start_ns: int
    clock_ns: int  # monotonic clock at start of this attempt
    attempt: int = 1
    first_start_ns: int = 0  # of the first attempt of the request
    first_clock_ns: int = 0
    request_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    request_chunks: list[bytes] = field(default_factory=list)
    request_size: int = 0
    request_truncated: bool = False
    status: int | None = None
    response_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    response_chunks: list[bytes] = field(default_factory=list)
    chunk_clocks: list[int] = field(default_factory=list)
    chunks: int = 0  # as they came; very many of them are put together
    response_size: int = 0
    response_truncated: bool = False
    response_sha256: str | None = None  # of the whole, where it was truncated on the way
    decoded: bool = False  # the chunks are already decoded (a response that was read before we saw it)
    stages: dict[str, int] | None = None  # monotonic clocks, see Request.stages
    headers_clock_ns: int | None = None
    first_token_clock_ns: int | None = None  # where that was told; else the chunks say it
    end_clock_ns: int | None = None
    outcome: str = Outcome.RUNNING
    eof: bool = False
    error_type: str | None = None
    error_message: str | None = None
    annotations: Annotations = Annotations()
    properties: Mapping[str, str] = field(default_factory=dict)
    project: str = "default"
    session_id: str | None = None
    session_name: str | None = None
    session_path: str | None = None
    user_id: str | None = None
    route: str | None = None
    caller: str | None = None
    omit_request: bool = False
    omit_response: bool = False
    suspect: bool | None = None  # whether its bodies, as they were sent, may hold a credential; None: nobody looked
    trace: Any = None  # context.Trace while in process; dropped when it crosses to the store
    origin: Mapping[str, Any] | None = None  # service, release, host and pid, where it comes from another process
    name: str | None = None  # what an instrumentation calls it

    def inherit(self) -> None:
        """Take over what the trace says by now and the call itself does not; a session of its own keeps its names."""
        trace = self.trace
        if trace is None:
            return
        if self.session_id in (None, trace.session_id):
            self.session_id = trace.session_id
            self.session_name = self.session_name or trace.session_name
            self.session_path = self.session_path or trace.session_path
        self.user_id = self.user_id or trace.user_id


class Written(NamedTuple):
    """What became of a batch of records: how many are stored, and how many were refused for good."""

    stored: int
    refused: int


def node_path(node_id: str | None) -> tuple[str, ...]:
    """The segments of a Node-Id; empty ones count for nothing."""
    return tuple(part.strip() for part in node_id.split(":") if part.strip()) if node_id else ()


def columns(record: type) -> tuple[str, ...]:
    """The field names of a record class, in order."""
    return tuple(item.name for item in fields(record))
