"""Sending a call again: through the host's own client, for operators, and only where that client is meant to go."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from starlette.applications import Starlette

from asgi_llmobs import LLMObs, LLMObsMiddleware
from asgi_llmobs.errors import ConfigError
from asgi_llmobs.replay import Again, Replayer
from asgi_llmobs.testing import FakeProvider
from tests.admin.visiting import Visitor, loop
from tests.making import body, request

openai = pytest.importorskip("openai")

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "What may I carry on board?"}]}
SAME = {
    "content-type": "application/x-www-form-urlencoded",
    "origin": "http://admin.example",
    "sec-fetch-site": "same-origin",
}


@pytest.fixture(scope="module")
def fake() -> Iterator[tuple[FakeProvider, str]]:
    """A provider, and where it is."""
    provider = FakeProvider()
    with provider.serve() as url:
        yield provider, url


@pytest.fixture
def obs(fake: tuple[FakeProvider, str]) -> Iterator[LLMObs]:
    """An engine of its own that has seen one call."""
    provider, url = fake
    provider.reset()
    made = LLMObs("sqlite://", providers=provider.providers, auth=lambda request: "owner")
    with made.wrap(httpx.Client(trust_env=False)) as client:
        client.post(f"{url}/v1/chat/completions", json=BODY).raise_for_status()
    assert made.flush()
    yield made
    made.close()


def first(obs: LLMObs) -> str:
    """The id of the call that was seen."""
    visitor = Visitor(obs.admin(auth=lambda request: "owner"))
    return str(visitor.get("/requests.json").json["rows"][-1]["id"])


def send(obs: LLMObs, replay: Any, *, role: str = "operator", **fields: str) -> Any:
    """What an operator gets who sends the call again with these fields."""
    visitor = Visitor(obs.admin(auth=lambda request: role, replay=replay))
    form = {"body": '{"model": "gpt-4o", "messages": [{"role": "user", "content": "And skis?"}]}', "confirm": "yes"}
    return visitor.ask("POST", f"/requests/{first(obs)}/replay", SAME, urlencode({**form, **fields}).encode())


def client_of(name: str, url: str, obs: LLMObs) -> Any:
    """Whatever may be handed over."""

    def by_function(again: Again) -> None:
        with obs.wrap(httpx.Client(trust_env=False)) as client:
            client.post(again.url, json=dict(again.body))

    async def by_coroutine(again: Again) -> None:
        async with obs.wrap(httpx.AsyncClient(trust_env=False)) as client:
            await client.post(again.url, json=dict(again.body))

    made = {
        "httpx": lambda: httpx.Client(base_url=url, headers={"authorization": "Bearer sk-app"}, trust_env=False),
        "async httpx": lambda: httpx.AsyncClient(base_url=url, trust_env=False),
        "openai": lambda: openai.OpenAI(base_url=f"{url}/v1", api_key="sk-app"),
        "async openai": lambda: openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-app"),
    }
    if name in made:
        return obs.wrap(made[name]())
    return by_function if name == "function" else by_coroutine


@pytest.mark.sdk
@pytest.mark.parametrize("name", ["httpx", "async httpx", "openai", "async openai", "function", "coroutine"])
def test_it_is_sent_and_linked(fake: tuple[FakeProvider, str], obs: LLMObs, name: str) -> None:
    """The edited body goes out through the client; the new call says of which it is a repetition, and is compared."""
    provider, url = fake
    old = first(obs)
    client = client_of(name, url, obs)
    answer = send(obs, client)
    for end in ("aclose", "close"):
        if hasattr(client, end):
            ended = getattr(client, end)()
            if ended is not None:
                loop.run(ended)
            break

    assert answer.status == 303, answer.text
    assert provider.log[-1].json["messages"][0]["content"] == "And skis?"
    new, _, query = answer.location.rpartition("/")[2].partition("?")
    assert query == f"compare={old}" and new != old
    visitor = Visitor(obs.admin(auth=lambda request: "owner"))
    made = visitor.get(f"/requests/{new}.json?{query}").json
    assert made["request"]["properties"] == {"Replay-Of": old} and made["compared"]
    assert [each["id"] for each in visitor.get(f"/requests/{old}.json").json["kin"]["replays"]] == [new]


def test_off_by_default(obs: LLMObs, fake: tuple[FakeProvider, str]) -> None:
    """Without a client nothing is sent, and the page says how to allow it."""
    visitor = Visitor(obs.admin(auth=lambda request: "owner"))
    page = visitor.get(f"/requests/{first(obs)}/replay")

    assert "obs.admin(replay=" in page.text and "<textarea" not in page.text
    assert send(obs, None).status == 422
    assert len(fake[0].log) == 1


@pytest.mark.parametrize("role", ["viewer", "reader", "analyst"])
def test_operators_only(obs: LLMObs, fake: tuple[FakeProvider, str], role: str) -> None:
    """Who may read may not spend."""
    client = httpx.Client(base_url=fake[1])

    assert send(obs, client, role=role).status == 403
    visitor = Visitor(obs.admin(auth=lambda request: role, replay=client))
    assert "/replay" not in visitor.get(f"/requests/{first(obs)}").text
    assert len(fake[0].log) == 1


@pytest.mark.parametrize("fields", [{"confirm": ""}, {"body": "no JSON"}, {"body": "[1]"}, {"body": ""}])
def test_only_what_is_confirmed_and_understood(obs: LLMObs, fake: tuple[FakeProvider, str], fields: Any) -> None:
    """No confirmation or no JSON object: nothing is sent."""
    assert send(obs, httpx.Client(base_url=fake[1]), **fields).status == 422
    assert len(fake[0].log) == 1


def test_from_elsewhere(obs: LLMObs, fake: tuple[FakeProvider, str]) -> None:
    """A page of somebody else cannot make an operator's browser spend."""
    visitor = Visitor(obs.admin(auth=lambda request: "owner", replay=httpx.Client(base_url=fake[1])))
    for headers in (
        {**SAME, "origin": "http://evil.example", "sec-fetch-site": "cross-site"},
        {**SAME, "origin": "null"},
    ):
        answer = visitor.ask("POST", f"/requests/{first(obs)}/replay", headers, b"confirm=yes&body=%7B%7D")
        assert answer.status == 403
    assert len(fake[0].log) == 1


