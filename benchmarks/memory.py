"""How much memory an app takes while the database is down: with us, and without.

    python -m benchmarks.memory [--only small large …] [--limit] [--store URL]

Each case is a process of its own whose store is a PostgreSQL server that is not there. It makes some calls first, which
load all that is ever loaded, and then all of them. `ours grew` is by how much its memory was larger at the most from
then on, the mapped pages of the spool's files among it, `bare grew` the same of a process without us; the difference is
to be within ``buffer_bytes`` (32 MiB) and a tenth. `kept` are the calls that wait, `bodies gone` those of them without
their bodies, `gone` what was given up. With ``--limit`` each runs in a cgroup (v1, as root) that has what it needed
after the first calls, what a bare one grew by, and what it may take besides: beyond, it would be killed.
"""

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from asgi_llmobs import LLMObs
from tests.processes import ROOT, free_port

URL = "https://api.openai.com/v1/chat/completions"
BUDGET = 32 * 1024 * 1024
ALLOWED = 1.1 * BUDGET
GROUPS = Path("/sys/fs/cgroup/memory")
CHUNK = json.dumps({"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "some words "}}]}).encode()


class Case(NamedTuple):
    """Calls that are made."""

    calls: int
    request: int  # bytes
    answer: int
    chunks: int  # of the answer; 0: it comes whole
    at_once: int = 8


CASES = {
    "small": Case(30_000, 300, 500, 0),
    "medium": Case(10_000, 4_000, 4_000, 0),
    "large": Case(10_000, 200_000, 1_000, 0),
    "long answers": Case(2_000, 1_000, 200_000, 0),
    "streams": Case(1_000, 1_000, 0, 200),
    "64 at once": Case(1_000, 200_000, 0, 200, 64),
}


class Provider(httpx.AsyncBaseTransport):
    """A model behind no network."""

    def __init__(self, case: Case) -> None:
        self.case = case
        said = {"role": "assistant", "content": "x" * case.answer}
        usage = {"prompt_tokens": 20, "completion_tokens": 130, "total_tokens": 150}
        found = {"model": "gpt-4o", "choices": [{"index": 0, "message": said, "finish_reason": "stop"}], "usage": usage}
        self.answer = json.dumps(found).encode()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        if not self.case.chunks:
            return httpx.Response(200, headers={"content-type": "application/json"}, stream=Pieces([self.answer]))
        pieces = [b"data: " + CHUNK + b"\n\n"] * self.case.chunks
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces(pieces))


class Pieces(httpx.AsyncByteStream):
    """An answer as it comes."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await asyncio.sleep(0)
            yield bytes(bytearray(piece))  # as from a socket: another object each time


async def ask(client: httpx.AsyncClient, case: Case, calls: int) -> int:
    """So many calls; the largest memory meanwhile."""
    most = left = 0
    left = calls

    async def work() -> None:
        nonlocal most, left
        while left > 0:
            left -= 1
            words = "y" * case.request + str(left)
            body = {"model": "gpt-4o", "stream": bool(case.chunks), "messages": [{"role": "user", "content": words}]}
            async with client.stream("POST", URL, json=body) as response:
                async for _ in response.aiter_raw():
                    pass
            if left % 50 == 0:
                most = max(most, resident())

    await asyncio.gather(*(work() for _ in range(case.at_once)))
    return max(most, resident())


def resident() -> int:
    """Bytes of this process in memory, mapped files among them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def child(name: str, url: str, share: float) -> None:
    """Measure in this process, and print it."""
    case = CASES[name]
    engine = LLMObs(url, buffer_bytes=BUDGET) if url else None
    client = httpx.AsyncClient(transport=Provider(case))

    async def run() -> tuple[int, int]:
        await ask(client, case, 100)
        while engine is not None and engine.stats().last_error is None:  # until the writer has loaded all of its own
            await asyncio.sleep(0.05)
        gc.collect()
        warm = resident()
        confine(warm)
        return warm, await ask(client, case, int(case.calls * share))

    warm, most = asyncio.run(run())
    told: dict[str, Any] = {"warm": warm, "grew": most - warm}
    if engine is not None:
        stats = engine.stats()
        told.update(stats._asdict())
        told["balanced"] = stats.captured == stats.stored + stats.spooled + sum(stats.dropped.values())
    print(json.dumps(told, default=dict), flush=True)
    os._exit(0)


def confine(warm: int) -> None:
    """From here on this process gets little more than it has, *warm* bytes, where it stands in a group of its own."""
    group = os.environ.get("MEMORY_GROUP")
    if group:
        Path(group, "memory.limit_in_bytes").write_text(str(warm + int(os.environ["MEMORY_MORE"])))


def measured(name: str, url: str, extra: int, share: float) -> dict[str, Any]:
    """What a process told, or how it died."""
    group = GROUPS / f"llmobs-{os.getpid()}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    limit = extra > 0
    if limit:
        group.mkdir()
        environment.update(MEMORY_GROUP=str(group), MEMORY_MORE=str(extra + int(ALLOWED)))
    try:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.memory", "--child", name, "--store", url]
            command += ["--calls", str(share)]
            enter = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"] if limit else []
            done = subprocess.run(
                [*enter, *command], env={**environment, "LLMOBS_DATA_DIR": folder}, cwd=ROOT, capture_output=True,
                text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            return {"died": done.returncode, "said": done.stderr[-500:]}
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    finally:
        if limit:
            with suppress(OSError):
                group.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--limit", action="store_true")
    parser.add_argument("--calls", type=float, default=1.0, help="how many of the calls, as a share")
    parser.add_argument("--store", default=f"postgresql://nobody@127.0.0.1:{free_port()}/away")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.store, options.calls)
    names = ("bare grew", "ours grew", "allowed", "kept", "bodies gone", "gone")
    print(f"{'MB':<14}{'calls':>8}" + "".join(f"{name:>13}" for name in names))
    for name in options.only:
        calls = int(CASES[name].calls * options.calls)
        bare = measured(name, "", 0, options.calls)
        ours = measured(name, options.store, bare.get("grew", 0) if options.limit else 0, options.calls)
        if "died" in ours or "died" in bare:
            print(f"{name:<14}{calls:>8} died: {ours.get('died')} {ours.get('said', bare.get('said'))}")
            continue
        sizes = (bare["grew"] / 1e6, ours["grew"] / 1e6, (bare["grew"] + ALLOWED) / 1e6)
        counts = (ours["spooled"], ours["bodies_dropped"], sum(ours["dropped"].values()))
        print(
            f"{name:<14}{calls:>8}" + "".join(f"{value:>13.1f}" for value in sizes)
            + "".join(f"{value:>13}" for value in counts) + ("" if ours["balanced"] else "  does not add up"),
            flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
