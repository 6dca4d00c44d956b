"""When a call connected, secured, sent and waited: told by the transports of both families, and seen by nobody else."""

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import httpcore
import httpcore2
import httpx
import httpx2
import pytest

from asgi_llmobs.capture import clients
from asgi_llmobs.capture.outbound import MARKER
from asgi_llmobs.capture.stages import Noting
from asgi_llmobs.safely import failures
from asgi_llmobs.testing import capture

URL = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello?"}]}
CONTENT = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}}]}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(CONTENT), CONTENT)
CORES = {httpx: httpcore, httpx2: httpcore2}
PAUSE = 0.02


@pytest.fixture
def captured():
    with capture() as found:
        yield found


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def family(request: Any) -> Any:
    return request.param


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def is_async(request: Any) -> Any:
    return request.param


def transport_of(family: Any, is_async: bool, kind: Any = None, refuse: bool = False) -> Any:
    """The family's own transport over a network in memory that takes a while to connect."""
    core = CORES[family]

    class Network(core.MockBackend):  # type: ignore[misc, name-defined]
        def connect_tcp(self, *args: Any, **more: Any) -> Any:
            time.sleep(PAUSE)
            if refuse:
                raise core.ConnectError("refused")
            return super().connect_tcp(*args, **more)

    class AsyncNetwork(core.AsyncMockBackend):  # type: ignore[misc, name-defined]
        async def connect_tcp(self, *args: Any, **more: Any) -> Any:
            await asyncio.sleep(PAUSE)
            if refuse:
                raise core.ConnectError("refused")
            return await super().connect_tcp(*args, **more)

    transport = (kind or (family.AsyncHTTPTransport if is_async else family.HTTPTransport))()
    pool = core.AsyncConnectionPool if is_async else core.ConnectionPool
    transport._pool = pool(network_backend=(AsyncNetwork if is_async else Network)([ANSWER] * 4))
    return transport


def post(family: Any, is_async: bool, *calls: dict[str, Any], transport: Any = None, wrap: Any = None) -> list[Any]:
    """The responses to *calls*, which one client makes one after the other."""
    made = transport or transport_of(family, is_async)
    client = (family.AsyncClient if is_async else family.Client)(transport=made)
    if wrap is not None:
        wrap(client)
    if not is_async:
        return [client.post(URL, **{"json": BODY, **call}) for call in calls]

    async def run() -> list[Any]:
        return [await client.post(URL, **{"json": BODY, **call}) for call in calls]

    return asyncio.run(run())


def test_each_stage_in_its_order(captured, family, is_async):
    """A new connection has them all, one that is used again only what it does; a large upload is sent in its time."""
    post(family, is_async, {}, {}, {"json": None, "content": b" " * 200_000 + json.dumps(BODY).encode()})
    new, again, large = captured.requests

    assert list(new.stages) == ["queue", "connect", "tls", "send", "wait"]
    assert list(again.stages) == list(large.stages) == ["queue", "send", "wait"]
    assert new.stages["tls"] - new.stages["connect"] >= PAUSE * 0.9e9
    for record in (new, again, large):
        clocks = list(record.stages.values())
        assert clocks == sorted(clocks) and 0 <= clocks[0] and clocks[-1] <= record.headers_ns
        assert record.attempts[0].stages == record.stages


def test_where_it_ended(captured, family, is_async):
    """A connection that fails has got no further than that."""
    with pytest.raises(family.ConnectError):
        post(family, is_async, {}, transport=transport_of(family, is_async, refuse=True))

    assert list(captured.requests[0].stages) == ["queue", "connect"]
    assert captured.requests[0].outcome == "error"


