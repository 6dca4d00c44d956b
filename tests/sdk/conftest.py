"""What the tests of the SDKs share: providers on sockets, the ways of watching, and the comparison with a bare run.

A test is a scenario ``async def act(kit)`` that is run twice, bare and watched; everything the SDK gives and everything
the server gets has to be the same. Sync clients run the same scenario without any event loop: they never suspend it.
"""

import asyncio
import importlib
import inspect
import os
import re
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from asgi_llmobs.providers import PROVIDERS
from asgi_llmobs.providers.base import Provider
from asgi_llmobs.records import Request
from asgi_llmobs.testing import FakeProvider, Received, capture
from asgi_llmobs.testing.dialects import Dialect, Reply
from asgi_llmobs.testing.script import Rule

FAMILIES = {"groq": "httpx", "cohere": "httpx", "ollama": "httpx"}  # the others use httpx2
OURS = re.compile(r"(llmobs|helicone)-")
DATE = re.compile(r"'date': '[^']*'")  # of an answer, as some exceptions quote it
BOUNDARY = re.compile(rb"(?<=boundary=)[\w-]+|(?<=--)[0-9a-f]{32}")
Act = Callable[["Kit"], Awaitable[Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is marked ``sdk``."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.sdk)


class Server(FakeProvider):
    """The fake provider of one SDK, with what that provider says in its own way.

    Args:
        name: The provider.
        dialects: Its addresses beside those that the fake provider knows.
        change: What it does otherwise at the addresses that the fake provider knows.
    """

    def __init__(
        self, name: str, dialects: tuple[Dialect, ...], change: Callable[[Dialect], Dialect] | None = None
    ) -> None:
        super().__init__()
        self.name = name
        self.dialects = dialects
        self.change = change
        self.port = 0

    def reply(self, received: Received, dialect: Dialect | None, rule: Rule, number: int) -> tuple[int, Reply]:
        """The status and the reply, in the first of its own dialects that fits."""
        own = (item for item in self.dialects if item.method == received.method and item.path.search(received.path))
        dialect = next(own, dialect)
        if self.change is not None and dialect is not None:
            dialect = self.change(dialect)
        return super().reply(received, dialect, rule, number)

    @property
    def providers(self) -> tuple[Provider, ...]:
        """For the option ``providers``: this port is the real provider."""
        return tuple(
            replace(item, hosts=(rf"127\.0\.0\.1:{self.port}",)) for item in PROVIDERS if item.name == self.name
        )


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[ModuleType], Server]]:
    """Gives the server of a test module, which names its provider and may add ``DIALECTS`` and ``change``."""
    running: dict[str, Server] = {}
    with ExitStack() as stack:

        def start(module: ModuleType) -> Server:
            name = module.PROVIDER
            if name not in running:
                server = Server(name, getattr(module, "DIALECTS", ()), getattr(module, "change", None))
                server.port = int(stack.enter_context(server.serve()).rpartition(":")[2])
                running[name] = server
            return running[name]

        yield start


class Now:
    """Awaitable that is done already: what a sync client returns can be awaited like what an async one does."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        return self.value


@dataclass
class Kit:
    """What a scenario gets: where the server is, and how its client is to be watched."""

    url: str
    way: str
    is_async: bool
    family: ModuleType
    obs: Any = None  # None: the bare run
    closers: list[Callable[[], Any]] = field(default_factory=list)

    def http(self, **options: Any) -> Any:
        """The HTTP client to give to the SDK, ``None`` where it makes its own."""
        if self.way in ("auto", "sdk"):
            return None
        if self.way == "transport":
            options["transport"] = self.transport()
        client = (self.family.AsyncClient if self.is_async else self.family.Client)(**options)
        self.later(client.aclose if self.is_async else client.close)
        return self.obs.wrap(client) if self.way == "http" and self.obs is not None else client

    def transport(self) -> Any:
        """A transport of the family, around which ours stands when it is watched."""
        inner = (self.family.AsyncHTTPTransport if self.is_async else self.family.HTTPTransport)()
        return inner if self.obs is None else self.obs.transport(inner)

    def sdk(self, client: Any, close: Callable[[], Any] | None = None) -> Any:
        """The SDK's client, wrapped where that is the way; it is closed after the scenario."""
        if self.way == "sdk" and self.obs is not None:
            assert self.obs.wrap(client) is client
        self.later(close or client.close)
        return client

    def later(self, close: Callable[[], Any]) -> None:
        """Call this when the scenario is over."""
        self.closers.append(close)

    @staticmethod
    def now(value: Any) -> Any:
        """*value* as something to await, whether it is that already or not."""
        return value if inspect.isawaitable(value) else Now(value)

    async def run(self, act: Act) -> Any:
        """The scenario's result, or the exception it ended with."""
        try:
            return await act(self)
        except (Exception, asyncio.CancelledError) as error:
            return error
        finally:
            while self.closers:
                await self.now(self.closers.pop()())


