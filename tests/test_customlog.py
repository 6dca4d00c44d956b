"""The custom trace log, as Helicone documents it: forms of time, headers and ``meta``, calls and steps, refusals."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import orjson
import pytest

from asgi_llmobs import LLMObs
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import get_request, list_requests
from asgi_llmobs.queries.traces import get_trace, list_traces
from tests.admin.visiting import Answer, Visitor

LOG, TYPED = "/v1/trace/custom/log", "/v1/trace/custom/log/typed"
START = 1_700_000_000
NS = 1_000_000_000
CHAT = {
    "providerRequest": {
        "url": "https://api.openai.com/v1/chat/completions",
        "json": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Capital of France?"}]},
        "meta": {"Helicone-Property-Tier": "gold", "Helicone-User-Id": "ann", "environment": "test"},
    },
    "providerResponse": {
        "json": {
            "id": "chatcmpl-7",
            "object": "chat.completion",
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
        },
        "status": 200,
        "headers": {"x-request-id": "req_9", "set-cookie": "sid=very-secret-cookie"},
    },
    "timing": {
        "startTime": {"seconds": START, "nanos": 250_000_000},
        "endTime": {"seconds": START + 2, "nanos": 500_000_000},
        "timeToFirstToken": 400,
    },
}


class Sender:
    """Sends logs to an engine of its own."""

    def __init__(self) -> None:
        self.obs = LLMObs("sqlite://", instrument="off")
        self.visitor = Visitor(self.obs.admin(auth=lambda request: "ingest"))

    def send(self, log: Any, headers: dict[str, str] | None = None, path: str = LOG) -> Answer:
        """Post *log*."""
        content = log if isinstance(log, bytes) else orjson.dumps(log)
        return self.visitor.ask("POST", path, {"content-type": "application/json", **(headers or {})}, content)

    def requests(self) -> list[Any]:
        """What is in the list."""
        return list(list_requests(self.obs.database, Filter()).rows)

    def node(self, trace_id: str) -> Any:
        """The one node of a trace."""
        found = get_trace(self.obs.database, trace_id, project="default")
        assert found is not None
        (node,) = found.nodes
        return node

    def stored(self) -> str:
        """Everything in the database, for what must not be in it."""
        with self.obs.database.read() as connection:
            tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
            rows = [
                connection.exec_driver_sql(f"SELECT * FROM {table}").all() for table in tables if "fts" not in table
            ]
        return str(rows)


@pytest.fixture
def sender() -> Iterator[Sender]:
    made = Sender()
    yield made
    made.obs.close()


def changed(log: Any, path: str, value: Any) -> Any:
    """*log* with another value at *path*; ``...`` takes the field out."""
    copy = orjson.loads(orjson.dumps(log))
    *folders, name = path.split(".")
    place = copy
    for folder in folders:
        place = place[folder]
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return copy


def test_t12_a_call_as_it_is_documented(sender: Sender) -> None:
    """T12: the exact JSON with nanos: times, tokens, price, properties and user are those of a captured call."""
    answer = sender.send(
        CHAT, {"authorization": "Bearer hsk-do-not-keep-this-key", "helicone-auth": "Bearer hsk-nor-this"}
    )
    assert (answer.status, answer.json["isValid"], answer.json["errors"]) == (200, True, [])
    (row,) = sender.requests()

    assert (row.start_ns, row.duration_ns, row.first_token_ns) == (START * NS + NS // 4, 9 * NS // 4, 400_000_000)
    assert (row.provider, row.request_model, row.input_tokens, row.output_tokens) == (
        "openai",
        "gpt-4o-mini",
        1000,
        100,
    )
    assert row.cost_usd == Decimal("0.00021")
    assert (row.user_id, dict(row.properties)) == ("ann", {"Tier": "gold", "environment": "test"})
    assert answer.json["id"] == row.id and answer.json["traceId"] == row.trace_id
    kept = sender.stored() + str(get_request(sender.obs.database, row.id, project="default"))
    assert "Paris" in kept and "req_9" in kept
    assert "hsk-" not in kept and "very-secret-cookie" not in kept


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ({"seconds": START, "nanos": 500_000_000}, {"seconds": START + 1, "nanos": 750_000_000}),
        ({"seconds": START, "milliseconds": 500}, {"seconds": START + 1, "milliseconds": 750}),
        ("2023-11-14T22:13:20.5Z", "2023-11-14T22:13:21.750+00:00"),
        (str(START * 1000 + 500), START * 1000 + 1750),
        (START + 0.5, str(START + 1.75)),
    ],
)
def test_t12_every_form_of_time(start: Any, end: Any, sender: Sender) -> None:
    """T12: all say half past and a second and a quarter later."""
    log = changed(CHAT, "timing", {"startTime": start, "endTime": end})
    assert sender.send(log, path=TYPED).status == 200
    (row,) = sender.requests()

    assert (row.start_ns, row.duration_ns, row.first_token_ns) == (START * NS + NS // 2, 5 * NS // 4, None)


def test_t12_headers_count_more_than_meta(sender: Sender) -> None:
    """T12: ``meta`` is read as headers; the real ones win, by either prefix; every one of ours is honoured."""
    log = changed(CHAT, "providerRequest.meta", {
        "Helicone-Session-Id": "from meta", "LLMObs-User-Id": "from meta", "Helicone-Session-Name": "talk",
        "Helicone-Property-Tier": "meta", "Helicone-Node-Id": "agent:lookup",
    })  # fmt: skip
    headers = {
        "helicone-session-id": "from header",
        "helicone-user-id": "from header",
        "llmobs-property-tier": "header",
    }
    answer = sender.send(log, {**headers, "Helicone-Request-Id": "order-17"})
    (row,) = sender.requests()

    assert (row.session_id, row.user_id, row.session_name) == ("from header", "from header", "talk")
    assert {name.lower(): value for name, value in row.properties.items()} == {"tier": "header"}
    assert row.request_id == answer.header("helicone-id") == "order-17"
    found = get_trace(sender.obs.database, row.trace_id, project="default")
    assert found is not None and [(node.virtual, node.depth) for node in found.nodes] == [(True, 1), (False, 2)]


@pytest.mark.parametrize(
    ("request_json", "response_json", "kind", "name", "said"),
    [
        (
            {"_type": "tool", "toolName": "weather", "input": {"city": "Tokyo"}},
            {"_type": "tool", "toolName": "weather", "temperature": 18.5},
            "tool", "weather", ('{"city":"Tokyo"}', '{"temperature":18.5}'),
        ),
        (
            {"_type": "vector_db", "operation": "search", "databaseName": "guides", "text": "bags", "topK": 3},
            {"_type": "vector_db", "matches": [1, 2]},
            "retriever", "search guides", ('"topK":3', '{"matches":[1,2]}'),
        ),
        (
            {"_type": "data", "name": "user_query", "query": "SELECT 1"},
            {"_type": "data", "name": "user_query", "data": [1]},
            "span", "user_query", ('"query":"SELECT 1"', '"data":[1]'),
        ),
    ],
)  # fmt: skip
def test_t12_tools_searches_and_data(
    request_json: Any, response_json: Any, kind: str, name: str, said: tuple[str, str], sender: Sender
) -> None:
    """T12, O14: steps become nodes of their kind, no requests, with what went in and came out."""
    log = changed(changed(CHAT, "providerRequest.json", request_json), "providerResponse.json", response_json)
    log = changed(log, "providerRequest.url", "custom-model-nopath")
    answer = sender.send(log, path=TYPED)
    node = sender.node(answer.json["traceId"])

    assert (node.kind, node.name, node.is_request, node.outcome) == (kind, name, False, "ok")
    assert node.duration_ns == 9 * NS // 4 and sender.requests() == []
    with sender.obs.database.read() as connection:
        previews = connection.exec_driver_sql("SELECT input_preview, output_preview FROM llmobs_spans").one()
    assert said[0] in previews[0] and said[1] in previews[1]


def test_t12_one_tree_out_of_several_logs(sender: Sender) -> None:
    """T12: a tool below an agent, sent after the call that stands beside it."""
    tool = changed(CHAT, "providerRequest.json", {"_type": "tool", "toolName": "weather", "input": "Tokyo"})
    sender.send(changed(CHAT, "providerRequest.meta.Helicone-Node-Id", "trip:plan"))
    sender.send(changed(tool, "providerRequest.meta.Helicone-Node-Id", "trip:weather"))
    (trace,) = list_traces(sender.obs.database, Filter()).rows

    assert (trace.node_count, trace.span_count, trace.max_depth) == (1, 2, 2)


def test_t12_sent_again_it_is_stored_once(sender: Sender) -> None:
    """T12: the same log with its times is the same call; without times each one is another."""
    answers = [sender.send(CHAT).json for _ in range(2)]
    (row,) = sender.requests()
    assert answers[0] == answers[1] and (answers[0]["id"], answers[0]["traceId"]) == (row.id, row.trace_id)
    for _ in range(2):
        sender.send(changed(CHAT, "timing", ...))
    assert len(sender.requests()) == 3


def test_t12_other_providers_streams_and_failures(sender: Sender) -> None:
    """T12: the answer's own form tells the dialect where the address does not; a stream's text is put together."""
    claude = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "Paris"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 2},
    }  # fmt: skip
    pieces = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in ("Par", "is")]
    stream = "".join(f"data: {orjson.dumps(piece).decode()}\n\n" for piece in pieces) + "data: [DONE]\n\n"
    custom = changed(CHAT, "providerRequest.url", "custom-model-nopath")
    logs = {
        "anthropic": changed({**custom, "provider": "ANTHROPIC"}, "providerResponse.json", claude),
        "stream": changed(changed(CHAT, "providerResponse.textBody", stream), "providerResponse.json", {}),
        "failed": changed(changed(CHAT, "providerResponse.status", 429), "providerResponse.json",
                          {"error": {"type": "rate_limit_error", "message": "slow down"}}),
        "unknown": changed(custom, "providerResponse.json", {"answer": 42}),
    }  # fmt: skip
    rows = {}
    for name, log in logs.items():
        assert sender.send(log, {"helicone-request-id": name}).status == 200, name
    for row in sender.requests():
        rows[row.request_id] = row

    assert (rows["anthropic"].provider, rows["anthropic"].input_tokens) == ("anthropic", 10)
    assert rows["anthropic"].cost_usd is not None
    assert (rows["stream"].stream, rows["stream"].output_preview, rows["stream"].outcome) == (True, "Paris", "ok")
    assert rows["stream"].first_token_ns == 400_000_000
    assert (rows["failed"].status, rows["failed"].outcome, rows["failed"].error_type) == (
        429,
        "error",
        "rate_limit_error",
    )
    assert (rows["unknown"].outcome, rows["unknown"].cost_usd) == ("ok", None)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("providerRequest", ..., "providerRequest"),
        ("providerResponse", ..., "providerResponse"),
        ("providerRequest.url", ..., "providerRequest.url"),
        ("providerRequest.url", 5, "providerRequest.url"),
        ("providerRequest.json", ..., "providerRequest.json"),
        ("providerRequest.json", "text", "providerRequest.json"),
        ("providerRequest.meta", ..., "providerRequest.meta"),
        ("providerResponse.status", ..., "providerResponse.status"),
        ("providerResponse.status", "200", "providerResponse.status"),
        ("providerResponse.status", True, "providerResponse.status"),
        ("providerResponse.headers", ..., "providerResponse.headers"),
        ("providerResponse.json", ..., "providerResponse.json"),
        ("timing.startTime", ..., "timing.startTime"),
        ("timing.endTime", ..., "timing.endTime"),
        ("timing.endTime", "next Tuesday", "timing.endTime"),
        ("timing.endTime", {"seconds": "x"}, "timing.endTime"),
        ("timing.endTime", START - 1, "timing.endTime"),
        ("timing.startTime", "2090-01-01", "timing.startTime"),
        ("timing", "now", "timing"),
    ],
)
def test_t13_what_is_missing_or_wrong_is_named(path: str, value: Any, field: str, sender: Sender) -> None:
    """T13: a 400 that lists each field and what is wrong with it; nothing is stored."""
    answer = sender.send(changed(CHAT, path, value), path=TYPED)

    assert (answer.status, answer.json["isValid"]) == (400, False)
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert all(error["message"] for error in answer.json["errors"])
    assert sender.requests() == []


def test_t13_all_that_is_wrong_is_said_at_once(sender: Sender) -> None:
    """T13: one answer for all fields; the plain form asks for less than the typed one."""
    empty: dict[str, Any] = {"providerRequest": {}, "providerResponse": {}}
    typed, plain = sender.send(empty, path=TYPED), sender.send(empty)

    assert {error["field"] for error in typed.json["errors"]} == {
        "providerRequest.url", "providerRequest.json", "providerRequest.meta",
        "providerResponse.json", "providerResponse.status", "providerResponse.headers",
    }  # fmt: skip
    assert {error["field"] for error in plain.json["errors"]} == {"providerRequest.url", "providerRequest.json"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"providerRequest":[]}', b"[" * 100_000]
)
def test_t13_garbage(content: bytes, sender: Sender) -> None:
    """T13: what is no log is refused in the same form."""
    answer = sender.send(content)

    assert 400 <= answer.status < 500 and answer.json["isValid"] is False


def test_what_must_not_be_kept(sender: Sender) -> None:
    """Omitted bodies are nowhere, secrets in ``meta`` neither."""
    log = changed(CHAT, "providerRequest.meta", {
        "Helicone-Omit-Request": "true", "Helicone-Omit-Response": "true", "Authorization": "Bearer secret-one-1234567",
        "Helicone-Auth": "Bearer secret-two-1234567", "x-api-key": "secret-three-123", "my_password": "secret-four",
    })  # fmt: skip
    assert sender.send(log).status == 200
    (row,) = sender.requests()
    kept = sender.stored() + str(get_request(sender.obs.database, row.id, project="default"))

    assert row.input_tokens == 1000
    assert not [word for word in ("France", "Paris", "secret-") if word in kept]


@pytest.mark.parametrize("way", ["header", "meta"])
def test_the_project_is_ours(way: str, sender: Sender) -> None:
    """Whoever may send to one project cannot write into another one."""
    named = {"LLMObs-Project": "elsewhere"}
    log = changed(CHAT, "providerRequest.meta", named) if way == "meta" else CHAT
    step = changed(log, "providerRequest.json", {"_type": "tool", "toolName": "f"})

    for each in (log, step):
        answer = sender.send(each, named if way == "header" else None)

        assert answer.status == 200
        assert sender.node(answer.json["traceId"]) is not None


@pytest.mark.parametrize("url", ["http://[broken", "https://h\u2100st.test/v1", "http://h.test:port/x"])
def test_an_address_that_is_none(url: str, sender: Sender) -> None:
    """The call is taken all the same."""
    answer = sender.send(changed(CHAT, "providerRequest.url", url))

    assert answer.status == 200 and sender.node(answer.json["traceId"]).model == "gpt-4o-mini-2024-07-18"


def test_addresses_and_bounds(sender: Sender) -> None:
    """The alias is the same door; too much is refused."""
    assert sender.send(CHAT, path="/v1/trace/custom/v1/log").status == 200
    assert sender.send(b'{"a":"' + b"x" * (9 << 20) + b'"}').status == 413


@pytest.mark.parametrize("path", ["log", "v1/log", "log/typed"])
def test_t12_headers_arrive_from_a_watched_client(sender: Sender, path: str) -> None:
    """A service that has us too sends its logs with ``httpx``: there the headers are meant for who is asked."""
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200)

    client = sender.obs.wrap(httpx.Client(transport=httpx.MockTransport(answer)))
    for address in (
        f"https://app.example/_llmobs/v1/trace/custom/{path}",
        "https://api.openai.com/v1/chat/completions",
    ):
        client.post(address, json={}, headers={"Helicone-Node-Id": "trip", "LLMObs-User-Id": "ada"})

    assert [headers.get("helicone-node-id") for headers in seen] == ["trip", None]
    assert [headers.get("llmobs-user-id") for headers in seen] == ["ada", None]
