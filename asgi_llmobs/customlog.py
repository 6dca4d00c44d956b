"""The custom trace log: one call or step a request, as JSON, in the form that Helicone documents for it."""

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from asgi_llmobs.capture import annotations
from asgi_llmobs.capture.recalled import Recalled, as_headers, call_of, placed, step_of
from asgi_llmobs.capture.recorder import Recorder
from asgi_llmobs.config import Config
from asgi_llmobs.context import suppress
from asgi_llmobs.errors import LLMObsError
from asgi_llmobs.moments import moment_ns
from asgi_llmobs.otlp.json import containers
from asgi_llmobs.otlp.limits import Refused
from asgi_llmobs.otlp.receive import NOT_STORED, RETRY_SECONDS, Answer, Receiver
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.providers.otel import dumped
from asgi_llmobs.records import Kind, Span
from asgi_llmobs.redaction import KEPT_REQUEST_HEADERS, SECRET_HEADERS, is_secret_header
from asgi_llmobs.writer import write

__all__ = ["Ingest"]

JSON = "application/json"
AHEAD_NS = 86_400 * 10**9  # a clock may be wrong by this much
LONGEST_TEXT = 256 * 1024  # of a step's input and output
MOST_PROPERTIES = 64
INVALID = "logs that could not be taken"
STEPS = {"tool": Kind.TOOL, "vector_db": Kind.RETRIEVER, "data": Kind.SPAN}
NAMES = {"tool": ("toolName", "name"), "vector_db": ("databaseName", "name"), "data": ("name",)}
SAYS_WHICH = ("_type", "toolName")  # in a step's JSON: it has a place of its own
SECRET = re.compile(r"(?i)auth|api.?key|secret|passw|credential|cookie|token$")
PLAIN_HEADERS = KEPT_REQUEST_HEADERS | SECRET_HEADERS | {b"host", b"connection"}
OURS = (b"llmobs-", b"helicone-")
Headers = Sequence[tuple[bytes, bytes]]


class Problem(NamedTuple):
    """What is wrong with one field."""

    field: str
    message: str


