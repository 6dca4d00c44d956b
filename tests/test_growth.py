"""What a process keeps of calls that are stored and of pages that were shown: nothing that grows with their number."""

import asyncio
import functools
import gc
import sys
from collections import Counter, deque
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_llmobs import LLMObs, LLMObsMiddleware
from tests.calling import URL, answer, question

PAGES = ("", "requests", "traces", "sessions", "users", "properties", "models", "endpoints", "status", "requests.json")
CALLS = 30
ENOUGH = 10  # to be less than the pages or the calls of a round: how many connections are open may change
TOKEN = "growth"
ALLOWED = {"authorization": f"Bearer {TOKEN}"}


def of_ours(kind: type[Any]) -> bool:
    module = kind.__dict__.get("__module__")
    return isinstance(module, str) and module.startswith("asgi_llmobs")


def kept() -> Counter[str]:
    """How many objects there are of each of our classes, and how many things all that is of one class, or a module
    of ours, holds in lists, mappings, sets and caches without a limit."""
    gc.collect()
    found: Counter[str] = Counter()
    for thing in gc.get_objects():
        if of_ours(type(thing)):
            name = type(thing).__qualname__
            found[name] += 1
            found[f"in {name}"] += sum(map(held, gc.get_referents(thing)))
    for name, module in list(sys.modules.items()):
        if name.startswith("asgi_llmobs"):
            found[f"in {name}"] += sum(map(held, list(vars(module).values())))
    return found


def held(thing: Any) -> int:
    """How many things it holds, a mapping what its values hold too: it may be that of the attributes."""
    if isinstance(thing, functools._lru_cache_wrapper):
        return thing.cache_info().currsize if thing.cache_info().maxsize is None else 0
    if isinstance(thing, deque):
        return len(thing) if thing.maxlen is None else 0
    if isinstance(thing, dict):
        return len(thing) + sum(len(value) for value in list(thing.values()) if isinstance(value, list | dict | set))
    # a place where something was holds nothing: the spool lets go of them by the hundred
    return sum(one is not None for one in list(thing)) if isinstance(thing, list | set) else 0


async def visited(app: Any, obs: LLMObs, number: int) -> None:
    """Calls with names that never come again, then every list, searched for one of them too."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app", headers=ALLOWED) as visitor:
        for call in range(CALLS):
            assert (await visitor.get("/ask", params={"id": f"{number}-{call}"})).status_code == 200
        assert await obs.aflush()
        for page in (*PAGES, f"requests?q={number}-0", f"users/{number}-0", f"sessions/{number}-0"):
            assert (await visitor.get(f"/_llmobs/{page}")).status_code == 200, page


@pytest.mark.slow
def test_nothing_grows(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After as many calls and pages again there are as many objects of ours as before, and they hold as much."""
    monkeypatch.setenv("LLMOBS_ADMIN_TOKEN", TOKEN)
    obs = LLMObs(database_url)
    client = obs.wrap(httpx.AsyncClient(transport=httpx.MockTransport(answer)))

    async def ask(request: Request) -> PlainTextResponse:
        id = request.query_params["id"]
        said = {"LLMObs-Session-Id": id, "LLMObs-User-Id": id, "LLMObs-Property-Call": id}
        told = await client.post(URL, json=question(id), headers=said)
        return PlainTextResponse(told.json()["choices"][0]["message"]["content"])

    app = Starlette(routes=[Route("/ask", ask)])
    app.add_middleware(LLMObsMiddleware, obs=obs)

    async def rounds() -> list[Counter[str]]:
        seen = []
        for number in range(3):
            await visited(app, obs, number)
            seen.append(kept())
        await client.aclose()
        return seen

    seen = asyncio.run(rounds())
    obs.close()
    assert seen[2]["LLMObs"] and seen[2]["in asgi_llmobs.store.sums"]  # it does look
    assert {name: more for name, more in (seen[2] - seen[1]).items() if more >= ENOUGH} == {}