def drive(coroutine: Any, *, is_async: bool) -> Any:
    """Run a scenario; where no client is async there is no loop, and nothing that could suspend it."""
    if is_async:
        return asyncio.run(coroutine)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("a sync scenario waited for something")


def plain(value: Any) -> Any:
    """A result as values that can be compared: models dumped, exceptions as type, text and what they were caused by."""
    if isinstance(value, BaseException):
        names = ("status_code", "code", "body", "request_id")
        told = {
            name: plain(getattr(value, name))
            for name in names
            if not callable(getattr(value, name, None)) and hasattr(value, name)
        }
        cause = plain(value.__cause__) if value.__cause__ is not None else None
        return {"type": type(value), "text": DATE.sub("*", str(value)), "args": len(value.args), "cause": cause, **told}
    if hasattr(value, "model_dump"):
        return {"type": type(value).__qualname__, **plain(value.model_dump(mode="python", warnings=False))}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if str(key).lower() != "date"}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def sent(received: Received) -> dict[str, Any]:
    """A request as the server got it, without what is ours and what is random."""
    headers = {name: value for name, value in received.headers.items() if not OURS.match(name)}
    return {
        "request": (received.method, received.path, received.query, received.status),
        "headers": {name: BOUNDARY.sub(b"*", value.encode()) for name, value in headers.items()},
        "body": BOUNDARY.sub(b"*", received.body),
    }


@dataclass
class Seen:
    """What came of a watched scenario: its result, our records, and what the server got."""

    result: Any
    requests: list[Request]
    received: list[Received]

    @property
    def one(self) -> Request:
        """The only record."""
        assert len(self.requests) == 1, [(item.name, item.outcome) for item in self.requests]
        return self.requests[0]


@dataclass
class Bench:
    """Runs scenarios bare and watched and compares them."""

    server: Server
    way: str
    is_async: bool
    family: ModuleType

    def _run(self, act: Act, scripts: tuple[dict[str, Any], ...], obs: Any) -> tuple[Any, list[Received]]:
        self.server.reset()
        for script in scripts:
            self.server.script(**script)
        kit = Kit(f"http://127.0.0.1:{self.server.port}", self.way, self.is_async, self.family, obs)
        result = drive(kit.run(act), is_async=self.is_async)
        return result, list(self.server.log)

    def compare(self, act: Act, *scripts: dict[str, Any], fails: bool = False, **options: Any) -> Seen:
        """Run a scenario bare and watched; nothing may differ but our records.

        Args:
            act: The scenario.
            *scripts: Rules for the server, see :meth:`FakeProvider.script`.
            fails: Whether the scenario ends with an exception, which is its result then.
            **options: Options of the engine.
        """
        bare, bare_log = self._run(act, scripts, None)
        seen = self.watch(act, *scripts, fails=fails, **options)
        assert plain(seen.result) == plain(bare)
        assert all(record.caller is not None for record in seen.requests)
        assert [sent(item) for item in seen.received] == [sent(item) for item in bare_log]
        return seen

    def watch(self, act: Act, *scripts: dict[str, Any], fails: bool = False, **options: Any) -> Seen:
        """Run a scenario watched, without a comparison; the arguments are those of :meth:`compare`."""
        options = {"providers": self.server.providers, "instrument": "auto" if self.way == "auto" else "off"} | options
        with capture(**options) as captured:
            result, received = self._run(act, scripts, captured.obs)
            records = captured.requests
            assert not captured.obs.stats().failures
        if isinstance(result, BaseException) and not fails:
            raise result
        assert not [name for item in received for name in item.headers if OURS.match(name)]
        for record in records:
            assert record.caller is None or is_in(act, record.caller), record.caller
        return Seen(result, records, received)

    def gone(self, received: Received) -> bool:
        """Whether the server saw the client go, at last."""
        deadline = time.monotonic() + 40
        while not received.disconnected and time.monotonic() < deadline:
            time.sleep(0.005)
        return received.disconnected


def is_in(act: Act, caller: str) -> bool:
    """Whether a recorded caller is a line of the scenario."""
    place, _, function = caller.partition(" ")
    path, _, line = place.rpartition(":")
    code = act.__code__
    lines, first = inspect.getsourcelines(code)
    return (
        os.path.abspath(path) == code.co_filename
        and function.startswith(code.co_qualname)
        and first <= int(line) < first + len(lines)
    )


@pytest.fixture
def way() -> str:
    """How calls are watched, unless a test says it: any client, without a word."""
    return "auto"


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    """Whether the client is async."""
    return bool(request.param)


@pytest.fixture
def bench(request: pytest.FixtureRequest, servers: Callable[[ModuleType], Server], way: str, is_async: bool) -> Bench:
    """The bench for the SDK of this module."""
    family = importlib.import_module(FAMILIES.get(request.module.PROVIDER, "httpx2"))
    return Bench(servers(request.module), way, is_async, family)