class Invalid(Exception):
    """The log cannot be taken; *problems* name its fields."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems


class Ingest(Receiver):
    """All that is taken in from outside: OTLP traces, and the custom trace log.

    Args:
        config: The engine's options.
        pipeline: Prices and redacts.
        sinks: Gives where records go.
        recorder: Knows which traces there are.
    """

    def __init__(self, config: Config, pipeline: Pipeline, sinks: Any, recorder: Recorder) -> None:
        super().__init__(config, pipeline, sinks)
        self._recorder = recorder

    def custom_log(self, body: bytes, content_encoding: str, headers: Headers, *, typed: bool = False) -> Answer:
        """Store one call or step. Blocking: call it from a thread.

        Args:
            body: As it was sent.
            content_encoding: The header; gzip, deflate, zstd or none.
            headers: Of the request; those of ours count more than those in ``meta``.
            typed: Ask for everything that the typed form asks for.
        """
        try:
            content = self._unpacked(body, content_encoding.strip().lower())
            found = loaded(content, self.limits)
            recalled, kind = read(found, headers, typed=typed)
            with suppress():  # what the sinks call is not recorded
                record = self._told(recalled, kind, found, content)
                refused = max((write(sink, [record], patient=False) for sink in self._sinks()), default=0)
        except Invalid as invalid:
            self.rejected[INVALID] += 1
            return answered(400, False, [problem._asdict() for problem in invalid.problems])
        except Refused as refusal:
            self.rejected[INVALID] += 1
            return answered(refusal.status, False, [{"field": "body", "message": refusal.message}])
        except LLMObsError:
            wait = {"retry-after": str(RETRY_SECONDS)}
            said = [{"field": "body", "message": "the store cannot be written now; send it again"}]
            return answered(503, False, said, wait)
        if refused:
            self.rejected[NOT_STORED] += refused
            return answered(400, False, [{"field": "body", "message": "the store refused it"}])
        self.stored += 1
        id = recalled.said.request_id or record.id
        named = {"helicone-id": id} if id.isascii() and id.isprintable() else {}
        return answered(200, True, [], named, id=record.id, traceId=record.trace_id)

    def _told(self, recalled: Recalled, kind: Kind, found: Mapping[str, Any], content: bytes) -> Span:
        config = self._config
        if found.get("timing") or recalled.said.request_id:  # sent again it is the same; else it is another one
            same = same_id(config.project, repr(recalled.said), content)
            recalled.id = same[:16]
            if recalled.trace_id is None and recalled.said.node_id is None:
                recalled.trace_id = same[16:]
        placed(recalled, self._recorder, None)
        if kind is Kind.LLM:
            return self._pipeline.process(call_of(recalled, self._recorder))
        sent, got = (step_text(value) for value in (recalled.request, recalled.response))
        return self._pipeline.process(step_of(recalled, kind, self._recorder, sent, got))


def same_id(project: str, said: str, content: bytes) -> str:
    """The ids of span and trace, one behind the other, that the same log has whenever it is sent."""
    digest = hashlib.blake2b(digest_size=24)
    for part in (project.encode(), said.encode("utf-8", "replace"), content):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def answered(
    status: int, valid: bool, errors: Sequence[Mapping[str, str]], headers: Mapping[str, str] | None = None, **more: str
) -> Answer:
    """What the sender is told, in the form that Helicone gives it."""
    return Answer(status, orjson.dumps({"isValid": valid, "errors": errors, **more}), JSON, headers or {})


def loaded(content: bytes, limits: Any) -> dict[str, Any]:
    """The JSON object that was sent.

    Raises:
        Refused: It is none, or too much.
    """
    if len(content) > limits.unpacked_json or containers(content, limits.containers) > limits.containers:
        raise Refused(413, "the body holds more than one log may")
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise Refused(400, "the body is no JSON") from None
    if not isinstance(found, dict):
        raise Refused(400, "the body is no JSON object")
    return found


class Fields:
    """What was sent, and what is wrong with it."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.found = found
        self.problems: list[Problem] = []

    def get(self, path: str, kind: type | tuple[type, ...], says: str, *, needed: bool) -> Any:
        """The value at *path*; ``None`` where it is not there or of another kind."""
        value: Any = self.found
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None:
            if needed:
                self.problems.append(Problem(path, "is missing"))
        elif not isinstance(value, kind) or isinstance(value, bool):
            self.problems.append(Problem(path, f"is no {says}"))
            value = None
        return value

    def time(self, path: str, *, needed: bool) -> int | None:
        """The moment at *path* in nanoseconds since 1970."""
        value = self.get(path, (dict, str, int, float), "time", needed=needed)
        if value is None:
            return None
        try:
            found = moment_ns(value)
        except (ValueError, OverflowError):
            forms = "ISO 8601, digits since 1970, or seconds with milliseconds or nanos"
            self.problems.append(Problem(path, f"is no time; write {forms}"))
            return None
        if found > time.time_ns() + AHEAD_NS:
            self.problems.append(Problem(path, "lies in the future"))
            return None
        return found


