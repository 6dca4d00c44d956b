"""What OpenTelemetry spans say: every dialect gives the same records, and none can break us."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llmobs.config import Config
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.pricing import Pricer
from asgi_llmobs.records import Request, Span, Usage
from asgi_llmobs.semconv import Event, Told, entry_of, kind_of
from asgi_llmobs.semconv.names import COLUMNS
from tests import telling

NOW = telling.START + 60 * telling.SECOND
# what a dialect says in its own words, or does not say
OWN_WORDS = ("usage_raw", "details", "attributes", "request_body", "response_body")


def record(told: Told, **options: Any) -> Span:
    """The record of one span, priced and redacted."""
    config = Config(**options)
    full = config.capture == "full"
    return Pipeline(config, Pricer()).process(entry_of(told, "default", full=full, now_ns=NOW))


def request(attributes: dict[str, Any], **more: Any) -> Request:
    found = record(
        Told(
            trace_id="1" * 32,
            span_id="2" * 16,
            name="ask",
            start_ns=telling.START,
            end_ns=telling.START + 10**9,
            attributes=attributes,
            **more,
        )
    )
    assert isinstance(found, Request)
    return found


def comparable(found: Span) -> Span:
    if not isinstance(found, Request):
        return replace(found, attributes={})
    usage = replace(found.usage, total_reported=None) if found.usage else None
    return replace(
        found, usage=usage, usage_raw=None, details={}, request_body=None, response_body=None, tools=found.tools
    )


@pytest.mark.parametrize("dialect", telling.DIALECTS)
def test_every_dialect_gives_the_same_records(dialect: str) -> None:
    """T24: the same trace told in any dialect is stored as the same."""
    found = [comparable(record(told)) for told in telling.tell(dialect)]

    assert found == [comparable(record(told)) for told in telling.tell("gen_ai")]


def test_what_a_call_says() -> None:
    """Messages, tools, parameters, tokens, cost, session, user and metadata land in the columns of captured calls."""
    told = next(told for told in telling.tell("openinference") if told.span_id == telling.CHAT)

    found = record(told)

    assert isinstance(found, Request)
    assert (found.kind, found.name, found.parent_id) == ("llm", "ask", telling.AGENT)
    assert (found.session_id, found.user_id, dict(found.properties)) == ("s-1", "ada", {"tier": "gold"})
    assert (found.provider, found.operation, found.request_model) == ("openai", "chat", "gpt-4o")
    assert found.parameters == {"temperature": 0.2, "max_tokens": 50}
    assert [message.role for message in found.messages] == ["system", "user", "assistant", "tool"]
    assert found.messages[2].parts[0].arguments == telling.ARGUMENTS
    assert found.messages[3].parts[0].id == "c1"
    assert (found.text, found.finish_reasons) == (telling.ANSWER, ("stop",))
    assert found.tools[0]["name"] == "baggage"
    assert found.usage is not None and found.usage.buckets() == {
        "input_uncached": 36,
        "cache_read": 64,
        "reasoning": 5,
        "output_text": 15,
    }
    assert found.cost_usd is not None and found.cost_usd > 0


def test_a_node_is_no_call() -> None:
    """The tokens that an agent sums up are not counted again."""
    found = record(telling.tell("gen_ai")[-1])

    assert not isinstance(found, Request)
    assert (found.kind, found.input, found.output) == ("agent", telling.QUESTION, telling.ANSWER)
    assert found.attributes["usage"]["gen_ai.usage.input_tokens"] == 100


@pytest.mark.parametrize(
    ("attributes", "usage"),
    [
        # OpenTelemetry: cached tokens are inside
        ({"gen_ai.usage.input_tokens": 100, "gen_ai.usage.cache_read.input_tokens": 60}, (100, 60)),
        # as Anthropic itself counts: they cannot be inside
        ({"gen_ai.usage.input_tokens": 40, "gen_ai.usage.cache_read.input_tokens": 60}, (100, 60)),
        # the total decides
        (
            {
                "llm.token_count.prompt": 70,
                "llm.token_count.prompt_details.cache_read": 60,
                "llm.token_count.completion": 5,
                "llm.token_count.total": 135,
            },
            (130, 60),
        ),
        (
            {
                "llm.token_count.prompt": 70,
                "llm.token_count.prompt_details.cache_read": 60,
                "llm.token_count.completion": 5,
                "llm.token_count.total": 75,
            },
            (70, 60),
        ),
        # Langfuse: beside it
        ({"langfuse.observation.usage_details": json.dumps({"input": 70, "cache_read_input_tokens": 60})}, (130, 60)),
    ],
)
def test_cached_tokens_are_counted_once(attributes: dict[str, Any], usage: tuple[int, int]) -> None:
    """N5: whichever convention a span follows, the buckets do not overlap."""
    found = request({"gen_ai.operation.name": "chat", **attributes}).usage

    assert found is not None and (found.input_tokens, found.cache_read) == usage


@pytest.mark.parametrize(
    "attributes",
    [
        {"llm.cost.total": 0.0125},
        {"llm.cost.prompt": 0.01, "llm.cost.completion": 0.0025},
        {"operation.cost": 0.0125},
        {"gen_ai.usage.cost": "0.0125"},
        {"langfuse.observation.cost_details": json.dumps({"input": 0.01, "output": 0.0025})},
        {"langfuse.observation.cost_details": json.dumps({"input": 0.01, "output": 0.0025, "total": 0.0125})},
        {"mlflow.llm.cost": json.dumps({"input_cost": 0.01, "output_cost": 0.0025, "total_cost": 0.0125})},
    ],
)
def test_a_cost_that_is_told_is_kept(attributes: dict[str, Any]) -> None:
    """In whichever dialect."""
    found = request({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 5, **attributes})

    assert float(found.cost_usd or 0) == pytest.approx(0.0125)


def test_no_usage_is_unknown() -> None:
    """Never 0."""
    found = request({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"})

    assert (found.usage, found.cost_usd, found.cost.reason) == (None, None, "no usage")


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ({"type": "image_url", "image_url": {"url": "https://e.test/a.png"}}, ("uri", "image")),
        ({"message_content": {"type": "image", "image": {"image": {"url": "https://e.test/a.png"}}}}, ("uri", "image")),
        ({"type": "uri", "uri": "https://e.test/a.png", "modality": "image"}, ("uri", "image")),
        ({"type": "blob", "mime_type": "image/png", "content": "aGk="}, ("blob", "image")),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}, ("blob", "image")),
        ({"inlineData": {"mimeType": "image/png", "data": "aGk="}}, ("blob", "image")),
        ({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}, ("blob", "audio")),
        ({"type": "file", "file_id": "file-1", "modality": "file"}, ("file", "file")),
        ({"type": "reasoning", "content": "hm"}, ("reasoning", None)),
        ({"type": "thinking", "thinking": "hm"}, ("reasoning", None)),
    ],
)
def test_parts_of_all_forms(value: dict[str, Any], part: tuple[str, str | None]) -> None:
    """Images, sound, files and thoughts, as whoever wrote them writes them; never their bytes."""
    messages = json.dumps([{"role": "user", "content": [value, {"type": "text", "text": "look"}]}])

    found = request({"gen_ai.operation.name": "chat", "gen_ai.input.messages": messages})

    first, second = found.messages[0].parts
    assert (first.type, first.modality) == part
    assert second.content == "look"


def test_an_error() -> None:
    """Its type and message; a cancelled call is no error of the provider."""
    raised = Event("exception", 1, {"exception.type": "openai.RateLimitError", "exception.message": "slow down"})
    gone = Event("exception", 1, {"exception.type": "asyncio.exceptions.CancelledError"})
    call = {"gen_ai.operation.name": "chat"}

    failed, cancelled = request(call, events=(raised,), status_code=2), request(call, events=(gone,), status_code=2)

    assert (failed.outcome, failed.error_type, failed.error_message) == ("error", "openai.RateLimitError", "slow down")
    assert cancelled.outcome == "cancelled"


def test_first_token() -> None:
    """The time to it, where a dialect tells it."""
    genai = request(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.response.time_to_first_chunk": 0.25,
            "gen_ai.output.messages": '[{"role":"assistant","parts":[]}]',
            "gen_ai.response.id": "r",
        }
    )

    assert genai.time_to_first_token_ms == pytest.approx(250)
    assert genai.stream


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 0), (0, NOW), (2**64 - 1, 2**64 - 1), (telling.START, 5), (telling.START, 2**64 - 1)],
)
def test_a_clock_that_is_wrong_is_flagged(start: int, end: int) -> None:
    """It is said so, and no axis reaches to 1970 or to the year 2554."""
    found = record(
        Told(
            trace_id="1" * 32, span_id="2" * 16, start_ns=start, end_ns=end, attributes={"traceloop.span.kind": "task"}
        )
    )

    assert "clock_skew" in found.attributes
    assert abs(found.start_ns - NOW) < 10**15 and (found.duration_ns or 0) == 0


def test_without_content() -> None:
    """With ``capture="metadata"`` numbers are kept and no word is."""
    for dialect in telling.DIALECTS:
        for told in telling.tell(dialect):
            found = record(told, capture="metadata")
            texts = repr(found)
            assert telling.QUESTION not in texts and telling.ANSWER not in texts and telling.SYSTEM not in texts
            if isinstance(found, Request):
                assert found.usage is not None and found.usage.input_tokens


def test_secrets_are_taken_out() -> None:
    """Of messages, of inputs, of attributes without a column and of metadata."""
    key = "sk-" + "a1B2" * 8
    call = request(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.prompt": f"my key is {key}",
            "x.header": f"Bearer {key}",
            "metadata": json.dumps({"key": key}),
        }
    )
    node = record(
        Told(
            trace_id="1" * 32,
            span_id="2" * 16,
            start_ns=telling.START,
            end_ns=telling.START,
            attributes={"traceloop.span.kind": "tool", "input.value": key, "other": f"Bearer {key}"},
        )
    )

    assert key not in repr(call) and key not in repr(node)
    assert call.messages and node.attributes["other"]


def test_a_span_of_no_dialect() -> None:
    """It is a plain node; one that serves HTTP says so."""
    plain = entry_of(Told(trace_id="1" * 32, span_id="2" * 16, start_ns=NOW, end_ns=NOW, name="db"), "p", now_ns=NOW)
    served = entry_of(
        Told(
            trace_id="1" * 32,
            span_id="2" * 16,
            kind=2,
            start_ns=NOW,
            end_ns=NOW,
            attributes={"http.request.method": "GET", "http.response.status_code": 200},
        ),
        "p",
        now_ns=NOW,
    )

    assert isinstance(plain, Span) and plain.kind == "span"
    assert isinstance(served, Span) and (served.kind, served.status) == ("http", 200)


def test_kinds() -> None:
    """The first dialect that says more than "a span" decides."""
    assert kind_of({"openinference.span.kind": "UNKNOWN", "langfuse.observation.type": "tool"}) == "tool"
    assert kind_of({"traceloop.span.kind": "workflow", "gen_ai.operation.name": "invoke_agent"}) == "agent"
    assert kind_of({"gen_ai.request.model": "m"}) == "llm"
    assert kind_of({"db.system": "postgresql"}) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(sorted(name for names in COLUMNS.values() for name in names)).map(
    lambda name: name.replace("*", "0.message.content")
)


@given(
    attributes=st.dictionaries(
        NAMES | st.text(max_size=30),
        VALUES | VALUES.map(lambda value: repr(value)) | VALUES.map(lambda value: json.dumps(value)),
        max_size=8,
    ),
    kind=st.sampled_from(["chat", "embeddings", "rerank", "execute_tool", "invoke_agent", "retrieval"]),
    times=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
    events=st.lists(st.sampled_from(["exception", "gen_ai.choice", "gen_ai.user.message", "gen_ai.content.prompt"])),
)
def test_nothing_that_a_span_says_breaks_us(
    attributes: dict[str, Any], kind: str, times: tuple[int, int], events: list[str]
) -> None:
    """Whatever stands in the attributes that we read, there is a record."""
    told = Told(
        trace_id="1" * 32,
        span_id="2" * 16,
        start_ns=times[0],
        end_ns=times[1],
        attributes={**attributes, "gen_ai.operation.name": kind},
        events=[Event(name, 1, attributes) for name in events],
    )

    found = record(told)

    assert found.id == "2" * 16
    assert not isinstance(found, Request) or found.usage is None or isinstance(found.usage, Usage)
