"""Run by the tests of long faults in a process of its own: an app under load for a while. Prints what became.

    python -m tests.crash.minute_script OPTIONS

OPTIONS is JSON: ``url``, ``folder``, ``seconds``, ``pause`` between two calls in seconds, ``options`` of the engine,
``size`` of a question in bytes. Without ``url`` the app runs by itself. It prints ``ready`` and ``over`` before and
after the load, and waits for a line of input each time.
"""

import asyncio
import gc
import json
import resource
import sys
import time
from contextlib import suppress
from typing import Any

import httpx

from asgi_llmobs import LLMObs
from asgi_llmobs.auth import allow
from tests.crash.hosting import MODEL, Provider, Steps, app, ask, steps

PATHS = ("/stream", "/plain", "/failing")


class Told:
    """What is seen during the load."""

    def __init__(self) -> None:
        self.seconds: list[float] = []  # of each answer
        self.stalls: list[float] = []  # how late the loop was
        self.pages: list[tuple[int, float]] = []  # the admin's answers
        self.failed = 0
        self.over = False


async def ticking(told: Told) -> None:
    """How long the event loop does not come round."""
    while not told.over:
        started = time.perf_counter()
        await asyncio.sleep(0.005)
        told.stalls.append(time.perf_counter() - started - 0.005)


async def reading(told: Told, admin: Any) -> None:
    """The admin's list, every other second."""
    transport = httpx.ASGITransport(app=admin)
    async with httpx.AsyncClient(transport=transport, base_url="http://admin.example", timeout=30) as client:
        while not told.over:
            started = time.perf_counter()
            status = (await client.get("/requests")).status_code
            told.pages.append((status, time.perf_counter() - started))
            await asyncio.sleep(2)


async def first(watched: Any, admin: Any) -> None:
    """What is imported and made once is not to be measured."""
    for path in PATHS:
        await ask(watched, path)
    if admin is not None:
        transport = httpx.ASGITransport(app=admin)
        async with httpx.AsyncClient(transport=transport, base_url="http://admin.example") as client:
            assert (await client.get("/requests")).status_code == 200


async def load(watched: Any, admin: Any, given: dict[str, Any]) -> Told:
    """One question after the other until the time is over."""
    told = Told()
    expected = {path: (await ask(app(None), path))[:2] for path in PATHS}
    sized = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * given.get("size", 0)}]}
    others = [asyncio.create_task(ticking(told))]
    if admin is not None:
        others.append(asyncio.create_task(reading(told, admin)))
    until = time.monotonic() + given["seconds"]
    steps.set(Steps(0))
    async with httpx.AsyncClient(transport=Provider()) as client:
        number = 0
        while time.monotonic() < until:
            path = PATHS[number % len(PATHS)]
            number += 1
            started = time.perf_counter()
            got = await ask(watched, path)
            told.seconds.append(time.perf_counter() - started)
            told.failed += got[:2] != expected[path]
            if "size" in given:
                await client.post(MODEL, json=sized)
            await asyncio.sleep(given["pause"])
    told.over = True
    for task in others:
        with suppress(asyncio.CancelledError):
            await task
    return told


def at(values: list[float], share: float) -> float:
    """A percentile."""
    return sorted(values)[int(share * (len(values) - 1))] if values else 0.0


def counted(stats: Any) -> dict[str, Any]:
    return {
        "captured": stats.captured, "stored": stats.stored, "spooled": stats.spooled, "dropped": dict(stats.dropped),
        "bodies_dropped": stats.bodies_dropped, "failures": dict(stats.failures), "last_error": stats.last_error,
    }  # fmt: skip


def line() -> None:
    sys.stdin.readline()


def main(given: dict[str, Any]) -> None:
    obs = None
    if "url" in given:
        obs = LLMObs(given["url"], data_dir=given["folder"], **given.get("options", {}))
    watched = app(obs)
    admin = obs.admin(auth=allow(lambda request: True)) if obs is not None else None
    asyncio.run(first(watched, admin))
    print("ready", flush=True)
    line()
    paused: list[float] = []
    gc.callbacks.append(lambda phase, _: paused.append(time.perf_counter() * (1 if phase == "stop" else -1)))
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = asyncio.run(load(watched, admin, given))
    found: dict[str, Any] = {
        "failed": told.failed, "calls": len(told.seconds), "p50": at(told.seconds, 0.5), "p99": at(told.seconds, 0.99),
        "slowest": max(told.seconds), "stall_p999": at(told.stalls, 0.999), "stall": max(told.stalls),
        "pages": [status for status, _ in told.pages], "page": max((took for _, took in told.pages), default=0.0),
    }  # fmt: skip
    found["gc"] = max((paused[at] + paused[at + 1] for at in range(0, len(paused) - 1, 2)), default=0)
    if obs is not None:
        found["during"] = counted(obs.stats())
        print("over", flush=True)
        line()
        found["flushed"] = obs.flush(120)
        found.update(counted(obs.stats()), events=[event.kind for event in obs.database.events])
        obs.close()
    found["grown_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began
    print(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
