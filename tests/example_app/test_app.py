"""The tutorial does what it says, and the records show what happened."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from asgi_llmobs.testing import Captured
from example_app.app import app, conversations, fake

pytestmark = pytest.mark.sdk


@pytest.fixture
def client(llmobs: Captured, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The running app, recorded, with a fake provider that does not take its time."""
    for name in ("delay", "first_token_delay", "chunk_delay"):
        monkeypatch.setattr(fake, name, 0.0)
    monkeypatch.setattr(app, "middleware_stack", None)  # the middleware belongs to the engine of this test
    fake.reset()
    conversations.clear()
    with TestClient(app) as client:
        yield client


def turn(message: str, **more: str) -> dict[str, str]:
    return {"message": message, "user": "ada", "session": "trip-1", **more}


def test_a_chat_streams_and_remembers(client: TestClient, llmobs: Captured) -> None:
    """Two turns are two requests of one session; the second one contains the first."""
    first = client.post("/chat", json=turn("What is in the itinerary?")).text
    second = client.post("/chat", json=turn("And with children?")).text

    assert first.startswith("Here is a calm weekend in Lisbon.")
    assert second
    one, two = llmobs.requests
    assert (one.text, one.stream, one.outcome) == (first, True, "ok")
    assert {(each.session_id, each.session_name, each.user_id) for each in (one, two)} == {
        ("trip-1", "Trip of ada", "ada")
    }
    assert [message.role for message in two.messages] == ["system", "user", "assistant", "user"]
    assert [each.properties for each in (one, two)] == [
        {"feature": "chat", "plan": "pro", "turn": "1"},  # this SDK sends the names of headers in lower case
        {"feature": "chat", "plan": "pro", "turn": "2"},
    ]
    assert one.first_token_ns is not None


def test_no_annotation_reaches_the_provider(client: TestClient) -> None:
    """The header was for us alone."""
    client.post("/chat", json=turn("Hello"))

    assert not [name for name in fake.log[0].headers if name.startswith(("llmobs", "helicone"))]


def test_an_agent_is_one_tree(client: TestClient, llmobs: Captured) -> None:
    """Request, agent, model, three tools side by side, model again."""
    answer = client.post("/agent", json=turn("Find flights from Berlin to Lisbon, a hotel and the weather")).json()

    assert "07:40 from Berlin to Lisbon" in answer["answer"]
    root, agent, *inside = llmobs.spans
    assert (root.route, root.status, agent.name, agent.kind) == ("/agent", 200, "trip planner", "agent")
    assert sorted((each.kind, each.name) for each in inside if each.kind == "tool") == [
        ("tool", "find_flights"),
        ("tool", "find_hotel"),
        ("tool", "get_weather"),
    ]
    assert len(llmobs.requests) == 2
    assert {each.parent_id for each in inside} == {agent.id}
    assert {each.trace_id for each in inside} == {root.trace_id}


def test_a_tool_that_fails_is_seen_and_survived(client: TestClient, llmobs: Captured) -> None:
    """The tool's span is an error, the request is not."""
    answer = client.post("/agent", json=turn("Find flights from Vienna to Kyoto"))

    assert "try Osaka" in answer.json()["answer"]
    (tool,) = [each for each in llmobs.spans if each.kind == "tool"]
    assert (tool.outcome, tool.error_type) == ("error", "LookupError")


def test_an_answer_from_the_guide(client: TestClient, llmobs: Captured) -> None:
    """A retriever with embeddings of one provider, then the answer of another, in one trace."""
    answer = client.post("/ask", json=turn("How big may my cabin baggage be?")).json()

    assert answer["sources"][0].startswith("Cabin baggage")
    assert answer["answer"].startswith("According to our guide: Cabin baggage")
    assert [each.operation for each in llmobs.requests] == ["embeddings", "embeddings", "chat"]
    assert [each.api for each in llmobs.requests][-1] == "anthropic.messages"
    assert len(llmobs.traces) == 1


def test_what_people_and_programs_think(client: TestClient, llmobs: Captured) -> None:
    """The answer from the guide judges itself; a traveller judges an answer by the id of its trace."""
    client.post("/ask", json=turn("How big may my cabin baggage be?"))
    trace = client.post("/chat", json=turn("Hello")).headers["x-trace-id"]
    client.post("/feedback", json={"trace": trace, "helpful": False, "why": "too short"})

    assert [(each.name, each.author) for each in llmobs.scores] == [
        ("grounded", "word overlap"),
        ("helpful", "traveller"),
    ]
    assert 0.5 < llmobs.scores[0].value <= 1
    assert (llmobs.scores[1].trace_id or llmobs.scores[1].target_id, llmobs.scores[1].comment) == (trace, "too short")


def test_a_cached_beginning_and_an_answer_cut_off(client: TestClient, llmobs: Captured) -> None:
    """The second summary reads the rules from the cache; a long one ends at its forty tokens."""
    for message in ("The weekend plan: days in Lisbon", "A short note"):
        client.post("/summary", json=turn(message))

    long, short = llmobs.requests
    assert long.finish_reasons == ("max_tokens",) and short.finish_reasons == ("end_turn",)
    assert short.cache_read and short.cache_read > 1_000 and not long.cache_read
    assert [each.label for each in llmobs.scores] == ["cut off", "whole"]


def test_a_picture_goes_along(client: TestClient, llmobs: Captured) -> None:
    """A PNG in the question, kept as what it is."""
    assert client.post("/photo", json=turn("Which beach is this?")).json()["answer"]
    parts = llmobs.requests[0].messages[0].parts
    assert [part.mime_type for part in parts if part.type != "text"] == ["image/png"]


def test_a_retry_is_an_attempt(client: TestClient, llmobs: Captured) -> None:
    """The SDK's retry is one request with two attempts."""
    fake.script(status=429, retry_after=0.01)

    assert client.post("/chat", json=turn("Hello")).status_code == 200
    (request,) = llmobs.requests
    assert [attempt.status for attempt in request.attempts] == [429, 200]


def test_a_provider_that_fails(client: TestClient, llmobs: Captured) -> None:
    """The app answers 502 as it was written to; the request is an error with its status."""
    fake.script(status=400, message="too long")

    assert client.post("/chat", json=turn("Hello")).status_code == 502
    assert (llmobs.requests[0].outcome, llmobs.requests[0].status) == ("error", 400)


def test_the_front_page(client: TestClient, llmobs: Captured) -> None:
    """A request without any LLM call leaves nothing."""
    assert client.get("/").json()["admin"] == "/_llmobs/"
    assert llmobs.spans == []