def read(found: Mapping[str, Any], headers: Headers, *, typed: bool) -> tuple[Recalled, Kind]:
    """The call or step that was told of, and what it is.

    Raises:
        Invalid: A field is missing or wrong.
    """
    fields = Fields(found)
    for half in ("providerRequest", "providerResponse"):
        fields.get(half, dict, "object", needed=True)
    if fields.problems:
        raise Invalid(fields.problems)
    url = fields.get("providerRequest.url", str, "text", needed=True)
    request = fields.get("providerRequest.json", dict, "object", needed=True)
    meta = fields.get("providerRequest.meta", dict, "object", needed=typed) or {}
    response = fields.get("providerResponse.json", (dict, list, str), "object", needed=False)
    text = fields.get("providerResponse.textBody", str, "text", needed=False)
    if typed and all(found["providerResponse"].get(body) is None for body in ("json", "textBody")):
        fields.problems.append(Problem("providerResponse.json", "is missing, and so is textBody"))
    status = fields.get("providerResponse.status", (int, float), "number", needed=typed)
    answer_headers = fields.get("providerResponse.headers", dict, "object", needed=typed) or {}
    provider = fields.get("provider", str, "text", needed=False)
    start_ns, end_ns, first_ns = timing(fields, typed=typed)
    if fields.problems:
        raise Invalid(fields.problems)
    merged = merge(as_headers(meta), headers)
    kind, name = step_named(request)
    recalled = Recalled(
        request=request,
        response=text if text is not None and not response else response,
        url=url if "://" in url else "",
        provider=provider,
        name=name,
        status=200 if status is None else int(status),
        start_ns=start_ns,
        duration_ns=end_ns - start_ns,
        first_token_ns=first_ns,
        said=replace(annotations.read(merged), project=None),  # who may send here may not send to other projects
        properties=properties_of(meta),
        request_headers=[(label, value) for label, value in merged if is_secret_header(label.lower())],
        response_headers=as_headers(answer_headers),
    )
    joined = next((value for label, value in merged if label.lower() == b"traceparent"), b"")
    ids = annotations.valid_trace_id(joined.decode("latin-1"))
    if ids is not None:
        recalled.trace_id, recalled.parent_id = ids
    return recalled, kind


def timing(fields: Fields, *, typed: bool) -> tuple[int, int, int | None]:
    """Start, end, and how long the first token took."""
    now = time.time_ns()
    if fields.get("timing", dict, "object", needed=False) is None:
        return now, now, None
    start = fields.time("timing.startTime", needed=True)
    end = fields.time("timing.endTime", needed=typed)
    first = fields.get("timing.timeToFirstToken", (int, float), "number of milliseconds", needed=False)
    if start is None:
        return now, now, None
    if end is not None and end < start:
        fields.problems.append(Problem("timing.endTime", "is before startTime"))
    if first is not None and not 0 <= first < 10**10:
        fields.problems.append(Problem("timing.timeToFirstToken", "is no number of milliseconds"))
        first = None
    return start, max(start, end or start), None if first is None else round(first * 1_000_000)


def canonical(name: bytes) -> bytes:
    """The name of a header of ours without the prefix: both prefixes mean the same."""
    lower = name.lower()
    return next((lower[len(prefix) :] for prefix in OURS if lower.startswith(prefix)), lower)


def merge(meta: Headers, headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers, and of *meta* what they do not say."""
    said = {canonical(name) for name, _ in headers}
    return [*((name, value) for name, value in meta if canonical(name) not in said), *headers]


def properties_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """Entries of ``meta`` that are no headers; what may be a secret is left out."""
    found: dict[str, str] = {}
    for name, value in meta.items():
        raw = name.lower().encode("utf-8", "replace")
        plain = raw in PLAIN_HEADERS or raw.startswith((*OURS, b"content-", b"x-")) or SECRET.search(name)
        if not plain and isinstance(value, str | int | float) and len(found) < MOST_PROPERTIES:
            found[name[:256]] = str(value)[:4_096]
    return found


def step_named(request: Mapping[str, Any]) -> tuple[Kind, str | None]:
    """What kind of step it is, and its name; a call of a model says nothing of it."""
    which = request.get("_type")
    if not isinstance(which, str):
        return Kind.LLM, None
    said = [request.get(label) for label in NAMES.get(which, ("name",))]
    words = [word for word in said if isinstance(word, str) and word][:1]
    doing = request.get("operation")
    if which == "vector_db" and isinstance(doing, str):
        words.insert(0, doing)
    return STEPS.get(which, Kind.SPAN), " ".join(words) or which


def step_text(value: Any) -> str | None:
    """What went into a step, or came out of it, as text."""
    if value is None or isinstance(value, str):
        return value if value is None else value[:LONGEST_TEXT]
    said = {name: item for name, item in value.items() if name not in SAYS_WHICH} if isinstance(value, dict) else value
    if isinstance(said, dict) and set(said) == {"input"}:
        said = said["input"]
    text = said if isinstance(said, str) else dumped(said).decode("utf-8", "replace")
    return text[:LONGEST_TEXT] if text not in ("{}", "null") else None
