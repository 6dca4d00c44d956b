"""A process that makes calls and says which of them have returned, until it is killed or ends in the way it is told."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count

import httpx

from asgi_llmobs import LLMObs
from tests.calling import URL, answer, ask_sync, question

BUSY = 4_000
FILLER = "x" * 1_500


class Endless(httpx.SyncByteStream):
    """A model that goes on talking."""

    def __iter__(self) -> Iterator[bytes]:
        for number in count():
            delta = {"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": f"w{number} "}}]}
            yield b"data: " + json.dumps(delta).encode() + b"\n\n"
            time.sleep(0.02)


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def talk() -> None:
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Endless())
    )
    with httpx.Client(transport=transport) as client:
        with client.stream("POST", URL, json={**question("talk"), "stream": True}) as response:
            for number, _chunk in enumerate(response.iter_raw()):
                if number == 30:
                    say("streaming")


def ask_on(name: str, stop: int) -> None:
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        for number in range(stop):
            client.post(URL, json=question(f"{name}-{number}"))
            say(f"{name}-{number}")
            time.sleep(0.004 if stop > 1_000 else 0)  # the writer of the next start has to keep up


def load() -> None:
    """Four threads ask on and on, one listens to a stream; the parent kills us."""
    names = [f"{os.getpid()}.{number}" for number in range(4)]
    threads = [threading.Thread(target=ask_on, args=(name, 1_000_000)) for name in names]
    threads.append(threading.Thread(target=talk))
    for thread in threads:
        thread.daemon = True
        thread.start()
    time.sleep(60)


def busy() -> None:
    """One thread that never waits for anything: no other thread has the interpreter unless it takes it. Then killed."""
    compute(BUSY)
    os.kill(os.getpid(), signal.SIGKILL)


def compute(calls: int) -> None:
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        for number in range(calls):
            client.post(URL, json=question(f"{number} {FILLER}"))


def keep_up() -> None:
    """The same for longer, once the store is open; then the counters."""
    compute(1)
    engine.flush()
    sys.setswitchinterval(0.5)  # so long another thread waits for this one, where it makes no room itself
    compute(2 * BUSY)
    say(json.dumps({"stats": engine.stats()._asdict()}, default=dict))
    os._exit(0)


def leave() -> None:
    """No hook runs."""
    ask_on("a", 20)
    os._exit(3)


def fork() -> None:
    """Both ask, both leave without a word."""
    ask_on("before", 5)
    child = os.fork()
    ask_on("child" if child == 0 else "parent", 20)
    if child:
        os.waitpid(child, 0)
    os._exit(0)


def limited() -> None:
    """No file may grow any more: what the app does goes on."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    for number in range(50):
        assert ask_sync(f"{number}") == f"{number}"
    say(json.dumps({"stats": engine.stats()._asdict()}, default=dict))


def ask_and_tell() -> None:
    """Some calls, then the counters, then the end without a flush."""
    for number in range(300):
        assert ask_sync(f"{number} " + "x" * 5_000).startswith(f"{number}")
    say(json.dumps({"stats": engine.stats()._asdict()}, default=dict))
    os._exit(0)


engine = LLMObs(sys.argv[2] if "://" in sys.argv[2] else f"sqlite:///{sys.argv[2]}")
WAYS = {
    "load": load, "busy": busy, "keep-up": keep_up, "leave": leave, "fork": fork, "limited": limited,
    "tell": ask_and_tell,
}  # fmt: skip
WAYS[sys.argv[1]]()