def test_a_key_goes_only_where_it_belongs(obs: LLMObs, fake: tuple[FakeProvider, str]) -> None:
    """A record that names another host cannot lead the client, and its key, there."""
    called: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        called.append(request)
        return httpx.Response(200)

    client = httpx.Client(base_url="https://api.openai.com/v1", transport=httpx.MockTransport(answer))
    refused = send(obs, client)

    assert refused.status == 422 and "is for api.openai.com only" in refused.text
    assert called == [] and len(fake[0].log) == 1


def test_nothing_but_calls_of_models_is_made() -> None:
    """A record that was taken in from outside cannot make the app's key delete something."""
    called: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        called.append(request.method)
        return httpx.Response(200)

    obs = LLMObs("sqlite://", instrument="off")
    url = "https://api.openai.com/v1/files/all"
    made = request(url=url, method="DELETE", request_body=body(BODY))
    client = httpx.Client(base_url=url, transport=httpx.MockTransport(answer))
    Replayer(client, obs.flush).send(url, BODY, made)
    obs.close()

    assert called == ["POST"]


def test_a_call_that_fails_is_recorded(obs: LLMObs, fake: tuple[FakeProvider, str]) -> None:
    """The provider's refusal is the result, as it would be of any call."""
    fake[0].script(status=429, times=1)
    with obs.wrap(httpx.Client(base_url=fake[1], trust_env=False)) as client:
        answer = send(obs, client)
    new = answer.location.rpartition("/")[2].partition("?")[0]

    found = Visitor(obs.admin(auth=lambda request: "owner")).get(f"/requests/{new}.json").json["request"]
    assert (found["outcome"], found["status"]) == ("error", 429)


def test_a_client_that_raises_breaks_nothing(obs: LLMObs) -> None:
    """An exception out of the function leads back to the page."""

    def broken(again: Again) -> None:
        raise RuntimeError("no")

    answer = send(obs, broken)
    assert (answer.status, answer.location.rpartition("/")[2]) == (303, first(obs))


@pytest.mark.parametrize("wrong", [42, "https://api.openai.com", httpx.Client()], ids=["number", "text", "no base_url"])
def test_what_cannot_work_is_told_at_once(wrong: Any) -> None:
    """Wrong configuration raises where it is given."""
    engine = LLMObs("sqlite://")
    with pytest.raises(ConfigError, match="replay"):
        engine.admin(replay=wrong)
    engine.close()


def test_a_body_that_was_shortened(obs: LLMObs, fake: tuple[FakeProvider, str]) -> None:
    """What is not there as it was cannot be sent as it was."""
    short = LLMObs("sqlite://", providers=fake[0].providers, max_body=1024)
    with short.wrap(httpx.Client(trust_env=False)) as client:
        client.post(f"{fake[1]}/v1/chat/completions", json={**BODY, "metadata": {"x": "y" * 3000}})
    assert short.flush()
    before = len(fake[0].log)
    answer = send(short, httpx.Client(base_url=fake[1]))
    short.close()

    assert answer.status == 422 and "shortened" in answer.text
    assert len(fake[0].log) == before


def test_the_one_line_takes_a_client_too(obs: LLMObs, fake: tuple[FakeProvider, str]) -> None:
    """``add_middleware(LLMObsMiddleware, replay=client)`` allows it in its admin, and checks it at once."""
    form = urlencode({"body": '{"model": "gpt-4o", "messages": []}', "confirm": "yes"}).encode()
    path = f"/_llmobs/requests/{first(obs)}/replay"
    with obs.wrap(httpx.Client(base_url=fake[1], trust_env=False)) as client:
        app = LLMObsMiddleware(Starlette(), obs=obs, replay=client)
        visitor = Visitor(app, peer="127.0.0.1", host="127.0.0.1")

        assert visitor.ask("POST", path, {**SAME, "origin": "http://127.0.0.1"}, form).status == 303
        assert len(visitor.get("/_llmobs/requests.json").json["rows"]) == 2
    with pytest.raises(ConfigError, match="replay"):
        LLMObsMiddleware(Starlette(), obs=obs, replay=3)
