"""Data comes in by ``v1/traces``: from whom, how much, and what it looks like to strangers."""

import asyncio
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_llmobs import LLMObs
from asgi_llmobs.admin import intake
from asgi_llmobs.admin.intake import INTAKES
from asgi_llmobs.admin.page import Permission
from asgi_llmobs.auth import Role, basic, token
from asgi_llmobs.queries.traces import get_trace
from tests import telling
from tests.admin.visiting import Visitor, loop
from tests.otlp.sending import JSON, KINDS, PROTOBUF, in_json

SECRET = "a long enough secret"
BEARER = {"authorization": f"Bearer {SECRET}"}
BODY = in_json(telling.tell("gen_ai"))


@pytest.fixture
def obs() -> Iterator[LLMObs]:
    made = LLMObs("sqlite://", instrument="off")
    yield made
    made.close()


def visitor(obs: LLMObs, monkeypatch: pytest.MonkeyPatch, auth: Any = None, **environ: str) -> Visitor:
    for name in ("LLMOBS_ADMIN_TOKEN", "LLMOBS_INGEST_TOKEN", "LLMOBS_DEV"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return Visitor(obs.admin(auth=auth))


def stored(obs: LLMObs) -> bool:
    return get_trace(obs.database, telling.TRACE, project="default") is not None


@pytest.mark.parametrize("path", [f"/{each.slug}" for each in INTAKES if each.load is intake.traces])
@pytest.mark.parametrize("kind", KINDS)
def test_T24_an_exporter_with_the_ingest_token(
    kind: str, path: str, obs: LLMObs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T24: at OpenTelemetry's address and at those of the systems that we are compatible with."""
    sender = visitor(obs, monkeypatch, LLMOBS_INGEST_TOKEN=SECRET)

    answer = sender.ask("POST", path, {**BEARER, "content-type": kind}, KINDS[kind](telling.tell("gen_ai")))

    assert (answer.status, answer.header("content-type")) == (200, kind)
    assert answer.header("x-content-type-options") == "nosniff" and stored(obs)


def test_the_ingest_token_opens_nothing_else(obs: LLMObs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the configuration of many processes: it must not read."""
    sender = visitor(obs, monkeypatch, LLMOBS_INGEST_TOKEN=SECRET, LLMOBS_ADMIN_TOKEN="another secret")

    for path in ("/", "/requests", "/status.json", "/v1/traces"):
        assert sender.ask("GET", path, BEARER).status in (403, 404)
    page = sender.post("/login", {"secret": SECRET})
    assert page.status == 401


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.INGEST])
def test_no_other_role_sends(role: str, obs: LLMObs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who reads is not the one who writes."""
    sender = visitor(obs, monkeypatch, auth=token(SECRET, role=role))

    assert sender.ask("POST", "/v1/traces", {**BEARER, "content-type": JSON}, BODY).status == 403
    assert not stored(obs)


def test_every_way_to_become_ingest(obs: LLMObs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token or a name and password with that role, the app's own callable, and the variable beside other locks."""
    for auth, headers, environ in (
        (token(SECRET, role="ingest"), BEARER, {}),
        (basic("me", SECRET, role="ingest"), {"authorization": "Basic bWU6YSBsb25nIGVub3VnaCBzZWNyZXQ="}, {}),
        (lambda request: request.headers.get("x-key") and "ingest", {"x-key": "k"}, {}),
        (basic("me", "a password"), BEARER, {"LLMOBS_INGEST_TOKEN": SECRET}),
        (token("another secret"), BEARER, {"LLMOBS_INGEST_TOKEN": SECRET}),
    ):
        sender = visitor(obs, monkeypatch, auth=auth, **environ)

        assert sender.ask("POST", "/v1/traces", {**headers, "content-type": JSON}, BODY).status == 200


def test_while_developing(obs: LLMObs, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine nothing has to be set up; a page in the browser can send nothing all the same."""
    sender = visitor(obs, monkeypatch, LLMOBS_DEV="1")
    sender.peer, sender.host = "127.0.0.1", "localhost"

    for headers in (
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "https://evil.example", "content-type": "text/plain"},
        {"content-type": "text/plain"},
    ):
        assert sender.ask("POST", "/v1/traces", {"content-type": JSON, **headers}, BODY).status == 403
    assert not stored(obs)
    assert sender.ask("POST", "/v1/traces", {"content-type": JSON}, BODY).status == 200


def test_its_page(obs: LLMObs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was only told of is shown like any other, but for what could be sent again."""
    sender = visitor(obs, monkeypatch, auth=lambda request: request.headers.get("x-role"))
    sender.ask("POST", "/v1/traces", {"x-role": "ingest", "content-type": JSON}, BODY)

    page = sender.ask("GET", f"/requests/{telling.CHAT}", {"x-role": "reader"})

    assert page.status == 200 and telling.ANSWER in page.text and "gpt-4o" in page.text
    assert "curl -sS" not in page.text


def test_strangers(obs: LLMObs, monkeypatch: pytest.MonkeyPatch) -> None:
    """They get what they get everywhere; guessing is slowed down."""
    sender = visitor(obs, monkeypatch, LLMOBS_INGEST_TOKEN=SECRET)

    for headers in ({}, {"content-type": JSON}, {"content-type": PROTOBUF}):
        here, nowhere = (sender.ask("POST", path, headers, BODY) for path in ("/v1/traces", "/nothing"))
        assert (here.status, here.content) == (nowhere.status, nowhere.content) == (403, b"")
    wrong = {"authorization": "Bearer wrong", "content-type": JSON}
    answers = [sender.ask("POST", "/v1/traces", wrong, BODY).status for _ in range(7)]
    assert answers[0] == 401 and answers[-1] == 429
    assert not stored(obs)


def test_without_an_engine_there_is_no_such_address(make_admin: Any) -> None:
    """An admin over a store alone takes nothing in."""
    answer = Visitor(make_admin(auth=token(SECRET, role="ingest"))).ask("POST", "/v1/traces", BEARER, BODY)

    assert answer.status == 405


@pytest.mark.parametrize("said", [True, False])
def test_a_body_without_end(said: bool, obs: LLMObs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A26: whatever its length is said to be, no more of it is read than is allowed."""
    sender = visitor(obs, monkeypatch, LLMOBS_INGEST_TOKEN=SECRET)
    scope = sender.request("POST", "/v1/traces", {**BEARER, "content-type": JSON})
    if said:
        scope["headers"].append((b"content-length", b"99999999999"))
    pulled, sent = 0, []

    async def receive() -> Any:
        nonlocal pulled
        pulled += 1
        return {"type": "http.request", "body": b" " * 1_000_000, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    loop.run(sender.app(scope, receive, send))

    assert sent[0]["status"] == 413 and pulled <= (0 if said else 10)


def test_a_sender_that_stalls(obs: LLMObs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is let go after a while, and while it stalls it holds up nobody."""
    monkeypatch.setattr("asgi_llmobs.admin.sent.SECONDS", 0.1)
    sender = visitor(obs, monkeypatch, LLMOBS_INGEST_TOKEN=SECRET)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(30)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = sender.request("POST", "/v1/traces", {**BEARER, "content-type": JSON})
    loop.run(sender.app(scope, receive, send))

    assert sent[0]["status"] == 408


def test_f28_a_sender_of_crumbs(obs: LLMObs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that comes in pieces of a few bytes takes the memory of its bytes, not of its pieces."""
    sender = visitor(obs, monkeypatch, LLMOBS_INGEST_TOKEN=SECRET)
    scope = sender.request("POST", "/v1/traces", {**BEARER, "content-type": JSON})
    left, sent = 50_000, []

    async def receive() -> Any:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": b"%03d" % (left % 1000), "more_body": left > 0}

    async def send(message: Any) -> None:
        sent.append(message)

    tracemalloc.start()
    try:
        loop.run(sender.app(scope, receive, send))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert sent[0]["status"] == 400 and peak < 3_500_000  # a list of its pieces: 6.4 MB


def test_too_many_at_once(obs: LLMObs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of requests under way senders are asked to come again."""
    monkeypatch.setattr(intake, "WAITING", 3)
    sender = visitor(obs, monkeypatch, LLMOBS_INGEST_TOKEN=SECRET)
    statuses: list[int] = []

    async def one(gate: asyncio.Event) -> None:
        async def receive() -> Any:
            await gate.wait()
            return {"type": "http.request", "body": BODY, "more_body": False}

        async def send(message: Any) -> None:
            if "status" in message:
                statuses.append(message["status"])

        await sender.app(sender.request("POST", "/v1/traces", {**BEARER, "content-type": JSON}), receive, send)

    async def all_at_once() -> None:
        gate = asyncio.Event()
        tasks = [asyncio.create_task(one(gate)) for _ in range(5)]
        await asyncio.sleep(0.2)
        gate.set()
        await asyncio.gather(*tasks)

    loop.run(all_at_once())

    assert sorted(statuses) == [200, 200, 200, 429, 429]


def test_every_address_needs_the_permission() -> None:
    """None takes data in from whoever may look."""
    assert {each.permission for each in INTAKES} == {Permission.INGEST}
