"""Plays the scenarios of one framework: bare, captured, set up as documented, and seen by everything at once.

A script of this folder calls :func:`play` in an interpreter that has its framework; what came of it is printed as JSON.
The fake provider, the watched app and its database are in the same process.
"""

import asyncio
import gc
import inspect
import json
import logging
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
from fastapi import FastAPI

from asgi_llmobs import LLMObs, LLMObsMiddleware, annotate, trace
from asgi_llmobs.testing import FakeProvider, Received, capture
from asgi_llmobs.testing.server import serve

Scenario = Callable[["Stage"], Any]
Instrument = Callable[[Any], None]
PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"
RANDOM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?:call|toolu)_\w+")
NOT_OURS = ("user-agent", "traceparent")  # OpenLLMetry adds the latter by itself
OF_NODES = (
    "id", "parent_id", "depth", "kind", "name", "outcome", "is_request", "orphan", "model", "operation",
    "input_tokens", "output_tokens", "cost_usd", "attempts", "session_id", "user_id", "properties", "error_message",
    "input_preview", "output_preview", "offset_ns", "duration_ns",
)  # fmt: skip
OF_SPANS = ("id", "parent_id", "kind", "name", "session_id", "user_id", "trace_id", "properties")

outside: list[str] = []  # addresses that are not this machine
logged: list[str] = []


def noted() -> dict[str, list[str]]:
    """What was noted since it was asked last."""
    found = {"outside": list(outside), "logged": list(logged)}
    outside.clear()
    logged.clear()
    return found