def test_nobody_else_finds_ours(captured, family, is_async):
    """Neither hooks, nor the response's request, nor a transport of the app's own; the request is the app's object."""
    seen = []
    base = family.AsyncHTTPTransport if is_async else family.HTTPTransport

    class Own(base):  # type: ignore[misc, valid-type]
        def handle_request(self, request: Any) -> Any:
            seen.append((request, dict(request.extensions)))
            return super().handle_request(request)

        async def handle_async_request(self, request: Any) -> Any:
            seen.append((request, dict(request.extensions)))
            return await super().handle_async_request(request)

    shared = {"own": 1}
    (response,) = post(family, is_async, {"extensions": shared}, transport=transport_of(family, is_async, Own))

    assert seen[0][0] is response.request
    assert set(seen[0][1]) == set(response.request.extensions) == {"own", "timeout", MARKER}
    assert shared == {"own": 1}
    assert "connect" in captured.requests[0].stages


def test_the_apps_own_ear_hears_the_same(captured, family, is_async):
    """What an app listens for itself comes as it would without us, all of it, and its errors are its own."""
    heard: list[str] = []

    def ear(event: str, info: Any) -> None:
        heard.append(event)

    async def async_ear(event: str, info: Any) -> None:
        heard.append(event)

    def broken(event: str, info: Any) -> None:
        raise KeyError("theirs")

    async def async_broken(event: str, info: Any) -> None:
        raise KeyError("theirs")

    trace = {"extensions": {"trace": async_ear if is_async else ear}}
    (response,) = post(family, is_async, trace)
    with_us, stages = list(heard), captured.requests[0].stages
    heard.clear()
    clients.uninstrument()
    post(family, is_async, trace)
    clients.instrument()

    assert with_us == heard and len(heard) == 14
    assert response.request.extensions["trace"] is trace["extensions"]["trace"]
    assert list(stages) == ["queue", "connect", "tls", "send", "wait"]
    with pytest.raises(KeyError, match="theirs"):
        post(family, is_async, {"extensions": {"trace": async_broken if is_async else broken}})


def test_a_wrapped_client(family, is_async):
    """Where only one client is watched, its transport is asked all the same."""
    with capture(instrument="off") as captured:
        post(family, is_async, {}, wrap=captured.obs.wrap)

        assert "connect" in captured.requests[0].stages


def test_what_was_patched_before_stays(family, is_async, monkeypatch):
    """A mock or another instrumentation in the transport's class gets the app's own request; no stages are known."""
    owner = family.AsyncHTTPTransport if is_async else family.HTTPTransport
    name = "handle_async_request" if is_async else "handle_request"
    seen = []
    clients.uninstrument()
    original = vars(owner)[name]

    def theirs(self: Any, request: Any) -> Any:
        seen.append(request)
        return original(self, request)

    monkeypatch.setattr(owner, name, theirs)
    with capture() as captured:
        (response,) = post(family, is_async, {})

        assert vars(owner)[name] is theirs and seen[0] is response.request
        assert captured.requests[0].stages == {}
    monkeypatch.undo()


def test_our_own_bugs(captured, family, is_async, monkeypatch):
    """Whatever goes wrong while we listen, the call is made, and the failure is counted."""
    before = failures().get("stages", 0)
    monkeypatch.setattr("asgi_llmobs.capture.stages.STAGES", None)
    assert [answer.status_code for answer in post(family, is_async, {})] == [200]
    monkeypatch.setattr("asgi_llmobs.capture.stages.Noting", None)
    assert [answer.status_code for answer in post(family, is_async, {})] == [200]

    assert failures().get("stages", 0) > before + 1
    assert len(captured.requests) == 2


def test_what_a_proxy_is_sent_is_not_the_request():
    """CONNECT goes before the request: it is heard to the end."""
    clocks: dict[str, int] = {}
    extensions: dict[str, Any] = {"trace": None}
    noting = Noting(clocks, extensions)
    for method, stages in ((b"CONNECT", {"send", "wait"}), (b"POST", {"send", "wait", "tls"})):
        noting.note("http11.send_request_headers.started", {"request": SimpleNamespace(method=method)})
        noting.note("http11.send_request_headers.complete", {"return_value": None})
        assert set(clocks) == stages and ("trace" in extensions) is (method == b"CONNECT")
        noting.note("proxy.start_tls.started", {})
