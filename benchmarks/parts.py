"""What the parts of a call cost: each on a thread that has the interpreter to itself.

    python -m benchmarks.parts [--calls 100] [--rounds 15]

Real calls through httpx are kept as they were captured, and worked on again and again: noted in a file when they begin
and end, looked through for credentials, read, priced and redacted, stored. The least of all rounds is printed.
"""

import argparse
import gc
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from asgi_llmobs import LLMObs, pace
from asgi_llmobs.config import Config
from asgi_llmobs.context import new_span_id, new_trace_id
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.pricing import Pricer
from asgi_llmobs.records import Exchange
from asgi_llmobs.spool.durable import DurableSpool
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink

URL = "https://api.openai.com/v1/chat/completions"
TEXT = "The train to Porto leaves at nine, and the sea is a short walk from the station. "
PARTS = {
    "begin": "its record in a file when it begins",
    "end": "when it ends, looked through for credentials",
    "read": "reading, pricing, what must not be stored",
    "store": "rows, compression, full-text index, totals, commit",
}
Calls = Callable[[httpx.Client, int], None]


class Chunks(httpx.SyncByteStream):
    """An answer in 200 pieces."""

    def __iter__(self) -> Iterator[bytes]:
        for number in range(200):
            yield event({"delta": {"content": f"word{number} "}, "finish_reason": None})
        yield event({"delta": {}, "finish_reason": "stop"}, usage={"prompt_tokens": 20, "completion_tokens": 200})
        yield b"data: [DONE]\n\n"


def event(choice: dict[str, Any], **more: Any) -> bytes:
    said = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06"}
    return b"data: " + json.dumps({**said, "choices": [{"index": 0, **choice}], **more}).encode() + b"\n\n"


def answer(request: httpx.Request) -> httpx.Response:
    """A chat model: streamed where that is asked for."""
    if b'"stream": true' in request.content or b'"stream":true' in request.content:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Chunks())
    message = {"role": "assistant", "content": TEXT * 8}
    usage = {"prompt_tokens": 20, "completion_tokens": 130, "total_tokens": 150}
    said = {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-2024-08-06", "usage": usage}
    return httpx.Response(200, json={**said, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def body(number: int, text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": f"{number}. {text}"}], **more}


def chat(client: httpx.Client, number: int) -> None:
    client.post(URL, json=body(number, TEXT * 4))


def stream(client: httpx.Client, number: int) -> None:
    with client.stream("POST", URL, json=body(number, TEXT * 4, stream=True)) as response:
        for _ in response.iter_raw():
            pass


def large(client: httpx.Client, number: int) -> None:
    client.post(URL, json=body(number, TEXT * 1_250))


WORK: dict[str, Calls] = {"a chat call": chat, "a stream of 200 chunks": stream, "a call with 100 KB": large}


def captured(call: Calls, count: int, folder: str) -> list[Exchange]:
    """Calls as they come from the app's side."""
    obs = LLMObs(f"sqlite:///{folder}/unused.db", data_dir=folder, spool_bytes=0)
    kept: list[Any] = []
    obs.spool.put = kept.append  # type: ignore[method-assign]
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        obs.wrap(client)
        for number in range(count):
            call(client, number)
    return [entry for entry in kept if isinstance(entry, Exchange)]


def measured(made: Sequence[Exchange], rounds: int, folder: str) -> dict[str, float]:
    """Microseconds of CPU a call by part, the least of all *rounds*."""
    pipeline, sink = Pipeline(Config.make(), Pricer()), Sink(Database(f"sqlite:///{folder}/llmobs.db"))
    spool = DurableSpool(f"{folder}/spool", 64 << 20, 256 << 20)
    took: dict[str, list[float]] = defaultdict(list)

    def clocked(part: str, work: Callable[[], Any]) -> Any:
        begin = time.thread_time_ns()
        done = work()
        took[part].append((time.thread_time_ns() - begin) / 1_000 / len(made))
        return done

    for _ in range(rounds):
        for entry in made:
            entry.id, entry.trace_id, entry.suspect = new_span_id(), new_trace_id(), None
        gc.collect()
        clocked("begin", lambda: [spool.begin(entry) for entry in made])
        clocked("end", lambda: [spool.put(entry) for entry in made])
        spool.look_after()
        while not spool.empty():
            spool.done(len(spool.take(500)), {})
        spool.look_after()
        records = clocked("read", lambda: [pipeline.process(entry) for entry in made])
        clocked("store", lambda: sink.write(records))  # noqa: B023 - run at once
    spool.close()
    sink.database.dispose()
    return {part: min(each) for part, each in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    pace.SLICE_NS = 10**15  # no other thread wants the interpreter
    found = {}
    for name, call in WORK.items():
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "data").mkdir()
            found[name] = measured(captured(call, options.calls, f"{folder}/data"), options.rounds, folder)
    print(f"{'us of CPU':<52}" + "".join(f"{name:>24}" for name in WORK))
    for part, words in PARTS.items():
        print(f"{words:<52}" + "".join(f"{found[name][part]:>24.0f}" for name in WORK))


if __name__ == "__main__":
    main()