def keep_inside(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: whoever wants to connect elsewhere is noted and refused."""
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in (None, "127.0.0.1", "localhost", "::1"):
        outside.append(str(host))
        raise OSError(f"{host} is outside")


class Logged(logging.Handler):
    """Notes what anybody warns of."""

    def emit(self, record: logging.LogRecord) -> None:
        logged.append(f"{record.name}: {record.getMessage()}")


class Provider(FakeProvider):
    """One that closes its connections: clients that frameworks keep are used in one event loop after the other."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def closing(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await super().__call__(scope, receive, closing)


class Stage:
    """What a scenario gets: where the fake provider is, and what it is to do."""

    def __init__(self, fake: FakeProvider, url: str) -> None:
        self.fake = fake
        self.url = url
        self.openai = f"{url}/v1"

    def run(self, runner: asyncio.Runner, scenario: Scenario) -> Any:
        """Run one outside any app."""
        self.fake.reset()
        result = scenario(self)
        return runner.run(awaited(result), context=copy_context()) if inspect.isawaitable(result) else result

    def sent(self) -> list[str]:
        """The requests as the provider got them, without what is made anew each time."""
        return [plain(received) for received in self.fake.log]


async def awaited(value: Any) -> Any:
    return await value


def plain(received: Received) -> str:
    headers = {name: value for name, value in received.headers.items() if name not in NOT_OURS}
    told = [received.method, received.path, received.status, headers, received.body.decode()]
    return RANDOM.sub("*", json.dumps(told))


def documented(heading: str) -> str:
    """The set-up that the docs give below a heading, nothing where there is none."""
    part = PAGE.read_text("utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(r"^```python\n(.*?)^```$", part, re.M | re.S)
    return found.group(1) if found is not None else ""


class App:
    """A FastAPI app that runs scenarios, watched by an engine with a store of its own."""

    def __init__(self, stage: Stage, scenarios: Sequence[Scenario], settle: float) -> None:
        self.stage = stage
        self.settle = settle
        self.seen: set[str] = set()  # traces
        self.client = httpx.Client(verify=False, timeout=20)
        self.obs = LLMObs(f"sqlite:///{tempfile.mkdtemp()}/llmobs.db", providers=stage.fake.providers)
        self.app = FastAPI()
        for scenario in scenarios:
            self.app.get(f"/{scenario.__name__}")(self.endpoint(scenario))
        self.app.add_middleware(LLMObsMiddleware, obs=self.obs)

    def endpoint(self, scenario: Scenario) -> Any:
        async def endpoint() -> Any:
            annotate(session="s-1", user="ada", team="travel")
            if inspect.iscoroutinefunction(scenario):
                return {"result": await scenario(self.stage)}
            return {"result": await anyio.to_thread.run_sync(scenario, self.stage)}

        return endpoint

    def get(self, url: str) -> Any:
        """The JSON at an address; the text of what is no success."""
        answer = self.client.get(url)
        return answer.json() if answer.is_success else {"result": f"{answer.status_code} {answer.text}"}

    def play(self, base: str, scenario: Scenario) -> dict[str, Any]:
        """One scenario in the app: what it gave, what the provider got, what the admin shows."""
        self.stage.fake.reset()
        result = self.get(f"{base}/{scenario.__name__}")["result"]
        sent = self.stage.sent()
        time.sleep(self.settle)
        until = time.monotonic() + 40
        while self.obs.stats().open and time.monotonic() < until:  # of a stream that nobody ended
            gc.collect()
            time.sleep(0.02)
        self.obs.flush()
        rows = self.get(f"{base}/_llmobs/traces.json?limit=5")["rows"]
        new = [row["trace_id"] for row in rows if row["trace_id"] not in self.seen]
        self.seen.update(new)
        trees = [self.get(f"{base}/_llmobs/traces/{id}.json?limit=1000") for id in new]
        return {"result": result, "sent": sent, "traces": [told(tree) for tree in trees]}

    def play_all(self, scenarios: Sequence[Scenario]) -> dict[str, Any]:
        with serve(self.app) as base:
            return {scenario.__name__: self.play(base, scenario) for scenario in scenarios}


def told(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A trace as its page shows it."""
    return {"figures": tree["trace"], "nodes": [{name: node[name] for name in OF_NODES} for node in tree["nodes"]]}


def bare(stage: Stage, scenarios: Sequence[Scenario]) -> dict[str, Any]:
    out = {}
    with asyncio.Runner() as runner:
        for scenario in scenarios:
            result = stage.run(runner, scenario)
            out[scenario.__name__] = {"result": result, "sent": stage.sent()}
    return out


def in_script(stage: Stage, scenarios: Sequence[Scenario], settle: float) -> dict[str, Any]:
    """Outside any app, each scenario inside a ``trace``."""
    out = {}
    with asyncio.Runner() as runner:
        for scenario in scenarios:
            with capture(providers=stage.fake.providers) as found:
                with trace("job", session="s-2", user="bob", team="travel"):
                    result = stage.run(runner, scenario)
                runner.run(asyncio.sleep(settle))
                out[scenario.__name__] = {
                    "result": result,
                    "sent": stage.sent(),
                    "spans": [{name: getattr(span, name) for name in OF_SPANS} for span in found.spans],
                    "requests": [record.id for record in found.requests],
                }
    return out


def play(
    heading: str,
    scenarios: Sequence[Scenario],
    instruments: Sequence[Instrument],
    *,
    before: Callable[[str], None] = lambda way: None,
    broken: Sequence[Scenario] = (),
    settle: float = 0.0,
) -> None:
    """Play *scenarios* and print what came of them.

    Args:
        heading: In the docs, where the one line of set-up is.
        scenarios: In which order.
        instruments: What else can see the calls: each is given a tracer provider.
        before: Is called with the name of each way of watching before it begins.
        broken: What *instruments* break by themselves, without us.
        settle: Seconds that callbacks of the framework lag behind.
    """
    sys.addaudithook(keep_inside)
    logging.getLogger().addHandler(Logged(logging.WARNING))
    warnings.simplefilter("ignore")
    fake = Provider()
    with fake.serve() as url:
        stage = Stage(fake, url)
        os.environ |= {"OPENAI_BASE_URL": stage.openai, "OPENAI_API_BASE": stage.openai, "ANTHROPIC_BASE_URL": url}
        before("bare")
        out: dict[str, Any] = {"bare": bare(stage, scenarios)}
        before("captured")
        app = App(stage, scenarios, settle)
        out["captured"], out["captured_noted"] = app.play_all(scenarios), noted()
        before("documented")
        exec(compile(documented(heading), PAGE.name, "exec"), {"obs": app.obs})
        out["documented"] = app.play_all(scenarios)
        out["script"], out["documented_noted"] = in_script(stage, scenarios, settle), noted()
        before("everything")
        for instrument in instruments:
            instrument(app.obs.tracer_provider)
        out["everything"] = app.play_all([scenario for scenario in scenarios if scenario not in broken])
        out["failures"] = app.obs.stats().failures
        app.obs.close()
    from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider

    out["global_provider"] = not isinstance(get_tracer_provider(), ProxyTracerProvider)
    print(json.dumps(out, default=str))


def openinference_openai(provider: Any) -> None:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=provider)


def openllmetry_openai(provider: Any) -> None:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=provider)


def genai_openai(provider: Any) -> None:
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=provider)


SDK = (openinference_openai, openllmetry_openai, genai_openai)
